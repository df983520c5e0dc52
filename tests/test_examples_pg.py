"""The examples of PostgreSQL sources: whole runs, and their figures computed a second way on the source."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import date
from types import SimpleNamespace

import pytest
import servers
from conftest import PASSWORD, ROOT, Database
from dotenv import dotenv_values

FIRST, SECOND = "2025-03-03", "2025-03-04"
COPIED = ("Makefile", "demo", "dashboard", "examples", "transform", "requirements.txt")
LINKED = (".venv", "plugins", "transform/.venv")
VARIABLES = ("NAME", "DATE", "SCHEMA", "FILES", "LANDING_ROOT", "EXTRACTED_AT", "DATESTAMP", "SOURCE")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The examples in a folder of their own, with an embedded PostgreSQL of their own."""
    folder = tmp_path_factory.mktemp("examples") / "project"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *COPIED], cwd=ROOT,
                            capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)  # with its time: make compares them
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    yield folder
    servers.Server(folder / ".demo").remove()


def example(place, name, check=True, **variables):
    """`make example`, in an environment without servers but for these."""
    kept = {key: value for key, value in os.environ.items()
            if key not in (*VARIABLES, "PYTHONDONTWRITEBYTECODE") and "_POSTGRES_" not in key}
    given = [f"{key}={value}" for key, value in variables.items() if key in ("DATE", "SCHEMA")]
    done = subprocess.run(["make", "example", f"NAME={name}", *given], cwd=place, capture_output=True, text=True,
                          env=kept | {key: value for key, value in variables.items() if key.isupper()}, timeout=300)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def connected(side, variables):
    """The database that a side's variables name."""
    value = {key: variables[f"{side}_POSTGRES_{key}"] for key in ("PORT", "DB", "USER", "PASSWORD")}
    return Database(SimpleNamespace(port=value["PORT"]), value["DB"], value["USER"], value["PASSWORD"])


def generate_on(name, variables, monkeypatch):
    """The module `generate` of an example, for a source."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.syspath_prepend(ROOT / "examples")
    spec = importlib.util.spec_from_file_location(f"generate_{name}", ROOT / "examples" / name / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(name):
    """The figures of an example's README, as text, by name: of the first date and of the second."""
    text = (ROOT / "examples" / name / "README.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([\d,.]+) \| ([\d,.]+) \|$", text, re.M)
    return {label: values for label, *values in rows}


def digest(warehouse):
    """All rows of all marts and views."""
    tables = warehouse.run("SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN "
                           "('marts', 'core', 'olist', 'totesys') ORDER BY 1, 2")
    return {table: warehouse.one("SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) "
                                 f'FROM "{schema}"."{table}" t') for schema, table in tables}


# Olist

OLIST = {
    "orders": "SELECT count(*) FROM cpstn.olist_orders",
    "orders of the state of SP": "SELECT count(*) FROM cpstn.olist_orders WHERE customer_id IN "
    "(SELECT customer_id FROM cpstn.olist_customers WHERE customer_state = 'SP')",
    "price of sold items": "SELECT sum(price) FROM cpstn.olist_order_items",
    "price of items without a category": "SELECT sum(price) FROM cpstn.olist_order_items WHERE product_id IN "
    "(SELECT product_id FROM cpstn.olist_products WHERE product_category_name IS NULL)",
    "orders that have arrived": "SELECT count(order_delivered_customer_date) FROM cpstn.olist_orders",
}


