"""The load history `<schema>_history._loads`: time, run and hash of each loaded table of each date.

It covers all tables that loads into one SCHEMA replace, also those whose views are in other schemas (table_names.py),
and records where each table of each date is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extras import execute_values

from landing.load import history
from landing.load.history import all_partitions, columns_of
from landing.load.staging import Load
from landing.model.schema import Table
from landing.postgres.query import query

LOADS = "_loads"

CREATE = """
CREATE TABLE IF NOT EXISTS {} (
    source text, extracted_at date, table_name text,
    rows bigint NOT NULL, sha256 text NOT NULL,
    snapshot_at timestamptz NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now(), run_id text NOT NULL,
    seconds double precision, PRIMARY KEY (source, extracted_at, table_name)
)
"""
Streams = Mapping[str, Sequence[str]]  # by source
NONE: Streams = {}

# Columns that were added later. `table_schema`: of the view; `source_schema` and `source_table`: the source's names.
ADDED = {"seconds": "double precision", "left_out": "text[]", "table_schema": "text", "source_schema": "text",
         "source_table": "text", "without_data": "text[]"}

KEY = "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'"

RECORD = """
INSERT INTO {} (source, extracted_at, table_schema, table_name, source_schema, source_table, rows, sha256, snapshot_at,
                run_id, seconds)
VALUES %s
ON CONFLICT (source, extracted_at, table_schema, table_name) DO UPDATE SET
    source_schema = excluded.source_schema, source_table = excluded.source_table,
    rows = excluded.rows, sha256 = excluded.sha256, snapshot_at = excluded.snapshot_at,
    loaded_at = excluded.loaded_at, run_id = excluded.run_id, seconds = excluded.seconds
"""

ENTRIES = """
SELECT source, extracted_at, table_name, rows, sha256, snapshot_at, loaded_at, run_id, seconds,
       table_schema, source_schema, source_table
FROM {loads} l WHERE extracted_at = ANY (coalesce(%s::date[], ARRAY[extracted_at]))
                 AND table_schema = coalesce(%s, table_schema)
ORDER BY source, extracted_at, table_schema <> {default}, table_schema, table_name
"""

# Tables that the newest loaded date of their source lacks. All is NULL for a table that no loaded date has. Entries of
# older versions do not say which schema of the source they are of.
ABSENT = """
WITH last AS (SELECT DISTINCT ON (table_name) table_name, source, extracted_at AS day,
                     coalesce(source_schema, '') || '-' || coalesce(source_table, table_name) AS stream
              FROM {loads} l WHERE table_schema = %(schema)s ORDER BY table_name, extracted_at DESC),
     newest AS (SELECT source, max(extracted_at) AS day FROM {loads} l GROUP BY source)
SELECT c.relname, last.source, CASE WHEN later.without_data THEN later.first ELSE later.gone END,
       CASE WHEN later.without_data THEN last.day ELSE newest.day END, later.without_data
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(history)s
LEFT JOIN last ON last.table_name = c.relname
LEFT JOIN newest ON newest.source = last.source
CROSS JOIN LATERAL (
    SELECT min(day) AS first, min(day) FILTER (WHERE NOT without_data) AS gone,
           bool_or(without_data) FILTER (WHERE day = newest.day) AS without_data
    FROM (SELECT extracted_at AS day, EXISTS (
              SELECT FROM unnest(l.without_data) stream
              WHERE last.stream IN (stream, substring(stream FROM position('-' IN stream)))) AS without_data
          FROM {loads} l WHERE l.source = last.source AND l.extracted_at > last.day) dates) later
WHERE c.relkind = 'p' AND (last.day IS NULL OR last.day <> newest.day)
ORDER BY c.relname
"""

LEFT_OUT = """
SELECT DISTINCT l.extracted_at, name FROM {loads} l, unnest(l.left_out) AS name
WHERE l.extracted_at = ANY (coalesce(%s::date[], ARRAY[l.extracted_at]))
  AND NOT EXISTS (SELECT FROM {loads} own WHERE own.extracted_at = l.extracted_at AND own.source = name)
"""

PLACES = """
SELECT source, source_schema, source_table, table_schema, table_name, max(extracted_at), count(*), sum(rows)::bigint
FROM {loads} l GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 4, 5, 2, 3
"""

# Other load histories of the database that this role can read, and whether they record their tables' schemas.
OTHERS = """
SELECT n.nspname, EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'table_schema')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind = 'r' AND n.nspname LIKE '%%\\_history' AND n.nspname <> %s
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""


