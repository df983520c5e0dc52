"""The commit point of a run: passed by the main thread, or closed by a signal, never both.

A message about the outcome is true only if the outcome cannot change after it was written: so the thread that handles a
signal closes the commit point first, and reports then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

BEFORE, PASSING, PASSED, UNKNOWN = "before", "passing", "passed", "unknown"


class CommitPoint:
    """State of a run's commit. `done` and `unknown` are sentences for people, for the states of these names."""

    def __init__(self) -> None:
        self.state = BEFORE
        self.done = "It is committed."
        self.unknown = "It is not known whether it was committed. Run again."
        self._changed = threading.Condition()
        self._status: int | None = None  # to exit with, once closed
        self._working = False

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """The part of a run in which only its own thread may touch files. Raises SystemExit once closed."""
        self._become(working=True)
        try:
            yield
        finally:
            self._working = False

    @contextlib.contextmanager
    def passing(self, lost: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Publish in here. Raises SystemExit once closed. `lost` tells a failure without an answer from a refusal."""
        before = self.state
        self._become(state=PASSING)
        try:
            yield
        except BaseException:
            self._become(state=UNKNOWN if lost() else before, closed=True)
            raise
        self._become(state=PASSED, closed=True)

    def close(self, status: int, patience: float) -> tuple[str, bool]:
        """Let nothing pass or begin any more: the state, and whether the main thread is not working().

        Waits up to `patience` seconds for an outcome that is on its way; PASSING means that it did not come.
        """
        with self._changed:
            self._status = status
            idle = not self._working
            self._changed.wait_for(lambda: self.state != PASSING, patience)
            return self.state, idle

    def _become(self, *, state: str | None = None, working: bool = False, closed: bool = False) -> None:
        with self._changed:
            if self._status is not None and not closed:
                raise SystemExit(self._status)
            self.state = state or self.state
            self._working = self._working or working
            self._changed.notify_all()
