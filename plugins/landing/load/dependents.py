"""Objects that depend on a view or table: their owners, and what they use of it.

pg_depend records columns, but not the use of whole rows (`SELECT v FROM v`), which is read from the stored expressions.
Functions with a string body depend on nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.load.statements import Steps, create, drop
from landing.postgres.query import query

# The rights to drop a view and create it again as it was: as its owner, in its schema.
DEPENDENTS = """
WITH RECURSIVE reached AS (
    SELECT to_regclass(%(relation)s)::oid AS oid, 0 AS depth
  UNION
    SELECT c.oid, d.depth + 1
    FROM reached d
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = d.oid
                    AND p.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = p.objid AND r.ev_class <> d.oid
    JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
), base AS (
    SELECT c.oid, c.relkind, c.reltype, t.typarray, max(d.depth) AS depth
    FROM reached d JOIN pg_class c ON c.oid = d.oid LEFT JOIN pg_type t ON t.oid = c.reltype
    GROUP BY c.oid, t.typarray
), used AS (
    SELECT b.oid AS base, p.classid, p.objid, 0 AS objsubid, a.attname, false AS typed
    FROM base b
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = b.oid AND p.deptype = 'n'
                    AND p.classid NOT IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass)
    LEFT JOIN pg_attribute a ON a.attrelid = b.oid AND a.attnum = p.refobjsubid AND a.attnum > 0
  UNION ALL
    SELECT b.oid, p.classid, p.objid, p.objsubid, NULL, true
    FROM base b JOIN pg_depend p ON p.refclassid = 'pg_type'::regclass AND p.refobjid IN (b.reltype, b.typarray)
                                AND p.deptype = 'n'
), found AS (
    SELECT u.base, b.depth, u.attname, u.typed, v.oid AS view, u.classid, u.objid, u.objsubid,
           coalesce(r.ev_action::text, to_jsonb(f) ->> 'prosqlbody', concat(p.polqual, p.polwithcheck))
               LIKE '%%:varattno 0 %%' AS whole,
           coalesce(c.relowner, f.proowner, y.typowner) AS owner
    FROM used u JOIN base b ON b.oid = u.base
    LEFT JOIN pg_rewrite r ON u.classid = 'pg_rewrite'::regclass AND r.oid = u.objid
    LEFT JOIN pg_policy p ON u.classid = 'pg_policy'::regclass AND p.oid = u.objid
    LEFT JOIN pg_proc f ON u.classid = 'pg_proc'::regclass AND f.oid = u.objid
    LEFT JOIN pg_type y ON u.classid = 'pg_type'::regclass AND y.oid = u.objid
    LEFT JOIN pg_trigger g ON u.classid = 'pg_trigger'::regclass AND g.oid = u.objid
    LEFT JOIN pg_publication_rel l ON u.classid = 'pg_publication_rel'::regclass AND l.oid = u.objid
    LEFT JOIN pg_class c ON c.oid = coalesce(r.ev_class, p.polrelid, g.tgrelid,
                                             CASE WHEN u.classid = 'pg_class'::regclass THEN u.objid END)
    LEFT JOIN pg_class v ON v.oid = c.oid AND v.relkind IN ('v', 'm')
                        AND u.classid IN ('pg_rewrite'::regclass, 'pg_class'::regclass)
    WHERE r.ev_class IS DISTINCT FROM u.base AND NOT (b.relkind = 'v' AND g.tgrelid IS NOT DISTINCT FROM u.base)
      AND (l.oid IS NULL OR to_jsonb(l) ->> 'prqual' IS NOT NULL)
)
SELECT f.base, coalesce(v.oid, f.objid), CASE WHEN v.oid IS NULL THEN f.classid::regclass::text ELSE 'pg_class' END,
       CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE i.type END,
       CASE WHEN v.oid IS NULL THEN i.identity ELSE format('%%I.%%I', n.nspname, v.relname) END,
       pg_get_userbyid(coalesce(v.relowner, f.owner)),
       coalesce(array_agg(DISTINCT f.attname::text) FILTER (WHERE f.attname IS NOT NULL), '{}'),
       bool_or(f.whole OR f.typed), bool_or(f.typed AND v.relkind IS DISTINCT FROM 'v'),
       bool_and(v.relkind IS NOT DISTINCT FROM 'v' AND (s.rolsuper OR (
           pg_has_role(v.relowner, 'USAGE') AND pg_has_role(v.relowner, s.may_set)
           AND has_schema_privilege(v.relowner, v.relnamespace, 'CREATE')
           AND has_schema_privilege(v.relnamespace, 'CREATE')))),
       coalesce(own.depth, f.depth + 1)
