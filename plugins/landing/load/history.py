"""A table of history: a partition for each date, and columns and types that hold what every date has."""

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
from landing.load.evolution import cast_keeps_text
from landing.model.naming import short_hash
from landing.model.schema import NAME_BYTES
from landing.postgres.copy import identifiers, stored

PARTITION_KEY = "extracted_at"
STAGING = "_staging_"  # begins the name of a table that is not in its place yet, or no longer

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

# What a person has built on a partition itself; its own parts depend on it in other ways.
BUILT_ON = """
SELECT c.relname, pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_depend d ON d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                                         OR d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype)
WHERE c.relname = ANY (%s)
  AND NOT EXISTS (SELECT FROM pg_constraint own WHERE own.oid = d.objid AND own.conrelid = c.oid)
"""

PARTITIONS = """
SELECT p.relname, day::date, c.relname
FROM pg_class p
JOIN pg_namespace n ON n.oid = p.relnamespace AND n.nspname = %s
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL substring(pg_get_expr(c.relpartbound, c.oid) FROM '\\d{4}-\\d\\d-\\d\\d') AS day
WHERE p.relkind = 'p' AND day = coalesce(%s::date::text, day)
"""

# Partitions that may have no row: the statistics may be late, so it is only the others that are not looked at.
DOUBTFUL = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
WHERE c.relname = ANY (%s) AND (pg_stat_get_live_tuples(c.oid) = 0 OR pg_relation_size(c.oid) = 0)
"""
LOOKS = 200  # partitions in one statement
logger = logging.getLogger("target-postgres")


def history_name(name: str) -> str:
    """A source's column in history: the partition key has its name for itself."""
    return name + "_" if re.fullmatch(f"{PARTITION_KEY}_*", name) else name


def history_key(primary_key: Sequence[str]) -> list[str]:
    """A source's key in history, behind the date; no key stays none."""
    return [PARTITION_KEY, *map(history_name, primary_key)] if primary_key else []


def partition_name(table: str, day: date, taken: Collection[str] = ()) -> str:
    """Name of a partition; one that would be too long, or is a table's, ends in a hash."""
    name = f"{table}@{day}"
    if len(name.encode()) <= NAME_BYTES and name not in taken:
        return name
    return table.encode()[:40].decode(errors="ignore") + "~" + short_hash(table) + f"@{day}"


def partitions(cursor: Any, history: str, day: date) -> dict[str, str]:
    """Partitions of a date, by table."""
    return {table: partition for (table, _), partition in all_partitions(cursor, history, day).items()}


def all_partitions(cursor: Any, history: str, day: date | None = None) -> dict[tuple[str, date], str]:
    """Partitions of every date, or of one, by table and date."""
    cursor.execute(PARTITIONS, (history, day))
    return {(table, day): partition for table, day, partition in cursor.fetchall()}


def empty(cursor: Any, history: str, partitions: Collection[str]) -> set[str]:
    """Those of the partitions that have no row."""
    cursor.execute(DOUBTFUL, (history, list(partitions)))
    names, found = [name for name, in cursor.fetchall()], set()
    for start in range(0, len(names), LOOKS):
        looks = [sql.SQL("SELECT {} WHERE NOT EXISTS (SELECT FROM {})").format(
            sql.Literal(name), sql.Identifier(history, name)) for name in names[start:start + LOOKS]]
        cursor.execute(sql.SQL(" UNION ALL ").join(looks))
        found |= {name for name, in cursor.fetchall()}
    return found


def tables(cursor: Any, history: str) -> dict[str, tuple[dict[str, str], tuple[str, list[str]] | None]]:
    """Every table of history: types by column, in order, and name and columns of its key, if it has one."""
    cursor.execute(TABLES, (history,))
    return {name: (dict(zip(columns, types, strict=True)), (constraint, key) if constraint else None)
            for name, constraint, key, columns, types in cursor.fetchall()}


def built_on(cursor: Any, history: str, partitions: Collection[str]) -> list[str]:
    """What stands on single partitions, and would be left behind when they are replaced."""
    cursor.execute(BUILT_ON, (history, list(partitions)))
    return [f"{what} depends on {partition}" for partition, what in cursor.fetchall()]


def columns_of(cursor: Any, relation: sql.Identifier) -> dict[str, str]:
    """Types by column, in order; none, if there is no such relation."""
    cursor.execute(COLUMNS, (relation.as_string(cursor),))
    return dict(cursor.fetchall())


def layout(have: Mapping[str, str], need: Mapping[str, str]) -> dict[str, str]:
    """Columns of a table of history and of all its partitions, in order, once it has what a date needs.

    `have`: its columns now, none where it does not exist yet.
    """
    return {**(have or {PARTITION_KEY: "date"}), **need}


