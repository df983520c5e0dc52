"""Processes of Airflow's components: each has a process group, and ends with the commands of its tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STOP = 40  # seconds between SIGTERM and SIGKILL
PAUSE = 5  # seconds before a component that ended is started again


@dataclass
class Component:
    """A process that runs until it is ended.

    Attributes:
        name: For messages.
        command: Without secrets: other users can see it.
        cwd: The working copy in which its tasks run.
        environ: Added to the environment of this process.
        restart: Whether it is started again when it ends; otherwise its end ends all.
        when: Start it only once this is true; None: at once.
    """

    name: str
    command: Sequence[str]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    restart: bool = False
    when: Callable[[], bool] | None = None
    process: subprocess.Popen[bytes] | None = None
    due: float = 0

    def start(self) -> None:
        """Start it, unless it is started, in its own process group, so that its child processes end with it."""
        if self.process is None and (self.when is None or self.when()):
            self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self.command, cwd=self.cwd, env={**os.environ, **self.environ},
                                        stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def keep_running(self) -> bool:
        """Start it if it is due or has ended; False if it has ended for good."""
        if not self.ended:
            self.start()
            return True
        if not self.restart:
            return False
        if not self.due:
            print(f"{self.name} ended ({self.process.returncode}); it is started again in {PAUSE} s", flush=True)
            self.due = time.monotonic() + PAUSE
        elif time.monotonic() > self.due:
            kill_group(self.process.pid)  # what outlived it
            self.due = 0
            self._start()
        return True

    def end(self) -> None:
        """Terminate it with the commands of its tasks, then kill what is left.

        The scheduler and the workers wait for their tasks, which have process groups of their own.
        """
        if self.process is None:
            return
        processes: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = psutil.Process(self.process.pid).children(recursive=True)
        signal_all([one for one in processes if self.commands & {*cmdline(one)}], signal.SIGTERM)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP)
        kill_group(self.process.pid)
        self.process.wait()
        _, left = psutil.wait_procs(processes, timeout=STOP)
        signal_all(left, signal.SIGKILL)
        self.process = None

    @property
    def commands(self) -> set[str]:
        """Programs that its tasks run."""
        return {str(self.cwd / ".venv/bin/meltano"), str(self.cwd / "plugins/.venv/bin/landing")}


def kill_group(leader: int) -> None:
    """Kill what is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def cmdline(process: psutil.Process) -> list[str]:
    """A process's command line; empty if it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def signal_all(processes: Sequence[psutil.Process], number: int) -> None:
    """Send a signal to those that still run."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
