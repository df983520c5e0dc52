"""A relation that cannot be read is left out with a word if it holds no data by nature, and else refused by name."""

import contextlib
import json
import re

import pytest
from conftest import running

DAY = "2024-01-20"


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
