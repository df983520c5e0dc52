"""Statements that people run around a load: they drop objects that are in its way, and create them again."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from landing.postgres.query import query

# Statements that create an object again, by its catalog.
CREATES = {
    "pg_class": """
SELECT format('CREATE %%s %%I.%%I%%s AS %%s', CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END,
              n.nspname, c.relname, ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
              btrim(pg_get_viewdef(c.oid), ' ;'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s AND c.relkind IN ('v', 'm')
UNION ALL
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = %(oid)s
UNION ALL
SELECT format('GRANT %%s ON %%I.%%I TO %%s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type),
              n.nspname, c.relname, coalesce(quote_ident(r.rolname), 'PUBLIC'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE c.oid = %(oid)s AND c.relkind IN ('v', 'm') AND a.grantee <> c.relowner
GROUP BY n.nspname, c.relname, r.rolname
""",
    "pg_proc": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE oid = %(oid)s AND prokind IN ('f', 'p')",
    "pg_rewrite": "SELECT pg_get_ruledef(%(oid)s)",
    "pg_trigger": "SELECT pg_get_triggerdef(%(oid)s)",
    "pg_policy": """
SELECT format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s', v.policyname, v.schemaname, v.tablename,
              v.permissive, v.cmd,
              (SELECT string_agg(CASE one WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(one) END, ', ')
               FROM unnest(v.roles) one))
       || coalesce(' USING (' || v.qual || ')', '') || coalesce(' WITH CHECK (' || v.with_check || ')', '')
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_policies v ON (v.schemaname, v.tablename, v.policyname) = (n.nspname, c.relname, p.polname)
WHERE p.oid = %(oid)s
""",
    "pg_constraint": """
SELECT format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, c.relname, k.conname,
              pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.oid = %(oid)s
""",
    "pg_publication_rel": """
SELECT format('ALTER PUBLICATION %%I ADD TABLE %%I.%%I', p.pubname, n.nspname, c.relname)
FROM pg_publication_rel l JOIN pg_publication p ON p.oid = l.prpubid
JOIN pg_class c ON c.oid = l.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.oid = %(oid)s
""",
}
DROPPED = {"view", "materialized view", "function", "procedure", "aggregate", "policy", "rule", "trigger"}
# A line break outside quotes, in what PostgreSQL prints; it doubles quotes inside quotes.
BREAK = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w+)\$.*?\$\2\$)|\s*\n\s*""", re.DOTALL)


@dataclass(frozen=True)
class Steps:
    """Statements that people run before the load and after it."""

    owners: Collection[str] = ()
    drops: Sequence[str] = ()
    creates: Sequence[str] = ()
    gone: Collection[str] = ()  # columns that the objects cannot use any more

    def __add__(self, other: Steps) -> Steps:
        return Steps(*([*dict.fromkeys([*one, *another])] for one, another in zip(
            dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def renamed(self, names: Mapping[str, str]) -> Steps:
        """With other names in the statements that create objects."""
        creates = list(self.creates)
        for old, new in names.items():
            creates = [statement.replace(old, new) for statement in creates]
        return dataclasses.replace(self, creates=creates)

    def __str__(self) -> str:
        who = f"as {' and '.join(sorted(self.owners))} or an administrator" if self.owners else "as an administrator"
        adapted = f", without {', '.join(sorted(self.gone))}" if self.gone else ""
        after = f" Afterwards{adapted}: `{' '.join(self.creates)}`" if self.creates else ""
        return f"First run, {who}: `{' '.join(self.drops)}`, then run again.{after}"


def drop(kind: str, identity: str) -> str:
    """The statement that drops an object; a description of what to do for rare kinds."""
    if kind in DROPPED:
        return f"DROP {kind.upper()} {identity};"
    return f"/* change or drop {kind} {identity} */"


def create(cursor: Cursor, catalog: str, oid: int) -> list[str]:
    """Statements that create an object again, each in one line; empty for rare kinds."""
    with qualified_names(cursor):
        rows = query(cursor, CREATES[catalog], {"oid": oid}) if catalog in CREATES else []
    return [BREAK.sub(lambda found: found[1] or " ", text.strip().rstrip(";")) + ";" for text, in rows if text]


@contextlib.contextmanager
def qualified_names(cursor: Cursor) -> Iterator[None]:
    """Have the server print definitions with the schema of every name: whoever runs them has another search_path."""
    path, = query(cursor, "SELECT current_setting('search_path')")[0]
    query(cursor, "SELECT set_config('search_path', '', false)")
    yield
    query(cursor, "SELECT set_config('search_path', %s, false)", (path,))
