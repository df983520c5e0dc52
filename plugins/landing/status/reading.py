"""Read the status of a landing zone and its warehouse.

A landing zone may have thousands of dates: manifests and run logs are read of the shown days only, and the two newest
manifests of each source.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import psycopg2

from landing.core.dates import now
from landing.core.errors import DamagedError, LandingError, describe
from landing.core.sources import declared_sources
from landing.core.text import age
from landing.load.refusals import Refusal
from landing.model.summary import Summary
from landing.status.dates import Found
from landing.status.facts import MAX_AGE, SourceDate, SourceStatus, Status
from landing.status.loaded import Loaded, read_loaded
from landing.zone import run_log
from landing.zone.chains import require_whole
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone

DAYS = 14
ByDay = dict[str, set[date]]


def read_status(schema: str | None = None, days: int = DAYS, max_age: timedelta = MAX_AGE, *,
                warehouse: bool = True) -> Status:
    """Read the status of all sources.

    Args:
        schema: Schema of the warehouse; None: SCHEMA, else public.
        days: How many days to show: the last ones or, if nothing was landed or tried in these, those before the newest
            date.
        max_age: A source is late if the data of its newest date, landed or loaded, is older.
        warehouse: Whether to read what is loaded. If it cannot be reached, the status says why.
    """
    reader = _Reader(LandingZone.configured(), schema or os.environ.get("SCHEMA", "public"), days, max_age)
    return reader.status(warehouse)


class _Reader:
    def __init__(self, zone: LandingZone, schema: str, days: int, max_age: timedelta) -> None:
        self.zone, self.schema, self.max_age, self.now = zone, schema, max_age, now()
        self.declared = declared_sources()
        self.landed = _by_source(zone.landed())
        self.tried = _by_source((source, day) for source, day, _ in run_log.logs(zone.storage))
        self.days = window(self.now.date(), days, [*self.landed.values(), *self.tried.values()])
        self.dates = {day: LandedDate(zone, day, without=()) for day in self.days}
        self.loaded: Loaded | None = None
        self.refused: list[Refusal] = []
        self.unreachable: str | None = None
        self._read: dict[tuple[str, date], Summary | DamagedError | None] = {}

    def status(self, warehouse: bool) -> Status:
        if warehouse:
            try:
                incomplete = [day for day, one in self.dates.items() if one.landed and one.lacks_declared()]
                self.loaded, left_out, self.refused = read_loaded(self.schema, self.days, incomplete)
                for day, sources in left_out.items():
                    self.dates[day].left_out = sources
            except LandingError as error:
                self.unreachable = str(error)
            except psycopg2.Error as error:
                self.unreachable = describe(error)
        return Status(self.now, self.zone.storage.describe(), self.schema if warehouse else None, self.unreachable,
                      self.max_age, self.days, [self._source(name) for name in self._names()])

    def _names(self) -> list[str]:
        """Declared sources, then others that are landed, loaded, or were tried on a shown day."""
        tried = [source for source, days in self.tried.items() if not days.isdisjoint(self.days)]
        others = {*self.landed, *tried, *(source for source, _ in self.loaded or {})}
        return list(dict.fromkeys([*self.declared, *sorted(others)]))

    def _source(self, name: str) -> SourceStatus:
        days = sorted(self.landed.get(name, ()), reverse=True)
        readable = (found for found in (self._summary(name, day) for day in days) if isinstance(found, Summary))
        landed, before = next(readable, None), next(readable, None)
        newest = max((day for source, day in self.loaded or {} if source == name), default=None)
        loaded = (newest, self.loaded[name, newest]) if newest else None
        ages = (landed and self._age(landed.extracted_at, landed.taken_at),
                loaded and self._age(newest, loaded[1].snapshot_at))
        late = [*self._late("landed", landed and landed.extracted_at, ages[0]), *self._late_load(newest, ages[1])]
        return SourceStatus(name, name in self.declared, [self._date(name, day) for day in self.days], landed, before,
                            loaded, *ages, late if name in self.declared else [])

    def _age(self, day: date, taken_at: datetime) -> timedelta:
        """Time since the snapshot or, of a date that was extracted later, since its end: a backfill is not fresh."""
        end = datetime.combine(day + timedelta(days=1), time(), UTC)
        return max(self.now - min(taken_at, end), timedelta(0))

    def _late(self, verb: str, day: date | None, old: timedelta | None) -> list[str]:
        if old is None:
            return [f"never {verb}"]
        too_old = f"the newest {verb} date, {day}, is {age(old)} old (limit {age(self.max_age)})"
        return [too_old] if old > self.max_age else []

    def _late_load(self, day: date | None, old: timedelta | None) -> list[str]:
        if self.loaded is not None:
            return self._late("loaded", day, old)
        return ["what is loaded is unknown, since the warehouse cannot be read"] if self.unreachable else []

    def _date(self, source: str, day: date) -> SourceDate:
        found, tried = self.dates[day], day in self.tried.get(source, ())
        needed = source not in found.landed and found.partly and source in found.missing
        refused = [one for one in self.refused if (one.source, one.day) == (source, day)]
        return Found(source, day, self._summary(source, day), (self.loaded or {}).get((source, day)),
                     self.loaded is not None, run_log.read(self.zone.storage, source, day) if tried else [],
                     found.missing if needed else (), refused).judged(self.now, self.schema)

    def _summary(self, source: str, day: date) -> Summary | DamagedError | None:
        """A manifest, read once; the error if it is damaged."""
        if day not in self.landed.get(source, ()):
            return None
        if (source, day) not in self._read:
            try:
                self._read[source, day] = found = self.zone.summary(source, day)
                if found:
                    require_whole(self.zone, found)
            except DamagedError as error:
                self._read[source, day] = error
        return self._read[source, day]


def _by_source(found: Iterable[tuple[str, date]]) -> ByDay:
    days: ByDay = {}
    for source, day in found:
        days.setdefault(source, set()).add(day)
    return days


def window(today: date, count: int, known: Iterable[set[date]]) -> list[date]:
    """The last `count` days or, if none of these is known, those up to the newest known date."""
    newest = max((max(days) for days in known), default=today)
    last = (today if (today - newest).days < count else newest).toordinal()
    return [date.fromordinal(one) for one in range(max(1, last - count + 1), last + 1)]
