"""The models show one loaded date, as the shop was on it; an older date and a failed test replace nothing of them."""

import json
import os
import shutil
import subprocess
import threading
import time
from decimal import ROUND_HALF_UP, Decimal

import pytest
import shop as sample
from conftest import CANARY, ROOT, Project, databases
from dates import Dates
from landing.load.table_names import TableNames
from landing.model.schema import Column, Protection
from landing.transform import sources
from landing.zone.landing_zone import LandingZone
from msgspec import structs
from transforms import TRANSFORM, dbt, made, stub, with_transform

D1, D2, D3 = "2024-01-19", "2024-01-20", "2024-01-21"
ORDERS = {"order_id": "integer", "extracted_at": "text"}


@pytest.fixture(scope="module")
def built(server, tmp_path_factory):
    """Three days of the sample shop, landed; the first and the last are loaded, and the models built."""
    with databases(server) as make:
        project = Project(tmp_path_factory.mktemp("transform"), make("source"), make("warehouse"))
        with_transform(project)
        for number, day in enumerate((D1, D2, D3)):
            shop = sample.build(day=number)
            connection = project.source.connect()
            sample.write_database(connection, shop)
            connection.close()
            sample.write_csv(project.folder / "extract/order_details.csv", shop)
            project.land(day)
        project.load(D1)
        project.load(D3)
        yield project, project.meltano("run", "transform", "dbt:docs", "dbt:freshness")


