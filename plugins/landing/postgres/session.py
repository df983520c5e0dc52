"""One session with a PostgreSQL server; it times out when the server stalls, and any thread can end it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

from landing.core.errors import PoolerError, StalledError
from landing.postgres import stall
from landing.postgres.watchdog import watch

STALL_TIMEOUT = 600  # seconds
PROBES = 10  # statements of each of two connections, to detect transaction pooling

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ANY (%s) AND usename = current_user AND application_name = %s
"""


class Cursor(psycopg2.extensions.cursor):
    """A cursor whose statements time out when the server stalls."""

    def execute(self, *arguments: Any, **named: Any) -> Any:
        with self.connection.awaited():
            return super().execute(*arguments, **named)

    def copy_expert(self, *arguments: Any, **named: Any) -> Any:
        with self.connection.awaited():
            return super().copy_expert(*arguments, **named)


class Session(psycopg2.extensions.connection):
    """An autocommit connection; see open_session().

    Attributes:
        arguments: Those of psycopg2.connect(), for a second connection.
        stall_timeout: Seconds without a byte, from a backend that is not busy, until the session is ended.
        server_pid: The backend's pid; a pooler gives libpq another one.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.cursor_factory = Cursor
        self.autocommit = True
        self.stall_timeout: float = STALL_TIMEOUT
        self.server_pid = 0
        self.arguments: Mapping[str, Any] = {}
        self._since: float | None = None  # start of the statement that is running
        self._moved = 0.0  # last time that a byte was sent or received
        self._counters: tuple[int, int] | None = None
        self._stalled: str | None = None

    @property
    def awaiting(self) -> bool:
        """Whether a statement is running."""
        return self._since is not None

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the server. Raises StalledError if it stalls."""
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
        """Restart the stall timeout: bytes were sent or received."""
        self._moved = time.monotonic()

    def check(self) -> None:
        """End the session if the server has stalled. The watchdog calls it."""
        since = self._since
        if since is None or self._stalled:
            return
        if (counters := stall.socket_counters(self)) and counters != self._counters:
            self._counters = counters
            self.touch()
        if time.monotonic() - self._moved < self.stall_timeout:
            return
        why = stall.why_stalled(self.arguments, self.server_pid or self.info.backend_pid, self.stall_timeout)
        if self._since != since:  # the statement ended meanwhile
            return
        if why is None:
            self.touch()
            return
        self._stalled = (
            f"PostgreSQL at {self.info.host}:{self.info.port} (backend {self.server_pid}) stalled: no byte sent or "
            f"received for {self.stall_timeout:g} s (stall_timeout), and {why}. The connection was closed. Check that "
            "server and the network."
        )
        end([self])

    def hang_up(self) -> None:
        """Shut the socket down: libpq returns from any wait, with an error."""
        with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(self.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close; a pooler may reuse the session as it is, so reset its settings and locks first."""
        pooled = self.server_pid not in (0, self.info.backend_pid) if not self.closed else False
        if pooled and not self.awaiting and not self._stalled:
            with contextlib.suppress(psycopg2.Error, StalledError), self.cursor() as cursor:
                cursor.execute("ROLLBACK; RESET ALL; SELECT pg_advisory_unlock_all()")
        super().close()

    def cancel(self) -> None:
        """End the session: libpq's own cancel waits for the server without a timeout, and holds the GIL."""
        end([self])

    def require_session(self) -> None:
        """Raise PoolerError behind a transaction pooler: statements of one connection run in several backends."""
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
        """Raise PoolerError if another backend answers than before."""
        if backend_pid(self) != self.server_pid:
            raise PoolerError(self._pooled())

    def _pooled(self) -> str:
        return (
            f"{self.info.host}:{self.info.port} is a connection pooler that uses transaction pooling. Session settings "
            "(all rows, exact values) and a load's lock need one session for a whole run. Connect directly to "
            "PostgreSQL, or use session pooling (pgbouncer: pool_mode = session for this database or user)."
        )


def backend_pid(connection: Any) -> int:
    """Pid of the backend that answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def open_session(arguments: Mapping[str, Any], stall_timeout: float) -> Session:
    """Connect.

    Raises:
        psycopg2.OperationalError: The server cannot be reached, or rejects the login.
        PoolerError: A transaction pooler answers.
    """
    # Set at connect: psycopg2 ignores later changes when it decodes.
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
    """A session under the watchdog from its first statement on: a server can stall there too."""
    session = psycopg2.connect(**arguments, connection_factory=Session)
    session.arguments, session.stall_timeout = arguments, stall_timeout
    watch(session)
    return session


def end(sessions: Iterable[Any]) -> None:
    """Close the sockets of sessions at once, and terminate their backends if the server answers in time."""
    ended = [one for one in sessions if isinstance(one, Session)]
    for one in ended:
        one.hang_up()

    def terminate() -> None:
        with contextlib.closing(psycopg2.connect(**ended[0].arguments)) as other, other.cursor() as cursor:
            cursor.execute(TERMINATE, ([one.server_pid for one in ended], ended[0].arguments.get("application_name")))

    if ended:
        stall.bounded(terminate, min(stall.QUERY_TIMEOUT, ended[0].stall_timeout))
