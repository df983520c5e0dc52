"""One snapshot of a source database, read by several connections in parallel, large tables in chunks.

    main connection     holds the locks and exports its snapshot (repeatable read); copies only what a worker cannot
    worker              imports that snapshot into one transaction per table or chunk

All relations that the selected tables and views read are locked (ACCESS SHARE) until the end, tables and views before
the snapshot is taken. LOCK does not accept materialized views: planning a query locks them right after the snapshot,
which is taken again if a file was replaced in between (REFRESH, TRUNCATE).

A chunk is a range of a table's pages (`ctid`): read in order, chunks give the same rows as one COPY of the table.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from landing.core.errors import LandingError, SourceError
from landing.core.progress import Progress
from landing.extract.postgres.catalog import SourceTable, describe_tables
from landing.extract.postgres.keys import problem, with_keys
from landing.extract.postgres.locks import lock_by_planning, lock_tables, lock_views
from landing.extract.postgres.relations import Key, Relation, reads
from landing.extract.postgres.sizes import chunk_conditions, expected_bytes, page_counts, row_counts
from landing.model.schema import Column
from landing.postgres import copy
from landing.postgres.connect import connect
from landing.postgres.copy import Copied
from landing.postgres.session import STALL_TIMEOUT
from landing.postgres.transaction import begin
from landing.protection.marks import Marks
from landing.storage import hashing
from landing.storage.base import Object

LOCK_TIMEOUT = "2s"  # for a worker, behind a pending ALTER; see Snapshot.read()
TRIES = 20  # snapshots, until none is older than a file that it reads
PAUSE = 0.1  # seconds, times the number of tries so far
NO_KEYS: Mapping[str, Any] = {}
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Snapshot:
    """A repeatable-read transaction on the source, and the workers' transactions on the same snapshot.

    Attributes:
        connection: The main connection.
        tables: Tables and views of the source by (schema, name), as of the snapshot.
        taken_at: The snapshot's time, by the server's clock.
        info: Server version, database and WAL position, for the manifest.
        left_out: Wanted tables and views that hold no data by nature, and why: nothing can be read from them.
    """

    def __init__(self, dsn: str, schemas: Sequence[str], wanted: Sequence[Key], connections: int,
                 stall_timeout: float = STALL_TIMEOUT, keys: Mapping[str, Any] = NO_KEYS) -> None:
        """Take the snapshot.

        Args:
            dsn: Of the source.
            schemas: Schemas to describe; empty: all but PostgreSQL's own.
            wanted: Tables and views, locked against TRUNCATE and ALTER before the snapshot is taken: a snapshot older
                than a TRUNCATE or rewrite sees the table as empty, without an error.
            connections: Number of workers.
            stall_timeout: Seconds without progress until a connection is closed.
            keys: The setting `keys`: declared keys by `schema.table`.

        Raises:
            SourceError: A table cannot be locked, or changes each time that a snapshot is taken.
        """
        self.dsn, self.connections, self.wanted = dsn, connections, list(wanted)
        self.stall_timeout, self.keys = stall_timeout, keys
        self.connection = self._connect()
        self._main_lock = threading.Lock()
        for attempt in range(TRIES):
            if not (changed := self._take(schemas)):
                return
            logger.info("%s changed while the snapshot was taken; taking a new one.", changed)
            time.sleep(PAUSE * attempt)
        self.close()
        raise SourceError(
            f"{changed} changed each of {TRIES} times that a snapshot was taken, so it cannot be read consistently "
            "with the other tables. Nothing was committed; run again when it is not being refreshed or truncated."
        )

    def _take(self, schemas: Sequence[str]) -> str | None:
        """Lock, and take a snapshot. Returns the relations that changed before their lock and invalidate it, if any."""
        before = describe_tables(self.connection, schemas)
        with_keys(before, self.keys)  # refused before anything is locked
        tables, views = _kinds(before, self.wanted, "rp"), _kinds(before, self.wanted, "vm")
        with self.connection.cursor() as cursor:
            begin(cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
            lock_tables(cursor, tables)
            lock_views(cursor, _kinds(before, self.wanted, "v"))
            cursor.execute(
                "SELECT clock_timestamp(), current_setting('server_version'), current_database(), "
                "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"
            )
            self.taken_at, version, name, lsn = cursor.fetchone()
            for key in views:
                lock_by_planning(cursor, key)
            self._reads = reads(cursor, self.wanted)
            self.tables = with_keys(describe_tables(self.connection, schemas), self.keys)
            changed = [str(one) for one in self._reads if one.replaced]
            changed += [".".join(key) for key in self.wanted if _kind(self.tables, key) != _kind(before, key)]
            if changed:
                cursor.execute("ROLLBACK")
                return ", ".join(dict.fromkeys(changed))
            self.left_out = {one.root: one.unreadable for one in self._reads if one.unpopulated}
            _refuse_absent([one for one in self._reads if one.absent])
            self._id = _exported(cursor) if self.connections > 1 else None
            self._pages = page_counts(cursor, tables) if self.connections > 1 else {}
            self._rows = row_counts(cursor, tables)
        self.info = {"server_version": version, "database": name, "lsn": lsn}
        return None

    def expected_bytes(self, wanted: Sequence[Key]) -> int:
        """Estimated size of these tables' files; 0 for views and where the server cannot estimate it."""
        with self.connection.cursor() as cursor:
            return expected_bytes(cursor, wanted)

    def confirm(self) -> None:
        """Confirm that all rows read belong to the snapshot.

        Raises:
            psycopg2.Error: The connection is lost: without its locks a table may have been truncated meanwhile.
            SourceError: A table that has rows in the snapshot became a partition or child since. Our locks do not
                prevent that, and whether its rows were read depends on timing.
        """
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            if not any(one.parent for one in self._reads):
                return
            with contextlib.closing(self._connect()) as now, now.cursor() as other:
                found = reads(other, self.wanted)
            known = {one.oid for one in self._reads}
            for one in found:
                if one.oid not in known and self._had_rows(cursor, one):
                    raise SourceError(
                        f"{one} was attached during the extract and had rows before, which do not belong to its "
                        "parent in the snapshot. Nothing was committed; run again."
                    )

    def foreign(self, key: Key) -> list[str]:
        """Foreign tables that a table or view reads, or is: their rows are not part of the snapshot."""
        return foreign(self._reads, key)

    def _had_rows(self, cursor: Any, one: Relation) -> bool:
        if one.kind != "r":
            return False
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*one.key)))
        return cursor.fetchone()[0]

    def expected_rows(self, key: Key) -> int | None:
        """Estimated rows of a table, if the estimate is good enough for a time left."""
        return self._rows.get(key)

    def pages(self, key: Key) -> int:
        """The table's size; 0 if unknown."""
        return self._pages.get(key) or 0

    def chunks(self, key: Key) -> list[sql.Composable | None]:
        """Conditions that cut a table into chunks, in order; None is all of it."""
        return chunk_conditions(self.pages(key), self.connections)

    def worker(self) -> Connection:
        """A connection for another thread; the main connection if it is the only one."""
        return self._connect() if self._id else self.connection

    def _connect(self) -> Connection:
        return connect(self.dsn, "tap-postgres", self.stall_timeout)

    def read(self, worker: Connection, query: sql.Composable, target: Object, progress: Progress,
             marks: Marks | None = None) -> Copied:
        """COPY a query's rows as of the snapshot; `marks`: see copy_out()."""
        return self.as_of_snapshot(worker, lambda one: self._copied(one, query, target, progress, marks),
                                   target.delete)

    def key_problem(self, worker: Connection, table: Key, query: sql.Composable, key: Sequence[str]) -> str | None:
        """Why a declared key does not hold on a query's rows as of the snapshot; None if it does."""
        def check(connection: Connection) -> str | None:
            with connection.cursor() as cursor:
                return problem(cursor, table, query, key)

        return self.as_of_snapshot(worker, check)

    def as_of_snapshot(self, worker: Connection, work: Callable[[Connection], T],
                       undo: Callable[[], None] = lambda: None) -> T:
        """Work with a worker that reads the snapshot.

        A pending ALTER queues behind our lock and the worker behind the ALTER: a deadlock. After LOCK_TIMEOUT the main
        connection, which already holds the lock, does it.
        """
        if worker is self.connection:
            return work(worker)
        try:
            with self._imported(worker):
                return work(worker)
        except pg_errors.LockNotAvailable:
            undo()
            with self._main_lock:
                return work(self.connection)

    def _copied(self, connection: Connection, query: sql.Composable, target: Object, progress: Progress,
                marks: Marks | None) -> Copied:
        passed = progress.stream()
        try:
            return copy.copy_out(connection, query, hashing.create(target, passed), marks)
        finally:
            progress.close()

    @contextlib.contextmanager
    def _imported(self, worker: Connection) -> Iterator[None]:
        """A transaction on this snapshot for one COPY, so that the worker's own locks are short."""
        with worker.cursor() as cursor:
            begin(cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SET TRANSACTION SNAPSHOT %s; SET LOCAL lock_timeout = %s", (self._id, LOCK_TIMEOUT))
            try:
                yield
            finally:
                with contextlib.suppress(psycopg2.Error, LandingError):  # keep the first error of a lost connection
                    cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Release the locks."""
        self.connection.close()


def _refuse_absent(found: Sequence[Relation]) -> None:
    """Raise SourceError for unlogged tables on a standby: they have rows, on another server."""
    if found:
        names = ", ".join(dict.fromkeys(map(str, found)))
        raise SourceError(f"Unlogged on a standby, which does not have its rows: {names}. Nothing was read. Extract "
                          f"from the primary, or leave it out: {way_out([one.root for one in found])}. Then run")


def way_out(keys: Sequence[Key]) -> str:
    """The setting that leaves out tables."""
    names = "".join(f', "!{schema}-{name}.*"' for schema, name in dict.fromkeys(keys))
    return f'`select: ["*.*"{names}]` for tap-postgres in meltano.yml'


def foreign(found: Sequence[Relation], key: Key) -> list[str]:
    """Names of the foreign tables among the relations that a table or view reads."""
    return [".".join(one.key) for one in found if one.root == key and one.kind == "f"]


def select(columns: Sequence[Column], key: Key, fields: sql.Composable | None = None) -> sql.Composed:
    """The query that reads a table's rows. `fields`: another select list for the columns."""
    fields = fields or copy.fields({column.name: column for column in columns})
    return sql.SQL("SELECT {} FROM {}").format(fields, sql.Identifier(*key))


def dry_run(connection: Connection, table: SourceTable) -> None:
    """Do all that an extract does with a table, but read no rows.

    Raises:
        SourceError, psycopg2.Error: The extract would fail.
    """
    key = table.schema, table.name
    with connection.cursor() as cursor:
        begin(cursor, "READ ONLY")
        try:
            lock_tables(cursor, [key] if table.lockable else [])
            _refuse_absent([one for one in reads(cursor, [key]) if one.absent])
            cursor.execute(select(table.columns, key) + sql.SQL(" LIMIT 0"))
        finally:
            cursor.execute("ROLLBACK")


def _kind(tables: Mapping[Key, SourceTable], key: Key) -> str | None:
    return tables[key].kind if key in tables else None


def _kinds(
    tables: Mapping[Key, SourceTable], keys: Sequence[Key], kinds: str
) -> list[Key]:
    return [key for key in keys if (_kind(tables, key) or "-") in kinds]


def _exported(cursor: Any) -> str:
    cursor.execute("SELECT pg_export_snapshot()")
    return cursor.fetchone()[0]
