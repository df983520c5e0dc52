"""Copies landed tables into staging tables of the warehouse and verifies rows, bytes and hash."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg2
from msgspec import structs
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.commands import extract_command, how_to_repair
from landing.core.errors import DamagedError, RefusedError, WarehouseError, describe
from landing.core.progress import PROGRESS_EVERY, Progress
from landing.load import history
from landing.load.chain import Chain, Files, Part
from landing.load.history import PARTITION_KEY, STAGING, history_name
from landing.model import csv_dialect
from landing.model.schema import File, Table
from landing.model.whole import Whole
from landing.postgres import copy
from landing.postgres.copy import identifiers
from landing.postgres.transaction import transaction
from landing.postgres.worker_pool import WorkerPool
from landing.singer.scratch import scratch
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.finding import local_file

DROP_BATCH = 50  # tables per statement

# Progress of key builds; the share is of the phase, not of the whole.
KEYS = """
SELECT c.relname, p.phase, CASE WHEN p.tuples_total > 0 THEN p.tuples_done::float / p.tuples_total
                                WHEN p.blocks_total > 0 THEN p.blocks_done::float / p.blocks_total END
FROM pg_stat_progress_create_index p JOIN pg_class c ON c.oid = p.relid
"""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """A landed table to load. Once planned, its columns have the types of history.

    Attributes:
        layout: All columns of its table in history after the load, in order.
        key: Its key in history, in order; empty without a key.
    """

    source: str
    day: date
    run_id: str
    taken_at: datetime
    table: Table
    layout: Mapping[str, str] = field(default_factory=dict)
    key: Sequence[str] = ()
    schema: str = ""  # of its view in the warehouse; planned loads have it
    source_table: str = ""  # name in the source, if it has another name or schema in the warehouse
    staging: str = ""  # name of the staging table, once it exists
    seconds: float | None = None  # duration of COPY and key
    whole: Whole | None = None  # of a table that was landed in increments
    chain: Chain | None = None  # its parts, unless its files have all rows after all

    def __str__(self) -> str:
        return f"{self.source} of {self.day}, table {self.source_table or self.table.name}" + (
            f" ({self.label} in the warehouse)" if self.source_table else "")

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.whole.rows if self.whole else self.table.rows

    @property
    def sha256(self) -> str:
        """Checksum of all files that it is made of."""
        return self.whole.sha256 if self.whole else self.table.sha256

    @property
    def source_label(self) -> str:
        """The table in its source."""
        name = self.source_table or self.table.name
        return f"{name if self.table.schema is None else f'{self.table.schema}.{name}'} of source {self.source}"

    @property
    def label(self) -> str:
        """The table in the warehouse; with its schema if that may be any."""
        return f"{self.schema}.{self.table.name}" if self.source_table else self.table.name

    @property
    def history(self) -> str:
        """Schema of its history."""
        return f"{self.schema}_history"

    @property
    def reextract_command(self) -> str:
        """Command that extracts it again."""
        return f"REEXTRACT=true {extract_command(self.source, self.day)}"


def name_for(load: Load, number: int) -> str:
    """Name of a staging table; `number` is unique within a date."""
    return f"{STAGING}{load.run_id}_{number}".lower()


def drop_all(cursor: Any, schemas: Sequence[str]) -> None:
    """Drop all staging tables in `schemas`, in batches: one statement could exceed the server's lock table."""
    cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY (%s) "
                   "AND starts_with(tablename, %s)", (list(schemas), STAGING))
    tables = [sql.Identifier(schema, name) for schema, name in cursor.fetchall()]
    for start in range(0, len(tables), DROP_BATCH):
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.SQL(", ").join(tables[start:start + DROP_BATCH])))


def fill(
    workers: WorkerPool, connection: Any, loads: Sequence[tuple[Load, Files]], *, frozen: bool
) -> list[Load]:
    """Copy loads into staging tables beside their history in parallel, the largest first, and build their keys.

    Args:
        workers: Connections that copy.
        connection: Creates the tables and reads progress.
        loads: Planned loads with their files.
        frozen: Copy all files of a table in one transaction, visible to older snapshots.

    Returns:
        The loads, with `seconds`: each one's share of the total duration.

    Raises:
        DamagedError: A file differs from the manifest.
        WarehouseError: PostgreSQL cannot read a value, or the key does not hold.
    """
    started = time.monotonic()
    fillings = [_Filling(load, paths, frozen or len(paths) == 1) for load, paths in loads]
    by_size = sorted(fillings, key=lambda one: -one.load.table.bytes)
    names = {one.load.staging: one.load.label for one in fillings}
    wait = functools.partial(workers.result, every=PROGRESS_EVERY, report=lambda: _log_key_progress(connection, names))
    for one in by_size:
        one.start(workers, connection)
    for one in by_size:
        one.build_key(workers, wait)
    for one in by_size:
        one.finish(wait)
    share = (time.monotonic() - started) / (sum(one.seconds for one in fillings) or 1)
    return [replace(one.load, seconds=round(share * one.seconds, 4)) for one in fillings]


