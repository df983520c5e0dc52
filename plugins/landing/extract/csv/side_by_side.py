"""Entities that are converted side by side, in threads: DuckDB, hashes and files let go of Python's lock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from landing.extract.csv.stopping import Stop

AT_ONCE = 2
LARGE = 32 << 20  # bytes of files: one such entity at a time, as each takes memory for its keys
INTERVAL = 0.1  # seconds between attempts to interrupt what is between two statements
T = TypeVar("T")


class SideBySide:
    """Threads that convert entities in the order in which they are submitted."""

    def __init__(self) -> None:
        self.stop = Stop()
        self._executor = ThreadPoolExecutor(AT_ONCE)
        self._tasks: list[Future[Any]] = []
        self._one_large = threading.Lock()

    def submit(self, task: Callable[[], T], size: int) -> Future[T]:
        """`size`: bytes of the files."""
        self._tasks.append(self._executor.submit(self._run, task, large=size > LARGE))
        return self._tasks[-1]

    def _run(self, task: Callable[[], T], *, large: bool) -> T:
        with self._one_large if large else contextlib.nullcontext():
            self.stop.check()
            return task()

    def close(self) -> None:
        """Have all that runs give up, and wait for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        running = {task for task in self._tasks if not task.done()}
        while running:
            self.stop.ask()
            running = wait(running, INTERVAL).not_done
        self._tasks.clear()
