"""One moment of a source database, read by several connections at once, large tables in pieces.

    database        holds locks and exports its snapshot (repeatable read); copies only what a worker can't
    worker          a transaction of that very snapshot, one table or piece after the other

All relations that the selected tables and views read are locked (ACCESS SHARE) until the end: tables and views before
the snapshot is taken. LOCK does not take materialized views; they are locked by planning a query on them right after
it, and if a file was replaced in between (REFRESH, TRUNCATE), the snapshot is taken again.

A piece is a range of a table's pages (`ctid`): read in order, the pieces are the table as one COPY would give it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from landing.core.errors import LandingError, SourceError
from landing.core.progress import Progress
from landing.extract.postgres.catalog import SourceTable, describe_tables
from landing.extract.postgres.locks import lock_by_planning, lock_tables, lock_views
from landing.extract.postgres.relations import Relation, reads
from landing.model.schema import Column
from landing.postgres import copy
from landing.postgres.connect import connect
from landing.postgres.copy import Copied
from landing.postgres.session import STALL_TIMEOUT
from landing.postgres.transaction import begin

PIECE = 4096  # pages (32 MB) at least
TID_RANGES = 140000  # the first server version that reads a range of pages without reading all others
PARTITION_TREES = 120000  # the first that lists a table's partitions
PATIENCE = "2s"  # that a worker waits for a table that someone wants to alter; see Snapshot.read()
TRIES = 20  # snapshots, until none is older than a file that it reads
PAUSE = 0.1  # seconds between two of them

# Of a partitioned table the largest partition's: a range of pages is read in each of them.
PAGES = """
SELECT n.nspname, c.relname,
       max(pg_relation_size(coalesce(leaf.relid, c.oid)) / current_setting('block_size')::bigint)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am a ON a.amname = 'heap'
LEFT JOIN LATERAL pg_partition_tree(c.oid) leaf ON c.relkind = 'p' AND leaf.isleaf
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND (c.relkind = 'p' OR c.relam = a.oid)
GROUP BY n.nspname, c.relname
"""

# Bytes that tables take as text, by the lesser of two guesses: their size on the disk, which dead rows may have blown
# up, and what the planner thinks of their rows. What is stored out of line comes on top of either, still compressed.
EXPECTED = """
SELECT coalesce(sum(
           least(pg_relation_size(t.oid),
                 CASE WHEN t.reltuples > 0 AND t.relpages > 0 THEN
                     t.reltuples / t.relpages * pg_relation_size(t.oid) / current_setting('block_size')::bigint * (
                         SELECT sum(1 + s.avg_width * (1 - s.null_frac)) FROM pg_stats s
                         WHERE (s.schemaname, s.tablename) = (n.nspname, t.relname) AND NOT s.inherited) END)
           + CASE WHEN t.reltoastrelid <> 0 THEN pg_relation_size(t.reltoastrelid) ELSE 0 END), 0)::bigint
FROM pg_class c
JOIN pg_namespace o ON o.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf
                    UNION SELECT c.oid WHERE c.relkind IN ('r', 'm')) leaf
