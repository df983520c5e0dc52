"""`landing certify`: the preflight check of a source."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import click

from landing.cli.options import answered, as_json, logger, open_warehouse, output, with_schema
from landing.core.errors import LandingError
from landing.core.settings import settings
from landing.core.sources import (
    declared_sources,
    declares,
    source_keys,
    source_name,
    source_protect,
    source_schemas,
    table_names,
)
from landing.core.text import table
from landing.load.table_names import TableNames
from landing.postgres.configured import connect
from landing.verify.preflight import (
    AS_TEXT,
    LEFT_OUT,
    LOSSLESS,
    PROTECTED,
    REFUSED,
    Preflight,
    Verdict,
    describe_source,
)

NOTHING = ("Nothing to check: meltano.yml has no tap-postgres, and SOURCE_POSTGRES_HOST is not set. CSV files are "
           "checked when they are extracted, before anything is committed.")


@click.command(short_help="Preflight check: columns that load exactly, as text, or not at all.")
@click.argument("tables", metavar="[SCHEMA.TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Show lossless columns, too.")
@as_json
@with_schema
def certify(tables: Sequence[str], everything: bool, as_json: bool, schema: str) -> None:
    """Check what an extract and a load would do with each column of the PostgreSQL source.

    \b
    lossless   lands and loads with its exact type
    as text    kept as PostgreSQL's text output
    left out   holds no data by nature: a materialized view WITH NO DATA
    protected  lands as text, or not at all, by the setting `protect`
    refused    the extract or the load would stop here

    Reads no rows, except to check keys that the setting `keys` declares and no unique index proves. Without names: all
    tables of `filter_schemas`. In a name, * matches anything. Changes nothing on either server.
    """
    with answered(as_json):
        if not (declares("tap-postgres") or settings().get("SOURCE_POSTGRES_HOST")):
            output(as_json, {"warehouse": None, "columns": []}, lambda: NOTHING)
            return
        _certify(tables, everything, as_json, schema)


def _certify(tables: Sequence[str], everything: bool, as_json: bool, schema: str) -> None:
    with contextlib.closing(connect("SOURCE")) as source:
        found, protection = describe_source(source, source_schemas(), tables, source_keys(), source_protect())
        with open_warehouse(schema) as warehouse:
            names = TableNames(table_names(), schema)
            preflight = Preflight(source, source_name(default="postgres"), warehouse, names, protection)
            verdicts = list(preflight.verdicts(found))
            version = warehouse and warehouse.version
        for sentence in preflight.broken_references(found):
            logger.warning("%s.", sentence)
        shown = {"warehouse": version, "columns": [asdict(one) for one in verdicts]}
        output(as_json, shown, lambda: as_text(verdicts, everything, version))
        if refused := [f"{one.schema}.{one.table}" for one in verdicts if one.verdict == REFUSED]:
            raise LandingError(f"Refused: {', '.join(refused)}. See the reasons above; then certify again.")


def as_text(verdicts: Sequence[Verdict], everything: bool, warehouse: str | None) -> str:
    """Render the verdicts that are not lossless, or all. `warehouse`: version of its server, None if not reached."""
    shown = [one for one in verdicts if everything or one.verdict != LOSSLESS]
    rows = [(f"{one.schema}.{one.table}", one.column, one.verdict, one.type, one.loads_as, one.reason or "")
            for one in shown]
    counts = Counter(one.verdict for one in verdicts)
    tables = len({(one.schema, one.table) for one in verdicts})
    columns = sum(one.column is not None for one in verdicts)
    checked = f"warehouse: PostgreSQL {warehouse}" if warehouse else "warehouse not checked"
    left_out = f", {counts[LEFT_OUT]} left out" if counts[LEFT_OUT] else ""
    protected = f", {counts[PROTECTED]:,} protected" if counts[PROTECTED] else ""
    summary = (f"{tables} tables, {counts[REFUSED]} of them refused{left_out}; {columns:,} columns of the others: "
             f"{counts[LOSSLESS]:,} lossless, {counts[AS_TEXT]:,} as text{protected} ({checked}).")
    if others := [one for one in declared_sources() if one != source_name(default="postgres")]:
        summary = f"Not checked: {', '.join(others)} (only the database of SOURCE_POSTGRES_… is).\n{summary}"
    head = ("table", "column", "verdict", "type", "loads as", "why")
    return f"{table(head, rows)}\n{summary}" if rows else summary
