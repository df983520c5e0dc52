"""The warehouse: history partitioned by date, a view of each table's newest date, and the load history.

    <schema>_history.<table>    LIST-partitioned by extracted_at, key (extracted_at, …key), the source's exact types
    <schema>.<table>            view of the newest loaded date, the source's own columns
    <schema>_history._loads     load history: time, run and hash of each loaded table

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
from landing.load import staging
from landing.load.load_history import LoadHistory
from landing.load.locks import LockRetry, SchemaLock, wait_for_older_snapshots
from landing.load.planning import LoadPlanner
from landing.load.staging import Files, Load
from landing.load.swap import Swap
from landing.model.schema import NAME_BYTES
from landing.postgres.query import query
from landing.postgres.transaction import begin
from landing.postgres.worker_pool import WorkerPool

LOCK_TIMEOUT = 60  # seconds that a swap waits for other sessions
LOAD_LOCK_TIMEOUT = 3600  # seconds that a load waits for another load

NOT_CREATABLE = """
SELECT current_user::text, nspname FROM pg_namespace
WHERE nspname = ANY (%s) AND NOT has_schema_privilege(oid, 'CREATE') ORDER BY nspname
"""


class Warehouse:
    """One schema of a warehouse and its history."""

    def __init__(self, connection: Any, schema: str, logger: logging.Logger, lock_timeout: float = LOCK_TIMEOUT,
                 point: CommitPoint | None = None) -> None:
        """`lock_timeout`: seconds that a swap waits for other sessions. `point`: the commit point of the run."""
        self.connection, self.schema, self.logger, self.lock_timeout = connection, schema, logger, lock_timeout
        self.history = f"{schema}_history"
        if not schema or len(self.history.encode()) > NAME_BYTES:
            raise WarehouseError(f"SCHEMA={schema!r}: expected a name of 1 to 55 bytes. Nothing was loaded. Run again "
                                 "with another SCHEMA.")
        self.cursor = connection.cursor()
        self.load_history = LoadHistory(self.cursor, self.history)
        self.lock = SchemaLock(connection, schema, logger)
        self.lock_retry = LockRetry(connection, (schema, self.history), lock_timeout, logger, point)
        self._swap = Swap(schema, self.load_history, logger)

    @property
    def version(self) -> str:
        """Of its server."""
        return self.connection.get_parameter_status("server_version").split()[0]

    def execute(self, statement: str | sql.Composable, values: Any = None) -> list[tuple]:
        """Execute a statement and return its rows, if any."""
        return query(self.cursor, statement, values)

    def acquire(self, timeout: float = LOAD_LOCK_TIMEOUT) -> None:
        """Lock the schema against other loads, then create what is missing and drop leftovers.

        Raises:
            WarehouseError: Another load holds the lock, or the role lacks rights.
        """
        if not self.lock.acquire(timeout):
            raise WarehouseError(
                f"Timed out after {timeout:g} s (load_lock_timeout) waiting for another load of schema {self.schema}: "
                f"{self.lock.holder()}. Nothing was loaded. Run again when it has ended. If no load is running there, "
                "end that session first: SELECT pg_terminate_backend(pid)"
            )
        self._create()
        self.drop_staging()

    def _create(self) -> None:
        for name in (self.schema, self.history):
            if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)):
                self.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        if barred := self.execute(NOT_CREATABLE, ([self.schema, self.history],)):
            user, names = barred[0][0], ", ".join(name for _, name in barred)
            raise WarehouseError(f"The warehouse role {user} lacks CREATE on schema {names}. Nothing was loaded. "
                                 f"GRANT CREATE ON SCHEMA {names} TO {user}, or load with another SCHEMA.")
        self.load_history.create()

    def drop_staging(self) -> None:
        """Drop all staging tables. Under the schema's lock no other load uses one, so killed loads' are dropped too."""
        staging.drop_all(self.cursor, self.history)

    def loaded(self, day: date) -> dict[tuple[str, str], str]:
        """Run ids by (source, table) of a loaded date whose rows are present."""
        return {(entry.source, entry.table): entry.run_id for entry in self.load_history.present(day)}

    def planner(self, loads: Sequence[Load]) -> LoadPlanner:
        """A planner for these loads."""
        return LoadPlanner(self.schema, self.load_history, loads, self.logger)

    def vanished(self, day: date, sources: Sequence[str], present: set[tuple[str, str]]) -> list[tuple[str, str]]:
        """Loaded (source, table) pairs of a date that its landed sources no longer have."""
        return [(source, table) for source, _, table in self.load_history.runs(day)
                if source in sources and (source, table) not in present]

    def refuse_removal(self, day: date, tables: Sequence[tuple[str, str]]) -> None:
        """Raise WarehouseError if objects of people are in the way of removing these (source, table) pairs."""
        if tables:
            self._swap.replaceable(day, {name for _, name in tables})

    def planned(self, loads: Mapping[str, Load]) -> dict[str, Load]:
        """Loads by stream with the types of their columns in history; RefusedError if one does not fit."""
        plan = self.planner([*loads.values()])
        return {stream: plan(load) for stream, load in loads.items()}

    @contextlib.contextmanager
    def dry_run(self) -> Iterator[Callable[[Load], None]]:
        """A transaction that is rolled back; the callable creates a planned load's tables in it, without rows."""
        begin(self.cursor)
        try:
            self._create()
            yield lambda load: staging.dry_run(self.cursor, self.history, load)
        finally:
            self.execute("ROLLBACK")

    def stage(self, workers: WorkerPool, loads: Sequence[tuple[Load, Files]], *, alone: bool) -> list[Load]:
        """Copy loads into staging tables and verify them. `alone`: there is one worker.

        Rows that several connections copied are invisible to older snapshots. If such snapshots do not end in time,
        the tables are copied again by one connection, in one transaction that also creates the table.
        """
        named = [(replace(load, staging=staging.name_for(load, number)), paths)
                 for number, (load, paths) in enumerate(loads)]
        staged = staging.fill(workers, self.connection, self.history, named, frozen=alone)
        in_chunks = [place for place, (_, paths) in enumerate(named) if len(paths) > 1 and not alone]
        if in_chunks and not wait_for_older_snapshots(self.cursor, self.lock_timeout, self.logger):
            for place in in_chunks:
                load, paths = named[place]
                self.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(self.history, load.staging)))
                staged[place], = staging.fill(workers, self.connection, self.history, [(load, paths)], frozen=True)
        return staged

    def swap(self, day: date, sources: Sequence[str], loads: Sequence[Load], present: set[tuple[str, str]],
             left_out: Sequence[str] = ()) -> None:
        """Replace the partitions of a date by staging tables, in one transaction with lock retry.

        Args:
            day: The date.
            sources: The sources that were loaded.
            loads: The staged loads.
            present: Every landed (source, table) of the date, loaded before or now. Other tables of these sources are
                removed from it.
            left_out: Sources of the date that were left out on purpose.
        """
        vanished, recorded = self.vanished(day, sources, present), self.load_history.left_out(day)
        if loads or vanished or self._swap.views.stale() or recorded != {*left_out} - self.load_history.sources(day):
            self.lock_retry.run(lambda: self._swap.publish(day, sources, loads, vanished, left_out),
                                "Nothing was loaded, and the views are unchanged.", load_command(day, self.schema))

    def ahead(self, day: date, sources: Iterable[str]) -> dict[str, date]:
        """Sources whose views show a newer date than `day`, with that date."""
        newest = self.load_history.newest()
        return {source: newest[source] for source in sources if newest.get(source, day) > day}

    def remove(self, source: str, day: date) -> None:
        """Remove a source's date that the views do not show, in one transaction with lock retry."""
        if day == self.load_history.newest().get(source):
            raise WarehouseError(f"{day} is the newest partition of source {source} in {self.history}, and the views "
                                 "show it: it is not removed.")
        self.lock_retry.run(lambda: self._swap.remove(source, day), "Nothing was removed.", "landing gc")
        self.drop_staging()

    def drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        """Remove a date of some sources, or of all (None), in one transaction with lock retry.

        Views that show it go back to the newest remaining date of their source, or stay empty. `left`: tables of that
        date as they were landed, as far as known.
        """
        self.lock_retry.run(lambda: self._swap.drop(day, sources, left), "Nothing was dropped.",
                            f"landing drop {day} --yes")
        self.drop_staging()
