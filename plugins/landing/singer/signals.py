"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from typing import Any

from landing.core.commit_point import PASSED, PASSING, UNKNOWN, CommitPoint
from landing.singer.scratch import FOLDERS
from landing.singer.sdk import SdkPlugin

logger = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds that a signal waits for a commit, or a message, that is on its way


class SignalHandling(SdkPlugin):
    """A plugin that ends at once, with a non-zero status, when it is told to.

    The SDK's handlers drain what they have and exit with 0, as if that were all; and Python runs no handler at all
    while libpq waits for the server. So a thread of its own waits for the signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.point = CommitPoint()  # first of all: the base class starts the thread that waits for signals
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
        threading.Thread(target=self._await_signal, args=(woken,), daemon=True).start()

    def _await_signal(self, woken: int) -> None:
        """End the process, whatever fails or hangs meanwhile. `woken`: where Python writes each signal's number."""
        while (number := os.read(woken, 1)[0]) not in self.SIGNALS:
            pass
        status = 128 + number
        try:
            watchdog = threading.Timer(3 * PATIENCE, os._exit, (status,))
            watchdog.daemon = True
            watchdog.start()
            status = self._stop(number, status)
            for folder in [*FOLDERS]:
                shutil.rmtree(folder, ignore_errors=True)
        except BaseException:
            logger.exception("Stopping by signal %d failed.", number)
        finally:
            os._exit(status)

    def _stop(self, number: int, status: int) -> int:
        """Report the outcome, once it can't change any more, and the exit status; see CommitPoint."""
        state, idle = self.point.close(status, PATIENCE)
        if state == PASSED:
            logger.info("Signal %d came after the commit point. %s", number, self.point.done)
            threading.main_thread().join(PATIENCE)  # what is left takes moments, and ends the process
            return 0
        if state in (PASSING, UNKNOWN):
            logger.error("Stopped by signal %d at the commit point. %s", number, self.point.unknown)
            return status
        logger.error("Stopped by signal %d before the commit point: nothing was committed. Run again.", number)
        self.stopped()
        if idle:
            self.clean_up()
        else:
            threading.main_thread().join(PATIENCE)  # it can't pass, so it takes back what it moved, and ends
        return status

    def stopped(self) -> None:
        """Hook for what is to be noted when a signal ends this run."""

    def clean_up(self) -> None:
        """Remove what only this run needs."""


def _noted(*_: Any) -> None:
    """A handler, so that Python writes the signal's number to the wakeup descriptor, whichever thread it reaches."""
