"""Increments of two sources, in an object store, over readers with old snapshots, and when a run is killed."""

import json
import sys

import psycopg2
import pytest
from chaos import HOOKED
from conftest import ROOT
from failpoints import SELF
from landed import InStore
from test_incremental import KEYS, STEPS, dates, day  # noqa: F401 (a fixture)


def test_two_sources_with_the_same_table_have_chains_of_their_own(dates, make_database):  # noqa: F811
    inside, first, second = dates.inside, dates.source, make_database("crm")
    second.run("CREATE TABLE items (id bigint PRIMARY KEY, name text, updated_at timestamptz);"
               "INSERT INTO items SELECT g, 'crm ' || g, now() FROM generate_series(1, 50) g")
    (dates.project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n- name: extract_crm\n")
    names = {"table_names": {"crm": "crm.{table}"}}
    for number, change in enumerate(STEPS[:2]):
        dates.change(change)
        dates.land(number)
        inside.use(source=second)
        second.run("UPDATE items SET name = %s, updated_at = now() WHERE id = 1", f"crm, {number}")
        inside.extract(day(number), source="crm", by_keys=KEYS)
        inside.use(source=first)
    dates.load(1, **names)
    dates.load(0, **names)
    tables = {source: dates.project.manifest(source, day(1))["tables"][0] for source in ("postgres", "crm")}
    assert {source: table["increment"]["total_rows"] for source, table in tables.items()} == {
        "postgres": 2000, "crm": 50}
    assert tables["crm"]["rows"] == 1
    assert dates.project.warehouse.one("SELECT count(*) FROM public.items WHERE name = 'b'") == 5
    assert dates.project.warehouse.one("SELECT count(*) FROM crm.items WHERE name = 'crm, 1'") == 1
    for number in range(2):
        assert inside.landing("verify", day(number)).returncode == 0


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_a_chain_in_an_object_store_lands_loads_and_is_verified(dates, store):  # noqa: F811
    zone = InStore(store, "increments é")
    dates.project.land_in(zone)
    for name, value in {"LANDING_ROOT": zone.root, **zone.variables}.items():
        dates.inside.monkeypatch.setenv(name, value)
    try:
        for number, change in enumerate([*STEPS, "DELETE FROM items WHERE id = 77"]):
            dates.change(change)
            dates.land(number)
        manifests = [json.loads(zone.read(f"source=postgres/extracted_at={day(number)}/_manifest.json"))
                     for number in range(4)]
        found = [next(table for table in one["tables"] if table["name"] == "items") for one in manifests]
        assert [table["rows"] for table in found] == [2000, 5, 5, 1999]
        assert found[3]["full_because"].startswith("1 rows were deleted")
        listed = {file["path"] for one in manifests for table in one["tables"] for file in table["files"]}
        there = [key for key in zone.keys("source=") if not key.endswith("_manifest.json")]
        assert len(there) == len(listed), "nothing is left of the change that was not all"
        dates.load(2)
        dates.load(1)
        for number in (1, 2):
            assert dates.inside.landing("verify", day(number)).returncode == 0
        removed = dates.inside.landing("gc", "--keep-days", "0").stdout
        assert "landed date" not in removed, "the other table of the newest stands on them"
    finally:
        zone.remove()


def test_a_reader_with_an_older_snapshot_sees_the_rows_of_an_increment(dates):  # noqa: F811
    dates.land(0)
    dates.load(0)
    dates.change(STEPS[1])
    dates.land(1)
    reader = psycopg2.connect(**dates.project.warehouse.dsn())
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with reader.cursor() as cursor:
        cursor.execute("SELECT 1")
        dates.load(1, lock_timeout=1)
        cursor.execute("SELECT count(*) FROM public_history.items WHERE extracted_at = %s", (day(1),))
        assert cursor.fetchone() == (2000,)
    reader.close()
    assert not dates.project.unproved(day(0), day(1))
    assert dates.inside.landing("plan", "--from", day(0), "--to", day(1)).stdout.count("identical") == 2


class Killed:
    """Runs of a target that is killed where it is about to do something."""

    def __init__(self, dates, program):  # noqa: F811
        self.dates, self.project, self.program = dates, dates.project, program
        self.hooked = self.project.folder / "hooked" / program
        self.hooked.parent.mkdir()
        self.hooked.write_text(HOOKED.format(python=sys.executable, tests=str(ROOT / "tests")))
        self.hooked.chmod(0o700)
        catalog = self.project.folder / "catalog.json"
        catalog.write_text(json.dumps(dates.inside.tap_postgres(KEYS).input_catalog.to_dict()))
        self.tap = ([*self.project.tap_postgres(), "--catalog", str(catalog)] if program == "landing-target-csv" else
                    self.project.tap_landed())
        target = self.project.target_csv() if program == "landing-target-csv" else self.project.target_postgres()
        self.target = [str(self.hooked), *target[1:]]

    def run(self, number, **fault):
        variables = {"DATESTAMP": day(number), "EXTRACTED_AT": day(number), "REEXTRACT": "true", "RELOAD": "true"}
        sent = self.project.run(self.tap, **variables)
        assert sent.returncode == 0, sent.text
        fault = json.dumps({"in": self.program, "log": str(self.project.folder / "faults.jsonl"), **fault})
        return self.project.run(self.target, sent.stdout, FAULT=fault, **variables).returncode

    def boundaries(self, number):
        log = self.project.folder / "faults.jsonl"
        assert self.run(number) == 0
        noted = [json.loads(line) for line in log.read_text().splitlines()]
        return [(one["number"], one["what"]) for one in noted]


def test_a_killed_extract_leaves_the_increment_as_it_was_and_the_next_one_heals(dates):  # noqa: F811
    dates.land(0)
    dates.change(STEPS[1])
    killed = Killed(dates, "landing-target-csv")
    boundaries = killed.boundaries(1)
    runs = [dates.project.manifest("postgres", day(1))["run_id"]]
    dates.change(STEPS[2])
    for number, _ in [one for one in boundaries if "_manifest.json" in one[1]]:
        for at in (number, number + 1):
            assert killed.run(1, at=at, kill=SELF) != 0
            runs.append(dates.project.manifest("postgres", day(1))["run_id"])
            dates.load(1)
            assert not dates.project.unproved(day(1))
    assert len({*runs}) > 1, "some were killed after the commit point"
    assert len({*runs}) < len(runs), "some were killed before it"
    dates.land(1)
    dates.land_whole(1)
    dates.load(1)
    dates.load_whole(1)
    dates.require_same(1)
    assert dates.table(1)["increment"]["base"] == day(0)


def test_a_killed_load_of_an_increment_changes_nothing_and_the_next_one_heals(dates):  # noqa: F811
    for number, change in enumerate(STEPS[:2]):
        dates.change(change)
        dates.land(number)
    dates.land_whole(1)
    dates.load_whole(1)
    killed = Killed(dates, "landing-target-postgres")
    boundaries = killed.boundaries(1)
    before = dates.rows("public", 1, "items")
    wanted = ("SQL DELETE FROM", "SQL INSERT INTO", "SQL COMMIT")
    chosen = {what: number for number, what in boundaries if what.startswith(wanted)}
    assert {what[:10] for what in chosen} == {one[:10] for one in wanted}
    for what, number in chosen.items():
        assert killed.run(1, at=number, kill=SELF) != 0, what
        assert dates.rows("public", 1, "items") == before, what
    dates.load(1)
    dates.require_same(1)
