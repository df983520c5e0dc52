"""What a run says of its outcome is true, whatever fails or ends it, and at whatever point.

"Nothing was committed" leaves all as it was; status 0 means that the date is there, whole; and in between a message
tells what is committed, what failed then, and what to run.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psycopg2
import pytest
import warm
from conftest import BIN
from in_process import TargetRun, foreign_project, in_process, left_in_staging
from landing.core.commit_point import BEFORE, PASSED, PASSING, UNKNOWN, CommitPoint
from landing.core.errors import AfterCommitError
from landing.load import locks
from landing.load.target import TargetPostgres
from landing.postgres.transaction import transaction
from landing.zone.landing_zone import LandingZone
from landing.zone.target import TargetCSV
from test_replay import sent, whole

DAY = "2024-03-05"
NOTHING, COMMITTED = "othing was committed", "is committed"


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    with foreign_project(server, tmp_path_factory.mktemp("outcome"), DAY) as project, \
            pytest.MonkeyPatch.context() as patch:
        patch.setenv("REEXTRACT", "true")
        yield project


@pytest.fixture
def messages(made):
    """Of a date that is landed already, with files of the run before; without, it is a first one."""
    messages = sent(use_batch=False)
    TargetCSV(config={}).listen(io.BytesIO(messages))
    yield messages
    emptied(made)


def emptied(project):
    for path in sorted(project.output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


class Refusing:
    """System calls that a commit makes, of which one is refused."""

    CALLS = ("replace", "mkdir", "unlink", "fsync", "rmdir", "scandir")

    def __init__(self, patch, at):
        self.at, self.calls = at, []
        for name in self.CALLS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name, real):
        def call(*arguments, **more):
            self.calls.append(name)
            if len(self.calls) == self.at:
                raise OSError(5, "Input/output error", str(arguments[0]))
            return real(*arguments, **more)
        return call


@pytest.mark.parametrize("first", [False, True], ids=["again", "first"])
def test_whichever_call_to_the_system_fails_the_outcome_is_as_it_is_told(made, messages, monkeypatch, first, caplog):
    told, at = set(), 0
    while True:
        at += 1
        if first:
            emptied(made)
        before = made.landed()
        caplog.clear()
        with monkeypatch.context() as patch:
            refusing = Refusing(patch, at)
            target = TargetCSV(config={})
            heard = TargetRun(target, messages)
        new = made.manifest("csv", DAY)["run_id"] if made.landed() else None
        if heard.refusal is None:
            assert new == target.run_id
            told.add("superseded files" if "superseded" in caplog.text else "done")
            if "superseded" in caplog.text:
                assert COMMITTED in caplog.text
                assert made.landing("gc", "--yes").returncode == 0
            whole_but_for_staging(made)
        elif NOTHING in heard.refusal:
            assert made.landed() == before, heard.refusal
            told.add("nothing")
        else:
            assert COMMITTED in heard.refusal
            assert "Input/output error" in heard.refusal
            assert new == target.run_id
            told.add("committed")
        if len(refusing.calls) < at:
            break
    assert told == {"nothing", "committed", "done", "superseded files"}
    assert at > 15


def whole_but_for_staging(project):
    for path in left_in_staging(project):  # its removal is what failed
        assert not [*path.rglob("*.csv")]
        for one in sorted([*path.rglob("*"), path], reverse=True):
            one.rmdir() if one.is_dir() else one.unlink()
    zone = LandingZone.at(project.output)
    (source, day), = zone.landed()
    manifest = zone.require(source, day)
    assert all(zone.file(manifest, file) for table in manifest.tables for file in table.all_files)


def test_state_that_cannot_be_passed_on_is_told_with_the_date_committed(made, messages, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    target = TargetCSV(config={})
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        with pytest.raises(AfterCommitError, match=r"csv of 2024-03-05 is committed\. But then: .*No space left"):
            target.listen(io.BytesIO(messages))
    assert made.manifest("csv", DAY)["run_id"] == target.run_id


def target_csv(project, path, fault):
    """target-csv as a process, with its fault."""
    environment = project.environment(MELTANO_PROJECT_ROOT=str(project.folder), FAULT=json.dumps(fault), DATESTAMP=DAY)
    with path.open("rb") as file, warm.Plugin(
            [str(BIN / "landing-target-csv"), "--config", project.config()], cwd=project.folder, env=environment,
            stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_a_signal_at_any_moment_ends_target_csv_and_the_outcome_is_as_it_is_told(made, messages, tmp_path):
    path, log = tmp_path / "sent", tmp_path / "log"
    path.write_bytes(messages)
    fault = {"in": "landing-target-csv", "log": str(log)}
    assert target_csv(made, path, fault)[0] == 0
    passed = [json.loads(line)["what"] for line in log.read_text().splitlines()]
    commit = passed.index("rename <run>.csv")
    told = set()
    for at in (0, commit // 2, *range(commit - 2, len(passed))):
        for pause in (0.1,) if at % 3 else (0, 0.1):
            before, manifest = made.landed(), made.manifest("csv", DAY)["run_id"]
            status, errors = target_csv(made, path, {**fault, "at": at, "kill": "term", "pause": pause})
            new = made.manifest("csv", DAY)["run_id"]
            case = f"{passed[at]}, {pause}: {status}, {errors}"
            assert status in (0, 128 + signal.SIGTERM), case
            if status:
                assert "Stopped by signal 15 before the commit point: nothing was committed" in errors, case
                assert new == manifest, case
                assert set(before.items()) <= set(made.landed().items()), case
            else:
                assert new != manifest, case
                assert NOTHING not in errors, case
            told.add((status, "after the commit point" in errors))
    made.landing("gc", "--yes", "--older-than", "0")
    whole(made, DAY)
    assert told >= {(143, False), (0, True)}


CHILD = """
import os, signal, sys, threading, time
from landing.singer import scratch, signals
from landing.zone.target import TargetCSV

