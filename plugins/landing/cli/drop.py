"""`landing drop`: one date out of landing zone and warehouse."""

from __future__ import annotations

import click

from landing.cli.options import as_json, hold_warehouse, logger, say, with_schema
from landing.cli.removal import described, swept
from landing.core.dates import parse_date
from landing.core.errors import (
    LandingError,
    reported,
)
from landing.load.drop import Drop
from landing.zone.gc import removed
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Take one date out of landing zone and warehouse.")
@click.argument("day", metavar="DATE")
@click.option("--source", metavar="NAME", help="Only this source's date; unset: every source's.")
@click.option("--yes", is_flag=True, help="Drop it. Without, it is only said what would go.")
@as_json
@with_schema
def drop(day: str, source: str | None, yes: bool, as_json: bool, schema: str) -> None:
    """Take a date out of the warehouse and then out of the landing zone, whichever date it is.

    Views that show it go back to the newest date of their source that is left. A source without any keeps its views,
    empty, with a comment.
    """
    with reported(logger):
        when, found = parse_date(day, "DATE"), []
        with hold_warehouse(schema) as warehouse:
            things = list(Drop(LandingZone.configured(), warehouse, when, source))
            for result in removed(things) if yes else ((one, "") for one in things):
                found.append(result)
                if result[1]:  # the landing zone keeps what the warehouse has
                    break
        found += [(one, "not tried") for one in things[len(found):]]
        nothing = f"Nothing of {when} is landed or loaded{f' of source {source}' if source else ''}."
        say(as_json, described(found, yes), lambda: swept(found, yes) if found else nothing)
        if problems := [f"{one.what} stays: {problem}" for one, problem in found if problem]:
            raise LandingError("\n".join(problems))
