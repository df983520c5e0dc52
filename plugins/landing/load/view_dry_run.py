"""A dry run of the views that a load drops and creates again: on a temporary view with the new columns.

Their definitions are printed without the schemas of the views, so that the temporary ones, which are found first, take
their places. Nothing is locked, and everything is rolled back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import cursor as Cursor

from landing.core.errors import describe
from landing.load.dependents import Dependents
from landing.load.obstacles import Obstacle
from landing.postgres.query import query
from landing.postgres.transaction import begin

SEARCH_PATH = """
SELECT set_config('search_path', (
    SELECT string_agg(quote_ident(name), ', ' ORDER BY name <> %(schema)s, name) FROM (
        SELECT %(schema)s AS name UNION SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%(views)s)) names), true)
"""
DEFINITIONS = """
SELECT c.oid, c.relname, pg_get_viewdef(c.oid), pg_table_is_visible(c.oid) FROM pg_class c WHERE c.oid = ANY (%s)
"""


def obstacle(cursor: Cursor, schema: str, table: str, found: Dependents, wanted: Mapping[str, str]) -> Obstacle | None:
    """The first view on a newest view that cannot be created again on the columns `wanted`, if there is one."""
    views = found.views({one.key for one in found.all} - found.fixed)
    if not views:
        return None
    with _rolled_back(cursor):
        query(cursor, SEARCH_PATH, {"schema": schema, "views": views})
        definitions = {oid: more for oid, *more in query(cursor, DEFINITIONS, (views,))}
        nulls = sql.SQL(", ").join(sql.SQL("NULL::{} AS {}").format(sql.SQL(type_), sql.Identifier(column))
                                   for column, type_ in wanted.items())
        query(cursor, sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {}").format(sql.Identifier(table), nulls))
        failed, reason = _first_failure(cursor, views, definitions)
    if failed is None:
        return None
    view = next(one for one in found.all if one.oid == failed)
    return Obstacle(f"{view} cannot be created again on the new columns of {schema}.{table}: {reason}",
                    found.steps([view]))


def _first_failure(
    cursor: Cursor, views: list[int], definitions: Mapping[int, tuple[str, str, bool]]
) -> tuple[int | None, str]:
    for oid in views:
        name, definition, visible = definitions[oid]
        if not visible:  # two views of one name: not tried, nor is what may be built on it
            break
        try:
            query(cursor, sql.SQL("CREATE TEMPORARY VIEW {} AS {}").format(sql.Identifier(name), sql.SQL(definition)))
        except psycopg2.ProgrammingError as error:
            return oid, describe(error)
    return None, ""


@contextlib.contextmanager
def _rolled_back(cursor: Cursor) -> Iterator[None]:
    """A transaction, or a part of the open one, that is rolled back."""
    if cursor.connection.info.transaction_status == TRANSACTION_STATUS_IDLE:
        begin(cursor)
        undo = "ROLLBACK"
    else:
        cursor.execute("SAVEPOINT dry_run_of_views")
        undo = "ROLLBACK TO SAVEPOINT dry_run_of_views"
    try:
        yield
    finally:
        cursor.execute(undo)
