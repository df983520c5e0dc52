"""`keys` of tap-postgres: a table without a primary key gets one, which is checked and then used like any other."""

import contextlib
import json

import psycopg2
import pytest
from landing.extract.postgres.keys import problem
from psycopg2 import sql

DAY, NEXT = "2024-01-20", "2024-01-21"


@pytest.fixture
def events(inside):
    """A table without a primary key, in a source of its own."""
    inside.project.source.run("DROP TABLE notes; DROP TABLE orders; CREATE TABLE events (id integer, at date, v text);"
                              "INSERT INTO events SELECT g, '2024-01-01', 'x' FROM generate_series(1, 100) g")
    return inside


def key(project, day=DAY):
    table, = project.manifest("postgres", day)["tables"]
    return table["primary_key"]


@pytest.mark.parametrize("settings", [{}, {"use_batch": False}, {"connections": 1}])
def test_a_declared_key_is_the_keys_of_history_and_of_diff(events, settings):
    shop = events.project
    meltano = shop.folder / "meltano.yml"
    meltano.write_text("jobs:\n- name: extract_postgres\n  tasks: [tap-postgres target-csv]\n")
    events.extract(DAY, keys={"public.events": ["id"]}, **settings)
    assert key(shop) == ["id"]
    shop.source.run("UPDATE events SET v = 'y' WHERE id = 7; DELETE FROM events WHERE id = 8")
    events.extract(NEXT, keys={"public.events": ["id"]}, **settings)
    for day in (DAY, NEXT):
        events.load(day)
        assert events.proved(day)
    assert shop.warehouse.run(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indisprimary AND i.indrelid = 'public_history.events'::regclass ORDER BY 1") == [
            ("extracted_at",), ("id",)]
    change, = json.loads(events.landing("diff", DAY, NEXT, "--json").stdout)
    assert [change[name] for name in ("inserted", "updated", "deleted", "key")] == [0, 1, 1, ["id"]]


OFFENDERS = {
    "null": ("INSERT INTO events VALUES (NULL), (NULL)", "id is NULL in 2 rows; 1 rows repeat the key"),
    "twice": ("INSERT INTO events SELECT 1 FROM generate_series(1, 3)", "3 rows repeat the key of another row"),
}


@pytest.mark.parametrize("kind", [*OFFENDERS])
def test_a_key_that_does_not_hold_is_refused_with_the_number_of_offenders_and_certified_as_refused(events, kind):
    shop = events.project
    statement, said = OFFENDERS[kind]
    shop.source.run(statement)
    refused = events.extract(DAY, check=False, keys={"public.events": ["id"]})
    assert f"public.events: the declared key (id) does not hold: {said}" in refused.text
    assert "keys` of tap-postgres" in refused.text
    assert not shop.landed()
    certified = shop.landing("certify", check=False, TAP_POSTGRES_KEYS='{"public.events": ["id"]}')
    assert certified.returncode == 1
    assert said in certified.stdout


@pytest.mark.parametrize(("keys", "said"), [
    ({"public.evnts": ["id"]}, "keys: the source has no table 'public.evnts'"),
    ({"public.events": ["idd"]}, "keys: public.events has no column idd. It has: id, at, v"),
    ({"public.events": []}, "keys: public.events has no column (none is given)"),
])
def test_a_key_that_names_what_does_not_exist_is_refused(events, keys, said):
    assert said in events.extract(DAY, check=False, keys=keys).text
    assert said in events.project.landing("certify", check=False, TAP_POSTGRES_KEYS=json.dumps(keys)).text


def test_a_unique_index_spares_the_check(events):
    shop = events.project
    shop.source.run("ALTER TABLE events ALTER id SET NOT NULL, ALTER v SET NOT NULL;"
                    "CREATE UNIQUE INDEX ON events (id) INCLUDE (v)")
    with contextlib.closing(shop.source.connect()) as connection, connection.cursor() as cursor:
        rows = sql.SQL("SELECT 1 / 0 AS at")  # fails if it is read
        assert problem(cursor, ("public", "events"), rows, ["id"]) is None
        assert problem(cursor, ("public", "events"), rows, ["id", "v"]) is None
        with pytest.raises(psycopg2.errors.DivisionByZero):
            problem(cursor, ("public", "events"), rows, ["at"])
    assert "lossless" in shop.landing("certify", TAP_POSTGRES_KEYS='{"public.events": ["id"]}').stdout
    events.extract(DAY, keys={"public.events": ["id"]})
    assert key(shop) == ["id"]


NOT_PROVEN = {
    "a nullable column that the index lacks": (
        "INSERT INTO events VALUES (101, '2024-01-01', NULL)", ["id", "v"], "v is NULL in 1 rows"),
    "a column that is NOT NULL from now on": (
        "INSERT INTO events VALUES (101, '2024-01-01', NULL);"
        "ALTER TABLE events ADD CONSTRAINT later NOT NULL v NOT VALID", ["id", "v"], "v is NULL in 1 rows"),
    "rows of a child, which the parent's index does not cover": (
        "CREATE TABLE later () INHERITS (events); INSERT INTO later VALUES (1)", ["id"],
        "1 rows repeat the key of another row"),
}


