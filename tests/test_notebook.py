"""The notebook tells whether a date agrees, shows what it holds, and cannot be led astray by what it is given."""

import json
import re
import subprocess

import pytest
import shop as sample
from conftest import CANARY, ROOT, Project, databases

FIRST, SECOND = "2024-01-19", "2024-01-20"
NOTEBOOK = ROOT / "notebook/query_data.ipynb"


class Notebooks(Project):
    """A project that has the notebook too, and the make that runs it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        names = ("Makefile", "requirements.txt", ".boot", "demo", "load", "notebook")
        for name in names:
            if (ROOT / name).exists():
                (self.folder / name).symlink_to(ROOT / name)

    def sell(self, day):
        """Write the sample shop of its day 0, 1, … into the source."""
        shop = sample.build(day=day)
        connection = self.source.connect()
        sample.write_database(connection, shop)
        connection.close()
        sample.write_csv(self.folder / "extract/order_details.csv", shop)

    def make(self, *arguments, **variables):
        return self._run(["make", "-s", "notebook", *arguments], False, variables)

    def papermill(self, **parameters):
        given = [part for name, value in parameters.items() for part in ("-p", name, value)]
        command = ["notebook/.venv/bin/papermill", "notebook/query_data.ipynb", "executed.ipynb", *given]
        return self._run(command, False, {})

    def page(self, day):
        return (self.output / f"notebook/query_data@{day}.html").read_text()

    def shown(self, day):
        """Outputs by the cell's id: texts, and PNG where it is a picture."""
        return outputs(self.output / f"notebook/query_data@{day}.ipynb")


def outputs(path):
    """Data of all outputs of a notebook, by cell."""
    return {cell["id"]: [output.get("data", output) for output in cell["outputs"]]
            for cell in json.loads(path.read_text())["cells"] if cell.get("outputs")}


def text(data):
    return "".join(data.get("text/markdown") or data.get("text/html") or data["text/plain"])


@pytest.fixture(scope="module")
def sold(server, tmp_path_factory):
    """Two days of the sample shop, landed and loaded."""
    with databases(server) as make:
        project = Notebooks(tmp_path_factory.mktemp("sold"), make("source"), make("warehouse"))
        for number, day in enumerate((FIRST, SECOND)):
            project.sell(number)
            project.land(day)
            project.load(day)
        yield project


@pytest.fixture
def any_project(tmp_path, make_database):
    """A project whose data are no shop."""
    project = Notebooks(tmp_path, make_database("source"), make_database("warehouse"))
    project.source.run("CREATE TABLE readings (sensor text, \"at & <b>\" timestamptz, value real);"
                       "INSERT INTO readings VALUES ('a', '2024-01-20', 1.5), ('<script>', NULL, NULL)")
    return project


def test_a_good_date_exits_0_with_all_that_it_holds_and_the_notebook_stays_as_it_is(sold):
    before = NOTEBOOK.read_bytes()
    result = sold.make()  # without DATE: the newest
    assert result.returncode == 0, result.text
    shown = sold.shown(SECOND)
    assert text(shown["reconciliation"][0]).count(">yes<") == 14
    assert all("image/png" in shown[cell][0] for cell in ("heat-map", "changes", "months", "customers"))
    assert "14 tables" in text(shown["verdict"][0])
    page = sold.page(SECOND)
    assert page.count("<img") == 4
    assert not re.search(r"(src|href)=.?https?:", page), "the page needs no network"
    assert CANARY not in page + result.text
    for path in sold.output.glob("notebook/*"):
        assert CANARY.encode() not in path.read_bytes(), path
        assert not path.stat().st_mode & 0o007, "it has rows in it"
    assert NOTEBOOK.read_bytes() == before