def assert_shows(project, number, suffix=""):
    """That the star holds the shop of its day 0, 1, …"""
    shop, run = sample.build(day=number), project.warehouse.run
    schema = f"marts{suffix}"
    orders = {order.order_id: order for order in shop.tables["orders"]}
    amounts = dict.fromkeys(orders, Decimal(0))
    for line in shop.order_details:
        price, discount = Decimal(f"{line.unit_price:g}"), Decimal(f"{line.discount:g}")
        amounts[line.order_id] += (price * line.quantity * (1 - discount)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    status = {order.order_id: "open" if order.shipped_date is None else
              "late" if order.shipped_date > order.required_date else "shipped" for order in orders.values()}
    found = {order: rest for order, *rest in run(
        f"SELECT order_id, customer_id, employee_id, order_date, status, freight FROM {schema}.fact_orders")}
    assert found == {key: [one.customer_id, one.employee_id, one.order_date, status[key], Decimal(f"{one.freight:g}")]
                     for key, one in orders.items()}
    assert sum(amounts.values()) == project.warehouse.one(f"SELECT sum(amount) FROM {schema}.fact_orders")
    counts = {name: project.warehouse.one(f"SELECT count(*) FROM {schema}.{name}") for name in (
        "fact_order_details", "dim_customers", "dim_products", "dim_employees")}
    assert [*counts.values()] == [len(shop.order_details), sample.CUSTOMERS, sample.PRODUCTS, sample.EMPLOYEES]
    phones = {one.customer_id: one.phone for one in shop.tables["customers"]}
    assert dict(run(f"SELECT customer_id, phone FROM staging{suffix}.stg_customers")) == phones


def relations(project, schema):
    """Identity of each table, which a build replaces."""
    return project.warehouse.run("SELECT c.relname, c.relfilenode FROM pg_class c WHERE c.relkind = 'r' "
                                 "AND c.relnamespace = to_regnamespace(%s) ORDER BY 1", schema)


def test_the_star_holds_the_newest_date_with_all_tests_green(built):
    project, result = built
    assert "ERROR=0 SKIP=0" in result.text
    assert result.text.count("PASS freshness of landed.") == 14
    assert f"{D3}, the newest loaded date." in result.text
    assert_shows(project, 2)
    query = (ROOT / "load/orders_with_details.sql").read_text()
    assert project.warehouse.run(query) == project.warehouse.run(
        "SELECT * FROM marts.orders_with_details ORDER BY order_id, product_id")
    page = project.output / "transform/index.html"
    assert "fact_orders" in page.read_text()
    files = [page, *(path for path in made(project).rglob("*") if path.is_file())]
    assert len(files) > 9
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in result.text
    assert not page.stat().st_mode & 0o007


def test_a_late_backfill_changes_the_versions_at_once_and_an_older_build_nothing_of_the_newest(built):
    project, _ = built
    query = "SELECT * FROM public_scd2.orders ORDER BY order_id, valid_from"
    before, marts = project.warehouse.run(query), relations(project, "marts")
    project.load(D2)
    after = project.warehouse.run(query)
    assert {row[-2].isoformat() for row in before} == {D1, D3}
    assert {row[-2].isoformat() for row in after} == {D1, D2, D3}
    assert {row[-1] and row[-1].isoformat() for row in after} == {D2, D3, None}
    result = dbt(project, "build", EXTRACTED_AT=D2)
    assert f"{D2}, older than the newest loaded one ({D3}): into schemas that end in _2024_01_20." in result.text
    assert_shows(project, 1, "_2024_01_20")
    assert max(row[0] for row in project.warehouse.run(
        "SELECT valid_from::text FROM public_scd2_2024_01_20.orders")) == D2
    assert relations(project, "marts") == marts
    assert_shows(project, 2)


def test_a_failed_test_of_what_was_landed_leaves_all_marts_as_they_are_and_is_named(built, tmp_path):
    project, _ = built
    path = project.folder / "extract/order_details.csv"
    good, errors = path.read_text(), tmp_path / "errors.jsonl"
    path.write_text(good + "10500,999,1,1,0\n")
    project.land(D3, "csv", REEXTRACT="true")
    project.load(D3)
    before = relations(project, "marts")
    result = dbt(project, "build", check=False, LANDING_ERRORS=str(errors))
    assert result.returncode == 1
    left = json.loads(errors.read_text())
    assert left["error"] == "TransformError"
    assert "test relationships_stg_order_details_product_id" in left["message"]
    assert "Got 1 result" in left["message"]
    assert f"then run: SCHEMA=public EXTRACTED_AT={D3} meltano run transform" in left["message"]
    assert relations(project, "marts") == before, "all of them, also those that no bad row reaches"


def test_the_committed_sources_are_those_of_the_sample(built):
    project, _ = built
    path = project.folder / "transform/models/sources.yml"
    path.unlink()
    assert "14 tables, as in postgres of 2024-01-21, csv of 2024-01-21." in project.landing("dbt-sources").text
    assert path.read_text() == (TRANSFORM / "models/sources.yml").read_text(), "run `landing dbt-sources` on the demo"
    path.write_text("sources: []\n")
    refused = project.landing("dbt-sources", check=False)
    assert refused.returncode == 1
    assert "was not written by this command" in refused.text
    shutil.copy(TRANSFORM / "models/sources.yml", path)


def test_comments_are_no_templates_and_tables_of_another_schema_are_another_source(built):
    project, _ = built
    manifest = LandingZone.at(project.output).require("csv", sample.FIRST_DAY)
    table = structs.replace(manifest.tables[0], comment="{{ boom }} {% if %} {# hidden", columns=[
        Column("a", "text", comment="x {{ y", protection=Protection("mask", "text"))], primary_key=[])
    names = TableNames({"csv": "files.{table}"}, "public")
    text = sources.declaration([structs.replace(manifest, tables=[table])], names)
    folder = project.folder / "described"
    (folder / "models").mkdir(parents=True)
    shutil.copytree(TRANSFORM / "macros", folder / "macros")
    (folder / "dbt_project.yml").write_text("name: test\nversion: 1.0.0\nprofile: warehouse\n")
    (folder / "models/sources.yml").write_text(text)
    dbt(project, "parse", DBT_PROJECT_DIR=str(folder), DBT_TARGET_PATH=str(folder / "target"))
    found = json.loads((folder / "target/manifest.json").read_text())["sources"]["source.test.files.order_details"]
    assert (found["schema"], found["description"]) == ("files", "{{ boom }} {% if %} {# hidden")
    assert found["columns"]["a"]["description"] == "x {{ y Protected (mask)."


@pytest.fixture(scope="module")
def wrapped(server, tmp_path_factory):
    """Two loaded dates, and a dbt that says what it was told."""
    with databases(server) as make:
        project = Project(tmp_path_factory.mktemp("wrapped"), make("source"), make("warehouse"))
        dates = Dates(project)
        for day in (D1, D3):
            dates.land(day, orders=(ORDERS, [["1", day]], "order_id"))
            dates.load(day)
        stub(project, 'echo "date=$TRANSFORM_DATE suffix=$TRANSFORM_SUFFIX schema=$SCHEMA $*"; eval "$SCRIPT"')
        yield project, dates
        dates.close()


@pytest.mark.parametrize(("variables", "said"), [
    ({}, f"date={D3} suffix= schema=public build"), ({"EXTRACTED_AT": D3}, f"date={D3} suffix= schema=public build"),
    ({"EXTRACTED_AT": D1}, f"date={D1} suffix=_2024_01_19 schema=public build")])
def test_a_build_is_of_the_newest_loaded_date_or_the_given_one(wrapped, variables, said):
    assert said in dbt(wrapped[0], "build", **variables).stdout


@pytest.mark.parametrize(("variables", "said"), [
    ({"EXTRACTED_AT": D2}, f"{D2} is not loaded into schema public; the newest loaded date is {D3}. Load it first: "
                           f"MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={D2} meltano run load_to_postgres"),
    ({"EXTRACTED_AT": D1, "SCHEMA": "crm"}, f"Nothing of {D1} is loaded into schema crm. Load a landed date first: "
     f"MELTANO_ENVIRONMENT=load SCHEMA=crm EXTRACTED_AT={D1} meltano run load_to_postgres"),
    ({"EXTRACTED_AT": ""}, "EXTRACTED_AT='' is not a date"), ({"EXTRACTED_AT": "20.1."}, "is not a date"),
    ({"SCRIPT": "echo No such model; exit 2"},
     f"dbt ended with exit status 2: date={D3} suffix= schema=public build No such model. Correct the data or the "
     f"models, then run: SCHEMA=public EXTRACTED_AT={D3} meltano run transform"),
    ({"SCRIPT": "echo Found; echo 16:00:00  Encountered an error:; echo permission denied for database w; exit 2"},
     "dbt ended with exit status 2: permission denied for database w. Rights that the models need: ")])
def test_what_cannot_be_built_is_refused_with_the_next_command(wrapped, variables, said):
    refused = dbt(wrapped[0], "build", check=False, **variables)
    assert refused.returncode == 1
    assert said in refused.text


def test_a_build_that_waited_for_another_does_not_replace_a_date_that_is_newer_by_then(wrapped):
    project, dates = wrapped
    seen = project.folder / "seen"
    first = threading.Thread(target=dbt, args=(project, "build"), kwargs={
        "SCRIPT": f"touch {seen}; while [ -e {seen} ]; do sleep 0.05; done"})
    first.start()
    while not seen.exists():
        time.sleep(0.02)
    said = []
    second = threading.Thread(target=lambda: said.append(dbt(project, "build", EXTRACTED_AT=D3).text))
    second.start()
    while project.warehouse.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'landing' "
                                "AND datname = current_database()") < 2:
        time.sleep(0.02)
    newer = "2024-01-22"
    dates.land(newer, orders=(ORDERS, [["1", newer]], "order_id"))
    dates.load(newer)
    seen.unlink()
    first.join()
    second.join()
    assert "Another transform is running in schema public" in said[0]
    assert f"date={D3} suffix=_2024_01_21 schema=public build" in said[0]
    dates.run("DELETE FROM public_history._loads WHERE extracted_at = %s", newer)


