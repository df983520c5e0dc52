"""Views replaced together with what people built on them: their own views, grants and comments survive.

`CREATE OR REPLACE VIEW` can only add columns at the end. Where more changes, the view and all that depends on it are
taken down and built up again, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.errors import WarehouseError, describe

DEPENDENTS = """
WITH RECURSIVE dependent AS (
    SELECT %(relation)s::regclass::oid AS oid, 0 AS depth
  UNION
    SELECT r.ev_class, d.depth + 1
    FROM dependent d
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = d.oid
                    AND p.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = p.objid AND r.ev_class <> d.oid
)
SELECT c.oid, n.nspname, c.relname, c.relkind::text, pg_get_viewdef(c.oid), pg_get_userbyid(c.relowner), c.reloptions
FROM dependent d
JOIN pg_class c ON c.oid = d.oid AND c.relkind IN ('v', 'm')
JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY c.oid, n.nspname
ORDER BY max(d.depth), n.nspname, c.relname
"""

# Table and column grants, column NULL for the former; grantee NULL for PUBLIC.
GRANTS = """
SELECT granted.privilege_type, granted.column_name, r.rolname, granted.is_grantable
FROM (SELECT a.privilege_type, NULL AS column_name, a.grantee, a.is_grantable
      FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = %(oid)s
      UNION ALL
      SELECT a.privilege_type, t.attname, a.grantee, a.is_grantable
      FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE t.attrelid = %(oid)s) granted
LEFT JOIN pg_roles r ON r.oid = granted.grantee
"""

COMMENTS = """
SELECT a.attname, d.description
FROM pg_description d
LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %(oid)s
"""


@dataclass(frozen=True)
class SavedView:
    """A view, and all that would be lost with it."""

    name: sql.Identifier
    label: str
    definition: str
    owner: str
    options: list[str]
    grants: list[tuple[str, str | None, str | None, bool]]
    comments: list[tuple[str | None, str]]

    def create(self, cursor: Cursor, select: sql.Composable | None = None) -> None:
        """Build it up again, over `select` instead of its old definition where that is given."""
        options = sql.SQL(" WITH ({})").format(sql.SQL(", ".join(self.options))) if self.options else sql.SQL("")
        body = select or sql.SQL(self.definition.rstrip().rstrip(";"))
        cursor.execute(sql.SQL("CREATE VIEW {}{} AS {}").format(self.name, options, body))
        cursor.execute(sql.SQL("ALTER VIEW {} OWNER TO {}").format(self.name, sql.Identifier(self.owner)))
        columns = {column.name for column in _columns(cursor, self.name)}
        for privilege, column, grantee, grantable in self.grants:
            if column is not None and column not in columns:
                continue
            what = sql.SQL(privilege) + (sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL(""))
            whom = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
            more = sql.SQL(" WITH GRANT OPTION" if grantable else "")
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}{}").format(what, self.name, whom, more))
        for column, text in self.comments:
            if column is None:
                cursor.execute(sql.SQL("COMMENT ON VIEW {} IS %s").format(self.name), (text,))
            elif column in columns:
                target = sql.SQL("{}.{}").format(self.name, sql.Identifier(column))
                cursor.execute(sql.SQL("COMMENT ON COLUMN {} IS %s").format(target), (text,))


def _columns(cursor: Cursor, name: sql.Identifier) -> list:
    cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(name))
    return list(cursor.description)


def dependents(cursor: Cursor, relation: sql.Identifier) -> list[SavedView]:
    """Views on a table or view, and the views on those, in the order in which they can be built; itself if a view."""
    cursor.execute(DEPENDENTS, {"relation": relation.as_string(cursor)})
    saved = []
    for oid, schema, name, kind, definition, owner, options in cursor.fetchall():
        if kind == "m":
            raise WarehouseError(
                f"Materialized view {schema}.{name} stands on columns that have to change. Nothing was loaded. Drop "
                "it, load again, and create it anew."
            )
        cursor.execute(GRANTS, {"oid": oid})
        grants = cursor.fetchall()
        cursor.execute(COMMENTS, {"oid": oid})
        saved.append(SavedView(sql.Identifier(schema, name), f"{schema}.{name}", definition, owner, options or [],
                               grants, cursor.fetchall()))
    return saved


@contextmanager
def taken_down(cursor: Cursor, relation: sql.Identifier) -> Iterator[list[SavedView]]:
    """Drop what depends on a relation (and itself, if it is a view) for the time of the block.

    The block removes from the list what it has built up itself; the rest comes back as it was.
    """
    views = dependents(cursor, relation)
    for view in reversed(views):
        cursor.execute(sql.SQL("DROP VIEW {}").format(view.name))
    yield views
    for view in views:
        try:
            view.create(cursor)
        except psycopg2.Error as error:
            raise WarehouseError(
                f"View {view.label} cannot stand on the new columns: {describe(error)}. Nothing was loaded. Change or "
                "drop that view, and load again."
            ) from error


def replace(cursor: Cursor, view: sql.Identifier, select: sql.Composable) -> None:
    """Give a view a new definition, whatever changes in its columns, and whatever stands on it."""
    cursor.execute("SAVEPOINT replace_view")
    try:
        cursor.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, select))
    except pg_errors.InvalidTableDefinition:
        cursor.execute("ROLLBACK TO SAVEPOINT replace_view")
        with taken_down(cursor, view) as views:
            views.pop(0).create(cursor, select)
    cursor.execute("RELEASE SAVEPOINT replace_view")
