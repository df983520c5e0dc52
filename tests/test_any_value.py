"""Any value of any built-in type, alone or within arrays, domains and composites, arrives as it was, byte for byte,
and stays so when its column widens to text.

Thousands of values go through one run: for each type its extremes, and LANDING_EXAMPLES (8) lists of literals that
hypothesis makes, always the same ones unless LANDING_EXAMPLES is set. Source and warehouse have settings that would
change the text of most of them, and may be of different versions of PostgreSQL.
"""

import csv
import functools
import io
import os
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from conftest import Project, running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from landing.load import history
from landing.load.history import HistoryTable
from landing.postgres.connect import connect
from landing.postgres.transaction import transaction
from literals import EXCEPTIONS, MODIFIED, TYPES
from psycopg2 import sql
from psycopg2.extras import execute_values
from servers import Server

csv.field_size_limit(1 << 30)

DAY = "2024-03-01"
EXAMPLES = int(os.environ.get("LANDING_EXAMPLES", "8"))
DEBIAN = Path("/usr/lib/postgresql/15/bin")
XML = 'pg_catalog."xml"'  # a server without libxml can read none

# PostgreSQL writes 'a' & ('b' & 'c') without the parentheses, and reads it grouped the other way: what it finds is the
# same, its binary form is not.
REGROUPED = ("tsquery", "tsquery[]")

# Whatever these are, the text of a value that travels is not to depend on them.
AT_SOURCE = {"DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu",
             "extra_float_digits": "-15", "bytea_output": "escape", "quote_all_identifiers": "on",
             "xmloption": "document"}
AT_WAREHOUSE = {"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "America/St_Johns",
                "extra_float_digits": "0", "bytea_output": "escape", "quote_all_identifiers": "on",
                "array_nulls": "off", "standard_conforming_strings": "off", "xmloption": "document"}
# What the landing zone's text is by definition: see DESIGN.md.
BY_HAND = ("SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1;"
           "SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET quote_all_identifiers = off; SET array_nulls = on")

# What a server writes of a literal; NULL if it can't read it, or can't read again what it writes (timestamp(2) rounds
# the last moment up to one that is none).
WRITTEN = """
CREATE FUNCTION pg_temp.written(literal text, type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE written text;
BEGIN
    EXECUTE format('SELECT concat(%L::%s)', literal, type) INTO written;
    EXECUTE format('SELECT %L::%s', written, type);
    RETURN written;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$
"""

BUILT_IN = """
SELECT t.typname, format_type(t.oid, NULL) FROM pg_type t
WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')
  AND NOT (t.typcategory = 'A' AND t.typname LIKE '\\_%') ORDER BY t.oid
"""


class Debian(Server):
    """PostgreSQL 15."""

    def _binaries(self):
        return DEBIAN


@pytest.fixture(scope="module")
def servers(server):
    """By version; 15 is started when it is wanted."""
    found = {18: server}

    def of(version):
        if version not in found:
            if not DEBIAN.exists():
                pytest.skip(f"no PostgreSQL {version} in {DEBIAN}: apt-get install postgresql-15")
            found[version] = stack.enter_context(running(Debian))
        return found[version]

    with ExitStack() as stack:
        yield of


@functools.cache
def literals():
    """Literals by SQL type."""
    return {type_: [*dict.fromkeys([*extremes, *generated(strategy)])] for type_, (extremes, strategy) in
            ({f'pg_catalog."{name}"': one for name, one in TYPES.items()} | MODIFIED).items()}


