"""The load history `<schema>_history._loads`: time, run and hash of each loaded table of each date."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extras import execute_values

from landing.load import history
from landing.load.history import all_partitions, columns_of
from landing.load.staging import Load

LOADS = "_loads"

CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    source text, extracted_at date, table_name text,
    rows bigint NOT NULL, sha256 text NOT NULL,
    snapshot_at timestamptz NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now(), run_id text NOT NULL,
    seconds double precision, left_out text[], PRIMARY KEY (source, extracted_at, table_name)
)
"""
ADDED = {"seconds": "double precision", "left_out": "text[]"}  # columns that tables of older versions lack

RECORD = """
INSERT INTO {} (source, extracted_at, table_name, rows, sha256, snapshot_at, run_id, seconds)
VALUES %s
ON CONFLICT (source, extracted_at, table_name) DO UPDATE SET
    rows = excluded.rows, sha256 = excluded.sha256, snapshot_at = excluded.snapshot_at,
    loaded_at = excluded.loaded_at, run_id = excluded.run_id, seconds = excluded.seconds
"""

# Through JSON: a table that an older version created has no column `seconds` until the next load.
ENTRIES = """
SELECT source, extracted_at, table_name, rows, sha256, snapshot_at, loaded_at, run_id,
       (to_jsonb(l) ->> 'seconds')::double precision
FROM {} l WHERE extracted_at = ANY (coalesce(%s::date[], ARRAY[extracted_at])) ORDER BY source, extracted_at, table_name
"""

# Through JSON, too.
LEFT_OUT = """
SELECT DISTINCT source, to_jsonb(l) -> 'left_out' FROM {} l WHERE extracted_at = %s
"""

# Tables that the newest loaded date of their source lacks, with the first date without them and that newest date. Both
# are NULL for a table that no loaded date has.
GONE = """
WITH last AS (SELECT table_name, max(source) AS source, max(extracted_at) AS day FROM {loads} GROUP BY table_name),
     newest AS (SELECT source, max(extracted_at) AS day FROM {loads} GROUP BY source)
SELECT c.relname, (SELECT min(later.extracted_at) FROM {loads} later
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
    """One table of one loaded date. `seconds`: duration of COPY and key, None if an older version loaded it."""

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
    """The load history of one schema."""

    def __init__(self, cursor: Any, history: str) -> None:
        self.cursor, self.history, self.relation = cursor, history, sql.Identifier(history, LOADS)
        # psycopg2 would take a `%` in the schema's name for a placeholder.
        self._doubled = sql.SQL(self.relation.as_string(cursor).replace("%", "%%"))

    def _rows(self, statement: str, *values: Any) -> list[tuple]:
        self.cursor.execute(sql.SQL(statement).format(self._doubled, loads=self._doubled), values)
        return self.cursor.fetchall()

    def create(self) -> None:
        """Create the table, or add the columns that it lacks."""
        self.cursor.execute(sql.SQL(CREATE).format(self.relation))
        have = columns_of(self.cursor, self.relation)
        for name, type_ in ADDED.items():
            if name not in have:  # checked first: ALTER waits for all readers
                self.cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                    self.relation, sql.Identifier(name), sql.SQL(type_)))

    def exists(self) -> bool:
        """Whether anything was ever loaded."""
        self.cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self.relation.as_string(self.cursor),))
        return self.cursor.fetchone()[0]

    def runs(self, day: date | None = None) -> dict[tuple[str, date, str], str]:
        """Run ids by (source, date, table), of one date or of all."""
        rows = self._rows("SELECT source, extracted_at, table_name, run_id FROM {} "
                          "WHERE extracted_at = coalesce(%s, extracted_at)", day)
        return {(source, at, table): run_id for source, at, table, run_id in rows}

    def entries(self, *days: date) -> list[LoadedTable]:
        """Entries of these dates, or of all; empty if nothing was ever loaded."""
        return [LoadedTable(*row) for row in self._rows(ENTRIES, [*days] or None)] if self.exists() else []

    def present(self, *days: date) -> list[LoadedTable]:
        """Entries whose rows are present: without partitions that a person dropped, detached or emptied."""
        entries = self.entries(*days)
        partitions = all_partitions(self.cursor, self.history, *days)
        there = [(entry, partitions[entry.table, entry.day]) for entry in entries
                 if (entry.table, entry.day) in partitions]
        empty = history.empty(self.cursor, self.history, [name for entry, name in there if entry.rows])
        return [entry for entry, name in there if name not in empty]

    def tables(self, day: date, sources: Collection[str] | None = None) -> list[tuple[str, str]]:
        """(source, table) of everything that a date has in the load history or as a partition.

        The source of a partition without any entry is ''.
        """
        owners = self.owners()
        found = {(source, table) for source, _, table in self.runs(day)}
        found |= {(owners.get(table, ""), table) for table in history.partitions(self.cursor, self.history, day)}
        return sorted(one for one in found if sources is None or one[0] in sources)

    def owners(self) -> dict[str, str]:
        """Source of each table; empty if nothing was ever loaded."""
        return dict(self._rows("SELECT DISTINCT table_name, source FROM {}")) if self.exists() else {}

    def newest(self) -> dict[str, date]:
        """Newest loaded date of each source: the one that its views show."""
        return dict(self._rows("SELECT source, max(extracted_at) FROM {} GROUP BY source"))

    def last(self) -> dict[str, date]:
        """Newest loaded date of each table: its comments describe the table."""
        return dict(self._rows("SELECT table_name, max(extracted_at) FROM {} GROUP BY table_name"))

    def gone(self) -> dict[str, tuple[date, date] | None]:
        """Tables that the newest date of their source lacks.

        Returns:
            First date without the table and newest date of the source; None for a table that no loaded date has.
        """
        return {name: (since, newest) if since else None for name, since, newest in self._rows(GONE, self.history)}

    def record(self, loads: Iterable[Load]) -> None:
        """Add or replace the entries of loaded tables."""
        values = [(load.source, load.day, load.table.name, load.table.rows, load.table.sha256, load.taken_at,
                   load.run_id, load.seconds) for load in loads]
        execute_values(self.cursor, sql.SQL(RECORD).format(self._doubled).as_string(self.cursor), values)

    def sources(self, day: date) -> set[str]:
        """Sources with an entry for a date."""
        return {source for source, _, _ in self.runs(day)}

    def left_out(self, day: date) -> set[str]:
        """Sources that the load of a date left out on purpose, and that were not loaded since."""
        rows = self._rows(LEFT_OUT, day) if self.exists() else []
        return {name for _, names in rows for name in names or []} - {source for source, _ in rows}

    def record_left_out(self, day: date, sources: Collection[str], left_out: Collection[str]) -> None:
        """Record which sources the load of these sources left out."""
        self.cursor.execute(sql.SQL(
            "UPDATE {} SET left_out = %s::text[] WHERE extracted_at = %s AND source = ANY (%s) "
            "AND left_out IS DISTINCT FROM %s::text[]"
        ).format(self._doubled), (names := sorted(left_out) or None, day, list(sources), names))

    def remove(self, source: str, day: date, table: str) -> None:
        """Delete the entry of one table of a date."""
        self.cursor.execute(sql.SQL(
            "DELETE FROM {} WHERE source = %s AND extracted_at = %s AND table_name = %s"
        ).format(self._doubled), (source, day, table))
