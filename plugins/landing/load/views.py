"""Replaces views and keeps what people built on them: dependent views, grants, comments, triggers.

`CREATE OR REPLACE VIEW` can only append columns. For any other change the view and its dependents are dropped and
created again, in the caller's transaction. Dependents that this session cannot drop keep the view that they have
(kept_views.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.core.errors import WarehouseError, describe
from landing.load.dependents import Dependents
from landing.postgres.query import query

VIEWS = """
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid), c.reloptions, pg_get_userbyid(c.relowner)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""

# Everything that DROP VIEW would lose, as statements that restore it, quoted by the server; with the column of each.
ATTACHED = """
WITH view AS (
    SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS name, c.relowner,
           coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
), granted AS (
    SELECT NULL AS attname, a.* FROM view, aclexplode(view.acl) a
  UNION ALL
    SELECT t.attname, a.* FROM view JOIN pg_attribute t ON t.attrelid = view.oid, aclexplode(t.attacl) a
)
SELECT g.attname, format('GRANT %%s%%s ON %%s TO %%s%%s', g.privilege_type, ' (' || quote_ident(g.attname) || ')',
                         name, coalesce(quote_ident(r.rolname), 'PUBLIC'),
                         CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
FROM view, granted g LEFT JOIN pg_roles r ON r.oid = g.grantee
UNION ALL
SELECT a.attname, CASE WHEN d.objsubid = 0 THEN format('COMMENT ON VIEW %%s IS %%L', name, d.description)
                       ELSE format('COMMENT ON COLUMN %%s.%%I IS %%L', name, a.attname, d.description) END
FROM view JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = view.oid
LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
UNION ALL
SELECT a.attname, format('ALTER VIEW %%s ALTER COLUMN %%I SET DEFAULT %%s', name, a.attname,
                         pg_get_expr(d.adbin, d.adrelid))
FROM view JOIN pg_attrdef d ON d.adrelid = view.oid
JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
UNION ALL
SELECT NULL, pg_get_triggerdef(t.oid) FROM view JOIN pg_trigger t ON t.tgrelid = view.oid AND NOT t.tgisinternal
UNION ALL
SELECT NULL, pg_get_ruledef(r.oid) FROM view JOIN pg_rewrite r ON r.ev_class = view.oid AND r.rulename <> '_RETURN'
"""

# Default privileges of new views are revoked: the dropped view may not have had them.
REVOKES = """
SELECT DISTINCT format('REVOKE ALL ON %%s FROM %%s', %(view)s, coalesce(quote_ident(r.rolname), 'PUBLIC'))
FROM pg_class c
CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE c.oid = to_regclass(%(view)s)
"""


@dataclass(frozen=True)
class SavedView:
    """A dropped view. `attached`: statements that restore the rest, each with the column that it needs, if any."""

    name: sql.Identifier
    label: str
    definition: sql.Composable
    options: sql.Composable
    owner: str
    attached: list[tuple[str | None, str]]

    def create(self, cursor: Cursor) -> None:
        """Create the view again; skip what was attached to columns that it no longer has."""
        cursor.execute(sql.SQL("CREATE VIEW {}{} AS {}").format(self.name, self.options, self.definition))
        cursor.execute(sql.SQL("ALTER VIEW {} OWNER TO {}").format(self.name, sql.Identifier(self.owner)))
        name = self.name.as_string(cursor)
        cursor.execute(REVOKES, {"view": name})
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)", (name,))
        columns = {name for (name,) in cursor.fetchall()}
        for column, statement in self.attached:
            if column is None or column in columns:
                cursor.execute(statement)


def saved(cursor: Cursor, oid: int) -> SavedView:
    """A view as it is."""
    (schema, name, definition, options, owner), = query(cursor, VIEWS, (oid,))
    attached = query(cursor, ATTACHED, {"oid": oid})
    body = sql.SQL(definition.rstrip().rstrip(";"))
    return SavedView(sql.Identifier(schema, name), f"{schema}.{name}", body, with_options(options), owner, attached)


def with_options(options: list[str] | None) -> sql.Composable:
    """`WITH (security_barrier=true)`, as pg_class.reloptions has it."""
    return sql.SQL(f" WITH ({', '.join(options)})" if options else "")


@contextmanager
def without_users(cursor: Cursor, table: sql.Identifier, columns: Collection[str]) -> Iterator[None]:
    """Drop the views that use these columns of a table, for the duration of the block."""
    found = Dependents(cursor, table)
    users = found.above({one.key for one in found.direct if one.uses(columns) and not one.typed})
    views = [saved(cursor, oid) for oid in found.views(users - found.fixed)]
    drop_all(cursor, views)
    yield
    create_all(cursor, views)


def drop_all(cursor: Cursor, views: Sequence[SavedView]) -> None:
    """Drop views that are in creation order."""
    for view in reversed(views):
        with _explained(f"View {view.label} depends on columns that change and cannot be dropped"):
            cursor.execute(sql.SQL("DROP VIEW {}").format(view.name))


def create_all(cursor: Cursor, views: Sequence[SavedView]) -> None:
    for view in views:
        with _explained(f"View {view.label} cannot be created again on the changed columns"):
            view.create(cursor)


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except psycopg2.OperationalError:  # lock timeout or lost connection: not caused by the view
        raise
    except psycopg2.Error as error:
        raise WarehouseError(
            f"{problem}: {describe(error)}. Nothing was loaded. Change or drop the objects named here, then load again."
        ) from error


def replace(
    cursor: Cursor, view: sql.Identifier, select: sql.Composable, keep: Callable[[Dependents], None]
) -> None:
    """Change a view's definition, whatever its columns and its dependents.

    Args:
        keep: Moves the view, with everything that cannot be dropped and created again on the new one, out of the way.
    """
    options = options_of(cursor, view)
    cursor.execute("SAVEPOINT replace_view")
    try:
        put(cursor, view, select, options)
    except pg_errors.InvalidTableDefinition:
        cursor.execute("ROLLBACK TO SAVEPOINT replace_view")
        found = Dependents(cursor, view)
        views = [saved(cursor, oid) for oid in found.views({one.key for one in found.all} - found.fixed)]
        new = dataclasses.replace(saved(cursor, found.root[1]), definition=select)
        drop_all(cursor, views)
        if found.fixed:
            keep(found)
        else:
            drop_all(cursor, [new])
        create_all(cursor, [new, *views])
    cursor.execute("RELEASE SAVEPOINT replace_view")


def options_of(cursor: Cursor, view: sql.Identifier) -> list[str] | None:
    """Options of a view, as pg_class.reloptions has them; None if it has none or does not exist."""
    found = query(cursor, "SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)", (view.as_string(cursor),))
    return found[0][0] if found else None


def put(cursor: Cursor, view: sql.Identifier, select: sql.Composable, options: list[str] | None) -> None:
    """Create a view, or change its definition and add columns; without its options, they would be reset."""
    cursor.execute(sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}").format(view, with_options(options), select))
