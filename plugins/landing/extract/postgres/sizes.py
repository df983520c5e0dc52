"""Sizes of source tables: page ranges that cut a large table into chunks, and the expected size of its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2 import sql

from landing.extract.postgres.relations import Key
from landing.postgres import tid_ranges

CHUNK_PAGES = 4096  # (32 MB) at least
LARGEST_CHUNK = 2 << 20  # pages (16 GB): an object store takes files of 80 GB, and a page may hold more than its bytes
PARTITION_TREES = 120000  # first server version with pg_partition_tree()

# Of a partitioned table, the pages of its largest partition: a range of pages is read in each partition.
PAGES = """
SELECT n.nspname, c.relname,
       max(pg_relation_size(coalesce(leaf.relid, c.oid)) / current_setting('block_size')::bigint)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am a ON a.amname = 'heap'
LEFT JOIN LATERAL pg_partition_tree(c.oid) leaf ON c.relkind = 'p' AND leaf.isleaf
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND (c.relkind = 'p' OR c.relam = a.oid)
GROUP BY n.nspname, c.relname
"""

# The tables and their partitions that have rows. Materialized: the planner expects a thousand partitions of each table.
LEAVES = """
WITH leaves AS MATERIALIZED (
    SELECT n.nspname, c.relname, leaf.relid
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf
                        UNION SELECT c.oid WHERE c.relkind IN ('r', 'm')) leaf
    WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])))
"""

# Bytes of tables as text: the lesser of their size on disk, which dead rows inflate, and the planner's row estimate
# times the average row width. Out-of-line storage is added to either, as its compressed size.
EXPECTED = LEAVES + """
SELECT coalesce(sum(
           least(pg_relation_size(t.oid),
                 CASE WHEN t.reltuples > 0 AND t.relpages > 0 THEN
                     t.reltuples / t.relpages * pg_relation_size(t.oid) / current_setting('block_size')::bigint
                     * w.width END)
           + CASE WHEN t.reltoastrelid <> 0 THEN pg_relation_size(t.reltoastrelid) ELSE 0 END), 0)::bigint
FROM leaves
JOIN pg_class t ON t.oid = leaves.relid
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN (SELECT schemaname, tablename, sum(1 + avg_width * (1 - null_frac)) AS width FROM pg_stats
           WHERE NOT inherited GROUP BY schemaname, tablename) w ON (w.schemaname, w.tablename) = (n.nspname, t.relname)
"""  # noqa: S608

# Two independent estimates of a table's rows: the planner's (density at the last ANALYZE, times today's pages), and the
# statistics system's count of live rows.
ROWS = LEAVES + """
SELECT leaves.nspname, leaves.relname,
       sum(CASE WHEN t.reltuples > 0 AND t.relpages > 0 THEN
           t.reltuples / t.relpages * pg_relation_size(t.oid) / current_setting('block_size')::bigint END)::bigint,
       sum(pg_stat_get_live_tuples(t.oid))::bigint
FROM leaves
JOIN pg_class t ON t.oid = leaves.relid
WHERE t.relkind <> 'm'
GROUP BY leaves.nspname, leaves.relname
"""
AGREEMENT = 3  # a factor: estimates that differ by more are both worthless


def row_counts(cursor: Any, tables: Sequence[Key]) -> dict[Key, int]:
    """Estimated rows by table, where two estimates agree: one alone may be wrong by any factor."""
    if not tables or cursor.connection.server_version < PARTITION_TREES:
        return {}
    cursor.execute(ROWS, ([schema for schema, _ in tables], [name for _, name in tables]))
    return {(schema, name): max(planned, live) for schema, name, planned, live in cursor.fetchall()
            if planned and live and max(planned, live) <= AGREEMENT * min(planned, live)}


def page_counts(cursor: Any, tables: Sequence[Key]) -> dict[Key, int]:
    """Pages by table, for tables and servers that support reading a range of pages."""
    if not tables or cursor.connection.server_version < tid_ranges.SUPPORTED:
        return {}
    cursor.execute(PAGES, ([schema for schema, _ in tables], [name for _, name in tables]))
    return {(schema, name): pages for schema, name, pages in cursor.fetchall()}


def chunk_conditions(pages: int, connections: int) -> list[sql.Composable | None]:
    """Conditions on `ctid` that cut a table into chunks, in order; None is all of it.

    One per connection, fewer if they were small, more if they were large.
    """
    count = max(min(connections, pages // CHUNK_PAGES), -(-pages // LARGEST_CHUNK))
    return tid_ranges.conditions([pages * number // count for number in range(1, count)])


def expected_bytes(cursor: Any, tables: Sequence[Key]) -> int:
    """Estimated size of the tables' files, uncompressed; views and servers without pg_partition_tree() count as 0."""
    if cursor.connection.server_version < PARTITION_TREES:
        return 0
    cursor.execute(EXPECTED, ([schema for schema, _ in tables], [name for _, name in tables]))
    return cursor.fetchone()[0]
