"""`landing diff`: what changed between two loaded dates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import click

from landing.cli.options import answered, as_json, output, with_schema
from landing.core.dates import parse_date
from landing.core.errors import printable
from landing.core.text import table
from landing.postgres.configured import connect
from landing.verify.diff import Comparison, TableChange


@click.command(short_help="Rows that changed between two loaded dates.")
@click.argument("before", metavar="DATE1")
@click.argument("after", metavar="DATE2")
@click.option("--rows", default=0, type=click.IntRange(min=0), metavar="N", help="Show up to N changed rows per table.")
@as_json
@with_schema
def diff(before: str, after: str, rows: int, as_json: bool, schema: str) -> None:
    """Count rows inserted, updated and deleted in each table between two loaded dates.

    Rows are matched by primary key. Without a key, an update counts as one row deleted and one inserted.
    """
    with answered(as_json):
        days = parse_date(before, "DATE1"), parse_date(after, "DATE2")
        with contextlib.closing(connect()) as connection:
            changes = list(Comparison(connection, schema, *days).tables(rows))
        output(as_json, [asdict(one) | {"unchanged": one.unchanged} for one in changes],
             lambda: compared(*days, changes))


def compared(before: date, after: date, changes: Sequence[TableChange]) -> str:
    """Render the counts of each table, then the changed rows."""
    head = ("source", "table", f"rows {before}", f"rows {after}", "inserted", "updated", "deleted", "unchanged", "")
    rows = [(one.source, one.table, one.rows_before, one.rows_after, one.inserted,
             one.updated if one.key else None, one.deleted, one.unchanged, one.note)
            for one in changes]
    sums = [sum(getattr(one, name) for one in changes) for name in ("inserted", "updated", "deleted", "unchanged")]
    summary = "{:,} rows inserted, {:,} updated, {:,} deleted, {:,} unchanged.".format(*sums)
    return "\n".join([table(head, rows), summary, *(_rows(one) for one in changes if one.rows)])


def _rows(one: TableChange) -> str:
    """One line per changed row: its key and the values that changed."""
    lines = [f"\n{printable(f'{one.source}.{one.table}')}:"]
    for row in one.rows:
        values = row.after or row.before
        shown = [name for name in values if name in (one.key or values)]
        line = ", ".join(f"{printable(name)}={_value(values[name])}" for name in shown)
        if row.before and row.after:
            changed = [f"{printable(name)}: {_value(row.before[name])} -> {_value(row.after[name])}" for name in values
                       if row.before[name] != row.after[name]]
            line += "  " + ", ".join(changed)
        lines.append(f"  {row.change:8}  {f'{row.count} times: ' if row.count > 1 else ''}{line}")
    return "\n".join(lines)


def _value(text: str | None) -> str:
    if not text:
        return "NULL" if text is None else "''"
    line = printable(text)
    return line if len(line) <= 40 else line[:39] + "…"
