"""One date of a landing zone: its sources, and which of them are missing.

A date is complete by the sources that its own day had. Each manifest records the sources that were declared when it was
taken (`declared`), so a source that is added to meltano.yml later is not missing from the dates before it. Load, plan,
verify, show, the notebook and the DAG all ask here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property

from landing.core.commands import how_to_land
from landing.core.dates import today
from landing.core.errors import NotLandedError, SettingError
from landing.core.sources import declared_sources, without_sources
from landing.model.manifest import Manifest
from landing.model.summary import Summary
from landing.zone.landing_zone import LandingZone


class LandedDate:
    """A date of a landing zone."""

    def __init__(self, zone: LandingZone, day: date, left_out: Collection[str] = (),
                 without: Sequence[str] | None = None) -> None:
        """`left_out`: sources that its load left out; one that is landed counts all the same. `without`: sources to
        leave out in any case; None: those of WITHOUT_SOURCES.
        """
        self.zone, self.day, self.left_out = zone, day, left_out
        self._without = without_sources() if without is None else without
        self.landed = zone.sources_landed(day)
        self._declared = declared_sources()

    @cached_property
    def sources(self) -> list[str]:
        """Sources that the date consists of, landed or missing, in the order of meltano.yml.

        Of those that meltano.yml no longer declares, only landed ones count. WITHOUT_SOURCES leaves out any of them.

        Raises:
            SettingError: WITHOUT_SOURCES names an unknown source, or leaves out all.
        """
        known = dict.fromkeys([*self._declared, *self._all])
        if unknown := [name for name in self._without if name not in known]:
            raise SettingError(f"WITHOUT_SOURCES names {', '.join(unknown)}, which {self.day} does not have. Its "
                               f"sources: {', '.join(self._all) or 'none'}. Correct it, and run again.")
        found = [name for name in self._all if name not in self._without]
        if self._all and not found:
            raise SettingError(f"WITHOUT_SOURCES={','.join(self._without)} leaves no source of {self.day}. Correct it, "
                               "and run again.")
        return found

    @property
    def without(self) -> list[str]:
        """Sources that WITHOUT_SOURCES leaves out of the date."""
        return [name for name in self._all if name in self._without]

    @cached_property
    def _all(self) -> list[str]:
        recorded = self.recorded()
        here = {name for name in self.landed if name in self._declared or name in recorded}
        needed = {name for name in recorded if name in self._declared and name not in self.left_out}
        return [name for name in dict.fromkeys([*self._declared, *recorded]) if name in here | needed]

    def with_run(self, run_id: str) -> list[str]:
        """The source whose newest run this is, or a kept one. Raises NotLandedError if there is none."""
        found = [source for source in self.landed if run_id in self.zone.kept_runs(source, self.day)
                 or ((newest := self.zone.readable(source, self.day)) and newest.run_id == run_id)]
        if not found:
            raise NotLandedError(f"Run {run_id} of {self.day} is not there: it did not commit, or another replaced it. "
                                 f"`landing show {self.day}` lists the runs that are.")
        return found

    @property
    def missing(self) -> list[str]:
        """Sources of the date that are not landed."""
        return [source for source in self.sources if source not in self.landed]

    @property
    def partly(self) -> bool:
        """Whether any source of the date is landed."""
        return not {*self.sources}.isdisjoint(self.landed)

    def how_to_land(self) -> str:
        """What to do about all sources that are missing."""
        return how_to_land(self.missing, self.day, self.without, partly=self.partly)

    def lacks_declared(self) -> bool:
        """Whether a source that is declared now is not landed: only then any can be missing. Reads no manifest."""
        return not {*self._declared} <= {*self.landed}

    @property
    def removed(self) -> list[str]:
        """Sources that were declared then, and are neither landed nor declared any more."""
        return [name for name in self.recorded() if name not in {*self._declared, *self.landed}]

    def manifests(self) -> list[Manifest]:
        """The manifests of all its sources.

        Raises:
            SettingError: No source is declared.
            DamagedError: One that is landed cannot be read.
            NotLandedError: Some are missing; the message names all of them, and offers what can be done.
        """
        found = [self.zone.require(source, self.day) for source in self.required() if source not in self.missing]
        if self.missing:
            raise self.zone.not_landed(self.missing, self.day, self.how_to_land())
        return found

    def required(self) -> list[str]:
        """`sources`; SettingError if there are none."""
        if not self.sources:
            raise SettingError(self.no_source)
        return self.sources

    @property
    def no_source(self) -> str:
        """Why the date has no source, and what to do."""
        if not self._declared:
            return "meltano.yml declares no source: it has no job named extract_<source>."
        had = ", ".join(dict.fromkeys([*self.landed, *self.recorded()])) or "none"
        return (f"None of the sources of {self.day} ({had}) is declared in meltano.yml ({', '.join(self._declared)}). "
                "If one has another name now, run `landing rename OLD NEW`; else declare it, and run again.")

    def to_record(self, source: str, began: datetime) -> list[str]:
        """`declared` of a manifest of this date, by a run that began then.

        For a past date of which something is landed it stays what it was then.
        """
        if self.day >= _utc_date(began) or not self._read:
            return self._declared
        replaced = self._read.get(source)
        kept = self.recorded() if replaced is None or replaced.declared is None else replaced.declared
        return list(dict.fromkeys([*kept, *([source] if source in self._declared else [])]))

    def recorded(self) -> list[str]:
        """Sources that were declared according to the manifests of the date; without any, those declared now.

        Today's date also needs what is declared now.
        """
        names = self._declared if self.day >= today() or not self._read else []
        return list(dict.fromkeys([*names, *(name for one in self._read.values() for name in self._recorded_by(one))]))

    def _recorded_by(self, manifest: Summary) -> Sequence[str]:
        """For a manifest of an older version: its own source and the declared ones, but those that came later."""
        if manifest.declared is not None:
            return manifest.declared
        declared = [name for name in self._declared if self._existed(name, _utc_date(manifest.taken_at))]
        return list(dict.fromkeys([*declared, manifest.source]))

    def _existed(self, source: str, by: date) -> bool:
        """Whether a source was landed by the end of a day; one that never was may have failed, and counts."""
        days = sorted((day for _, day in self.zone.landed(source)), reverse=True)
        return not days or any(_utc_date(one.taken_at) <= by for one in self._manifests(source, days, by))

    def _manifests(self, source: str, days: Sequence[date], by: date) -> Iterator[Summary]:
        """Readable manifests that may have been taken by a day: none is taken before its date."""
        for day in days:
            if day <= by and (manifest := self.zone.readable(source, day)):
                yield manifest

    @cached_property
    def _read(self) -> dict[str, Summary]:
        found = {source: self.zone.readable(source, self.day) for source in self.landed}
        return {source: manifest for source, manifest in found.items() if manifest}


def _utc_date(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
