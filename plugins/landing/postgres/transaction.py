"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

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
    "standard_conforming_strings": "on",  # a pattern's backslashes are its own
    # The order of rows is the table's own, always: no start in the middle, no several workers.
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    # A policy that hides rows from us makes COPY fail instead of landing fewer rows.
    "row_security": "off",
    # A server sees in two minutes that we are gone, and lets go of our locks: the next run waits for them.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
}

# Limits for queries of people, which pg_dump lifts too: a table takes the time that it takes, and who holds the
# snapshot, or the lock of a load, waits for the connections that copy. Not every server has all of them.
LIMITS = {  # and the server version that they came with
    "statement_timeout": 0, "transaction_timeout": 170000, "idle_in_transaction_session_timeout": 90600,
    "idle_session_timeout": 140000,
}

PIN = """
SELECT set_config(name, value, false) FROM unnest(%s, %s) AS pin(name, value)
UNION ALL SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)
"""


def pin_session(connection: Connection) -> None:
    """Pin what a session writes and reads, for as long as it lasts."""
    with connection.cursor() as cursor:
        cursor.execute(PIN, (list(PINS), list(PINS.values()), list(LIMITS)))


def begin(cursor: Cursor, mode: str = "") -> None:
    """Begin a transaction with the pins of its own: it is right whatever else uses the session, a pooler's too."""
    cursor.execute(f"BEGIN {mode}; {_pins(cursor.connection.server_version)}")


@functools.cache
def _pins(version: int) -> str:
    """As utility statements: a query would take a repeatable-read transaction's snapshot."""
    pins = {name: value for name, value in PINS.items() if not name.startswith("tcp_")}
    pins |= {name: "0" for name, since in LIMITS.items() if version >= since}
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in pins.items())


@contextlib.contextmanager
def transaction(connection: Connection, point: CommitPoint | None = None) -> Iterator[Cursor]:
    """A cursor of a transaction: all or nothing. Its COMMIT is the commit point that is given."""
    with connection.cursor() as cursor:
        begin(cursor)
        try:
            yield cursor
            with (point or CommitPoint()).passing(lost=lambda: bool(connection.closed)):
                cursor.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(psycopg2.Error, LandingError):  # the first error of a lost connection counts
                cursor.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def pinned_cursor(connection: Connection) -> Iterator[Cursor]:
    """A cursor of the transaction that is open, or of one for this purpose."""
    if connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
        with connection.cursor() as cursor:
            yield cursor
    else:
        with transaction(connection) as cursor:
            yield cursor