def test_a_date_is_shown_as_it_was_and_not_as_the_newest_is(sold):
    result = sold.make(f"DATE={FIRST}")
    assert result.returncode == 0, result.text
    shown = sold.shown(FIRST)
    assert f"No date before {FIRST} is loaded" in text(shown["changes"][0])
    lines = (sold.output / f"notebook/orders_with_details@{FIRST}.csv").read_text().splitlines()
    expected = sold.warehouse.one(
        "SELECT count(*) FROM public_history.orders JOIN public_history.order_details USING (extracted_at, order_id) "
        "WHERE extracted_at = %s", FIRST)
    newest = sold.warehouse.one("SELECT count(*) FROM orders JOIN order_details USING (order_id)")
    assert len(lines) - 1 == expected != newest
    assert len(lines[0].split(",")) == 18


def test_a_row_changed_by_hand_fails_and_its_table_is_named_here_and_on_the_page(sold):
    changed = "UPDATE public_history.orders SET freight = freight {} 1 WHERE extracted_at = %s AND order_id = %s"
    order = sold.warehouse.one("SELECT min(order_id) FROM orders")
    sold.warehouse.run(changed.format("+"), SECOND, order)
    try:
        result = sold.make(f"DATE={SECOND}")
        page = sold.page(SECOND)
    finally:
        sold.load(SECOND, RELOAD="true")
    assert result.returncode != 0
    assert "postgres.orders (the warehouse's rows are not those of the files)" in result.text
    assert "RELOAD=true" in result.text
    assert "Traceback" not in result.text
    assert len(result.text.splitlines()) < 15
    assert "postgres.orders" in page
    assert page.count("<img") == 4, "what it found is shown all the same"


def test_a_landed_byte_changed_fails_and_its_table_is_named(sold):
    file, = (sold.output / f"source=csv/extracted_at={SECOND}").glob("table=*/*.csv")
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    try:
        result = sold.make(f"DATE={SECOND}")
    finally:
        file.write_bytes(content)
    assert result.returncode != 0
    assert f"csv.order_details (the files are not what was landed: {file})" in result.text


def test_a_date_that_is_not_loaded_fails_with_the_commands_that_bring_it(sold):
    result = sold.make("DATE=2024-01-25")
    assert result.returncode != 0
    assert "2024-01-25 is not loaded into public (loaded: 2 dates, 2024-01-19 to 2024-01-20)" in result.text
    assert "EXTRACTED_AT=2024-01-25 meltano run load_to_postgres" in result.text
    assert "SOURCE=csv DATESTAMP=2024-01-25 meltano run extract_csv" in result.text


@pytest.mark.parametrize("given", ["2024-02-30", "", "$(shell touch pwned)", "2024-01-20; touch pwned"])
def test_what_is_no_date_is_refused_before_anything_runs(sold, given):
    written = sorted(sold.output.glob("notebook/*"))
    for result in (sold.make(f"DATE={given}"), sold.make(DATE=given)):
        assert result.returncode != 0
        assert f"{given!r} is not a date" in result.text
    assert sorted(sold.output.glob("notebook/*")) == written
    assert not (sold.folder / "pwned").exists()


def test_a_misspelt_parameter_fails(sold):
    result = sold.papermill(extracted_att=SECOND)
    assert result.returncode != 0
    assert "Unknown parameter: extracted_att. Parameters of this notebook: extracted_at, schema" in result.text


def test_a_database_that_is_no_shop_is_shown_without_the_shops_questions(any_project):
    any_project.land(SECOND)
    any_project.load(SECOND, SCHEMA="a/b")
    result = any_project.make(SCHEMA="a/b")
    assert result.returncode == 0, result.text
    written, = any_project.output.glob("notebook/*.ipynb")
    shown = outputs(written)
    for cell in ("orders-with-details", "months", "customers"):
        assert 'Skipped, because this warehouse does not contain the sample shop: relation "' in text(shown[cell][0])
    assert text(shown["reconciliation"][0]).count(">yes<") == 2
    assert not list(any_project.output.glob("notebook/*.csv"))
    assert not list(any_project.output.glob("notebook/*.part"))


