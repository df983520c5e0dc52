"""The state of each date, and what a backfill would do.

    missing     a source of the date is not landed
    loaded      not landed any more, but in the warehouse
    landed      all sources are landed, nothing is loaded
    identical   landing zone and warehouse hold the same tables with the same SHA-256
    stale       loaded, but differs from what is landed
    damaged     a manifest or a landed file cannot be used
    unknown     all sources are landed; the warehouse cannot be reached

A backfill runs the extract of each source of a date, then the load. Loads are planned in order, each as if the
earlier dates had been loaded, so the plan knows which load of landed tables would be refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from landing.core.dates import today
from landing.core.errors import DamagedError, RefusedError, SettingError
from landing.core.sources import has_files_of_each_date
from landing.load.load_history import LoadedTable
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.warehouse import Warehouse
from landing.model.manifest import Manifest
from landing.model.schema import Table
from landing.verify.estimates import Estimates, LoadedTables
from landing.zone.chains import require_whole
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone

MEASURED_DATES = 60  # newest dates of a source whose durations count, besides those of the plan
EXTRACT, KEEP, REFUSE = "extract", "keep", "refuse"
LOAD, NOTHING, UNKNOWN = "load", "nothing", "unknown"
Loaded = Mapping[date, LoadedTables]
LeftOut = Mapping[date, Collection[str]]


@dataclass(frozen=True)
class DatePlan:
    """One date of a plan.

    `sources`: action by source. `load`: LOAD, NOTHING, UNKNOWN or REFUSE. `tables`: (source, table) to load, as far as
    known. `late`: sources whose extract would land today's rows under a past date. `seconds`: None if a duration is
    unknown. `refusals`: why the load would stop. `to_text`: history columns
    that the load would turn into text, with their types so far.
    """

    day: date
    state: str
    why: str
    sources: dict[str, str]
    load: str
    tables: list[tuple[str, str]]
    seconds: float | None
    refusals: list[str] = field(default_factory=list)
    to_text: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def of(self, action: str) -> list[str]:
        """Sources with this action."""
        return [source for source, one in self.sources.items() if one == action]


@dataclass(frozen=True)
class Landed:
    """A source's partition in the landing zone: its manifest, if any, and what is wrong with it or its files."""

    manifest: Manifest | None
    problem: str | None = None


class DryRun:
    """Plans the loads of landed partitions one after the other, without loading anything."""

    def __init__(self, warehouse: Warehouse, manifests: Iterable[Manifest]) -> None:
        """`manifests`: all partitions that will be planned."""
        self._warehouse = warehouse
        loads = [load for manifest in manifests for load, _ in self._placed(manifest, [])]
        self._plan = warehouse.planner(loads)
        if loads:
            warehouse.refuse_unknown_checks(loads)

    def _placed(self, manifest: Manifest, refusals: list[str]) -> Iterator[tuple[Load, Table]]:
        """The loads of a manifest's tables. Adds to the refusals those that have no place in the warehouse."""
        for table in manifest.tables:
            load = Load(manifest.source, manifest.extracted_at, manifest.run_id, manifest.taken_at, table)
            try:
                yield self._warehouse.names.placed(load), table
            except RefusedError as error:
                refusals.append(_refusal(error))

    def date(self, manifests: Iterable[Manifest], tables: Sequence[tuple[str, Table]]) -> tuple[list[str], list[str]]:
        """Plan the load of `tables`.

        Returns:
            Refusals, and columns that become text. If anything is refused, nothing counts as loaded.
        """
        refusals, planned = [], []
        loads = [pair for manifest in manifests for pair in self._placed(manifest, refusals)]
        wanted = {(source, table.stream) for source, table in tables}
        try:
            refuse_shared_names(load for load, _ in loads)
        except RefusedError as error:
            refusals.append(_refusal(error))
        for load, table in loads:
            if (load.source, table.stream) in wanted:
                try:
                    planned.append(self._plan(load))
                except RefusedError as error:
                    refusals.append(_refusal(error))
        return refusals, [] if refusals else [column for load in planned for column in self._plan.assume(load)]


def _refusal(error: RefusedError) -> str:
    return f"{error.where}: {error.what}. {error.then}"


