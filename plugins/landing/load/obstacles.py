"""Other people's objects that stop a load: which ones, why, and the statements that move them out of the way."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from landing.core.errors import WarehouseError
from landing.load.dependents import Dependent, Dependents
from landing.load.history import PARTITION_KEY
from landing.load.statements import Steps, create
from landing.postgres.query import query

NONE: Mapping[str, str] = {}
Changes = Mapping[str, str | None]  # columns that change, with the new type, or None where they go

# Partitions with objects of people on them, which would stay behind.
OCCUPIED = """
SELECT DISTINCT c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
JOIN pg_depend d ON d.deptype = 'n' AND d.classid <> 'pg_constraint'::regclass
                AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                     OR d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype)
WHERE c.relname = ANY (%s)
"""

# Foreign keys and publications, with the statement that removes them. A foreign key to a whole table has one for each
# partition, too, with conparentid; a publication of a whole table has the partitions without more.
ATTACHED = """
SELECT c.relname, 'pg_constraint', k.oid, format('foreign key %%I of table %%I.%%I', k.conname, m.nspname, o.relname),
       pg_get_userbyid(o.relowner), format('ALTER TABLE %%I.%%I DROP CONSTRAINT %%I;', m.nspname, o.relname, k.conname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(history)s
JOIN pg_constraint k ON k.confrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0
JOIN pg_class o ON o.oid = k.conrelid JOIN pg_namespace m ON m.oid = o.relnamespace
WHERE c.relname = ANY (%(relations)s)
UNION ALL
SELECT c.relname, 'pg_publication_rel', l.oid, format('publication %%I', p.pubname), pg_get_userbyid(p.pubowner),
       format('ALTER PUBLICATION %%I DROP TABLE %%I.%%I;', p.pubname, n.nspname, c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(history)s
JOIN pg_publication_rel l ON l.prrelid = c.oid JOIN pg_publication p ON p.oid = l.prpubid
WHERE c.relname = ANY (%(relations)s) AND c.relispartition
ORDER BY 1, 4
"""

# The column of a foreign key that holds the date, and this session's rights: on the rows, and to name the table. The
# server needs both to check a foreign key, or neither: then it checks row by row.
REFERENCE = """
SELECT format('%%I.%%I', n.nspname, o.relname), format('%%I', a.attname),
       has_table_privilege(o.oid, 'SELECT') AND NOT row_security_active(o.oid), has_schema_privilege(n.oid, 'USAGE')
FROM pg_constraint k
JOIN pg_class o ON o.oid = k.conrelid JOIN pg_namespace n ON n.oid = o.relnamespace
JOIN LATERAL unnest(k.conkey, k.confkey) AS part(own, other) ON true
JOIN pg_attribute d ON d.attrelid = k.confrelid AND d.attnum = part.other AND d.attname = %s
JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = part.own
WHERE k.oid = %s
"""


@dataclass(frozen=True)
class Attached:
    """A foreign key or a publication. `removal`: the statement that removes it."""

    catalog: str
    oid: int
    label: str
    owner: str
    removal: str

    def __str__(self) -> str:
        return f"{self.label} of role {self.owner}"


@dataclass(frozen=True)
class Obstacle:
    """What stops a load, and the steps to take."""

    what: str
    steps: Steps

    def __add__(self, other: Obstacle) -> Obstacle:
        return Obstacle(f"{self.what}; {other.what}", self.steps + other.steps)

    def error(self) -> WarehouseError:
        """For a transaction that is rolled back."""
        return WarehouseError(f"{self.what}. Nothing changed. {self.steps}")


def together(obstacles: Iterable[Obstacle | None]) -> Obstacle | None:
    """All of them as one."""
    found = [one for one in obstacles if one]
    return functools.reduce(operator.add, found) if found else None


def of_newest_view(found: Dependents, view: str, have: Mapping[str, str], changes: Changes) -> Obstacle | None:
    """Of a view that is replaced: its objects stay on the old one, or are created again on the new one."""
    fixed, gone = found.fixed, {column for column, new in changes.items() if new is None}
    return _uses(found, [one for one in found.direct if (
        one.typed or one.uses(changes) if one.key in fixed else one.columns & gone)], view, have, changes)


def of_kept_view(
    found: Dependents, view: str, have: Mapping[str, str], changes: Changes, names: Mapping[str, str]
) -> Obstacle | None:
    """Of a view that keeps the columns of an older one. `names`: to create objects on the newest view instead."""
    return _uses(found, [one for one in found.direct if one.uses(changes)], view, have, changes, names)


def of_history(
    found: Dependents, table: str, have: Mapping[str, str], changes: Changes, views: Collection[int]
) -> Obstacle | None:
    """Of a table of history whose columns widen. `views`: oids of those of loads, which follow."""
    return _uses(found, [one for one in found.direct if one.oid not in views and one.key in found.fixed and (
        one.typed or one.columns & {*changes})], table, have, changes)


def _uses(
    found: Dependents, blocking: Sequence[Dependent], relation: str, have: Mapping[str, str], changes: Changes,
    names: Mapping[str, str] = NONE,
) -> Obstacle | None:
    if not blocking:
        return None
    gone = {column for one in blocking for column in one.uses(changes) if changes[column] is None}
    return Obstacle("; ".join(f"{one} uses {_used(one, have, changes)} of {relation}" for one in blocking),
                    dataclasses.replace(found.steps(blocking).renamed(names), gone=gone))


def _used(one: Dependent, have: Mapping[str, str], changes: Changes) -> str:
    if one.typed:
        return "the row type"
    rows = "whole rows, with " if one.whole else ""
    return rows + ", ".join(
        f"{column} (gone)" if changes[column] is None else f"{column} ({have[column]} becomes {changes[column]})"
        for column in one.uses(changes))


def of_partitions(cursor: Cursor, history: str, day: date, partitions: Mapping[str, str]) -> dict[str, Obstacle]:
    """What stops the replacement of partitions of a date, by table.

    Args:
        partitions: Partitions by table.
    """
    names = list(partitions.values())
    occupied = {name for name, in query(cursor, OCCUPIED, (history, names))}
    attached: dict[str, list[Attached]] = {}
    for relation, *one in query(cursor, ATTACHED, {"history": history, "relations": [*partitions, *names]}):
        attached.setdefault(relation, []).append(Attached(*one))
    found = {table: _of_partition(cursor, sql.Identifier(history, name), name in occupied, [
                *attached.get(name, []),
                *(one for one in attached.get(table, []) if not _is_free(cursor, one.oid, day))])
             for table, name in partitions.items() if name in occupied or name in attached or table in attached}
    return {table: obstacle for table, obstacle in found.items() if obstacle}


def of_key(cursor: Cursor, history: str, table: str, *, widens: bool) -> Obstacle | None:
    """What stops a change of the key of a table of history. `widens`: its columns stay, and get other types."""
    found = [Attached(*one) for _, *one in query(cursor, ATTACHED, {"history": history, "relations": [table]})]
    return _of_partition(cursor, sql.Identifier(history, table), False, [
        one for one in found if not widens or any(
            rows and not schema for *_, rows, schema in query(cursor, REFERENCE, (PARTITION_KEY, one.oid)))])


def _of_partition(
    cursor: Cursor, relation: sql.Identifier, occupied: bool, attached: Sequence[Attached]
) -> Obstacle | None:
    name = relation.as_string(cursor)
    found = Dependents(cursor, relation) if occupied else None
    whats, steps = [f"{one} refers to {name}" for one in attached], Steps()
    for one in attached:
        steps += Steps([one.owner], [one.removal], create(cursor, one.catalog, one.oid))
    if found:
        whats += [f"{one} is built on {name}" for one in found.direct]
        steps += found.steps(found.direct)
    return Obstacle("; ".join(whats), steps) if whats else None


def _is_free(cursor: Cursor, constraint: int, day: date) -> bool:
    """Whether no row of a foreign key refers to a date."""
    for table, column, rows, schema in query(cursor, REFERENCE, (PARTITION_KEY, constraint)):
        if rows and schema:
            statement = sql.SQL("SELECT NOT EXISTS (SELECT FROM {} WHERE {} = {})").format(
                sql.SQL(table), sql.SQL(column), sql.Literal(day.isoformat()))  # both are quoted
            return query(cursor, statement)[0][0]
    return False