@dataclass(frozen=True)
class Absent:
    """A table that the newest date of its source lacks.

    Attributes:
        since: First date without it.
        shown: Date that its view shows: its own last one if it holds no data at the source, else the newest, empty.
        without_data: Whether it holds no data at the source; else the source does not have it.
    """

    source: str
    since: date
    shown: date
    without_data: bool


@dataclass(frozen=True)
class LoadedTable:
    """One table of one loaded date.

    Attributes:
        table: Name in the warehouse.
        seconds: Duration of COPY and key, None if an older version loaded it.
        schema: Of its view.
        source_schema: Schema in the source, if it has one.
        source_table: Name in the source; None if an older version loaded it, under this very name.
    """

    source: str
    day: date
    table: str
    rows: int
    sha256: str
    snapshot_at: datetime
    loaded_at: datetime
    run_id: str
    seconds: float | None
    schema: str
    source_schema: str | None = None
    source_table: str | None = None

    @property
    def history(self) -> str:
        """Schema of its partition."""
        return f"{self.schema}_history"

    def is_of(self, streams: Collection[str]) -> bool:
        """Whether it is one of its source's streams. One of an older version does not say its schema in the source."""
        name = f"{self.source_schema or ''}-{self.source_table or self.table}"
        return any(name in (stream, stream[stream.find("-"):]) for stream in streams)

    def label(self, default: str) -> str:
        """Name in the warehouse; with the schema unless that is the default one."""
        return self.table if self.schema == default else f"{self.schema}.{self.table}"


class LoadedTables:
    """Entries of one date, found by the source's tables."""

    def __init__(self, entries: Iterable[LoadedTable]) -> None:
        self.entries = list(entries)
        self._by_name = {(one.source, one.source_schema, one.source_table or one.table): one for one in self.entries}

    def get(self, source: str, table: Table) -> LoadedTable | None:
        """The entry of a landed table. One of an older version does not say which schema of the source it is of."""
        return self._by_name.get((source, table.schema, table.name)) or self._by_name.get((source, None, table.name))

    def others(self, source: str, tables: Iterable[Table]) -> list[LoadedTable]:
        """Entries of a source that are of none of these tables."""
        found = {id(self.get(source, table)) for table in tables}
        return [one for one in self.entries if one.source == source and id(one) not in found]


