"""`landing drop`: remove one date."""

from __future__ import annotations

import click

from landing.cli.options import answered, as_json, locked_warehouse, output, with_schema
from landing.cli.removal import as_dicts, as_text
from landing.core.dates import parse_date
from landing.core.errors import LandingError
from landing.load.drop import Drop
from landing.zone.gc import removed
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Remove one date from landing zone and warehouse.")
@click.argument("day", metavar="DATE")
@click.option("--source", metavar="NAME", help="Only this source. Default: all sources.")
@click.option("--yes", is_flag=True, help="Remove it. Without --yes, only list what would be removed.")
@as_json
@with_schema
def drop(day: str, source: str | None, yes: bool, as_json: bool, schema: str) -> None:
    """Remove one date from the warehouse, then from the landing zone.

    Views that show it go back to the newest remaining date of their source. If none remains, they stay, empty, with a
    comment.
    """
    with answered(as_json):
        when, found = parse_date(day, "DATE"), []
        with locked_warehouse(schema) as warehouse:
            planned = list(Drop(LandingZone.configured(), warehouse, when, source))
            for result in removed(planned) if yes else ((one, "") for one in planned):
                found.append(result)
                if result[1]:  # never remove from the landing zone what is still loaded
                    break
        found += [(one, "not tried") for one in planned[len(found):]]
        nothing = f"Nothing to drop: {when}{f' of source {source}' if source else ''} is neither landed nor loaded."
        output(as_json, as_dicts(found, yes), lambda: as_text(found, yes) if found else nothing)
        if problems := [f"Not removed: {one.what}: {problem}" for one, problem in found if problem]:
            raise LandingError("\n".join(problems))
