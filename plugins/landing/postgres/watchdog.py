"""One session with a PostgreSQL server: its waits are watched, and it can be ended whatever it waits for.

libpq waits without a limit for a server whose kernel answers and which sends nothing. So a thread looks at each session
that waits for its server. Where no byte moves for `stall_timeout` seconds, a second connection asks pg_stat_activity
whether the backend is at work (a long sort is). If it is not, or if nobody answers, the socket is shut down: libpq
returns with an error, which becomes a StalledError.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from landing.postgres.session import Session

TICK = 5.0  # seconds between two looks, at most
_watched: weakref.WeakSet[Session] = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def watch(session: Session) -> None:
    global _thread
    with _lock:
        _watched.add(session)
        if _thread is None or not _thread.is_alive():  # not after a fork either
            _thread = threading.Thread(target=_watchdog, daemon=True, name="stall watchdog")
            _thread.start()


def _watchdog() -> None:
    while True:
        with _lock:
            sessions = [one for one in _watched if not one.closed]
        for one in sessions:
            one.look()
        tick = min([TICK, *(one.stall_timeout / 4 for one in sessions)])
        sessions.clear()  # one that nobody else uses is closed
        one = None
        time.sleep(tick)