def generated(strategy):
    found = {}

    @settings(max_examples=EXAMPLES, derandomize="LANDING_EXAMPLES" not in os.environ, database=None, deadline=None,
              phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(st.lists(strategy, min_size=1, max_size=6))
    def collect(some):
        found.update(dict.fromkeys(some))

    collect()
    return found


def written(database, pairs):
    """What a server writes of each (literal, type)."""
    with database.connection.cursor() as cursor:
        cursor.execute(WRITTEN)
        return execute_values(cursor, "SELECT type, literal, pg_temp.written(literal, type) "
                              "FROM (VALUES %s) v (literal, type)", pairs, page_size=len(pairs), fetch=True)


def readable(source, warehouse):
    """Literals by type that the source can read, and whose text the warehouse can (xml: or takes as text)."""
    at_source = [one for one in written(source, [(literal, type_) for type_, all_ in literals().items()
                                                 for literal in all_]) if one[2] is not None]
    there = [text is not None for *_, text in written(warehouse, [(text, type_) for type_, _, text in at_source])]
    kept = {type_: [] for type_ in literals()}
    for (type_, literal, _), is_there in zip(at_source, there, strict=True):
        if is_there or type_ == XML:
            kept[type_].append(literal)
    few = {type_: {*all_} - {*kept[type_]} for type_, all_ in literals().items()
           if type_ != XML and len(kept[type_]) < len(all_) * 0.6}
    assert not few
    return {type_: some for type_, some in kept.items() if some}


def fill(source, values):
    """Tables in which each type is a column: as itself, in a domain, in arrays, in a composite."""
    columns = {f"c{number} {type_.removeprefix('pg_catalog.')}"[:60]: type_ for number, type_ in enumerate(values)}
    ids = [sql.Identifier(name) for name in columns]
    each = list(zip(ids, columns.values(), range(len(ids)), strict=True))

    def many(pattern):
        return sql.SQL(", ").join(sql.SQL(pattern.replace("@type", type_).replace("@n", str(number))).format(c=one)
                                  for one, type_, number in each)

    with source.connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TABLE alone (row integer PRIMARY KEY, {})").format(many("{c} @type")))
        for _, type_, number in each:
            cursor.execute(f"CREATE DOMAIN d{number} AS {type_}")
        cursor.execute(sql.SQL("CREATE TYPE whole AS ({})").format(many("{c} @type")))
        height = max(map(len, values.values()))
        rows = [(row, *(some[row] if row < len(some) else None for some in values.values()))
                for row in range(height + 1)]
        execute_values(cursor, "INSERT INTO alone VALUES %s", rows,
                       template=f"(%s, {', '.join(f'%s::{type_}' for type_ in columns.values())})")
        cursor.execute(sql.SQL("CREATE TABLE domains (row integer, {})").format(many("{c} d@n")))
        cursor.execute("INSERT INTO domains SELECT * FROM alone")
        cursor.execute(sql.SQL("CREATE TABLE arrays (row integer, {})").format(many("{c} @type[]")))
        for shape in ("ARRAY[{c}, NULL, lag({c}) OVER w]", "ARRAY[ARRAY[{c}, NULL], ARRAY[{c}, lag({c}) OVER w]]",
                      "array_fill({c}, ARRAY[1, 2], ARRAY[-3, 7])"):
            cursor.execute(sql.SQL("INSERT INTO arrays SELECT row, {} FROM alone WINDOW w AS (ORDER BY row)").format(
                many(shape)))
        cursor.execute(sql.SQL("INSERT INTO arrays SELECT -1, {}").format(many("'{{}}'")))
        cursor.execute(sql.SQL("CREATE TABLE composites AS SELECT row, ROW({})::whole AS one, "
                               "ARRAY[ROW({})::whole, NULL] AS two FROM alone").format(many("{c}"), many("{c}")))
    return sum(map(len, values.values())), (height + 1) * 4 * len(each)


def configure(database, chosen):
    for name, value in chosen.items():
        database.run(sql.SQL("ALTER DATABASE {} SET {} = {}").format(
            sql.Identifier(database.name), sql.SQL(name), sql.Literal(value)).as_string(database.connection))


def copied(database, relation, columns, format_="csv, HEADER"):
    """What COPY says by itself, without any of our code."""
    with database.connection.cursor() as cursor:
        cursor.execute(BY_HAND)
        fields = sql.SQL(", ").join(as_stored(name, type_) for name, type_ in columns.items())
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT {})").format(
            fields, sql.Identifier(*relation), sql.SQL(format_))
        out = io.BytesIO()
        cursor.copy_expert(query, out)
        return out.getvalue()