@contextlib.contextmanager
def spooled(connection: Any, load: Load, files: Files) -> Iterator[tuple[Load, Files]]:
    """A staged load as one that is only copied: one that was rebuilt has its rows in a scratch file."""
    if not load.chain:
        yield load, files
        return
    fields = copy.fields({history_name(column.name): column for column in load.table.columns})
    query = sql.SQL("SELECT {} FROM {}").format(fields, sql.Identifier(load.history, load.staging))
    with scratch() as folder:
        place = local_file(Path(folder) / "rows.csv")
        copied = copy.copy_out(connection, query, hashing.create(place))
        file = File(place.name, copied.rows, copied.bytes, copied.sha256)
        yield replace(load, chain=None, table=structs.replace(load.table, files=[file])), [(place, file)]


class _Filling:
    """Fills one staging table: first the rows, verified by count and hash, then the key.

    Frozen, one transaction copies all files (see copy.copy_in). Otherwise each file has its own transaction, in
    parallel, so rows of different files are in no defined order: verification compares them as a sum.
    """

    def __init__(self, load: Load, paths: Files, frozen: bool) -> None:
        self.load, self.seconds = load, 0.0
        self._paths, self._frozen = paths, frozen
        self._relation = sql.Identifier(load.history, load.staging)
        self._progress = Progress(logger, load.label, size=load.table.bytes)
        self._tasks: list[Future[float]] = []

    def start(self, workers: WorkerPool, connection: Any) -> None:
        """Start copying the files."""
        if self.load.chain:
            self._frozen, self._tasks = True, [workers.submit(self._rebuilt)]
            return
        if self._frozen:
            self._tasks = [workers.submit(self._all)]
            return
        with connection.cursor() as cursor:
            _create(cursor, self._relation, self.load)
        self._tasks = [workers.submit(functools.partial(self._one, path=path, file=file)) for path, file in self._paths]

    def build_key(self, workers: WorkerPool, wait: Callable[[Future[float]], float]) -> None:
        """Wait for the rows, then start to build the key."""
        self.finish(wait)
        self._progress.done(self.load.rows)
        if not self._frozen:
            self._tasks = [workers.submit(self._key)]

    def finish(self, wait: Callable[[Future[float]], float]) -> None:
        """Wait for the running tasks."""
        self.seconds += sum(wait(task) for task in self._tasks)
        self._tasks = []

    def _all(self, connection: Any) -> float:
        started = time.monotonic()
        with transaction(connection) as cursor:
            _create(cursor, self._relation, self.load)
            for path, file in self._paths:
                _copy(connection, self._relation, self.load, path, file, self._progress, freeze=True)
            _add_key(cursor, self._relation, self.load)
        return time.monotonic() - started

    def _rebuilt(self, connection: Any) -> float:
        started = time.monotonic()

        def copy_part(relation: sql.Identifier, part: Part) -> None:
            load = replace(self.load, table=structs.replace(self.load.table, columns=list(part.columns)))
            for path, file in part.files:
                _copy(connection, relation, load, path, file, self._progress, freeze=False)

        with transaction(connection) as cursor:
            _create(cursor, self._relation, self.load)
            rows = self.load.chain.fill(cursor, self._relation, copy_part)
            if rows != self.load.rows:
                raise _damaged(self.load, f"its files give {rows:,} rows, and the manifest lists {self.load.rows:,}")
            _add_key(cursor, self._relation, self.load)
        return time.monotonic() - started

    def _one(self, connection: Any, path: Object, file: File) -> float:
        started = time.monotonic()
        with transaction(connection):
            _copy(connection, self._relation, self.load, path, file, self._progress, freeze=False)
        return time.monotonic() - started

    def _key(self, connection: Any) -> float:
        started = time.monotonic()
        with connection.cursor() as cursor:
            _add_key(cursor, self._relation, self.load)
        return time.monotonic() - started


