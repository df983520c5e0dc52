"""Builds a table that was landed in increments: the whole one, with changed rows in place of those of their keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from landing.load.history import history_name
from landing.model.schema import Column, File
from landing.postgres.copy import identifiers
from landing.storage.base import Object

Files = Sequence[tuple[Object, File]]
ALL = sql.SQL("")
CHANGE = sql.Identifier("pg_temp", "landing_change")


@dataclass(frozen=True)
class Part:
    """What one date of a chain landed."""

    columns: Sequence[Column]
    files: Files

    @property
    def names(self) -> list[str]:
        """Its columns in history."""
        return [history_name(column.name) for column in self.columns]


Copy = Callable[[sql.Identifier, Part], None]


@dataclass(frozen=True)
class Chain:
    """A table that was landed in increments.

    Attributes:
        parts: What each date landed, the whole table first.
        key: The table's key; without one a part is added to those before it.
        base: The relation that holds all parts but the last.
    """

    parts: Sequence[Part]
    key: Sequence[str]
    base: sql.Identifier | None = None

    def fill(self, cursor: Any, relation: sql.Identifier, copy: Copy) -> int:
        """Fill an empty table, in the caller's transaction. `copy` adds a part's rows to a table. Returns its rows."""
        if self.base:
            with self._change(cursor, relation, self.parts[-1], copy) as names:
                kept = sql.SQL(" WHERE NOT EXISTS (SELECT FROM {} c WHERE {})").format(CHANGE, self._same("t"))
                rows = _insert(cursor, relation, self.base, self._all_names(), kept if self.key else ALL)
                return rows + _insert(cursor, relation, CHANGE, names)
        first, *changes = self.parts
        copy(relation, first)
        rows = sum(file.rows for _, file in first.files)
        for part in changes:
            with self._change(cursor, relation, part, copy) as names:
                if self.key:
                    cursor.execute(sql.SQL("DELETE FROM {} t USING {} c WHERE {}").format(
                        relation, CHANGE, self._same("t")))
                    rows -= cursor.rowcount
                rows += _insert(cursor, relation, CHANGE, names)
        return rows

    def _all_names(self) -> list[str]:
        return list(dict.fromkeys(name for part in self.parts for name in part.names))

    def _same(self, table: str) -> sql.Composed:
        return sql.SQL(" AND ").join(sql.SQL("{0}.{1} = c.{1}").format(sql.Identifier(table), sql.Identifier(
            history_name(name))) for name in self.key)

    @contextlib.contextmanager
    def _change(self, cursor: Any, relation: sql.Identifier, part: Part, copy: Copy) -> Iterator[list[str]]:
        """A part's rows in a table of their own, with the types of `relation`."""
        cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_change AS SELECT {} FROM {} LIMIT 0").format(
            identifiers(part.names), relation))
        copy(CHANGE, part)
        cursor.execute(sql.SQL("ANALYZE {}").format(CHANGE))
        yield part.names
        cursor.execute(sql.SQL("DROP TABLE {}").format(CHANGE))


def _insert(cursor: Any, relation: sql.Identifier, origin: sql.Identifier, names: Sequence[str],
            condition: sql.Composable = ALL) -> int:
    cursor.execute(sql.SQL("INSERT INTO {} ({names}) SELECT {names} FROM {} t{}").format(
        relation, origin, condition, names=identifiers(names)))
    return cursor.rowcount
