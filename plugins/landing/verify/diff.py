"""What changed between two loaded dates, from history: rows inserted, updated, deleted.

Rows are the same when COPY would write the same of them: 1.0 and 1.00 differ, as their bytes do. That needs no type to
have an equality of its own (json, xml, point). A table whose key is the same on both dates is matched by it; any other
is a heap of rows, in which one can only come or go.
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
from landing.load.history import PARTITION_KEY, columns_of
from landing.load.load_history import LoadedTable, LoadHistory
from landing.postgres.transaction import begin

# The text decides; the image of a row, where it is the same, spares making that text.
CHANGED = "NOT (ROW({a})::record *= ROW({b})::record) AND ROW({a})::text COLLATE \"C\" <> ROW({b})::text"

BY_KEY = """
SELECT count(a.{day}), count(b.{day}), count(*) FILTER (WHERE a.{day} IS NULL),
       count(*) FILTER (WHERE a.{day} IS NOT NULL AND b.{day} IS NOT NULL AND {changed}),
       count(*) FILTER (WHERE b.{day} IS NULL)
FROM {old} a FULL JOIN {new} b ON {match}
"""

AS_HEAP = """
SELECT coalesce(sum(olds), 0)::bigint, coalesce(sum(news), 0)::bigint,
       coalesce(sum(greatest(news - olds, 0)), 0)::bigint, 0, coalesce(sum(greatest(olds - news, 0)), 0)::bigint
FROM (SELECT count(*) FILTER (WHERE NOT is_new) AS olds, count(*) FILTER (WHERE is_new) AS news
      FROM (SELECT ROW({a})::text COLLATE "C" AS line, false AS is_new FROM {old} a
            UNION ALL SELECT ROW({b})::text COLLATE "C", true FROM {new} b) lines
      GROUP BY line) counted
"""

ROWS_BY_KEY = """
SELECT CASE WHEN a.{day} IS NULL THEN 'inserted' WHEN b.{day} IS NULL THEN 'deleted' ELSE 'updated' END, 1,
       CASE WHEN a.{day} IS NOT NULL THEN ARRAY[{atext}]::text[] END,
       CASE WHEN b.{day} IS NOT NULL THEN ARRAY[{btext}]::text[] END
FROM {old} a FULL JOIN {new} b ON {match}
WHERE a.{day} IS NULL OR b.{day} IS NULL OR {changed}
ORDER BY {order} LIMIT {limit}
"""

ROWS_AS_HEAP = """
SELECT CASE WHEN news > olds THEN 'inserted' ELSE 'deleted' END, abs(news - olds),
       CASE WHEN news < olds THEN texts END, CASE WHEN news > olds THEN texts END
FROM (SELECT count(*) FILTER (WHERE NOT is_new) AS olds, count(*) FILTER (WHERE is_new) AS news, texts
      FROM (SELECT ARRAY[{atext}]::text[] COLLATE "C" AS texts, false AS is_new FROM {old} a
            UNION ALL SELECT ARRAY[{btext}]::text[] COLLATE "C", true FROM {new} b) lines
      GROUP BY texts) counted
WHERE news <> olds ORDER BY texts LIMIT {limit}
"""

PRIMARY_KEY = """
SELECT a.attname
FROM pg_constraint c
CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS part(attnum, position)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = part.attnum
WHERE c.conrelid = to_regclass(%s) AND c.contype = 'p' AND a.attname <> %s
ORDER BY part.position
"""


@dataclass(frozen=True)
class RowChange:
    """A row that came, went or changed: `count` times, its values as COPY's text by column, None for NULL."""

    change: str
    count: int
    before: dict[str, str | None] | None
    after: dict[str, str | None] | None


