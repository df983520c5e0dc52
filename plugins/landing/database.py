"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from landing.dialect import COPY_OPTIONS
from landing.errors import SettingError, UnreachableError, describe
from landing.files import BUFFER, HashedFile

PROGRESS_EVERY = 5.0  # seconds

PINS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # shortest exact
    "lc_monetary": "C",
    "xmloption": "content",
    # The order of rows is the table's own, always: no start in the middle, no several workers.
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    # Who holds the snapshot, or the lock of a load, waits for the connections that copy.
    "idle_in_transaction_session_timeout": "0",
    # A policy that hides rows from us makes COPY fail instead of landing fewer rows.
    "row_security": "off",
}


def connect(dsn: str | Mapping[str, Any], name: str) -> Connection:
    """An autocommit connection with the session pinned; `name` is what pg_stat_activity shows."""
    arguments = {"dsn": dsn} if isinstance(dsn, str) else dict(dsn)
    try:
        connection = psycopg2.connect(**{**arguments, "application_name": name})
    except psycopg2.OperationalError as error:
        raise UnreachableError(
            f"{name}: {describe(error)}. Check SOURCE_POSTGRES_… and TARGET_POSTGRES_… in .env, and run again."
        ) from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        names, values = list(PINS), list(PINS.values())
        cursor.execute("SELECT set_config(name, value, false) FROM unnest(%s, %s) AS pin(name, value)", (names, values))
    return connection


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """A cursor of a transaction: all or nothing."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(psycopg2.Error):  # of a lost connection: the first error is the one to tell
                cursor.execute("ROLLBACK")
            raise


def with_certificate_authority(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the MeltanoLabs plugins with `ssl_certificate_authority` as libpq would find it, where unset.

    Their own default is a path with a `~` in it, which they take for the certificate itself.
    """
    found = {**config}
    if not found.get("ssl_certificate_authority"):
        default = os.environ.get("PGSSLROOTCERT") or os.path.expanduser("~/.postgresql/root.crt")
        found["ssl_certificate_authority"] = default
        if found.get("ssl_enable") and found.get("ssl_mode", "").startswith("verify-") and not os.path.isfile(default):
            raise SettingError(
                f"ssl_mode is {found['ssl_mode']}, and there is no certificate authority at {default}. Name its file "
                "as ssl_certificate_authority in meltano.yml, or as PGSSLROOTCERT, and run again."
            )
    return found


def identifiers(names: Sequence[str]) -> sql.Composed:
    """Quoted names, with commas between."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


@dataclass(frozen=True)
class Copied:
    """What went through a COPY: data rows, bytes with the header, SHA-256."""

    rows: int
    bytes: int
    sha256: str


class Progress:
    """Says every few seconds how far a table is: rows, bytes, rate, share done, time left. Any thread may tell it."""

    def __init__(self, logger: logging.Logger, what: str, *, rows: int | None = None, size: int | None = None) -> None:
        """`rows` or `size` (bytes): what is expected in all, where that is known or estimated."""
        self.logger, self.what, self.expected_rows, self.expected_bytes = logger, what, rows, size
        self.lock = threading.Lock()
        self.started = self.said = time.monotonic()
        self.rows = self.bytes = 0

    def advance(self, chunk: bytes | memoryview) -> None:
        """Count a chunk; line feeds stand for rows here (the exact number comes from COPY itself)."""
        rows = bytes(chunk).count(b"\n")
        with self.lock:
            self.rows += rows
            self.bytes += len(chunk)
            if time.monotonic() - self.said < PROGRESS_EVERY:
                return
            self.said = time.monotonic()
        self.logger.info("%s", self)

    def done(self, rows: int) -> None:
        """Say the exact number at the end."""
        seconds = time.monotonic() - self.started
        self.logger.info("%s: %s rows, %s bytes in %.2f s", self.what, f"{rows:,}", f"{self.bytes:,}", seconds)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.started, 0.001)
        return (f"{self.what}: {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, "
                f"{self.rows / seconds:,.0f} rows/s, {self.bytes / 1e6 / seconds:,.1f} MB/s{self._outlook(seconds)}")

    def _outlook(self, seconds: float) -> str:
        """Share done and time left, as far as anyone can tell."""
        if self.expected_bytes:
            about, share = "", self.bytes / self.expected_bytes
        elif self.expected_rows and self.expected_rows > 0:
            about, share = "about ", min(self.rows / self.expected_rows, 0.99)
        else:
            return ""
        left = seconds / share - seconds if share else 0
        return f", {about}{min(share, 1):.0%} done, {about}{max(left, 0):,.0f} s left"


def copy_out(
    connection: Connection, query: sql.Composable, path: Path | str = os.devnull, progress: Progress | None = None
) -> Copied:
    """`COPY (query) TO` a new file (or nowhere, for the hash alone)."""
    raw = HashedFile(path, "wb" if path == os.devnull else "xb", progress and progress.advance)
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, sql.SQL(COPY_OPTIONS))
    with connection.cursor() as cursor, io.BufferedWriter(raw, BUFFER) as file:
        cursor.copy_expert(statement, file)
        file.flush()
        return Copied(cursor.rowcount, raw.size, raw.sha256)


def copy_rows(connection: Connection, query: sql.Composable, file: io.RawIOBase) -> None:
    """`COPY (query) TO` a file of bytes, without a header."""
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, sql.SQL(COPY_OPTIONS.replace("HEADER, ", "")))
    with connection.cursor() as cursor, io.BufferedWriter(file, BUFFER) as buffered:
        cursor.copy_expert(statement, buffered)


def copy_in(
    connection: Connection, table: sql.Composable, columns: Sequence[str], path: Path, progress: Progress | None = None,
    *, freeze: bool = True,
) -> Copied:
    """`COPY table (columns) FROM` a file in our dialect; to `freeze`, the table has to be of the same transaction.

    Frozen rows are there for every snapshot: a reader whose snapshot is older than the load would otherwise find the
    view's new date, and no row in it.
    """
    raw = HashedFile(path, "rb", progress and progress.advance)
    options = sql.SQL(COPY_OPTIONS.replace(")", ", FREEZE)") if freeze else COPY_OPTIONS)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(table, identifiers(columns), options)
    with connection.cursor() as cursor, io.BufferedReader(raw, BUFFER) as file:
        cursor.copy_expert(statement, file, size=BUFFER)
        return Copied(cursor.rowcount, raw.size, raw.sha256)
