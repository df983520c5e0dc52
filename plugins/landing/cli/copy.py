"""`landing copy`: bring landed dates to another root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click

from landing.cli.options import answered, as_json, logger, output
from landing.core.dates import parse_date
from landing.core.errors import LandingError, NotLandedError, SettingError
from landing.core.settings import keep_private, landing_root
from landing.core.text import size, table
from landing.zone.copy import THERE, PartitionCopy, refuse_same_root
from landing.zone.landing_zone import LandingZone

Outcome = dict[str, Any]
STILL_HERE = ("They are still here, too. To go on there, set LANDING_ROOT; then remove the files here. (`landing drop` "
              "would remove the dates from the warehouse as well.)")


@click.command(short_help="Copy dates to another landing root, verified.")
@click.argument("days", metavar="[DATE]...", nargs=-1)
@click.option("--to", "root", required=True, metavar="ROOT", help="The other root: a folder or a URL.")
@click.option("--all", "every", is_flag=True, help="Copy all landed dates.")
@click.option("--source", metavar="NAME", help="Only this source. Default: all sources.")
@click.option("--replace", is_flag=True, help="Replace dates that are there from another run, or damaged.")
@as_json
def copy(days: tuple[str, ...], root: str, every: bool, source: str | None, replace: bool, as_json: bool) -> None:
    """Copy landed dates to another landing root, with the same files, hashes and run ids.

    Every file is hashed as it is read here and read back there; a source's date is committed there whole or not at
    all. What is there already from the same run stays as it is, so a copy that was interrupted is run again.
    """
    with answered(as_json):
        keep_private([])
        origin, target = LandingZone.configured(), LandingZone.at(landing_root(root))
        refuse_same_root(origin, target)
        found = [_copied(PartitionCopy(origin, target, *one, replace=replace))
                 for one in _wanted(origin, days, source, every)]
        value = {"to": target.storage.describe(), "partitions": found}
        output(as_json, value, lambda: as_text(target.storage.describe(), found))
        if failed := [f"{one['source']} of {one['extracted_at']}" for one in found if one["problem"]]:
            raise LandingError(f"Not copied: {', '.join(failed)}. The messages above say why.")


def _wanted(zone: LandingZone, days: Sequence[str], source: str | None, every: bool) -> list[tuple[str, date]]:
    """Source and date of each partition to copy, by date.

    Raises:
        SettingError: No date, or dates and --all.
        NotLandedError: Nothing is landed for a date.
    """
    if bool(days) == every:
        raise SettingError("Give the dates to copy, or --all for all of them.")
    landed = [one for one in zone.landed() if source in (None, one[0])]
    if every:
        return sorted(landed, key=lambda one: one[::-1])
    wanted = sorted({parse_date(day, "DATE") for day in days})
    return [one for day in wanted for one in _of(landed, day, source, zone)]


def _of(landed: Sequence[tuple[str, date]], day: date, source: str | None, zone: LandingZone
        ) -> Iterator[tuple[str, date]]:
    if not (found := [one for one in landed if one[1] == day]):
        raise NotLandedError(f"{source or 'No source'} is{' not' if source else ''} landed for {day} in "
                             f"{zone.storage.describe()}. Nothing was copied. `landing list` shows what is landed.")
    yield from found


def _copied(partition: PartitionCopy) -> Outcome:
    """Copy one partition: the others are copied whatever becomes of it."""
    try:
        return asdict(partition.run()) | {"problem": None}
    except LandingError as error:
        logger.error("%s", error)
        return {"source": partition.source, "extracted_at": partition.day, "tables": None, "rows": None, "bytes": None,
                "run_id": None, "outcome": "not copied", "problem": str(error)}


def as_text(to: str, found: Sequence[Outcome]) -> str:
    """Render what was copied, with a summary."""
    if not found:
        return "Nothing to copy."
    head = ("source", "extracted_at", "tables", "rows", "bytes", "outcome")
    done = [one for one in found if not one["problem"]]
    new = [one for one in done if one["outcome"] != THERE]
    sums = f"{len(new)} copied ({size(sum(one['bytes'] for one in new))}), {len(done) - len(new)} there already"
    failed = f", {len(found) - len(done)} NOT COPIED" if len(done) < len(found) else ""
    return f"{table(head, [[one[name] for name in head] for one in found])}\n{to}: {sums}{failed}. {STILL_HERE}"
