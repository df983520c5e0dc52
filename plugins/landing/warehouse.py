"""The warehouse: history partitioned by date, a view of the newest date, a ledger, and one swap for a whole date.

    <schema>_history.<table>    LIST-partitioned by extracted_at, key (extracted_at, …key), the source's exact types
    <schema>.<table>            view of the newest loaded date, the source's own columns
    <schema>_history._loads     the ledger: what was loaded when, from which run, with which hash

Each table goes into a staging table of its own first. Then all tables of the date are swapped in one transaction.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing import database, dialect, project, views, zone
from landing.dialect import TYPE, Column
from landing.errors import DamagedError, WarehouseError, describe

LEDGER = "_loads"
STAGING = "_staging_"
PARTITION_KEY = "extracted_at"

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

PRIMARY_KEY = """
SELECT c.conname, ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, position)
                        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.position)
FROM pg_constraint c WHERE c.conrelid = to_regclass(%s) AND c.contype = 'p'
"""

PARTITIONS = """
SELECT p.relname, c.relname
FROM pg_class p
JOIN pg_namespace n ON n.oid = p.relnamespace AND n.nspname = %s
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relkind = 'p' AND pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES IN (%%L)', %s::date)
"""

BLOCKERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, date_trunc('second', now() - a.xact_start)::text
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN (%s, %s)
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid()
"""


def history_name(name: str) -> str:
    """A source's column in history: the partition key has its name for itself."""
    return name + "_" if re.fullmatch(f"{PARTITION_KEY}_*", name) else name


@dataclass(frozen=True)
class Load:
    """A landed table on its way into the warehouse, its `columns` with the types that history will have for them."""

    source: str
    day: date
    run_id: str
    taken_at: datetime
    table: zone.Table
    staging: str = ""  # the staging table's name, once it is there


