"""What `landing certify` says before the first run is what an extract and a load then do."""

import json
import logging
import re
from contextlib import closing
from datetime import date

import psycopg2
import pytest
from landing.core.errors import LandingError
from landing.extract.postgres.catalog import UNREADABLE_TYPES
from landing.extract.postgres.snapshot import Snapshot, select
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.warehouse import Warehouse
from landing.postgres.connect import connect
from landing.postgres.copy import copy_out
from landing.postgres.worker_pool import WorkerPool
from landing.zone.landing_zone import LandingZone
from literals import EXCEPTIONS

DAY = "2024-03-01"

# Column, its type at the source, the verdict, and the type in the warehouse.
COLUMNS = [
    ("id", "integer", "lossless", "integer"), ("price", "numeric(12,3)", "lossless", "numeric(12,3)"),
    ("stamp", "timestamp(3) with time zone", "lossless", "timestamp(3) with time zone"),
    ("span", "interval day to second(3)", "lossless", "interval day to second(3)"),
    ("grid", "integer[]", "lossless", "integer[]"), ("spans", "int8multirange", "lossless", "int8multirange"),
    ("letter", '"char"', "lossless", '"char"'), ("flags", '"bit"', "lossless", '"bit"'), ("extracted_at", "date",
     "lossless", "date"), ("born", "year", "lossless", "integer"), ("lists", "ids", "lossless", "bigint[]"),
    ("feeling", "mood", "as text", "text"), ("feelings", "mood[]", "as text", "text"),
    ("years", "year[]", "as text", "text"), ("spot", "place", "as text", "text"),
    ("words", "wordrange", "as text", "text"), ("relation", "regclass", "as text", "text"),
    ("owners", "aclitem[]", "as text", "text"), ("free", "public.citext", "as text", "text"),
    ("markup", "xml", "as text", "text"), ("wider", "integer", "lossless", "bigint"),
    ("loose", "date", "as text", "text"),
]

SOURCE = """
CREATE EXTENSION citext SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'so, so'); CREATE DOMAIN year AS integer; CREATE DOMAIN ids AS bigint[];
CREATE TYPE place AS (x integer, y text); CREATE TYPE wordrange AS RANGE (subtype = text);
CREATE SCHEMA good; CREATE TABLE good.hard ({columns}, PRIMARY KEY (id, feeling));
INSERT INTO good.hard VALUES (1, 1.5, 'now', '1 day', '{{{{1}},{{2}}}}', '{{[1,2)}}', 'x', '101', 'today', 1999,
    '{{7}}', 'sad', '{{sad,NULL}}', '{{2000}}', '(1,"a,b")', '[a,b)', 'pg_class', '{{=r/tester}}', 'Free', NULL, 1,
    'today');
CREATE VIEW good.masks AS SELECT B'1010' & B'0110' AS mask, adbin AS expression FROM pg_attrdef LIMIT 2;
CREATE TABLE good.empty_key (k text PRIMARY KEY DEFAULT 'x', n integer DEFAULT 1);
"""


def certified(project, *arguments, check=True, **variables):
    result = project.landing("certify", "--json", *arguments, check=check, **variables)
    return json.loads(result.stdout), result


def schemas(project, *names):
    """Change filter_schemas as a person does."""
    path = project.folder / "meltano.yml"
    path.write_text(path.read_text().replace("filter_schemas: [public]", f"filter_schemas: [{', '.join(names)}]"))


@pytest.fixture
def good(project):
    """A source with a column of every kind, and a warehouse that has one of its tables with other types already."""
    columns = ", ".join(f"{name} {type_}" for name, type_, *_ in COLUMNS)
    project.source.run(SOURCE.format(columns=columns))
    project.warehouse.run("CREATE SCHEMA public_history; CREATE TABLE public_history.hard (extracted_at date, "
                          "wider bigint, loose text) PARTITION BY LIST (extracted_at)")
    schemas(project, "good")
    return project


