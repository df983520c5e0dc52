"""Transactions with pinned settings: the same row gives the same bytes, in the same order, on every server."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from landing.core.commit_point import CommitPoint
from landing.core.errors import LandingError

PINS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # shortest exact
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
    "quote_all_identifiers": "off",  # names of types too
    "standard_conforming_strings": "on",  # backslashes in patterns are literal
    # Rows come in the table's physical order: no synchronized scans, no parallel workers.
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    # COPY fails if a row-level policy would hide rows, instead of landing fewer.
    "row_security": "off",
    # The server detects a dead client in two minutes and releases its locks, which the next run needs.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
}

# Timeouts for interactive queries, disabled as pg_dump does: copying a large table takes long, and the connection with
# the snapshot or a load's lock is idle meanwhile.
LIMITS = {  # with the first server version that has them
    "statement_timeout": 0, "transaction_timeout": 170000, "idle_in_transaction_session_timeout": 90600,
    "idle_session_timeout": 140000,
}

PIN = """
SELECT set_config(name, value, false) FROM unnest(%s, %s) AS pin(name, value)
UNION ALL SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)
"""


def pin_session(connection: Connection) -> None:
    """Pin a session's settings."""
    with connection.cursor() as cursor:
        cursor.execute(PIN, (list(PINS), list(PINS.values()), list(LIMITS)))


def begin(cursor: Cursor, mode: str = "") -> None:
    """Begin a transaction that pins the settings for itself: a pooler may have changed the session's."""
    cursor.execute(f"BEGIN {mode}; {_pins(cursor.connection.server_version)}")


@functools.cache
def _pins(version: int) -> str:
    """SET statements: a query would already take the snapshot of a repeatable-read transaction."""
    pins = {name: value for name, value in PINS.items() if not name.startswith("tcp_")}
    pins |= {name: "0" for name, since in LIMITS.items() if version >= since}
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in pins.items())


@contextlib.contextmanager
def transaction(connection: Connection, point: CommitPoint | None = None) -> Iterator[Cursor]:
    """A cursor in a transaction. Its COMMIT passes the given commit point."""
    with connection.cursor() as cursor:
        begin(cursor)
        try:
            yield cursor
            with (point or CommitPoint()).passing(lost=lambda: bool(connection.closed)):
                cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(psycopg2.Error, LandingError):  # keep the first error of a lost connection
                cursor.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def pinned_cursor(connection: Connection) -> Iterator[Cursor]:
    """A cursor in the open transaction, else in a new one."""
    if connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
        with connection.cursor() as cursor:
            yield cursor
    else:
        with transaction(connection) as cursor:
            yield cursor
