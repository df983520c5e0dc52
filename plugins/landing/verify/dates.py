"""Verifies several dates in one pass: the next one is begun while tables of the one before are still hashed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date

from landing.core.errors import LandingError, SettingError, ZoneError
from landing.core.sources import declared_sources
from landing.verify.reconcile import Reconciliation, Verification
from landing.verify.workers import AHEAD
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone


@dataclass
class DateVerification:
    """Result for one date. `error`: why it could not be verified. `without`: sources that its load left out."""

    day: date
    tables: list[Verification] = field(default_factory=list)
    error: LandingError | None = None
    without: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[Verification]:
        """Tables that do not match."""
        return [one for one in self.tables if not one.holds]

    @property
    def holds(self) -> bool:
        """Whether source, files and warehouse match in all tables."""
        return not (self.error or self.wrong)


def verify_dates(zone: LandingZone, reconciliation: Reconciliation, days: Iterable[date]) -> list[DateVerification]:
    """Verify dates. One that is not landed, or is damaged, does not stop the others."""
    found: list[DateVerification] = []
    waiting: deque[tuple[DateVerification, Future[Verification]]] = deque()

    def collect(left: int) -> None:
        while len(waiting) > left:
            one, started = waiting.popleft()
            one.tables.append(started.result())

    for day in days:
        found.append(one := DateVerification(day))
        try:
            landed = LandedDate(zone, day, reconciliation.left_out(day))
            for manifest in landed.manifests():
                for started in reconciliation.started(manifest):
                    waiting.append((one, started))
                    collect(AHEAD)
            one.without = sorted({*landed.left_out, *landed.without} - {*landed.sources})
        except (ZoneError, SettingError) as error:
            one.error = error
    collect(0)
    return found


def days_between(zone: LandingZone, reconciliation: Reconciliation, first: date, last: date) -> list[date]:
    """Dates from `first` to `last` of which something is landed, or of a declared source loaded, in order."""
    declared = declared_sources()
    loaded = (one for one in reconciliation.loaded() if one[0] in declared)
    return sorted({day for _, day in [*zone.landed(), *loaded] if first <= day <= last})
