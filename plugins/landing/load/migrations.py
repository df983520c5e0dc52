"""Versioned SQL files that change what people build on the warehouse: each is run once, in order, before a load.

    load/migrations/V001__orders_by_month.sql

Each runs in its own transaction and is recorded with its SHA-256 in `<schema>_history._migrations`, so a SCHEMA has its
own. SCHEMA is the first schema of the search_path meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from landing.core.errors import MigrationError, SettingError
from landing.core.settings import root
from landing.load.history import columns_of
from landing.postgres.query import query
from landing.postgres.transaction import transaction

SETTING = "migrations"
FOLDER = "load/migrations"
NAME = re.compile(r"V([0-9]{1,18})__([^/]+)\.sql")
TABLE = "_migrations"
CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    version bigint PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(), seconds double precision NOT NULL
)
"""
# A file's statements run inside a function, where none can end the transaction.
RUN = "DO $$ BEGIN EXECUTE current_setting('landing.migration'); END $$"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Migration:
    """A file: its version, its name, and its text with line feeds as line ends."""

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(setting: str | None) -> list[Migration]:
    """The files in the folder that the setting names, by version. Unset: FOLDER, if it exists.

    Raises:
        SettingError: The folder does not exist, or a file's name or version is not one.
    """
    folder = root() / (setting or FOLDER)
    if not folder.is_dir():
        if setting:
            raise SettingError(f"{SETTING} of target-postgres is {setting!r}, and {folder} is not a folder. Nothing "
                               "was loaded. Correct it, and run again.")
        return []
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        if not (name := NAME.fullmatch(path.name)):
            raise SettingError(f"{path} is not named as a migration. Expected V<number>__<words>.sql, such as "
                               "V001__orders_by_month.sql. Nothing was loaded. Rename it, and run again.")
        one = Migration(int(name[1]), path.name, _text(path))
        if (other := found.setdefault(one.version, one)) is not one:
            raise SettingError(f"{folder} has two migrations of version {one.version}: {other.name} and {one.name}. "
                               "Nothing was loaded. Give one of them the next number, and run again.")
    return [found[version] for version in sorted(found)]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is not UTF-8 ({error}). Nothing was loaded. Save it as UTF-8, and run again."
                           ) from None


class Migrations:
    """The migrations of one SCHEMA of a warehouse."""

    def __init__(self, connection: Any, schema: str, files: Sequence[Migration]) -> None:
        self.connection, self.schema, self.files = connection, schema, files
        self.cursor = connection.cursor()
        self.relation = sql.Identifier(f"{schema}_history", TABLE)

    def pending(self) -> list[Migration]:
        """Those that the next load runs, in order. A project without any leaves those of another in the SCHEMA alone.

        Raises:
            MigrationError: A file that was run is missing or was changed, or a new one comes before one that was run.
        """
        if not self.files:
            return []
        applied = {version: (name, sha256) for version, name, sha256 in query(self.cursor, sql.SQL(
            "SELECT version, name, sha256 FROM {}").format(self.relation))} if (
            columns_of(self.cursor, self.relation)) else {}
        files = {one.version: one for one in self.files}
        for version, (name, sha256) in sorted(applied.items()):
            if version not in files:
                raise MigrationError(f"The migration {name} was run in {self.schema}, and its file is missing",
                                     "Restore it")
            if files[version].sha256 != sha256:
                raise MigrationError(f"The migration {files[version].name} was changed since it was run in "
                                     f"{self.schema}: expected SHA-256 {sha256}, found {files[version].sha256}",
                                     "Restore it, put the change into a new migration")
        pending = [one for one in self.files if one.version not in applied]
        newest = max(applied, default=-1)
        if pending and pending[0].version < newest:
            raise MigrationError(f"The migration {pending[0].name} comes before {applied[newest][0]}, which was run in "
                                 f"{self.schema}", f"Give it a number above {newest}")
        return pending

    def apply(self, lock_timeout: float) -> None:
        """Run those that are pending. The caller holds the schema's lock.

        Args:
            lock_timeout: Seconds that each of its statements waits for locks of other sessions.

        Raises:
            MigrationError: One cannot be run; it leaves nothing, and those before it stay.
        """
        for one in self.pending():
            started = time.monotonic()
            try:
                self._run(one, lock_timeout)
            except psycopg2.Error as error:
                if self.connection.closed:
                    raise
                raise MigrationError(f"The migration {one.name} failed{_line(error)}: {_reason(error)}. It left "
                                     f"nothing in {self.schema}", "Correct it") from error
            logger.info("Ran the migration %s in %s (%.1f s).", one.name, self.schema, time.monotonic() - started)

    def _run(self, one: Migration, lock_timeout: float) -> None:
        started = time.monotonic()
        with transaction(self.connection) as cursor:
            query(cursor, "SELECT set_config('search_path', concat_ws(', ', quote_ident(%s), "
                          "nullif(current_setting('search_path'), '')), true), "
                          "set_config('lock_timeout', %s, true), set_config('landing.migration', %s, true)",
                  (self.schema, f"{int(1000 * lock_timeout)}ms", one.text))
            query(cursor, RUN)
            cursor.execute(sql.SQL(CREATE).format(self.relation))
            cursor.execute(sql.SQL("INSERT INTO {} (version, name, sha256, seconds) VALUES ({}, {}, {}, {})").format(
                self.relation, *map(sql.Literal, (one.version, one.name, one.sha256, time.monotonic() - started))))


def _reason(error: psycopg2.Error) -> str:
    """PostgreSQL's message, detail and hint; its context would repeat the file."""
    found = error.diag
    parts = [found.message_primary, found.message_detail, found.message_hint]
    return ". ".join(part.rstrip(".") for part in parts if part) or str(error).strip()


def _line(error: psycopg2.Error) -> str:
    """The line of the file, if PostgreSQL says where it is."""
    found = error.diag
    if not (found.internal_position and found.internal_query):
        return ""
    before = found.internal_query[:int(found.internal_position) - 1]
    return f" in line {before.count(chr(10)) + 1}"
