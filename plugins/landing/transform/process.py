"""dbt's process: its output is copied, and it ends with its caller."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

SHOWN = 20  # last lines that are kept
INTERVAL = 1.0  # seconds between two looks at the parent process
GRACE = 10.0  # seconds in which dbt cancels its statements


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run a command in a folder, and copy its output.

    SIGTERM, and the end of the process that started this one, end it: Airflow kills Meltano when a task is stopped.
    Ctrl-C reaches it by itself.

    Returns:
        Its exit status, and its last lines as one.
    """
    lines: deque[str] = deque(maxlen=SHOWN)
    stopped, parent = threading.Event(), os.getppid()
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,  # noqa: S603
                          text=True, errors="replace") as process:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(process, stopped, parent), daemon=True).start()
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, " ".join(" ".join(lines).split())


def _end_with(process: subprocess.Popen, stopped: threading.Event, parent: int) -> None:
    while process.poll() is None:
        if stopped.wait(INTERVAL) or os.getppid() != parent:
            process.send_signal(signal.SIGINT)  # ignored by a process that was started in the background
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            process.kill()
