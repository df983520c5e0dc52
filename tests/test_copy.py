"""`landing copy` brings dates to another root: the same bytes under the same names, or nothing, verified."""

import contextlib
import errno
import io
import json
import threading
from datetime import date

import pytest
from click.testing import CliRunner
from in_process import serverless
from landing.cli.main import main
from landing.core.errors import DamagedError, FrozenError, ZoneError
from landing.model.manifest import sealed
from landing.storage import hashing, local
from landing.storage.base import Object
from landing.storage.local import LocalStorage
from landing.zone import layout, run_log
from landing.zone.copy import COPIED, REPLACED, THERE, PartitionCopy
from landing.zone.landing_zone import LandingZone
from zones import Killed, killed, land, landed_file

D1, D2 = "2024-01-20", "2024-01-21"


@pytest.fixture
def zones(tmp_path):
    """A landing zone with a date, and another root that does not exist yet."""
    here = LandingZone.at(tmp_path / "output")
    land(here)
    return here, LandingZone.at(tmp_path / "some" / "where")


def partition(zone, source="postgres", day=D1):
    """Content of a partition's files, by path."""
    folder = zone.storage.root / layout.partition(source, date.fromisoformat(day))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(zone):
    """As partition(), without files of which the manifest knows nothing."""
    manifest = zone.require("postgres", date.fromisoformat(D1))
    paths = {"_manifest.json", *(file.path for table in manifest.tables for file in table.all_files)}
    return {path: content for path, content in partition(zone).items() if path in paths}


def copy(here, there, day=D1, source="postgres", replace=False):
    return PartitionCopy(here, there, source, date.fromisoformat(day), replace=replace).run()


def staging(zone):
    return zone.storage.prefixes(layout.STAGING)


def test_a_copied_date_loads_and_is_verified_from_the_other_root(inside, tmp_path_factory):
    project, there = inside.project, tmp_path_factory.mktemp("elsewhere")
    for source in ("postgres", "csv"):
        inside.extract(D1, source, compression="zstd" if source == "csv" else "none")
    said = project.landing("copy", D1, "--to", str(there))
    assert ": 2 copied, " in said.stdout
    assert "orders: 100 rows" in said.stderr
    here = project.landed()
    assert {str(path.relative_to(there)): path.read_bytes() for path in there.glob("source=*/**/*")
            if path.is_file()} == here
    inside.monkeypatch.setenv("LANDING_ROOT", str(there))
    inside.load(D1)
    assert inside.proved(D1)
    attempts = json.loads(inside.landing("show", D1, "--json").stdout)["sources"][0]["attempts"]
    assert [(one["outcome"], one["landed"]) for one in attempts] == [
        ("committed", project.manifest("postgres", D1)["run_id"])]
    assert inside.landing("gc", "--older-than", "0").stdout == "Nothing to remove.\n"


def test_every_kind_of_file_is_copied_as_it_is_stored_with_the_manifests_very_bytes(zones):
    here, there = zones
    done = copy(here, there)
    assert (done.outcome, done.tables, done.rows) == (COPIED, 4, 12)
    assert partition(there) == partition(here)
    assert len(partition(there)) == 7
    assert staging(there) == []


def test_fields_of_a_later_version_are_copied_too(zones):
    here, there = zones
    path = here.storage.root / layout.manifest("postgres", date.fromisoformat(D1))
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"of_a_later_version": [1]})))
    copy(here, there)
    assert partition(there) == partition(here)


def test_a_date_that_is_there_already_is_neither_written_nor_logged_again(zones):
    here, there = zones
    copy(here, there)
    before = {path: path.stat().st_mtime_ns for path in there.storage.root.rglob("*")}
    assert copy(here, there).outcome == THERE
    assert {path: path.stat().st_mtime_ns for path in there.storage.root.rglob("*")} == before


def test_another_runs_date_is_replaced_only_on_demand_and_its_files_go(zones):
    here, there = zones
    other = land(there, rows=9)
    before = partition(there)
    with pytest.raises(FrozenError, match=f"has {other}.*--replace"):
        copy(here, there)
    assert partition(there) == before
    assert copy(here, there, replace=True).outcome == REPLACED
    assert partition(there) == partition(here)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {"flipped": flipped, "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
          "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"), "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("table", ["a", "g", "z"])
def test_a_damaged_file_is_named_and_nothing_is_committed_there(zones, damage, table):
    here, there = zones
    found = max((here.storage.root / layout.partition("postgres", date.fromisoformat(D1))).glob(f"table={table}/*"))
    DAMAGE[damage](found)  # of table a its rejected rows
    with pytest.raises(DamagedError, match=found.name):
        copy(here, there)
    assert not there.storage.exists("source=postgres")
    assert staging(there) == []
    last = run_log.read(there.storage, "postgres", date.fromisoformat(D1))[-1]
    assert (last.outcome, last.error) == ("failed", "DamagedError")


