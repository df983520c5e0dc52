"""A landed table on its way into the warehouse: COPY into a staging table, which has to hold what was landed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing import database, dialect, history, project, zone
from landing.errors import DamagedError, WarehouseError, describe
from landing.history import PARTITION_KEY, history_name

STAGING = "_staging_"

logger = logging.getLogger("target-postgres")


@dataclass(frozen=True)
class Load:
    """A landed table on its way into the warehouse, its `columns` with the types that history will have for them."""

    source: str
    day: date
    run_id: str
    taken_at: datetime
    table: zone.Table
    staging: str = ""  # the staging table's name, once it is there
    seconds: float | None = None  # that COPY and key took

    def __str__(self) -> str:
        return f"{self.source} of {self.day}, table {self.table.name}"

    @property
    def land_again(self) -> str:
        """The command that lands it anew."""
        return f"REEXTRACT=true {project.extract_command(self.source, self.day)}"


def name_for(load: Load, number: int) -> str:
    """Name of a staging table; `number` tells the tables of a date apart."""
    return f"{STAGING}{load.run_id}_{number}".lower()


def drop_all(cursor: Any, schema: str) -> None:
    """Remove every staging table in `schema`."""
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s AND starts_with(tablename, %s)",
                   (schema, STAGING))
    for (name,) in cursor.fetchall():
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, name)))


def fill(connection: Any, schema: str, load: Load, files: Sequence[tuple[Path, zone.File]]) -> None:
    """COPY the files into a new table in `schema` and check rows and hash; the key is built after the data."""
    relation = sql.Identifier(schema, load.staging)
    with connection.cursor() as cursor:
        _create(cursor, relation, load)
        for path, file in files:
            _copy(connection, relation, load, path, file)
        if load.table.primary_key:
            _add_key(cursor, relation, load)


def _create(cursor: Any, relation: sql.Identifier, load: Load) -> None:
    day = sql.Literal(load.day.isoformat())
    columns = history.fields({history_name(column.name): column.type for column in load.table.columns})
    # The CHECK spares ATTACH a look at each row.
    statement = sql.SQL("CREATE TABLE {} ({key} date NOT NULL DEFAULT {day} CHECK ({key} = {day}), {})").format(
        relation, columns, key=sql.Identifier(PARTITION_KEY), day=day
    )
    try:
        cursor.execute(statement)
    except psycopg2.ProgrammingError as error:
        raise WarehouseError(f"{load}: the warehouse cannot have such a table: {describe(error)}. Nothing was loaded. "
                             f"Rename the column, then land and load again: {load.land_again}") from error


def _copy(connection: Any, relation: sql.Identifier, load: Load, path: Path, file: zone.File) -> None:
    header = dialect.header(load.table.columns)
    with path.open("rb") as opened:
        found = opened.read(len(header))
    if found != header:
        raise _damaged(load, path, f"expected the header {header!r}, found {found!r}")
    names = [history_name(column.name) for column in load.table.columns]
    progress = database.Progress(logger, load.table.name, size=file.bytes)
    try:
        copied = database.copy_in(connection, relation, names, path, progress)
    except psycopg2.DataError as error:
        if (found := zone.sha256(path)) != file.sha256:
            raise _damaged(load, path, f"expected SHA-256 {file.sha256}, found {found}") from error
        raise WarehouseError(
            f"{load}, file {path}: the warehouse cannot read it: {describe(error)}. Nothing was loaded. Correct the "
            f"types that are declared, then land and load again: {load.land_again}"
        ) from error
    if (copied.rows, copied.bytes, copied.sha256) != (file.rows, file.bytes, file.sha256):
        raise _damaged(
            load, path, f"expected {file.rows} rows, {file.bytes} bytes, SHA-256 {file.sha256}; found {copied.rows} "
            f"rows, {copied.bytes} bytes, SHA-256 {copied.sha256}"
        )
    progress.done(copied.rows)


def _damaged(load: Load, path: Path, what: str) -> DamagedError:
    return DamagedError(f"{load}, file {path}: {what}. Nothing was loaded. Land it again: {load.land_again}")


def _add_key(cursor: Any, relation: sql.Identifier, load: Load) -> None:
    key = database.identifiers(history.history_key(load.table.primary_key))
    try:
        cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(relation, key))
    except (pg_errors.UniqueViolation, pg_errors.NotNullViolation) as error:
        raise WarehouseError(
            f"{load}: the key {load.table.primary_key} does not hold ({describe(error)}). Nothing was loaded. Correct "
            f"the data, or the `keys` that are declared; then land and load again: {load.land_again}"
        ) from error