def test_values_of_the_data_are_text_on_the_page(any_project):
    script = ("import sys; sys.path.insert(0, 'notebook'); import charts, pandas as pd\n"
              "print(charts.table(pd.DataFrame({'<b>': ['<script>', None], 'n': [1, 2]})).data)")
    result = any_project._run(["notebook/.venv/bin/python", "-c", script], True, {})
    assert "&lt;script&gt;" in result.stdout
    assert "<script>" not in result.stdout
    assert "<b>" not in result.stdout


def test_the_heat_map_is_drawn_of_one_date_and_of_sixty(any_project):
    script = (
        "import sys; sys.path.insert(0, 'notebook'); import charts, io, pandas as pd\n"
        "from datetime import date, timedelta\n"
        "from PIL import Image\n"
        "days = [date(2024, 1, 1) + timedelta(k) for k in range(60)]\n"
        "for some in (days[:1], days):\n"
        "    rows = [(f't{i}', day, 10 ** (i % 6) * (i > 0)) for i in range(14) for day in some]\n"
        "    loads = pd.DataFrame(rows, columns=['table_name', 'extracted_at', 'rows'])\n"
        "    image = Image.open(io.BytesIO(charts.heat_map(loads, some[0]).data))\n"
        "    print(*image.size, len(set(image.convert('RGB').getdata())))\n"
    )
    result = any_project._run(["notebook/.venv/bin/python", "-c", script], True, {})
    for line in result.stdout.splitlines():
        width, height, colours = map(int, line.split())
        assert width > 1000
        assert 500 < height < 1500
        assert colours > 6
    assert len(result.stdout.splitlines()) == 2


def test_the_committed_notebook_shows_its_sample_and_nothing_of_a_machine():
    content = NOTEBOOK.read_text()
    cells = json.loads(content)["cells"]
    parameters, = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    assert "".join(parameters["source"]).startswith("extracted_at = None")
    assert not [cell for cell in cells if "injected-parameters" in cell["metadata"].get("tags", ())]
    shown = outputs(NOTEBOOK)
    expected = {"reconciliation", "orders-with-details", "heat-map", "changes", "months", "customers", "verdict"}
    assert expected <= set(shown)
    assert all("error" not in data.get("output_type", "") for given in shown.values() for data in given)
    assert len(content) < 250_000
    page = (ROOT / "docs/query_data.html").read_text()
    assert len(page) < 500_000
    for written in (content, page):
        readable = re.sub(r"[A-Za-z0-9+/=]{200,}", "", written)  # without the pictures
        assert not re.search(r"/(home|root|tmp|work|Users)/|password|127\.0\.0\.1|T\d\d:\d\d:\d\d", readable)


def test_tables_in_a_schema_of_their_own_are_shown_like_all_others(sold):
    apart = {"TARGET_POSTGRES_TABLE_NAMES": '{"csv": "files.{table}"}'}
    assert "files.order_details" in sold.landing("move", "--yes", **apart).stdout
    try:
        result = sold.make(f"DATE={FIRST}")
        assert result.returncode == 0, result.text
        shown = sold.shown(FIRST)
        assert text(shown["reconciliation"][0]).count(">yes<") == 14
        assert "files.order_details" in text(shown["reconciliation"][0])
        assert "image/png" in shown["months"][0]
        assert len((sold.output / f"notebook/orders_with_details@{FIRST}.csv").read_text().splitlines()) > 1
    finally:
        sold.landing("move", "--yes", TARGET_POSTGRES_TABLE_NAMES="{}")


ASKED = """
import os
from landing.api import LandingError
from warehouse import Day
day = Day()
os.environ["WITHOUT_SOURCES"] = "nosuch"
try:
    print(day.verify())
except LandingError as error:
    print(f"LandingError: {error}")
"""


def test_a_verification_that_cannot_be_made_is_an_error_that_says_why_and_no_table(sold):
    done = subprocess.run([ROOT / "notebook/.venv/bin/python", "-c", ASKED], capture_output=True, text=True,
                          timeout=120, cwd=ROOT / "notebook",
                          env=sold.environment(MELTANO_PROJECT_ROOT=str(sold.folder)))
    assert done.stdout.startswith(f"LandingError: WITHOUT_SOURCES names nosuch, which {SECOND} does not have"), done
