"""Verifies by checksum that source, files and warehouse match.

The manifest's SHA-256 was computed while the source's COPY streamed. Files are hashed again, and each partition is
copied out of the warehouse and hashed. Tables are compared in one of five ways:

    bytes     the three hashes are equal
    rows      tables of several files, whose rows are in no defined order in the warehouse: sums of the rows' SHA-256
    values    the warehouse writes values in another form than the file (declared or widened types): the files are
              copied into a temporary table with the partition's types, and out again
    chain     the table was landed in increments: the files of all dates that it stands on are put together in a
              temporary table with the partition's types; then as for rows
    files     an earlier run, which is kept: the warehouse is not looked at

Protected columns are compared as they are landed: the tap hashed the protected bytes, and nothing is compared with the
plain values at the source.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import psycopg2
from msgspec import structs
from psycopg2 import sql

from landing.core.errors import DamagedError, describe
from landing.core.progress import Progress
from landing.load import history
from landing.load.chain import Chain, Part
from landing.load.history import columns_of, history_name
from landing.load.load_history import LoadedTables, LoadHistory
from landing.model import csv_dialect
from landing.model.manifest import Manifest
from landing.model.schema import Table, combined
from landing.postgres import copy
from landing.postgres.copy import Copied, identifiers
from landing.postgres.transaction import begin
from landing.protection.references import protected
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.hashing import RowSum
from landing.zone.chains import all_columns, chain
from landing.zone.landing_zone import LandingZone

BYTES, ROWS, VALUES, CHAIN, FILES = "bytes", "rows", "values", "chain", "files"
EQUAL = {BYTES: "yes", ROWS: "yes: rows, in any order", VALUES: "yes: values, as the warehouse's types",
         CHAIN: "yes: rows, of the files of several dates", FILES: "yes: files only"}
logger = logging.getLogger("landing")


@dataclass(frozen=True)
class _Contents:
    """What COPY reads from a relation. `sum`: of its rows, if their order is undefined."""

    copied: Copied
    sum: tuple[int, int] | None

    def same(self, other: _Contents) -> bool:
        """Whether both have the same rows, in the same order if that is defined."""
        return self.copied == other.copied if self.sum is None else self.sum == other.sum


@dataclass(frozen=True)
class Verification:
    """Result for one table: SHA-256 of the source's rows, the files and the warehouse; None if not available.

    `problem`: why it does not match. `compared`: BYTES, ROWS, VALUES or CHAIN if the warehouse matches, FILES if it is
    not looked at, else None. `protected`: columns that are compared as they are landed, and their methods.
    """

    source: str
    table: str
    rows: int
    bytes: int
    landed: str | None
    files: str | None
    warehouse: str | None
    problem: str | None = None
    compared: str | None = None
    protected: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether source, files and warehouse match."""
        return self.problem is None and self.landed == self.files and self.compared is not None


