"""The source's comments and foreign keys, as comments on the views and on history.

A foreign key is a line of its column's comment, such as `Foreign key to customers (customer_id)`: views cannot have
foreign keys, nor can history while some partitions are not loaded, and DBeaver and pgAdmin show comments beside the
column. Programs read them from the manifest.

The source's comment replaces the one in the warehouse; without one, the existing comment is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg2 import sql

from landing.load.history import history_name
from landing.model.schema import ForeignKey, Table

GONE = "Not in the source since "  # prefix of the comment of an empty view
EMPTY = "No data at the source since "  # likewise, of a view that keeps its last date
UNLOADED = "No loaded date has it"  # likewise, for a table whose partitions were all dropped
OURS = re.compile(rf"({GONE}|{EMPTY}).*|{UNLOADED}.*|Foreign key (\(.*\) )?to .* \(.*\)")  # lines that loads write
Place = tuple[str, str, str | None]  # schema, relation, column; None: the relation itself

EXISTING = """
SELECT n.nspname, c.relname, part.name, d.description
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT 0 AS number, NULL AS name
                    UNION ALL
                    SELECT attnum, attname FROM pg_attribute
                    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) part
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = part.number
WHERE (n.nspname, c.relkind) IN ((%(views)s, 'v'), (%(history)s, 'p')) AND c.relname = ANY (%(names)s)
"""


def put(
    cursor: Any, views: str, history: str, tables: Mapping[str, Table], notices: Mapping[str, str | None]
) -> None:
    """Write the comments that differ, in the caller's transaction.

    Args:
        cursor: In the transaction.
        views: Schema of the views.
        history: Schema of history.
        tables: Tables with the source's comments, by name.
        notices: For each view that was pointed, the first line of its comment, if any.
    """
    names = [*{*tables, *notices}]
    cursor.execute(EXISTING, {"views": views, "history": history, "names": names})
    old: dict[Place, str | None] = {tuple(place): text for *place, text in cursor.fetchall()}
    new = {place: _lines(notices[place[1]], _without_ours(text)) for place, text in old.items()
           if place[0] == views and place[2] is None and place[1] in notices}
    for name, table in tables.items():
        for column, comment, ours in _comments(table):
            view, kept = (views, name, column), (history, name, column and history_name(column))
            for place, notice in ((view, notices.get(name) if column is None else None), (kept, None)):
                new[place] = _lines(notice, comment or _without_ours(old.get(place)), *ours)
    statements = [_statement(place, text, place[0] == views) for place, text in new.items()
                  if place in old and text != old[place]]
    if statements:
        cursor.execute(sql.SQL(";").join(statements))


def _comments(table: Table) -> Iterator[tuple[str | None, str | None, list[str]]]:
    """Column (None: the table itself), the source's comment, and the lines that we add."""
    yield None, table.comment, []
    for column in table.columns:
        yield column.name, column.comment, [_reference(key, table) for key in table.foreign_keys
                                            if column.name in key.columns]


def _reference(key: ForeignKey, table: Table) -> str:
    """One line. The table's own schema is left out: the name is that of the view (see table_names.py)."""
    where = key.table if key.schema == table.schema else f"{key.schema}.{key.table}"
    columns = f"({', '.join(key.columns)}) " if len(key.columns) > 1 else ""
    return f"Foreign key {columns}to {where} ({', '.join(key.references)})".replace("\n", " ")


def _without_ours(text: str | None) -> str | None:
    """A comment without the lines that loads write."""
    return "\n".join(line for line in (text or "").split("\n") if not OURS.fullmatch(line)) or None


def _lines(*lines: str | None) -> str | None:
    return "\n".join(filter(None, lines)) or None


def _statement(place: Place, text: str | None, is_view: bool) -> sql.Composed:
    *relation, column = place
    kind = "COLUMN" if column is not None else "VIEW" if is_view else "TABLE"
    name = sql.Identifier(*relation, *([column] if column is not None else []))
    return sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(kind), name, sql.Literal(text))