def test_what_is_certified_is_what_an_extract_and_a_load_do(good):
    relations = "SELECT oid, relname FROM pg_class ORDER BY oid"
    before = [one.run(relations) for one in (good.source, good.warehouse)]
    found, result = certified(good)
    assert before == [one.run(relations) for one in (good.source, good.warehouse)]
    assert result.stderr == ""
    said = {(one["table"], one["column"]): one for one in found["columns"]}
    for name, type_, verdict, loads_as in COLUMNS:
        one = said["hard", name]
        assert (one["type"], one["verdict"], one["loads_as"]) == (type_.removeprefix("public."), verdict, loads_as), one
        assert bool(one["reason"]) == (verdict == "as text" or type_ != loads_as)
    tap = good.tap_postgres(filter_schemas=["good"])
    good.pipe(tap, good.target_csv(), DATESTAMP=DAY)
    good.pipe(good.tap_landed(sources=["postgres"]), good.target_postgres(), EXTRACTED_AT=DAY)
    loaded = good.warehouse.run(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace "
        "WHERE a.attnum > 0")
    assert {(table, column): type_ for table, column, type_ in loaded} == \
        {place: one["loads_as"] for place, one in said.items()}
    landed = {(table["name"], column["name"]): column["source_type"] or column["type"]
              for table in good.manifest("postgres", DAY)["tables"] for column in table["columns"]}
    assert landed == {place: one["type"] for place, one in said.items()}
    for one in good.landing("verify", DAY, check=False).stdout.splitlines():
        assert not one.startswith("postgres") or one.endswith("yes")


def test_a_person_sees_what_is_not_lossless_and_why_also_without_the_warehouse(good):
    shown = good.landing("certify").stdout
    assert "price" not in shown
    for why in ("an enum", "a composite type", "a type of extension citext", "a domain in an array",
                "a range type of its own", "names something of its own database", "the warehouse column is text",
                "PostgreSQL writes and never reads", "the warehouse server does not support xml"):
        assert why in shown
    assert shown.splitlines()[-1] == ("3 tables, 0 of them refused; 26 columns of the others: 15 lossless, 11 as text "
                                      f"(warehouse: PostgreSQL {good.warehouse.one('SHOW server_version')}).")
    alone = good.landing("certify", "--all", "good.h*", TARGET_POSTGRES_PORT="1")
    assert "Checked without the warehouse" in alone.stderr
    assert "price" in alone.stdout
    assert "1 tables, 0 of them refused; 22 columns" in alone.stdout
    nothing = good.landing("certify", "bad.*", check=False)
    assert nothing.returncode == 1
    assert "The source has no table matching bad.* in schemas good" in nothing.stderr


LONG = "extracted_at" + "_" * 51  # one more, and PostgreSQL cuts it
WIDE = ", ".join(f"c{number} smallint" for number in range(1600))
KEY = ", ".join(f"c{number}" for number in range(32))
REFUSED = {
    # by the source
    "closed": ("CREATE TABLE bad.closed (a integer)", "ermission denied on source tables: bad.closed"),
    "part_closed": ("CREATE TABLE bad.part_closed (a integer, b integer);"
                    "GRANT SELECT (a) ON bad.part_closed TO reader",
                    "ermission denied on source tables: bad.part_closed"),
    "hidden": ("CREATE TABLE bad.hidden (a integer); ALTER TABLE bad.hidden ENABLE ROW LEVEL SECURITY;"
               "GRANT SELECT ON bad.hidden TO reader", "row-level security"),
    "away": ("CREATE EXTENSION file_fdw; CREATE SERVER away FOREIGN DATA WRAPPER file_fdw;"
             "CREATE FOREIGN TABLE bad.away (a integer) SERVER away OPTIONS (filename '/nowhere/x');"
             "GRANT SELECT ON bad.away TO reader",
             "No such file or directory"),
    # by the warehouse
    "long": (f"CREATE TABLE worse.long ({LONG} integer)", "has 64 bytes"),
    "taken": ("CREATE TABLE worse.taken (a integer)", "public.taken exists in the warehouse and was not created"),
    "other": ("CREATE TABLE worse.other (a integer)", "belongs to source crm"),
    "_loads": ("CREATE TABLE worse._loads (a integer)", "reserves this name"),
    "wide": (f"CREATE TABLE worse.wide ({WIDE})", "it has 1,601 columns"),
    "deep": (f"CREATE TABLE worse.deep ({WIDE[:700].rpartition(',')[0]}, PRIMARY KEY ({KEY}))",
             "more than 32 columns in an index"),
    "system": ("CREATE VIEW worse.system AS SELECT 1 AS ctid", "conflicts with a system column name"),
    "changed": ("CREATE TABLE worse.changed (a date)", "the warehouse has integer, this partition has date"),
    "twin": ("CREATE TABLE worse.twin (a integer); CREATE TABLE also.twin (a integer)", "both map to table 'twin'"),
}


