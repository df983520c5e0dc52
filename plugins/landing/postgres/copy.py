"""COPY to and from landed files, hashed in transit."""

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
from landing.protection.marks import MarkedFile, Marks
from landing.storage.hashing import BUFFER, HashedFile, discard

# xml's output function drops the XML declaration and a leading line feed; a cast to text returns what is stored.
AS_STORED = {"xml": "text", "xml[]": "text[]"}


def identifiers(names: Sequence[str]) -> sql.Composed:
    """Quoted names, separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def stored(name: str, type_: str) -> sql.Composed:
    """Column expression whose text output is lossless."""
    return sql.SQL("{}::" + AS_STORED[type_] if type_ in AS_STORED else "{}").format(sql.Identifier(name))


def fields(columns: Mapping[str, Column]) -> sql.Composed:
    """The select list for columns, given by their names in the relation."""
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(stored(name, column.type), sql.Identifier(column.name))
        for name, column in columns.items()
    )


@dataclass(frozen=True)
class Copied:
    """Result of a COPY: data rows, bytes including the header, SHA-256."""

    rows: int
    bytes: int
    sha256: str


def copy_out(connection: Connection, query: sql.Composable, raw: HashedFile | None = None,
             marks: Marks | None = None) -> Copied:
    """`COPY (query) TO` a stream, which is closed at the end; by default the rows are only hashed.

    `marks`: in front of the values that are to be protected.
    """
    raw = raw or discard()
    raw.passed = _passed(connection, raw.passed)
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, sql.SQL(COPY_OPTIONS))
    target = MarkedFile(raw, marks) if marks else raw
    with pinned_cursor(connection) as cursor, io.BufferedWriter(target, BUFFER) as file:
        try:
            cursor.copy_expert(statement, file)
        except OSError:
            end([connection])  # else libpq would read all remaining rows
            raise
        file.flush()
        return Copied(cursor.rowcount, raw.size, raw.sha256)


def _passed(connection: Connection, passed: Callable[[Any], Any] | None) -> Callable[[bytes | memoryview], None]:
    """A callback for each chunk that a COPY transfers; it also restarts the stall timeout."""
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

    `freeze` makes rows visible to snapshots older than the load, which otherwise would see the view's new date without
    rows. The table must be created in the same transaction.
    """
    raw.passed = _passed(connection, raw.passed)
    options = sql.SQL(COPY_OPTIONS.replace(")", ", FREEZE)") if freeze else COPY_OPTIONS)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(table, identifiers(columns), options)
    with connection.cursor() as cursor, io.BufferedReader(raw, BUFFER) as file:
        cursor.copy_expert(statement, file, size=BUFFER)
        return Copied(cursor.rowcount, raw.size, raw.sha256)
