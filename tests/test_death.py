"""A tap or a target that dies midway leaves everything as it was, and the next run heals."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DAY, NEXT = "2024-02-01", "2024-02-02"


@pytest.fixture
def broken(shop):
    """A source whose third table breaks at its last row, when it has been read almost to its end."""
    shop.source.run("CREATE TABLE zz (id integer PRIMARY KEY, v integer)")
    shop.source.run("INSERT INTO zz SELECT g, g FROM generate_series(1, 200000) g")
    shop.land(DAY)
    shop.load(DAY)
    shop.source.run("DELETE FROM orders WHERE order_id > 50;"
                    "CREATE VIEW zzz AS SELECT id, v / (200000 - id) AS q FROM zz")
    return shop


def state(project):
    """All that a reader can see: landed files, and every relation of the warehouse."""
    relations = project.warehouse.run(
        "SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname LIKE 'public%%' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1, 2")
    return project.landed(), relations, [project.rows(name, schema) for schema, name, _ in relations]


def test_an_error_at_the_source_commits_nothing_and_the_next_run_heals(broken):
    before = state(broken)
    result = broken.land(NEXT, "postgres", check=False)
    assert result.returncode != 0
    assert "Table public.zzz could not be read completely: division by zero" in result.text
    assert "The input ended without the tap's completion message" in result.text
    assert "Traceback" not in result.text
    assert state(broken) == before
    assert not [path for path in (broken.output / "_staging").glob("*") if path.is_dir()]
    assert "not landed" in broken.load(NEXT, check=False).text
    broken.source.run("DROP VIEW zzz")
    broken.land(NEXT)
    broken.load(NEXT)
    assert broken.warehouse.one("SELECT count(*) FROM public.orders") == 50


def test_meltano_run_fails_when_the_tap_dies(broken):
    result = broken.meltano("run", "extract_postgres", check=False, MELTANO_ENVIRONMENT="extract", DATESTAMP=NEXT)
    assert result.returncode != 0
    assert "division by zero" in result.text
    assert not broken.manifest_path("postgres", NEXT).exists()


def running(project, tap, target, **variables):
    """Tap and target at work, as two processes."""
    environment = project.environment(MELTANO_PROJECT_ROOT=str(project.folder), **variables)
    source = subprocess.Popen(tap, cwd=project.folder, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    sink = subprocess.Popen(target, cwd=project.folder, env=environment, stdin=source.stdout, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    source.stdout.close()
    return source, sink


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to the point where it was to be killed"
        time.sleep(0.01)


@pytest.mark.parametrize(("victim", "how"), [(0, signal.SIGKILL), (0, signal.SIGTERM), (1, signal.SIGKILL),
                                             (1, signal.SIGTERM)])
def test_an_extract_killed_midway_commits_nothing_and_the_next_run_heals(shop, victim, how):
    shop.source.run("CREATE TABLE zz AS SELECT 1 AS id")
    with shop.source.connect() as lock, lock.cursor() as cursor:
        lock.autocommit = False
        tap = shop.tap_postgres()
        # The view waits for an advisory lock: the tap is in the middle of its last table when it is killed.
        shop.source.run("CREATE VIEW zzz AS SELECT pg_advisory_lock(1) IS NULL AS held, id FROM zz")
        cursor.execute("SELECT pg_advisory_lock(1)")
        pair = running(shop, tap, shop.target_csv(), DATESTAMP=DAY)
        wait_for(lambda: shop.source.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        os.kill(pair[victim].pid, how)
        pair[victim].wait(timeout=30)
        cursor.execute("SELECT pg_advisory_unlock(1)")
        _, errors = pair[1].communicate(timeout=60)
        statuses = [process.wait(timeout=60) for process in pair]
    assert statuses[victim] != 0
    assert statuses[1] != 0, errors
    assert not shop.landed()
    shop.source.run("DROP VIEW zzz")
    shop.land(DAY)
    shop.load(DAY)
    assert "4 of 4 tables equal" in shop.landing("verify", DAY).stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_load_killed_midway_changes_nothing_and_the_next_run_heals(shop, how):
    shop.land(DAY)
    shop.load(DAY)
    shop.source.run("DELETE FROM orders WHERE order_id > 50")
    shop.land(NEXT)
    before = state(shop)
    with shop.warehouse.connect() as lock, lock.cursor() as cursor:
        lock.autocommit = False
        cursor.execute("LOCK TABLE public_history.orders IN ACCESS EXCLUSIVE MODE")  # the swap has to wait
        tap, target = running(shop, shop.tap_landed(), shop.target_postgres(), EXTRACTED_AT=NEXT)
        wait_for(lambda: shop.warehouse.one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'target-postgres' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"))
        os.kill(target.pid, how)
        target.communicate(timeout=30)
        assert target.returncode != 0
        tap.wait(timeout=30)
        lock.rollback()
    wait_for(lambda: not shop.warehouse.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                                            "'target-postgres' AND datname = current_database()"))
    after = state(shop)
    seen = [[relation for relation in one[1] if not relation[1].startswith("_staging_")] for one in (before, after)]
    assert seen[0] == seen[1]
    assert shop.warehouse.one("SELECT count(*) FROM public.orders") == 100
    shop.load(NEXT)
    assert shop.warehouse.one("SELECT count(*) FROM public.orders") == 50
    assert not shop.warehouse.run("SELECT 1 FROM pg_tables WHERE tablename LIKE '\\_staging%%'")


def plugins_of(meltano):
    """Pids of the plugins that a Meltano has started."""
    found = Path(f"/proc/{meltano.pid}/task/{meltano.pid}/children").read_text().split()
    return [pid for pid in map(int, found) if b"landing-" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def at_work(pid):
    with contextlib.suppress(FileNotFoundError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_load_ends_when_its_meltano_is_killed(shop):
    shop.land(DAY)
    errors = shop.folder / "errors.jsonl"
    with shop.warehouse.connect() as lock, lock.cursor() as cursor:
        lock.autocommit = False
        cursor.execute("CREATE SCHEMA public_history")  # the load waits until this transaction ends
        environment = shop.environment(MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY, LANDING_ERRORS=str(errors))
        with subprocess.Popen([shop.folder / ".venv/bin/meltano", "run", "load_to_postgres"], cwd=shop.folder,
                              env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as meltano:
            wait_for(lambda: shop.warehouse.one(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'target-postgres' "
                "AND wait_event_type = 'Lock' AND datname = current_database()"))
            plugins = plugins_of(meltano)
            assert plugins
            meltano.kill()
        wait_for(lambda: not any(map(at_work, plugins)))
        lock.rollback()
    wait_for(lambda: not shop.warehouse.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                                            "'target-postgres' AND datname = current_database()"))
    assert not shop.warehouse.run("SELECT 1 FROM pg_tables WHERE tablename = '_loads'")
    assert "Stopped by the end of Meltano before the commit point: nothing was committed" in errors.read_text()


def test_a_load_whose_tap_dies_changes_nothing(shop):
    shop.land(DAY)
    shop.load(DAY)
    shop.source.run("DELETE FROM orders WHERE order_id > 50")
    shop.land(NEXT)
    before = state(shop)
    messages = shop.pipe(shop.tap_landed(), ["cat"], EXTRACTED_AT=NEXT).stdout.splitlines(keepends=True)
    for cut in (0, 1, len(messages) // 2, len(messages) - 1):
        path = shop.folder / "cut.jsonl"
        path.write_text("".join(messages[:cut]))
        result = shop.pipe(["cat", str(path)], shop.target_postgres(), check=False)
        assert cut == 0 or result.returncode != 0
        assert state(shop) == before


def test_counts_that_disagree_commit_nothing(shop):
    messages = shop.pipe(shop.tap_postgres(use_batch=False), ["cat"], DATESTAMP=DAY).stdout.splitlines(keepends=True)
    lost = next(number for number, line in enumerate(messages) if '"RECORD"' in line)
    path = shop.folder / "lost.jsonl"
    path.write_text("".join(messages[:lost] + messages[lost + 1:]))
    result = shop.pipe(["cat", str(path)], shop.target_csv(), check=False, DATESTAMP=DAY)
    assert result.returncode != 0
    assert "the tap sent 40 rows in 0 files, and 39 rows arrived" in result.text
    assert not shop.landed()