@pytest.fixture
def bad(project):
    """A source of which a role without special rights can copy little, and a warehouse that takes little."""
    for one in (project.source, project.warehouse):
        one.run("CREATE SCHEMA worse; CREATE SCHEMA also; CREATE SCHEMA bad")
    with project.source.connection.cursor() as cursor:
        cursor.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA bad, worse, also TO reader")
        for ddl, _ in REFUSED.values():
            cursor.execute(ddl)
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA worse, also TO reader")
    project.warehouse.run(
        "CREATE TABLE public.taken (a integer); CREATE SCHEMA public_history;"
        "CREATE TABLE public_history.changed (extracted_at date, a integer) PARTITION BY LIST (extracted_at)")
    connection = connect(project.warehouse.dsn(), "test")
    warehouse = Warehouse(connection, "public", logging.getLogger("test"))
    warehouse.acquire()
    warehouse.execute("INSERT INTO public_history._loads "
                      "VALUES ('crm', '2024-01-01', 'other', 0, '', now(), now(), '')")
    yield project, warehouse
    connection.close()
    project.source.run("DROP OWNED BY reader; DROP ROLE reader")


def extract(project, table):
    """What an extract does with one table."""
    reader = psycopg2.extensions.make_dsn(**{**project.source.dsn(), "user": "reader", "password": "reader"})
    with closing(Snapshot(reader, ["bad"], [("bad", table)], 1)) as snapshot:
        columns = snapshot.tables["bad", table].columns
        copy_out(snapshot.connection, select(columns, ("bad", table)))


def load(project, warehouse, table):
    """What a load does with the landed tables of one name."""
    zone = LandingZone.at(project.output)
    manifest = zone.require("postgres", date.fromisoformat(DAY))
    loads = {one.stream: Load("postgres", manifest.extracted_at, manifest.run_id, manifest.taken_at, one)
             for one in manifest.tables if one.name == table}
    refuse_shared_names(loads.values())
    staged = [(load, [(zone.file(manifest, file), file) for file in load.table.files])
              for load in warehouse.planned(loads).values()]
    with WorkerPool(1, lambda: connect(project.warehouse.dsn(), "test")) as workers:
        warehouse.stage(workers, staged, alone=True)


def test_what_is_certified_as_refused_is_refused(bad):
    project, warehouse = bad
    schemas(project, "bad", "worse", "also")
    reader = {"SOURCE_POSTGRES_USER": "reader", "SOURCE_POSTGRES_PASSWORD": "reader"}
    found, result = certified(project, check=False, **reader)
    assert result.returncode == 1
    assert "Traceback" not in result.text
    said = {one["table"]: one["reason"] for one in found["columns"] if one["verdict"] == "refused"}
    assert {*said} == {*REFUSED}
    project.pipe(project.tap_postgres(filter_schemas=["worse", "also"]), project.target_csv(), DATESTAMP=DAY)
    for name, (ddl, why) in REFUSED.items():
        assert why in said[name], name
        with pytest.raises((psycopg2.Error, LandingError), match=re.escape(why)):
            extract(project, name) if " bad." in ddl else load(project, warehouse, name)


def test_a_warehouse_whose_role_may_not_create_is_told_before_anything_is_copied(shop):
    shop.warehouse.run("CREATE ROLE loader LOGIN PASSWORD 'loader'; CREATE SCHEMA public_history AUTHORIZATION loader;"
                       "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        loader = {"TARGET_POSTGRES_USER": "loader", "TARGET_POSTGRES_PASSWORD": "loader"}
        result = shop.landing("certify", check=False, **loader)
        assert result.returncode == 1
        assert "The warehouse role loader lacks CREATE on schema public" in result.stderr
        assert "GRANT CREATE ON SCHEMA public TO loader" in result.stderr
        assert "Traceback" not in result.stderr
    finally:
        shop.warehouse.run("DROP OWNED BY loader CASCADE; DROP ROLE loader")


def test_types_that_nobody_writes_are_known_as_such():
    assert {*UNREADABLE_TYPES} == {*EXCEPTIONS}
