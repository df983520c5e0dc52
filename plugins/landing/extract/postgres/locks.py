"""One moment of a source database, read by several connections at once, large tables in pieces.

    database        holds locks and exports its snapshot (repeatable read); copies only what a worker can't
    worker          a transaction of that very snapshot, one table or piece after the other

All relations that the selected tables and views read are locked (ACCESS SHARE) until the end: tables and views before
the snapshot is taken. LOCK does not take materialized views; they are locked by planning a query on them right after
it, and if a file was replaced in between (REFRESH, TRUNCATE), the snapshot is taken again.

A piece is a range of a table's pages (`ctid`): read in order, the pieces are the table as one COPY would give it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.errors import SourceError, describe
from landing.extract.postgres.relations import reads

LOCKABLE_VIEWS = 110000  # the first whose LOCK takes views, and locks what they read

# Who keeps everyone out of tables.
HOLDERS = """
SELECT string_agg(DISTINCT format('%%s.%%s by pid %%s (user %%s)', n.nspname, c.relname, a.pid, a.usename), ', ')
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.mode = 'AccessExclusiveLock'
  AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


def lock_tables(cursor: Any, keys: Sequence[tuple[str, str]]) -> None:
    if keys:
        with _locking(cursor, keys):
            cursor.execute(_lock_statement(keys))


def _lock_statement(keys: Sequence[tuple[str, str]]) -> sql.Composed:
    names = sql.SQL(", ").join(sql.Identifier(*key) for key in keys)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names)


def lock_views(cursor: Any, views: Sequence[tuple[str, str]]) -> None:
    """Lock views and what they read, with their owners' rights.

    An owner who may read single columns may not lock the table: then planning has to lock it; see _plan().
    """
    if not views or cursor.connection.server_version < LOCKABLE_VIEWS:
        return
    cursor.execute("SAVEPOINT views")
    with _locking(cursor, views):
        try:
            cursor.execute(_lock_statement(views))
        except pg_errors.InsufficientPrivilege:
            cursor.execute("ROLLBACK TO SAVEPOINT views")
    cursor.execute("RELEASE SAVEPOINT views")


def lock_by_planning(cursor: Any, key: tuple[str, str]) -> None:
    """Plan a query on a view, which locks all that it reads until the transaction ends."""
    with _locking(cursor, [key]):
        try:
            cursor.execute(sql.SQL("EXPLAIN SELECT FROM {}").format(sql.Identifier(*key)))
        except (psycopg2.OperationalError, pg_errors.InsufficientPrivilege):
            raise
        except psycopg2.Error as error:
            raise SourceError(f"View {'.'.join(key)} could not be read: {describe(error)}. Nothing was committed; "
                              "mend it, or leave it out (select), and run again.") from error


@contextlib.contextmanager
def _locking(cursor: Any, keys: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Translate the errors of taking locks into SourceErrors."""
    try:
        yield
    except pg_errors.LockNotAvailable as error:
        cursor.execute("ROLLBACK")
        names = sorted({one.key for one in reads(cursor, keys)})
        cursor.execute(HOLDERS, ([schema for schema, _ in names], [table for _, table in names]))
        raise SourceError(
            "Somebody keeps tables locked for longer than the source's lock_timeout lets us wait: "
            f"{cursor.fetchone()[0] or 'gone now'}. Nothing was committed; run again when they have ended."
        ) from error
    except pg_errors.OutOfMemory as error:
        raise SourceError(
            f"A snapshot of {len(keys)} tables takes as many locks and more, and the source's server has not so many "
            f"({describe(error)}). Raise max_locks_per_transaction there (twofold, say), restart it, and run again."
        ) from error
    except pg_errors.InsufficientPrivilege as error:
        raise SourceError(
            f"The source lets its tables not be read: {describe(error)}. Nothing was landed. Run "
            "extract/roles/source_reader.sql there for the rights that the role needs, or leave the table out "
            "(filter_schemas, select); then run again."
        ) from error
