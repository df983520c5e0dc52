"""The partition that a table's increment stands on, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from landing.model.increment import Increment
from landing.model.schema import File
from landing.storage.base import Object
from landing.zone.chains import Link, chain
from landing.zone.landing_zone import LandingZone


class NoBaseError(Exception):
    """Raised if a table is to be landed as a whole; its text says why."""


@dataclass(frozen=True)
class Base:
    """What an increment stands on. `links`: all of its chain, the whole table first."""

    zone: LandingZone
    links: Sequence[Link]

    @property
    def last(self) -> Link:
        """The base itself."""
        return self.links[-1]

    @property
    def rows(self) -> int:
        """Of the whole table on that date."""
        return self.last.table.total_rows

    def files(self, link: Link) -> list[tuple[Object, File]]:
        """The files of a link. Raises DamagedError if one is missing."""
        return [(self.zone.file(link.manifest, file), file) for file in link.table.files]

    def increment(self, total_rows: int, start: str | None = None) -> Increment:
        """The manifest's entry of a partition that stands on it."""
        last = self.last
        return Increment(base=last.manifest.extracted_at, base_run_id=last.manifest.run_id,
                         base_sha256=last.table.chain_sha256, total_rows=total_rows, number=len(self.links),
                         start=start)


def find_base(zone: LandingZone, source: str, day: date, stream: str) -> Base:
    """The newest landed date before `day` that has a table.

    Raises:
        NoBaseError: There is none.
        DamagedError: A part of its chain is missing or damaged.
    """
    days = sorted((one for _, one in zone.landed(source) if one < day), reverse=True)
    for one in days:
        manifest = zone.manifest(source, one)
        table = next((table for table in manifest.tables if table.stream == stream), None) if manifest else None
        if table:
            base = Base(zone, chain(zone, manifest, table))
            for link in base.links:
                base.files(link)
            return base
    raise NoBaseError("no earlier date has the table" if days else "it is the first date")
