"""`landing gc`: remove leftovers of dead runs and, on request, old dates."""

from __future__ import annotations

from collections.abc import Iterator

import click
import psycopg2

from landing.cli.options import answered, as_json, locked_warehouse, output, with_schema
from landing.cli.removal import as_dicts, as_text
from landing.core.errors import LandingError, describe
from landing.load.gc import WarehouseLeftovers, adopt_targets
from landing.zone.gc import DEAD_AFTER, Leftover, ZoneLeftovers, first_kept, removed
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Remove leftovers of dead runs and, with --keep-days, old dates.")
@click.option("--keep-days", type=click.IntRange(0, 36500), metavar="N",
              help="Also remove dates older than N days, landed and loaded. The newest of each source is always kept.")
@click.option("--keep-runs", type=click.IntRange(0, 36500), metavar="N",
              help="Also remove earlier runs (`runs: keep`) of dates older than N days. What others stand on is kept.")
@click.option("--older-than", type=click.FloatRange(min=0), default=DEAD_AFTER, show_default=True,
              metavar="HOURS", help="Treat a run as dead after this many hours without writes.")
@click.option("--yes", is_flag=True, help="Remove. Without --yes, only list what would be removed.")
@as_json
@with_schema
def gc(keep_days: int | None, keep_runs: int | None, older_than: float, yes: bool, as_json: bool, schema: str) -> None:
    """List leftovers of dead runs and, with --keep-days, old dates. With --yes, remove them."""
    with answered(as_json):
        first, problems = first_kept(keep_days), []
        zone = LandingZone.configured()
        found = list(_removed(ZoneLeftovers(zone, first, older_than, first_kept(keep_runs)), yes))
        try:
            with locked_warehouse(schema, before=lambda warehouse: adopt_targets(warehouse, zone)) as warehouse:
                found += _removed(WarehouseLeftovers(warehouse, first), yes) if warehouse else []
        except (LandingError, psycopg2.Error) as error:
            why = describe(error) if isinstance(error, psycopg2.Error) else error
            problems = [f"Not cleaned up: the warehouse. {why}"]
        output(as_json, as_dicts(found, yes), lambda: as_text(found, yes))
        problems += [f"Not removed: {one.what}: {problem}" for one, problem in found if problem]
        if problems:
            raise LandingError("\n".join(problems))


def _removed(leftovers: ZoneLeftovers | WarehouseLeftovers, yes: bool) -> Iterator[tuple[Leftover, str]]:
    found = list(leftovers)
    return removed(found) if yes else ((one, "") for one in found)