class Reconciliation:
    """Verifies partitions of a landing zone against one schema of a warehouse."""

    def __init__(self, landing_zone: LandingZone, connection: Any, schema: str) -> None:
        self.zone, self.connection, self.schema = landing_zone, connection, schema
        self.history = f"{schema}_history"

    def tables(self, manifest: Manifest) -> Iterator[Verification]:
        """Verify each table of a source's partition; then report tables that only the warehouse has."""
        day = manifest.extracted_at
        with self.connection.cursor() as cursor:
            load_history = LoadHistory(cursor, self.history)
            tables = LoadedTables(load_history.entries(day))
            partitions = {(part.schema, table): sql.Identifier(part.history, partition)
                          for part in load_history.parts()
                          for table, partition in history.partitions(cursor, part.history, day).items()}
        for table in manifest.tables:
            entry = tables.get(manifest.source, table)
            # A partition is proof of the one table that its entry names: never of another source's, never of two.
            partition = partitions.pop((entry.schema, entry.table), None) if entry else None
            yield self._table(manifest, table, entry.label(self.schema) if entry else table.name, partition)
        for one in tables.others(manifest.source, manifest.tables):
            yield Verification(one.source, one.label(self.schema), 0, 0, None, None, None,
                               "in the warehouse, but no longer landed")

    def files(self, manifest: Manifest) -> Iterator[Verification]:
        """Verify only the files of each table, and that what it stands on is landed."""
        for table in manifest.tables:
            yield self._table(manifest, table, table.name, None, files_only=True)

    def left_out(self, day: date) -> set[str]:
        """Sources that the load of a date left out on purpose."""
        with self.connection.cursor() as cursor:
            return LoadHistory(cursor, self.history).left_out(day)

    def _table(self, manifest: Manifest, table: Table, label: str, partition: sql.Identifier | None, *,
               files_only: bool = False) -> Verification:
        result = Verification(manifest.source, label, table.total_rows, table.bytes, table.sha256, None, None,
                              protected=protected(table.columns))
        try:
            objects = [self.zone.file(manifest, file) for file in table.files]
            self._check_quarantine(manifest, table)
            landed = RowSum(self._progress(table, "files").advance)
            passed = landed.write if len(objects) > 1 else self._progress(table, "files").advance
            hashes = [hashing.sha256(one, passed) for one in objects]
            result = replace(result, files=combined(hashes))
            if differ := [str(one) for one, file, found in zip(objects, table.files, hashes, strict=True)
                          if found != file.sha256]:
                return replace(result, problem=f"the files are not what was landed: {', '.join(differ)}")
            if files_only:
                chain(self.zone, manifest, table)
                return replace(result, compared=FILES)
            if partition is None:
                return replace(result, problem="not loaded")
            if table.increment:
                result, table = self._compared_chain(result, manifest, table, partition)
            else:
                result = self._compared(result, table, partition, objects, landed)
            if result.compared and (filled := self._filled_others(table, partition)):
                return replace(result, compared=None, problem="the warehouse has values in columns that the files "
                                                              f"lack: {', '.join(filled)}")
        except DamagedError as error:
            return replace(result, files=None, problem=str(error))
        except psycopg2.Error as error:
            return replace(result, problem=describe(error))
        return result if result.holds else replace(result, problem="the warehouse's rows are not those of the files")

    def _check_quarantine(self, manifest: Manifest, table: Table) -> None:
        """The file of rejected rows is never loaded, but it is part of the partition."""
        if table.quarantine:
            one = self.zone.file(manifest, table.quarantine)
            if hashing.sha256(one) != table.quarantine.sha256:
                raise DamagedError(f"{one} is not what was landed")

    def _compared(self, result: Verification, table: Table, relation: sql.Identifier, objects: list[Object],
                  landed: RowSum) -> Verification:
        """Add the warehouse's hash and, if it matches, how it was compared."""
        found = self._contents(table, relation)
        result, rows = replace(result, warehouse=found.copied.sha256), found.copied.rows
        if found.sum is not None and found.sum == (landed.rows, landed.value):
            result, rows = replace(result, compared=ROWS), landed.rows - len(objects)
        elif found.sum is None and found.copied.sha256 == table.sha256:
            result = replace(result, compared=BYTES)
        elif self._may_differ_in_form(table, relation) and found.same(self._reread(table, relation, objects)):
            result = replace(result, compared=VALUES)
        if result.compared and rows != table.rows:
            raise DamagedError(f"the manifest lists {table.rows} rows; its files have {rows}")
        return result

    def _compared_chain(self, result: Verification, manifest: Manifest, table: Table,
                        relation: sql.Identifier) -> tuple[Verification, Table]:
        """The same for a table that was landed in increments; and the table with all of its columns."""
        links = chain(self.zone, manifest, table)
        table = structs.replace(table, columns=all_columns(links))
        found = self._contents(table, relation, several=True)
        parts = [Part(link.table.columns, [(self.zone.file(link.manifest, file), file) for file in link.table.files])
                 for link in links]
        with self._temporary(table, relation) as (cursor, temporary):
            Chain(parts, table.primary_key).fill(cursor, temporary, self._copy_part)
            same = self._contents(table, temporary, several=True).same(found)
        if same and found.copied.rows != table.total_rows:
            raise DamagedError(f"the manifest lists {table.total_rows} rows; its files give {found.copied.rows}")
        return replace(result, warehouse=found.copied.sha256, compared=CHAIN if same else None), table

    def _copy_part(self, relation: sql.Identifier, part: Part) -> None:
        for place, file in part.files:
            copied = copy.copy_in(self.connection, relation, part.names, hashing.read(place), freeze=False)
            if copied.sha256 != file.sha256:
                raise DamagedError(f"{place}: expected SHA-256 {file.sha256}, found {copied.sha256}")

    def _filled_others(self, table: Table, relation: sql.Identifier) -> list[str]:
        """Columns that other dates have, and that are not NULL in every row of this one."""
        with self.connection.cursor() as cursor:
            mine = {history.PARTITION_KEY, *(history_name(column.name) for column in table.columns)}
            others = [name for name in columns_of(cursor, relation) if name not in mine]
            if not others:
                return []
            filled = sql.SQL(", ").join(sql.SQL("count({}) > 0").format(sql.Identifier(name)) for name in others)
            cursor.execute(sql.SQL("SELECT {} FROM {}").format(filled, relation))
            return [name for name, some in zip(others, cursor.fetchone(), strict=True) if some]

    def _contents(self, table: Table, relation: sql.Identifier, *, several: bool | None = None) -> _Contents:
        """Copy a relation out in the landing zone's CSV dialect. `several`: whether its rows are in no order."""
        progress = self._progress(table, "warehouse")
        rows = RowSum(progress.advance)
        several = len(table.files) > 1 if several is None else several
        sink = hashing.discard()
        sink.passed = rows.write if several else progress.advance
        copied = copy.copy_out(self.connection, self._query(table, relation), sink)
        rows.write(csv_dialect.header(table.columns) * (len(table.files) - 1))  # each file has one
        return _Contents(copied, (rows.rows, rows.value) if several else None)

    def _may_differ_in_form(self, table: Table, relation: sql.Identifier) -> bool:
        """Whether the warehouse may write a value in another form than the file."""
        with self.connection.cursor() as cursor:
            types = columns_of(cursor, relation)
        return table.declared_types or any(types.get(history_name(column.name)) != column.type
                                           for column in table.columns)

    def _query(self, table: Table, relation: sql.Identifier) -> sql.Composed:
        fields = copy.fields({history_name(column.name): column for column in table.columns})
        return sql.SQL("SELECT {} FROM {}").format(fields, relation)

    def _reread(self, table: Table, relation: sql.Identifier, objects: list[Object]) -> _Contents:
        """Copy the files into a temporary table with the partition's types, and out again."""
        names = [history_name(column.name) for column in table.columns]
        with self._temporary(table, relation) as (_, temporary):
            for one in objects:
                copy.copy_in(self.connection, temporary, names, hashing.read(one))
            return self._contents(table, temporary)

    @contextlib.contextmanager
    def _temporary(self, table: Table, relation: sql.Identifier) -> Iterator[tuple[Any, sql.Identifier]]:
        """A transaction with an empty table of the partition's types; it is rolled back."""
        names = [history_name(column.name) for column in table.columns]
        with self.connection.cursor() as cursor:
            begin(cursor)
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_verify AS SELECT {} FROM {} LIMIT 0").format(
                identifiers(names), relation))
            try:
                yield cursor, sql.Identifier("pg_temp", "landing_verify")
            finally:
                cursor.execute("ROLLBACK")

    def _progress(self, table: Table, where: str) -> Progress:
        return Progress(logger, f"{table.name}, {where}", size=table.bytes)