@dataclass(frozen=True)
class TableChange:
    """A table on two dates. `rows_before` or `rows_after` is None where that date hasn't the table.

    `key` is None where rows can't be matched: then an update is a row deleted and another inserted.
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


@dataclass(frozen=True)
class _Table:
    source: str
    name: str
    old: str | None  # partitions
    new: str | None


class Comparison:
    """Two dates of one schema's history, in one snapshot."""

    def __init__(self, connection: Any, schema: str, before: date, after: date) -> None:
        self.schema, self.history, self.before, self.after = schema, f"{schema}_history", before, after
        self.cursor = connection.cursor()

    def tables(self, rows: int = 0) -> Iterator[TableChange]:
        """Each table that one of the dates has, with up to `rows` of its changed rows."""
        tables = self._tables()
        begin(self.cursor, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self._lock([name for table in tables for name in (table.old, table.new) if name])
            for table in tables:
                yield self._compared(table, rows) if table.old and table.new else self._single(table)
        finally:
            self.cursor.execute("ROLLBACK")

    def _tables(self) -> list[_Table]:
        old, new = self._loaded(self.before), self._loaded(self.after)
        self._sources = {self.before: {source for source, _ in old}, self.after: {source for source, _ in new}}
        return [_Table(source, name, old.get((source, name)), new.get((source, name)))
                for source, name in sorted({*old} | {*new})]

    def _loaded(self, day: date) -> dict[tuple[str, str], str]:
        """Partitions of a date by source and table; WarehouseError where it is not loaded whole."""
        entries: Mapping[tuple[str, str], LoadedTable] = {
            (one.source, one.table): one for one in LoadHistory(self.cursor, self.history).entries(day)}
        if not entries:
            raise WarehouseError(f"{day} is not loaded into {self.schema}. Load it first: "
                                 f"{load_command(day, self.schema)}")
        there = history.partitions(self.cursor, self.history, day)
        present = {(one.source, one.table) for one in LoadHistory(self.cursor, self.history).present(day)}
        if gone := [table for source, table in entries if (source, table) not in present]:
            raise WarehouseError(f"{day} is loaded by the ledger of {self.history}, and {', '.join(gone)} has no "
                                 f"rows of that date. Load it again: {load_command(day, self.schema)}")
        return {(source, table): there[table] for source, table in entries}

    def _lock(self, partitions: list[str]) -> None:
        """Before the snapshot is taken: or a load could put others in their place, and two moments would be mixed."""
        try:
            self.cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(
                sql.SQL(", ").join(sql.Identifier(self.history, name) for name in partitions)))
        except psycopg2.errors.UndefinedTable:
            raise WarehouseError(f"{self.before} or {self.after} was loaded anew meanwhile. Run again.") from None

    def _single(self, table: _Table) -> TableChange:
        name, day = (table.new, self.after) if table.new else (table.old, self.before)
        self.cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(self.history, name)))
        count, = self.cursor.fetchone()
        before, after = (None, count) if table.new else (count, None)
        other = self.before if table.new else self.after
        if table.source not in self._sources[other]:  # no row came or went by that
            return TableChange(table.source, table.name, self._key(name) or None, before, after, 0, 0, 0,
                               f"{table.source} is not loaded on {other}")
        return TableChange(table.source, table.name, self._key(name) or None, before, after, after or 0, 0,
                           before or 0, f"only on {day}")

    def _compared(self, table: _Table, rows: int) -> TableChange:
        old, new = sql.Identifier(self.history, table.old), sql.Identifier(self.history, table.new)
        columns = [name for name in columns_of(self.cursor, new) if name != PARTITION_KEY]
        keys = self._key(table.old), self._key(table.new)
        key = keys[0] if keys[0] == keys[1] else []
        note = "" if key else "its key changed: compared as without" if any(keys) else "no key"
        parts = _parts(old, new, columns, key, rows)
        self.cursor.execute(sql.SQL(BY_KEY if key else AS_HEAP).format(**parts))
        counts = self.cursor.fetchone()
        found = self._rows(ROWS_BY_KEY if key else ROWS_AS_HEAP, parts, columns) if rows else []
        return TableChange(table.source, table.name, key or None, *counts, note, found)

    def _rows(self, statement: str, parts: Mapping[str, sql.Composable], columns: list[str]) -> list[RowChange]:
        self.cursor.execute(sql.SQL(statement).format(**parts))
        return [RowChange(change, count, *(dict(zip(columns, values, strict=True)) if values is not None else None
                                           for values in (before, after)))
                for change, count, before, after in self.cursor.fetchall()]

    def _key(self, partition: str) -> list[str]:
        """The source's key of a date, as its columns are called in history; none is empty."""
        relation = sql.Identifier(self.history, partition).as_string(self.cursor)
        self.cursor.execute(PRIMARY_KEY, (relation, PARTITION_KEY))
        return [name for name, in self.cursor.fetchall()]


def _parts(old: sql.Composable, new: sql.Composable, columns: list[str], key: list[str],
           rows: int) -> dict[str, sql.Composable]:
    a, b = ([sql.Identifier(side, name) for name in columns] for side in "ab")
    match = sql.SQL(" AND ").join(sql.SQL("a.{0} = b.{0}").format(sql.Identifier(name)) for name in key)
    order = sql.SQL(", ").join(sql.SQL("coalesce(a.{0}, b.{0})").format(sql.Identifier(name)) for name in key)
    parts = {"a": sql.SQL(", ").join(a), "b": sql.SQL(", ").join(b), "match": match, "order": order, "old": old,
             "new": new, "atext": _texts(a), "btext": _texts(b), "day": sql.Identifier(PARTITION_KEY),
             "limit": sql.Literal(rows)}
    return {**parts, "changed": sql.SQL(CHANGED).format(**parts)}


def _texts(columns: list[sql.Composable]) -> sql.Composed:
    """Each value in its type's own output, which a cast would not always give."""
    return sql.SQL(", ").join(sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN concat({0}) END").format(column)
                              for column in columns)