@dataclass(frozen=True)
class Place:
    """A source's table and where its history is. `day`: newest of its `dates` dates."""

    source: str
    source_schema: str | None
    source_table: str | None
    schema: str
    table: str
    day: date
    dates: int
    rows: int

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class LoadHistory:
    """The load history of one SCHEMA, with all tables that it records."""

    def __init__(self, cursor: Any, history: str) -> None:
        self.cursor, self.loads_schema, self.relation = cursor, history, sql.Identifier(history, LOADS)
        self.default = history.removesuffix("_history")
        self.schema: str | None = None  # of the tables; None: any
        # psycopg2 would take a `%` in the schema's name for a placeholder.
        self.doubled = sql.SQL(self.relation.as_string(cursor).replace("%", "%%"))

    def label(self, schema: str, table: str) -> str:
        """A table's name; with its schema unless that is the default one."""
        return table if schema == self.default else f"{schema}.{table}"

    def _rows(self, statement: str, values: Any = ()) -> list[tuple]:
        """Rows of a query over `{loads}`; none if nothing was ever loaded."""
        if not (have := columns_of(self.cursor, self.relation)):
            return []
        names = {"loads": self._read_from(have), "default": sql.Literal(self.default)}
        doubled = {name: sql.SQL(part.as_string(self.cursor).replace("%", "%%")) for name, part in names.items()}
        return query(self.cursor, sql.SQL(statement).format(**doubled), values)

    def _read_from(self, have: Collection[str]) -> sql.Composable:
        """The table, with the columns that an older version's lacks until the next load, which may begin meanwhile."""
        lacking = [sql.SQL("{}::{} AS {}").format(sql.Literal(self._value(name)), sql.SQL(type_), sql.Identifier(name))
                   for name, type_ in ADDED.items() if name not in have]
        return sql.SQL("(SELECT {} FROM {})").format(
            sql.SQL(", ").join([*map(sql.Identifier, have), *lacking]), self.relation) if lacking else self.relation

    def _value(self, column: str) -> str | None:
        """Value of an added column in older entries."""
        return self.default if column == "table_schema" else None

    def create(self) -> None:
        """Create the table, or add the columns that it lacks."""
        self.cursor.execute(sql.SQL(CREATE).format(self.relation))
        have = columns_of(self.cursor, self.relation)
        lacking = [name for name in ADDED if name not in have]
        actions = [sql.SQL("ADD COLUMN {} {} DEFAULT {}").format(
            sql.Identifier(name), sql.SQL(ADDED[name]), sql.Literal(self._value(name))) for name in lacking]
        if "table_schema" in lacking:  # a part of the key
            keys = query(self.cursor, KEY, (self.relation.as_string(self.cursor),))
            actions += [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(name)) for name, in keys]
            actions.append(sql.SQL("ADD PRIMARY KEY (source, extracted_at, table_schema, table_name)"))
        if actions:  # checked first: ALTER waits for all readers
            self.cursor.execute(sql.SQL("ALTER TABLE {} {}").format(self.relation, sql.SQL(", ").join(actions)))

    def exists(self) -> bool:
        """Whether anything was ever loaded."""
        self.cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self.relation.as_string(self.cursor),))
        return self.cursor.fetchone()[0]

    def schemas(self) -> list[str]:
        """The default schema, then the others that tables were loaded into."""
        found = self._rows("SELECT DISTINCT table_schema FROM {loads} l")
        return [self.default, *sorted({schema for schema, in found} - {self.default})]

    def part(self, schema: str) -> SchemaHistory:
        """The tables of one schema."""
        return SchemaHistory(self, schema)

    def parts(self) -> list[SchemaHistory]:
        """The tables of each schema."""
        return [self.part(schema) for schema in self.schemas()]

    def entries(self, *days: date) -> list[LoadedTable]:
        """Entries of these dates, or of all; empty if nothing was ever loaded."""
        return [LoadedTable(*row) for row in self._rows(ENTRIES, ([*days] or None, self.schema))]

    def present(self, *days: date) -> list[LoadedTable]:
        """Entries whose rows are present: without partitions that a person dropped, detached or emptied."""
        return [entry for part in self.parts() for entry in part.present(*days)]

    def loaded(self, day: date) -> LoadedTables:
        """Tables of a date whose rows are present, found by the source's tables."""
        return LoadedTables(self.present(day))

    def newest(self) -> dict[str, date]:
        """Newest loaded date of each source: the one that its views show."""
        return dict(self._rows("SELECT source, max(extracted_at) FROM {loads} l GROUP BY source"))

    def dates(self) -> set[tuple[str, date]]:
        """(source, date) of every loaded date."""
        return {*self._rows("SELECT DISTINCT source, extracted_at FROM {loads} l")}

    def sources(self, day: date) -> set[str]:
        """Sources with an entry for a date."""
        rows = self._rows("SELECT DISTINCT source FROM {loads} l WHERE extracted_at = %s", (day,))
        return {source for source, in rows}

    def left_out(self, day: date) -> set[str]:
        """Sources that the load of a date left out on purpose, and that were not loaded since."""
        return self.left_out_by_date(day).get(day, set())

    def left_out_by_date(self, *days: date) -> dict[date, set[str]]:
        """The same for these dates, or for all; only dates whose load left out any."""
        found: dict[date, set[str]] = {}
        for day, source in self._rows(LEFT_OUT, ([*days] or None,)):
            found.setdefault(day, set()).add(source)
        return found

    def record_left_out(self, day: date, sources: Collection[str], left_out: Collection[str]) -> None:
        """Record which sources the load of these sources left out."""
        query(self.cursor, sql.SQL(
            "UPDATE {} SET left_out = %s::text[] WHERE extracted_at = %s AND source = ANY (%s) "
            "AND left_out IS DISTINCT FROM %s::text[]"
        ).format(self.doubled), (names := sorted(left_out) or None, day, list(sources), names))

    def without_data(self, day: date, source: str) -> set[str]:
        """Streams of a loaded date that hold no data at the source."""
        rows = self._rows("SELECT DISTINCT unnest(without_data) FROM {loads} l WHERE extracted_at = %s AND source = %s",
                          (day, source))
        return {stream for stream, in rows}

    def record_without_data(self, day: date, source: str, streams: Collection[str]) -> None:
        """Record which streams of a date hold no data at the source."""
        query(self.cursor, sql.SQL(
            "UPDATE {} SET without_data = %s::text[] WHERE extracted_at = %s AND source = %s "
            "AND without_data IS DISTINCT FROM %s::text[]"
        ).format(self.doubled), (found := sorted(streams) or None, day, source, found))

    def shown(self) -> set[tuple[str, date]]:
        """(source, date) of every date that a view shows."""
        return {*self.newest().items(), *((one.source, one.shown) for part in self.parts()
                                          for one in part.absent().values() if one)}

    def before(self, load: Load) -> tuple[date, int] | None:
        """The newest loaded date of a load's table before its own, and the rows of that."""
        return next(iter(self._rows(
            "SELECT extracted_at, rows FROM {loads} l WHERE source = %s AND table_schema = %s AND table_name = %s "
            "AND extracted_at < %s ORDER BY extracted_at DESC LIMIT 1",
            (load.source, load.schema, load.table.name, load.day))), None)

    def places(self) -> list[Place]:
        """Where the tables of each source are."""
        return [Place(*row) for row in self._rows(PLACES)]

    def others(self) -> dict[str, str]:
        """Schemas whose tables another SCHEMA's load history records, with that SCHEMA."""
        found = {}
        for name, records in query(self.cursor, OTHERS, (LOADS, self.loads_schema)):
            other = LoadHistory(self.cursor, name)
            schemas = [schema for schema, in query(self.cursor, sql.SQL("SELECT DISTINCT table_schema FROM {}").format(
                other.relation))] if records else [other.default]
            found |= dict.fromkeys(schemas, other.default)
        return found

    def record(self, loads: Iterable[Load]) -> None:
        """Add or replace the entries of loaded tables."""
        values = [(load.source, load.day, load.schema, load.table.name, load.table.schema,
                   load.source_table or load.table.name, load.rows, load.sha256, load.taken_at, load.run_id,
                   load.seconds) for load in loads]
        execute_values(self.cursor, sql.SQL(RECORD).format(self.doubled).as_string(self.cursor), values)


