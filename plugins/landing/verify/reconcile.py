"""Verifies by checksum that source, files and warehouse match.

The manifest's SHA-256 was computed while the source's COPY streamed. Files are hashed again, and each partition is
copied out of the warehouse and hashed: large tables in pieces, by several processes. Tables are compared in one of five
ways:

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

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import psycopg2
from msgspec import structs
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.errors import DamagedError, describe
from landing.core.progress import Progress
from landing.load import history
from landing.load.chain import Part
from landing.load.history import columns_of, history_name
from landing.load.load_history import LoadedTables, LoadHistory
from landing.model import csv_dialect
from landing.model.manifest import Manifest
from landing.model.schema import Table, combined
from landing.postgres import copy
from landing.protection.references import protected
from landing.storage import hashing
from landing.storage.base import Object, Storage
from landing.verify.contents import Connect, Contents, CopyOut, HashFile, Passed, Rebuild, Rows, pieces
from landing.verify.workers import Here, Labour, Workers, done, in_order
from landing.zone.chains import all_columns, chain
from landing.zone.landing_zone import LandingZone

BYTES, ROWS, VALUES, CHAIN, FILES = "bytes", "rows", "values", "chain", "files"
EQUAL = {BYTES: "yes", ROWS: "yes: rows, in any order", VALUES: "yes: values, as the warehouse's types",
         CHAIN: "yes: rows, of the files of several dates", FILES: "yes: files only"}
KEY_BYTES = 64  # a block of SHA-256
LARGE = 64 << 20  # bytes that take longer than starting processes
UNREAD = (psycopg2.OperationalError, psycopg2.InterfaceError, pg_errors.InsufficientPrivilege, pg_errors.UndefinedTable)
ROW_BYTES = 100  # of a row that an increment does not have: a guess
logger = logging.getLogger("landing")


@dataclass(frozen=True)
class Verification:
    """Result for one table: SHA-256 of the source's rows, the files and the warehouse; None if not available.

    `problem`: why it does not match. `compared`: BYTES, ROWS, VALUES or CHAIN if the warehouse matches, FILES if it is
    not looked at, else None. `protected`: columns that are compared as they are landed, and their methods. `unread`:
    whether the warehouse refused to show the table, so that nothing is known of its rows.
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
    unread: bool = False

    @property
    def holds(self) -> bool:
        """Whether source, files and warehouse match."""
        return self.problem is None and self.landed == self.files and self.compared is not None


