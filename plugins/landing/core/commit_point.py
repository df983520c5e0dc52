"""The commit point of a run: the main thread passes it, or a signal closes it, never both.

A message about the outcome is true only if the outcome cannot change after it was written: the thread that handles a
signal closes the commit point first, and reports then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

BEFORE, PASSING, PASSED, UNKNOWN = "before", "passing", "passed", "unknown"


class CommitPoint:
    """State of a run's commit.

    Attributes:
        state: BEFORE, PASSING, PASSED or UNKNOWN.
        done: Message for PASSED.
        unknown: Message for UNKNOWN.
        idle: Whether a signal closed the commit point while the main thread was outside working().
    """

    def __init__(self) -> None:
        self.state = BEFORE
        self.done = "It is committed."
        self.unknown = "Whether it was committed is unknown. Run again."
        self.idle = False
        self._changed = threading.Condition()
        self._status: int | None = None  # exit status, once closed
        self._working = False

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Within this context only the main thread may touch files. Raises SystemExit if closed."""
        self._become(working=True)
        try:
            yield
        finally:
            self._working = False

    @contextlib.contextmanager
    def passing(self, lost: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Publish within this context.

        Args:
            lost: Whether a failure leaves the outcome unknown, as a lost connection does.

        Raises:
            SystemExit: The commit point is closed.
        """
        before = self.state
        self._become(state=PASSING)
        try:
            yield
        except BaseException:
            self._become(state=UNKNOWN if lost() else before, closed=True)
            raise
        self._become(state=PASSED, closed=True)

    def close(self, status: int, patience: float) -> tuple[str, bool]:
        """Close the commit point: nothing may pass or begin any more.

        Args:
            status: Exit status for the main thread.
            patience: Seconds to wait for a commit in progress.

        Returns:
            The state, PASSING if the commit did not finish in time; and `idle`.
        """
        with self._changed:
            self._status = status
            self.idle = not self._working
            self._changed.wait_for(lambda: self.state != PASSING, patience)
            return self.state, self.idle

    def _become(self, *, state: str | None = None, working: bool = False, closed: bool = False) -> None:
        with self._changed:
            if self._status is not None and not closed:
                raise SystemExit(self._status)
            self.state = state or self.state
            self._working = self._working or working
            self._changed.notify_all()
