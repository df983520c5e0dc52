"""The atomic swap: partitions are replaced or removed and views pointed, all in the caller's one transaction."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import date

from landing.load import history, obstacles
from landing.load.history import HistoryTable, history_name, key_name, partition_name
from landing.load.load_history import SchemaHistory
from landing.load.newest_views import NewestViews
from landing.load.staging import Load
from landing.postgres.query import query

RELATIONS = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY (%s) AND c.relname <> ALL (%s) AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid AND t.relname = ANY (%s)
    WHERE i.indexrelid = c.oid AND t.relnamespace = n.oid)
"""


class Swap:
    """Changes partitions, load history and views of one schema together."""

    def __init__(self, load_history: SchemaHistory, logger: logging.Logger) -> None:
        self.schema, self.load_history, self.logger = load_history.schema, load_history, logger
        self.cursor, self.history = load_history.cursor, load_history.history
        self.views = NewestViews(self.schema, load_history)

    def lock(self, loads: Sequence[Load], vanished: Sequence[tuple[str, str]]) -> None:
        """Lock the views that publish() replaces."""
        self.views.lock([*(load.table.name for load in loads), *(name for _, name in vanished), *self.views.stale()])

    def publish(self, day: date, loads: Sequence[Load], vanished: Sequence[tuple[str, str]]) -> None:
        """Attach staging tables as the partitions of a date; remove the (source, table) pairs that vanished from it."""
        partitions = self.replaceable(day, {*(load.table.name for load in loads), *(name for _, name in vanished)})
        tables = history.tables(self.cursor, self.history)
        wanted = {name(load.table.name, day) for load in loads for name in (partition_name, key_name)}
        reserved = {*tables, *(load.table.name for load in loads), *self._existing(wanted, partitions.values())}
        for load in loads:
            table = HistoryTable(self.cursor, self.history, load.table.name, *tables.get(load.table.name, ()))
            need = {history_name(column.name): column.type for column in load.table.columns}
            stays = {column: type_ for column, type_ in table.columns.items() if need.get(column, type_) == type_}
            if stays != table.columns:
                self.views.release(load.table.name, day, stays)
            table.reconcile(need, load.key)
            table.attach(load.staging, day, partitions.get(load.table.name), reserved)
        self.load_history.record(loads)
        for source, name in vanished:
            self.logger.info("%s of %s no longer has table %s: removed from that partition.", source, day,
                             self.load_history.label(self.schema, name))
        self._retire(day, vanished, partitions)

    def remove(self, source: str, day: date) -> None:
        """Remove a date of a source that no view shows."""
        tables = [(source, name) for owner, name in self.load_history.runs(day) if owner == source]
        names = [name for _, name in tables]
        self.views.lock(names)
        self._retire(day, tables, self.replaceable(day, names))

    def drop(self, day: date, sources: Collection[str] | None, left: Sequence[Load]) -> None:
        """Remove any date of some sources, or of all (None)."""
        tables = self.load_history.tables(day, sources)
        names = [name for _, name in tables]
        self.views.lock([*names, *(load.table.name for load in left)])
        self._retire(day, tables, self.replaceable(day, names))

    def restore(self, before: Mapping[str, date], left: Sequence[Load]) -> None:
        """Point the views at the newest date of each source that is left. `before`: newest dates until now."""
        described = {load.table.name for load in left}
        self.views.restore([
            (name, newest) for source, newest in self.load_history.newest().items() if before[source] != newest
            for owner, name in self.load_history.runs(newest) if owner == source and name not in described])
        self.views.update(left)

    def _retire(self, day: date, tables: Sequence[tuple[str, str]], partitions: dict[str, str]) -> None:
        for source, name in tables:
            if name in partitions:
                HistoryTable(self.cursor, self.history, name).retire(partitions[name])
            self.load_history.remove(source, day, name)

    def _existing(self, names: Collection[str], replaced: Collection[str]) -> set[str]:
        """Names that a relation in history has, such as a partition that a person detached.

        Those of the partitions that are replaced, and of their indexes, become free.
        """
        values = (self.history, list(names), list(replaced), list(replaced))
        return {name for name, in query(self.cursor, RELATIONS, values)}

    def replaceable(self, day: date, names: Collection[str]) -> dict[str, str]:
        """Partitions of a date by table; WarehouseError if a person's objects depend on one."""
        there = history.partitions(self.cursor, self.history, day)
        partitions = {table: there[table] for table in names if table in there}
        found = obstacles.of_partitions(self.cursor, self.history, day, partitions).values()
        if obstacle := obstacles.together(found):
            raise obstacle.error()
        return partitions
