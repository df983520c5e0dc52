"""The locks of a load: one load per schema at a time, short lock waits with retry, and readers' older snapshots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from psycopg2 import errors as pg_errors

from landing.core.commit_point import CommitPoint
from landing.core.errors import WarehouseError
from landing.core.progress import PROGRESS_EVERY
from landing.postgres.query import query
from landing.postgres.session import Session
from landing.postgres.transaction import transaction

LOCKS_PER_TABLE = 10
LOCK_WAIT = 0.7  # seconds; below deadlock_timeout's default, so that PostgreSQL never cancels the reader
POLL = 0.2  # seconds between two attempts to take the advisory lock

KINDS = {"load": "landing", "transform": "landing transform"}  # names of advisory locks

# The session that holds a schema's advisory lock.
HOLDER = """
SELECT string_agg(format('pid %%s, user %%s, %%s, connected since %%s', l.pid, coalesce(a.usename, 'unknown'),
                         coalesce(nullif(a.application_name, ''), 'no application name'),
                         coalesce(date_trunc('second', a.backend_start)::text, 'unknown')), '; ')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = (hashtext(%s)::bigint & 4294967295)
  AND l.objid::bigint = (hashtext(%s)::bigint & 4294967295)
"""

# A role without special rights sees only pid and user of other users' sessions.
BLOCKERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, date_trunc('second', now() - a.xact_start)::text
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ANY (%s)
JOIN pg_stat_activity a ON a.pid = l.pid AND coalesce(a.backend_type, 'client backend') = 'client backend'
WHERE l.granted AND l.pid <> pg_backend_pid()
"""

# Sessions with a snapshot: process, transaction, xmin. A role without special rights sees xmin of its own sessions
# only, so every transaction of another user counts.
SNAPSHOTS = """
SELECT a.pid, l.virtualtransaction, a.backend_xmin::text
FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'virtualxid' AND l.granted
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (a.backend_xmin IS NOT NULL OR a.backend_type IS NULL)
"""


class SchemaLock:
    """The session advisory locks of all schemas that a load changes. Loads, `gc`, `drop` and `move` hold them.

    They are taken all or none: who waits for one of them holds no other.
    """

    def __init__(self, connection: Any, schemas: Callable[[], Sequence[str]], logger: logging.Logger,
                 kind: str = "load") -> None:
        """`schemas`: the schemas to lock, asked again under the locks: another load may have added one.

        `kind`: of what excludes each other, a key of KINDS.
        """
        self.connection, self._schemas, self.logger, self.kind = connection, schemas, logger, kind
        self._cursor = connection.cursor()
        self._held: list[str] = []
        self.blocked = ""  # the schema that another session has locked

    def acquire(self, timeout: float) -> bool:
        """Take the lock; log while waiting.

        Returns:
            False after `timeout` seconds.

        Raises:
            PoolerError: The connection is not one PostgreSQL session, so the lock would protect nothing.
        """
        started, logged = time.monotonic(), 0.0
        while not self._try():
            waited = time.monotonic() - started
            if waited > timeout:
                return False
            if time.monotonic() - logged > PROGRESS_EVERY:
                logged = time.monotonic()
                self.logger.info("Another %s is running in schema %s (%s). Waiting up to %g s for it to finish.",
                                 self.kind, self.blocked, self.holder(), max(timeout - waited, 0))
            time.sleep(POLL)
        if isinstance(self.connection, Session):
            self.connection.require_same()
        return True

    def _try(self) -> bool:
        for schema in (wanted := sorted({*self._schemas()})):
            if not query(self._cursor, "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))",
                         (KINDS[self.kind], schema))[0][0]:
                self.blocked = schema
                self.release()
                return False
            self._held.append(schema)
        if {*self._schemas()} <= {*wanted}:
            return True
        self.release()
        return self._try()

    def holder(self) -> str:
        """Describe the session that holds the lock."""
        return query(self._cursor, HOLDER, (KINDS[self.kind], self.blocked))[0][0] or "session already ended"

    def release(self) -> None:
        """Release the locks. Behind a pooler the session outlives this connection."""
        while self._held:
            query(self._cursor, "SELECT pg_advisory_unlock(hashtext(%s), hashtext(%s))",
                  (KINDS[self.kind], self._held.pop()))


