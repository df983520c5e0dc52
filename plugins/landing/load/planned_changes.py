"""What planned loads change in partitions, history and views, and whose objects are in the way: known before a COPY."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from psycopg2 import sql

from landing.core.errors import RefusedError
from landing.load import history, kept_views, obstacles, view_dry_run
from landing.load.dependents import Dependents
from landing.load.history import history_name
from landing.load.kept_views import changes
from landing.load.load_history import SchemaHistory
from landing.load.obstacles import Obstacle
from landing.load.staging import Load
from landing.postgres.query import query

# Columns of all newest views, by view.
SHOWN = """
SELECT c.relname, c.oid, array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'v' GROUP BY c.oid
"""


# Views and tables of history that this session does not own.
NOT_OWNED = """
SELECT c.relname, format('%%I.%%I belongs to role %%I; role %%I cannot change it', n.nspname, c.relname,
                         pg_get_userbyid(c.relowner), current_user)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relkind) IN ((%s, 'v'), (%s, 'p')) AND NOT pg_has_role(c.relowner, 'USAGE')
"""


class PlannedChanges:
    """Finds other people's objects that stop planned loads of a schema. Reads catalogs, and locks nothing."""

    def __init__(self, schema: str, load_history: SchemaHistory) -> None:
        self.schema, self.cursor, self.history = schema, load_history.cursor, load_history.history
        self._newest, self._absent = load_history.newest(), load_history.absent()
        self._shown: dict[str, dict[str, str]] = {}
        self._oids: dict[str, int] = {}
        for name, oid, columns, types in query(self.cursor, SHOWN, (schema,)):
            self._oids[name], self._shown[name] = oid, dict(zip(columns, types, strict=True))
        self._not_owned = dict(query(self.cursor, NOT_OWNED, (schema, self.history)))
        self._tables = history.tables(self.cursor, self.history)
        self._kept = kept_views.by_table(self.cursor, self.history)
        self._partitions: dict[date, dict[str, Obstacle]] = {}
        self._assumed: dict[str, list[str]] = {}  # columns of views after the loads that are assumed

    def refuse(self, load: Load) -> None:
        """Raise RefusedError if objects of people stop a planned load."""
        name = load.table.name
        if name not in self._tables:
            return
        if name in self._not_owned:
            raise RefusedError(load, self._not_owned[name], "Run load/roles/warehouse_loader.sql as an administrator, "
                               "which has its role take it over, then load again")
        have, key = self._tables[name]
        found = [self._of_partition(load)]
        widened = {column: type_ for column, type_ in load.layout.items() if have.get(column, type_) != type_}
        rekeyed = key and key[1] != load.key
        if rekeyed or (key and not widened.keys().isdisjoint(key[1])):
            found.append(obstacles.of_key(self.cursor, self.history, name, widens=not rekeyed))
        if widened:
            found.append(self._of_history(name, have, widened))
        found += self._of_views(name, self._columns(load))
        if obstacle := obstacles.together(found):
            raise RefusedError(load, obstacle.what, str(obstacle.steps))

    def assume(self, load: Load) -> None:
        """Treat a planned load as loaded."""
        self._assumed[load.table.name] = [*self._columns(load)]
        if load.day >= self._shown_day(load):
            self._absent.pop(load.table.name, None)
        self._newest[load.source] = max(load.day, self._newest.get(load.source, load.day))

    def _columns(self, load: Load) -> dict[str, str]:
        """Columns that the table's view has after the load, with types."""
        name = load.table.name
        columns = self._assumed.get(name, self._shown.get(name, ()))
        if load.day >= self._shown_day(load) or not columns:
            columns = [column.name for column in load.table.columns]
        return {column: load.layout.get(history_name(column), "") for column in columns}

    def _shown_day(self, load: Load) -> date:
        """Date that the table's view shows before the load."""
        absent = self._absent.get(load.table.name)
        return absent.shown if absent and absent.without_data else self._newest.get(load.source, load.day)

    def _of_partition(self, load: Load) -> Obstacle | None:
        if load.day not in self._partitions:
            there = history.partitions(self.cursor, self.history, load.day)
            self._partitions[load.day] = obstacles.of_partitions(self.cursor, self.history, load.day, there)
        return self._partitions[load.day].get(load.table.name)

    def _of_history(self, name: str, have: Mapping[str, str], widened: Mapping[str, str]) -> Obstacle | None:
        table = sql.Identifier(self.history, name)
        ours = {self._oids.get(name), *(view.oid for view in self._kept.get(name, ()))}
        return obstacles.of_history(Dependents(self.cursor, table), f"{self.history}.{name}", have, widened, ours)

    def _of_views(self, name: str, wanted: Mapping[str, str]) -> list[Obstacle | None]:
        """Of the newest view, if it is to be replaced, and of the views that keep older columns."""
        label, have = f"{self.schema}.{name}", self._shown.get(name, {})
        found = []
        if [*wanted.items()][:len(have)] != [*have.items()]:
            view = Dependents(self.cursor, sql.Identifier(self.schema, name))
            obstacle = obstacles.of_newest_view(view, label, have, changes(have, wanted))
            found.append(obstacle or view_dry_run.obstacle(self.cursor, self.schema, name, view, wanted))
        return found + [kept_views.in_the_way(self.cursor, self.schema, self.history, kept, wanted)
                        for kept in self._kept.get(name, ())]
