"""`landing certify`: what a first run would keep exactly, keep as text, or refuse."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import click

from landing.cli.options import as_json, logger, open_warehouse, say, with_schema
from landing.core.errors import (
    LandingError,
    reported,
)
from landing.core.sources import source_name, source_schemas
from landing.core.text import table
from landing.postgres.configured import connect
from landing.verify.preflight import AS_TEXT, LOSSLESS, REFUSED, Preflight, Verdict, describe_source


@click.command(short_help="What a first run would keep exactly, keep as text, or refuse.")
@click.argument("tables", metavar="[SCHEMA.TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="What is lossless too.")
@as_json
@with_schema
def certify(tables: Sequence[str], everything: bool, as_json: bool, schema: str) -> None:
    """What an extract and a load would make of each column of the PostgreSQL source, without reading a row.

    \b
    lossless   lands and loads with its exact type
    as text    kept as PostgreSQL's own text of it
    refused    the extract, or the load, would stop here

    Without names: all tables of `filter_schemas`. In a name * stands for anything. Nothing is changed on either server.
    """
    with reported(logger), contextlib.closing(connect("SOURCE")) as source:
        found = describe_source(source, source_schemas(), tables)
        with open_warehouse(schema) as warehouse:
            verdicts = list(Preflight(source, source_name(default="postgres"), warehouse).verdicts(found))
            version = warehouse and warehouse.version
        shown = {"warehouse": version, "columns": [asdict(one) for one in verdicts]}
        say(as_json, shown, lambda: certified(verdicts, everything, version))
        if refused := [f"{one.schema}.{one.table}" for one in verdicts if one.verdict == REFUSED]:
            raise LandingError(f"Refused: {', '.join(refused)}. See above why, and what mends it; then certify again.")


def certified(verdicts: Sequence[Verdict], everything: bool, warehouse: str | None) -> str:
    """Columns and tables that are not lossless, or all; `warehouse` is its server's version, if it could be asked."""
    shown = [one for one in verdicts if everything or one.verdict != LOSSLESS]
    rows = [(f"{one.schema}.{one.table}", one.column, one.verdict, one.type, one.loads_as, one.reason or "")
            for one in shown]
    counts = Counter(one.verdict for one in verdicts)
    tables = len({(one.schema, one.table) for one in verdicts})
    columns = sum(one.column is not None for one in verdicts)
    asked = f"PostgreSQL {warehouse} at the warehouse" if warehouse else "the warehouse was not asked"
    words = (f"{tables} tables, {counts[REFUSED]} of them refused; {columns:,} columns of the others: "
             f"{counts[LOSSLESS]:,} lossless, {counts[AS_TEXT]:,} as text ({asked}).")
    head = ("table", "column", "verdict", "type", "loads as", "why")
    return f"{table(head, rows)}\n{words}" if rows else words