def {hook}(self):
    {what}

signals.TIMEOUT = 0.2
TargetCSV.{hook} = {hook}
target = TargetCSV(config={{}})
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


@pytest.mark.parametrize(("hook", "what"), [("stopped", "raise MemoryError"), ("clean_up", "time.sleep(60)"),
                                            ("clean_up", "raise OSError(5, 'x')")])
def test_a_signal_ends_the_process_though_what_handles_it_fails_or_hangs(made, hook, what):
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD.format(hook=hook, what=what)], capture_output=True, text=True,
                          env=made.environment(MELTANO_PROJECT_ROOT=str(made.folder), DATESTAMP=DAY), timeout=50)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert time.monotonic() - started < 40


DISTURBED = """
import os, signal, threading, time
from landing.singer.target import LandingTarget
from landing.zone.target import TargetCSV

removed = threading.Event()

def clean_up(self):
    if threading.current_thread() is not threading.main_thread():
        removed.set()
        time.sleep(1)

def read(self, file_input):
    os.kill(os.getpid(), signal.SIGTERM)
    removed.wait(30)
    raise FileNotFoundError(2, "No such file or directory", "staged.csv")

TargetCSV.clean_up, LandingTarget._read = clean_up, read
TargetCSV(config={}).listen()
"""


def test_an_error_that_the_clean_up_of_a_signal_causes_is_not_how_the_process_ends(made):
    done = subprocess.run([sys.executable, "-c", DISTURBED], capture_output=True, text=True, timeout=50,
                          env=made.environment(MELTANO_PROJECT_ROOT=str(made.folder), DATESTAMP=DAY))
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "staged.csv" not in done.stderr