class Reconciliation:
    """Verifies partitions of a landing zone against one schema of a warehouse."""

    def __init__(self, landing_zone: LandingZone, connection: Any, schema: str, workers: Workers | None = None) -> None:
        """`workers`: do what takes long, if there is enough of it; else this process does everything."""
        self.zone, self.connection, self.schema = landing_zone, connection, schema
        self.history = f"{schema}_history"
        self._workers, self._here = workers, Here(connection)
        self._key = os.urandom(KEY_BYTES)
        self._bytes = 0  # of tables that were verified without workers

    def tables(self, manifest: Manifest) -> Iterator[Verification]:
        """Verify each table of a source's partition; then report tables that only the warehouse has."""
        return in_order(self.started(manifest))

    def started(self, manifest: Manifest) -> Iterator[Future[Verification]]:
        """The same, as they are started."""
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
            yield self._start(manifest, table, entry.label(self.schema) if entry else table.name, partition)
        for one in tables.others(manifest.source, manifest.tables):
            yield done(Verification(one.source, one.label(self.schema), 0, 0, None, None, None,
                                    "in the warehouse, but no longer landed"))

    def files(self, manifest: Manifest) -> Iterator[Verification]:
        """Verify only the files of each table, and that what it stands on is landed."""
        for table in manifest.tables:
            yield self.table(manifest, table, table.name, None, files_only=True)

    def left_out(self, day: date) -> set[str]:
        """Sources that the load of a date left out on purpose."""
        with self.connection.cursor() as cursor:
            return LoadHistory(cursor, self.history).left_out(day)

    def loaded(self) -> set[tuple[str, date]]:
        """(source, date) of every loaded date."""
        with self.connection.cursor() as cursor:
            return LoadHistory(cursor, self.history).dates()

    def _start(self, manifest: Manifest, table: Table, label: str,
               partition: sql.Identifier | None) -> Future[Verification]:
        """A large table in pieces, by all workers; others as a whole, by one of them; the first small ones here."""
        size = max(table.bytes, ROW_BYTES * table.total_rows)
        if self._workers and size >= LARGE and (len(table.files) > 1 or table.increment):
            return done(self.table(manifest, table, label, partition, by=self._workers))
        if not self._workers or self._bytes + size < LARGE:
            self._bytes += size
            return done(self.table(manifest, table, label, partition))
        alone = structs.replace(manifest, tables=[table])
        return self._workers.submit(VerifyTable(self.zone.storage, self.schema, alone, label, partition))

    def table(self, manifest: Manifest, table: Table, label: str, partition: sql.Identifier | None, *,
              files_only: bool = False, by: Labour | None = None) -> Verification:
        """Verify one table against its partition."""
        by = by or self._here
        result = Verification(manifest.source, label, table.total_rows, table.bytes, table.sha256, None, None,
                              protected=protected(table.columns))
        try:
            objects = [self.zone.file(manifest, file) for file in table.files]
            self._check_quarantine(manifest, table)
            pieces = self._hashed(table, objects, by)
            result = replace(result, files=combined([one.sha256 for one in pieces]))
            if differ := [str(one) for one, file, found in zip(objects, table.files, pieces, strict=True)
                          if found.sha256 != file.sha256]:
                return replace(result, problem=f"the files are not what was landed: {', '.join(differ)}")
            if files_only:
                chain(self.zone, manifest, table)
                return replace(result, compared=FILES)
            if partition is None:
                return replace(result, problem="not loaded")
            if table.increment:
                result, table = self._compared_chain(result, manifest, table, partition, by)
            else:
                result = self._compared(result, table, partition, objects, Contents.of(pieces), by)
            if result.compared and (filled := self._filled_others(table, partition)):
                return replace(result, compared=None, problem="the warehouse has values in columns that the files "
                                                              f"lack: {', '.join(filled)}")
        except DamagedError as error:
            return replace(result, files=None, problem=str(error))
        except psycopg2.Error as error:
            return replace(result, problem=describe(error), unread=isinstance(error, UNREAD))
        return result if result.holds else replace(result, problem="the warehouse's rows are not those of the files")

    def _hashed(self, table: Table, objects: Sequence[Object], by: Labour) -> list[Contents]:
        rows, progress = self._rows(table, several=len(objects) > 1), self._progress(table, "files")
        return [one.result() for one in [by.submit(HashFile(place, rows), progress) for place in objects]]

    def _check_quarantine(self, manifest: Manifest, table: Table) -> None:
        """The file of rejected rows is never loaded, but it is part of the partition."""
        if table.quarantine:
            one = self.zone.file(manifest, table.quarantine)
            if hashing.sha256(one) != table.quarantine.sha256:
                raise DamagedError(f"{one} is not what was landed")

    def _compared(self, result: Verification, table: Table, relation: sql.Identifier, objects: Sequence[Object],
                  landed: Contents, by: Labour) -> Verification:
        """Add the warehouse's hash and, if it matches, how it was compared."""
        several = len(table.files) > 1
        found = self._contents(table, relation, several, by)
        result, rows = replace(result, warehouse=found.sha256), found.rows
        if several and found.same(landed):
            result, rows = replace(result, compared=ROWS), landed.rows
        elif not several and found.sha256 == table.sha256:
            result = replace(result, compared=BYTES)
        elif self._may_differ_in_form(table, relation):
            part = Part(table.columns, [*zip(objects, table.files, strict=True)])
            if self._rebuilt(table, relation, [part], [], several, by).result().same(found):
                result = replace(result, compared=VALUES)
        if result.compared and rows != table.rows:
            raise DamagedError(f"the manifest lists {table.rows} rows; its files have {rows}")
        return result

    def _compared_chain(self, result: Verification, manifest: Manifest, table: Table, relation: sql.Identifier,
                        by: Labour) -> tuple[Verification, Table]:
        """The same for a table that was landed in increments; and the table with all of its columns."""
        links = chain(self.zone, manifest, table)
        table = structs.replace(table, columns=all_columns(links))
        parts = [Part(link.table.columns, [(self.zone.file(link.manifest, file), file) for file in link.table.files])
                 for link in links]
        rebuilt = self._rebuilt(table, relation, parts, table.primary_key, True, by)
        found = self._contents(table, relation, True, by)
        same = rebuilt.result().same(found)
        if same and found.rows != table.total_rows:
            raise DamagedError(f"the manifest lists {table.total_rows} rows; its files give {found.rows}")
        return replace(result, warehouse=found.sha256, compared=CHAIN if same else None), table

    def _rebuilt(self, table: Table, relation: sql.Identifier, parts: Sequence[Part], key: Sequence[str],
                 several: bool, by: Labour) -> Future[Contents]:
        """Copy the files into a temporary table with the partition's types, and out again."""
        names = [history_name(column.name) for column in table.columns]
        return by.submit(Rebuild(relation, names, parts, key, self._fields(table), self._rows(table, several)),
                         self._progress(table, "files again"))

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

    def _contents(self, table: Table, relation: sql.Identifier, several: bool, by: Labour) -> Contents:
        """Copy a relation out in the landing zone's CSV dialect. `several`: in pieces, its rows being in no order."""
        rows, progress = self._rows(table, several), self._progress(table, "warehouse")
        query = sql.SQL("SELECT {} FROM {}").format(self._fields(table), relation)
        if not several:
            return by.submit(CopyOut(query, rows), progress).result()
        with pieces(self.connection, relation, export=by.elsewhere) as (snapshot, conditions):
            tasks = [CopyOut(query + where, rows, snapshot) for where in conditions]
            started = [by.submit(task, progress) for task in tasks]
            return Contents.of([self._piece(place, started, task, progress) for place, task in enumerate(tasks)])

    def _piece(self, place: int, started: Sequence[Future[Contents]], task: CopyOut, progress: Progress) -> Contents:
        """One of the pieces that were started.

        A pending ALTER queues behind the snapshot's lock, and the workers behind the ALTER: this process, which holds
        that lock, then copies the pieces itself.
        """
        try:
            return started[place].result()
        except (pg_errors.LockNotAvailable, CancelledError):
            for one in started[place:]:
                one.cancel()
            return self._here.submit(replace(task, snapshot=None), progress).result()

    def _may_differ_in_form(self, table: Table, relation: sql.Identifier) -> bool:
        """Whether the warehouse may write a value in another form than the file."""
        with self.connection.cursor() as cursor:
            types = columns_of(cursor, relation)
        return table.declared_types or any(types.get(history_name(column.name)) != column.type
                                           for column in table.columns)

    def _fields(self, table: Table) -> sql.Composed:
        return copy.fields({history_name(column.name): column for column in table.columns})

    def _rows(self, table: Table, several: bool) -> Rows:
        return Rows(csv_dialect.header(table.columns), self._key if several else None)

    def _progress(self, table: Table, where: str) -> Progress:
        return Progress(logger, f"{table.name}, {where}", size=table.bytes)


@dataclass(frozen=True)
class VerifyTable:
    """A task: verify the only table of a manifest."""

    storage: Storage
    schema: str
    manifest: Manifest
    label: str
    partition: sql.Identifier | None

    def __call__(self, connect: Connect, _: Passed) -> Verification:
        table, = self.manifest.tables
        return Reconciliation(LandingZone(self.storage), connect(), self.schema).table(
            self.manifest, table, self.label, self.partition)