def _log_key_progress(connection: Any, names: Mapping[str, str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(KEYS)
        for staging, phase, share in cursor.fetchall():
            if staging in names:
                logger.info("%s: building the primary key, %s%s", names[staging], phase,
                            "" if share is None else f", {share:.0%} done")


def dry_run(cursor: Any, load: Load) -> None:
    """Create a load's staging table without rows in the caller's transaction, and roll it back."""
    relation = sql.Identifier(load.history, name_for(load, 0))
    cursor.execute("SAVEPOINT dry_run")
    try:
        _create(cursor, relation, load)
        _add_key(cursor, relation, load)
    finally:
        cursor.execute("ROLLBACK TO SAVEPOINT dry_run")


def _create(cursor: Any, relation: sql.Identifier, load: Load) -> None:
    """Create a table with history's columns in history's order: ATTACH then needs no tuple conversion.

    NOT NULL spares ADD PRIMARY KEY a scan of all rows, and CHECK spares ATTACH one.
    """
    not_null, columns = {PARTITION_KEY, *load.key}, []
    for name, type_ in load.layout.items():
        columns.append(history.fields({name: type_}))
        if name in not_null:
            columns[-1] += sql.SQL(" CONSTRAINT {} NOT NULL").format(_constraint(load, name, "not_null"))
        if name == PARTITION_KEY:
            columns[-1] += sql.SQL(" DEFAULT {day} CONSTRAINT {} CHECK ({key} = {day})").format(
                _constraint(load, name, "check"), key=sql.Identifier(name), day=sql.Literal(load.day.isoformat()))
    statement = sql.SQL("CREATE TABLE {} ({})").format(relation, sql.SQL(", ").join(columns))
    with _refusals(load):
        cursor.execute(statement)


def _constraint(load: Load, column: str, kind: str) -> sql.Identifier:
    """Its name after the table is a partition: constraints are not renamed with the table."""
    return sql.Identifier(history.constraint_name(load.table.name, load.day, column, kind))


@contextlib.contextmanager
def _refusals(load: Load) -> Iterator[None]:
    """Translate DDL errors into RefusedError."""
    try:
        yield
    except (psycopg2.ProgrammingError, pg_errors.ProgramLimitExceeded, pg_errors.TooManyColumns) as error:
        raise RefusedError(load, f"PostgreSQL cannot create this table: {describe(error)}",
                           "Rename or exclude what is named here", load.reextract_command) from error


def _copy(
    connection: Any, relation: sql.Identifier, load: Load, path: Object, file: File, progress: Progress,
    *, freeze: bool,
) -> None:
    _check_header(load, path)
    names = [history_name(column.name) for column in load.table.columns]
    try:
        copied = copy.copy_in(connection, relation, names, hashing.read(path, progress.stream()), freeze=freeze)
    except pg_errors.QueryCanceled as error:
        if DamagedError.__name__ in str(error):  # raised by the file, under libpq
            raise _damaged(load, f"file {path} cannot be read") from error
        raise
    except pg_errors.NotNullViolation as error:
        raise _invalid_key(load, error) from error
    except psycopg2.DataError as error:
        if (found := hashing.sha256(path)) != file.sha256:
            raise _damaged(load, f"file {path}: expected SHA-256 {file.sha256}, found {found}") from error
        raise WarehouseError(
            f"{load}, file {path}: PostgreSQL cannot read it: {describe(error)}. Nothing was loaded. Correct the "
            f"declared types, then extract and load again: {load.reextract_command}"
        ) from error
    if (copied.rows, copied.bytes, copied.sha256) != (file.rows, file.bytes, file.sha256):
        raise _damaged(
            load, f"file {path}: expected {file.rows} rows, {file.bytes} bytes, SHA-256 {file.sha256}; found "
            f"{copied.rows} rows, {copied.bytes} bytes, SHA-256 {copied.sha256}"
        )


def _check_header(load: Load, path: Object) -> None:
    header = csv_dialect.header(load.table.columns)
    try:
        with hashing.reader(path) as opened:
            found = opened.read(len(header))
    except DamagedError as error:
        raise _damaged(load, str(error)) from None
    if found != header:
        raise _damaged(load, f"file {path}: expected the header {header!r}, found {found!r}")


def _damaged(load: Load, problem: str) -> DamagedError:
    return DamagedError(f"{load}: {problem}. Nothing was loaded. {how_to_repair(load.source, load.day)}")


def _add_key(cursor: Any, relation: sql.Identifier, load: Load) -> None:
    if not load.key:
        return
    try:
        with _refusals(load):
            cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(relation, identifiers(load.key)))
    except pg_errors.UniqueViolation as error:
        raise _invalid_key(load, error) from error


def _invalid_key(load: Load, error: psycopg2.Error) -> WarehouseError:
    return WarehouseError(
        f"{load}: the key {load.table.primary_key} does not hold: {describe(error)}. Nothing was loaded. Correct the "
        f"data or the declared `keys`, then extract and load again: {load.reextract_command}"
    )
