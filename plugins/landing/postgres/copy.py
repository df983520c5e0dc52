"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from landing.model.csv_dialect import COPY_OPTIONS
from landing.model.schema import Column
from landing.postgres.session import Session, end
from landing.postgres.transaction import pinned_cursor
from landing.storage.hashing import BUFFER, HashedFile, discard

# The output of xml leaves out its declaration, and a line feed that comes first; as text it is what is stored.
AS_STORED = {"xml": "text", "xml[]": "text[]"}


def identifiers(names: Sequence[str]) -> sql.Composed:
    """Quoted names, with commas between."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def stored(name: str, type_: str) -> sql.Composed:
    """A column such that its text is all of its value."""
    return sql.SQL("{}::" + AS_STORED[type_] if type_ in AS_STORED else "{}").format(sql.Identifier(name))


def fields(columns: Mapping[str, Column]) -> sql.Composed:
    """Columns as SELECT wants them, by the names that their relation has for them."""
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(stored(name, column.type), sql.Identifier(column.name))
        for name, column in columns.items()
    )


@dataclass(frozen=True)
class Copied:
    """What went through a COPY: data rows, bytes with the header, SHA-256."""

    rows: int
    bytes: int
    sha256: str


def copy_out(connection: Connection, query: sql.Composable, raw: HashedFile | None = None) -> Copied:
    """`COPY (query) TO` a stream, which is closed at the end, or to nowhere."""
    raw = raw or discard()
    raw.passed = _passed(connection, raw.passed)
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, sql.SQL(COPY_OPTIONS))
    with pinned_cursor(connection) as cursor, io.BufferedWriter(raw, BUFFER) as file:
        try:
            cursor.copy_expert(statement, file)
        except OSError:
            end([connection])  # or the server would send all that is left
            raise
        file.flush()
        return Copied(cursor.rowcount, raw.size, raw.sha256)


def _passed(connection: Connection, passed: Callable[[Any], Any] | None) -> Callable[[bytes | memoryview], None]:
    """What is told of each chunk that a COPY moved."""
    touch = connection.touch if isinstance(connection, Session) else lambda: None

    def seen(chunk: bytes | memoryview) -> None:
        touch()
        if passed:
            passed(chunk)

    return seen


def copy_in(
    connection: Connection, table: sql.Composable, columns: Sequence[str], raw: HashedFile, *, freeze: bool = True,
) -> Copied:
    """`COPY table (columns) FROM` a stream in the landing zone's dialect, which is closed at the end.

    To `freeze`, the table has to be created in the same transaction.

    Frozen rows are there for every snapshot: a reader whose snapshot is older than the load would otherwise find the
    view's new date, and no row in it.
    """
    raw.passed = _passed(connection, raw.passed)
    options = sql.SQL(COPY_OPTIONS.replace(")", ", FREEZE)") if freeze else COPY_OPTIONS)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(table, identifiers(columns), options)
    with connection.cursor() as cursor, io.BufferedReader(raw, BUFFER) as file:
        cursor.copy_expert(statement, file, size=BUFFER)
        return Copied(cursor.rowcount, raw.size, raw.sha256)