class BackfillPlanner:
    """Plans a backfill. `loaded` is None if the warehouse cannot be reached. `left_out`: on purpose, by the loads."""

    def __init__(self, zone: LandingZone, loaded: Loaded | None, re_extract: bool,
                 left_out: LeftOut | None = None) -> None:
        self.zone, self.loaded, self.re_extract, self.left_out = zone, loaded, re_extract, left_out or {}
        self.warehouse: Warehouse | None = None  # set: plan the loads, too
        self.today = today()
        self._seen: dict[tuple[str, date], Landed] = {}

    def plan(self, first: date, last: date) -> list[DatePlan]:
        """Plan each date.

        Raises:
            SettingError: The dates are in the wrong order or in the future, or no source is declared.
        """
        if first > last:
            raise SettingError(f"--from {first} is later than --to {last}. Run again with the earlier date first.")
        if last > self.today:
            raise SettingError(f"--to {last} is in the future (today in UTC: {self.today}), so it cannot be extracted. "
                               f"Run again with --to {self.today}.")
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        dates = [LandedDate(self.zone, day, self.left_out.get(day, ())) for day in days]
        if not any(one.sources for one in dates):
            dates[0].required()
        found = {one.day: {source: self._landed(source, one.day) for source in one.sources} for one in dates}
        self._newest = {source: self._known(source) for source in {source for one in found.values() for source in one}}
        manifests = (one.manifest for one in self._seen.values() if one.manifest)
        self._estimates = Estimates(manifests, (self.loaded or {}).values())
        landed = [one.manifest for day in days for one in found[day].values() if one.manifest]
        self._dry_run = DryRun(self.warehouse, landed) if self.warehouse else None
        return [self._date(day, found[day]) for day in days]

    def _landed(self, source: str, day: date) -> Landed:
        if (source, day) not in self._seen:
            self._seen[source, day] = self._read(source, day)
        return self._seen[source, day]

    def _read(self, source: str, day: date) -> Landed:
        manifest = None
        try:
            manifest = self.zone.manifest(source, day)
            for file in (file for table in manifest.tables for file in table.files) if manifest else ():
                self.zone.file(manifest, file)
            if manifest:
                require_whole(self.zone, manifest)
        except DamagedError as error:
            return Landed(manifest, str(error))
        return Landed(manifest)

    def _known(self, source: str) -> Manifest | None:
        """Newest manifest of a source: the forecast of its next extract. Reads others for their durations, too."""
        days = sorted((day for name, day in self.zone.landed() if name == source), reverse=True)[:MEASURED_DATES]
        return next((one.manifest for one in [self._landed(source, day) for day in days] if one.manifest), None)

    def _date(self, day: date, found: Mapping[str, Landed]) -> DatePlan:
        have = None if self.loaded is None else LoadedTables(
            one for one in (self.loaded[day].entries if day in self.loaded else ()) if one.source in found)
        state, why = _state(found, have)
        sources = {source: self._action(day, one) for source, one in found.items()}
        will = {source: self._newest[source] if sources[source] == EXTRACT else one.manifest
                for source, one in found.items()}
        if any(one.problem and sources[source] != EXTRACT for source, one in found.items()):
            load, tables = REFUSE, []
        else:
            load, tables = _load(sources, will, have)
        refusals, to_text = [], []
        if load == LOAD and self._dry_run:
            kept = {source for source, action in sources.items() if action == KEEP}
            refusals, to_text = self._dry_run.date([will[source] for source in kept],
                                                 [one for one in tables if one[0] in kept])
        if refusals:
            load, tables = REFUSE, []
        return DatePlan(day, state, why, sources, load, [(source, table.name) for source, table in tables],
                        self._seconds(sources, will, load, tables), refusals, to_text, self._late(day, sources, found))

    def _late(self, day: date, sources: Mapping[str, str], found: Mapping[str, Landed]) -> list[str]:
        """Sources whose extract would land today's rows under a past date, which has none of theirs."""
        return [source for source, action in sources.items()
                if action == EXTRACT and day < self.today and found[source] == Landed(None)
                and not has_files_of_each_date(source, day)]

    def _action(self, day: date, landed: Landed) -> str:
        if self.re_extract or day >= self.today or landed == Landed(None):
            return EXTRACT
        return KEEP if landed.manifest else REFUSE

    def _seconds(self, sources: Mapping[str, str], will: Mapping[str, Manifest | None], load: str,
                 tables: Sequence[tuple[str, Table]]) -> float | None:
        extracts = [source for source, action in sources.items() if action == EXTRACT]
        if load == UNKNOWN or any(will[source] is None for source in extracts):
            return None
        parts = [self._estimates.extract(source, will[source].rows) for source in extracts]
        parts += [self._estimates.load(source, table.name, table.total_rows) for source, table in tables]
        return None if None in parts else sum(parts)


def _load(sources: Mapping[str, str], will: Mapping[str, Manifest | None],
          have: LoadedTables | None) -> tuple[str, list[tuple[str, Table]]]:
    """Whether the load has anything to do, and the tables whose run is not in the load history."""
    if have is None and EXTRACT not in sources.values():
        return UNKNOWN, []
    tables = [(source, table) for source, manifest in will.items() if manifest for table in manifest.tables
              if sources[source] == EXTRACT or _run(have, source, table) != manifest.run_id]
    gone = [one for source, manifest in will.items() if have
            for one in have.others(source, manifest.tables if manifest else ())]
    return LOAD if tables or EXTRACT in sources.values() or gone else NOTHING, tables


def _run(have: LoadedTables | None, source: str, table: Table) -> str | None:
    entry: LoadedTable | None = have.get(source, table) if have else None
    return entry.run_id if entry else None


def _state(found: Mapping[str, Landed], have: LoadedTables | None) -> tuple[str, str]:
    """State of a date and the reason for it."""
    if problems := [one.problem for one in found.values() if one.problem]:
        return "damaged", "; ".join(problems)
    missing = [source for source, one in found.items() if one.manifest is None]
    if not found:
        return "missing", "none of its sources is declared"
    if missing:
        loaded = have and {*missing} <= {one.source for one in have.entries}
        return "loaded" if loaded else "missing", f"{', '.join(missing)} not landed"
    if have is None:
        return "unknown", "landed; the warehouse cannot be reached"
    if not have.entries:
        return "landed", "not loaded"
    landed = [(source, table, have.get(source, table)) for source, one in found.items()
              for table in one.manifest.tables]
    differ = {f"{source}.{table.name}" for source, table, entry in landed
              if entry is None or entry.sha256 != table.chain_sha256}
    differ |= {f"{source}.{entry.table}" for source, one in found.items()
               for entry in have.others(source, one.manifest.tables)}
    return ("stale", f"differs: {', '.join(sorted(differ))}") if differ else ("identical", "")
