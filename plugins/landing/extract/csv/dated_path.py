"""Paths that contain the date of the run: `inbox/sales_{date}.csv`, `in/{date:%Y/%m}/*.csv`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from string import Formatter

from landing.core.sources import is_of_one_date

# Directives of strftime that a calendar date decides; a flag, as in %-d, leaves out a leading zero.
FORMAT = re.compile(r"([^%{}]|%%|%[-_0^#]?[YyCGgmbBhdejaAuwUVWDF])*")
SEARCHED = 366  # days before and after


@dataclass(frozen=True)
class DatedPath:
    """A declared path; `{date}` and `{date:FORMAT}` stand for the date, `{{` and `}}` for braces."""

    declared: str

    def __post_init__(self) -> None:
        """Raises ValueError if the path has any other braces."""
        try:
            parts = [*Formatter().parse(self.declared)]
        except ValueError:
            raise ValueError("has a brace without its counterpart") from None
        for _, name, format_, conversion in parts:
            if name is not None and (name != "date" or conversion):
                raise ValueError(f"has the placeholder {{{name}}}")
            if format_ and not ("%" in format_.replace("%%", "") and FORMAT.fullmatch(format_)):
                raise ValueError(f"has {{date:{format_}}}, which is not a format of a date as for strftime")

    @property
    def dated(self) -> bool:
        """Whether the path depends on the date."""
        return any(name is not None for _, name, _, _ in Formatter().parse(self.declared))

    def on(self, day: date) -> str:
        """The path for a date."""
        return self.declared.format(date=day)

    def nearest(self, day: date, count: int, exists: Callable[[str], bool]) -> list[date]:
        """The closest dates whose path exists, in order."""
        if not is_of_one_date(self.declared, day):
            return []  # by month, year or weekday: one path stands for many
        others = (_moved(day, days) for distance in range(1, SEARCHED + 1) for days in (-distance, distance))
        found = (other for other in others if exists(self.on(other)))
        return sorted(other for _, other in zip(range(count), found, strict=False))


def _moved(day: date, days: int) -> date:
    return date.fromordinal(min(max(day.toordinal() + days, 1), date.max.toordinal()))
