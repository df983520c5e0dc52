"""Plans loads before anything is copied: names, column types and layout of each table, or a refusal."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from msgspec import structs
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.core.commands import how_to_repair, move_command
from landing.core.errors import DamagedError, RefusedError
from landing.load import history
from landing.load.declared_checks import DeclaredChecks
from landing.load.history import PARTITION_KEY, STAGING, columns_of, history_key, history_name
from landing.load.load_history import LOADS, LoadHistory, Place, SchemaHistory
from landing.load.migrations import TABLE as MIGRATIONS
from landing.load.planned_changes import PlannedChanges
from landing.load.refusals import REFUSED
from landing.load.staging import Load
from landing.load.table_checks import TableChecker
from landing.model.evolution import widened
from landing.model.schema import MAX_COLUMNS, NAME_BYTES, TYPE, Column
from landing.postgres.query import query

# Relations with the name of a table to load, in either schema, and whether a load created them.
OCCUPIED = """
SELECT c.relname, n.nspname, CASE WHEN n.nspname = %(history)s THEN c.relkind = 'p' ELSE c.relkind = 'v' AND EXISTS (
    SELECT FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class t ON t.oid = d.refobjid AND t.relname = c.relname
    JOIN pg_namespace h ON h.oid = t.relnamespace AND h.nspname = %(history)s
    WHERE r.ev_class = c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN (%(schema)s, %(history)s) AND c.relname = ANY (%(names)s)
"""

SUPPORTED = "SELECT type, to_regtype(type) IS NOT NULL FROM unnest(%s::text[]) AS type"


def refuse_shared_names(loads: Iterable[Load]) -> None:
    """Raise RefusedError if two tables of a date, of any source and schema, map to one warehouse table."""
    seen: dict[tuple[str, str], Load] = {}
    for load in loads:
        other = seen.setdefault((load.schema, load.table.name), load)
        if other is not load:
            raise RefusedError(
                load, f"{load.source_label} and {other.source_label} both map to table {load.label!r} in the warehouse",
                way_out(load.source, [load.source] if load.source == other.source else [load.source, other.source])
            )


def way_out(source: str, sources: Collection[str]) -> str:
    """The setting that gives a source's tables names of their own. `sources`: those whose tables share names."""
    template = f"{source.replace('.', '_')}.{{table}}" if len(sources) > 1 else "{schema}.{table}"
    return (f"Give {source} a schema or a prefix of its own in meltano.yml, under target-postgres: table_names: "
            f'{{{source}: "{template}"}}, then load again; or exclude one of the tables (filter_schemas, select) and '
            "extract again")


def supported_types(cursor: Cursor, types: Collection[str]) -> dict[str, bool]:
    """Whether this server can read each type: a server without libxml has type xml and cannot read it."""
    found = dict(query(cursor, SUPPORTED, ([type_ for type_ in types if TYPE.fullmatch(type_)],)))
    if xml := {"xml", "xml[]"} & {*found}:
        try:
            query(cursor, "SELECT '<a/>'::xml")
        except pg_errors.FeatureNotSupported:
            found |= dict.fromkeys(xml, False)
    return found


class LoadPlanner:
    """Plans loads one after the other against the warehouse's state at construction time."""

    def __init__(self, load_history: LoadHistory, loads: Sequence[Load], logger: logging.Logger,
                 checks: DeclaredChecks) -> None:
        """`loads`: all that will be planned, with their schemas. `checks`: those declared for their tables."""
        self._cursor, self._checks = load_history.cursor, checks
        self._default = load_history.default
        self._schemas = {schema: SchemaPlanner(load_history.part(schema), [
            load for load in loads if load.schema == schema], logger) for schema in {load.schema for load in loads}}
        self._places: dict[str, list[Place]] = {}
        for place in load_history.places():
            self._places.setdefault(place.source, []).append(place)
        self._claimed = {(load.source, load.schema, load.table.name) for load in loads}

    @property
    def supported(self) -> dict[str, bool]:
        """Whether the server can read each type."""
        return {type_: can for planner in self._schemas.values() for type_, can in planner.supported.items()}

    def __call__(self, load: Load) -> Load:
        """Decide the types and the layout that the load's table then has in history.

        Raises:
            RefusedError: Its names or types do not fit.
            SettingError: A check of the table cannot be run over its columns.
        """
        load = replace(load, schema=load.schema or self._default)
        self._refuse_moved(load)
        planned = self._schemas[load.schema](load)
        if checks := self._checks.of(planned):
            TableChecker(planned, load.table, checks).validate(self._cursor)
        return planned

    def assume(self, load: Load) -> list[str]:
        """Treat a planned load as loaded.

        Returns:
            History columns that it turns into text, with their types so far.
        """
        return self._schemas[load.schema].assume(load)

    def _refuse_moved(self, load: Load) -> None:
        """Refuse a table whose history is in another place: it would be divided."""
        name = load.source_table or load.table.name
        for place in self._places.get(load.source, []):
            same = (place.source_table or place.table) == name and (place.source_schema == load.table.schema or (
                place.source_schema is None and (load.source, place.schema, place.table) not in self._claimed))
            if same and (place.schema, place.table) != (load.schema, load.table.name):
                raise RefusedError(
                    load, f"its history is in {place} ({place.dates} dates, the newest {place.day}), and table_names "
                    f"of target-postgres now gives it the name {load.schema}.{load.table.name}",
                    f"Move the history: {move_command(self._default)}; or set table_names back")


class SchemaPlanner:
    """Plans the loads of one schema."""

    def __init__(self, load_history: SchemaHistory, loads: Sequence[Load], logger: logging.Logger) -> None:
        self.cursor, self.history, self.logger = load_history.cursor, load_history.history, logger
        names = {"schema": load_history.schema, "history": self.history, "names": [load.table.name for load in loads]}
        self._occupied = {name: where for name, where, ours in query(self.cursor, OCCUPIED, names) if not ours}
        self.supported = supported_types(self.cursor, {column.type for load in loads for column in load.table.columns})
        self._owners = load_history.owners()
        tables = history.tables(self.cursor, self.history)
        self._columns: dict[str, Mapping[str, str]] = {name: columns for name, (columns, _) in tables.items()}
        self._keys: dict[str, Sequence[str]] = {name: key[1] for name, (_, key) in tables.items() if key}
        self._changes = PlannedChanges(load_history.schema, load_history)
        self._filled: set[tuple[str, str]] = set()  # columns that assumed loads have values for

    def __call__(self, load: Load) -> Load:
        """Decide the types and the layout that the load's table then has in history.

        NULLs are no evidence of a type: a column without values takes history's type, and a history column that is
        text only because it never had a value takes the type of the first values.

        Raises:
            RefusedError: Its names or types do not fit, or objects of people are in the way.
        """
        have = self._columns.get(load.table.name, {})
        self._refuse_names(load)
        self._refuse_width(load, have)
        columns = [self._readable(load, column) for column in load.table.columns]
        columns = [column if column.evidence else
                   structs.replace(column, type=have.get(history_name(column.name), column.type)) for column in columns]
        columns = self._widened(load, columns, have)
        need = {history_name(column.name): column.type for column in columns}
        planned = replace(load, table=structs.replace(load.table, columns=columns), layout=history.layout(have, need),
                          key=history_key(load.table.primary_key, self._keys.get(load.table.name, ())))
        self._changes.refuse(planned)
        return planned

    def assume(self, load: Load) -> list[str]:
        """Treat a planned load as loaded.

        Returns:
            History columns that it turns into text, with their types so far.
        """
        name, have = load.table.name, self._columns.get(load.table.name, {})
        self._changes.assume(load)
        self._owners[name], self._columns[name], self._keys[name] = load.source, load.layout, load.key
        self._filled |= {(name, history_name(column.name)) for column in load.table.columns if column.evidence}
        return [f"{name}.{column} ({have[column]})" for column, type_ in load.layout.items()
                if type_ == "text" != have.get(column, type_)]

    def _refuse_names(self, load: Load) -> None:
        name = load.table.name
        if name in (LOADS, REFUSED, MIGRATIONS) or name.startswith(STAGING):
            raise RefusedError(load, "the warehouse reserves this name", "Rename the table", load.reextract_command)
        for long in (one for one in (name, *(history_name(column.name) for column in load.table.columns))
                     if len(one.encode()) > NAME_BYTES):
            raise RefusedError(load, f"the name {long!r} has {len(long.encode())} bytes; PostgreSQL's limit is "
                               f"{NAME_BYTES}", "Rename it", load.reextract_command)
        owner = self._owners.get(name)
        if owner not in (None, load.source):
            raise RefusedError(load, f"{self.history}.{name} belongs to source {owner}",
                               way_out(load.source, [load.source, owner]))
        if name in self._occupied:
            raise RefusedError(load, f"{self._occupied[name]}.{name} exists in the warehouse and was not created by a "
                               "load", "Rename it there, or load into another SCHEMA (or table_names)")

    def _refuse_width(self, load: Load, have: Mapping[str, str]) -> None:
        width = len({PARTITION_KEY, *have, *(history_name(column.name) for column in load.table.columns)})
        if width > MAX_COLUMNS:
            raise RefusedError(load, f"with the partition key and the columns of older partitions it has {width:,} "
                               f"columns; PostgreSQL's limit is {MAX_COLUMNS:,}", "Deselect some (select)",
                               load.reextract_command)

    def _readable(self, load: Load, column: Column) -> Column:
        """The column with a type that this server can read."""
        if not TYPE.fullmatch(column.type):
            raise DamagedError(f"{load}, column {column.name}: {column.type!r} is not a type name. Nothing was loaded. "
                               f"{how_to_repair(load.source, load.day)}")
        if self.supported[column.type]:
            return column
        self.logger.warning("%s, column %s: this server does not support type %s; the column loads as text.", load,
                            column.name, column.type)
        return structs.replace(column, type="text")

    def _widened(self, load: Load, columns: list[Column], have: Mapping[str, str]) -> list[Column]:
        """The columns with types that hold their values and those in history."""
        differ = [column for column in columns if have.get(history_name(column.name), column.type) != column.type]
        exact = history.exact_types(self.cursor, [column.type for column in differ]) if differ else []
        wide = {column.name: self._wide(load, column.name, have[history_name(column.name)], type_)
                for column, type_ in zip(differ, exact, strict=True)}
        return [structs.replace(column, type=wide.get(column.name, column.type)) for column in columns]

    def _wide(self, load: Load, column: str, have: str, type_: str) -> str:
        if self._is_untyped(load, column, have):
            return type_
        wide = widened(have, type_)
        if wide is None:
            raise RefusedError(
                f"{load}, column {column}",
                f"the warehouse has {have}, this partition has {type_}, and neither holds the other without loss",
                "Change the type at the source (or declare it), or load into another SCHEMA",
            )
        return wide

    def _is_untyped(self, load: Load, column: str, have: str) -> bool:
        """Whether a column of a CSV file is text in history only because it never had a value."""
        name = history_name(column)
        return (load.table.schema is None and have == "text" and (load.table.name, name) not in self._filled
                and self._is_null(load.table.name, name))

    def _is_null(self, table: str, column: str) -> bool:
        """Whether a column of history is NULL in every row, or does not exist."""
        relation = sql.Identifier(self.history, table)
        if column not in columns_of(self.cursor, relation):
            return True
        return not query(self.cursor, sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)").format(
            relation, sql.Identifier(column)))[0][0]
