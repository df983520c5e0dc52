"""Tables of history: one partition per date; columns and types hold the values of every partition."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from psycopg2 import sql

from landing.load import views
from landing.model.evolution import cast_keeps_text
from landing.model.naming import short_hash
from landing.model.schema import NAME_BYTES
from landing.postgres.copy import identifiers, stored

PARTITION_KEY = "extracted_at"
STAGING = "_staging_"  # prefix of tables that are not attached yet, or are detached

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

TABLES = """
SELECT t.relname, c.conname,
       ARRAY(SELECT k.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS part(attnum, position)
             JOIN pg_attribute k ON k.attrelid = t.oid AND k.attnum = part.attnum ORDER BY part.position),
       array_agg(a.attname::text ORDER BY a.attnum), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = %s
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype = 'p'
WHERE t.relkind = 'p'
GROUP BY t.oid, c.oid
"""

KEY = "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'"

PARTITIONS = """
SELECT p.relname, day::date, c.relname
FROM pg_class p
JOIN pg_namespace n ON n.oid = p.relnamespace AND n.nspname = %s
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL substring(pg_get_expr(c.relpartbound, c.oid) FROM '\\d{4}-\\d\\d-\\d\\d') AS day
WHERE p.relkind = 'p' AND day = ANY (coalesce(%s::date[]::text[], ARRAY[day]))
"""

# Partitions that may be empty. Statistics lag behind, so each candidate is read.
MAYBE_EMPTY = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
WHERE c.relname = ANY (%s) AND (pg_stat_get_live_tuples(c.oid) = 0 OR pg_relation_size(c.oid) = 0)
"""
BATCH = 200  # partitions per statement
logger = logging.getLogger(__name__)


def history_name(name: str) -> str:
    """Name of a source's column in history, where the partition key's name is reserved."""
    return name + "_" if re.fullmatch(f"{PARTITION_KEY}_*", name) else name


def history_key(primary_key: Sequence[str], have: Sequence[str] = ()) -> list[str]:
    """Key of a table in history: the source's key, then the partition key. Empty without a key.

    A partition's rows all have one date: an index that begins with it takes longer to sort, and finds no row by the
    source's key alone.

    Args:
        primary_key: The source's key.
        have: The key that the table has. If it begins with the partition key it stays so: an index of a partition has
            the order of its table's.
    """
    key = [*map(history_name, primary_key), PARTITION_KEY] if primary_key else []
    date_first = key[-1:] + key[:-1]
    return date_first if [*have] == date_first else key


def partition_name(table: str, day: date, reserved: Collection[str] = ()) -> str:
    """Name of a partition; a hash shortens one that is too long or reserved."""
    return short_name(table, f"@{day}", reserved)


def key_name(table: str, day: date, reserved: Collection[str] = ()) -> str:
    """Name of a partition's primary key and its index."""
    return short_name(table, f"@{day}_pkey", reserved)


def constraint_name(table: str, day: date, column: str, kind: str) -> str:
    """Name of a partition's constraint on one column."""
    return short_name(f"{table}@{day}_{column}", f"_{kind}")


def short_name(name: str, suffix: str, reserved: Collection[str] = ()) -> str:
    """`name` with `suffix`; a hash shortens `name` if both are too long or reserved."""
    if len((name + suffix).encode()) <= NAME_BYTES and name + suffix not in reserved:
        return name + suffix
    ending = f"~{short_hash(name)}{suffix}"
    return name.encode()[:min(40, NAME_BYTES - len(ending))].decode(errors="ignore") + ending


def partitions(cursor: Any, history: str, day: date) -> dict[str, str]:
    """Partitions of a date by table."""
    return {table: partition for (table, _), partition in all_partitions(cursor, history, day).items()}


def all_partitions(cursor: Any, history: str, *days: date) -> dict[tuple[str, date], str]:
    """Partitions by table and date, of these dates or of all."""
    cursor.execute(PARTITIONS, (history, [*days] or None))
    return {(table, day): partition for table, day, partition in cursor.fetchall()}


def empty(cursor: Any, history: str, partitions: Collection[str]) -> set[str]:
    """The partitions without rows."""
    cursor.execute(MAYBE_EMPTY, (history, list(partitions)))
    names, found = [name for name, in cursor.fetchall()], set()
    for start in range(0, len(names), BATCH):
        selects = [sql.SQL("SELECT {} WHERE NOT EXISTS (SELECT FROM {})").format(
            sql.Literal(name), sql.Identifier(history, name)) for name in names[start:start + BATCH]]
        cursor.execute(sql.SQL(" UNION ALL ").join(selects))
        found |= {name for name, in cursor.fetchall()}
    return found


def tables(cursor: Any, history: str) -> dict[str, tuple[dict[str, str], tuple[str, list[str]] | None]]:
    """Every table of history: types by column, in order; name and columns of its primary key, or None."""
    cursor.execute(TABLES, (history,))
    return {name: (dict(zip(columns, types, strict=True)), (constraint, key) if constraint else None)
            for name, constraint, key, columns, types in cursor.fetchall()}


def columns_of(cursor: Any, relation: sql.Identifier) -> dict[str, str]:
    """Types by column, in order; empty if the relation does not exist."""
    cursor.execute(COLUMNS, (relation.as_string(cursor),))
    return dict(cursor.fetchall())


def layout(have: Mapping[str, str], need: Mapping[str, str]) -> dict[str, str]:
    """Columns of a table of history and its partitions, in order, after a load.

    Args:
        have: Its columns now, with types; empty if it does not exist yet.
        need: The columns of the load.
    """
    return {**(have or {PARTITION_KEY: "date"}), **need}