FROM found f
LEFT JOIN pg_class v ON v.oid = f.view
LEFT JOIN pg_namespace n ON n.oid = v.relnamespace
LEFT JOIN base own ON own.oid = v.oid
CROSS JOIN LATERAL pg_identify_object(f.classid, f.objid, f.objsubid) i
CROSS JOIN (SELECT rolsuper, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET'
                                  ELSE 'MEMBER' END AS may_set
            FROM pg_roles WHERE rolname = current_user) s
GROUP BY 1, 2, 3, 4, 5, 6, own.depth, f.depth
ORDER BY 11, 5
"""

# A relation, and whether anything may depend on it: a hundred times quicker.
ROOT = """
SELECT c.oid, EXISTS (
    SELECT FROM pg_depend p WHERE p.deptype = 'n' AND p.refobjid IN (c.oid, c.reltype, t.typarray)
    AND p.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass) AND NOT EXISTS (
        SELECT FROM pg_rewrite r WHERE p.classid = 'pg_rewrite'::regclass AND r.oid = p.objid AND r.ev_class = c.oid))
FROM pg_class c LEFT JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = to_regclass(%s)
"""

Key = tuple[str, int]  # catalog and oid


@dataclass(frozen=True)
class Dependent:
    """An object that depends on the relation `base`.

    Attributes:
        kind: As DROP names it.
        columns: Columns of `base` that it names.
        whole: Whether it uses whole rows: all columns.
        typed: Whether it is declared with the row type: such as a function, but not a view that shows whole rows.
        droppable: Whether this session can drop it and create it again.
        depth: Dependencies between it and the relation in question.
    """

    base: int
    oid: int
    catalog: str
    kind: str
    identity: str
    owner: str | None
    columns: frozenset[str]
    whole: bool
    typed: bool
    droppable: bool
    depth: int

    @property
    def key(self) -> Key:
        return self.catalog, self.oid

    def __str__(self) -> str:
        return f"{self.kind} {self.identity}" + (f" of role {self.owner}" if self.owner else "")

    def uses(self, columns: Collection[str]) -> list[str]:
        """Those of `columns` that it uses."""
        return [column for column in columns if self.whole or column in self.columns]


class Dependents:
    """All objects that depend on a relation, directly or through views; those nearest to it first."""

    def __init__(self, cursor: Cursor, relation: sql.Identifier) -> None:
        self.cursor = cursor
        name = relation.as_string(cursor)
        found = query(cursor, ROOT, (name,))
        self.root: Key = "pg_class", found[0][0] if found else 0
        self.all = [Dependent(base, oid, catalog, kind, identity, owner, frozenset(columns), *more)
                    for base, oid, catalog, kind, identity, owner, columns, *more in (
                        query(cursor, DEPENDENTS, {"relation": name}) if found and found[0][1] else ())]

    @property
    def direct(self) -> list[Dependent]:
        return [one for one in self.all if one.base == self.root[1]]

    def above(self, keys: Collection[Key]) -> set[Key]:
        """These objects, and what depends on them."""
        found = {*keys}
        while more := {one.key for one in self.all if ("pg_class", one.base) in found} - found:
            found |= more
        return found

    @property
    def fixed(self) -> set[Key]:
        """Objects that cannot be dropped and created again, and all that they depend on."""
        found = {one.key for one in self.all if not one.droppable}
        while more := {("pg_class", one.base) for one in self.all if one.key in found} - found:
            found |= more
        return found

    def views(self, keys: Collection[Key]) -> list[int]:
        """Those of these objects that are views, in the order of creation."""
        return [*dict.fromkeys(one.oid for one in self.all if one.key in keys and one.kind == "view")]

    def steps(self, blocking: Sequence[Dependent]) -> Steps:
        """How people move objects out of the way, with what depends on them.

        Views that this session can drop itself stay, as far as what blocks does not depend on them.
        """
        start = {key for one in blocking for key in self._immovable(one)}
        above = self.above(start)
        moved = {one.key: one for one in self.all if one.key in above}
        owners = {one.owner for key, one in moved.items() if key in start and one.owner}
        creates = [statement for one in moved.values() for statement in create(self.cursor, one.catalog, one.oid)]
        return Steps(owners, [drop(one.kind, one.identity) for one in reversed(moved.values())], creates)

    def _immovable(self, one: Dependent) -> set[Key]:
        fixed = {other.key for other in self.all if not other.droppable} & self.above({one.key})
        return {one.key} if not one.droppable else fixed or {one.key}
