"""The dashboard of a project's marts: a page of one date that shows what its queries give, and needs nothing else."""

import os
import re
import subprocess
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from charts import Table, bars, columns
from conftest import BIN, PASSWORD, ROOT
from rendering import Chart, Dashboard, page, picture

DAY = "2024-01-20"
NAMES = Table(["name", "orders"], [["<b>&\"'", 3], [None, Decimal("1.5")], ["none yet", None]])
MONTHS = Table(["month", "a", "b"], [[date(2024, month, 1), month, 12 - month] for month in range(1, 13)])
EMPTY = Table(["name", "orders"], [])
ODD = Table(["name", "orders"], [["a", Decimal("NaN")], ["b", Decimal("Infinity")], ["c", float("-inf")], ["d", 2]])
DECLARED = """title: A & B
about: One <mart>.
figures: SELECT count(*) AS "rows", sum(orders) AS "orders" FROM by_name
charts:
- {title: Orders, kind: bars, query: "SELECT name, orders FROM by_name ORDER BY name"}
"""


def board(*data):
    charts = [Chart(f"chart {number}", "bars" if one is NAMES else "columns", "SELECT '<x>'", one)
              for number, one in enumerate(data)]
    figures = [("orders", 1234), ("price", Decimal("0.5")), ("none", None)]
    return Dashboard("A & <B>", "about", DAY, "marts", figures, charts)


def parsed(svg):
    return ElementTree.fromstring(svg)  # noqa: S314


def texts(svg):
    return [element.text for element in parsed(svg).iter() if element.text]


@pytest.mark.parametrize("draw", [bars, columns])
@pytest.mark.parametrize("data", [NAMES, MONTHS, EMPTY, ODD, Table(["x", "y"], [["zero", 0]])])
def test_every_table_gives_well_formed_svg_with_its_labels_and_values(draw, data):
    found = texts(draw(data, 480).svg("it"))
    numbers = re.findall(r'(?:width|height|x|y)="(-?[\d.]+)"', draw(data, 480).marks)
    assert all(0 <= float(number) <= 1000 for number in numbers)
    if data is NAMES and draw is bars:
        assert {"<b>&\"'", "(none)", "3", "1.50", "<b>&\"': 3"} <= {*found}
    if data is ODD and draw is bars:
        assert {"NaN", "Infinity", "-inf", "2"} <= {*found}
    if data is MONTHS and draw is columns:
        assert {"Jan 2024", "Dec 2024, a: 12", "Dec 2024, b: 0", "a", "b"} <= {*found}


def test_a_page_needs_nothing_from_outside_and_escapes_what_it_shows():
    text = page(board(NAMES, MONTHS, EMPTY))
    assert "<b>&\"'" not in text
    assert "A &amp; &lt;B&gt;" in text
    assert "SELECT &#x27;&lt;x&gt;&#x27;" in text
    assert "1,234" in text
    assert not re.search(r"<script|https?:(?!//www\.w3\.org)|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    HTMLParser().feed(text)
    parsed(picture(board(NAMES, MONTHS, EMPTY)))


def test_the_same_data_give_the_same_page():
    assert page(board(NAMES, MONTHS)) == page(board(NAMES, MONTHS))
    assert picture(board(NAMES, MONTHS)) == picture(board(NAMES, MONTHS))


@pytest.fixture
def written(project):
    """`dashboard.py` for a project whose marts are made by hand."""
    folder = project.folder / "transform"
    folder.mkdir()
    (folder / "dashboard.yml").write_text(DECLARED)
    (folder / "dbt_project.yml").write_text("name: own\n")
    values = {"HOST": project.warehouse.host, "PORT": str(project.warehouse.port), "DB": project.warehouse.name,
              "USER": project.warehouse.user, "PASSWORD": PASSWORD, "SSLMODE": "disable"}
    variables = {f"TARGET_POSTGRES_{name}": value for name, value in values.items()}

    def write(**more):
        environment = {name: value for name, value in os.environ.items() if name not in ("SCHEMA", "EXTRACTED_AT")}
        return subprocess.run([BIN / "python", ROOT / "dashboard/dashboard.py"], cwd=project.folder, text=True,
                              env=environment | variables | {"MELTANO_PROJECT_ROOT": str(project.folder), **more},
                              capture_output=True)
    return write


def marts(project, schema, *rows):
    project.warehouse.run(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.by_name (name text, orders bigint)")
    for row in rows:
        project.warehouse.run(f"INSERT INTO {schema}.by_name VALUES (%s, %s)", *row)


def test_an_older_date_is_read_from_its_own_schema_and_marts_that_are_not_there_are_named(project, written):
    for day in ("2024-01-19", DAY):
        project.land(day, "csv")
        project.load(day, WITHOUT_SOURCES="postgres")
    marts(project, "marts", ("newest", 12345))
    page = project.output / "dashboard.html"
    assert written().returncode == 0
    assert "12,345" in page.read_text()
    assert f"As of {DAY}, from the schema marts." in page.read_text()
    failed = written(EXTRACTED_AT="2024-01-19")
    assert failed.returncode == 1
    assert "Schema marts_2024_01_19 does not have what" in failed.stderr
    assert "EXTRACTED_AT=2024-01-19 meltano run transform" in failed.stderr
    marts(project, "marts_2024_01_19", ("older", 777))
    assert written(EXTRACTED_AT="2024-01-19").returncode == 0
    assert "777" in page.read_text()
    (project.folder / "transform/dashboard.yml").unlink()
    assert "No dashboard" in written().stdout
