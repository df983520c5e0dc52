"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, parse_dsn
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from landing import project
from landing.committing import CommitPoint
from landing.dialect import COPY_OPTIONS, Column
from landing.errors import LandingError, SettingError, UnreachableError, describe
from landing.files import BUFFER, HashedFile
from landing.session import STALL_TIMEOUT, Session, end, open_session

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
# We see as soon that nobody answers, and not after the system's two hours. No tcp_user_timeout: Linux would end a
# connection whose server lives and is busy. What was sent and not acknowledged ends after a quarter of an hour.
KEEPALIVES = {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}

PIN = """
SELECT set_config(name, value, false) FROM unnest(%s, %s) AS pin(name, value)
UNION ALL SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)
"""


# The output of xml leaves out its declaration, and a line feed that comes first; as text it is what is stored.
AS_STORED = {"xml": "text", "xml[]": "text[]"}

# What libpq says of a server that it does not trust, and what there is to do.
DISTRUST = {
    "certificate verify failed": "Its certificate has expired, or the authority that is named here did not issue it. "
    "Have it renewed there, or name the file of the right authority as …_POSTGRES_SSLROOTCERT in .env.",
    "does not match host name": "Write the host in .env as its certificate has it; if that is another server's, "
    "somebody stands between you and yours.",
    "server does not support SSL": "Have TLS switched on there. Only where nobody can listen on the way, write a "
    "…_POSTGRES_SSLMODE into .env that does without.",
    "root certificate file": "Name a file in PEM format as …_POSTGRES_SSLROOTCERT in .env.",
}
NO_REASON = "no SSL error reported"
TLS_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL's SSLRequest
BUNDLES = (  # Debian and Alpine; Fedora and RHEL; SUSE; macOS and BSD
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CHECK = "Check SOURCE_POSTGRES_… and TARGET_POSTGRES_… in .env."


def connect(dsn: str | Mapping[str, Any], name: str, stall_timeout: float = STALL_TIMEOUT) -> Session:
    """An autocommit connection with the session pinned; `name` is what pg_stat_activity shows."""
    arguments = parse_dsn(dsn) if isinstance(dsn, str) else dsn
    try:
        connection = open_session({**KEEPALIVES, **arguments, "application_name": name}, stall_timeout)
    except psycopg2.OperationalError as error:
        said = describe(error)
        if NO_REASON in said:
            said = said.replace(NO_REASON, _tls_failure(arguments) or NO_REASON)
        advice = next((one for words, one in DISTRUST.items() if words in said), CHECK)
        raise UnreachableError(f"{name}: {said}. {advice} Then run again.") from None
    with connection.cursor() as cursor:
        cursor.execute(PIN, (list(PINS), list(PINS.values()), list(LIMITS)))
    return connection


def _tls_failure(arguments: Mapping[str, Any]) -> str | None:
    """Ask OpenSSL through Python for the reason: libpq finds none where psycopg has brought an OpenSSL of its own."""
    host = str(arguments.get("host", "localhost"))
    with contextlib.suppress(OSError, ValueError), \
            socket.create_connection((host, int(arguments.get("port", 5432))), timeout=10) as plain:
        plain.sendall(TLS_REQUEST)
        if plain.recv(1) != b"S":
            return None
        try:
            context = ssl.create_default_context(cafile=arguments.get("sslrootcert"))
            context.check_hostname = arguments.get("sslmode") == "verify-full"
            context.wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return f"certificate verify failed: {error.verify_message}"
        except ssl.SSLError as error:
            return f"{error.reason or error}"
    return None


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
def _pinned(connection: Connection) -> Iterator[Cursor]:
    """A cursor of the transaction that is open, or of one for this purpose."""
    if connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
        with connection.cursor() as cursor:
            yield cursor
    else:
        with transaction(connection) as cursor:
            yield cursor


def certificate_authority(mode: str, variable: str, values: Mapping[str, str], given: str | None = None) -> str:
    """The file of the authority that has to vouch for a server: the one given, else `variable`'s, else libpq's own.

    A path is relative to the project. Where `mode` verifies, SettingError says that there is no such file. What is
    given may be the certificate itself, as the MeltanoLabs plugins have it.
    """
    named = given or values.get(variable) or values.get("PGSSLROOTCERT") or "~/.postgresql/root.crt"
    if "-----BEGIN" in named:
        return named
    if named == "system":
        return _system_authorities(mode, variable)
    path = project.root() / Path(named).expanduser()
    if mode.startswith("verify-") and not path.is_file():
        raise SettingError(
            f"ssl_mode is {mode}, and there is no certificate authority at {path}. Name its file as {variable} in "
            ".env, or as ssl_certificate_authority in meltano.yml, and run again."
        )
    return str(path)


def _system_authorities(mode: str, variable: str) -> str:
    """The file of this system's authorities: libpq's own `system` asks the OpenSSL that a wheel was built with."""
    if mode.startswith("verify-") and mode != "verify-full":
        raise SettingError(f"{variable}=system needs ssl_mode verify-full, as libpq has it: anybody can have a "
                           f"certificate of a public authority. ssl_mode is {mode}. Set SSLMODE=verify-full in .env, "
                           "and run again.")
    files = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *BUNDLES]
    found = next((file for file in files if file and Path(file).is_file()), None)
    if found is None and mode.startswith("verify-"):
        raise SettingError(f"{variable}=system, and this system has no file of certificate authorities ("
                           f"{', '.join(BUNDLES)}). Install it (Debian: apt-get install ca-certificates), name it as "
                           "SSL_CERT_FILE, or name the authority's own file, and run again.")
    return found or ""