SCRATCH = """
import os, signal, time
from pathlib import Path
from landing.singer import scratch, signals
from landing.zone.target import TargetCSV

TargetCSV(config={})
with scratch.scratch() as folder:
    for one in (str(scratch.scratch_prefix() / "rows.csv"), Path(folder) / "rows.csv"):
        Path(one).write_text("of a person")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_signal_leaves_no_rows_in_temporary_folders(made, tmp_path):
    environment = made.environment(MELTANO_PROJECT_ROOT=str(made.folder), DATESTAMP=DAY, TMPDIR=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", SCRATCH], capture_output=True, text=True, timeout=50, env=environment)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert not [*tmp_path.glob("landing-*")]


def test_the_point_is_passed_or_closed_and_never_both():
    for closed in (True, False):
        point = CommitPoint()
        if closed:
            assert point.close(143, 0.01) == (BEFORE, True)
            for begin in (point.passing, point.working):
                with pytest.raises(SystemExit), begin():
                    pytest.fail("it was passed")
            assert point.close(143, 0.01)[0] == BEFORE
        else:
            with point.working():
                assert point.state == BEFORE
                with point.passing():
                    pass
            assert point.close(143, 0.01) == (PASSED, True)
    point = CommitPoint()
    with point.working(), point.passing():
        assert point.close(143, 0.01) == (PASSING, False)
    assert point.state == PASSED
    point, seen = CommitPoint(), []
    closing = threading.Thread(target=lambda: seen.append(point.close(143, 30)))
    with point.passing():
        closing.start()
        closing.join(0.2)
        assert closing.is_alive(), "it waits for the outcome"
    closing.join(15)
    assert seen == [(PASSED, True)], "it does not wait longer than it has to"


def fail_while_closed(point):
    """A signal comes, and then the commit fails."""
    point.close(143, 0.01)
    raise OSError("no answer")


def test_what_fails_at_the_point_leaves_it_unpassed_or_unknown():
    for passed, lost, state in ((False, False, BEFORE), (False, True, UNKNOWN),
                                (True, False, PASSED)):
        point = CommitPoint()
        if passed:
            with point.passing():
                pass
        with pytest.raises(OSError, match="no answer"), point.passing(lambda lost=lost: lost):
            fail_while_closed(point)
        assert point.state == state


@pytest.mark.parametrize("sent_first", [True, False], ids=["answer lost", "never sent"])
def test_a_commit_without_an_answer_is_told_as_unknown_and_the_next_load_heals(made, messages, monkeypatch, sent_first):
    class Cursor(psycopg2.extensions.cursor):
        def execute(self, statement, values=None):
            if statement == "COMMIT" and TargetPostgres.committing:
                if sent_first:
                    super().execute(statement, values)
                self.connection.close()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")
            super().execute(statement, values)

    def patched(connection, point=None):
        TargetPostgres.committing = point is not None
        return transaction(connection, point)

    connect = psycopg2.connect
    made.warehouse.run("DROP SCHEMA IF EXISTS public_history, public CASCADE; CREATE SCHEMA public")
    with monkeypatch.context() as patch:
        patch.setattr(TargetPostgres, "committing", False, raising=False)
        patch.setattr(locks, "transaction", patched)
        patch.setattr(psycopg2, "connect", lambda *a, **k: connect(*a, **{**k, "cursor_factory": Cursor}))
        heard = load(made)
    assert NOTHING not in heard.refusal
    assert "othing was loaded" not in heard.refusal
    assert f"did not confirm the COMMIT of {DAY}" in heard.refusal
    assert f"`landing verify {DAY}`" in heard.refusal
    assert bool(made.warehouse.one("SELECT to_regclass('public.order_details')")) is sent_first
    assert load(made).refusal is None
    assert made.warehouse.one("SELECT count(*) FROM public.order_details") == 2


def load(project):
    """The landed date, into the warehouse."""
    with in_process(project, DAY):
        target = TargetPostgres(config={**project.warehouse.settings(), "default_target_schema": "public"})
        return TargetRun(target, sent(from_landing=True, sources=["csv"], extracted_at=DAY))
