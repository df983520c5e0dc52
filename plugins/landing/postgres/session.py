"""One session with a PostgreSQL server: its waits are watched, and it can be ended whatever it waits for.

libpq waits without a limit for a server whose kernel answers and which sends nothing. So a thread looks at each session
that waits for its server. Where no byte moves for `stall_timeout` seconds, a second connection asks pg_stat_activity
whether the backend is at work (a long sort is). If it is not, or if nobody answers, the socket is shut down: libpq
returns with an error, which becomes a StalledError.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

from landing.core.errors import PoolerError, StalledError
from landing.postgres.watchdog import watch

STALL_TIMEOUT = 600  # seconds
ASK = 30.0  # seconds that the second connection may take
SAMPLES, BETWEEN = 3, 0.3  # of a backend's state, and seconds between two
PROBES = 10  # statements of each of two connections, to tell a pooler's mode
COUNTERS = struct.Struct("=QQ")  # of Linux' tcp_info: bytes acknowledged by the peer, and bytes received
COUNTERS_AT = 120
ACTIVITY = "SELECT state, wait_event_type, wait_event FROM pg_stat_activity WHERE pid = %s"

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ANY (%s) AND usename = current_user AND application_name = %s
"""
logger = logging.getLogger("landing")


class Cursor(psycopg2.extensions.cursor):
    """A cursor whose waits are watched."""

    def execute(self, *arguments: Any, **named: Any) -> Any:
        with self.connection.awaited():
            return super().execute(*arguments, **named)

    def copy_expert(self, *arguments: Any, **named: Any) -> Any:
        with self.connection.awaited():
            return super().copy_expert(*arguments, **named)