def exact_types(cursor: Any, types: Sequence[str]) -> list[str]:
    """Types by the names that PostgreSQL itself gives them: a person may declare `int` or `varchar(9)`."""
    temporary = sql.Identifier("pg_temp", "landing_types")
    fields = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(str(i)), sql.SQL(type_))
                                for i, type_ in enumerate(types))
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE landing_types ({})").format(fields))
    try:
        return list(columns_of(cursor, temporary).values())
    finally:
        cursor.execute(sql.SQL("DROP TABLE {}").format(temporary))


def fields(columns: Mapping[str, str], filled: Collection[str] = ()) -> sql.Composed:
    """Columns as CREATE TABLE wants them, those `filled` NOT NULL; types are ones that dialect.TYPE let pass."""
    return sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(type_), sql.SQL(" NOT NULL" * (name in filled)))
        for name, type_ in columns.items()
    )


class HistoryTable:
    """One table of history, in the caller's transaction. `columns`: types by column; none where it is not there yet.

    `key`: name and columns of its primary key, if it has one.
    """

    def __init__(
        self, cursor: Any, history: str, name: str, columns: Mapping[str, str] | None = None,
        key: tuple[str, list[str]] | None = None,
    ) -> None:
        self.cursor, self.history, self.name, self.key = cursor, history, name, key
        self.columns = dict(columns or {})
        self.relation = sql.Identifier(history, name)

    def reconcile(self, need: Mapping[str, str], key: list[str]) -> None:
        """Create it, or bring its columns and key up to what a date needs."""
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
        """New columns and wider types, all in one pass over the table."""
        actions, widens = [], False
        for name, type_ in need.items():
            if name not in have:
                logger.info("%s: new column %s %s; older dates show NULL.", self.name, name, type_)
                actions.append(sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(type_)))
            elif have[name] != type_:
                logger.info("%s.%s: %s widens to %s.", self.name, name, have[name], type_)
                actions.append(_widening(name, have[name], type_))
                widens = True
        if actions:
            with views.dropped_dependents(self.cursor, self.relation) if widens else contextlib.nullcontext():
                self.cursor.execute(sql.SQL("ALTER TABLE {} {}").format(self.relation, sql.SQL(", ").join(actions)))

    def _rekey(self, key: list[str]) -> None:
        """A key that changed holds for each date from now on, and no longer for history as a whole."""
        constraint, old = self.key or (None, key)
        if old == key:
            return
        logger.warning("%s: its key was %s and is %s. Each date loaded from now on has its own, history as a whole "
                       "has none.", self.name, old[1:], key[1:] or "none")
        nullable = [sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name))
                    for name in old if name != PARTITION_KEY]
        self.cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
            self.relation, sql.Identifier(constraint)))
        self.cursor.execute(sql.SQL("ALTER TABLE {} {}").format(self.relation, sql.SQL(", ").join(nullable)))

    def attach(self, staging: str, day: date, old: str | None, taken: Collection[str] = ()) -> None:
        """Replace the date's partition, `old` if it has one, by a staging table with the columns of layout().

        `taken`: names of tables, which a partition cannot have.
        """
        table = sql.Identifier(self.history, staging)
        if old:
            self.retire(old)
        name = partition_name(self.name, day, taken)
        self.cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(name)))
        self.cursor.execute(sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
            self.relation, sql.Identifier(self.history, name), sql.Literal(day.isoformat())))

    def retire(self, partition: str) -> None:
        """Take a date out of history. Its table becomes a leftover: to drop it takes ten more locks, which are few."""
        relation, name = sql.Identifier(self.history, partition), sql.Identifier(STAGING + secrets.token_hex(8))
        self.cursor.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(self.relation, relation))
        self.cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(relation, name))


def _widening(name: str, old: str, type_: str) -> sql.Composed:
    """Change a column's type: by the text of its values, as widening.py has it, where a cast gives something else.

    PostgreSQL parses USING again for each partition, and the first parse changes `IS NULL`, `IS TRUE` and named
    arguments in place: in a partition with its columns in another order they fail, or read the wrong column. They must
    not be used here. num_nulls() is safe, and of a composite value it does not look at the fields.
    """
    column, type_ = sql.Identifier(name), sql.SQL(type_)
    using = column if cast_keeps_text(old, type_.string) else sql.SQL(
        "(CASE WHEN num_nulls({}) = 0 THEN concat({}) END)::{}").format(column, stored(name, old), type_)
    return sql.SQL("ALTER COLUMN {} TYPE {} USING {}").format(column, type_, using)