def test_damage_there_is_refused_and_healed_on_demand(zones):
    here, there = zones
    copy(here, there)
    folder = there.storage.root / layout.partition("postgres", date.fromisoformat(D1))
    for pattern, damage in (("table=g/*", "gone"), ("_manifest.json", "flipped")):
        DAMAGE[damage](next(folder.glob(pattern)))
        with pytest.raises(DamagedError, match="--replace"):
            copy(here, there)
        copy(here, there, replace=True)
        assert partition(there) == partition(here)


def test_a_date_that_is_replaced_here_meanwhile_is_not_called_damaged(zones, monkeypatch):
    here, there = zones
    read = hashing.copy

    def replacing(*arguments):
        monkeypatch.setattr(hashing, "copy", read)
        land(here, rows=5)
        return read(*arguments)

    monkeypatch.setattr(hashing, "copy", replacing)
    with pytest.raises(ZoneError, match=r"was replaced in .* while it was read") as refused:
        copy(here, there)
    assert not isinstance(refused.value, DamagedError)
    assert not there.storage.exists("source=postgres")
    assert copy(here, there).outcome == COPIED


def test_a_full_disk_there_is_not_taken_for_damage_here(zones, monkeypatch):
    here, there = zones

    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(there.storage, "create", lambda _: Full())
    with pytest.raises(ZoneError, match=r"some/where.* cannot be written .*No space left") as refused:
        copy(here, there)
    assert not isinstance(refused.value, DamagedError)
    assert partition(there) == {}


def test_what_does_not_read_back_as_it_was_written_is_not_committed(zones, monkeypatch):
    here, there = zones
    manifest = here.storage.read(layout.manifest("postgres", date.fromisoformat(D1)), 1 << 20)
    monkeypatch.setattr(there.storage, "open", lambda _: io.BytesIO(manifest))
    with pytest.raises(ZoneError, match="does not read back as it was written"):
        copy(here, there)
    assert partition(there) == {}


def test_a_copy_that_is_killed_at_any_step_is_completed_by_the_next_one(zones, monkeypatch):
    here, there = zones
    monkeypatch.setattr(local, "sync", lambda _: None)
    before = land(there, rows=7)
    kept, killed_at, done = partition(there), 0, False
    while not done:
        killed_at += 1
        with monkeypatch.context() as patch:
            begun = killed(patch, killed_at)
            with contextlib.suppress(Killed):
                copy(here, there, replace=True)
        done = len(begun) < killed_at
        manifest = there.require("postgres", date.fromisoformat(D1))
        assert listed(there) == (kept if manifest.run_id == before else partition(here))
        copy(here, there, replace=True)
        assert listed(there) == partition(here)
        before, kept = land(there, rows=7), partition(there)
    assert killed_at > 20


def at_once(here, root):
    """What becomes of four copies that begin together."""
    outcomes, start = [], threading.Barrier(4)

    def run():
        there = root()
        start.wait()
        outcomes.append(copy(here, there).outcome)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return outcomes


def test_of_copies_at_once_one_commits_and_all_succeed(zones):
    here, there = zones
    outcomes = at_once(here, lambda: there)
    assert sorted(outcomes) == [THERE] * 3 + [COPIED]
    assert partition(there) == partition(here)


@pytest.fixture
def landed(tmp_path):
    """A project without servers, with three landed partitions, and its `landing` command."""
    with serverless(tmp_path, D1) as root:
        for day, source in ((D1, "a"), (D1, "b"), (D2, "a")):
            land(LandingZone.at(root), day, source)
        yield lambda *arguments: CliRunner().invoke(main, arguments)


def copied(result):
    return [(one["source"], one["extracted_at"], one["outcome"]) for one in json.loads(result.stdout)["partitions"]]


def test_dates_a_source_or_all_are_copied(landed, tmp_path):
    to = ("--to", str(tmp_path / "to"), "--json")
    assert copied(landed("copy", D1, "--source", "b", *to)) == [("b", D1, COPIED)]
    assert copied(landed("copy", D2, D1, D2, *to)) == [("a", D1, COPIED), ("b", D1, THERE), ("a", D2, COPIED)]
    assert copied(landed("copy", "--all", *to)) == [("a", D1, THERE), ("b", D1, THERE), ("a", D2, THERE)]


