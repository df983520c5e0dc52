"""Row differences between two partitions of one table, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.load.history import PARTITION_KEY, columns_of
from landing.postgres.query import query

# The text decides. Equal row images are skipped first, because building the text is slower.
CHANGED = "NOT (ROW({a})::record *= ROW({b})::record) AND ROW({a})::text COLLATE \"C\" <> ROW({b})::text"

COUNTS_BY_KEY = """
SELECT count(a.{day}), count(b.{day}), count(*) FILTER (WHERE a.{day} IS NULL),
       count(*) FILTER (WHERE a.{day} IS NOT NULL AND b.{day} IS NOT NULL AND {changed}),
       count(*) FILTER (WHERE b.{day} IS NULL)
FROM {old} a FULL JOIN {new} b ON {match}
"""

COUNTS_AS_MULTISET = """
SELECT coalesce(sum(olds), 0)::bigint, coalesce(sum(news), 0)::bigint,
       coalesce(sum(greatest(news - olds, 0)), 0)::bigint, 0, coalesce(sum(greatest(olds - news, 0)), 0)::bigint
FROM (SELECT count(*) FILTER (WHERE NOT is_new) AS olds, count(*) FILTER (WHERE is_new) AS news
      FROM (SELECT ROW({a})::text COLLATE "C" AS line, false AS is_new FROM {old} a
            UNION ALL SELECT ROW({b})::text COLLATE "C", true FROM {new} b) lines
      GROUP BY line) counted
"""

ROWS_BY_KEY = """
SELECT CASE WHEN a.{day} IS NULL THEN 'inserted' WHEN b.{day} IS NULL THEN 'deleted' ELSE 'updated' END, 1,
       CASE WHEN a.{day} IS NOT NULL THEN ARRAY[{atext}]::text[] END,
       CASE WHEN b.{day} IS NOT NULL THEN ARRAY[{btext}]::text[] END
FROM {old} a FULL JOIN {new} b ON {match}
WHERE a.{day} IS NULL OR b.{day} IS NULL OR {changed}
ORDER BY {order} LIMIT {limit}
"""

ROWS_AS_MULTISET = """
SELECT CASE WHEN news > olds THEN 'inserted' ELSE 'deleted' END, abs(news - olds),
       CASE WHEN news < olds THEN texts END, CASE WHEN news > olds THEN texts END
FROM (SELECT count(*) FILTER (WHERE NOT is_new) AS olds, count(*) FILTER (WHERE is_new) AS news, texts
      FROM (SELECT ARRAY[{atext}]::text[] COLLATE "C" AS texts, false AS is_new FROM {old} a
            UNION ALL SELECT ARRAY[{btext}]::text[] COLLATE "C", true FROM {new} b) lines
      GROUP BY texts) counted
WHERE news <> olds ORDER BY texts LIMIT {limit}
"""

PRIMARY_KEY = """
SELECT a.attname
FROM pg_constraint c
CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS part(attnum, position)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = part.attnum
WHERE c.conrelid = to_regclass(%s) AND c.contype = 'p' AND a.attname <> %s
ORDER BY part.position
"""


@dataclass(frozen=True)
class RowChange:
    """A changed row with its values as COPY's text by column, None for NULL; `count` identical rows."""

    change: str
    count: int
    before: dict[str, str | None] | None
    after: dict[str, str | None] | None


@dataclass(frozen=True)
class PartitionDiff:
    """Row counts of two partitions and their differences. `key` is None if rows cannot be matched."""

    key: list[str] | None
    rows_before: int
    rows_after: int
    inserted: int
    updated: int
    deleted: int
    note: str = ""
    rows: list[RowChange] = field(default_factory=list)


def primary_key(cursor: Cursor, partition: sql.Identifier) -> list[str]:
    """The source's key, by its column names in history; empty without a key."""
    return [name for name, in query(cursor, PRIMARY_KEY, (partition.as_string(cursor), PARTITION_KEY))]


def compare(cursor: Cursor, old: sql.Identifier, new: sql.Identifier, limit: int) -> PartitionDiff:
    """Compare two partitions. `limit`: how many changed rows to return."""
    columns = [name for name in columns_of(cursor, new) if name != PARTITION_KEY]
    keys = primary_key(cursor, old), primary_key(cursor, new)
    key = keys[0] if keys[0] == keys[1] else []
    note = "" if key else "key changed: compared without key" if any(keys) else "no key"
    parts = _parts(old, new, columns, key, limit)
    counts, = query(cursor, sql.SQL(COUNTS_BY_KEY if key else COUNTS_AS_MULTISET).format(**parts))
    changed = query(cursor, sql.SQL(ROWS_BY_KEY if key else ROWS_AS_MULTISET).format(**parts)) if limit else []
    rows = [RowChange(change, count, *(None if values is None else dict(zip(columns, values, strict=True))
                                       for values in (before, after)))
            for change, count, before, after in changed]
    return PartitionDiff(key or None, *counts, note, rows)


def _parts(old: sql.Identifier, new: sql.Identifier, columns: list[str], key: list[str],
           limit: int) -> Mapping[str, sql.Composable]:
    a, b = ([sql.Identifier(side, name) for name in columns] for side in "ab")
    match = sql.SQL(" AND ").join(sql.SQL("a.{0} = b.{0}").format(sql.Identifier(name)) for name in key)
    order = sql.SQL(", ").join(sql.SQL("coalesce(a.{0}, b.{0})").format(sql.Identifier(name)) for name in key)
    parts = {"a": sql.SQL(", ").join(a), "b": sql.SQL(", ").join(b), "match": match, "order": order, "old": old,
             "new": new, "atext": _texts(a), "btext": _texts(b), "day": sql.Identifier(PARTITION_KEY),
             "limit": sql.Literal(limit)}
    return {**parts, "changed": sql.SQL(CHANGED).format(**parts)}


def _texts(columns: list[sql.Identifier]) -> sql.Composed:
    """Values by their types' output functions; a cast to text may differ."""
    return sql.SQL(", ").join(sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN concat({0}) END").format(column)
                              for column in columns)
