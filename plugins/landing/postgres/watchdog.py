"""One thread that checks all waiting sessions for stalled servers.

libpq waits without a timeout for a server whose kernel acknowledges packets while PostgreSQL sends nothing. If no byte
moves for `stall_timeout` seconds, a second connection asks pg_stat_activity whether the backend is busy (a long sort
is). If it is not, or there is no answer, the socket is shut down: libpq returns an error, which becomes a StalledError.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landing.postgres.session import Session

TICK = 5.0  # seconds between two checks, at most
_watched: weakref.WeakSet[Session] = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def watch(session: Session) -> None:
    """Check a session until it is closed."""
    global _thread
    with _lock:
        _watched.add(session)
        if _thread is None or not _thread.is_alive():  # a fork has no copy of the thread
            _thread = threading.Thread(target=_watchdog, daemon=True, name="stall watchdog")
            _thread.start()


def _watchdog() -> None:
    while True:
        with _lock:
            sessions = [one for one in _watched if not one.closed]
        for one in sessions:
            one.check()
        tick = min([TICK, *(one.stall_timeout / 4 for one in sessions)])
        sessions.clear()  # drop our references, so that unused sessions are closed
        one = None
        time.sleep(tick)