class Warehouse:
    """One schema of a warehouse, and its history."""

    def __init__(
        self, connection: Any, schema: str, logger: logging.Logger, lock_timeout: int = 60
    ) -> None:
        """`lock_timeout`: seconds that the swap waits for those who use the tables."""
        self.connection, self.schema, self.logger, self.lock_timeout = connection, schema, logger, lock_timeout
        self.history = f"{schema}_history"
        if not schema or len(self.history.encode()) > 63:
            raise WarehouseError(f"SCHEMA={schema!r}: expected a name of 1 to 55 bytes. Run again with another SCHEMA.")

    def relation(self, table: str) -> sql.Identifier:
        """A table of history."""
        return sql.Identifier(self.history, table)

    def view(self, table: str) -> sql.Identifier:
        """The view of its newest date."""
        return sql.Identifier(self.schema, table)

    def execute(self, statement: str | sql.Composable, values: Any = None) -> list[tuple]:
        """Run a statement; its rows, if it has any."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor in a transaction of its own."""
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if not self.connection.closed:
                    cursor.execute("ROLLBACK")
                raise

    # Before a load

    def acquire(self) -> None:
        """Wait until no other load is at work in this schema, saying so; then make sure of schemas and ledger."""
        said = 0.0
        while not self.execute("SELECT pg_try_advisory_lock(hashtext('landing'), hashtext(%s))", (self.schema,))[0][0]:
            if time.monotonic() - said > database.PROGRESS_EVERY:
                said = time.monotonic()
                self.logger.info("Another load is at work in schema %s: waiting for it to end.", self.schema)
            time.sleep(0.2)
        for name in (self.schema, self.history):
            if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)):
                self.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        self.execute(sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} (source text, extracted_at date, table_name text, rows bigint NOT NULL, "
            "sha256 text NOT NULL, snapshot_at timestamptz NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now(), "
            "run_id text NOT NULL, PRIMARY KEY (source, extracted_at, table_name))"
        ).format(self.relation(LEDGER)))
        self.drop_staging()

    def drop_staging(self) -> None:
        """Remove staging tables; those of a load that was killed too, since only one is at work at a time."""
        left = self.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND starts_with(tablename, %s)",
            (self.history, STAGING),
        )
        for (name,) in left:
            self.execute(sql.SQL("DROP TABLE {}").format(self.relation(name)))

    def loaded(self, day: date) -> dict[tuple[str, str], str]:
        """Run ids by (source, table) of a date that is loaded and whose partitions are there."""
        there = {table for table, _ in self.execute(PARTITIONS, (self.history, day))}
        rows = self.execute(
            sql.SQL("SELECT source, table_name, run_id FROM {} WHERE extracted_at = %s").format(self.relation(LEDGER)),
            (day,),
        )
        return {(source, table): run_id for source, table, run_id in rows if table in there}

    def planned(self, load: Load) -> Load:
        """The load with the types that its columns get; a change that can't be made without loss is refused."""
        table = load.table
        if table.name == LEDGER or table.name.startswith(STAGING):
            raise WarehouseError(f"Table {table.name!r} has a name that the warehouse keeps for itself. Rename it.")
        owners = self.execute(
            sql.SQL("SELECT DISTINCT source FROM {} WHERE table_name = %s AND source <> %s").format(
                self.relation(LEDGER)), (table.name, load.source),
        )
        if owners:
            raise WarehouseError(
                f"{self.history}.{table.name} holds the table of source {owners[0][0]}, and {load.source} has one of "
                "the same name. Rename one, or load the sources with different SCHEMAs."
            )
        have = dict(self.execute(COLUMNS, (self.relation(table.name).as_string(self.connection),)))
        columns = [self._planned(load, column, have.get(history_name(column.name))) for column in table.columns]
        return replace(load, table=replace(table, columns=columns))

    def _planned(self, load: Load, column: Column, have: str | None) -> Column:
        if not TYPE.fullmatch(column.type):
            raise DamagedError(f"{load.table.name}.{column.name}: {column.type!r} is not the name of a type.")
        type_ = column.type
        if self.execute("SELECT to_regtype(%s) IS NULL", (type_,))[0][0]:
            self.logger.warning("%s.%s: this server has no type %s, so it loads as text.",
                                load.table.name, column.name, type_)
            type_ = "text"
        wide = dialect.widened(have, type_) if have else type_
        if wide is None:
            raise WarehouseError(
                f"{load.source} of {load.day}, table {load.table.name}, column {column.name}: the warehouse has "
                f"{have}, this date has {type_}, and neither holds the other without loss. Nothing was loaded. Change "
                f"the type back at the source (or declare it, for CSV: `types`), or keep both apart with another "
                f"SCHEMA; then run again: {project.load_command(load.day, self.schema)}"
            )
        return replace(column, type=wide)

    # Into staging

    def stage(self, load: Load, files: Sequence[tuple[Path, zone.File]], number: int) -> Load:
        """COPY the table's files into a staging table and check rows and hash; the key is built after the data."""
        name = f"{STAGING}{load.run_id}_{number}".lower()
        load = replace(load, staging=name)
        with self.transaction() as cursor:
            cursor.execute(self._create_staging(load))
            for path, file in files:
                self._copy(load, path, file)
            if load.table.primary_key:
                key = [PARTITION_KEY, *map(history_name, load.table.primary_key)]
                try:
                    cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
                        self.relation(name), database.identifiers(key)))
                except (pg_errors.UniqueViolation, pg_errors.NotNullViolation) as error:
                    raise WarehouseError(
                        f"{load.source} of {load.day}, table {load.table.name}: the key {load.table.primary_key} does "
                        f"not hold ({describe(error)}). Nothing was loaded. Correct the data, or the `keys` that are "
                        f"declared; then land and load again: {project.extract_command(load.source, load.day)}"
                    ) from error
        return load

    def _create_staging(self, load: Load) -> sql.Composed:
        day = sql.Literal(load.day.isoformat())
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(history_name(column.name)), sql.SQL(column.type))
            for column in load.table.columns
        )
        # The CHECK spares ATTACH a look at each row.
        return sql.SQL("CREATE TABLE {} ({key} date NOT NULL DEFAULT {day} CHECK ({key} = {day}), {})").format(
            self.relation(load.staging), columns, key=sql.Identifier(PARTITION_KEY), day=day
        )

    def _copy(self, load: Load, path: Path, file: zone.File) -> None:
        where = f"{load.source} of {load.day}, table {load.table.name}, file {path}"
        again = f"REEXTRACT=true {project.extract_command(load.source, load.day)}"
        header = dialect.header(load.table.columns)
        with path.open("rb") as opened:
            found = opened.read(len(header))
        if found != header:
            raise DamagedError(f"{where}: expected the header {header!r}, found {found!r}. Nothing was loaded. "
                               f"Land it again: {again}")
        names = [history_name(column.name) for column in load.table.columns]
        progress = database.Progress(self.logger, load.table.name, size=file.bytes)
        try:
            copied = database.copy_in(self.connection, self.relation(load.staging), names, path, progress)
        except psycopg2.DataError as error:
            raise WarehouseError(
                f"{where}: the warehouse cannot read it: {describe(error)}. Nothing was loaded. Correct the types that "
                f"are declared, or land it again: {again}"
            ) from error
        if (copied.rows, copied.bytes, copied.sha256) != (file.rows, file.bytes, file.sha256):
            raise DamagedError(
                f"{where}: expected {file.rows} rows, {file.bytes} bytes, SHA-256 {file.sha256}; found {copied.rows} "
                f"rows, {copied.bytes} bytes, {copied.sha256}. Nothing was loaded. Land it again: {again}"
            )
        progress.done(copied.rows)

    # The swap

    def swap(self, day: date, sources: Sequence[str], loads: Sequence[Load], present: set[tuple[str, str]]) -> None:
        """Put staged tables in their places, in one transaction: readers see the date as it was, or as it will be.

        `present`: every (source, table) that the date has, those too that are loaded already. What the warehouse has
        of the date beyond them is removed.
        """
        try:
            with self.transaction() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{self.lock_timeout}s",))
                partitions = dict(self.execute(PARTITIONS, (self.history, day)))
                for load in loads:
                    self._reconcile(cursor, load)
                    self._attach(load, partitions.get(load.table.name))
                    self._note(load)
                self._remove(day, sources, present, partitions)
                self._point_views(cursor, day, loads)
        except pg_errors.LockNotAvailable as error:
            raise WarehouseError(self._blocked(day)) from error
        except pg_errors.DependentObjectsStillExist as error:
            raise WarehouseError(
                f"Something was built on a single partition of {self.history}, which this load replaces: "
                f"{describe(error)}. Nothing was loaded. Build on {self.schema}.<table> or {self.history}.<table> "
                f"instead, and run again: {project.load_command(day, self.schema)}"
            ) from error

    def _reconcile(self, cursor: Any, load: Load) -> None:
        """Create the table of history, or bring its columns up to what this date needs."""
        table, parent = load.table, self.relation(load.table.name)
        need = {history_name(column.name): column.type for column in table.columns}
        key = [PARTITION_KEY, *map(history_name, table.primary_key)] if table.primary_key else []
        have = dict(self.execute(COLUMNS, (parent.as_string(cursor),)))
        if not have:
            parts = [sql.SQL("{} date NOT NULL").format(sql.Identifier(PARTITION_KEY))]
            parts += [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in need.items()]
            if key:
                parts.append(sql.SQL("PRIMARY KEY ({})").format(database.identifiers(key)))
            cursor.execute(sql.SQL("CREATE TABLE {} ({}) PARTITION BY LIST ({})").format(
                parent, sql.SQL(", ").join(parts), sql.Identifier(PARTITION_KEY)))
            return
        for name, type_ in need.items():
            if name not in have:
                self.logger.info("%s: new column %s %s; older dates show NULL.", table.name, name, type_)
                cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
                    parent, sql.Identifier(name), sql.SQL(type_)))
            elif have[name] != type_:
                self.logger.info("%s.%s: %s widens to %s.", table.name, name, have[name], type_)
                self._widen(cursor, parent, name, type_)
        self._rekey(cursor, load, key)

    def _widen(self, cursor: Any, parent: sql.Identifier, name: str, type_: str) -> None:
        """Change a column's type; to text by the type's own output, which a cast would not always give."""
        column = sql.Identifier(name)
        using = sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END" if type_ == "text" else "{0}").format(column)
        with views.taken_down(cursor, parent):
            cursor.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {} USING {}").format(
                parent, column, sql.SQL(type_), using))

    def _rekey(self, cursor: Any, load: Load, key: list[str]) -> None:
        """A key that changed holds for each date from now on, and no longer for history as a whole."""
        parent = self.relation(load.table.name)
        found = self.execute(PRIMARY_KEY, (parent.as_string(cursor),))
        if not found or found[0][1] == key:
            return
        constraint, old = found[0]
        self.logger.warning("%s: the key was %s and is %s; each date keeps its own, history as a whole has none.",
                            load.table.name, old[1:], key[1:] or "none")
        cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(parent, sql.Identifier(constraint)))
        for name in set(old) - {PARTITION_KEY}:
            cursor.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(
                parent, sql.Identifier(name)))

    def _attach(self, load: Load, old: str | None) -> None:
        """The staging table takes the place of the date's partition."""
        parent, staging = self.relation(load.table.name), self.relation(load.staging)
        have = dict(self.execute(COLUMNS, (staging.as_string(self.connection),)))
        for name, type_ in self.execute(COLUMNS, (parent.as_string(self.connection),)):
            if name not in have:
                self.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
                    staging, sql.Identifier(name), sql.SQL(type_)))
        if old:
            self._drop_partition(load.table.name, old)
        name = partition_name(load.table.name, load.day)
        self.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(staging, sql.Identifier(name)))
        self.execute(sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
            parent, self.relation(name), sql.Literal(load.day.isoformat())))

    def _drop_partition(self, table: str, partition: str) -> None:
        self.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(
            self.relation(table), self.relation(partition)))
        self.execute(sql.SQL("DROP TABLE {}").format(self.relation(partition)))

    def _note(self, load: Load) -> None:
        """The ledger's line."""
        self.execute(sql.SQL(
            "INSERT INTO {} (source, extracted_at, table_name, rows, sha256, snapshot_at, run_id) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (source, extracted_at, table_name) DO UPDATE SET "
            "rows = excluded.rows, sha256 = excluded.sha256, snapshot_at = excluded.snapshot_at, "
            "loaded_at = excluded.loaded_at, run_id = excluded.run_id"
        ).format(self.relation(LEDGER)), (load.source, load.day, load.table.name, load.table.rows, load.table.sha256,
                                          load.taken_at, load.run_id))

    def _remove(
        self, day: date, sources: Sequence[str], present: set[tuple[str, str]], partitions: Mapping[str, str]
    ) -> None:
        """What an earlier load of this date had, and the date has no longer."""
        rows = self.execute(sql.SQL(
            "SELECT source, table_name FROM {} WHERE extracted_at = %s AND source = ANY (%s)"
        ).format(self.relation(LEDGER)), (day, list(sources)))
        for source, table in set(rows) - present:
            self.logger.info("%s of %s no longer has table %s: removed from that date.", source, day, table)
            if table in partitions:
                self._drop_partition(table, partitions[table])
            self.execute(sql.SQL(
                "DELETE FROM {} WHERE source = %s AND extracted_at = %s AND table_name = %s"
            ).format(self.relation(LEDGER)), (source, day, table))

    def _point_views(self, cursor: Any, day: date, loads: Sequence[Load]) -> None:
        """Have every view show the newest loaded date; a table that it hasn't keeps its view, empty."""
        ledger = self.relation(LEDGER)
        newest, = self.execute(sql.SQL("SELECT max(extracted_at) FROM {}").format(ledger))[0]
        loaded = {load.table.name: load.table for load in loads}
        rows = self.execute(sql.SQL(
            "SELECT l.table_name, max(l.extracted_at), (SELECT min(n.extracted_at) FROM {0} n "
            "WHERE n.extracted_at > max(l.extracted_at)) FROM {0} l GROUP BY l.table_name"
        ).format(ledger))
        for name, last, gone_since in rows:
            shown = self._shown(name)
            if last < newest:
                columns = shown or [column.name for column in loaded[name].columns] if name in loaded else shown
                self._show(cursor, name, columns, newest, f"Not in the source since {gone_since}: see {self.history}.")
            elif day == newest and name in loaded:
                table = loaded[name]
                self._show(cursor, name, [column.name for column in table.columns], newest, table.comment)

    def _shown(self, name: str) -> list[str]:
        """Columns of the view; a relation of that name that isn't ours is refused, not replaced."""
        view = self.view(name)
        found = self.execute(
            "SELECT c.relkind = 'v' AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid "
            "AND d.classid = 'pg_rewrite'::regclass WHERE r.ev_class = c.oid AND d.refobjid = to_regclass(%s)) "
            "FROM pg_class c WHERE c.oid = to_regclass(%s)",
            (self.relation(name).as_string(self.connection), view.as_string(self.connection)),
        )
        if found and not found[0][0]:
            raise WarehouseError(
                f"{self.schema}.{name} exists in the warehouse and is not one of our views, so it was not replaced. "
                "Nothing was loaded. Rename it, or load with another SCHEMA."
            )
        return [column for column, _ in self.execute(COLUMNS, (view.as_string(self.connection),))]

    def _show(self, cursor: Any, name: str, columns: Sequence[str], day: date, comment: str | None) -> None:
        fields = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(history_name(column)), sql.Identifier(column))
            for column in columns
        )
        views.replace(cursor, self.view(name), sql.SQL("SELECT {} FROM {} WHERE {} = {}::date").format(
            fields, self.relation(name), sql.Identifier(PARTITION_KEY), sql.Literal(day.isoformat())))
        cursor.execute(sql.SQL("COMMENT ON VIEW {} IS %s").format(self.view(name)), (comment,))

    def _blocked(self, day: date) -> str:
        who = [
            f"pid {pid} (user {user}, {application or 'no application name'}, {state}, for {since})"
            for pid, user, application, state, since in self.execute(BLOCKERS, (self.schema, self.history))
        ]
        return (
            f"Waited {self.lock_timeout} s for those who use the tables of {self.schema}: {'; '.join(who) or 'gone now'}"
            ". Nothing was loaded, and readers see what they saw. When they have ended, run again: "
            f"{project.load_command(day, self.schema)}"
        )


def partition_name(table: str, day: date) -> str:
    """Name of a partition; one that would be too long ends in a hash."""
    name = f"{table}@{day}"
    if len(name.encode()) <= 63:
        return name
    return table.encode()[:40].decode(errors="ignore") + "~" + zone.short_hash(table) + f"@{day}"
