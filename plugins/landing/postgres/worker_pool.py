"""A pool of PostgreSQL connections, one per thread: libpq releases the GIL while it waits.

The first failure cancels all other tasks: a partition is committed atomically, so their results would be discarded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from psycopg2.extensions import connection as Connection

from landing.postgres.session import end

END_INTERVAL = 1.0  # seconds between attempts to end the sessions of tasks that are still running
T = TypeVar("T")


class WorkerPool:
    """Threads with one connection each, opened on first use."""

    def __init__(self, count: int, connect: Callable[[], Connection], shared: Sequence[Connection] = ()) -> None:
        """Args:
        count: Maximum number of threads.
        connect: Opens a thread's connection.
        shared: Connections of others that tasks use too. close() ends their statements, but does not close them.
        """
        self._executor = ThreadPoolExecutor(count)
        self._connect, self._shared, self._closing = connect, shared, False
        self._own = threading.local()
        self._connections: list[Connection] = []
        self._tasks: list[Future[Any]] = []
        self._failed: Future[None] = Future()
        self._lock = threading.Lock()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, task: Callable[[Connection], T]) -> Future[T]:
        """Run a task with one of the connections."""
        future = self._executor.submit(self._run, task)
        self._tasks.append(future)
        return future

    def result(self, future: Future[T], every: float | None = None, report: Callable[[], None] = lambda: None) -> T:
        """Wait for a task's result, calling `report` every `every` seconds.

        Raises:
            BaseException: The error of the first task that failed, without waiting for this one.
        """
        while not wait([future, self._failed], every, FIRST_COMPLETED).done:
            report()
        if self._failed.done():
            self._failed.result()
        return future.result()

    def _run(self, task: Callable[[Connection], T]) -> T:
        try:
            if not hasattr(self._own, "connection"):
                self._own.connection = self._connect()
                self._connections.append(self._own.connection)
                if self._closing:
                    raise CancelledError
            return task(self._own.connection)
        except BaseException as error:
            with self._lock:
                if not self._failed.done():
                    self._failed.set_exception(error)
            raise

    def close(self) -> None:
        """Cancel running tasks and close the pool's connections."""
        self._closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        running = {task for task in self._tasks if not task.done()}
        while running:
            end(one for one in [*self._connections, *self._shared] if getattr(one, "awaiting", False))
            running = wait(running, END_INTERVAL).not_done
        for connection in self._connections:
            connection.close()
