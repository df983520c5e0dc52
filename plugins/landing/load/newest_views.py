"""The views of a schema: each shows its table at the newest loaded date of its source."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date

from psycopg2 import sql

from landing.load import comments, kept_views, obstacles, views
from landing.load.comments import EMPTY, GONE, UNLOADED
from landing.load.dependents import Dependents
from landing.load.history import columns_of, history_name
from landing.load.kept_views import KeptView
from landing.load.load_history import Absent, SchemaHistory
from landing.load.locks import LOCK_WAIT
from landing.load.staging import Load
from landing.postgres.query import query

logger = logging.getLogger(__name__)

# Takes the lock that replacing a view takes, and changes nothing. LOCK TABLE would also lock all partitions behind it.
LOCKS = """
SELECT string_agg(format('ALTER VIEW %%I.%%I OWNER TO %%I', n.nspname, c.relname, pg_get_userbyid(c.relowner)), ';'
                  ORDER BY c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND (n.nspname = %s AND c.relname = ANY (%s) OR n.nspname = %s AND c.relname = ANY (%s))
"""

MARKED_GONE = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE c.relkind = 'v' AND d.description LIKE %s
"""


class NewestViews:
    """The views of one schema, in the caller's transaction."""

    def __init__(self, schema: str, load_history: SchemaHistory) -> None:
        self.schema, self.load_history = schema, load_history
        self.cursor, self.history = load_history.cursor, load_history.history
        self._kept: dict[str, list[KeptView]] = {}  # by table, as of the lock

    def lock(self, names: Sequence[str]) -> None:
        """Lock views before the tables behind them, in the order of readers: else both sides deadlock.

        One statement timeout covers all views, so a reader that waits behind one of them waits no longer than that.
        """
        self._kept = kept_views.by_table(self.cursor, self.history)
        kept = [view.name for name in names for view in self._kept.get(name, ())]
        statements, = query(self.cursor, LOCKS, (self.schema, list(names), self.history, kept))[0]
        if statements:
            query(self.cursor, "SELECT set_config('statement_timeout', %s, true)", (f"{int(1000 * LOCK_WAIT)}ms",))
            query(self.cursor, sql.SQL("DO {}").format(sql.Literal(f"BEGIN {statements}; END")))
            query(self.cursor, "SELECT set_config('statement_timeout', '0', true)")

    def release(self, name: str, day: date, stays: Mapping[str, str]) -> None:
        """Have the views of a table use only those of its columns whose type stays; update() points them again."""
        for view in [sql.Identifier(self.schema, name), *(
                sql.Identifier(self.history, kept.name) for kept in self._kept.get(name, ()))]:
            have = columns_of(self.cursor, view)
            missing = {column: type_ for column, type_ in have.items() if stays.get(history_name(column)) != type_}
            if missing:
                views.put(self.cursor, view, kept_views.select(self.history, name, have, day, missing),
                          views.options_of(self.cursor, view))

    def update(self, loads: Sequence[Load]) -> None:
        """Point the views at the newest date of their source.

        The view of a table that it lacks is empty, or keeps its last date if the table holds no data at the source.
        """
        newest, last = self.load_history.newest(), self.load_history.last()
        new = {load.table.name: load for load in loads}
        notices: dict[str, str | None] = {}
        for name, absent in self.load_history.absent().items():
            columns = self.columns(name)
            if name in new and (not columns or (absent and absent.shown == new[name].day)):
                columns = [column.name for column in new[name].table.columns]
            if columns and absent:
                self.point(name, columns, absent.shown)
            if columns:
                notices[name] = self._notice(absent)
        shown = {load.table.name: load for load in loads if load.day == newest[load.source]}
        for name, day in self.stale().items():
            if name not in shown:
                self.point(name, self.columns(name), day)
                notices[name] = None
        for load in loads:
            if load.table.name not in {*shown, *notices}:  # an older date, which may have widened columns
                self.point(load.table.name, self.columns(load.table.name), newest[load.source])
        for name, load in shown.items():
            self.point(name, [column.name for column in load.table.columns], load.day)
            notices[name] = None
        described = {load.table.name: load.table for load in loads if load.day == last[load.table.name]}
        comments.put(self.cursor, self.schema, self.history, described, notices)

    def _notice(self, absent: Absent | None) -> str:
        """First line of the comment of a view whose table the newest date lacks."""
        if absent is None:
            return f"{UNLOADED}."
        if absent.without_data:
            return f"{EMPTY}{absent.since}: shows {absent.shown}."
        return f"{GONE}{absent.since}: see {self.history}."

    def restore(self, tables: Sequence[tuple[str, date]]) -> None:
        """Point the views of tables at these dates, with the columns that each view has."""
        for name, day in tables:
            if columns := self.columns(name):
                self.point(name, columns, day)
        comments.put(self.cursor, self.schema, self.history, {}, {name: None for name, _ in tables})

    def stale(self) -> dict[str, date]:
        """Tables of the newest date whose view is still marked as gone, with that date.

        Older versions left this behind when they loaded only some of the sources.
        """
        marked = {name for name, in query(self.cursor, MARKED_GONE, (self.schema, f"{GONE}%"))}
        if not marked:
            return {}
        gone = self.load_history.absent()
        return {name: day for name, day in self.load_history.last().items() if name in marked and name not in gone}

    def columns(self, name: str) -> list[str]:
        """Columns of a view; empty if it does not exist."""
        return list(columns_of(self.cursor, sql.Identifier(self.schema, name)))

    def point(self, name: str, columns: Sequence[str], day: date) -> None:
        """Replace one view by these columns of one date; point the views at it that keep older columns."""
        if columns:
            views.replace(self.cursor, sql.Identifier(self.schema, name),
                          kept_views.select(self.history, name, columns, day), lambda found: self._keep(
                              name, columns, found))
        if kept := self._kept.get(name):
            wanted = self._wanted(name, columns)
            for view in kept:
                kept_views.point(self.cursor, self.schema, self.history, view, wanted, day)

    def _keep(self, name: str, columns: Sequence[str], found: Dependents) -> None:
        """Move a view to history, with the objects that cannot be created again on the new one."""
        label, relation = f"{self.schema}.{name}", sql.Identifier(self.schema, name)
        have, options = columns_of(self.cursor, relation), views.options_of(self.cursor, relation)
        changes = kept_views.changes(have, self._wanted(name, columns))
        if obstacle := obstacles.of_newest_view(found, label, have, changes):
            raise obstacle.error()
        fixed = found.fixed
        view = kept_views.keep(self.cursor, self.schema, self.history, name, options)
        self._kept.setdefault(name, []).append(view)
        logger.warning("The columns of %s changed. %s stays on the old ones, in %s.%s. Create it again on %s.", label,
                       ", ".join(str(one) for one in found.direct if one.key in fixed), self.history, view.name, label)

    def _wanted(self, name: str, columns: Sequence[str]) -> dict[str, str]:
        """Types of columns of a view, as history has them; of all columns if a person dropped the view."""
        types = columns_of(self.cursor, sql.Identifier(self.history, name))
        return {column: types[history_name(column)] for column in columns} or types
