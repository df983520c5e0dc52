"""The real Northwind, which nobody here wrote, through real `meltano run`s; skipped where ../shared isn't there."""

import hashlib

import pytest
from conftest import NORTHWIND, ROOT
from landed import InStore

pytestmark = pytest.mark.skipif(not NORTHWIND.is_dir(), reason=f"no {NORTHWIND}: this is a clone elsewhere")
DAY = "2024-01-20"
TYPES = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname <> 'order_details'
ORDER BY 1, a.attnum
"""


@pytest.fixture
def northwind(project):
    statements = (NORTHWIND / "northwind.sql").read_text()
    project.source.run(statements)
    project.source.connection.close()  # the dump sets what its session looks like
    project.source.connection = project.source.connect()
    project.csv("order_details.csv", (NORTHWIND / "order_details.csv").read_bytes())
    return project


def run_all(project):
    project.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", SOURCE="postgres", DATESTAMP=DAY)
    project.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", SOURCE="csv", DATESTAMP=DAY)
    project.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", SCHEMA="public", EXTRACTED_AT=DAY)


def snapshot(project):
    tables = [name for (name,) in project.warehouse.run(
        "SELECT viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1")]
    ledger = project.warehouse.run("SELECT * FROM public_history._loads ORDER BY 1, 2, 3")
    return project.landed(), {table: project.rows(table) for table in tables}, ledger


def test_northwind_lands_loads_and_is_what_it_was_and_a_second_run_changes_nothing(northwind):
    run_all(northwind)
    once = snapshot(northwind)
    landed, tables, ledger = once
    assert len({path.split("/")[2] for path in landed if path.endswith(".csv")}) == 14
    assert len(tables) == len(ledger) == 14
    assert northwind.warehouse.one("SELECT count(*) FROM pg_partitioned_table") == 14
    assert sum(len(rows) for name, rows in tables.items() if name != "order_details") == 1207
    assert len(tables["order_details"]) == 2155
    assert tables["customer_customer_demo"] == tables["customer_demographics"] == []
    assert northwind.warehouse.run(TYPES) == northwind.source.run(TYPES)
    for name in set(tables) - {"order_details"}:
        assert tables[name] == sorted(northwind.source.run(f'SELECT t::text FROM public."{name}" t'))
    assert "14 of 14 tables equal, 3,362 rows" in northwind.meltano("invoke", "landing", "verify", DAY).stdout
    run_all(northwind)
    assert snapshot(northwind) == once


def hashes(project):
    """SHA-256 of each table's rows as they are landed, by source and table."""
    landed = project.landed()
    return {tuple(key.split("/")[::2]): hashlib.sha256(content).hexdigest() for key, content in landed.items()
            if key.endswith(".csv")}


@pytest.mark.parametrize(("store", "run"), [("fakes3", "meltano"), ("fakegcs", "plugins"), ("moto", "plugins"),
                                            ("azurite", "plugins")], indirect=["store"])
def test_in_a_store_northwind_has_the_hashes_that_it_has_in_a_folder(northwind, store, run):
    northwind.land(DAY)
    in_folder = hashes(northwind)
    northwind.land_in(InStore(store, f"northwind-{northwind.source.name}"))
    if run == "meltano":  # which has root and credentials from .env alone
        run_all(northwind)
    else:
        northwind.land(DAY)
        northwind.load(DAY)
    assert len(in_folder) == 14
    assert hashes(northwind) == in_folder
    assert "14 of 14 tables equal, 3,362 rows" in northwind.landing("verify", DAY).stdout


def test_the_result_query_gives_what_it_gives_where_the_data_came_from(northwind):
    run_all(northwind)
    query = (ROOT / "load" / "orders_with_details.sql").read_text()
    northwind.source.run("CREATE TABLE order_details (order_id integer, product_id integer, unit_price numeric, "
                         "quantity integer, discount numeric)")
    with northwind.source.connection.cursor() as cursor, (NORTHWIND / "order_details.csv").open() as file:
        cursor.copy_expert("COPY order_details FROM STDIN (FORMAT csv, HEADER)", file)
    result = northwind.warehouse.run(query)
    assert (len(result), len(result[0])) == (2155, 18)
    assert result == northwind.source.run(query)


def test_keys_have_the_date_last(northwind):
    run_all(northwind)
    keys = dict(northwind.warehouse.run(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'p' AND conrelid IN (SELECT partrelid FROM pg_partitioned_table)"))
    assert keys["public_history.orders"] == "PRIMARY KEY (order_id, extracted_at)"
    assert keys["public_history.order_details"] == "PRIMARY KEY (order_id, product_id, extracted_at)"
    assert len(keys) == 14