def as_stored(name, type_):
    """The output of xml is not all that is stored; its text is."""
    text = {"xml": "::text AS {0}", "xml[]": "::text[] AS {0}"}.get(type_, "")
    return sql.SQL("{0}" + text).format(sql.Identifier(name))


def differing(one, other):
    """The first few cells that differ: their column, and both texts."""
    head, *rows = csv.reader(io.StringIO(one.decode(), newline=""))
    _, *others = csv.reader(io.StringIO(other.decode(), newline=""))
    cells = [(name, a, b) for row, twin in zip(rows, others, strict=False)
             for name, a, b in zip(head, row, twin, strict=False) if a != b]
    return cells[:5] or f"{len(rows)} rows, {len(others)} rows"


def columns_of(database, relation):
    """Types by column; of a domain, its base type."""
    return dict(database.run(
        "SELECT attname, format_type(coalesce(nullif(typbasetype, 0), atttypid), NULL) FROM pg_attribute "
        "JOIN pg_type t ON t.oid = atttypid WHERE attrelid = format('%%I.%%I', %s, %s)::regclass AND attnum > 0 "
        "ORDER BY attnum", *relation))


def binary(project, source, partition, columns):
    """Both binary forms of columns whose type is the same, where they differ."""
    forms = [copied(*one, columns, "binary") for one in ((project.source, source), (project.warehouse, partition))]
    return forms if forms[0] != forms[1] else []


def arrive(project, tables):
    """All of it lands, loads and is proved, and is what it was in each of three ways to look at it."""
    project.land(DAY, "postgres")
    project.pipe(project.tap_landed(sources=["postgres"]), project.target_postgres(), EXTRACTED_AT=DAY)
    for table in tables:
        source, partition = ("public", table), ("public_history", f"{table}@{DAY}")
        columns, loaded_as = columns_of(project.source, source), columns_of(project.warehouse, partition)
        at_source = copied(project.source, source, columns)
        landed, = project.output.glob(f"source=postgres/*/table=public-{table}/*.csv")
        assert landed.read_bytes() == at_source, differing(at_source, landed.read_bytes())
        loaded = copied(project.warehouse, partition, columns)
        assert loaded == at_source, differing(at_source, loaded)
        exact = {name: type_ for name, type_ in columns.items() if loaded_as[name] == type_ not in REGROUPED}
        assert binary(project, source, partition, exact) == [], (table, [
            name for name, type_ in exact.items() if binary(project, source, partition, {name: type_})])
    assert project.unproved(DAY) == []


def widen(project, tables):
    """All columns to text, as a load does it when the source's type has become text."""
    with closing(connect(project.warehouse.dsn(), "test")) as connection, transaction(connection) as cursor:
        there = history.tables(cursor, "public_history")
        for table in tables:
            columns, key = there[table]
            need = {name: "text" for name in columns if name not in ("extracted_at", "row")}
            HistoryTable(cursor, "public_history", table, columns, key).reconcile(need, key[1] if key else [])


@pytest.mark.parametrize("version", [18, 15])
def test_no_built_in_type_is_forgotten(servers, make_database, version):
    there = {name for name, _ in make_database("types", servers(version)).run(BUILT_IN)}
    assert there == {*TYPES} | {*EXCEPTIONS}


@pytest.mark.parametrize(("source", "warehouse"), [(18, 18), (18, 15), (15, 18), (15, 15)])
def test_every_value_of_every_type_arrives_byte_for_byte(servers, make_database, tmp_path, source, warehouse):
    project = Project(tmp_path, make_database("source", servers(source)),
                      make_database("warehouse", servers(warehouse)))
    values, cells = fill(project.source, readable(project.source, project.warehouse))
    configure(project.source, AT_SOURCE)
    configure(project.warehouse, AT_WAREHOUSE)
    print(f"{source} -> {warehouse}: {values} values, {cells} cells")
    arrive(project, ("alone", "domains", "arrays", "composites"))
    widen(project, ("alone", "arrays"))
    assert project.unproved(DAY) == []
