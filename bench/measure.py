"""What a command costs: wall clock, CPU of its process tree and of the server, peak memory.

Peak memory and the server's CPU are read from Linux's /proc; elsewhere they are missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.05  # seconds between two looks at memory
TICK = os.sysconf("SC_CLK_TCK")


class FailedError(RuntimeError):
    """A command failed; the message has its name and the end of what it said."""


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock; CPU seconds of tool, server and all others on the machine; peak memory (MB) by program."""

    seconds: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0
    others_cpu: float = 0.0
    peaks: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        names = {**self.peaks, **other.peaks}
        peaks = {name: max(self.peaks.get(name, 0.0), other.peaks.get(name, 0.0)) for name in names}
        return Cost(self.seconds + other.seconds, self.cpu + other.cpu, self.server_cpu + other.server_cpu,
                    self.others_cpu + other.others_cpu, peaks)


def measure(*commands: Sequence[object], folder: Path, variables: Mapping[str, str], server: int | None,
            limit: float) -> Cost:
    """Run commands side by side in `folder` until all have ended, or for `limit` seconds.

    `server` is the pid of PostgreSQL's first process.
    """
    environment = {**os.environ, **variables}
    # Neither byte-code switched off nor an environment of the caller's may slow down or mislead a contestant.
    for name in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH"):
        environment.pop(name, None)
    with tempfile.TemporaryFile() as said:
        served, busy, started = tree_cpu(server), machine_cpu(), time.monotonic()
        processes = [subprocess.Popen([*map(str, command)], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                      stdout=said, stderr=said, start_new_session=True) for command in commands]
        watcher = Watcher([process.pid for process in processes], limit)
        try:
            cpu = sum(_wait(process) for process in processes)
        except BaseException:  # the benchmark itself is ended
            watcher.kill()
            raise
        finally:
            seconds = time.monotonic() - started
            watcher.end()
        if watcher.expired:
            raise FailedError(f"not done after {limit:,.0f} s, the limit of a command (--limit)")
        wrong = [process for process in processes if process.returncode]
        if wrong:
            said.seek(0)
            text = re.sub(r"\x1b\[[0-9;]*m", "", said.read().decode(errors="replace"))
            text = text.replace(variables.get("PGPASSWORD") or "\0", "***")  # a result is for everybody to read
            raise FailedError(f"{Path(wrong[0].args[0]).name} ended with {wrong[0].returncode}: {text[-2000:].strip()}")
    served, busy = tree_cpu(server) - served, machine_cpu() - busy
    return Cost(seconds, cpu, served, max(busy - served - cpu, 0.0), watcher.peaks)


def _wait(process: subprocess.Popen) -> float:
    """CPU seconds of the process and of all descendants that it waited for."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


class Watcher:
    """Notes the peak memory of process trees (MB, by program name), and ends them when they take too long."""

    def __init__(self, pids: list[int], limit: float) -> None:
        self.peaks: dict[str, float] = {}
        self.expired, self._deadline = False, time.monotonic() + limit
        self._pids, self._ended = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            for pid in (one for root in self._pids for one in tree(root)):
                name, peak = program(pid), peak_memory(pid)
                if name:
                    self.peaks[name] = max(peak, self.peaks.get(name, 0.0))
            if time.monotonic() > self._deadline:
                self.expired = True
                self.kill()
                return

    def kill(self) -> None:
        """Each is the leader of a session of its own; one of several may have ended."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it ended meanwhile
        return
    for thread in threads:
        for child in _read(Path(f"/proc/{pid}/task/{thread}/children")).split():
            yield from tree(int(child))


def program(pid: int) -> str:
    """The name of what runs: of the script, where that is Python's or a shell's; empty when it has ended."""
    words = [Path(word).name for word in _read(Path(f"/proc/{pid}/cmdline")).split("\0")]
    return next((word for word in words if word and not re.fullmatch(r"-.*|(ba|da)?sh|python[0-9.]*", word)), "")


def peak_memory(pid: int) -> float:
    """VmHWM in MB; the kernel keeps it from the start of the program on."""
    status = _read(Path(f"/proc/{pid}/status"))
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6 if "VmHWM:" in status else 0.0


def tree_cpu(pid: int | None) -> float:
    """CPU seconds of a process, its living descendants, and those that ended and were waited for."""
    return sum(map(_cpu, tree(pid))) if pid else 0.0


def _cpu(pid: int) -> float:
    # Of /proc/<pid>/stat, after the name in brackets: user, system, and both of children that were waited for.
    after = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, after[11:15])) / TICK


def machine_cpu() -> float:
    """CPU seconds that the whole machine was busy, or lent to another one, since it started."""
    user, nice, system, _, _, *rest = map(int, _read(Path("/proc/stat")).partition("\n")[0].split()[1:9] or [0] * 8)
    return (user + nice + system + sum(rest)) / TICK


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it has ended, or this is not Linux
        return ""


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_size for one in files)
