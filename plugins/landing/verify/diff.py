"""What changed between two loaded dates: rows inserted, updated and deleted in each table.

Rows are equal if COPY writes the same text for them: 1.0 and 1.00 differ, as their bytes do. So types without an
equality operator (json, xml, point) work too. Tables with the same key on both dates are matched by it; all others are
compared as multisets, in which rows are only inserted or deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg2
from psycopg2 import sql

from landing.core.commands import load_command
from landing.core.errors import WarehouseError
from landing.load import history
from landing.load.load_history import LoadedTable, LoadHistory
from landing.postgres.query import query
from landing.postgres.transaction import begin
from landing.verify import partition_diff
from landing.verify.partition_diff import RowChange, primary_key


@dataclass(frozen=True)
class TableChange:
    """A table on two dates. `rows_before` or `rows_after` is None if that date does not have the table.

    `key` is None if rows cannot be matched: an update then counts as one row deleted and one inserted.
    """

    source: str
    table: str
    key: list[str] | None
    rows_before: int | None
    rows_after: int | None
    inserted: int
    updated: int
    deleted: int
    note: str = ""
    rows: list[RowChange] = field(default_factory=list)

    @property
    def unchanged(self) -> int:
        """Rows that both dates have."""
        return 0 if None in (self.rows_before, self.rows_after) else self.rows_after - self.inserted - self.updated


_Partition = tuple[LoadedTable, sql.Identifier]


@dataclass(frozen=True)
class _Table:
    source: str
    name: str
    old: sql.Identifier | None  # partitions
    new: sql.Identifier | None
    without_data: bool  # on the date that lacks it


class Comparison:
    """Compares two dates of one schema's history, in one snapshot."""

    def __init__(self, connection: Any, schema: str, before: date, after: date) -> None:
        self.schema, self.history, self.before, self.after = schema, f"{schema}_history", before, after
        self.cursor = connection.cursor()

    def tables(self, rows: int = 0) -> Iterator[TableChange]:
        """Compare each table of either date.

        Args:
            rows: How many changed rows of each table to return.

        Raises:
            WarehouseError: A date is not completely loaded.
        """
        tables = self._tables()
        begin(self.cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self._lock([partition for table in tables for partition in (table.old, table.new) if partition])
            for table in tables:
                yield self._compared(table, rows) if table.old and table.new else self._single(table)
        finally:
            self.cursor.execute("ROLLBACK")

    def _tables(self) -> list[_Table]:
        old, new = self._loaded(self.before), self._loaded(self.after)
        self._sources = {self.before: {source for source, _ in old}, self.after: {source for source, _ in new}}
        empty = self._without_data(old, self.after) | self._without_data(new, self.before)
        return [_Table(*key, *(found[key][1] if key in found else None for found in (old, new)), key in empty)
                for key in sorted({*old} | {*new})]

    def _without_data(self, tables: Mapping[tuple[str, str], _Partition], other: date) -> set[tuple[str, str]]:
        """Those of the tables that hold no data at their source on the other date."""
        load_history = LoadHistory(self.cursor, self.history)
        streams = {source: load_history.without_data(other, source) for source in {source for source, _ in tables}}
        return {key for key, (entry, _) in tables.items() if entry.is_of(streams[entry.source])}

    def _loaded(self, day: date) -> dict[tuple[str, str], _Partition]:
        """Partitions of a date by source and table, with its schema unless that is the default one."""
        load_history = LoadHistory(self.cursor, self.history)
        entries = load_history.entries(day)
        if not entries:
            raise WarehouseError(f"{day} is not loaded into {self.schema}. Load it first: "
                                 f"{load_command(day, self.schema)}")
        partitions = {part.schema: history.partitions(self.cursor, part.history, day) for part in load_history.parts()}
        present = load_history.present(day)
        if gone := sorted(one.label(self.schema) for one in entries if one not in present):
            raise WarehouseError(f"The load history of {self.history} lists {day} as loaded, but its partitions of "
                                 f"{', '.join(gone)} are missing or empty. Load it again: "
                                 f"{load_command(day, self.schema)}")
        return {(one.source, one.label(self.schema)):
                (one, sql.Identifier(one.history, partitions[one.schema][one.table])) for one in entries}

    def _lock(self, partitions: list[sql.Identifier]) -> None:
        """Lock before the snapshot is taken: a load could replace partitions between the two."""
        try:
            query(self.cursor, sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(partitions)))
        except psycopg2.errors.UndefinedTable:
            raise WarehouseError(f"{self.before} or {self.after} was loaded again during the comparison. Run again."
                                 ) from None

    def _single(self, table: _Table) -> TableChange:
        """A table of one of the dates only."""
        partition, day, other = ((table.new, self.after, self.before) if table.new else
                                 (table.old, self.before, self.after))
        (count,), = query(self.cursor, sql.SQL("SELECT count(*) FROM {}").format(partition))
        before, after = (None, count) if table.new else (count, None)
        inserted, deleted, note = after or 0, before or 0, f"only on {day}"
        if table.source not in self._sources[other]:  # its rows were neither inserted nor deleted
            inserted, deleted, note = 0, 0, f"{table.source} is not loaded on {other}"
        elif table.without_data:
            inserted, deleted, note = 0, 0, f"no data at the source on {other}"
        key = primary_key(self.cursor, partition) or None
        return TableChange(table.source, table.name, key, before, after, inserted, 0, deleted, note)

    def _compared(self, table: _Table, rows: int) -> TableChange:
        found = partition_diff.compare(self.cursor, table.old, table.new, rows)
        return TableChange(table.source, table.name, **vars(found))
