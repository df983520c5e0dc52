"""The relations that tables and views read, at any depth: below views, partitions and children.

A materialized view is read as stored; the relations in its query are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# `replaced`: the relation's file is no longer the one in the transaction's snapshot (TRUNCATE, REFRESH, a rewriting
# ALTER). pg_class is read as of the snapshot, pg_relation_filenode() as of now.
READS = """
WITH RECURSIVE reads (root, oid) AS (
    SELECT c.oid, c.oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
  UNION
    SELECT r.root, below.oid
    FROM reads r
    CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = r.oid
      UNION ALL
        SELECT d.refobjid
        FROM pg_class v
        JOIN pg_rewrite w ON w.ev_class = v.oid AND w.ev_type = '1'
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                        AND d.refclassid = 'pg_class'::regclass
        WHERE v.oid = r.oid AND v.relkind = 'v'
    ) below (oid)
)
SELECT a.nspname, b.relname, n.nspname, c.relname, c.oid::bigint, c.relkind::text, c.relkind = 'p' OR c.relhassubclass,
       c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid),
       c.relkind = 'm' AND NOT c.relispopulated, c.relpersistence = 'u' AND pg_is_in_recovery()
FROM reads r
JOIN pg_class b ON b.oid = r.root
JOIN pg_namespace a ON a.oid = b.relnamespace
JOIN pg_class c ON c.oid = r.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2, 3, 4
"""
Key = tuple[str, str]  # schema and name


@dataclass(frozen=True)
class Relation:
    """A relation that `root` reads, or `root` itself.

    Attributes:
        root: The table or view that is extracted.
        kind: pg_class.relkind.
        parent: Whether it may have partitions or children.
        replaced: Whether its file is another than the snapshot's.
        unpopulated: Whether it is a materialized view WITH NO DATA, which cannot be read.
        absent: Whether it is an unlogged table on a standby, which does not have its rows.
    """

    root: Key
    key: Key
    oid: int
    kind: str
    parent: bool
    replaced: bool
    unpopulated: bool
    absent: bool

    def __str__(self) -> str:
        below = "" if self.root == self.key else f" (read by {'.'.join(self.root)})"
        return f"{'.'.join(self.key)}{below}"

    @property
    def unreadable(self) -> str | None:
        """Why it cannot be read, if that is known before."""
        if self.unpopulated:
            return f"the materialized view {'.'.join(self.key)} is not populated"
        return f"{'.'.join(self.key)} is unlogged, and a standby does not have its rows" if self.absent else None


def reads(cursor: Any, keys: Sequence[Key]) -> list[Relation]:
    """All relations that these tables and views read, themselves included."""
    cursor.execute(READS, ([schema for schema, _ in keys], [name for _, name in keys]))
    return [Relation((schema, name), (below_schema, below), *rest)
            for schema, name, below_schema, below, *rest in cursor.fetchall()]
