"""`landing plan`: what a backfill would do, and its estimated duration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click
import psycopg2

from landing.cli.options import answered, as_json, open_warehouse, output, read_load_history, with_schema
from landing.core.commands import without_command
from landing.core.dates import parse_date
from landing.core.errors import describe
from landing.core.sources import migrations_folder
from landing.core.text import duration, table
from landing.load.load_history import LoadedTable, LoadedTables, LoadHistory
from landing.load.migrations import Migrations, migrations
from landing.verify.backfill import (
    EXTRACT,
    KEEP,
    LOAD,
    NOTHING,
    REFUSE,
    UNKNOWN,
    BackfillPlanner,
    DatePlan,
    LeftOut,
    Loaded,
)
from landing.zone.landing_zone import LandingZone


@click.command(short_help="What a backfill would do, and its estimated duration.")
@click.option("--from", "first", required=True, metavar="DATE", help="The first date.")
@click.option("--to", "last", required=True, metavar="DATE", help="The last date, today at the latest.")
@click.option("--re-extract", is_flag=True, help="Plan for REEXTRACT=true: extract past dates again.")
@as_json
@with_schema
def plan(first: str, last: str, re_extract: bool, as_json: bool, schema: str) -> None:
    """Show for each date its state, what a backfill would do, and the estimated duration.

    \b
    missing    not every source of the date is landed
    landed     all sources are landed, not loaded
    identical  warehouse and landing zone have the same SHA-256
    stale      loaded, but differs from what is landed
    loaded     in the warehouse, no longer landed
    damaged    a manifest or a landed file cannot be used

    A date needs the sources that were declared on its day, except those that its load left out. The plan includes what
    a load of landed tables would refuse (types, names, other people's objects) and columns it would turn into text.
    Durations are medians of earlier runs; without earlier runs they are unknown.
    """
    with answered(as_json):
        days = parse_date(first, "--from"), parse_date(last, "--to")
        loaded, left_out = read_load_history(_loaded, schema) or (None, {})
        planner = BackfillPlanner(LandingZone.configured(), loaded, re_extract, left_out)
        pending, files = None, migrations(migrations_folder())
        try:
            with contextlib.nullcontext() if loaded is None else open_warehouse(schema) as planner.warehouse:
                plans = planner.plan(*days)
                if planner.warehouse:
                    pending = [one.name for one in Migrations(planner.warehouse.connection, schema, files).pending()]
        except psycopg2.Error as error:  # a read-only role
            click.echo(f"Planned without a dry run of the loads: {describe(error)}", err=True)
            planner.warehouse = None
            plans = planner.plan(*days)
        output(as_json, {"dates": [asdict(one) for one in plans], "total": total(plans), "migrations": pending},
               lambda: as_text(plans, pending or []))


def _loaded(load_history: LoadHistory) -> tuple[Loaded, LeftOut]:
    """Loaded tables whose rows are present, and the sources that the loads left out."""
    found: dict[date, list[LoadedTable]] = {}
    for one in load_history.present():
        found.setdefault(one.day, []).append(one)
    return {day: LoadedTables(entries) for day, entries in found.items()}, load_history.left_out_by_date()


def as_text(plans: Sequence[DatePlan], migrations: Sequence[str]) -> str:
    """Render the plan, with a summary. `migrations`: those that the next load runs first."""
    rows = [(str(one.day), one.state, ", ".join(one.of(EXTRACT)) or "-", _load(one), duration(one.seconds),
             _why(one)) for one in plans]
    return "\n".join([table(("date", "state", "extract", "load", "time", ""), rows), _total(plans), *_late(plans),
                      *([f"The next load first runs the migrations {', '.join(migrations)}."] if migrations else [])])


def _late(plans: Sequence[DatePlan]) -> Iterator[str]:
    """What an extract of past dates means, and the way around it."""
    if late := [one for one in plans if one.late]:
        first = next((one for one in late if {*one.sources} - {*one.late}), late[0])
        yield (f"Past dates that were not landed on their day: {len(late)}. An extract now takes today's rows; the "
               "manifest records the true time.")
        if {*first.sources} - {*first.late}:
            yield f"To load a date without a source instead: {without_command(first.late, first.day)}"


def _load(one: DatePlan) -> str:
    tables = f"{len(one.tables)} tables" if one.tables else "yes"
    return {LOAD: tables, NOTHING: "-", UNKNOWN: "unknown", REFUSE: "refused"}[one.load]


def _why(one: DatePlan) -> str:
    kept = [] if one.load in (NOTHING, UNKNOWN) else one.of(KEEP)
    to_text = f"becomes text for all dates: {', '.join(one.to_text)}" if one.to_text else ""
    return "; ".join(filter(None, [one.why, f"{', '.join(kept)} frozen" if kept else "", to_text,
                                   *one.refusals]))


def total(plans: Sequence[DatePlan]) -> dict[str, Any]:
    """Number of dates, extracts, loads and refused loads; known seconds; number of dates with unknown seconds."""
    return {
        "dates": len(plans), "extract": sum(len(one.of(EXTRACT)) for one in plans),
        "load": sum(one.load == LOAD for one in plans), "refused": sum(one.load == REFUSE for one in plans),
        "seconds": sum(one.seconds or 0 for one in plans),
        "seconds_unknown": sum(one.seconds is None for one in plans),
    }


def _total(plans: Sequence[DatePlan]) -> str:
    sums = total(plans)
    unknown, known = sums["seconds_unknown"], len(plans) - sums["seconds_unknown"]
    time = duration(sums["seconds"]) if known else "unknown"
    more = f" plus {unknown} dates of unknown duration" if unknown and known else ""
    refused = f" ({sums['refused']} refused)" if sums["refused"] else ""
    return (f"{sums['dates']} dates: {sums['extract']} extracts, {sums['load']} loads{refused}; {time}{more}, "
            "plus Meltano's start-up for each.")
