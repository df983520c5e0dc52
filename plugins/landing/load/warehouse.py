"""The warehouse: history partitioned by date, a view of the newest date, a ledger, and one swap for a whole date.

    <schema>_history.<table>    LIST-partitioned by extracted_at, key (extracted_at, …key), the source's exact types
    <schema>.<table>            view of the newest loaded date, the source's own columns
    <schema>_history._loads     the ledger: what was loaded when, from which run, with which hash

Each table goes into a staging table of its own first. Then all tables of the date are swapped in one transaction.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.commands import load_command
from landing.core.commit_point import CommitPoint
from landing.core.errors import DamagedError, RefusedError, WarehouseError
from landing.core.progress import PROGRESS_EVERY
from landing.load import comments, history, staging, views
from landing.load.comments import GONE, UNLOADED
from landing.load.evolution import widened
from landing.load.history import (
    PARTITION_KEY,
    STAGING,
    HistoryTable,
    columns_of,
    history_key,
    history_name,
    partition_name,
)
from landing.load.load_history import LOADS, LoadHistory
from landing.load.staging import Files, Load
from landing.model.schema import NAME_BYTES, TYPE, Column
from landing.postgres.session import Session
from landing.postgres.transaction import begin, transaction
from landing.postgres.workers import Workers

LOCKS_A_TABLE = 10
COLUMNS = 1600  # that a table of PostgreSQL's can have
LOAD_LOCK_TIMEOUT = 3600  # seconds that a load waits for another
WAIT = 0.7  # seconds; below deadlock_timeout's default, so that a reader is never the one who is cancelled

# Takes the lock that replacing a view takes, and changes nothing; LOCK would go on to all partitions behind it.
LOCKS = """
SELECT string_agg(format('ALTER VIEW %%I.%%I OWNER TO %%I', n.nspname, c.relname, pg_get_userbyid(c.relowner)), ';'
                  ORDER BY c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
WHERE c.relkind = 'v' AND c.relname = ANY (%s)
"""

# What has the name of a table already, in the views' schema or in history, and whether it is ours.
OCCUPIED = """
SELECT c.relname, n.nspname, CASE WHEN n.nspname = %(history)s THEN c.relkind = 'p' ELSE c.relkind = 'v' AND EXISTS (
    SELECT FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class t ON t.oid = d.refobjid AND t.relname = c.relname
    JOIN pg_namespace h ON h.oid = t.relnamespace AND h.nspname = %(history)s
    WHERE r.ev_class = c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN (%(schema)s, %(history)s) AND c.relname = ANY (%(names)s)
"""

# Who has a snapshot at this moment: process, transaction, its oldest transaction. A role without special rights sees
# the last for its own sessions only: any transaction of others may have one.
SNAPSHOTS = """
SELECT a.pid, l.virtualtransaction, a.backend_xmin::text
FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'virtualxid' AND l.granted
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (a.backend_xmin IS NOT NULL OR a.backend_type IS NULL)
"""

EMPTY_VIEWS = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE c.relkind = 'v' AND d.description LIKE %s
"""
KNOWN = "SELECT type, to_regtype(type) IS NOT NULL FROM unnest(%s::text[]) AS type"

BARRED = """
SELECT current_user::text, nspname FROM pg_namespace
WHERE nspname = ANY (%s) AND NOT has_schema_privilege(oid, 'CREATE') ORDER BY nspname
"""

# The load that holds a schema's lock.
HOLDER = """
SELECT string_agg(format('pid %%s, user %%s, %%s, connected since %%s', l.pid, coalesce(a.usename, 'unknown'),
                         coalesce(nullif(a.application_name, ''), 'no application name'),
                         coalesce(date_trunc('second', a.backend_start)::text, 'unknown')), '; ')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = (hashtext('landing')::bigint & 4294967295)
  AND l.objid::bigint = (hashtext(%s)::bigint & 4294967295)
"""

# Of other users' sessions, a role without special rights sees only who they are.
BLOCKERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, date_trunc('second', now() - a.xact_start)::text
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN (%s, %s)
JOIN pg_stat_activity a ON a.pid = l.pid AND coalesce(a.backend_type, 'client backend') = 'client backend'
WHERE l.granted AND l.pid <> pg_backend_pid()
"""


def refuse_shared_names(loads: Iterable[Load]) -> None:
    """Two tables of a date, of whichever sources and schemas, can't be one table."""
    seen: dict[str, Load] = {}
    for load in loads:
        other = seen.setdefault(load.table.name, load)
        if other is not load:
            raise RefusedError(
                load, f"{load.table.stream} of source {load.source} and {other.table.stream} of source {other.source} "
                f"both want to be table {load.table.name!r} in the warehouse",
                "Leave one out (filter_schemas, select) or rename it, land again, and load"
            )


class Warehouse:
    """One schema of a warehouse, and its history."""

    def __init__(self, connection: Any, schema: str, logger: logging.Logger, lock_timeout: int = 60) -> None:
        """`lock_timeout`: seconds that the swap waits for those who use the tables."""
        self.connection, self.schema, self.logger, self.lock_timeout = connection, schema, logger, lock_timeout
        self.point: CommitPoint | None = None  # of the run that uses it
        self.load_lock_timeout: float = LOAD_LOCK_TIMEOUT
        self.history = f"{schema}_history"
        if not schema or len(self.history.encode()) > NAME_BYTES:
            raise WarehouseError(f"SCHEMA={schema!r}: expected a name of 1 to 55 bytes. Nothing was loaded. Run again "
                                 "with another SCHEMA.")
        self.cursor = connection.cursor()
        self.ledger = LoadHistory(self.cursor, self.history)

    @property
    def version(self) -> str:
        """Of its server."""
        return self.connection.get_parameter_status("server_version").split()[0]

    def execute(self, statement: str | sql.Composable, values: Any = None) -> list[tuple]:
        """Run a statement; its rows, if it has any."""
        self.cursor.execute(statement, values)
        return self.cursor.fetchall() if self.cursor.description else []

    # Before a load

    def acquire(self) -> None:
        """Wait until no other load is at work in this schema, saying so; then make sure of schemas and ledger."""
        if not self.hold(self.load_lock_timeout):
            raise WarehouseError(
                f"Another load holds the lock of schema {self.schema} since more than {self.load_lock_timeout:g} s "
                f"(load_lock_timeout): {self.holder()}. Nothing was loaded. Wait until it has ended. If no load is at "
                "work there, end that session (SELECT pg_terminate_backend(pid)), then run again."
            )
        self._prepare()
        self.drop_staging()

    def _prepare(self) -> None:
        for name in (self.schema, self.history):
            if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)):
                self.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        if barred := self.execute(BARRED, ([self.schema, self.history],)):
            user, names = barred[0][0], ", ".join(name for _, name in barred)
            raise WarehouseError(f"The warehouse's role {user} may not create in schema {names}. Nothing was loaded. "
                                 f"GRANT CREATE ON SCHEMA {names} TO {user}, or load with another SCHEMA.")
        self.ledger.create()

    def hold(self, patience: float = LOAD_LOCK_TIMEOUT) -> bool:
        """Take the schema's session advisory lock; False after `patience` s."""
        begun, said = time.monotonic(), 0.0
        while not self.execute("SELECT pg_try_advisory_lock(hashtext('landing'), hashtext(%s))", (self.schema,))[0][0]:
            if time.monotonic() - begun > patience:
                return False
            if time.monotonic() - said > PROGRESS_EVERY:
                said = time.monotonic()
                self.logger.info("Another load is at work in schema %s (%s): waiting up to %g s for it to end.",
                                 self.schema, self.holder(), max(patience - (said - begun), 0))
            time.sleep(0.2)
        if isinstance(self.connection, Session):
            self.connection.require_same()
        return True

    def holder(self) -> str:
        """The session that holds the schema's lock, for people."""
        return self.execute(HOLDER, (self.schema,))[0][0] or "gone now"

    def release(self) -> None:
        """Give back the lock: a pooler keeps the session that has it."""
        self.execute("SELECT pg_advisory_unlock(hashtext('landing'), hashtext(%s))", (self.schema,))

    def drop_staging(self) -> None:
        """Remove staging tables; those of a load that was killed too, since only one is at work at a time."""
        staging.drop_all(self.cursor, self.history)

    def loaded(self, day: date) -> dict[tuple[str, str], str]:
        """Run ids by (source, table) of a date that is loaded and whose rows are there."""
        return {(entry.source, entry.table): entry.run_id for entry in self.ledger.present(day)}

    def planned(self, loads: Mapping[str, Load]) -> dict[str, Load]:
        """The loads with the types that their columns get; what can't be loaded without loss is refused."""
        plan = self.planner([*loads.values()])
        return {stream: plan(load) for stream, load in loads.items()}

    def planner(self, loads: Sequence[Load]) -> LoadPlanner:
        """For any one of the loads what planned() says: the load with its types, or RefusedError."""
        owners, tables = self.ledger.owners(), history.tables(self.cursor, self.history)
        where = {"schema": self.schema, "history": self.history, "names": [load.table.name for load in loads]}
        occupied = {name: schema for name, schema, ours in self.execute(OCCUPIED, where) if not ours}
        known = self.known({column.type for load in loads for column in load.table.columns})
        return LoadPlanner(self, owners, occupied, known, {name: columns for name, (columns, _) in tables.items()})

    def known(self, types: Collection[str]) -> dict[str, bool]:
        """Which types this server has, and can read: without libxml it has xml, and reads none."""
        found = dict(self.execute(KNOWN, ([type_ for type_ in types if TYPE.fullmatch(type_)],)))
        if xml := {"xml", "xml[]"} & {*found}:
            try:
                self.execute("SELECT '<a/>'::xml")
            except pg_errors.FeatureNotSupported:
                found |= dict.fromkeys(xml, False)
        return found

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[Callable[[Load], None]]:
        """A transaction that is undone at its end, with what makes the tables of planned loads but for their rows."""
        begin(self.cursor)
        try:
            self._prepare()
            yield lambda load: staging.dry_run(self.cursor, self.history, load)
        finally:
            self.execute("ROLLBACK")

    def typed(
        self, load: Load, known: Mapping[str, bool], have: Mapping[str, str], blank: Callable[[str], bool]
    ) -> Load:
        """The load with the types and the layout that its table has in history then.

        `blank` tells whether a column of history is NULL in every row. No value is no reason for a type: a column
        without evidence takes history's, and text that was so for want of evidence takes that of the first values.
        """
        width = len({PARTITION_KEY, *have, *(history_name(column.name) for column in load.table.columns)})
        if width > COLUMNS:
            raise RefusedError(load, f"with the date, and with what older dates have, it has {width:,} columns, and "
                               f"PostgreSQL takes {COLUMNS:,}", "Leave some out (select)", load.land_again)
        columns = [self._known(load, column, known) for column in load.table.columns]
        columns = [column if column.evidence else replace(column, type=have.get(history_name(column.name), column.type))
                   for column in columns]
        differ = [column for column in columns if have.get(history_name(column.name), column.type) != column.type]
        exact = history.exact_types(self.cursor, [column.type for column in differ]) if differ else []
        wide = {column.name: type_ if self._first_values(load, have, blank, column.name)
                else self._widened(load, column.name, have[history_name(column.name)], type_)
                for column, type_ in zip(differ, exact, strict=True)}
        columns = [replace(column, type=wide.get(column.name, column.type)) for column in columns]
        need = {history_name(column.name): column.type for column in columns}
        return replace(load, table=replace(load.table, columns=columns), layout=history.layout(have, need))

    def _first_values(
        self, load: Load, have: Mapping[str, str], blank: Callable[[str], bool], column: str
    ) -> bool:
        """Whether a column of a CSV file is text in history only because it never had a value."""
        name = history_name(column)
        return load.table.schema is None and have[name] == "text" and blank(name)

    def blank(self, table: str, column: str) -> bool:
        """Whether a column of history is NULL in every row; so is one that is not there."""
        relation = sql.Identifier(self.history, table)
        if column not in columns_of(self.cursor, relation):
            return True
        return not self.execute(sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)").format(
            relation, sql.Identifier(column)))[0][0]

    def refuse_names(self, load: Load, owners: Mapping[str, str], occupied: Mapping[str, str]) -> None:
        """Raises RefusedError for names that the warehouse can't have, or has for something else."""
        name = load.table.name
        if name == LOADS or name.startswith(STAGING):
            raise RefusedError(load, "the warehouse keeps that name for itself", "Rename the table", load.land_again)
        for long in (one for one in (name, *(history_name(column.name) for column in load.table.columns))
                     if len(one.encode()) > NAME_BYTES):
            raise RefusedError(load, f"the name {long!r} has {len(long.encode())} bytes, and PostgreSQL would cut it "
                               f"to {NAME_BYTES}", "Rename it", load.land_again)
        owner = owners.get(name)
        if owner not in (None, load.source):
            raise RefusedError(load, f"{self.history}.{name} holds the table of source {owner}",
                               "Rename one, or load the sources with different SCHEMAs")
        if name in occupied:
            raise RefusedError(load, f"{occupied[name]}.{name} exists in the warehouse and is not one of ours",
                               "Rename what is there, or load with another SCHEMA")

    def _known(self, load: Load, column: Column, known: Mapping[str, bool]) -> Column:
        """The column with a type that this server has."""
        if not TYPE.fullmatch(column.type):
            raise DamagedError(f"{load}, column {column.name}: {column.type!r} is not the name of a type. Nothing was "
                               f"loaded. Land it again: {load.land_again}")
        if known[column.type]:
            return column
        self.logger.warning("%s, column %s: this server has no type %s, so it loads as text.", load, column.name,
                            column.type)
        return replace(column, type="text")

    def _widened(self, load: Load, column: str, have: str, type_: str) -> str:
        wide = widened(have, type_)
        if wide is None:
            raise RefusedError(
                f"{load}, column {column}",
                f"the warehouse has {have}, this date has {type_}, and neither holds the other without loss",
                "Change the type at the source (or declare it), or load into another SCHEMA",
            )
        return wide

    def stage(self, workers: Workers, loads: Sequence[tuple[Load, Files]], *, alone: bool) -> list[Load]:
        """The loads in staging tables of their own, checked: see staging.py. `alone`: there is one worker.

        What several connections copied is not there for a reader whose snapshot is older. They are waited for; where
        they stay, the tables are copied once more, by one connection.
        """
        named = [(replace(load, staging=staging.name_for(load, number)), paths)
                 for number, (load, paths) in enumerate(loads)]
        staged = staging.fill(workers, self.connection, self.history, named, frozen=alone)
        in_pieces = [place for place, (_, paths) in enumerate(named) if len(paths) > 1 and not alone]
        if in_pieces and not self._readers_are_gone():
            for place in in_pieces:
                load, paths = named[place]
                self.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(self.history, load.staging)))
                staged[place], = staging.fill(workers, self.connection, self.history, [(load, paths)], frozen=True)
        return staged

    def _readers_are_gone(self) -> bool:
        """Wait, as CREATE INDEX CONCURRENTLY does, for transactions that had their snapshot before; False: in vain."""
        older = {*self.execute(SNAPSHOTS)}
        deadline, said = time.monotonic() + self.lock_timeout, False
        while older := older & {*self.execute(SNAPSHOTS)}:
            who = ", ".join(f"pid {pid}" for pid, *_ in older)
            if time.monotonic() > deadline:
                self.logger.warning("%s would find the new date empty. Tables of several files are copied once more, "
                                    "by one connection.", who)
                return False
            if not said and time.monotonic() > deadline - self.lock_timeout + 1:
                said = True
                self.logger.info("Waiting up to %d s for transactions that began before the copy: %s",
                                 self.lock_timeout, who)
            time.sleep(0.05)
        return True

    # The swap

    def swap(self, day: date, sources: Sequence[str], loads: Sequence[Load], present: set[tuple[str, str]]) -> None:
        """Put staged tables in their places, in one transaction: readers see the date as it was, or as it will be.

        `present`: every (source, table) that the date has, those too that are loaded already. What the warehouse has
        of the date beyond them is removed.

        Who waits for a lock holds up all who come after, so each wait is short; between them all locks are free.
        """
        vanished = [(source, table) for source, _, table in self.ledger.runs(day)
                    if source in sources and (source, table) not in present]
        if not loads and not vanished and not self._hidden():
            return
        again = f"Nothing was loaded, and readers see what they saw. Then run: {load_command(day, self.schema)}"
        self.with_lock_retry(lambda: self._swap(day, loads, vanished), again)

    def ahead(self, day: date, sources: Iterable[str]) -> dict[str, date]:
        """Sources of which a newer date is loaded, which their views show."""
        newest = self.ledger.newest()
        return {source: newest[source] for source in sources if newest.get(source, day) > day}

    def remove(self, source: str, day: date) -> None:
        """Take a source's date that its views don't show out of history and ledger, in one transaction."""
        if day == self.ledger.newest().get(source):
            raise WarehouseError(f"{day} is the newest date of source {source} in {self.history}, which the views "
                                 "show: it stays.")
        self.with_lock_retry(lambda: self._remove(source, day),
                             f"{day} is there as it was. Then run `landing gc` again.")
        self.drop_staging()

    def drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        """Take a date of some sources, or of all, out of history and ledger, in one transaction.

        Views that showed it show the newest date of their source that is left; `left`: its tables, as far as it is
        known what they were landed as. A view whose source has no date left stays, empty.
        """
        self.with_lock_retry(lambda: self._drop(day, sources, left),
                       f"Nothing was dropped. Then run again: landing drop {day} --yes")
        self.drop_staging()

    def of_date(self, day: date, sources: Collection[str] | None = None) -> list[tuple[str, str]]:
        """(source, table) of a date in ledger or history; the source is '' where no line of the ledger names it."""
        owners = self.ledger.owners()
        found = {(source, table) for source, _, table in self.ledger.runs(day)}
        found |= {(owners.get(table, ""), table) for table in history.partitions(self.cursor, self.history, day)}
        return sorted(one for one in found if sources is None or one[0] in sources)

    def with_lock_retry(self, change: Callable[[], None], again: str) -> None:
        """Make a change in one transaction, trying as long as others use the tables; `again` is what to do if not."""
        deadline, said = time.monotonic() + self.lock_timeout, False
        while True:
            try:
                with transaction(self.connection, self.point):
                    self.execute("SELECT set_config('lock_timeout', %s, true)", (f"{int(1000 * WAIT)}ms",))
                    change()
                return
            except (pg_errors.LockNotAvailable, pg_errors.DeadlockDetected, pg_errors.QueryCanceled) as error:
                if (left := deadline - time.monotonic()) <= 0:
                    raise WarehouseError(f"Waited {self.lock_timeout} s for those who use the tables of {self.schema}: "
                                         f"{self._users()}. Wait until they have ended. {again}") from error
                if not said:
                    self.logger.info("Waiting up to %d s for those who use the tables: %s", left, self._users())
                said = True
            except pg_errors.OutOfMemory as error:
                if "shared memory" not in str(error):
                    raise
                raise WarehouseError(
                    f"The swap of a date takes about {LOCKS_A_TABLE} locks for each of its tables, and the warehouse's "
                    "server has not so many. Raise max_locks_per_transaction there (twofold, say), and restart it. "
                    f"{again}"
                ) from error

    def _swap(self, day: date, loads: Sequence[Load], vanished: Sequence[tuple[str, str]]) -> None:
        self._lock_views([load.table.name for load in loads] + [name for _, name in vanished] + [*self._hidden()])
        partitions = self._replaceable(day, {load.table.name for load in loads} | {name for _, name in vanished})
        tables = history.tables(self.cursor, self.history)
        wanted = {partition_name(load.table.name, day) for load in loads} - {*partitions.values()}
        names = {*tables, *(load.table.name for load in loads), *self._taken(wanted)}
        for load in loads:
            table = HistoryTable(self.cursor, self.history, load.table.name, *tables.get(load.table.name, ()))
            need = {history_name(column.name): column.type for column in load.table.columns}
            table.reconcile(need, history_key(load.table.primary_key))
            table.attach(load.staging, day, partitions.get(load.table.name), names)
        self.ledger.note((load.source, day, load.table, load.taken_at, load.run_id, load.seconds) for load in loads)
        for source, name in vanished:
            self.logger.info("%s of %s no longer has table %s: removed from that date.", source, day, name)
            if name in partitions:
                HistoryTable(self.cursor, self.history, name).retire(partitions[name])
            self.ledger.remove(source, day, name)
        self._point_views(loads)

    def _remove(self, source: str, day: date) -> None:
        names = [name for owner, _, name in self.ledger.runs(day) if owner == source]
        self._lock_views(names)
        for name, partition in self._replaceable(day, names).items():
            HistoryTable(self.cursor, self.history, name).retire(partition)
        for name in names:
            self.ledger.remove(source, day, name)

    def _taken(self, names: Collection[str]) -> set[str]:
        """Those of the names that a relation in history has: a partition that somebody detached, for example."""
        rows = self.execute("SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                            "WHERE n.nspname = %s AND c.relname = ANY (%s)", (self.history, list(names)))
        return {name for name, in rows}

    def _drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        before, tables = self.ledger.newest(), self.of_date(day, sources)
        names = [name for _, name in tables]
        self._lock_views([*names, *(load.table.name for load in left)])
        for name, partition in self._replaceable(day, names).items():
            HistoryTable(self.cursor, self.history, name).retire(partition)
        for source, name in tables:
            self.ledger.remove(source, day, name)
        after = self.ledger.newest()
        known, unknown = {load.table.name for load in left}, []
        for source, newest in after.items():
            if before[source] != newest:
                unknown += [(name, newest) for owner, _, name in self.ledger.runs(newest)
                            if owner == source and name not in known]
        for name, newest in unknown:  # with the columns that its view has
            if columns := list(columns_of(self.cursor, sql.Identifier(self.schema, name))):
                self._show(name, columns, newest)
        comments.put(self.cursor, self.schema, self.history, {}, {name: None for name, _ in unknown})
        self._point_views(left)

    def _replaceable(self, day: date, names: Collection[str]) -> dict[str, str]:
        """A date's partitions of these tables; WarehouseError where something of a person's stands on one."""
        there = history.partitions(self.cursor, self.history, day)
        partitions = {table: there[table] for table in names if table in there}
        if found := history.built_on(self.cursor, self.history, partitions.values()):
            raise WarehouseError(
                f"Something was built on a single partition of {self.history}, which would go: {'; '.join(found)}. "
                f"Build on {self.schema}.<table> or {self.history}.<table> instead. Nothing changed: run again then."
            )
        return partitions

    def _lock_views(self, names: Sequence[str]) -> None:
        """All views at once and before the tables behind them, as readers do, or the two would block each other.

        The timeout is for all of them together: a reader that waits for one of them waits for no longer than that.
        """
        statements, = self.execute(LOCKS, (self.schema, list(names)))[0]
        if statements:
            self.execute("SELECT set_config('statement_timeout', %s, true)", (f"{int(1000 * WAIT)}ms",))
            self.execute(sql.SQL("DO {}").format(sql.Literal(f"BEGIN {statements}; END")))
            self.execute("SELECT set_config('statement_timeout', '0', true)")

    def _point_views(self, loads: Sequence[Load]) -> None:
        """Have the views show the newest date of their source; a table that it lacks keeps its view, empty."""
        newest, last = self.ledger.newest(), self.ledger.last()
        tables = {load.table.name: load.table for load in loads}
        notices: dict[str, str | None] = {}
        for name, gone in self.ledger.gone().items():
            view = sql.Identifier(self.schema, name)
            columns = list(columns_of(self.cursor, view))
            if not columns and name in tables:
                columns = [column.name for column in tables[name].columns]
            if columns and gone:
                self._show(name, columns, gone[1])
            if columns:
                notices[name] = f"{GONE}{gone[0]}: see {self.history}." if gone else f"{UNLOADED}."
        shown = {load.table.name for load in loads if load.day == newest[load.source]}
        for name, day in self._hidden().items():
            if name in shown:
                continue
            self._show(name, list(columns_of(self.cursor, sql.Identifier(self.schema, name))), day)
            notices[name] = None
        for load in loads:
            if load.day == newest[load.source]:
                self._show(load.table.name, [column.name for column in load.table.columns], load.day)
                notices[load.table.name] = None
        said = {load.table.name: load.table for load in loads if load.day == last[load.table.name]}
        comments.put(self.cursor, self.schema, self.history, said, notices)

    def _hidden(self) -> dict[str, date]:
        """Tables that the newest date of their source has, and whose view says that it has not: with that date.

        Loads of some of the sources once left the views of the others so.
        """
        empty = {name for name, in self.execute(EMPTY_VIEWS, (self.schema, f"{GONE}%"))}
        if not empty:
            return {}
        gone = self.ledger.gone()
        return {name: day for name, day in self.ledger.last().items() if name in empty and name not in gone}

    def _show(self, name: str, columns: Sequence[str], day: date) -> None:
        """Point a view."""
        view = sql.Identifier(self.schema, name)
        fields = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(history_name(column)), sql.Identifier(column))
            for column in columns
        )
        views.replace(self.cursor, view, sql.SQL("SELECT {} FROM {} WHERE {} = {}::date").format(
            fields, sql.Identifier(self.history, name), sql.Identifier(PARTITION_KEY), sql.Literal(day.isoformat())))

    def _users(self) -> str:
        """Who holds locks in our schemas."""
        who = [
            f"pid {pid} (user {user}, {application or 'no application name'}, {state or 'state unknown'}"
            f"{f', for {since}' if since else ''})"
            for pid, user, application, state, since in self.execute(BLOCKERS, (self.schema, self.history))
        ]
        return "; ".join(who) or "gone now"


