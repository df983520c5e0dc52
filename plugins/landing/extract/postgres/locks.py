"""ACCESS SHARE locks on what an extract reads, so that no TRUNCATE or ALTER changes it meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.errors import SourceError, describe
from landing.extract.postgres.relations import Key, reads

LOCKABLE_VIEWS = 110000  # first server version whose LOCK accepts views, and locks what they read

# Sessions that hold an exclusive lock on any of these tables.
HOLDERS = """
SELECT string_agg(DISTINCT format('%%s.%%s by pid %%s (user %%s)', n.nspname, c.relname, a.pid, a.usename), ', ')
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.mode = 'AccessExclusiveLock'
  AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

# Tables that the role may not read.
DENIED = """
SELECT string_agg(format('%%s.%%s', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
  AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
"""

# Codes of errors that pass: serialization, resources, locks, an administrator. A lost connection has none.
PASSING = ("40", "53", "55P03", "55006", "57", "58030")


def passes(error: psycopg2.Error) -> bool:
    """Whether running again may help."""
    return error.pgcode is None or error.pgcode.startswith(PASSING)


def lock_tables(cursor: Any, keys: Sequence[Key]) -> None:
    """Lock tables.

    Raises:
        SourceError: Permission denied, timed out, or more locks than the server allows.
    """
    if keys:
        with _locking(cursor, keys):
            cursor.execute(_lock_statement(keys))


def _lock_statement(keys: Sequence[Key]) -> sql.Composed:
    names = sql.SQL(", ").join(sql.Identifier(*key) for key in keys)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names)


def lock_views(cursor: Any, views: Sequence[Key]) -> None:
    """Lock views and, with their owners' privileges, what they read.

    An owner with privileges on single columns cannot lock the table; then lock_by_planning() has to.
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


def lock_by_planning(cursor: Any, key: Key) -> None:
    """Plan a query on a view, which locks everything it reads until the transaction ends."""
    with _locking(cursor, [key]):
        try:
            cursor.execute(sql.SQL("EXPLAIN SELECT FROM {}").format(sql.Identifier(*key)))
        except (psycopg2.OperationalError, pg_errors.InsufficientPrivilege):
            raise
        except psycopg2.Error as error:
            raise SourceError(f"View {'.'.join(key)} could not be read: {describe(error)}. Nothing was committed; "
                              "correct it, or deselect it (select), and run again.") from error


@contextlib.contextmanager
def _locking(cursor: Any, keys: Sequence[Key]) -> Iterator[None]:
    """Translate lock errors into SourceError."""
    try:
        yield
    except pg_errors.LockNotAvailable as error:
        cursor.execute("ROLLBACK")
        names = sorted({one.key for one in reads(cursor, keys)})
        cursor.execute(HOLDERS, ([schema for schema, _ in names], [table for _, table in names]))
        raise SourceError(
            "Timed out waiting for table locks (the source's lock_timeout). Exclusive locks are held on "
            f"{cursor.fetchone()[0] or 'none of the tables any more'}. Nothing was committed. Run again when those "
            "sessions have ended."
        ) from error
    except pg_errors.OutOfMemory as error:
        raise SourceError(
            f"A snapshot of {len(keys)} tables needs at least one lock per table, more than the source's server allows "
            f"({describe(error)}). Raise max_locks_per_transaction there (double it, say), restart it, and run again."
        ) from error
    except pg_errors.InsufficientPrivilege as error:
        cursor.execute("ROLLBACK")
        cursor.execute(DENIED, ([schema for schema, _ in keys], [table for _, table in keys]))
        denied = " ".join(filter(None, [cursor.fetchone()[0], f"({describe(error)})"]))
        raise SourceError(
            f"Permission denied on source tables: {denied}. Nothing was landed. Run "
            "extract/roles/source_reader.sql there to grant what the role needs, or exclude the table "
            "(filter_schemas, select); then run again."
        ) from error