class SchemaHistory(LoadHistory):
    """The entries of a load history whose tables are in one schema, and their partitions."""

    def __init__(self, whole: LoadHistory, schema: str) -> None:
        super().__init__(whole.cursor, whole.loads_schema)
        self.schema, self.history = schema, f"{schema}_history"

    def present(self, *days: date) -> list[LoadedTable]:
        """Entries whose rows are present: without partitions that a person dropped, detached or emptied."""
        entries = self.entries(*days)
        partitions = all_partitions(self.cursor, self.history, *days)
        there = [(entry, partitions[entry.table, entry.day]) for entry in entries
                 if (entry.table, entry.day) in partitions]
        empty = history.empty(self.cursor, self.history, [name for entry, name in there if entry.rows])
        return [entry for entry, name in there if name not in empty]

    def runs(self, day: date) -> dict[tuple[str, str], str]:
        """Run ids of a date by (source, table)."""
        return {(entry.source, entry.table): entry.run_id for entry in self.entries(day)}

    def tables(self, day: date, sources: Collection[str] | None = None) -> list[tuple[str, str]]:
        """(source, table) of everything that a date has in the load history or as a partition.

        The source of a partition without any entry is ''; only the default schema's can be ours.
        """
        owners = self.owners()
        found = {*self.runs(day)}
        found |= {(owners.get(table, ""), table) for table in history.partitions(self.cursor, self.history, day)
                  if table in owners or self.schema == self.default}
        return sorted(one for one in found if sources is None or one[0] in sources)

    def owners(self) -> dict[str, str]:
        """Source of each table; empty if nothing was ever loaded."""
        return dict(self._rows("SELECT DISTINCT table_name, source FROM {loads} l WHERE table_schema = %s",
                               (self.schema,)))

    def last(self) -> dict[str, date]:
        """Newest loaded date of each table: its comments describe the table."""
        return dict(self._rows("SELECT table_name, max(extracted_at) FROM {loads} l WHERE table_schema = %s "
                               "GROUP BY table_name", (self.schema,)))

    def absent(self) -> dict[str, Absent | None]:
        """Tables that the newest date of their source lacks; None for a table that no loaded date has."""
        rows = self._rows(ABSENT, {"schema": self.schema, "history": self.history})
        return {name: Absent(*absent) if absent[0] else None for name, *absent in rows}

    def remove(self, source: str, day: date, table: str) -> None:
        """Delete the entry of one table of a date."""
        query(self.cursor, sql.SQL("DELETE FROM {} WHERE source = %s AND extracted_at = %s AND table_schema = %s "
                                   "AND table_name = %s").format(self.doubled), (source, day, self.schema, table))
