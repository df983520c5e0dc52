"""Several connections at work side by side: threads, since libpq waits without holding Python up.

The first work that fails ends all the others: a date is whole or not there, so what they do is of no use any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from psycopg2.extensions import connection as Connection

from landing.postgres.session import end

AGAIN = 1.0  # seconds until works that are still there are ended once more
T = TypeVar("T")


class Workers:
    """Up to `count` threads, each with a connection of its own, which is made when it is first needed."""

    def __init__(self, count: int, connect: Callable[[], Connection], shared: Sequence[Connection] = ()) -> None:
        """`shared`: connections of others that works use too. They are ended when works are, and not closed."""
        self._executor = ThreadPoolExecutor(count)
        self._connect, self._shared, self._closing = connect, shared, False
        self._own = threading.local()
        self._connections: list[Connection] = []
        self._works: list[Future[Any]] = []
        self._failed: Future[None] = Future()
        self._lock = threading.Lock()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Have work done with one of the connections."""
        future = self._executor.submit(self._run, work)
        self._works.append(future)
        return future

    def result(self, future: Future[T], every: float | None = None, say: Callable[[], None] = lambda: None) -> T:
        """What a work gave, or at once the error of the first work that failed; `say` is called `every` s till then."""
        while not wait([future, self._failed], every, FIRST_COMPLETED).done:
            say()
        if self._failed.done():
            self._failed.result()
        return future.result()

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            if not hasattr(self._own, "connection"):
                self._own.connection = self._connect()
                self._connections.append(self._own.connection)
                if self._closing:
                    raise CancelledError
            return work(self._own.connection)
        except BaseException as error:
            with self._lock:
                if not self._failed.done():
                    self._failed.set_exception(error)
            raise

    def close(self) -> None:
        """End what is still at work, and the connections."""
        self._closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        left = {work for work in self._works if not work.done()}
        while left:
            end(one for one in [*self._connections, *self._shared] if getattr(one, "awaiting", False))
            left = wait(left, AGAIN).not_done
        for connection in self._connections:
            connection.close()
