"""The table `<schema>_history._refused`: checks that blocked the load of a date, until a load of it passes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extras import execute_values

from landing.load.history import columns_of
from landing.postgres.query import query

REFUSED = "_refused"
CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    source text NOT NULL, extracted_at date NOT NULL, run_id text NOT NULL, table_name text NOT NULL,
    check_name text NOT NULL, expected text NOT NULL, found text NOT NULL, refused_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True)
class Refusal:
    """A check that a date's table does not pass. `table`: in its source. `at`: when it was recorded."""

    source: str
    day: date
    run_id: str
    table: str
    check: str
    expected: str
    found: str
    at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.source}, table {self.table}, {self.check}: expected {self.expected}, found {self.found}"


class Refusals:
    """The refusals of one SCHEMA. The table exists once there was one."""

    def __init__(self, cursor: Any, history: str) -> None:
        self.cursor, self.relation = cursor, sql.Identifier(history, REFUSED)

    def record(self, failed: Sequence[Refusal]) -> None:
        """Replace those of the date, in the caller's transaction."""
        self.cursor.execute(sql.SQL(CREATE).format(self.relation))
        self.clear(failed[0].day, {one.source for one in failed})
        execute_values(self.cursor, sql.SQL(
            "INSERT INTO {} (source, extracted_at, run_id, table_name, check_name, expected, found) VALUES %s").format(
            sql.SQL(self.relation.as_string(self.cursor).replace("%", "%%"))).as_string(self.cursor), [
            (one.source, one.day, one.run_id, one.table, one.check, one.expected, one.found) for one in failed])

    def clear(self, day: date, sources: Collection[str] | None) -> None:
        """Remove those of a date: of some sources, or of all (None)."""
        if self._exists():
            self.cursor.execute(sql.SQL("DELETE FROM {} WHERE extracted_at = {} AND ({} OR source = ANY ({}))").format(
                self.relation, sql.Literal(day), sql.Literal(sources is None), sql.Literal(list(sources or ()))))

    def rename(self, old: str, new: str) -> None:
        """Rename a source, in the caller's transaction."""
        if self._exists():
            self.cursor.execute(sql.SQL("UPDATE {} SET source = {} WHERE source = {}").format(
                self.relation, sql.Literal(new), sql.Literal(old)))

    def dates(self) -> list[tuple[date, str]]:
        """The dates that have some, by date and source."""
        return query(self.cursor, sql.SQL("SELECT DISTINCT extracted_at, source FROM {} ORDER BY 1, 2").format(
            self.relation)) if self._exists() else []

    def of(self, days: Collection[date]) -> list[Refusal]:
        """Those of these dates."""
        return [Refusal(*row) for row in query(self.cursor, sql.SQL(
            "SELECT source, extracted_at, run_id, table_name, check_name, expected, found, refused_at FROM {} "
            "WHERE extracted_at = ANY ({}::date[]) ORDER BY source, extracted_at, table_name, check_name").format(
            self.relation, sql.Literal([*days])))] if self._exists() else []

    def _exists(self) -> bool:
        return bool(columns_of(self.cursor, self.relation))
