"""Verified in pieces by several processes, a date is proved by the same rules; and no process or session is left."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from datetime import date

import pytest
from conftest import BIN, in_the_background
from dates import Dates
from landed import InStore
from landing.core.errors import VerificationError
from landing.verify import contents, reconcile
from landing.verify.reconcile import Reconciliation
from landing.verify.workers import Workers
from landing.zone.landing_zone import LandingZone

D1, D2 = "2024-01-20", "2024-01-21"
COLUMNS = {"id": "integer", "a": "text", "b": "text"}
# Values of several lines, so that pieces of the file end inside of them; and pairs of rows that are equal.
ROWS = [[str(number // 2), f"line {number // 2}\n\"quoted\",\n" * (number // 2 % 4), "x" * (number // 2 % 97)]
        for number in range(3000)]
DIFFER = "the warehouse's rows are not those of the files"


@pytest.fixture
def dates(project, monkeypatch):
    """Every table counts as large, and a piece is one page."""
    monkeypatch.setattr(reconcile, "LARGE", 0)
    monkeypatch.setattr(contents, "PIECE", 1)
    dates = Dates(project)
    yield dates
    dates.close()


@pytest.fixture
def workers(dates):
    with Workers(2, dates.connection) as workers:
        yield workers


def proofs(dates, workers, day=D1, source="postgres"):
    manifest = dates.zone.require(source, date.fromisoformat(day))
    return [*Reconciliation(dates.zone, dates.connection, "public", workers).tables(manifest)]


def sessions(dates):
    """Sessions of processes, besides the one of the test."""
    return dates.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND pid <> %s",
                     dates.connection.server_pid)


def eventually(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_comparison_gives_the_same_in_pieces(dates, workers):
    declared = {"id": "integer", "a": "real"}
    values = [[str(number), "1.50"] for number in range(2000)]
    dates.land(D1, one=(COLUMNS, ROWS), none=(COLUMNS, []), single=(COLUMNS, ROWS[:1]))
    dates.land(D1, "chunks", chunks=3, chunked=(COLUMNS, ROWS), empty=(COLUMNS, []), few=(COLUMNS, ROWS[:1]))
    dates.land(D1, "declared", declared=True, typed=(declared, values))
    dates.land(D1, "both", declared=True, chunks=2, both=(declared, values))
    sources = {"postgres": "bytes", "chunks": "rows", "declared": "values", "both": "values"}
    dates.load(D1, *sources, connections=2)
    for source, compared in sources.items():
        found = proofs(dates, workers, source=source)
        assert [(one.holds, one.problem, one.compared) for one in found] == [(True, None, compared)] * len(found)
        assert found == dates.proofs(D1, source)
    assert dates.one("SELECT pg_relation_size(%s::regclass) / 8192", f'public_history."chunked@{D1}"') > 10
    assert sessions(dates) == 2


def test_a_table_landed_in_increments_is_put_together_by_one_process(dates, workers, inside):
    """While others copy the partition."""
    project, log = dates.project, {"entity": "log", "path": "extract/log-{date}.csv", "load": "append"}
    (project.folder / "meltano.yml").write_text("jobs:\n- name: extract_csv\n")
    for day, first in ((D1, 0), (D2, 1500)):
        lines = (f'{number // 2},"{number}\n{"x" * (number % 90)}"\n' for number in range(first, first + 1500))
        project.csv(f"log-{day}.csv", "id,a\n" + "".join(lines))
        inside.extract(day, "csv", files=[log])
        inside.load(day)
    found, = proofs(dates, workers, D2, "csv")
    assert (found.holds, found.compared, found.rows) == (True, "chain", 3000)
    assert [found] == dates.proofs(D2, "csv")
    dates.run(f'UPDATE public_history."log@{D2}" SET a = a || chr(10) WHERE id = 3')
    assert proofs(dates, workers, D2, "csv")[0].problem == DIFFER


CHANGES = {
    "one character": "UPDATE {} SET b = 'y' || substr(b, 2) WHERE id = 1400",
    "a value": "UPDATE {} SET a = NULL WHERE ctid = (SELECT min(ctid) FROM {} WHERE id = 7)",
    "values of two rows swapped": "UPDATE {} t SET b = o.b FROM {} o WHERE t.id IN (8, 9) AND o.id = 17 - t.id",
    "columns of a row swapped": "UPDATE {} SET a = b, b = a WHERE id = 5",
    "a row lost": "DELETE FROM {} WHERE ctid = (SELECT max(ctid) FROM {})",
    "a row more": "INSERT INTO {} SELECT * FROM {} WHERE id = 3",
    "both of a pair for both of another": "UPDATE {} SET (id, a, b) = (SELECT id, a, b FROM {} WHERE id = 8 LIMIT 1) "
                                          "WHERE id = 9",
    "an empty text for NULL": "UPDATE {} SET b = NULL WHERE b = '' AND id = 97",
    "another order of rows": "CREATE TABLE sorted AS SELECT * FROM {}; TRUNCATE {}; INSERT INTO {} SELECT * "
                             "FROM sorted ORDER BY id DESC, b; DROP TABLE sorted",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_in_any_piece_is_found(dates, workers, change):
    dates.land(D1, chunks=3, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    dates.run(CHANGES[change].format(*[f'public_history."t@{D1}"'] * 3))
    found, = proofs(dates, workers)
    equal = change == "another order of rows"
    assert (found.holds, found.problem) == ((True, None) if equal else (False, DIFFER))


def test_a_row_that_is_in_another_table_is_not_missed(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS), u=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    dates.run(f'INSERT INTO public_history."u@{D1}" SELECT * FROM public_history."t@{D1}" WHERE id = 11;'
              f'DELETE FROM public_history."t@{D1}" WHERE id = 11')
    assert [one.problem for one in proofs(dates, workers)] == [DIFFER, DIFFER]


def test_a_file_that_changed_is_named_by_whichever_process_reads_it(dates, workers):
    dates.land(D1, chunks=3, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    path = sorted(dates.project.output.glob(f"source=postgres/extracted_at={D1}/*/*.csv"))[1]
    path.write_bytes(path.read_bytes().replace(b"line 701", b"line 107", 1))
    found, = proofs(dates, workers)
    assert found.problem == f"the files are not what was landed: {path}"
    path.unlink()
    found, = proofs(dates, workers)
    assert "found nothing" in found.problem


def test_values_in_columns_that_the_files_lack_are_found(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    dates.run("ALTER TABLE public_history.t ADD COLUMN later text")
    assert proofs(dates, workers)[0].holds
    dates.run("UPDATE public_history.t SET later = 'x' WHERE id = 1000")
    assert "in columns that the files lack: later" in proofs(dates, workers)[0].problem


def test_the_hash_of_a_partition_in_pieces_does_not_depend_on_who_hashes(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    with Workers(3, dates.connection) as more:
        assert len({proofs(dates, one)[0].warehouse for one in (None, workers, more)}) == 1


def test_all_pieces_are_of_one_moment_while_rows_move(dates, workers):
    """From the last page to the first, in one transaction."""
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    relation = f'public_history."t@{D1}"'
    with contextlib.closing(dates.project.warehouse.connect()) as moved, moved.cursor() as cursor:

        def move():
            cursor.execute(f"WITH gone AS (DELETE FROM {relation} WHERE id % 50 = 7 RETURNING *) "
                           f"INSERT INTO {relation} SELECT * FROM gone")
            cursor.execute(f"VACUUM {relation}")

        with in_the_background(move):
            for _ in range(5):
                assert [one.holds for one in proofs(dates, workers)] == [True]


def test_a_load_at_the_same_time_is_before_or_after(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    with contextlib.closing(Dates(dates.project)) as other, in_the_background(lambda: other.load(D1, reload=True)):
        for _ in range(5):
            assert [one.holds for one in proofs(dates, workers)] == [True]


def test_a_pending_alter_does_not_hang_the_verification(dates, workers, monkeypatch):
    """It waits for the lock that the snapshot has, and the processes' locks wait behind it."""
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    altering, pieces = dates.project.warehouse.connect(), contents.pieces
    relation = f'public_history."t@{D1}"'
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"

    def alter():
        with contextlib.closing(altering), altering.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {relation} SET (fillfactor = 90); TRUNCATE {relation}")

    thread = threading.Thread(target=alter)

    @contextlib.contextmanager
    def altered(*arguments, **named):
        with pieces(*arguments, **named) as found:
            thread.start()
            eventually(lambda: dates.one(waiting, relation))
            yield found

    monkeypatch.setattr(reconcile, "pieces", altered)
    assert [one.holds for one in proofs(dates, workers)] == [True]
    thread.join()