def exact_types(cursor: Any, types: Sequence[str]) -> list[str]:
    """Types by PostgreSQL's own names: a declared type may be `int` or `varchar(9)`."""
    temporary = sql.Identifier("pg_temp", "landing_types")
    fields = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(str(i)), sql.SQL(type_))
                                for i, type_ in enumerate(types))
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_types ({})").format(fields))
    try:
        return list(columns_of(cursor, temporary).values())
    finally:
        cursor.execute(sql.SQL("DROP TABLE {}").format(temporary))


def fields(columns: Mapping[str, str]) -> sql.Composed:
    """Column definitions of CREATE TABLE. Types must match schema.TYPE: they are not quoted."""
    return sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
                              for name, type_ in columns.items())


class HistoryTable:
    """One table of history, in the caller's transaction.

    Args:
        columns: Types by column; None or empty if the table does not exist yet.
        key: Name and columns of its primary key, if any.
    """

    def __init__(
        self, cursor: Any, history: str, name: str, columns: Mapping[str, str] | None = None,
        key: tuple[str, list[str]] | None = None,
    ) -> None:
        self.cursor, self.history, self.name, self.key = cursor, history, name, key
        self.columns = dict(columns or {})
        self.relation = sql.Identifier(history, name)

    def reconcile(self, need: Mapping[str, str], key: list[str]) -> None:
        """Create the table, or change its columns and key so that it holds a load."""
        if self.columns:
            self._alter(self.columns, need)
            self._rekey(key)
        else:
            self._create(need, key)
        self.columns = layout(self.columns, need)

    def _create(self, need: Mapping[str, str], key: list[str]) -> None:
        unique = sql.SQL(", PRIMARY KEY ({})").format(identifiers(key)) if key else sql.SQL("")
        self.cursor.execute(sql.SQL("CREATE TABLE {} ({date} date NOT NULL, {}{}) PARTITION BY LIST ({date})").format(
            self.relation, fields(need), unique, date=sql.Identifier(PARTITION_KEY)))

    def _alter(self, have: Mapping[str, str], need: Mapping[str, str]) -> None:
        """Add columns and widen types, all in one rewrite of the table."""
        actions, widens = [], []
        for name, type_ in need.items():
            if name not in have:
                logger.info("%s: new column %s %s; NULL in older partitions.", self.name, name, type_)
                actions.append(sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(type_)))
            elif have[name] != type_:
                logger.info("%s.%s: %s widens to %s.", self.name, name, have[name], type_)
                actions.append(_widening(name, have[name], type_))
                widens.append(name)
        if actions:
            with views.without_users(self.cursor, self.relation, widens) if widens else contextlib.nullcontext():
                self.cursor.execute(sql.SQL("ALTER TABLE {} {}").format(self.relation, sql.SQL(", ").join(actions)))

    def _rekey(self, key: list[str]) -> None:
        """Drop the table's key if it changed; each partition still gets its own."""
        constraint, old = self.key or (None, key)
        if old == key:
            return
        logger.warning("%s: the primary key changed from %s to %s. Partitions loaded from now on have their own; the "
                       "history table has none.", self.name, _of_source(old), _of_source(key) or "none")
        nullable = [sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name))
                    for name in old if name != PARTITION_KEY]
        self.cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
            self.relation, sql.Identifier(constraint)))
        self.cursor.execute(sql.SQL("ALTER TABLE {} {}").format(self.relation, sql.SQL(", ").join(nullable)))

    def attach(self, staging: str, day: date, old: str | None, reserved: Collection[str] = ()) -> None:
        """Make a staging table the partition of a date.

        Args:
            staging: A table with the columns of layout().
            day: The date.
            old: The partition that it replaces, if any.
            reserved: Names that the partition must not have.
        """
        table = sql.Identifier(self.history, staging)
        if old:
            self.retire(old)
        name = partition_name(self.name, day, reserved)
        self.cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(name)))
        self._rename_key(table=name, new=key_name(self.name, day, reserved))
        self.cursor.execute(sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
            self.relation, sql.Identifier(self.history, name), sql.Literal(day.isoformat())))

    def retire(self, partition: str) -> None:
        """Detach a partition and rename it to a staging table. Dropping it here would need ten more locks."""
        relation, name = sql.Identifier(self.history, partition), STAGING + secrets.token_hex(8)
        self.cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(self.relation, relation))
        self.cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(relation, sql.Identifier(name)))
        self._rename_key(name, f"{name}_pkey")

    def _rename_key(self, table: str, new: str) -> None:
        """Rename the primary key of a table of history and its index, if there is one."""
        self.cursor.execute(KEY, (sql.Identifier(self.history, table).as_string(self.cursor),))
        for (key,) in self.cursor.fetchall():
            self.cursor.execute(sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(self.history, key), sql.Identifier(new)))


def _of_source(key: Sequence[str]) -> list[str]:
    return [name for name in key if name != PARTITION_KEY]


def _widening(name: str, old: str, type_: str) -> sql.Composed:
    """ALTER COLUMN to a wider type, through the text of the values (see evolution.py) where a cast differs from it.

    Do not use `IS NULL`, `IS TRUE` or named arguments in USING: PostgreSQL parses it again for each partition, and the
    first parse changes these in place, so that in a partition with another column order they fail or read the wrong
    column. num_nulls() is safe, and does not look into composite values.
    """
    column, type_ = sql.Identifier(name), sql.SQL(type_)
    using = column if cast_keeps_text(old, type_.string) else sql.SQL(
        "(CASE WHEN num_nulls({}) = 0 THEN concat({}) END)::{}").format(column, stored(name, old), type_)
    return sql.SQL("ALTER COLUMN {} TYPE {} USING {}").format(column, type_, using)
