"""Shared by `copy` and `export`: which partitions to bring to another root, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click

from landing.cli.options import logger
from landing.core.dates import parse_date
from landing.core.errors import LandingError, NotLandedError, SettingError
from landing.core.text import size, table
from landing.zone.landing_zone import LandingZone

Outcome = dict[str, Any]
Partition = tuple[str, date]
FAILED = "failed"

with_days = click.argument("days", metavar="[DATE]...", nargs=-1)
with_root = click.option("--to", "root", required=True, metavar="ROOT", help="The other root: a folder or a URL.")
with_all = click.option("--all", "every", is_flag=True, help="All landed dates.")
with_source = click.option("--source", metavar="NAME", help="Only this source. Default: all sources.")


def wanted(zone: LandingZone, days: Sequence[str], source: str | None, every: bool) -> list[Partition]:
    """Source and date of each partition, by date.

    Raises:
        SettingError: No date, or dates and --all.
        NotLandedError: Nothing is landed for a date.
    """
    if bool(days) == every:
        raise SettingError("Give one or more dates, or --all for all of them.")
    landed = [one for one in zone.landed() if source in (None, one[0])]
    if not every:
        landed = [one for day in sorted({parse_date(day, "DATE") for day in days})
                  for one in _of(landed, day, source, zone)]
    return sorted(landed, key=lambda one: one[::-1])


def _of(landed: Sequence[Partition], day: date, source: str | None, zone: LandingZone) -> list[Partition]:
    if found := [one for one in landed if one[1] == day]:
        return found
    raise NotLandedError(f"{source or 'No source'} is{' not' if source else ''} landed for {day} in "
                         f"{zone.storage.describe()}. `landing list` shows what is landed.")


def each(partitions: Iterable[Partition], bring: Callable[[str, date], Any]) -> list[Outcome]:
    """Bring each partition, whatever becomes of the others. `bring` returns a dataclass with `outcome`."""
    found = []
    for source, day in partitions:
        try:
            found.append(asdict(bring(source, day)) | {"problem": None})
        except LandingError as error:
            logger.error("%s", error)
            found.append({"source": source, "extracted_at": day, "outcome": FAILED, "problem": str(error)})
    return found


def raise_failed(found: Sequence[Outcome]) -> None:
    """Raise LandingError if some failed."""
    if failed := [f"{one['source']} of {one['extracted_at']}" for one in found if one["problem"]]:
        raise LandingError(f"Failed: {', '.join(failed)}. The messages above say why.")


def as_text(to: str, found: Sequence[Outcome], head: Sequence[str], then: str) -> str:
    """Render what was brought, with a summary. `head`: the columns; `then`: the last sentences."""
    if not found:
        return "Nothing is landed."
    counts = ", ".join(f"{sum(one['outcome'] == outcome for one in found)} {outcome}"
                       for outcome in dict.fromkeys(one["outcome"] for one in found))
    total = size(sum(one.get("bytes") or 0 for one in found))
    rows = table(head, [[one.get(name) for name in head] for one in found])
    return f"{rows}\n{to}: {counts}, {total}. {then}".rstrip()
