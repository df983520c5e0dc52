"""What files and relations hold, hashed in pieces: each piece is a task, which any process can do.

A task is called with a function that gives its process's connection, and one that takes each chunk that passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from landing.core.errors import DamagedError, LandingError
from landing.load.chain import Chain, Part
from landing.load.history import history_name
from landing.model.schema import combined
from landing.postgres import copy, tid_ranges
from landing.postgres.copy import identifiers
from landing.postgres.transaction import begin
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.hashing import RowSum

Connect = Callable[[], Connection]
Passed = Callable[[Any], None]
Task = Callable[[Connect, Passed], Any]
PIECE = 8192  # pages (64 MB)
PAGES = """
SELECT pg_relation_size(c.oid) / current_setting('block_size')::bigint
FROM pg_class c JOIN pg_am a ON a.oid = c.relam AND a.amname = 'heap'
WHERE c.oid = %s::regclass
"""
LOCK_TIMEOUT = "2s"  # behind a pending ALTER, which itself waits for the transaction that exported the snapshot


@dataclass(frozen=True)
class Contents:
    """A piece, or several: SHA-256, data rows where they are known, and their sum if their order is undefined."""

    sha256: str
    rows: int | None
    sum: int | None

    @classmethod
    def of(cls, pieces: Sequence[Contents]) -> Contents:
        """All pieces as one."""
        def total(numbers: list[int | None]) -> int | None:
            return None if None in numbers else sum(numbers)

        return cls(combined([one.sha256 for one in pieces]), total([one.rows for one in pieces]),
                   total([one.sum for one in pieces]))

    def same(self, other: Contents) -> bool:
        """Whether both have the same rows, in the same order if that is defined."""
        return (self.rows, self.sum) == (other.rows, other.sum) and (self.sum is not None
                                                                    or self.sha256 == other.sha256)


@dataclass(frozen=True)
class Rows:
    """How rows are hashed: with a `key` also one by one, since their order is undefined.

    `header`: the line that each file and each COPY begins with.
    """

    header: bytes
    key: bytes | None

    def hashed(self, passed: Passed, read: Callable[[Passed], tuple[str, int | None]]) -> Contents:
        """The contents that `read` reads, which returns SHA-256 and rows."""
        if self.key is None:
            return Contents(*read(passed), None)
        rows = RowSum(passed, self.key)
        sha256, _ = read(rows.write)
        rows.subtract(self.header)
        return Contents(sha256, rows.rows, rows.value)

    def copied(self, connection: Connection, query: sql.Composable, passed: Passed) -> Contents:
        """The rows of a query, as COPY writes them."""
        def read(seen: Passed) -> tuple[str, int]:
            sink = hashing.discard()
            sink.passed = seen
            copied = copy.copy_out(connection, query, sink)
            return copied.sha256, copied.rows

        return self.hashed(passed, read)


@dataclass(frozen=True)
class HashFile:
    """A landed file."""

    place: Object
    rows: Rows

    def __call__(self, _: Connect, passed: Passed) -> Contents:
        return self.rows.hashed(passed, lambda seen: (hashing.sha256(self.place, seen), None))


@dataclass(frozen=True)
class CopyOut:
    """The rows of a query; `snapshot`: as of one that another connection exported, and whose lock it holds."""

    query: sql.Composed
    rows: Rows
    snapshot: str | None = None

    def __call__(self, connect: Connect, passed: Passed) -> Contents:
        connection = connect()
        if self.snapshot is None:
            return self.rows.copied(connection, self.query, passed)
        with _transaction(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY") as cursor:
            cursor.execute("SET TRANSACTION SNAPSHOT %s; SET LOCAL lock_timeout = %s", (self.snapshot, LOCK_TIMEOUT))
            return self.rows.copied(connection, self.query, passed)


@dataclass(frozen=True)
class Rebuild:
    """Landed files, put together in a temporary table with a relation's types, and copied out of it again.

    `select`: the fields of `columns`, which are those of all parts.
    """

    relation: sql.Identifier
    columns: Sequence[str]
    parts: Sequence[Part]
    key: Sequence[str]
    select: sql.Composed
    rows: Rows

    def __call__(self, connect: Connect, passed: Passed) -> Contents:
        connection, temporary = connect(), sql.Identifier("pg_temp", "landing_verify")
        freeze = len(self.parts) == 1

        def copy_part(relation: sql.Identifier, part: Part) -> None:
            for place, file in part.files:
                copied = copy.copy_in(connection, relation, part.names, hashing.read(place), freeze=freeze)
                if copied.sha256 != file.sha256:
                    raise DamagedError(f"{place}: expected SHA-256 {file.sha256}, found {copied.sha256}")

        with _transaction(connection) as cursor:
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_verify AS SELECT {} FROM {} LIMIT 0").format(
                identifiers([history_name(name) for name in self.columns]), self.relation))
            Chain(self.parts, self.key).fill(cursor, temporary, copy_part)
            query = sql.SQL("SELECT {} FROM {}").format(self.select, temporary)
            return self.rows.copied(connection, query, passed)


@contextlib.contextmanager
def pieces(connection: Connection, relation: sql.Identifier, *, export: bool) -> Iterator[tuple[str | None, list]]:
    """One snapshot of a locked relation, exported or not, and the conditions that cut it into pieces.

    The cuts depend on the relation's size alone, so that its SHA-256 does not depend on the number of connections.
    """
    with _transaction(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY") as cursor:
        cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(relation))
        cursor.execute(PAGES, (relation.as_string(cursor),))
        count = next((pages for pages, in cursor.fetchall()), 0)
        if connection.server_version < tid_ranges.SUPPORTED:
            count = 0
        cursor.execute("SELECT pg_export_snapshot()" if export else "SELECT NULL")
        snapshot, = cursor.fetchone()
        found = tid_ranges.conditions(range(PIECE, count, PIECE))
        yield snapshot, [sql.SQL(" WHERE {}").format(one) if one else sql.SQL("") for one in found]


@contextlib.contextmanager
def _transaction(connection: Connection, mode: str = "") -> Iterator[Any]:
    """A transaction that is rolled back."""
    with connection.cursor() as cursor:
        begin(cursor, mode)
        try:
            yield cursor
        finally:
            with contextlib.suppress(psycopg2.Error, LandingError):  # keep the first error of a lost connection
                cursor.execute("ROLLBACK")
