"""What the versions of a table's rows tell: which transactions wrote them, in which cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from landing.extract.postgres.relations import Key
from landing.model.validation import Scalar

XIDS = 1 << 32  # transaction ids of row versions wrap around
LSN = re.compile("[0-9A-F]{1,8}/[0-9A-F]{1,8}")
REACH = (1 << 31) - (1 << 24)  # ids that age() tells apart, less those that begin meanwhile

POSITION = """
SELECT txid_snapshot_xmin(txid_current_snapshot()),
       (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
       has_function_privilege('pg_control_system()', 'EXECUTE') AND
       has_function_privilege('pg_control_checkpoint()', 'EXECUTE')
"""

# A failover to a standby begins a new timeline: what the old primary had committed last may be missing there.
CLUSTER = """
SELECT (SELECT system_identifier FROM pg_control_system())::text,
       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END
"""

# The relations that have a table's rows, whether all of them keep row versions of their own, and a hash of what the
# text of values depends on besides the rows: labels of enums, expressions of generated columns, a view's query.
RELATIONS = """
WITH RECURSIVE tree AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
  UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
), types AS (
    SELECT a.atttypid AS oid FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid AND a.attnum > 0
  UNION
    SELECT below.oid FROM types JOIN pg_type t ON t.oid = types.oid
    CROSS JOIN LATERAL (SELECT t.typbasetype UNION ALL SELECT t.typelem UNION ALL
                        SELECT a.atttypid FROM pg_attribute a
                        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0) below (oid)
    WHERE below.oid <> 0
)
SELECT array_agg(c.oid::bigint ORDER BY c.oid),
       bool_and(c.relkind = 'p' OR (c.relkind IN ('r', 'm') AND m.amname = 'heap')),
       md5(concat_ws(';',
           (SELECT string_agg(concat_ws(',', e.enumtypid, e.enumlabel), ',' ORDER BY e.enumtypid, e.enumsortorder)
            FROM pg_enum e JOIN types ON types.oid = e.enumtypid),
           (SELECT string_agg(concat_ws(',', d.adrelid, d.adnum, pg_get_expr(d.adbin, d.adrelid)), ',' ORDER BY d.oid)
            FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid AND a.attgenerated <> ''
            JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum),
           string_agg(CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, ',')))
FROM tree JOIN pg_class c ON c.oid = tree.oid LEFT JOIN pg_am m ON m.oid = c.relam
"""


@dataclass(frozen=True)
class Versions:
    """Of one table.

    Attributes:
        relations: oids of the relations with its rows.
        tell: Whether the versions of its rows tell which transaction wrote them.
        definition: Hash of what the text of its values depends on besides its rows.
    """

    relations: list[int]
    tell: bool
    definition: str


@dataclass(frozen=True)
class Position:
    """Where a snapshot is in the life of its cluster.

    Attributes:
        xmin: The oldest transaction in progress, counted from the cluster's first.
        cluster: System identifier, timeline and database; None if the role may not know.
        lsn: Position in the write-ahead log.
    """

    xmin: int
    cluster: str | None
    lsn: str

    def info(self) -> dict[str, Scalar]:
        """For the manifest's `snapshot`."""
        return {"xmin": self.xmin, "cluster": self.cluster}

    def unreachable(self, base: Mapping[str, Scalar]) -> str | None:
        """Why the snapshot of a base cannot be compared with this one; None if it can."""
        if self.cluster is None:
            return "the role may not call pg_control_system(), so the cluster could be another one"
        if base.get("cluster") != self.cluster:
            return "the database is in another cluster than then, or on another timeline"
        then, lsn = base.get("xmin"), str(base.get("lsn"))
        if not isinstance(then, int) or not LSN.fullmatch(lsn):
            return "its manifest does not say where its snapshot was"
        if then > self.xmin or _bytes(lsn) > _bytes(self.lsn):
            return "the server is behind what it was then"
        return "too many transactions have begun since then" if self.xmin - then > REACH else None


def position(cursor: Any, lsn: str) -> Position:
    """Of the snapshot of the cursor's transaction."""
    cursor.execute(POSITION)
    xmin, database, known = cursor.fetchone()
    if not known:
        return Position(xmin, None, lsn)
    cursor.execute(CLUSTER)
    system, timeline = cursor.fetchone()
    return Position(xmin, f"{system}/{timeline}/{database}", lsn)


def versions(cursor: Any, key: Key) -> Versions:
    """What the row versions of a table or view tell."""
    cursor.execute(RELATIONS, key)
    return Versions(*cursor.fetchone())


def since(snapshot: Mapping[str, Scalar], relations: Sequence[int]) -> sql.Composable:
    """The condition on rows that a snapshot may not have seen.

    age() counts transactions back from the latest; ids of rows that were frozen long ago may wrap and be read in vain.
    Rows of relations that the table did not have then (a partition that was attached) may be older than they seem.
    """
    return sql.SQL("age(xmin) <= age({}::xid) OR tableoid <> ALL ({}::oid[])").format(
        sql.Literal(str(snapshot["xmin"] % XIDS)), sql.Literal(list(relations)))


def _bytes(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
