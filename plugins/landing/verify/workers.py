"""Processes that hash at the same time: Python hashes row by row in one thread at a time.

Each has its own connection to the warehouse, opened on first use.
"""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from landing.core.errors import VerificationError
from landing.core.progress import Progress
from landing.postgres.session import Session
from landing.verify import worker
from landing.verify.contents import Task

T = TypeVar("T")
AHEAD = 64  # tables that are begun before the first of them is asked for


def done(value: T) -> Future[T]:
    """A future that has its result."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def in_order(started: Iterable[Future[T]]) -> Iterator[T]:
    """The results of what is started, some of it ahead, in order."""
    waiting: deque[Future[T]] = deque()
    for one in started:
        waiting.append(one)
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Labour(Protocol):
    """Does tasks.

    Attributes:
        elsewhere: Whether in other processes, with other connections.
    """

    elsewhere: bool

    def submit(self, task: Task, progress: Progress | None = None) -> Future[Any]:
        """Do a task, now or later."""


class Here:
    """Does each task at once, in this process and with its connection."""

    elsewhere = False

    def __init__(self, connection: Session | None) -> None:
        self._connection = connection

    def submit(self, task: Task, progress: Progress | None = None) -> Future[Any]:
        """Do a task. Raises its error."""
        return done(task(lambda: self._connection, progress.stream() if progress else lambda _: None))


class Workers:
    """Processes, started when they are needed; close() ends them, whatever they do.

    Use as a context manager.
    """

    elsewhere = True

    def __init__(self, count: int, connection: Session) -> None:
        """`connection`: to the server that the processes connect to, too."""
        self.count, self._connection = count, connection
        self._executor = ThreadPoolExecutor(count, "verify")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._processes: list[_Process] = []
        self._closed = False

    def submit(self, task: Task, progress: Progress | None = None) -> Future[Any]:
        """Have a task done by the next process that is free."""
        return self._executor.submit(self._run, task, progress)

    def _run(self, task: Task, progress: Progress | None) -> Any:
        if not hasattr(self._own, "process"):
            with self._lock:
                if self._closed:
                    raise VerificationError("Stopped.")
                self._own.process = _Process(self._connection)
                self._processes.append(self._own.process)
        return self._own.process.run(task, progress)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
            for one in self._processes:
                one.kill()
        self._executor.shutdown(cancel_futures=True)
        for one in self._processes:
            one.close()


class _Process:
    def __init__(self, connection: Session) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            # -P: a folder `landing` in the working directory is not ours.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", worker.__name__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL)
        self._send((dict(connection.arguments), connection.stall_timeout, logging.getLogger().getEffectiveLevel()))

    def run(self, task: Task, progress: Progress | None) -> Any:
        """Have a task done. Raises its error."""
        if progress:
            progress.start()
        self._send(task)
        while True:
            kind, value = self._received()
            if kind == worker.DONE:
                return value
            if kind == worker.FAILED:
                raise value
            if kind == worker.LOGGED:
                name, level, message = value
                logging.getLogger(name).log(level, "%s", message)
            elif progress:
                progress.add(*value)

    def _send(self, value: Any) -> None:
        self._reached(lambda: self._pipe.send(value))

    def _received(self) -> Any:
        return self._reached(self._pipe.recv)

    def _reached(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (EOFError, OSError):
            raise VerificationError(
                f"A process that hashes ended (exit status {self._process.wait()}), so nothing was verified. Was it "
                "killed, for want of memory? Run again, with TARGET_POSTGRES_CONNECTIONS=1 to do without.") from None

    def kill(self) -> None:
        """End it at once; its server notices that by the closed socket."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipe, which nobody reads any more."""
        self._pipe.close()