def test_olist_runs_from_nothing_and_again_without_a_change(place, monkeypatch):
    said = example(place, "olist", DATE=FIRST)
    assert "9 of 9 tables equal" in said.stdout
    assert re.search(r"PASS=\d+ WARN=0 ERROR=0", said.stdout)
    variables = dotenv_values(place / "examples/olist/.env")
    source, warehouse = connected("SOURCE", variables), connected("TARGET", variables)
    require_figures("olist", source, OLIST, 0)
    require_olist(source, warehouse)
    before = digest(warehouse)
    assert {"orders_by_state", "olist_orders", "zip_codes"} <= before.keys()
    again = example(place, "olist", DATE=FIRST)
    assert digest(warehouse) == before
    assert "is landed and past: kept as it is" in again.stdout
    page = (place / "examples/olist/output/sample/dashboard.html").read_text()
    assert figures("olist")["orders"][0] in page
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)|<script|@import|url\(""", page), "nothing from outside"
    generate_on("olist", variables, monkeypatch).generate(date.fromisoformat(SECOND))
    require_figures("olist", source, OLIST, 1)
    source.connection.close()
    warehouse.connection.close()


def require_figures(name, source, queries, which):
    """The README has what plain SQL on the source gives."""
    given = figures(name)
    for label, query in queries.items():
        assert f"{source.one(query):,}" == given[label][which], label


def require_olist(source, warehouse):
    """The marts are what the rows of the source give in plain Python."""
    states = dict(source.run("SELECT customer_id::text, customer_state FROM cpstn.olist_customers"))
    orders = source.run("SELECT customer_id::text, order_purchase_timestamp, order_delivered_customer_date "
                        "FROM cpstn.olist_orders")
    assert dict(warehouse.run("SELECT state, orders FROM marts.orders_by_state")) == Counter(
        states[customer] for customer, *_ in orders)
    minutes = Counter(int((arrived - bought).total_seconds() // 60) for _, bought, arrived in orders if arrived)
    assert dict(warehouse.run("SELECT minutes, orders FROM marts.delivery")) == minutes
    noted = source.run("SELECT DISTINCT order_status, order_delivered_customer_date IS NULL FROM cpstn.olist_orders")
    assert {("canceled", False), ("canceled", True), ("delivered", True)} <= {*noted}, "the sample has the hard cases"
    english = dict(source.run("SELECT * FROM cpstn.product_category_name_translation"))
    names = dict(source.run("SELECT product_id::text, product_category_name FROM cpstn.olist_products"))
    prices = Counter()
    for product, price in source.run("SELECT product_id::text, price FROM cpstn.olist_order_items"):
        prices[english.get(names[product], names[product])] += price
    assert len(prices) == 74
    assert dict(warehouse.run("SELECT category, price FROM marts.price_by_category")) == prices
    spellings = source.one("SELECT count(DISTINCT (geolocation_zip_code_prefix, geolocation_city)) "
                           "FROM cpstn.olist_geolocation")
    zip_codes = source.one("SELECT count(DISTINCT geolocation_zip_code_prefix) FROM cpstn.olist_geolocation")
    assert warehouse.one("SELECT count(*) FROM core.zip_codes") == zip_codes < spellings


# Totesys

TOTESYS = {
    "sales orders": "SELECT count(*) FROM sales_order",
    "units sold": "SELECT sum(units_sold) FROM sales_order",
    "dates in `dim_date`": "SELECT count(DISTINCT day) FROM sales_order, unnest(ARRAY[created_at::date, "
    "last_updated::date, agreed_payment_date::date, agreed_delivery_date::date]) day",
    "designs": "SELECT count(*) FROM design",
}


@pytest.fixture
def totesys(place, make_database, monkeypatch, tmp_path):
    """A source in the shape of totesys that declares no keys, and has another table; and a warehouse."""
    source, warehouse = make_database("totesys"), make_database("warehouse")
    variables = {}
    for side, database in (("SOURCE", source), ("TARGET", warehouse)):
        values = {"HOST": database.host, "PORT": database.port, "DB": database.name, "USER": database.user,
                  "PASSWORD": PASSWORD, "SSLMODE": "disable"}
        variables |= {f"{side}_POSTGRES_{key}": str(value) for key, value in values.items()}
    generate = generate_on("totesys", variables, monkeypatch)
    schema = (ROOT / "examples/totesys/schema.sql").read_text()
    keyless = re.sub(r" PRIMARY KEY| REFERENCES \w+", "", schema)
    (tmp_path / "totesys").mkdir()
    (tmp_path / "totesys" / "schema.sql").write_text(keyless + "CREATE TABLE notes (note text);")
    monkeypatch.setattr(generate, "FOLDER", tmp_path / "totesys")
    generate.generate(date.fromisoformat(FIRST))
    return SimpleNamespace(source=source, warehouse=warehouse, variables=variables, generate=generate.generate)


def test_totesys_reads_a_real_source_only_and_lands_what_is_new(place, totesys):
    source, warehouse = totesys.source, totesys.warehouse
    require_figures("totesys", source, TOTESYS, 0)
    said = extract(place, "totesys", totesys.variables, FIRST)
    assert f"{landed(said):,}" == figures("totesys")["landed rows"][0]
    totesys.generate(date.fromisoformat(SECOND))
    require_figures("totesys", source, TOTESYS, 1)
    source.run(f"ALTER DATABASE {source.name} SET default_transaction_read_only = on")
    said = example(place, "totesys", DATE=SECOND, **totesys.variables).stdout
    assert "12 of 12 tables equal" in said
    assert re.search(r"PASS=\d+ WARN=0 ERROR=0", said)
    assert f"{landed(said):,}" == figures("totesys")["landed rows"][1]
    require_totesys(source, warehouse)
    assert warehouse.run("SELECT DISTINCT pg_typeof(sales_order_id)::text, pg_typeof(purchase_order_id)::text "
                         "FROM totesys.transaction") == [("integer", "integer")]
    assert not (place / "examples/totesys/.env").exists(), "nothing was configured for the embedded server"
    assert (place / "examples/totesys/output/dashboard.html").exists()


def extract(place, name, variables, day):
    """Land a date with Meltano, as the harness does."""
    folder = place / "examples" / name
    environment = os.environ | variables | {"MELTANO_PROJECT_ROOT": str(folder), "MELTANO_ENVIRONMENT": "extract",
                                            "DATESTAMP": day, "NO_COLOR": "1"}
    done = subprocess.run([ROOT / ".venv/bin/meltano", "run", f"extract_{name}"], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def landed(said):
    """Rows in the files of an extract."""
    return sum(int(rows.replace(",", "")) for rows in re.findall(r"tap-postgres +(?:\S+ )?\S+: ([\d,]+) rows, ", said))


def require_totesys(source, warehouse):
    """The star is what the rows of the source give in plain Python."""
    orders = source.run("SELECT * FROM sales_order ORDER BY sales_order_id")
    fact = warehouse.run(
        "SELECT sales_order_id, created_date, created_time, last_updated_date, last_updated_time, design_id, "
        "sales_staff_id, counterparty_id, units_sold, unit_price, currency_id, agreed_delivery_date::text, "
        "agreed_payment_date::text, agreed_delivery_location_id FROM marts.fact_sales_order ORDER BY sales_order_id")
    assert fact == [(number, created.date(), created.time(), updated.date(), updated.time(), *rest)
                    for number, created, updated, *rest in orders]
    days = {day for _, created, updated, *rest in orders
            for day in (created.date(), updated.date(), *map(date.fromisoformat, rest[6:8]))}
    assert sorted(warehouse.run("SELECT * FROM marts.dim_date")) == [
        (day, day.year, day.month, day.day, day.isoweekday(), f"{day:%A}", f"{day:%B}", (day.month + 2) // 3)
        for day in sorted(days)]
    departments = {number: (name, where) for number, name, where, *_ in source.run("SELECT * FROM department")}
    assert sorted(warehouse.run("SELECT * FROM marts.dim_staff")) == sorted(
        (number, first, last, *departments[department], mail)
        for number, first, last, department, mail, *_ in source.run("SELECT * FROM staff"))
    addresses = {row[0]: row[1:8] for row in source.run("SELECT * FROM address")}
    assert sorted(warehouse.run("SELECT * FROM marts.dim_location")) == sorted(
        (number, *rest) for number, rest in addresses.items())
    assert sorted(warehouse.run("SELECT * FROM marts.dim_counterparty")) == sorted(
        (number, name, *addresses[address])
        for number, name, address, *_ in source.run("SELECT * FROM counterparty"))
    assert sorted(warehouse.run("SELECT * FROM marts.dim_currency")) == [
        (1, "GBP", "Pound Sterling"), (2, "USD", "US Dollar"), (3, "EUR", "Euro")]
    assert sorted(warehouse.run("SELECT * FROM marts.dim_design")) == source.run(
        "SELECT design_id, design_name, file_location, file_name FROM design ORDER BY design_id")


# The harness

def test_an_unknown_example_is_refused_with_those_that_there_are(place):
    said = example(place, "northwind", check=False).stderr
    assert "NAME='northwind' is not an example" in said
    assert "activities, olist, sales, totesys" in said


@pytest.mark.parametrize(("own", "project", "expected"), [
    (None, None, {}),
    ("TARGET_POSTGRES_HOST=own\n", "TARGET_POSTGRES_HOST=project\n", {"TARGET_POSTGRES_HOST": "own"}),
    (None, "TARGET_POSTGRES_HOST=project\nLANDING_ROOT=s3://b/z\n", {"TARGET_POSTGRES_HOST": "project"}),
    (None, "FILES=a/*.csv\n", {"FILES": str(servers.PROJECT / "a/*.csv")}),
    ("FILES=az://own/*.csv\n", "FILES=/b.csv\n", {"FILES": "az://own/*.csv"}),
    (None, f"{servers.MARKER}\nTARGET_POSTGRES_HOST=demo\n", {}),
    ("TARGET_POSTGRES_HOST=own\nLANDING_ROOT=output/sample\n", None, {"TARGET_POSTGRES_HOST": "own"}),
    (f"{servers.MARKER}\nTARGET_POSTGRES_HOST=demo\n", "TARGET_POSTGRES_HOST=project\n",
     {"TARGET_POSTGRES_HOST": "project"})])
def test_servers_come_from_the_examples_env_then_the_projects_and_never_from_the_demos(
        tmp_path, monkeypatch, own, project, expected):
    monkeypatch.syspath_prepend(ROOT / "examples")
    sys.modules.pop("example", None)
    import example as examples

    monkeypatch.setattr(examples, "EXAMPLES", tmp_path / "examples")
    monkeypatch.setattr(servers, "ENV", tmp_path / ".env")
    for variable in [name for name in os.environ if "_POSTGRES_" in name]:
        monkeypatch.delenv(variable)
    (tmp_path / "examples/olist").mkdir(parents=True)
    shutil.copy(ROOT / "examples/olist/generate.py", tmp_path / "examples/olist")
    for path, text in ((tmp_path / "examples/olist/.env", own), (tmp_path / ".env", project)):
        if text:
            path.write_text(text)
    found = examples.Example("olist")._configured()
    assert {name: value for name, value in found.items() if "_POSTGRES_" in name or name == "FILES"} == expected
    assert found.get("LANDING_ROOT") == os.environ.get("LANDING_ROOT")


def test_a_sample_never_goes_into_a_database_with_tables_of_others(totesys):
    totesys.source.run(f"COMMENT ON DATABASE {totesys.source.name} IS NULL")
    before = totesys.source.one("SELECT count(*) FROM sales_order")
    with pytest.raises(Exception, match="has tables that are not the sample's"):
        totesys.generate(date.fromisoformat(SECOND))
    assert totesys.source.one("SELECT count(*) FROM sales_order") == before
