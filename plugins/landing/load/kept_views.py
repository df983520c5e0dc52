"""Views that keep columns that other people's objects use, after the newest view has others.

An object follows the view that it was created on, whatever that view's name becomes. If columns of <schema>.<table>
change, and an object that a load cannot drop uses none of those, the view moves to <schema>_history, as
<table>@view-<number>, and a new one takes its place. Each load points the kept view at the newest date, with its own
columns and types; those that changed are NULL. A load drops it once nothing depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.load import obstacles, views
from landing.load.dependents import Dependents
from landing.load.history import PARTITION_KEY, columns_of, history_name, short_name
from landing.load.obstacles import Obstacle
from landing.postgres.query import query

KEPT = """
SELECT DISTINCT t.relname, c.relname, c.oid, c.reloptions
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_rewrite r ON r.ev_class = c.oid
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class t ON t.oid = d.refobjid AND t.relnamespace = c.relnamespace AND t.relkind = 'p'
WHERE c.relkind = 'v' AND c.relname ~ '@view-[0-9]+$'
ORDER BY 1, 2
"""
TAKEN = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relname ~ '@view-[0-9]+$'
"""

NONE: Mapping[str, str] = {}
NAMED = 5  # objects that a comment names at most
# With and without their schema: a kept view, and what it was called.
NAMES = """
SELECT format('%%I.%%I', h, k), format('%%I.%%I', s, t), quote_ident(k), quote_ident(t)
FROM (VALUES (%s, %s, %s, %s)) v(h, k, s, t)
"""

# Statements that take from a kept view the privileges that nobody has on the newest view any more; on columns of both.
WITHDRAWN = """
WITH view AS (
    SELECT c.oid, c.relowner, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl,
           c.oid = to_regclass(%(kept)s) AS kept
    FROM pg_class c
    WHERE c.oid IN (to_regclass(%(kept)s), to_regclass(%(newest)s)) AND to_regclass(%(newest)s) IS NOT NULL
), granted AS (
    SELECT v.kept, NULL AS attname, a.privilege_type, a.grantee
    FROM view v, aclexplode(v.acl) a WHERE a.grantee <> v.relowner
  UNION ALL
    SELECT v.kept, t.attname, a.privilege_type, a.grantee
    FROM view v JOIN pg_attribute t ON t.attrelid = v.oid, aclexplode(t.attacl) a
    WHERE EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = to_regclass(%(newest)s) AND n.attname = t.attname)
)
SELECT format('REVOKE %%s%%s ON %%s FROM %%s CASCADE', o.privilege_type, ' (' || quote_ident(o.attname) || ')',
              %(kept)s, coalesce(quote_ident(r.rolname), 'PUBLIC'))
FROM (SELECT attname, privilege_type, grantee FROM granted WHERE kept
      EXCEPT SELECT attname, privilege_type, grantee FROM granted WHERE NOT kept) o
LEFT JOIN pg_roles r ON r.oid = o.grantee
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptView:
    """A view in history that keeps columns of a table."""

    table: str
    name: str
    oid: int
    options: list[str] | None


def by_table(cursor: Cursor, history: str) -> dict[str, list[KeptView]]:
    """Kept views by table."""
    found: dict[str, list[KeptView]] = {}
    for row in query(cursor, KEPT, (history,)):
        found.setdefault(row[0], []).append(KeptView(*row))
    return found


def select(
    history: str, table: str, columns: Iterable[str], day: date, missing: Mapping[str, str] = NONE
) -> sql.Composed:
    """SELECT of columns of a table at a date; those of `missing` are NULL of that type."""
    fields = sql.SQL(", ").join(
        sql.SQL("NULL::{} AS {}").format(sql.SQL(missing[column]), sql.Identifier(column)) if column in missing else
        sql.SQL("{} AS {}").format(sql.Identifier(history_name(column)), sql.Identifier(column)) for column in columns)
    return sql.SQL("SELECT {} FROM {} WHERE {} = {}::date").format(
        fields, sql.Identifier(history, table), sql.Identifier(PARTITION_KEY), sql.Literal(day.isoformat()))


def changes(have: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Columns of a view that it will not have as they are, with the new type, or None where they go."""
    return {column: wanted.get(column) for column, type_ in have.items() if wanted.get(column) != type_}


def keep(cursor: Cursor, schema: str, history: str, table: str, options: list[str] | None) -> KeptView:
    """Move a newest view to history."""
    taken = {name for name, in query(cursor, TAKEN, ([schema, history],))}
    number = 1
    while (name := kept_name(table, number)) in taken:
        number += 1
    rename = "ALTER VIEW {} RENAME TO {}; ALTER VIEW {} SET SCHEMA {}"
    query(cursor, sql.SQL(rename).format(sql.Identifier(schema, table), sql.Identifier(name),
                                         sql.Identifier(schema, name), sql.Identifier(history)))
    oid, = query(cursor, "SELECT to_regclass(%s)::oid", (sql.Identifier(history, name).as_string(cursor),))[0]
    return KeptView(table, name, oid, options)


def kept_name(table: str, number: int) -> str:
    """Name of a kept view of a table."""
    return short_name(table, f"@view-{number}")


def in_the_way(
    cursor: Cursor, schema: str, history: str, view: KeptView, wanted: Mapping[str, str]
) -> Obstacle | None:
    """What uses a column of a kept view that the newest view will not have as it is."""
    relation = sql.Identifier(history, view.name)
    have = columns_of(cursor, relation)
    kept, shown, kept_name, shown_name = query(cursor, NAMES, (history, view.name, schema, view.table))[0]
    names = {kept: shown, kept_name: shown_name}
    return obstacles.of_kept_view(Dependents(cursor, relation), f"{schema}.{view.table}", have, changes(have, wanted),
                                  names)


def point(cursor: Cursor, schema: str, history: str, view: KeptView, wanted: Mapping[str, str], day: date) -> None:
    """Point a kept view at a date of its table, whose columns are `wanted`; drop it if nothing is built on it.

    Raises:
        WarehouseError: Something uses a column that changes.
    """
    relation, label = sql.Identifier(history, view.name), f"{schema}.{view.table}"
    found = Dependents(cursor, relation)
    if not found.all:
        logger.info("%s.%s: nothing is built on it any more. Dropped.", history, view.name)
        query(cursor, sql.SQL("DROP VIEW IF EXISTS {}").format(relation))
        return
    have = columns_of(cursor, relation)
    missing = changes(have, wanted)
    if obstacle := in_the_way(cursor, schema, history, view, wanted):
        raise obstacle.error()
    views.put(cursor, relation, select(history, view.table, have, day, {column: have[column] for column in missing}),
              view.options)
    newest = sql.Identifier(schema, view.table).as_string(cursor)
    for (statement,) in query(cursor, WITHDRAWN, {"kept": relation.as_string(cursor), "newest": newest}):
        query(cursor, statement)
    names = ", ".join(str(one) for one in found.direct[:NAMED]) + (" and others" if found.direct[NAMED:] else "")
    text = f"Columns of {label} as they were, for {names}. The load after the last of them left drops this view."
    text += f" NULL here: {', '.join(missing)}." if missing else ""
    query(cursor, sql.SQL("COMMENT ON VIEW {} IS {}").format(relation, sql.Literal(text)))
