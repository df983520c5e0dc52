"""`landing gc` removes what it said and nothing else: nothing of a live run, nothing that is to be kept."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from datetime import timedelta

import pytest
from conftest import BIN
from landing.cli import main, options
from landing.core.dates import parse_date, today
from landing.load.history import HistoryTable
from landing.load.warehouse import Warehouse
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.storage import local
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.landing_zone import LandingZone
from zones import land

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
DEAD, LIVE = "20240101T000000Z-00000001", "20240101T000000Z-00000002"


def gc(project_, *arguments, check=True):
    """What it said: (kind, what) of each thing."""
    result = project_.landing("gc", "--json", *arguments, check=check)
    return {(one["kind"], one["what"]) for one in json.loads(result.stdout)}


def tree(project_):
    """Every file and empty folder below the landing zone, without locks (which are empty)."""
    return {str(path.relative_to(project_.output)) for path in project_.output.rglob("*")
            if path.suffix != ".lock" and (path.is_file() or not any(path.iterdir()))}


def relations(project_):
    return {name for name, in project_.warehouse.run(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public_history'::regnamespace AND relkind IN ('r', 'p')")}


def old(*paths):
    """As if nobody had touched them for two days."""
    for path in sorted(paths, key=lambda one: len(one.parts), reverse=True):
        for one in [*path.rglob("*"), path]:
            os.utime(one, (time.time() - 172800,) * 2)


def made(path, text="left over"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def littered(shop):
    """A loaded date, and what runs that died, and one that lives, have left around it."""
    shop.land(D1)
    shop.load(D1)
    staging, csv = shop.output / "_staging", shop.output / "source=csv"
    made(staging / DEAD / "public-orders.csv")
    made(staging / LIVE / "public-orders.csv")
    made(staging / "notes-of-a-person" / "x")
    made(csv / f"extracted_at={D1}/table=order_details/{DEAD}.csv")
    made(csv / f"extracted_at={D1}/table=gone/{DEAD}.csv")
    made(csv / f"extracted_at={D1}/README")
    made(csv / f"extracted_at={D2}/table=order_details/{DEAD}.csv")
    made(csv / f"extracted_at={D3}/table=order_details/{LIVE}.csv")
    made(csv / "extracted_at=someday/x")
    old(*staging.iterdir(), *csv.iterdir())
    os.utime(staging / LIVE / "public-orders.csv")  # a live run's folder may be old; what it writes is not
    os.utime(csv / f"extracted_at={D3}/table=order_details/{LIVE}.csv")
    shop.warehouse.run("CREATE TABLE public_history._staging_x AS SELECT 1 AS a;"
                       "CREATE TABLE public_history.\"Staging of a person\" AS SELECT 1 AS a")
    return shop


def test_gc_says_what_dead_runs_left_behind_and_removes_only_that_and_only_with_yes(littered):
    before, tables = tree(littered), relations(littered)
    expected = {
        ("staging folder", f"_staging/{DEAD}"),
        ("superseded file", f"source=csv/extracted_at={D1}/table=order_details/{DEAD}.csv"),
        ("superseded file", f"source=csv/extracted_at={D1}/table=gone/{DEAD}.csv"),
        ("unfinished date", f"source=csv/extracted_at={D2}"),
        ("staging table", "public_history._staging_x"),
    }
    said = littered.landing("gc").stdout
    assert "Would remove 5 items," in said
    assert "Run again with --yes" in said
    assert gc(littered) == expected
    assert (tree(littered), relations(littered)) == (before, tables)
    assert gc(littered, "--yes") == expected
    gone = {path for path in before for kind, what in expected if path.startswith(what)}
    assert tree(littered) == before - gone
    assert relations(littered) == tables - {"_staging_x"}
    assert not (littered.output / f"source=csv/extracted_at={D1}/table=gone").exists()
    assert "3 of 3 tables equal" in littered.landing("verify", D1).stdout
    assert littered.landing("gc", "--yes").stdout == "Nothing to remove.\n"


def test_a_run_at_work_is_left_alone_and_ends_well(shop):
    shop.source.run("CREATE TABLE zz AS SELECT 1 AS id;"
                    "CREATE VIEW zzz AS SELECT pg_advisory_lock(1) IS NULL AS held, id FROM zz")
    with contextlib.closing(shop.source.connect()) as lock, lock.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        run = threading.Thread(target=lambda: results.append(shop.land(D1, "postgres", check=False)))
        results = []
        run.start()
        end = time.monotonic() + 60
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        # Another connection copies the other tables, and may be behind the one that waits.
        while not shop.source.one(waits) or len(list((shop.output / "_staging").glob("*/*.csv"))) < 4:
            assert time.monotonic() < end, "the tap never came to its last table"
            time.sleep(0.05)
        assert gc(shop, "--yes", "--keep-days", "0") == set()
        cursor.execute("SELECT pg_advisory_unlock(1)")
        run.join(timeout=60)
    assert results[0].returncode == 0, results[0].text
    assert len(shop.manifest("postgres", D1)["tables"]) == 4


def test_staging_tables_stay_while_a_load_is_at_work(littered, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(littered.folder))
    monkeypatch.setattr(options, "LOAD_WAIT", 0.3)
    with contextlib.closing(littered.warehouse.connect()) as load, load.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('landing'), hashtext('public'))")
        result = invoked("gc", "--yes", "--json")
        assert result.exit_code == 1
        assert {one["kind"] for one in json.loads(result.stdout)} == {"staging folder", "superseded file",
                                                                     "unfinished date"}
        assert "_staging_x" in relations(littered)
    unreachable = littered.landing("gc", "--yes", check=False, TARGET_POSTGRES_PORT="1")
    assert unreachable.returncode == 1
    assert "Not cleaned up: the warehouse" in unreachable.stderr
    assert "_staging_x" in relations(littered)


def invoked(*arguments):
    """The command in this process."""
    from click.testing import CliRunner

    return CliRunner().invoke(main.main, arguments)


def many_dates(shop):
    """Four dates, the last two of them within the last ten days; attempts at all of them are old."""
    recent = [str(today() - timedelta(days=back)) for back in (9, 2)]
    for day in (D1, D2, *recent):
        shop.land(day)
        shop.load(day)
    made(shop.output / "_attempts" / f"csv@{D3}.jsonl")
    old(shop.output / "_attempts")
    shop.warehouse.run("CREATE VIEW mine AS SELECT count(*) FROM public.orders")
    return recent


def state(shop):
    ledger = shop.warehouse.run("SELECT extracted_at::text, source, table_name FROM public_history._loads")
    return tree(shop), relations(shop), sorted(ledger)


def test_keep_days_removes_older_dates_landed_and_loaded_and_all_else_stays_proved(shop):
    recent = many_dates(shop)
    before, tables, ledger = state(shop)
    said = gc(shop, "--keep-days", "9")
    assert said == {
        *(("landed date", f"source={source}/extracted_at={day}") for source in ("csv", "postgres") for day in (D1, D2)),
        *(("attempt log", f"_attempts/{source}@{day}.jsonl") for source in ("csv", "postgres") for day in (D1, D2)),
        ("attempt log", f"_attempts/csv@{D3}.jsonl"),
        *(("loaded date", f"public_history {day} {source}") for source in ("csv", "postgres") for day in (D1, D2)),
    }
    assert state(shop) == (before, tables, ledger)
    text = shop.landing("gc", "--keep-days", "9", "--yes").stdout
    assert "Removed 13 items," in text
    assert text.rstrip().endswith(f"{4 * 142:,} rows.")  # two dates, landed and loaded
    after, tables_after, ledger_after = state(shop)
    assert after == {path for path in before if not any(path.startswith(what) for _, what in said)}
    assert tables_after == {name for name in tables if not name.endswith((D1, D2))}
    assert {day for day, *_ in ledger_after} == set(recent)
    for day in recent:
        assert "3 of 3 tables equal" in shop.landing("verify", day).stdout
    assert shop.warehouse.one("SELECT * FROM mine") == 100
    # The newest of each stays, however old.
    assert gc(shop, "--keep-days", "0", "--yes") == {
        *(("landed date", f"source={source}/extracted_at={recent[0]}") for source in ("csv", "postgres")),
        *(("attempt log", f"_attempts/{source}@{recent[0]}.jsonl") for source in ("csv", "postgres")),
        *(("loaded date", f"public_history {recent[0]} {source}") for source in ("csv", "postgres")),
    }
    assert gc(shop, "--keep-days", "0", "--yes") == set()
    assert "3 of 3 tables equal" in shop.landing("verify", recent[1]).stdout
    shop.land(D1)
    shop.load(D1)
    assert "3 of 3 tables equal" in shop.landing("verify", D1).stdout


class Killed(BaseException):
    pass


def test_a_gc_that_is_killed_anywhere_and_run_again_ends_right(shop, monkeypatch):
    shop.land(D1)
    shop.land(D2)
    shop.load(D1)
    shop.load(D2)
    old(shop.output / "_attempts")
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(shop.folder))
    zone = LandingZone.at(shop.output)
    rmtree = (shutil, "rmtree")  # after a manifest, before its folder, at the next date, in the middle of a transaction
    for where, name, at in ((local, "sync", 1), (*rmtree, 1), (*rmtree, 2), (HistoryTable, "retire", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, killer(getattr(where, name), at))
            with pytest.raises(Killed):
                invoked("gc", "--keep-days", "0", "--yes")
        landed = set(zone.landed())
        assert {(source, parse_date(D2, "")) for source in ("csv", "postgres")} <= landed
        assert all(zone.file(manifest, file) for source, day in landed
                   for manifest in [zone.manifest(source, day)] for table in manifest.tables for file in table.files)
        assert shop.warehouse.one("SELECT count(*) FROM public_history._loads WHERE source = 'postgres' "
                                  f"AND extracted_at = '{D1}'") == 2
    assert invoked("gc", "--keep-days", "0", "--yes").exit_code == 0
    assert not [path for path in tree(shop) if D1 in path]
    assert not [name for name in relations(shop) if D1 in name]
    assert invoked("gc", "--keep-days", "0").stdout == "Nothing to remove.\n"
    assert "3 of 3 tables equal" in shop.landing("verify", D2).stdout


def killer(function, at):
    """The function, which kills its process when it is called for that time."""
    calls = []

    def call(*arguments, **named):
        calls.append(1)
        if len(calls) == at:
            raise Killed
        return function(*arguments, **named)

    return call


def test_a_reader_of_old_history_makes_gc_wait_and_give_up_in_time(shop, monkeypatch):
    shop.land(D1)
    shop.land(D2)
    shop.load(D1)
    shop.load(D2)
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(shop.folder))
    original = Warehouse.__init__
    monkeypatch.setattr(Warehouse, "__init__", lambda self, *rest, **named: original(
        self, *rest, **named, lock_timeout=1))
    with contextlib.closing(shop.warehouse.connect()) as reader, reader.cursor() as cursor:
        cursor.execute(f"BEGIN; SELECT count(*) FROM public_history.orders WHERE extracted_at = '{D1}'")
        result = invoked("gc", "--keep-days", "0", "--yes", "--json")
        assert result.exit_code == 1
        stays = [one for one in json.loads(result.stdout) if not one["removed"]]
        assert [one["what"] for one in stays] == [f"public_history {D1} postgres"]
        assert "Timed out after 1 s waiting for other sessions to release locks" in stays[0]["problem"]
        assert shop.warehouse.one("SELECT count(*) FROM public_history._loads WHERE source = 'postgres' "
                                  f"AND extracted_at = '{D1}'") == 2
    assert invoked("gc", "--keep-days", "0", "--yes").exit_code == 0
    assert not [name for name in relations(shop) if D1 in name]


def test_who_waited_for_a_lock_whose_file_was_removed_holds_one_that_others_see(tmp_path):
    zone, day = LandingZone.at(tmp_path), today()
    held = []

    def wait():
        with zone.locked("s", day) as lock:
            held.append(lock.path.exists())

    with zone.locked("s", day) as lock:
        other = threading.Thread(target=wait)
        other.start()
        time.sleep(0.2)
        assert not held
        lock.remove()
    other.join(timeout=10)
    assert held == [True]


def test_a_date_that_is_committed_meanwhile_is_not_unfinished(shop):
    shop.land(D1, "csv")
    zone, day = LandingZone.at(shop.output), parse_date(D1, "")
    manifest = shop.manifest_path("csv", D1)
    kept = manifest.read_text()
    manifest.unlink()
    unfinished, = ZoneLeftovers(zone, older_than=0)
    assert unfinished.kind == "unfinished date"
    manifest.write_text(kept)
    assert list(removed([unfinished])) == [(unfinished, "it is in use again")]
    assert isinstance(zone.manifest("csv", day), Manifest)
    superseded = made(manifest.parent / "table=order_details" / "x.csv")
    leftover, = ZoneLeftovers(zone, older_than=0)
    text = kept.replace(zone.manifest("csv", day).tables[0].files[0].path, "table=order_details/x.csv")
    shop.write_manifest("csv", D1, json.loads(text))
    assert list(removed([leftover])) == [(leftover, "it is in use again")]
    assert superseded.exists()


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_in_a_store_a_date_that_is_removed_takes_with_it_what_runs_that_are_treated_as_dead_left(store, monkeypatch):
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    zone = LandingZone.at(root := store.url())
    land(zone, D1)
    land(zone, D2)
    prefix = f"{root.split('/', 3)[3]}/source=postgres/extracted_at={D1}/"
    left = f"{prefix}table=a/{new_run_id()}.csv"
    store.put(left, b"id\n")
    [*removed(ZoneLeftovers(zone, parse_date(D2, "")))]
    assert store.keys(prefix) == [left]
    land(zone, D1)
    [*removed(ZoneLeftovers(zone, parse_date(D2, ""), older_than=0))]
    assert store.keys(prefix) == []


def test_options_that_make_no_sense_are_refused(project):
    for arguments in (("--keep-days", "-1"), ("--keep-days", "x"), ("--older-than", "-1")):
        result = subprocess.run([str(BIN / "landing"), "gc", "--yes", *arguments], capture_output=True, text=True,
                                env=project.environment(MELTANO_PROJECT_ROOT=str(project.folder)))
        assert result.returncode == 2
        assert arguments[0] in result.stderr
