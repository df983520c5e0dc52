"""Versioned SQL files are run once each, in order, before a load; what was run is never changed afterwards."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT

DAY = "2024-01-20"
PAGE = (ROOT / "docs/how-to/migrations.md").read_text()
DOCUMENTED = [block.split("\n```")[0] for block in PAGE.split("```text\n")[1:]]
VIEW = "CREATE VIEW by_customer AS SELECT 1 AS customer;\nINSERT INTO ran VALUES (1);\n"


@pytest.fixture
def migrated(inside):
    """A project with a first migration; write(name, text) writes another."""
    folder = inside.project.folder / "load/migrations"
    folder.mkdir(parents=True)
    inside.extract(DAY)
    inside.extract(DAY, "csv")
    inside.write = lambda name, text: (folder / name).write_bytes(text.encode())
    inside.remove = lambda name: (folder / name).unlink()
    inside.write("V001__ran.sql", "CREATE TABLE ran (version integer);")
    return inside


def applied(inside):
    return inside.project.warehouse.run("SELECT version, name FROM public_history._migrations ORDER BY 1")


def test_each_is_run_once_in_order_of_its_number_before_a_load_and_recorded(migrated):
    migrated.write("V10__view.sql", VIEW)
    migrated.write("V002__more.sql", "-- %s and '%'\nINSERT INTO ran VALUES (2);\r\nSELECT 1;")
    migrated.write("README.md", "not one of them")
    plan = migrated.landing("plan", "--from", DAY, "--to", DAY)
    assert "The next load first runs the migrations V001__ran.sql, V002__more.sql, V10__view.sql." in plan.stdout
    migrated.load(DAY)
    migrated.load(DAY)
    assert applied(migrated) == [(1, "V001__ran.sql"), (2, "V002__more.sql"), (10, "V10__view.sql")]
    assert migrated.project.warehouse.run("SELECT version FROM ran ORDER BY 1") == [(1,), (2,)]
    migrated.write("V002__more.sql", "-- %s and '%'\nINSERT INTO ran VALUES (2);\nSELECT 1;")  # other line ends
    migrated.write("V11__last.sql", "INSERT INTO ran VALUES (11)")
    plan = json.loads(migrated.landing("plan", "--from", DAY, "--to", DAY, "--json").stdout)
    assert plan["migrations"] == ["V11__last.sql"]
    migrated.load(DAY)  # already loaded: migrations are run all the same
    assert applied(migrated)[-1] == (11, "V11__last.sql")


def test_the_schema_of_the_load_is_the_first_of_the_search_path_and_has_its_own_record(migrated):
    migrated.load(DAY)
    migrated.load(DAY, default_target_schema='other "s')
    assert migrated.project.warehouse.run("SELECT schemaname FROM pg_tables WHERE tablename = 'ran' ORDER BY 1") == [
        ('other "s',), ("public",)]
    assert migrated.project.warehouse.one('SELECT count(*) FROM "other ""s_history"._migrations') == 1


def test_two_loads_at_once_run_each_once(migrated):
    """The one that comes later waits for the other's lock, and finds them run."""
    migrated.write("V002__slow.sql", "INSERT INTO ran VALUES (2); SELECT pg_sleep(1)")
    shop = migrated.project
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(shop.pipe, shop.tap_landed(), shop.target_postgres(), EXTRACTED_AT=DAY)
                   for _ in range(2)]
        said = "".join(one.result().text for one in running)
    assert said.count("Ran the migration V002__slow.sql") == 1
    assert shop.warehouse.run("SELECT version FROM ran") == [(2,)]
    assert applied(migrated) == [(1, "V001__ran.sql"), (2, "V002__slow.sql")]
    assert "is already loaded: nothing changed" in said