@pytest.mark.parametrize("kind", [*NOT_PROVEN])
def test_a_unique_index_that_does_not_prove_the_key_does_not_spare_the_check(events, kind):
    shop = events.project
    statement, columns, said = NOT_PROVEN[kind]
    shop.source.run(f"ALTER TABLE events ALTER id SET NOT NULL; CREATE UNIQUE INDEX ON events (id); {statement}")
    refused = events.extract(DAY, check=False, keys={"public.events": columns})
    assert f"public.events: the declared key ({', '.join(columns)}) does not hold: {said}" in refused.text
    assert not shop.landed()


def test_a_unique_index_of_a_partitioned_table_covers_its_partitions_and_spares_the_check(events):
    source = events.project.source
    source.run("CREATE TABLE parted (id integer NOT NULL UNIQUE) PARTITION BY RANGE (id);"
               "CREATE TABLE part PARTITION OF parted DEFAULT")
    with contextlib.closing(source.connect()) as connection, connection.cursor() as cursor:
        assert problem(cursor, ("public", "parted"), sql.SQL("SELECT 1 / 0 AS id"), ["id"]) is None


def test_the_key_holds_for_the_rows_that_are_extracted(events):
    events.project.source.run("INSERT INTO events VALUES (1, '2023-01-01')")
    narrowed = {"public-events": {"custom_where_clauses": ["at >= '2024-01-01'"]}}
    events.extract(DAY, keys={"public.events": ["id"]}, stream_options=narrowed)
    assert key(events.project) == ["id"]


def test_singers_metadata_declares_a_key_too_and_is_checked(shop):
    """`metadata: {public-notes: {table-key-properties: [order_id]}}` in meltano.yml."""
    text = (shop.folder / "meltano.yml").read_text()
    (shop.folder / "meltano.yml").write_text(text.replace(
        "      filter_schemas: [public]\n",
        "      filter_schemas: [public]\n    metadata:\n      public-notes:\n"
        "        table-key-properties: [order_id]\n"))
    refused = shop.meltano("run", "extract_postgres", check=False, DATESTAMP=DAY)
    assert "public.notes: the declared key (order_id) does not hold: 30 rows repeat the key" in refused.text
    assert not shop.landed()


def test_the_setting_in_meltano_yml_is_what_a_run_and_certify_use(shop):
    text = (shop.folder / "meltano.yml").read_text()
    (shop.folder / "meltano.yml").write_text(text.replace(
        "      filter_schemas: [public]\n",
        "      filter_schemas: [public]\n      keys:\n        public.notes: [order_id, note]\n"))
    certified = shop.landing("certify", check=False)
    assert "public.notes: the declared key (order_id, note) does not hold: 30 rows repeat the key" in certified.stdout
    shop.source.run("TRUNCATE notes; INSERT INTO notes VALUES (1, 'a'), (1, 'b')")
    assert shop.landing("certify").returncode == 0
    shop.meltano("run", "extract_postgres", DATESTAMP=DAY)
    keys = {table["name"]: table["primary_key"] for table in shop.manifest("postgres", DAY)["tables"]}
    assert keys == {"notes": ["order_id", "note"], "orders": ["order_id"]}


def test_settings_of_variables_are_those_that_meltano_loses_keys_of(events):
    """Meltano passes on a variable's object without its keys with a dot, and the variable."""
    shop, patch = events.project, events.monkeypatch
    patch.setenv("MELTANO_EXTRACTOR_NAME", "tap-shop")
    patch.setenv("TAP_SHOP_KEYS", '{"public.events": ["id"]}')
    patch.setenv("TAP_SHOP_INCREMENTAL", '{"public.events": {"full_every": 1}}')
    for day in (DAY, NEXT):
        events.extract(day, keys={}, incremental={}, by_keys={"public-events": "id"})
    assert key(shop) == ["id"]
    table, = shop.manifest("postgres", NEXT)["tables"]
    assert "increment" not in table
    patch.delenv("MELTANO_EXTRACTOR_NAME")
    patch.setenv("TARGET_POSTGRES_CHECKS", '{"postgres": {"public.events": {"min_rows": 1000}}}')
    meltano = shop.folder / "meltano.yml"
    meltano.write_text("jobs:\n- name: extract_postgres\n  tasks: [tap-postgres target-csv]\n")
    assert "min_rows: expected at least 1,000 rows, found 100" in events.load(DAY, check=False, checks={}).text
    patch.setenv("TARGET_POSTGRES_CHECKS", "[]")
    assert "TARGET_POSTGRES_CHECKS='[]' is not a JSON object" in events.load(DAY, check=False).text
