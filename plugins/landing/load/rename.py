"""Renames a source in the load histories of all schemas of a warehouse, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date
from typing import Any

from psycopg2 import sql

from landing.core.errors import WarehouseError
from landing.load.history import columns_of
from landing.load.load_history import LOADS
from landing.load.locks import SchemaLock
from landing.load.refusals import Refusals
from landing.postgres.query import query
from landing.postgres.transaction import transaction

HISTORY = "_history"

SCHEMAS = """
SELECT n.nspname, has_table_privilege(c.oid, 'UPDATE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind = 'r' AND right(n.nspname, %s) = %s AND (
    SELECT count(*) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attname IN ('source', 'extracted_at', 'table_name')) = 3
ORDER BY n.nspname
"""


class WarehouseRename:
    """The load histories that name a source."""

    def __init__(self, connection: Any, old: str, new: str, logger: Any) -> None:
        self.connection, self.old, self.new, self.logger = connection, old, new, logger
        self.cursor = connection.cursor()
        self.schemas = self._found()

    def _found(self) -> list[str]:
        """Schemas that have a load history. Raises WarehouseError if the role may not change one of them."""
        names = query(self.cursor, SCHEMAS, (LOADS, len(HISTORY), HISTORY))
        if barred := [name for name, allowed in names if not allowed]:
            raise WarehouseError(f"The warehouse role may not change {barred[0]}.{LOADS}. Nothing was changed. Run "
                                 "again as the role that loads that schema.")
        return [name.removesuffix(HISTORY) for name, _ in names]

    def tables(self) -> dict[str, int]:
        """Entries to rename by schema.

        Raises:
            WarehouseError: A schema has a date of both names.
        """
        found = {}
        for schema in self.schemas:
            tables = self._tables(schema)
            days = {name: {day for source, day, _ in tables if source == name} for name in (self.old, self.new)}
            if both := sorted(days[self.old] & days[self.new]):
                raise WarehouseError(f"{schema} has {both[0]} loaded from {self.old} and from {self.new}. Nothing was "
                                     f"changed. Choose another name, or remove one of the two: landing drop {both[0]} "
                                     f"--source {self.new} --schema {schema}")
            found[schema] = sum(count for source, _, count in tables if source == self.old)
        return found

    def _tables(self, schema: str) -> list[tuple[str, date, int]]:
        """Number of entries by source and date."""
        return query(self.cursor, sql.SQL("SELECT source, extracted_at, count(*) FROM {} GROUP BY 1, 2").format(
            _loads(schema)))

    @contextlib.contextmanager
    def locked(self, patience: float) -> Iterator[None]:
        """Hold all schemas' locks against loads. Raises WarehouseError if a load holds one of them."""
        lock = SchemaLock(self.connection, self._found, self.logger)
        if not lock.acquire(patience):
            raise WarehouseError(f"Timed out after {patience:g} s waiting for a load of schema {lock.blocked}: "
                                 f"{lock.holder()}. Nothing was changed. Run again when it has ended.")
        self.schemas = self._found()
        try:
            yield
        finally:
            lock.release()

    def apply(self) -> None:
        """Rename it in all schemas, in one transaction: in load histories and in refused checks."""
        with transaction(self.connection) as cursor:
            for schema in self.schemas:
                self._rename(cursor, _loads(schema))
                Refusals(cursor, schema + HISTORY).rename(self.old, self.new)

    def _rename(self, cursor: Any, loads: sql.Identifier) -> None:
        """The source of entries, and where a load left it out."""
        name = sql.SQL(loads.as_string(cursor).replace("%", "%%"))  # psycopg2 takes a `%` for a placeholder
        cursor.execute(sql.SQL("UPDATE {} SET source = %s WHERE source = %s").format(name), (self.new, self.old))
        if "left_out" in columns_of(cursor, loads):
            cursor.execute(sql.SQL("UPDATE {} SET left_out = array_replace(left_out, %s::text, %s::text) "
                                   "WHERE %s = ANY (left_out)").format(name), (self.old, self.new, self.old))

    def known(self) -> set[str]:
        """Every source of any schema."""
        return {source for schema in self.schemas for source, _, _ in self._tables(schema)}


def _loads(schema: str) -> sql.Identifier:
    return sql.Identifier(schema + HISTORY, LOADS)