@pytest.mark.parametrize(("text", "reason"), [
    ("INSERT INTO ran VALUES (2);\nSELECT gone\nFROM ran;", ' failed in line 2: column "gone" does not exist'),
    ("INSERT INTO ran VALUES (2);\nCOMMIT;\nSELECT 1/0", " failed"),
    ("INSERT INTO ran VALUES (2);\nSELECT 1/0", " failed: division by zero. It left nothing in public"),
    ("INSERT INTO ran VALUES (2);\nVACUUM ran", " failed: VACUUM cannot"),
])
def test_one_that_fails_leaves_nothing_and_stops_the_load(migrated, text, reason):
    migrated.write("V002__bad.sql", text)
    migrated.write("V003__next.sql", "INSERT INTO ran VALUES (3)")
    result = migrated.load(DAY, check=False)
    assert result.returncode
    assert f"The migration V002__bad.sql{reason}" in result.text
    assert "Nothing was loaded. Correct it, and load again." in result.text
    warehouse = migrated.project.warehouse
    assert warehouse.run("SELECT * FROM ran") == []
    assert applied(migrated) == [(1, "V001__ran.sql")]
    assert warehouse.one("SELECT count(*) FROM public_history._loads") == 0
    migrated.write("V002__bad.sql", "INSERT INTO ran VALUES (2)")
    migrated.load(DAY)
    assert warehouse.run("SELECT version FROM ran ORDER BY 1") == [(2,), (3,)]


def test_a_changed_or_missing_old_file_or_a_gap_that_is_filled_later_is_refused(migrated):
    migrated.write("V003__three.sql", "SELECT 3")
    migrated.load(DAY)
    migrated.write("V002__two.sql", "SELECT 2")
    assert ("The migration V002__two.sql comes before V003__three.sql, which was run in public. Nothing was loaded. "
            "Give it a number above 3, and load again.") in migrated.load(DAY, check=False).text
    migrated.remove("V002__two.sql")
    migrated.write("V003__three.sql", "SELECT 4")
    changed = migrated.load(DAY, check=False).text
    assert "The migration V003__three.sql was changed since it was run in public: expected SHA-256 " in changed
    assert changed.splitlines()[-1] != migrated.landing("plan", "--from", DAY, "--to", DAY, check=False).text
    migrated.remove("V003__three.sql")
    result = migrated.landing("plan", "--from", DAY, "--to", DAY, check=False)
    assert result.returncode
    assert "The migration V003__three.sql was run in public, and its file is missing" in result.text
    migrated.remove("V001__ran.sql")  # as a project without any, which loads another source into the same SCHEMA
    migrated.load(DAY)


@pytest.mark.parametrize(("name", "reason"), [
    ("two.sql", "two.sql is not named as a migration. Expected V<number>__<words>.sql"),
    ("V0001__again.sql", "has two migrations of version 1: V0001__again.sql and V001__ran.sql"),
])
def test_a_file_whose_name_is_not_one_is_refused(migrated, name, reason):
    migrated.write(name, "SELECT 1")
    assert reason in migrated.load(DAY, check=False).text


def test_a_folder_that_is_declared_and_does_not_exist_is_refused(migrated):
    assert "'sql', and " in (text := migrated.load(DAY, check=False, migrations="sql").text)
    assert "is not a folder" in text


def test_the_documented_messages_are_those_of_a_load(migrated):
    """Each message as it is documented, `…` for what differs."""
    plan, changed, before, failed = (re.escape(message).replace("…", ".*") for message in DOCUMENTED)
    migrated.remove("V001__ran.sql")
    migrated.load(DAY)
    migrated.write("V001__orders_by_customer.sql", PAGE.split("```sql\n")[1].split("```")[0])
    assert re.search(plan, migrated.landing("plan", "--from", DAY, "--to", DAY).stdout)
    migrated.write("V002__bad.sql", "SELECT * FROM orders_by_customer;\nSELECT gone FROM orders")
    assert re.search(failed, migrated.load(DAY, check=False).text)
    assert migrated.project.warehouse.one("SELECT sum(orders) FROM orders_by_customer") == 100
    migrated.remove("V002__bad.sql")
    migrated.write("V003__three.sql", "SELECT 3")
    migrated.load(DAY)
    migrated.write("V002__two.sql", "SELECT 2")
    assert re.search(before, migrated.load(DAY, check=False).text)
    migrated.write("V001__orders_by_customer.sql", "CREATE TABLE other (version integer)")
    assert re.search(changed, migrated.load(DAY, check=False).text)
