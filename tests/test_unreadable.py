"""A relation that cannot be read is left out with a word if it holds no data by nature, and else refused by name."""

import contextlib
import json
import re

import pytest
from conftest import running

DAY, NEXT, THIRD, FOURTH = "2024-01-20", "2024-01-21", "2024-01-22", "2024-01-23"


def test_a_materialized_view_without_data_is_left_out_with_a_word(inside):
    shop = inside.project
    shop.source.run("CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM orders WITH NO DATA;"
                    "CREATE VIEW above AS SELECT * FROM totals")
    text = inside.extract(DAY).text
    assert "public.totals is left out: the materialized view public.totals is not populated" in text
    assert "public.above is left out: the materialized view public.totals is not populated" in text
    manifest = shop.manifest("postgres", DAY)
    assert [table["name"] for table in manifest["tables"]] == ["notes", "orders"]
    assert manifest["left_out"] == dict.fromkeys(("public-above", "public-totals"),
                                                 "the materialized view public.totals is not populated")
    shown = json.loads(shop.landing("certify", "--json").stdout)["columns"]
    assert {one["table"] for one in shown if one["verdict"] == "left out"} == {"above", "totals"}
    shop.source.run("REFRESH MATERIALIZED VIEW totals")
    inside.extract(DAY)
    manifest = shop.manifest("postgres", DAY)
    assert len(manifest["tables"]) == 4
    assert "left_out" not in manifest
    inside.extract(DAY, "csv")
    inside.load(DAY)
    assert inside.proved(DAY)


@pytest.fixture
def totals(inside):
    """A materialized view and a view of it, landed and loaded with data on the first day."""
    source = inside.project.source
    source.run("CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS c FROM orders;"
               "CREATE VIEW above AS SELECT c + 1 AS c FROM totals")
    inside.extract(DAY, "csv")
    inside.extract(DAY)
    inside.load(DAY)
    assert shown(inside) == ([(100,)], None)
    source.run("REFRESH MATERIALIZED VIEW totals WITH NO DATA")
    return inside


def shown(inside):
    """The rows of the view, which the view of a view confirms, and its comment."""
    run = inside.project.warehouse.run
    rows = run("TABLE totals")
    assert run("TABLE above") == [(c + 1,) for c, in rows]
    return rows, inside.project.warehouse.one("SELECT obj_description('totals'::regclass)")


def versions(inside):
    """Of the load history and of the views."""
    return inside.project.warehouse.run("SELECT xmin::text FROM public_history._loads UNION ALL SELECT xmin::text FROM "
                                        "pg_rewrite WHERE ev_class IN ('totals'::regclass, 'above'::regclass)")


def loaded(inside, day, **settings):
    for source in ("csv", "postgres"):
        inside.extract(day, source)
    text = inside.load(day, **settings).text
    assert inside.proved(day)
    return text


@pytest.mark.parametrize("batches", [True, False])
def test_a_view_keeps_its_last_date_while_its_materialized_view_has_no_data(totals, batches):
    said = "postgres of {} has no data for public-above, public-totals, so nothing is loaded for them. Their views keep"
    for day in (NEXT, THIRD):
        assert said.format(day) in loaded(totals, day, batches=batches)
        assert shown(totals) == ([(100,)], f"No data at the source since {NEXT}: shows {DAY}.")
        before = versions(totals)
        totals.load(day, batches=batches)
        assert versions(totals) == before
    totals.project.source.run("INSERT INTO orders SELECT 1000 + order_id, customer, freight FROM orders;"
                              "REFRESH MATERIALIZED VIEW totals")
    loaded(totals, FOURTH)
    assert shown(totals) == ([(200,)], None)


def test_a_date_without_data_is_neither_a_change_of_the_table_nor_the_end_of_the_date_that_is_shown(totals):
    loaded(totals, NEXT)
    changes = {one["table"]: one for one in json.loads(totals.landing("diff", DAY, NEXT, "--json").stdout)}
    assert [changes["totals"][name] for name in ("inserted", "deleted", "note")] == [
        0, 0, f"no data at the source on {NEXT}"]
    assert "public-totals: left out, the materialized view public.totals is not populated" in totals.landing(
        "show", NEXT).stdout
    totals.landing("gc", "--keep-days", "0", "--yes")
    assert shown(totals)[0] == [(100,)]
    assert "further back or become empty" in totals.landing("drop", DAY).stdout
    totals.landing("drop", DAY, "--yes")
    assert shown(totals) == ([], "No loaded date has it.")


def test_a_view_that_an_older_version_emptied_shows_its_last_date_after_the_next_load_of_the_newest(totals):
    loaded(totals, NEXT)
    totals.project.warehouse.run("ALTER TABLE public_history._loads DROP COLUMN without_data")
    totals.load(DAY, reload=True)
    assert shown(totals) == ([], f"Not in the source since {NEXT}: see public_history.")
    totals.load(NEXT)
    assert shown(totals) == ([(100,)], f"No data at the source since {NEXT}: shows {DAY}.")