def with_certificate_authority(config: Mapping[str, Any], variable: str) -> dict[str, Any]:
    """Settings of the MeltanoLabs plugins with `ssl_certificate_authority` as certificate_authority() has it.

    Their own default is a path with a `~` in it, and they take a path where no file is for the certificate itself.
    """
    mode = str(config.get("ssl_mode", "verify-full")) if config.get("ssl_enable") else ""
    given = config.get("ssl_certificate_authority")
    return {**config, "ssl_certificate_authority": certificate_authority(mode, variable, os.environ, given)}


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
    connection: Connection, query: sql.Composable, path: Path | str = os.devnull, progress: Progress | None = None,
    passed: Callable[[Any], Any] | None = None,
) -> Copied:
    """`COPY (query) TO` a new file (or nowhere, for the hash alone). `passed` sees each chunk, in progress's place."""
    seen = _passed(connection, passed or (progress and progress.advance))
    raw = HashedFile(path, "wb" if path == os.devnull else "xb", seen)
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, sql.SQL(COPY_OPTIONS))
    with _pinned(connection) as cursor, io.BufferedWriter(raw, BUFFER) as file:
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
    connection: Connection, table: sql.Composable, columns: Sequence[str], path: Path, progress: Progress | None = None,
    *, freeze: bool = True,
) -> Copied:
    """`COPY table (columns) FROM` a file in our dialect; to `freeze`, the table has to be of the same transaction.

    Frozen rows are there for every snapshot: a reader whose snapshot is older than the load would otherwise find the
    view's new date, and no row in it.
    """
    raw = HashedFile(path, "rb", _passed(connection, progress and progress.advance))
    options = sql.SQL(COPY_OPTIONS.replace(")", ", FREEZE)") if freeze else COPY_OPTIONS)
    statement = sql.SQL("COPY {} ({}) FROM STDIN {}").format(table, identifiers(columns), options)
    with connection.cursor() as cursor, io.BufferedReader(raw, BUFFER) as file:
        cursor.copy_expert(statement, file, size=BUFFER)
        return Copied(cursor.rowcount, raw.size, raw.sha256)
