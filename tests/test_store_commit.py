"""A date on an object store is the date in a folder, byte for byte, and is committed as atomically, without a lock."""

import json
import re
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from chaos import BrokenError, Reader
from landing.core.errors import FrozenError
from landing.model.manifest import Manifest
from landing.model.naming import RUN_ID, new_run_id
from landing.model.schema import Column, File, Table
from landing.storage import hashing
from landing.zone.commit import commit
from landing.zone.landing_zone import LandingZone
from store_chaos import LOGS, left_over, whole
from stores import SOUND

DAY = "2024-03-01"
HARD = Path(__file__).with_name("hard_table.sql").read_text()
PARTITION = f"source=csv/extracted_at={DAY}"
RACERS = 8
every_store = pytest.mark.parametrize("store", SOUND, indirect=True)


def files(landed):
    """Landed files by their key without the run's id, and all that manifests say of their tables."""
    contents, tables = {}, {}
    for key, content in landed.items():
        if key.endswith("/_manifest.json"):
            tables[key] = json.loads(re.sub(RUN_ID, "<run>", content.decode()))["tables"]
        elif key.startswith("source="):
            contents[re.sub(RUN_ID, "<run>", key)] = content
    return contents, tables


@every_store
def test_a_date_has_the_same_bytes_in_a_folder_and_in_a_store_and_loads_from_there(project, store):
    project.source.run(HARD)
    root = store.url()
    project.land(DAY)
    project.land(DAY, **store.variables(root))
    in_folder, in_store = files(project.landed()), files(store.content(root))
    assert in_store == in_folder
    assert sum(map(len, in_store[0].values())) > 1000
    project.load(DAY, **store.variables(root))
    assert "7 of 7 tables equal" in project.landing("verify", DAY, **store.variables(root)).stdout


class Race:
    """Runs that commit the same date of two tables at once, each with rows of its own, and a reader who looks on."""

    def __init__(self, store, monkeypatch):
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        self.store, self.root, self.outcomes = store, store.url(), {}

    def run(self, check, keep=False):
        """`check(zone)` and `keep` are the commit's. Runs by number: None if they committed, else why not."""
        together = threading.Barrier(RACERS)
        threads = [threading.Thread(target=self._run, args=(number, together, check, keep)) for number in range(RACERS)]
        with Reader(self.landed) as reader:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(self.outcomes) == RACERS
        assert reader.seen <= {None, *map(str, range(RACERS))}
        return self.outcomes

    def _run(self, number, together, check, keep):
        zone, run, day = LandingZone.at(self.root), new_run_id(), date.fromisoformat(DAY)
        tables, staged = [], {}
        for name in ("one", "two"):
            place = zone.work(run, "csv", day).file(f"table={name}", ".csv")
            with hashing.create(place) as file:
                file.write(b"run\n%d\n" % number)
            tables.append(Table(stream=name, name=name, primary_key=[], columns=[Column("run", "integer", True)],
                                files=[File.at(place, 1, file.size, file.sha256)]))
            staged[name] = [place]
        manifest = Manifest(source="csv", extracted_at=day, run_id=run, taken_at=datetime.now(UTC), seconds=0,
                            snapshot={}, software={}, tables=tables, declared=["csv"])
        together.wait()
        try:
            commit(zone, manifest, staged, lambda: check(zone), keep=keep)
            self.outcomes[number] = None
        except FrozenError as frozen:
            self.outcomes[number] = frozen
            zone.withdraw(run, "csv", day)

    def landed(self):
        """The run whose rows both tables have; None where nothing is landed."""
        found = whole(self.store, self.root, PARTITION)
        runs = {one.split()[-1].decode() for one in found}
        if found and (len(found), len(runs)) != (2, 1):
            raise BrokenError(f"tables of two runs: {found}")
        return runs.pop() if found else None

    def left(self):
        return left_over(self.store, self.root, PARTITION)


@pytest.fixture
def race(store, monkeypatch):
    return Race(store, monkeypatch)


@every_store
def test_runs_of_one_date_at_once_replace_one_another_and_no_reader_sees_half(race):
    outcomes = race.run(lambda zone: None)
    assert [*outcomes.values()] == [None] * RACERS
    assert race.landed() in set(map(str, outcomes))
    assert race.left() == []


@every_store
def test_of_runs_that_must_not_replace_a_date_one_lands_it(race):
    def refuse_landed(zone):
        if zone.manifest("csv", date.fromisoformat(DAY)):
            raise FrozenError("it is landed")

    outcomes = race.run(refuse_landed)
    assert [race.landed()] == [str(number) for number, why in outcomes.items() if why is None]
    assert race.left() == []


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_runs_of_a_past_date_at_once_land_it_once_and_end_well(shop, store):
    root, results = store.url(), []
    threads = [threading.Thread(target=lambda: results.append(
        shop.land(DAY, "postgres", check=False, **store.variables(root)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.returncode for one in results] == [0] * 3, [one.text for one in results if one.returncode]
    assert sum("Landed postgres of" in one.text for one in results) == 1
    assert len([key for key in store.content(root) if "/table=" in key]) == 2
    assert not [key for key in store.content(root) if key.startswith("_staging")]


@pytest.mark.parametrize("store", ["rclone"], indirect=True)
def test_a_store_that_ignores_conditions_is_refused_before_anything_is_landed(shop, store):
    root = store.url()
    result = shop.land(DAY, "postgres", check=False, **store.variables(root))
    assert result.returncode
    assert "this store ignores conditions" in result.text
    assert "Traceback" not in result.text
    assert not [key for key in store.content(root) if not key.startswith(LOGS)]