def test_a_process_that_is_killed_fails_the_verification(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    assert proofs(dates, workers)[0].holds
    workers._processes[0]._process.kill()
    with pytest.raises(VerificationError, match="A process that hashes ended"):
        proofs(dates, workers)


def test_an_error_of_the_server_is_the_tables_problem(dates, workers):
    dates.land(D1, chunks=2, t=(COLUMNS, ROWS), u=(COLUMNS, ROWS))
    dates.load(D1, connections=2)
    dates.run("ALTER TABLE public_history.t RENAME a TO c")
    first, second = proofs(dates, workers)
    assert first.problem.startswith('column "a" does not exist')
    assert "\n" not in first.problem
    assert second.holds


def test_rows_that_are_longer_than_a_piece_take_little_memory(dates, workers):
    rows = [[str(number), f"{number}\n" * 600_000, None] for number in range(12)]
    dates.land(D1, chunks=2, t=(COLUMNS, rows))
    dates.load(D1, connections=2)
    assert proofs(dates, workers)[0].holds
    for one in workers._processes:
        with open(f"/proc/{one._process.pid}/status") as status:
            peak, = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 150_000


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_processes_read_from_an_object_store(project, dates, workers, store):
    zone = InStore(store, "verify é")
    try:
        dates.zone = LandingZone(zone.storage())
        dates.land(D1, chunks=2, t=(COLUMNS, ROWS))
        dates.land(D1, "one", t1=(COLUMNS, ROWS))
        dates.load(D1, "postgres", "one", connections=2)
        found = [proofs(dates, workers, source=source)[0].compared for source in ("postgres", "one")]
        assert found == ["rows", "bytes"]
    finally:
        zone.remove()


def processes_of(pid):
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Ctrl-C is ignored where a shell started the tests in the background.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from landing.cli.main import main
from landing.verify import reconcile
from landing.verify.workers import Workers
submit = Workers.submit
def wait(*arguments):
    print("begun", flush=True)
    sys.stdin.readline()
    return submit(*arguments)
Workers.submit, reconcile.LARGE = wait, 0
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["KILL", "TERM", "INT"])
def test_no_process_and_no_session_outlives_the_command(project, number):
    """Its process waits for a lock, so that it is killed in the middle of a statement."""
    dates = Dates(project)
    dates.land(D1, t=({"id": "integer"}, [["1"]]))
    dates.load(D1)
    dates.close()
    (project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n")
    running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'landing'"
    with contextlib.ExitStack() as stack:
        locking = stack.enter_context(contextlib.closing(project.warehouse.connect()))
        process = stack.enter_context(subprocess.Popen(
            [BIN / "python", "-c", SCRIPT, "verify", D1], cwd=project.folder, text=True,
            env=project.environment(MELTANO_PROJECT_ROOT=str(project.folder)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout.readline() == "begun\n"
        with locking.cursor() as cursor:
            cursor.execute(f'BEGIN; LOCK TABLE public_history."t@{D1}"')
        process.stdin.write("\n")
        process.stdin.flush()
        eventually(lambda: project.warehouse.one(f"{running} AND wait_event_type = 'Lock'"))
        children = processes_of(process.pid)
        assert children
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode
        assert "equal" not in out
        eventually(lambda: not any(map(alive, children)))
    eventually(lambda: not project.warehouse.one(running))
