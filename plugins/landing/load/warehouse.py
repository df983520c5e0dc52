"""The warehouse: history partitioned by date, a view of each table's newest date, and the load history.

    <schema>_history.<table>    LIST-partitioned by extracted_at, key (…key, extracted_at), the source's exact types
    <schema>.<table>            view of the newest loaded date, the source's own columns
    <schema>_history._loads     load history: time, run and hash of each loaded table

A source's tables may have a schema of their own (table_names.py), with a history of its own and the same load history.

Each table is copied into a staging table first. Then one transaction swaps in all tables of the date.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from psycopg2 import sql

from landing.core.commands import load_command
from landing.core.commit_point import CommitPoint
from landing.core.errors import WarehouseError
from landing.core.sources import declared_sources
from landing.load import history, staging
from landing.load.date_checks import DateChecks, refused
from landing.load.declared_checks import DeclaredChecks, source_names
from landing.load.load_history import NONE, LoadHistory, Streams
from landing.load.locks import LockRetry, SchemaLock, wait_for_older_snapshots
from landing.load.planning import LoadPlanner
from landing.load.refusals import Refusals
from landing.load.staging import Files, Load
from landing.load.swap import Swap
from landing.load.table_names import TableNames
from landing.model.schema import NAME_BYTES, Table
from landing.postgres.query import query
from landing.postgres.transaction import begin, transaction
from landing.postgres.worker_pool import WorkerPool

LOCK_TIMEOUT = 60  # seconds that a swap waits for other sessions
LOAD_LOCK_TIMEOUT = 3600  # seconds that a load waits for another load

Vanished = Mapping[str, Sequence[tuple[str, str]]]  # (source, table) pairs by schema

NOT_CREATABLE = """
SELECT current_user::text, nspname FROM pg_namespace
WHERE nspname = ANY (%s) AND NOT has_schema_privilege(oid, 'CREATE') ORDER BY nspname
"""


class Warehouse:
    """One schema of a warehouse and its history."""

    def __init__(self, connection: Any, schema: str, logger: logging.Logger, lock_timeout: float = LOCK_TIMEOUT,
                 point: CommitPoint | None = None, names: Mapping[str, Any] | None = None,
                 checks: Mapping[str, Any] | None = None) -> None:
        """Open the warehouse.

        Args:
            connection: To it.
            schema: The default schema.
            logger: For what a load says.
            lock_timeout: Seconds that a swap waits for other sessions.
            point: The commit point of the run.
            names: The setting `table_names`.
            checks: The setting `checks`.
        """
        self.connection, self.schema, self.logger, self.lock_timeout = connection, schema, logger, lock_timeout
        self.history = f"{schema}_history"
        if not schema or len(self.history.encode()) > NAME_BYTES:
            raise WarehouseError(f"SCHEMA={schema!r}: expected a name of 1 to 55 bytes. Nothing was loaded. Run again "
                                 "with another SCHEMA.")
        self.cursor = connection.cursor()
        self.load_history = LoadHistory(self.cursor, self.history)
        self.refusals = Refusals(self.cursor, self.history)
        self.names, self.checks = TableNames(names, schema), DeclaredChecks(checks)
        self._targets = {schema}  # schemas that tables are loaded into
        self.lock = SchemaLock(connection, self.schemas, logger)
        self.lock_retry = LockRetry(connection, self._relevant, lock_timeout, logger, point)

    def schemas(self) -> list[str]:
        """Schemas of all loaded tables, and of those to load; the default one first."""
        found = self.load_history.schemas()
        return found + sorted(self._targets - {*found})

    @property
    def histories(self) -> list[str]:
        """Schemas of history."""
        return [f"{schema}_history" for schema in self.schemas()]

    def _relevant(self) -> list[str]:
        """Schemas of views and history, the default one first."""
        return [*self.schemas(), *self.histories]

    def _swaps(self) -> dict[str, Swap]:
        return {schema: Swap(self.load_history.part(schema), self.logger) for schema in self.schemas()}

    @property
    def version(self) -> str:
        """Of its server."""
        return self.connection.get_parameter_status("server_version").split()[0]

    def execute(self, statement: str | sql.Composable, values: Any = None) -> list[tuple]:
        """Execute a statement and return its rows, if any."""
        return query(self.cursor, statement, values)

    def acquire(self, timeout: float = LOAD_LOCK_TIMEOUT, loads: Iterable[Load] = ()) -> None:
        """Lock the schemas against other loads, then create what is missing and drop leftovers.

        Args:
            timeout: Seconds to wait for another load.
            loads: Tables that will be loaded.

        Raises:
            WarehouseError: Another load holds the lock, or the role lacks rights.
        """
        self._targets |= {load.schema or self.schema for load in loads}
        if not self.lock.acquire(timeout):
            raise WarehouseError(
                f"Timed out after {timeout:g} s (load_lock_timeout) waiting for another load of schema "
                f"{self.lock.blocked}: "
                f"{self.lock.holder()}. Nothing was loaded. Run again when it has ended. If no load is running there, "
                "end that session first: SELECT pg_terminate_backend(pid)"
            )
        self._refuse_shared_schemas()
        self.create()
        self.drop_staging()

    def target(self, schemas: Iterable[str]) -> None:
        """Count schemas among those that this run locks, creates and changes; refuse those of other loads."""
        self._targets |= {*schemas}
        self._refuse_shared_schemas()

    def adopt(self, schemas: Iterable[str]) -> None:
        """Count those of these schemas that have a history, and that no other SCHEMA's loads own, among this run's."""
        there = self.execute("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)",
                             ([f"{schema}_history" for schema in schemas],))
        found = {name.removesuffix("_history") for name, in there}
        self._targets |= found - {*self.load_history.others()}

    def create(self) -> None:
        """Create the missing schemas and the load history. Raises WarehouseError if the role lacks rights."""
        names = [name for schema in sorted(self._targets) for name in (schema, f"{schema}_history")]
        there = {name for name, in self.execute("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)", (names,))}
        if missing := [name for name in names if name not in there]:
            self._require_create(missing)
        for name in missing:
            self.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        if barred := self.execute(NOT_CREATABLE, (names,)):
            user, names = barred[0][0], ", ".join(name for _, name in barred)
            raise WarehouseError(f"The warehouse role {user} lacks CREATE on schema {names}. Nothing was loaded. "
                                 f"GRANT CREATE ON SCHEMA {names} TO {user}, or load with another SCHEMA.")
        self.load_history.create()

    def _require_create(self, missing: Sequence[str]) -> None:
        (user, allowed), = self.execute(
            "SELECT current_user::text, has_database_privilege(current_database(), 'CREATE')")
        if not allowed:
            statements = "; ".join(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(
                sql.Identifier(name), sql.Identifier(user)).as_string(self.cursor) for name in missing)
            raise WarehouseError(
                f"The warehouse has no schema {', '.join(missing)}, and its role {user} may not create one. Nothing "
                "was loaded. Name the schemas in load/roles/warehouse_loader.sql and run it again, or run as an "
                f"administrator: {statements}. Then load again.")

    def drop_staging(self) -> None:
        """Drop all staging tables. Under the schema's lock no other load uses one, so killed loads' are dropped too."""
        staging.drop_all(self.cursor, self.histories)

    def missing(self, day: date, loads: Mapping[str, Load]) -> dict[str, Load]:
        """Loads whose rows are not present in the warehouse."""
        runs = {(one.source, one.schema, one.table): one.run_id for one in self.load_history.present(day)}
        return {stream: load for stream, load in loads.items()
                if runs.get((load.source, load.schema or self.schema, load.table.name)) != load.run_id}

    def planner(self, loads: Sequence[Load]) -> LoadPlanner:
        """A planner for these loads.

        Raises:
            SettingError: The setting `table_names` has an unknown source.
            WarehouseError: Another SCHEMA's loads own the tables of a schema.
        """
        loads = [replace(load, schema=load.schema or self.schema) for load in loads]
        places = self.load_history.places()
        known = {*(one.source for one in (*loads, *places)), *declared_sources()}
        self.names.refuse_unknown(known)
        self.checks.refuse_unknown_sources(known)
        self.target(load.schema for load in loads)
        return LoadPlanner(self.load_history, loads, self.logger, self.checks)

    def refuse_unknown_checks(self, loads: Collection[Load]) -> None:
        """Raise SettingError for checks of a table that is neither among these loads of whole sources nor loaded."""
        if self.checks:
            stored = {name for one in self.load_history.places() for name in source_names(
                one.source, one.source_schema, one.source_table or one.table)}
            self.checks.refuse_unknown({load.source for load in loads}, loads, stored)

    def vanished(self, day: date, sources: Sequence[str], landed: Iterable[Load]) -> Vanished:
        """Loaded tables of a date that its landed sources no longer have."""
        present = {(load.source, load.schema or self.schema, load.table.name) for load in landed}
        found: dict[str, list[tuple[str, str]]] = {}
        for one in self.load_history.entries(day):
            if one.source in sources and (one.source, one.schema, one.table) not in present:
                found.setdefault(one.schema, []).append((one.source, one.table))
        return found

    def refuse_removal(self, day: date, tables: Vanished) -> None:
        """Raise WarehouseError if objects of people are in the way of removing these tables from a date."""
        for schema, swap in self._swaps().items():
            if schema in tables:
                swap.replaceable(day, {name for _, name in tables[schema]})

    def _refuse_shared_schemas(self) -> None:
        others = self.load_history.others()
        for schema in sorted(self._targets):
            if schema in others:
                raise WarehouseError(
                    f"Tables of schema {schema} belong to the loads with SCHEMA={others[schema]}, and this one has "
                    f"SCHEMA={self.schema}. Nothing was loaded. Load with SCHEMA={others[schema]}, or give the tables "
                    "of each SCHEMA a schema of their own, such as \"{target_schema}_crm.{table}\" (table_names of "
                    "target-postgres).")

    def planned(self, loads: Mapping[str, Load], loaded: Iterable[Load] = ()) -> dict[str, Load]:
        """Loads by stream with the types of their columns in history; RefusedError if one does not fit.

        `loaded`: other tables of the date, which are loaded already.
        """
        plan = self.planner([*loads.values(), *loaded])
        return {stream: plan(load) for stream, load in loads.items()}

    @contextlib.contextmanager
    def dry_run(self) -> Iterator[Callable[[Load], None]]:
        """A transaction that is rolled back; the callable creates a planned load's tables in it, without rows."""
        begin(self.cursor)
        try:
            self.create()
            yield lambda load: staging.dry_run(self.cursor, load)
        finally:
            self.execute("ROLLBACK")

    def stage(self, workers: WorkerPool, loads: Sequence[tuple[Load, Files]], *, alone: bool) -> list[Load]:
        """Copy loads into staging tables and verify them. `alone`: there is one worker.

        Rows that several connections copied are invisible to older snapshots. If such snapshots do not end in time,
        the tables are copied again by one connection, in one transaction that also creates the table.
        """
        named = [(replace(load, staging=staging.name_for(load, number)), paths)
                 for number, (load, paths) in enumerate(loads)]
        staged = staging.fill(workers, self.connection, named, frozen=alone)
        in_chunks = [place for place, (load, paths) in enumerate(named)
                     if load.chain or (len(paths) > 1 and not alone)]
        if in_chunks and not wait_for_older_snapshots(self.cursor, self.lock_timeout, self.logger):
            for place in in_chunks:
                load, paths = named[place]
                with staging.spooled(self.connection, load, paths) as (alike, paths):
                    self.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(load.history, load.staging)))
                    filled, = staging.fill(workers, self.connection, [(alike, paths)], frozen=True)
                staged[place] = replace(filled, table=load.table, chain=load.chain)
        return staged

    def check(self, workers: WorkerPool, loads: Mapping[str, Load], landed: Mapping[str, Table],
              staged: Sequence[Load]) -> None:
        """Run the declared checks of a date; record those that do not hold.

        Args:
            workers: Connections that read.
            loads: All loads of the date by stream, with their places.
            landed: Their tables by stream, as their manifests have them.
            staged: Those that are in staging tables.

        Raises:
            CheckError: A check does not hold.
        """
        if not (self.checks and staged):
            return
        checks = DateChecks(self.checks, self.load_history)
        if failed := checks.failed(checks.tables(loads, landed, staged), workers):
            with transaction(self.connection):
                self.refusals.record(failed)
            raise refused(failed, self.schema)

    def on_base(self, load: Load) -> Load:
        """A planned load that was landed in increments, with its base's partition if that very run is loaded."""
        if not load.chain:
            return load
        day, run_id = load.whole.base, load.whole.base_run_id
        part = self.load_history.part(load.schema)
        loaded = any((one.source, one.table, one.run_id) == (load.source, load.table.name, run_id)
                     for one in part.present(day))
        name = history.partitions(self.cursor, load.history, day).get(load.table.name) if loaded else None
        base = name and sql.Identifier(load.history, name)
        if not base or history.columns_of(self.cursor, base) != load.layout:
            return load
        return replace(load, chain=replace(load.chain, base=base))

    def swap(self, day: date, sources: Sequence[str], loads: Sequence[Load], landed: Collection[Load],
             left_out: Sequence[str] = (), without_data: Streams = NONE) -> None:
        """Replace the partitions of a date by staging tables, in one transaction with lock retry.

        Args:
            day: The date.
            sources: The sources that were loaded.
            loads: The staged loads.
            landed: Every landed table of the date, loaded before or now. Other tables of these sources are removed
                from it.
            left_out: Sources of the date that were left out on purpose.
            without_data: Streams of the date that hold no data at their source, by source: their views keep their
                last date.
        """
        vanished, swaps = self.vanished(day, sources, landed), self._swaps()
        recorded = self.load_history.left_out(day)
        if loads or vanished or any(swap.views.stale() for swap in swaps.values()) or (
                recorded != {*left_out} - self.load_history.sources(day)) or any(
                self.load_history.without_data(day, source) != {*without_data.get(source, ())} for source in sources):

            def publish() -> None:
                self._publish(swaps, day, loads, vanished)
                self.refusals.clear(day, {load.source for load in loads})
                self.load_history.record_left_out(day, sources, left_out)
                for source in sources:
                    self.load_history.record_without_data(day, source, without_data.get(source, ()))
                for swap in swaps.values():  # all schemas' entries are there: the newest date is the source's
                    swap.views.update([load for load in loads if load.schema == swap.schema])

            self.lock_retry.run(publish,
                                "Nothing was loaded, and the views are unchanged.", load_command(day, self.schema))

    def _publish(self, swaps: Mapping[str, Swap], day: date, loads: Sequence[Load], vanished: Vanished) -> None:
        parts = [(swap, [load for load in loads if load.schema == schema], vanished.get(schema, []))
                 for schema, swap in swaps.items()]
        for swap, new, gone in parts:
            swap.lock(new, gone)
        for swap, new, gone in parts:
            swap.publish(day, new, gone)

    def ahead(self, day: date, sources: Iterable[str]) -> dict[str, date]:
        """Sources whose views show a newer date than `day`, with that date."""
        newest = self.load_history.newest()
        return {source: newest[source] for source in sources if newest.get(source, day) > day}

    def remove(self, source: str, day: date) -> None:
        """Remove a source's date that the views do not show, in one transaction with lock retry."""
        if (source, day) in self.load_history.shown():
            raise WarehouseError(f"Views of source {source} show {day} of {self.history}: it is not removed.")
        swaps = self._swaps().values()

        def publish() -> None:
            for swap in swaps:
                swap.remove(source, day)
            self.refusals.clear(day, [source])

        self.lock_retry.run(publish, "Nothing was removed.", "landing gc")
        self.drop_staging()

    def drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        """Remove a date of some sources, or of all (None), in one transaction with lock retry.

        Views that show it go back to the newest remaining date of their source, or stay empty. `left`: tables of that
        date as they were landed, as far as known.
        """
        self.lock_retry.run(lambda: self._drop(day, sources, left), "Nothing was dropped.", f"landing drop {day} --yes")
        self.drop_staging()

    def _drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        before, parts = self.load_history.newest(), [
            (swap, [load for load in left if load.schema == schema]) for schema, swap in self._swaps().items()]
        for swap, remaining in parts:
            swap.drop(day, sources, remaining)
        for swap, remaining in parts:
            swap.restore(before, remaining)
        self.refusals.clear(day, sources)
