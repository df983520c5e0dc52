"""Signals: a plugin ends at once on SIGINT, SIGTERM and the end of its Meltano, and reports whether it committed."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import threading
from collections.abc import Iterator
from typing import Any

from landing.core.commit_point import BEFORE, PASSED, PASSING, UNKNOWN, CommitPoint
from landing.core.reporting import leave
from landing.singer.scratch import FOLDERS
from landing.singer.sdk import SdkPlugin

logger = logging.getLogger(__name__)

STOPPED = "Stopped by a signal"
MELTANO = ("MELTANO_EXTRACTOR_NAME", "MELTANO_LOADER_NAME")  # set for plugins that Meltano starts
INTERVAL = 1.0  # seconds between two looks at the parent process
TIMEOUT = 5.0  # seconds that a signal waits for a commit or a message in progress


class SignalHandling(SdkPlugin):
    """A plugin that ends at once on a signal, with a non-zero exit status.

    The SDK's handlers drain all sinks and exit with 0, as if the input were complete; and Python runs no handler while
    libpq waits for the server. So a thread waits for the signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.point = CommitPoint()  # before the base class starts the thread
        super().__init__(*args, **kwargs)

    def handle_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in self.SIGNALS:
            signal.signal(number, _noted)
            signal.siginterrupt(number, False)
        parent = os.getppid() if any(name in os.environ for name in MELTANO) else None
        self._thread = threading.Thread(target=self._await_signal, args=(woken, parent), daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Work whose files a signal's clean-up may remove: an error that this causes must not be how the process ends.

        The thread that handles the signal ends the process.
        """
        try:
            yield
        except BaseException:
            if self.point.idle and self.point.state == BEFORE:
                self._thread.join()
            raise

    def _await_signal(self, woken: int, parent: int | None) -> None:
        """End the process on a signal, even if the clean-up fails or hangs. Python writes signal numbers to `woken`.

        A Meltano that is killed by SIGKILL cannot signal its plugins, and target-postgres would go on loading: the end
        of the process `parent` counts as SIGTERM.
        """
        number, cause = 0, "the end of Meltano"
        while number not in self.SIGNALS:
            if select.select([woken], [], [], INTERVAL if parent else None)[0]:
                number = os.read(woken, 1)[0]
                cause = f"signal {number}"
            elif os.getppid() != parent:
                number = signal.SIGTERM
        status = 128 + number
        try:
            watchdog = threading.Timer(3 * TIMEOUT, os._exit, (status,))
            watchdog.daemon = True
            watchdog.start()
            status = self._stop(cause, status)
            for folder in [*FOLDERS]:
                shutil.rmtree(folder, ignore_errors=True)
        except BaseException:
            logger.exception("Stopping by %s failed.", cause)
        finally:
            os._exit(status)

    def _stop(self, cause: str, status: int) -> int:
        """Log the outcome once it is final, and return the exit status; see CommitPoint."""
        state, idle = self.point.close(status, TIMEOUT)
        if state == PASSED:
            logger.info("%s came after the commit point. %s", cause.capitalize(), self.point.done)
            threading.main_thread().join(TIMEOUT)  # the rest takes moments, and ends the process
            return 0
        if state in (PASSING, UNKNOWN):
            self._say(f"Stopped by {cause} at the commit point. {self.point.unknown}")
            return status
        self._say(f"Stopped by {cause} before the commit point: nothing was committed. Run again.")
        self.stopped()
        if idle:
            self.clean_up()
        else:
            threading.main_thread().join(TIMEOUT)  # it cannot commit any more, so it undoes its work and ends
        return status

    def _say(self, message: str) -> None:
        logger.error("%s", message)
        leave(self.name, STOPPED, message)

    def stopped(self) -> None:
        """Hook: record that a signal ended this run."""

    def clean_up(self) -> None:
        """Hook: remove what only this run needs."""


def _noted(*_: Any) -> None:
    """A handler: without one, Python does not write the signal's number to the wakeup descriptor."""
