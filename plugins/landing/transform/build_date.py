"""The date that a build of the transform shows, and the suffix of its schemas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from landing.core.commands import load_command
from landing.core.errors import WarehouseError
from landing.load.load_history import LoadHistory


@dataclass(frozen=True)
class BuildDate:
    """What a build shows. `newest`: the newest loaded date of any source."""

    day: date
    newest: date

    @property
    def suffix(self) -> str:
        """Of all schemas of the build: an older date never replaces the newest one's tables."""
        return "" if self.day == self.newest else f"_{self.day:%Y_%m_%d}"


def build_date(loads: LoadHistory, requested: date | None) -> BuildDate:
    """The requested date, else the newest loaded one.

    Raises:
        WarehouseError: Nothing is loaded for it.
    """
    loaded = sorted(set(loads.newest().values()))
    if not loaded:
        when = f" of {requested}" if requested else ""
        raise WarehouseError(f"Nothing{when} is loaded into schema {loads.default}. Load a landed date first: "
                             f"{load_command(requested, loads.default) if requested else 'make demo'}")
    if requested and not loads.sources(requested):
        raise WarehouseError(f"{requested} is not loaded into schema {loads.default}; the newest loaded date is "
                             f"{loaded[-1]}. Load it first: {load_command(requested, loads.default)}")
    return BuildDate(requested or loaded[-1], loaded[-1])
