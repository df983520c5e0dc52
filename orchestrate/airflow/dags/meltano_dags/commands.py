"""Runs the command of a task: it ends with its task, and its errors become the task's.

A plugin ends when its Meltano has ended. What is left to do here is to end Meltano with its task, also if Airflow or
the task's process is killed by SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException
from landing.api import ERRORS_VARIABLE, errors_in

ROOT = Path(__file__).resolve().parents[4]
os.environ.setdefault("MELTANO_PROJECT_ROOT", str(ROOT))  # for an Airflow that Meltano did not start

# Linux: prctl option that sets the signal for the death of the parent.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
GRACE = 30  # seconds between SIGTERM and SIGKILL

# Variables that select date, source or project. Commands must not inherit them from Airflow.
NOT_INHERITED = ("MELTANO_", "AIRFLOW_", "ALERT_", "SOURCE", "DATESTAMP", "EXTRACTED_AT", "SCHEMA", "REEXTRACT",
                 "RELOAD", "ALLOW_FEWER_TABLES", "WITHOUT_SOURCES", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH",
                 "VIRTUAL_ENV")


class StoppedError(BaseException):
    """Raised in a task that receives SIGTERM."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without NOT_INHERITED, plus `variables`."""
    prefixes = tuple(name for name in NOT_INHERITED if name.endswith("_"))
    inherited = {name: value for name, value in os.environ.items()
                 if name not in NOT_INHERITED and not name.startswith(prefixes)}
    return {**inherited, "MELTANO_PROJECT_ROOT": str(ROOT), "NO_COLOR": "1", **variables}


def meltano(name: str, retry_command: str, job: str, day: str, **variables: str) -> None:
    """Run `meltano run` with its own system folder: concurrent runs would overwrite each other's files in a shared one.

    --force: otherwise a killed run blocks its retry for five minutes. The commit lock and the warehouse lock already
    serialize two runs of one date.
    """
    with tempfile.TemporaryDirectory(prefix="meltano-") as folder:
        command = [str(ROOT / ".venv/bin/meltano"), "run", "--force", "--state-id-suffix", day, job]
        run(name, retry_command, command, MELTANO_SYS_DIR_ROOT=folder, **variables)


def run(name: str, retry_command: str, command: list[str], **variables: Any) -> None:
    """Run a command and copy its output to the task's log.

    Raises:
        AirflowException: It failed; with the errors that its programs left, and the retry command.
    """
    print(f"$ {retry_command}", flush=True)
    with tempfile.TemporaryDirectory(prefix="landing-") as folder:
        errors = Path(folder) / "errors.jsonl"
        environ = environment(**{ERRORS_VARIABLE: str(errors)}, **variables)
        _end_with_parent(signal.SIGKILL)
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", preexec_fn=_end_with_parent) as process:
            try:
                with _sigterm_raises():
                    for line in process.stdout:
                        print(line.rstrip("\n"), flush=True)
            except StoppedError:
                _end(process)
            except BaseException:  # a timeout or Ctrl-C: the command must not outlive its task
                _end(process)
                raise
        if process.returncode:
            reason = errors_in(errors) or without_a_word(process.returncode)
            raise AirflowException(f"{name} failed. {reason}\nTo retry, clear this task or run: {retry_command}")


def without_a_word(status: int) -> str:
    """What can be said of a command that left no error."""
    if status < 0:
        return f"It was killed by {signal.Signals(-status).name}."
    return (f"Exit status {status}, and no program left an error: one of them was killed, or Meltano itself failed. "
            "Its lines are in the task's log.")


def _end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the system send this process a signal when its parent dies. The kernel forgets this for its children."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, number)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raise StoppedError on SIGTERM, which Airflow's own handler ignores: that is left to operators."""
    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        print(process.communicate(timeout=GRACE)[0], end="", flush=True)
    except subprocess.TimeoutExpired:
        process.kill()
