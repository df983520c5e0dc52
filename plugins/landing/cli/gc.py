"""`landing gc`: what may go, and its removal."""

from __future__ import annotations

from collections.abc import Iterator

import click
import psycopg2

from landing.cli.options import as_json, hold_warehouse, logger, say, with_schema
from landing.cli.removal import described, swept
from landing.core.errors import (
    LandingError,
    describe,
    reported,
)
from landing.load.gc import WarehouseLeftovers
from landing.zone.gc import OLDER_THAN, Leftover, ZoneLeftovers, first_kept, removed
from landing.zone.landing_zone import LandingZone


@click.command(short_help="What may go: leftovers and, if you like, old dates.")
@click.option("--keep-days", type=click.IntRange(0, 36500), metavar="N",
              help="Dates before the last N days go too, landed and loaded; the newest of each stays in any case.")
@click.option("--older-than", type=click.FloatRange(min=0), default=OLDER_THAN, show_default=True,
              metavar="HOURS", help="A run that changed nothing for so long is taken for dead.")
@click.option("--yes", is_flag=True, help="Remove it. Without, it is only said what would go.")
@as_json
@with_schema
def gc(keep_days: int | None, older_than: float, yes: bool, as_json: bool, schema: str) -> None:
    """Say what may go, and remove it with --yes: what dead runs left behind and, with --keep-days, old dates."""
    with reported(logger):
        first, problems = first_kept(keep_days), []
        found = list(_swept(ZoneLeftovers(LandingZone.configured(), first, older_than), yes))
        try:
            with hold_warehouse(schema) as warehouse:
                found += _swept(WarehouseLeftovers(warehouse, first), yes) if warehouse else []
        except (LandingError, psycopg2.Error) as error:
            why = describe(error) if isinstance(error, psycopg2.Error) else error
            problems = [f"What is left over in the warehouse stays: {why}"]
        say(as_json, described(found, yes), lambda: swept(found, yes))
        problems += [f"{one.what} stays: {problem}" for one, problem in found if problem]
        if problems:
            raise LandingError("\n".join(problems))


def _swept(leftovers: ZoneLeftovers | WarehouseLeftovers,
           yes: bool) -> Iterator[tuple[Leftover, str]]:
    found = list(leftovers)
    return removed(found) if yes else ((one, "") for one in found)
