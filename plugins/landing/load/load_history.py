"""The ledger `<schema>_history._loads`: which table of which date was loaded when, from which run, with which hash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extras import execute_values

from landing.load import history
from landing.load.history import all_partitions, columns_of
from landing.model.schema import Table

LOADS = "_loads"

CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    source text, extracted_at date, table_name text,
    rows bigint NOT NULL, sha256 text NOT NULL,
    snapshot_at timestamptz NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now(), run_id text NOT NULL,
    seconds double precision, PRIMARY KEY (source, extracted_at, table_name)
)
"""

NOTE = """
INSERT INTO {} (source, extracted_at, table_name, rows, sha256, snapshot_at, run_id, seconds)
VALUES %s
ON CONFLICT (source, extracted_at, table_name) DO UPDATE SET
    rows = excluded.rows, sha256 = excluded.sha256, snapshot_at = excluded.snapshot_at,
    loaded_at = excluded.loaded_at, run_id = excluded.run_id, seconds = excluded.seconds
"""

# By way of JSON: the ledger of a warehouse that was not loaded into for long has no `seconds`.
ENTRIES = """
SELECT source, extracted_at, table_name, rows, sha256, snapshot_at, loaded_at, run_id,
       (to_jsonb(l) ->> 'seconds')::double precision
FROM {} l WHERE extracted_at = coalesce(%s, extracted_at) ORDER BY source, extracted_at, table_name
"""

# Tables that the newest loaded date of their source lacks: the first date without them, and that newest date; both NULL
# for a table that no loaded date has.
GONE = """
WITH last AS (SELECT table_name, max(source) AS source, max(extracted_at) AS day FROM {ledger} GROUP BY table_name),
     newest AS (SELECT source, max(extracted_at) AS day FROM {ledger} GROUP BY source)
SELECT c.relname, (SELECT min(later.extracted_at) FROM {ledger} later
                   WHERE later.source = last.source AND later.extracted_at > last.day), newest.day
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
LEFT JOIN last ON last.table_name = c.relname
LEFT JOIN newest ON newest.source = last.source
WHERE c.relkind = 'p' AND (last.day IS NULL OR last.day <> newest.day)
ORDER BY c.relname
"""


@dataclass(frozen=True)
class LoadedTable:
    """A line of the ledger; `seconds` is what COPY and key took, or None where that was not noted."""

    source: str
    day: date
    table: str
    rows: int
    sha256: str
    snapshot_at: datetime
    loaded_at: datetime
    run_id: str
    seconds: float | None


class LoadHistory:
    """The ledger of one schema's history."""

    def __init__(self, cursor: Any, history: str) -> None:
        self.cursor, self.history, self.relation = cursor, history, sql.Identifier(history, LOADS)
        # Beside values, where a `%` in the schema's name would stand for one of them.
        self._doubled = sql.SQL(self.relation.as_string(cursor).replace("%", "%%"))

    def _rows(self, statement: str, *values: Any) -> list[tuple]:
        self.cursor.execute(sql.SQL(statement).format(self._doubled, ledger=self._doubled), values)
        return self.cursor.fetchall()

    def create(self) -> None:
        """Make it, if it is not there."""
        self.cursor.execute(sql.SQL(CREATE).format(self.relation))
        if "seconds" not in columns_of(self.cursor, self.relation):  # asked first: ALTER waits for all readers
            self.cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS seconds double precision").format(
                self.relation))

    def exists(self) -> bool:
        """Whether anything was ever loaded."""
        self.cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self.relation.as_string(self.cursor),))
        return self.cursor.fetchone()[0]

    def runs(self, day: date | None = None) -> dict[tuple[str, date, str], str]:
        """Run ids by (source, date, table): of one date, or of all."""
        rows = self._rows("SELECT source, extracted_at, table_name, run_id FROM {} "
                          "WHERE extracted_at = coalesce(%s, extracted_at)", day)
        return {(source, at, table): run_id for source, at, table, run_id in rows}

    def entries(self, day: date | None = None) -> list[LoadedTable]:
        """All lines, or those of one date; none where nothing was ever loaded."""
        return [LoadedTable(*row) for row in self._rows(ENTRIES, day)] if self.exists() else []

    def present(self, day: date | None = None) -> list[LoadedTable]:
        """Entries whose rows are there: not those whose partition a person dropped, detached or emptied."""
        entries = self.entries(day)
        partitions = all_partitions(self.cursor, self.history, day)
        there = [(entry, partitions[entry.table, entry.day]) for entry in entries
                 if (entry.table, entry.day) in partitions]
        empty = history.empty(self.cursor, self.history, [name for entry, name in there if entry.rows])
        return [entry for entry, name in there if name not in empty]

    def owners(self) -> dict[str, str]:
        """The source that each table of history is of; none where nothing was ever loaded."""
        return dict(self._rows("SELECT DISTINCT table_name, source FROM {}")) if self.exists() else {}

    def newest(self) -> dict[str, date]:
        """The newest loaded date of each source: the one that its views show."""
        return dict(self._rows("SELECT source, max(extracted_at) FROM {} GROUP BY source"))

    def last(self) -> dict[str, date]:
        """The newest loaded date of each table: what it says of the table is the last word."""
        return dict(self._rows("SELECT table_name, max(extracted_at) FROM {} GROUP BY table_name"))

    def gone(self) -> dict[str, tuple[date, date] | None]:
        """Tables that the newest date of their source lacks: the first date without them, and the newest.

        None for a table that no loaded date has.
        """
        return {name: (since, newest) if since else None for name, since, newest in self._rows(GONE, self.history)}

    def note(self, loads: Iterable[tuple[str, date, Table, datetime, str, float | None]]) -> None:
        """Tables are loaded: source, date, table, moment of the snapshot, run id, seconds that it took."""
        values = [(source, day, table.name, table.rows, table.sha256, taken_at, run_id, seconds)
                  for source, day, table, taken_at, run_id, seconds in loads]
        execute_values(self.cursor, sql.SQL(NOTE).format(self._doubled).as_string(self.cursor), values)

    def remove(self, source: str, day: date, table: str) -> None:
        """A table of a date is no more."""
        self.cursor.execute(sql.SQL(
            "DELETE FROM {} WHERE source = %s AND extracted_at = %s AND table_name = %s"
        ).format(self._doubled), (source, day, table))