def test_the_other_partitions_are_copied_whatever_becomes_of_one(landed, tmp_path):
    found = next((tmp_path / "output/source=a" / f"extracted_at={D1}").glob("table=g/*"))
    flipped(found)
    result = landed("copy", "--all", "--to", str(tmp_path / "to"), "--json")
    assert result.exit_code == 1
    assert copied(result) == [("a", D1, "failed"), ("b", D1, COPIED), ("a", D2, COPIED)]
    assert found.name in json.loads(result.stdout)["partitions"][0]["problem"]
    again = landed("copy", "--all", "--to", str(tmp_path / "to"))
    assert ": 1 failed, 2 already there, " in again.stdout


def test_wrong_usage_is_refused_before_anything_is_written(landed, tmp_path, caplog):
    to = str(tmp_path / "to")
    for arguments, words in {("--to", to): "Give one or more", (D1, "--all", "--to", to): "Give one or more",
                             ("2024-02-30", "--to", to): "is not a date",
                             ("2024-02-28", "--to", to): "No source is landed",
                             (D2, "--source", "b", "--to", to): f"b is not landed for {D2}",
                             (D1, "--to", str(tmp_path / "output" / ".." / "output")): "is the landing zone itself",
                             }.items():
        caplog.clear()
        assert landed("copy", *arguments).exit_code == 1
        assert words in caplog.text
    assert not (tmp_path / "to").exists()


STORES = pytest.mark.parametrize("store", ["fakes3", "fakegcs", "azurite"], indirect=True)


@pytest.fixture
def stored(zones, store, monkeypatch):
    """The same landing zone, and a root in a store."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return zones[0], LandingZone.at(store.url())


def objects(store, zone):
    """Content of a partition's objects, by path."""
    prefix = f"{zone.storage.bucket.prefix}/{layout.partition('postgres', date.fromisoformat(D1))}/"
    return {key.removeprefix(prefix): store.read(key) for key in store.keys(prefix)}


@STORES
def test_a_date_goes_to_a_store_and_back_as_the_same_bytes(stored, store, tmp_path):
    here, there = stored
    assert [copy(here, there).outcome for _ in range(2)] == [COPIED, THERE]
    assert objects(store, there) == partition(here)
    back = LandingZone.at(tmp_path / "back")
    assert copy(there, back).outcome == COPIED
    assert partition(back) == partition(here)


@STORES
def test_another_runs_date_in_a_store_is_replaced_on_demand_and_its_objects_go(stored, store):
    here, there = stored
    copy(here, there)
    land(here, rows=9)
    with pytest.raises(FrozenError):
        copy(here, there)
    assert copy(here, there, replace=True).outcome == REPLACED
    assert objects(store, there) == partition(here)


@pytest.mark.parametrize("store", ["fakes3", "azurite"], indirect=True)
def test_a_damaged_file_becomes_no_object_and_its_date_is_not_committed(stored, store):
    here, there = stored
    found = next((here.storage.root / layout.partition("postgres", date.fromisoformat(D1))).glob("table=z/*"))
    before = found.read_bytes()
    flipped(found)
    with pytest.raises(DamagedError, match=found.name):
        copy(here, there)
    assert not {"_manifest.json", f"table=z/{found.name}"} & {*objects(store, there)}
    found.write_bytes(before)
    copy(here, LandingZone.at(there.storage.describe()))
    assert objects(store, there) == partition(here)


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_of_copies_to_a_store_at_once_none_takes_anothers_objects_away(stored, store):
    here, there = stored
    outcomes = at_once(here, lambda: LandingZone.at(there.storage.describe()))
    assert COPIED in outcomes
    assert {*outcomes} <= {COPIED, THERE}
    assert objects(store, there) == partition(here)


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_an_object_that_is_there_and_whole_is_not_sent_again(stored, store):
    here, there = stored
    manifest = here.require("postgres", date.fromisoformat(D1))
    key = f"{layout.partition('postgres', date.fromisoformat(D1))}/{manifest.all_files[0].path}"
    for content in (b"half", here.storage.read(key, 1 << 20)):  # what a killed copy of another vendor might leave
        store.put(f"{there.storage.bucket.prefix}/{key}", content)
        before = there.storage.version(key)
        copy(here, LandingZone.at(there.storage.describe()))
        assert objects(store, there) == partition(here)
        there.storage.delete(layout.manifest("postgres", date.fromisoformat(D1)), "")
    assert there.storage.version(key) == before


def test_an_object_is_copied_as_it_is_stored(tmp_path):
    place, to = (Object(LocalStorage(tmp_path), f"{name}.csv.gz") for name in "ab")
    _, file = landed_file(place, 100_000)
    hashing.copy(place, to, file.sha256)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