JOIN pg_class t ON t.oid = leaf.relid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE (o.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
logger = logging.getLogger("tap-postgres")


class Snapshot:
    """A repeatable-read transaction that all tables are read in, and its copies in other connections."""

    def __init__(self, dsn: str, schemas: Sequence[str], wanted: Sequence[tuple[str, str]], connections: int,
                 stall_timeout: float = STALL_TIMEOUT) -> None:
        """`wanted`: (schema, table) pairs, locked against TRUNCATE and ALTER before the snapshot is taken.

        A snapshot older than a TRUNCATE or rewrite sees the table as empty, without an error.
        """
        self.dsn, self.connections, self.wanted = dsn, connections, list(wanted)
        self.stall_timeout = stall_timeout
        self.connection = self._connect()
        self._alone = threading.Lock()
        for attempt in range(TRIES):
            if not (changed := self._take(schemas)):
                return
            logger.info("%s changed while the snapshot was taken: taking it again.", changed)
            time.sleep(PAUSE * attempt)
        self.close()
        raise SourceError(
            f"{changed} changed each of {TRIES} times that a snapshot was taken: its rows would not be of the same "
            "moment as the others. Nothing was committed; run again when it is not being refreshed or truncated."
        )

    def _take(self, schemas: Sequence[str]) -> str | None:
        """Lock and take the snapshot; what changed before it was locked, and makes the snapshot void, if anything."""
        there = describe_tables(self.connection, schemas)
        tables, views = _kinds(there, self.wanted, "rp"), _kinds(there, self.wanted, "vm")
        with self.connection.cursor() as cursor:
            begin(cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
            lock_tables(cursor, tables)
            lock_views(cursor, _kinds(there, self.wanted, "v"))
            cursor.execute(
                "SELECT clock_timestamp(), current_setting('server_version'), current_database(), "
                "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"
            )
            self.taken_at, version, name, lsn = cursor.fetchone()
            for key in views:
                lock_by_planning(cursor, key)
            self._reads = reads(cursor, self.wanted)
            self.tables = describe_tables(self.connection, schemas)
            changed = [str(one) for one in self._reads if one.replaced]
            changed += [".".join(key) for key in self.wanted if _kind(self.tables, key) != _kind(there, key)]
            if changed:
                cursor.execute("ROLLBACK")
                return ", ".join(dict.fromkeys(changed))
            self._id = _exported(cursor) if self.connections > 1 else None
            self._pages = self._sizes(cursor, tables)
        self.info = {"server_version": version, "database": name, "lsn": lsn}
        return None

    def _sizes(self, cursor: Any, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Pages by table, where a range of them can be read."""
        if self.connections == 1 or not wanted or self.connection.server_version < TID_RANGES:
            return {}
        cursor.execute(PAGES, ([schema for schema, _ in wanted], [table for _, table in wanted]))
        return {(schema, table): pages for schema, table, pages in cursor.fetchall()}

    def expected_bytes(self, wanted: Sequence[tuple[str, str]]) -> int:
        """About how large the files of these tables will be; 0 for views, and where the server can't say."""
        if self.connection.server_version < PARTITION_TREES:
            return 0
        with self.connection.cursor() as cursor:
            cursor.execute(EXPECTED, ([schema for schema, _ in wanted], [table for _, table in wanted]))
            return cursor.fetchone()[0]

    def confirm(self) -> None:
        """Raise psycopg2.Error if the tables were not locked until now: one could have been emptied meanwhile.

        SourceError, if a table that had rows at the moment of the snapshot became a partition or child since: attaching
        one takes no lock that ours would keep out, and its rows are read or not, as it came.
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
                        f"{one} was attached during the extract, and had rows before: they do not belong to the moment "
                        "of the snapshot. Nothing was committed; run again."
                    )

    def foreign(self, key: tuple[str, str]) -> list[str]:
        """Foreign tables that a table or view reads, or is: their rows are of no snapshot."""
        return foreign(self._reads, key)

    def _had_rows(self, cursor: Any, one: Relation) -> bool:
        if one.kind != "r":
            return False
        cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*one.key)))
        return cursor.fetchone()[0]

    def pages(self, key: tuple[str, str]) -> int:
        """How large a table is; 0 where that isn't known."""
        return self._pages.get(key) or 0

    def pieces(self, key: tuple[str, str]) -> list[sql.Composable | None]:
        """Conditions that cut a table into pieces, in order, as many as there are connections; None is all of it."""
        count = min(self.connections, self.pages(key) // PIECE)
        if count < 2:
            return [None]
        cuts = [sql.SQL("'({},0)'::tid").format(sql.Literal(self.pages(key) * number // count))
                for number in range(1, count)]
        first, last = sql.SQL("ctid < {}").format(cuts[0]), sql.SQL("ctid >= {}").format(cuts[-1])
        between = [sql.SQL("ctid >= {} AND ctid < {}").format(*pair) for pair in itertools.pairwise(cuts)]
        return [first, *between, last]

    def worker(self) -> Connection:
        """A connection for another thread; of one connection it is our own."""
        return self._connect() if self._id else self.connection

    def _connect(self) -> Connection:
        return connect(self.dsn, "tap-postgres", self.stall_timeout)

    def read(
        self, worker: Connection, query: sql.Composable, path: Path, progress: Progress
    ) -> Copied:
        """COPY a query's rows as they are in the snapshot.

        Who waits to ALTER a table waits for us, and our worker would wait behind them, for ever: that table is read by
        the connection that has it locked already.
        """
        if worker is self.connection:
            return copy.copy_out(worker, query, path, progress)
        try:
            with self._adopted(worker):
                return copy.copy_out(worker, query, path, progress)
        except pg_errors.LockNotAvailable:
            path.unlink(missing_ok=True)
            with self._alone:
                return copy.copy_out(self.connection, query, path, progress)

    @contextlib.contextmanager
    def _adopted(self, worker: Connection) -> Iterator[None]:
        """A transaction of this snapshot for one COPY: what is read is not kept locked a second time."""
        with worker.cursor() as cursor:
            begin(cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SET TRANSACTION SNAPSHOT %s; SET LOCAL lock_timeout = %s", (self._id, PATIENCE))
            try:
                yield
            finally:
                with contextlib.suppress(psycopg2.Error, LandingError):  # the first error of a lost connection counts
                    cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the tables."""
        self.connection.close()


def foreign(found: Sequence[Relation], key: tuple[str, str]) -> list[str]:
    """Names of the foreign tables among what a table or view reads."""
    return [".".join(one.key) for one in found if one.root == key and one.kind == "f"]


def select(columns: Sequence[Column], key: tuple[str, str]) -> sql.Composed:
    """What is read of a table."""
    fields = copy.fields({column.name: column for column in columns})
    return sql.SQL("SELECT {} FROM {}").format(fields, sql.Identifier(*key))


def dry_run(connection: Connection, table: SourceTable) -> None:
    """All that an extract does with a table, but for its rows; SourceError, or PostgreSQL's own, if it can't be."""
    key = table.schema, table.name
    with connection.cursor() as cursor:
        begin(cursor, "READ ONLY")
        try:
            lock_tables(cursor, [key] if table.lockable else [])
            cursor.execute(select(table.columns, key) + sql.SQL(" LIMIT 0"))
        finally:
            cursor.execute("ROLLBACK")


def _kind(tables: Mapping[tuple[str, str], SourceTable], key: tuple[str, str]) -> str | None:
    return tables[key].kind if key in tables else None


def _kinds(
    tables: Mapping[tuple[str, str], SourceTable], keys: Sequence[tuple[str, str]], kinds: str
) -> list[tuple[str, str]]:
    return [key for key in keys if (_kind(tables, key) or "-") in kinds]


def _exported(cursor: Any) -> str:
    cursor.execute("SELECT pg_export_snapshot()")
    return cursor.fetchone()[0]