class Session(psycopg2.extensions.connection):
    """An autocommit connection. open() makes one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.cursor_factory = Cursor
        self.autocommit = True
        self.stall_timeout: float = STALL_TIMEOUT
        self.server_pid = 0  # a pooler tells libpq another
        self.arguments: Mapping[str, Any] = {}
        self._since: float | None = None  # when it began to wait for its server
        self._moved, self._counters = 0.0, (0, 0)
        self._stalled: str | None = None

    @property
    def awaiting(self) -> bool:
        """Whether a statement is at work."""
        return self._since is not None

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the server; StalledError if it does nothing for too long."""
        self._since = self._moved = time.monotonic()
        try:
            yield
        except psycopg2.Error as error:
            if self._stalled:
                raise StalledError(self._stalled) from error
            raise
        finally:
            self._since = None

    def touch(self) -> None:
        """Bytes moved."""
        self._moved = time.monotonic()

    def look(self) -> None:
        """End the session if its server has stalled."""
        since = self._since
        if since is None or self._stalled:
            return
        if (counters := self._socket_counters()) != self._counters:
            self._counters = counters
            self.touch()
        if time.monotonic() - self._moved < self.stall_timeout:
            return
        why = self._why_stalled()
        if self._since != since:  # it ended meanwhile
            return
        if why is None:
            self.touch()
            return
        self._stalled = (
            f"PostgreSQL at {self.info.host}:{self.info.port} (backend {self.server_pid}) stalled: no byte moved for "
            f"{self.stall_timeout:g} s (stall_timeout), and {why}. The connection was ended. Look at that server and "
            "at the network between."
        )
        end([self])

    def _socket_counters(self) -> tuple[int, int]:
        """Bytes that went and came, as far as the system counts them."""
        if not sys.platform.startswith("linux"):
            return self._counters
        try:
            with socket.socket(fileno=os.dup(self.fileno())) as copy:
                found = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, COUNTERS_AT + COUNTERS.size)
            return COUNTERS.unpack_from(found, COUNTERS_AT)
        except (OSError, psycopg2.Error, struct.error):  # a local socket, or closed
            return self._counters

    def _why_stalled(self) -> str | None:
        """Ask by a second connection; None where the backend is at work."""
        limit = max(min(ASK, self.stall_timeout), 2 * SAMPLES * BETWEEN)
        answered, states = _bounded(self._states, limit)
        if not answered:
            return f"a second connection got no answer in {limit:g} s"
        if isinstance(states, Exception):
            return f"a second connection failed ({' '.join(str(states).split())})"
        if None in states:
            return "its session is gone there"
        for state, kind, event in states:
            if kind != "Client" and not (state or "").startswith("idle"):
                logger.info("No byte from PostgreSQL's backend %d for %g s; it is at work there (%s%s).",
                            self.server_pid, self.stall_timeout, state, f", waiting for {kind} {event}" if kind else "")
                return None
        return f"its session there waits for us ({states[-1][2] or states[-1][0]})"

    def _states(self) -> list[tuple[str, str, str] | None]:
        with contextlib.closing(psycopg2.connect(**self.arguments)) as other, other.cursor() as cursor:
            other.autocommit = True
            states = []
            for _ in range(SAMPLES):
                cursor.execute(ACTIVITY, (self.server_pid or self.info.backend_pid,))
                states.append(cursor.fetchone())
                time.sleep(BETWEEN)
            return states

    def hang_up(self) -> None:
        """Have libpq return from whatever it waits for, with an error."""
        with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(self.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """A pool may give the session to others as it is: leave no settings and no lock behind."""
        pooled = self.server_pid not in (0, self.info.backend_pid) if not self.closed else False
        if pooled and not self.awaiting and not self._stalled:
            with contextlib.suppress(psycopg2.Error, StalledError), self.cursor() as cursor:
                cursor.execute("ROLLBACK; RESET ALL; SELECT pg_advisory_unlock_all()")
        super().close()

    def cancel(self) -> None:
        """libpq's own waits for the server without a limit, while no other thread runs; this one ends the session."""
        end([self])

    def require_session(self) -> None:
        """PoolerError, where a pooler gives each transaction another of its own connections."""
        if self.server_pid == self.info.backend_pid:
            return
        with contextlib.closing(_connected(self.arguments, self.stall_timeout)) as other:
            ours, others = set(), set()
            for _ in range(PROBES):
                ours.add(backend_pid(self))
                others.add(backend_pid(other))
        if ours != {self.server_pid} or ours & others:
            raise PoolerError(self._pooled())

    def require_same(self) -> None:
        """PoolerError, where another backend answers than before."""
        if backend_pid(self) != self.server_pid:
            raise PoolerError(self._pooled())

    def _pooled(self) -> str:
        return (
            f"At {self.info.host}:{self.info.port} a connection pooler answers, and gives each transaction another of "
            "its connections to PostgreSQL (transaction pooling). Settings that show all rows and exact values, and "
            "the lock of a load, belong to one session. Connect directly to PostgreSQL, or use session pooling "
            "(pgbouncer: pool_mode = session for this database or user)."
        )


def backend_pid(connection: Any) -> int:
    """Of the process that answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def open_session(arguments: Mapping[str, Any], stall_timeout: float) -> Session:
    """Connect; psycopg2.OperationalError if that fails, PoolerError if it is no session."""
    # At connect: psycopg2 decodes by what it found then, whatever is set later.
    arguments = {**arguments, "client_encoding": "UTF8"}
    session = _connected(arguments, stall_timeout)
    try:
        session.server_pid = backend_pid(session)
        session.require_session()
    except BaseException:
        session.close()
        raise
    return session


def _connected(arguments: Mapping[str, Any], stall_timeout: float) -> Session:
    """A session that is watched before its first statement: a server may stall at that as well."""
    session = psycopg2.connect(**arguments, connection_factory=Session)
    session.arguments, session.stall_timeout = arguments, stall_timeout
    watch(session)
    return session


def end(sessions: Iterable[Any]) -> None:
    """End sessions here at once, and on their server as soon as it answers."""
    ended = [one for one in sessions if isinstance(one, Session)]
    for one in ended:
        one.hang_up()

    def terminate() -> None:
        with contextlib.closing(psycopg2.connect(**ended[0].arguments)) as other, other.cursor() as cursor:
            cursor.execute(TERMINATE, ([one.server_pid for one in ended], ended[0].arguments.get("application_name")))

    if ended:
        _bounded(terminate, min(ASK, ended[0].stall_timeout))


def _bounded(work: Callable[[], Any], limit: float) -> tuple[bool, Any]:
    """Whether a work ended in time, and its result, or the error that it raised."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:  # told by the caller
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    return bool(result), result[0] if result else None