def test_an_older_date_has_the_rows_for_a_view_without_newer_data(totals):
    loaded(totals, THIRD)
    totals.landing("drop", DAY, "--yes")
    totals.project.source.run("REFRESH MATERIALIZED VIEW totals")
    loaded(totals, NEXT)
    assert shown(totals) == ([(100,)], f"No data at the source since {THIRD}: shows {NEXT}.")
    totals.landing("drop", THIRD, "--yes")
    assert shown(totals) == ([(100,)], None)


def test_a_relation_that_the_source_dropped_after_a_date_without_data_is_gone_since_then(totals):
    loaded(totals, NEXT)
    totals.project.source.run("DROP MATERIALIZED VIEW totals CASCADE")
    loaded(totals, THIRD)
    assert shown(totals) == ([], f"Not in the source since {THIRD}: see public_history.")


def test_a_date_is_not_replaced_by_one_without_the_data_of_a_relation_unasked(totals, monkeypatch):
    refused = totals.extract(DAY, check=False)
    assert ("this run left out table public-above (the materialized view public.totals is not populated), table "
            "public-totals (the materialized view public.totals is not populated)") in refused.text
    assert "REFRESH MATERIALIZED VIEW at the source, or leave it out on purpose: ALLOW_FEWER_TABLES" in refused.text
    totals.load(DAY)
    assert shown(totals) == ([(100,)], None)
    monkeypatch.setenv("ALLOW_FEWER_TABLES", "true")
    loaded(totals, DAY)
    assert shown(totals) == ([], "No loaded date has it.")


BROKEN = {
    "raises": "CREATE VIEW broken AS SELECT 1 / (order_id - 50) AS v FROM orders",
    "away": "CREATE EXTENSION file_fdw; CREATE SERVER away FOREIGN DATA WRAPPER file_fdw;"
            "CREATE FOREIGN TABLE broken (a integer) SERVER away OPTIONS (filename '/nowhere/x')",
}


@pytest.mark.parametrize("kind", [*BROKEN])
@pytest.mark.parametrize("settings", [{}, {"use_batch": False}, {"connections": 1}])
def test_what_has_data_and_cannot_be_read_is_refused_by_name_and_never_run_again(inside, kind, settings):
    shop = inside.project
    shop.source.run(BROKEN[kind])
    text = inside.extract(DAY, check=False, **settings).text
    assert "Table public.broken could not be read completely" in text
    assert 'or leave it out: `select: ["*.*", "!public-broken.*"]` for tap-postgres' in text
    assert "Run again" not in text.split("The input ended")[0]
    assert "unhandled error" not in text
    assert not shop.landed()


@pytest.fixture
def limited(inside):
    """The source by a role that may not read everything."""
    source = inside.project.source
    source.run("CREATE ROLE limited LOGIN PASSWORD 'x'; GRANT SELECT ON orders TO limited")
    yield inside, {"user": "limited", "password": "x"}
    source.run("DROP OWNED BY limited; DROP ROLE limited")


def test_all_tables_without_the_right_to_read_are_named_at_once(limited):
    inside, role = limited
    inside.project.source.run("CREATE TABLE more (id integer)")
    text = inside.extract(DAY, check=False, **role).text
    assert "Permission denied on source tables: public.more, public.notes" in text
    assert "source_reader.sql" in text


def test_a_policy_that_would_hide_rows_is_refused_with_the_right_that_is_missing(limited):
    inside, role = limited
    inside.project.source.run("GRANT SELECT ON notes TO limited; ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
    text = inside.extract(DAY, check=False, **role).text
    assert "Table public.notes could not be read completely: query would be affected by row-level security" in text
    assert "BYPASSRLS" in text
    assert "Run again" not in text.split("The input ended")[0]


@pytest.mark.parametrize("connections", [1, 2])
def test_only_the_table_that_failed_is_named(inside, connections):
    """The SDK names the stream that it waits for, whichever failed."""
    inside.project.source.run("CREATE VIEW zzz AS SELECT 1 / (order_id - 50) AS v FROM orders;"
                              "CREATE VIEW aaa AS SELECT pg_sleep(0.2)::text AS a")
    text = inside.extract(DAY, check=False, connections=connections).text
    assert "public.zzz" in text
    assert not re.search(r"error.*public.(aaa|notes|orders)", text, re.IGNORECASE)


@pytest.fixture(scope="module")
def standby():
    """Settings for a server in recovery, which is what a standby is: it has an unlogged table, without its rows."""
    with running() as server:
        with contextlib.closing(server.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 1 AS a; CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS a")
            connection.commit()
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        yield {"host": "127.0.0.1", "port": server.port, "database": "postgres", "user": server.user,
               "password": server.password}


def test_an_unlogged_table_on_a_standby_is_refused_by_name_before_anything_is_read(inside, standby):
    text = inside.extract(DAY, check=False, **standby).text
    assert "Unlogged on a standby, which does not have its rows: public.fleeting" in text
    assert '`select: ["*.*", "!public-fleeting.*"]`' in text
    assert "Run again" not in text.split("The input ended")[0]
    variables = {f"SOURCE_POSTGRES_{name}": str(standby[key]) for name, key in (
        ("HOST", "host"), ("PORT", "port"), ("DB", "database"), ("USER", "user"), ("PASSWORD", "password"))}
    certified = inside.project.landing("certify", check=False, **variables)
    assert certified.returncode == 1
    assert "Unlogged on a standby" in certified.stdout
    assert "kept" not in certified.stderr
