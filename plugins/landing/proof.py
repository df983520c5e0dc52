"""The proof of a date: what the source sent = what lies in the files = what the warehouse gives back.

The manifest's SHA-256 is of the source's own COPY, taken as it streamed. Files are hashed anew, and each partition is
copied out of the warehouse again, and hashed: three hashes for a table, or it is not proved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from landing import database, files, zone
from landing.errors import DamagedError, describe
from landing.history import history_name, partitions
from landing.ledger import Ledger

EVERYTHING = sql.SQL("")

# Rows as text, so that what is equal and not the same (0 and -0) differs.
DIFFERENT = """
SELECT EXISTS (SELECT ROW({fields})::text FROM {a} EXCEPT ALL SELECT ROW({fields})::text FROM {b})
    OR EXISTS (SELECT ROW({fields})::text FROM {b} EXCEPT ALL SELECT ROW({fields})::text FROM {a})
"""

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
            passed = self._progress(table, "files").advance
            proof = replace(proof, files=zone.combined([files.sha256(path, passed) for path in paths]))
            if partition is None:
                return replace(proof, problem="not loaded")
            proof = replace(proof, warehouse=self._in_warehouse(table, partition, paths))
        except DamagedError as error:
            return replace(proof, problem=str(error))
        except psycopg2.Error as error:
            return replace(proof, problem=describe(error))
        return proof if proof.holds else replace(proof, problem=_difference(proof))

    def _in_warehouse(self, table: zone.Table, partition: str, paths: list[Path]) -> str:
        """The hash of the partition, copied out in our dialect, each file's rows by themselves."""
        relation = sql.Identifier(self.history, partition)
        found = self._by_file(table, relation) if len(paths) > 1 else self._copied(table, relation)
        if found == table.sha256 or (len(paths) == 1 and not table.declared_types):
            return found
        # Declared types may write a value otherwise than the file did, and a table that was rewritten no longer knows
        # which rows came with which file: then files and partition are compared row by row.
        return table.sha256 if self._same_rows(table, relation, paths) else found

    def _by_file(self, table: zone.Table, relation: sql.Identifier) -> str:
        """Of several files each was copied in by a transaction of its own, which the rows still show."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT DISTINCT xmin::text::bigint FROM {}").format(relation))
            transactions = [sql.SQL(" WHERE xmin = {}::text::xid").format(sql.Literal(str(xid)))
                            for xid, in cursor.fetchall()]
        expected = sorted(file.sha256 for file in table.files if file.rows)
        if len(transactions) != len(expected):
            return ""
        found = sorted(self._copied(table, relation, condition) for condition in transactions)
        return table.sha256 if found == expected else zone.combined(found)

    def _copied(self, table: zone.Table, relation: sql.Identifier, condition: sql.Composable = EVERYTHING) -> str:
        fields = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(history_name(column.name)), sql.Identifier(column.name))
            for column in table.columns
        )
        query = sql.SQL("SELECT {} FROM {}{}").format(fields, relation, condition)
        return database.copy_out(self.connection, query, progress=self._progress(table, "warehouse")).sha256

    def _same_rows(self, table: zone.Table, relation: sql.Identifier, paths: list[Path]) -> bool:
        """Whether the files, read into a temporary table of the partition's types, have the partition's rows."""
        names = [history_name(column.name) for column in table.columns]
        temporary = sql.Identifier("pg_temp", "landing_proof")
        rows = {"fields": database.identifiers(names), "a": relation, "b": temporary}
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_proof AS SELECT {fields} FROM {a} LIMIT 0").format(
                **rows))
            try:
                for path in paths:
                    database.copy_in(self.connection, temporary, names, path)
                cursor.execute(sql.SQL(DIFFERENT).format(**rows))
                return not cursor.fetchone()[0]
            finally:
                cursor.execute("ROLLBACK")

    def _progress(self, table: zone.Table, where: str) -> database.Progress:
        return database.Progress(logger, f"{table.name}, {where}", size=table.bytes)


def _difference(proof: TableProof) -> str:
    if proof.files != proof.landed:
        return "the files are not what was landed"
    return "the warehouse's rows are not those of the files"