def test_dbt_ends_with_its_caller(wrapped):
    project, _ = wrapped
    started = project.folder / "started"
    command = ["sh", "-c", f"{ROOT}/plugins/.venv/bin/landing-dbt build & echo $! > {project.folder}/pid; wait"]
    variables = project.plugin_environment(SCRIPT=f"echo $$ > {started}.new; mv {started}.new {started}; sleep 600")
    with subprocess.Popen(command, cwd=project.folder, env=variables, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as caller:
        while not started.exists():
            time.sleep(0.05)
        caller.kill()
    pid = int(started.read_text())
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "dbt goes on"
        time.sleep(0.1)


TASK = """
import json, os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from types import SimpleNamespace
module = runpy.run_path(sys.argv[1])
transform, said = module["transform"], {}
names = transform.__globals__
for day in sys.argv[2:]:
    context = {"params": {"date": day, "without_sources": None}, "outlet_events": {module["TRANSFORMED"]:
               SimpleNamespace()}, "ti": SimpleNamespace(task_id="transform", xcom_push=lambda *_: None),
               "dag_run": SimpleNamespace(logical_date=None, run_after=None, partition_key=None)}
    names["get_current_context"] = lambda: context
    names["meltano"] = lambda name, again, job, of, **variables: said.update({day: [again, job, of, variables]})
    try:
        transform()
    except Exception as error:
        said[day] = f"{type(error).__name__}: {error}"
said["after"] = {task.task_id: sorted(task.downstream_task_ids) for task in module["dag"].tasks}
print("TASK" + json.dumps(said))
"""


def test_the_dag_transforms_the_newest_date_after_the_proof_and_skips_an_older_one(wrapped):
    project, _ = wrapped
    (project.folder / "transform/dbt_project.yml").touch()
    done = subprocess.run(
        [ROOT / "orchestrate/airflow/.venv/bin/python", "-c", TASK,
         ROOT / "orchestrate/airflow/dags/ELT_with_meltano.py", D1, D3], capture_output=True, text=True, timeout=120,
        env=project.environment(MELTANO_PROJECT_ROOT=str(project.folder),
                                AIRFLOW_HOME=str(project.folder / ".airflow")))
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.partition("TASK")[2])
    assert said[D3] == [f"SCHEMA=public EXTRACTED_AT={D3} meltano run transform", "transform", D3,
                        {"SCHEMA": "public", "EXTRACTED_AT": D3}]
    assert said[D1].startswith(f"AirflowSkipException: {D3} is loaded")
    assert f"run: SCHEMA=public EXTRACTED_AT={D1} meltano run transform" in said[D1]
    assert said["after"]["validate"] == ["transform"]
    assert said["after"]["load_to_postgres"] == ["validate"]