@dataclass
class LoadPlanner:
    """Plans loads one after the other, before any of them: names and types as the warehouse has them at first."""

    warehouse: Warehouse
    owners: dict[str, str]
    occupied: Mapping[str, str]
    known: Mapping[str, bool]
    columns: dict[str, Mapping[str, str]]  # of each table of history, by its name
    filled: set[tuple[str, str]] = field(default_factory=set)  # columns that planned loads bring values for

    def __call__(self, load: Load) -> Load:
        """The load with its types, or RefusedError."""
        self.warehouse.refuse_names(load, self.owners, self.occupied)
        name = load.table.name
        return self.warehouse.typed(load, self.known, self.columns.get(name, {}), lambda column: (
            (name, column) not in self.filled and self.warehouse.blank(name, column)))

    def assume(self, load: Load) -> list[str]:
        """Go on as if a planned load had been loaded; its columns that become text by it, with what they are now."""
        have = self.columns.get(load.table.name, {})
        self.owners[load.table.name], self.columns[load.table.name] = load.source, load.layout
        self.filled |= {(load.table.name, history_name(column.name)) for column in load.table.columns
                        if column.evidence}
        return [f"{load.table.name}.{name} ({have[name]})" for name, type_ in load.layout.items()
                if type_ == "text" != have.get(name, type_)]
