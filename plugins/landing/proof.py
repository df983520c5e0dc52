"""The proof of a date: what the source sent = what lies in the files = what the warehouse gives back.

The manifest's SHA-256 is of the source's own COPY, taken as it streamed. Files are hashed anew, and each partition is
copied out of the warehouse again, and hashed: three hashes for a table, or it is not proved. Files that were loaded
side by side lie in the warehouse in no order; there it is the sum of each row's SHA-256 that has to be the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from landing import database, dialect, files, zone
from landing.errors import DamagedError, describe
from landing.history import history_name, partitions
from landing.ledger import Ledger

logger = logging.getLogger("landing")


@dataclass(frozen=True)
class TableProof:
    """A table of a date: three SHA-256, or None with the reason why there isn't one."""

    source: str
    table: str
    rows: int
    bytes: int
    landed: str | None
    files: str | None
    warehouse: str | None
    problem: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the three are one."""
        return self.problem is None and self.landed == self.files == self.warehouse


class Proof:
    """Proves dates of a landing zone against one schema of a warehouse."""

    def __init__(self, landing_zone: zone.LandingZone, connection: Any, schema: str) -> None:
        self.zone, self.connection, self.schema = landing_zone, connection, schema
        self.history = f"{schema}_history"

    def tables(self, manifest: zone.Manifest) -> Iterator[TableProof]:
        """Each table of a source's date, proved or not; then those that the warehouse has of it and the files not."""
        with self.connection.cursor() as cursor:
            there = partitions(cursor, self.history, manifest.extracted_at)
            ledger = Ledger(cursor, self.history)
            runs = ledger.runs(manifest.extracted_at) if ledger.exists() else {}
        for table in manifest.tables:
            yield self._table(manifest, table, there.get(table.name))
        names = {table.name for table in manifest.tables}
        for source, _, name in runs:
            if source == manifest.source and name not in names:
                yield TableProof(source, name, 0, 0, None, None, None, "in the warehouse, but no longer landed")

    def _table(self, manifest: zone.Manifest, table: zone.Table, partition: str | None) -> TableProof:
        proof = TableProof(manifest.source, table.name, table.rows, table.bytes, table.sha256, None, None)
        try:
            paths = [self.zone.path(manifest, file) for file in table.files]
            self._check_quarantine(manifest, table)
            landed = files.RowSum(self._progress(table, "files").advance)
            passed = landed.write if len(paths) > 1 else self._progress(table, "files").advance
            hashes = [files.sha256(path, passed) for path in paths]
            proof = replace(proof, files=zone.combined(hashes))
            if differ := [str(path) for path, file, found in zip(paths, table.files, hashes, strict=True)
                          if found != file.sha256]:
                return replace(proof, problem=f"the files are not what was landed: {', '.join(differ)}")
            if partition is None:
                return replace(proof, problem="not loaded")
            found, rows = self._in_warehouse(table, partition, paths, landed)
            if found == table.sha256 and rows != table.rows:
                raise DamagedError(f"the manifest says {table.rows} rows, and its files have {rows}")
            proof = replace(proof, warehouse=found)
        except DamagedError as error:
            return replace(proof, files=None, problem=str(error))
        except psycopg2.Error as error:
            return replace(proof, problem=describe(error))
        return proof if proof.holds else replace(proof, problem="the warehouse's rows are not those of the files")

    def _check_quarantine(self, manifest: zone.Manifest, table: zone.Table) -> None:
        """No rows of it are loaded, but it is of what was landed."""
        if table.quarantine:
            path = self.zone.path(manifest, table.quarantine)
            if files.sha256(path) != table.quarantine.sha256:
                raise DamagedError(f"{path} is not what was landed")

    def _in_warehouse(
        self, table: zone.Table, partition: str, paths: list[Path], landed: files.RowSum
    ) -> tuple[str, int]:
        """The hash of the partition, copied out in our dialect, and its rows."""
        relation = sql.Identifier(self.history, partition)
        if len(paths) > 1:
            same = self._same_rows(table, relation, landed)
            return table.sha256 if same else "", landed.rows - len(paths)
        found = self._copied(table, relation)
        if found.sha256 == table.sha256 or not table.declared_types:
            return found.sha256, found.rows
        # Declared types may write a value otherwise than the file did; then both are read with these types.
        return table.sha256 if found == self._reread(table, relation, paths) else found.sha256, found.rows

    def _same_rows(self, table: zone.Table, relation: sql.Identifier, landed: files.RowSum) -> bool:
        """Whether files that went in side by side, in no order of their own, are what comes out, row by row."""
        loaded = files.RowSum(self._progress(table, "warehouse").advance)
        loaded.write(dialect.header(table.columns) * len(table.files))  # each file has one
        database.copy_rows(self.connection, self._query(table, relation), loaded)
        return (landed.rows, landed.value) == (loaded.rows, loaded.value)

    def _copied(self, table: zone.Table, relation: sql.Identifier) -> database.Copied:
        progress = self._progress(table, "warehouse")
        return database.copy_out(self.connection, self._query(table, relation), progress=progress)

    def _query(self, table: zone.Table, relation: sql.Identifier) -> sql.Composed:
        fields = database.fields({history_name(column.name): column for column in table.columns})
        return sql.SQL("SELECT {} FROM {}").format(fields, relation)

    def _reread(self, table: zone.Table, relation: sql.Identifier, paths: list[Path]) -> database.Copied:
        """The landed files, read into a temporary table of the partition's types and copied out."""
        names = [history_name(column.name) for column in table.columns]
        temporary = sql.Identifier("pg_temp", "landing_proof")
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_proof AS SELECT {} FROM {} LIMIT 0").format(
                database.identifiers(names), relation))
            try:
                for path in paths:
                    database.copy_in(self.connection, temporary, names, path)
                return self._copied(table, temporary)
            finally:
                cursor.execute("ROLLBACK")

    def _progress(self, table: zone.Table, where: str) -> database.Progress:
        return database.Progress(logger, f"{table.name}, {where}", size=table.bytes)