class LockRetry:
    """Runs changes of tables and views while other sessions use them.

    A pending lock request queues every later reader behind it, so each attempt waits only LOCK_WAIT seconds, and all
    locks are free between two attempts.
    """

    def __init__(self, connection: Any, schemas: Callable[[], Sequence[str]], timeout: float, logger: logging.Logger,
                 point: CommitPoint | None) -> None:
        """`schemas`: of views and history. `timeout`: seconds for all attempts together."""
        self.connection, self.schemas, self.timeout, self.logger = connection, schemas, timeout, logger
        self.point = point

    def run(self, change: Callable[[], None], outcome: str, retry_command: str) -> None:
        """Run `change` in one transaction; retry it until its locks are granted.

        Args:
            change: Runs in the transaction, once per attempt.
            outcome: Sentence for the error message: the state after a failure.
            retry_command: Command for the error message.

        Raises:
            WarehouseError: The locks were not granted in time, or the server's lock table is too small.
        """
        deadline, logged = time.monotonic() + self.timeout, False
        while True:
            try:
                self._attempt(change)
                return
            except (pg_errors.LockNotAvailable, pg_errors.DeadlockDetected, pg_errors.QueryCanceled) as error:
                if (left := deadline - time.monotonic()) <= 0:
                    raise WarehouseError(
                        f"Timed out after {self.timeout:g} s waiting for other sessions to release locks in "
                        f"{self.schemas()[0]}: {self._blockers()}. {outcome} When they have ended, run: {retry_command}"
                    ) from error
                if not logged:
                    self.logger.info("Waiting up to %d s for other sessions to release their locks: %s", left,
                                     self._blockers())
                logged = True
            except pg_errors.OutOfMemory as error:
                if "shared memory" not in str(error):
                    raise
                raise WarehouseError(
                    f"The swap needs about {LOCKS_PER_TABLE} locks for each table, and a move one for each partition: "
                    "more than the warehouse's server allows. Raise max_locks_per_transaction there (double it, for "
                    "example) and restart that server. "
                    f"{outcome} Then run: {retry_command}"
                ) from error

    def _attempt(self, change: Callable[[], None]) -> None:
        with transaction(self.connection, self.point) as cursor:
            query(cursor, "SELECT set_config('lock_timeout', %s, true)", (f"{int(1000 * LOCK_WAIT)}ms",))
            change()

    def _blockers(self) -> str:
        """Describe the sessions that hold locks in the schemas."""
        with self.connection.cursor() as cursor:
            found = [
                f"pid {pid} (user {user}, {application or 'no application name'}, {state or 'state unknown'}"
                f"{f', for {since}' if since else ''})"
                for pid, user, application, state, since in query(cursor, BLOCKERS, (list(self.schemas()),))
            ]
        return "; ".join(found) or "sessions already ended"


def wait_for_older_snapshots(cursor: Any, timeout: float, logger: logging.Logger) -> bool:
    """Wait, as CREATE INDEX CONCURRENTLY does, for all transactions whose snapshot exists now.

    Returns:
        False after `timeout` seconds.
    """
    older = {*query(cursor, SNAPSHOTS)}
    deadline, logged = time.monotonic() + timeout, False
    while older := older & {*query(cursor, SNAPSHOTS)}:
        holders = ", ".join(f"pid {pid}" for pid, *_ in older)
        if time.monotonic() > deadline:
            logger.warning("%s: a snapshot older than the COPY would see none of its rows. Tables of several files "
                           "are copied again, over one connection.", holders)
            return False
        if not logged and time.monotonic() > deadline - timeout + 1:
            logged = True
            logger.info("Waiting up to %d s for transactions older than the copy: %s", timeout, holders)
        time.sleep(0.05)
    return True
