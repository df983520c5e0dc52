"""Chains of partitions: an increment, what it stands on, and so on back to a partition with the whole table.

A base that was removed, damaged or taken again leaves the dates that stand on it without their rows, unless the run is
kept. The manifests say so: each names its base's date and run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from msgspec import structs

from landing.core.commands import extract_command, how_to_repair
from landing.core.errors import DamagedError, RefusedError
from landing.model.evolution import widened
from landing.model.increment import Increment
from landing.model.manifest import Manifest
from landing.model.schema import Column, Table
from landing.model.summary import Summary
from landing.storage.base import Storage
from landing.zone.landing_zone import LandingZone

Read = TypeVar("Read", Manifest, Summary)


@dataclass(frozen=True)
class Link:
    """One partition of a chain, and the table in it."""

    manifest: Manifest
    table: Table


class ReadOnce(LandingZone):
    """A landing zone whose manifests are read once, for a run that looks at many tables of the same dates."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._found: dict[tuple[str, date, str | None], Manifest | None] = {}
        self._days: dict[str | None, list[tuple[str, date]]] = {}

    def manifest(self, source: str, day: date, run_id: str | None = None) -> Manifest | None:
        at = source, day, run_id
        if at not in self._found:
            self._found[at] = super().manifest(source, day, run_id)
        return self._found[at]

    def landed(self, source: str | None = None) -> Iterator[tuple[str, date]]:
        if source not in self._days:
            self._days[source] = [*super().landed(source)]
        yield from self._days[source]


def chain(zone: LandingZone, manifest: Manifest, table: Table) -> list[Link]:
    """The partitions that make up a table on a date, the whole one first. Raises DamagedError if one is missing."""
    found = [Link(manifest, table)]
    while one := found[-1].table.increment:
        day = found[-1].manifest.extracted_at
        try:
            base = _base(zone.manifest, manifest.source, one)
        except DamagedError as error:
            raise _broken(manifest, day, one, str(error)) from None
        if why := _missing(one, base):
            raise _broken(manifest, day, one, why)
        below = [other for other in base.tables if other.stream == table.stream]
        if not below:
            raise _broken(manifest, day, one, f"lacks {table.stream}")
        found.append(Link(base, *below))
    return found[::-1]


def all_columns(links: Sequence[Link]) -> list[Column]:
    """The columns of a chain's partitions: a column that changed has the type that holds all of its values.

    Raises:
        RefusedError: There is no such type.
    """
    found: dict[str, Column] = {}
    for link in links:
        for column in link.table.columns:
            before = found.get(column.name, column)
            if not (before.evidence and column.evidence):
                found[column.name] = before if before.evidence else column
                continue
            type_ = widened(before.type, column.type)
            if type_ is None:
                raise RefusedError(
                    f"{link.manifest.source} of {link.manifest.extracted_at}, table {link.table.name}, column "
                    f"{column.name}", f"the dates before have the type {before.type}, this one {column.type}, and "
                    "neither holds the other without loss", "Declare the type, then extract again")
            found[column.name] = structs.replace(column, type=type_, nullable=before.nullable or column.nullable)
    return [*found.values()]


def require_whole(zone: LandingZone, found: Manifest | Summary) -> None:
    """Raise DamagedError if a partition that one of its tables stands on is missing. Reads no file of a table."""
    todo = [(found.extracted_at, table.stream, table.increment) for table in found.tables if table.increment]
    read: dict[tuple[date, str], Summary | None] = {}
    while todo:
        day, stream, one = todo.pop()
        if (at := (one.base, one.base_run_id)) not in read:
            try:
                read[at] = _base(zone.summary, found.source, one)
            except DamagedError as error:
                raise _broken(found, day, one, str(error)) from None
        if why := _missing(one, base := read[at]) or ("" if one.base < day else "is not an earlier date"):
            raise _broken(found, day, one, why)
        todo += [(one.base, stream, table.increment) for table in base.tables
                 if table.stream == stream and table.increment]


def standing_on(zone: LandingZone, source: str, day: date, runs: Collection[str], *, kept: bool = False) -> list[date]:
    """Later dates with tables that stand on runs of a date, directly or through others, in order.

    `kept`: also those of which only a run that is kept does.
    """
    found: dict[tuple[date, str], set[str]] = {}
    days: list[date] = []
    for later in sorted(one for _, one in zone.landed(source) if one > day):
        for number, summary in enumerate(_runs(zone, source, later)):
            streams = {table.stream for table in summary.tables if (one := table.increment) and (
                (one.base == day and one.base_run_id in runs)
                or table.stream in found.get((one.base, one.base_run_id), ()))}
            found[later, summary.run_id] = streams
            days += [later] if streams and (kept or not number) else []
    return [*dict.fromkeys(days)]


def _runs(zone: LandingZone, source: str, day: date) -> Iterator[Summary]:
    """The runs of a partition, those that can be read, the newest first."""
    if newest := zone.readable(source, day):
        yield newest
        yield from filter(None, (zone.readable(source, day, run_id) for run_id in zone.earlier(newest)))


def lacking(zone: LandingZone, manifest: Manifest) -> list[date]:
    """Later dates that do not contain a date which was landed after them: of tables that are appended to, in order."""
    found: dict[date, set[str]] = {}
    appended = {table.stream for table in manifest.tables if table.appended}
    for _, later in sorted(zone.landed(manifest.source)) if appended else ():
        if later > manifest.extracted_at and (summary := zone.readable(manifest.source, later)):
            streams = {table.stream for table in summary.tables if table.appended and table.stream in appended and (
                table.increment is None or table.increment.base < manifest.extracted_at
                or table.stream in found.get(table.increment.base, ()))}
            found |= {later: streams} if streams else {}
    return [*found]


def again(source: str, days: Sequence[date]) -> str:
    """The commands that take dates again, in order."""
    return " && ".join(f"REEXTRACT=true {extract_command(source, day)}" for day in days)


def _base(read: Callable[[str, date, str | None], Read | None], source: str, one: Increment) -> Read | None:
    """The run that an increment stands on; where that is gone, the newest of its date."""
    return read(source, one.base, one.base_run_id) or read(source, one.base, None)


def _missing(one: Increment, base: Manifest | Summary | None) -> str | None:
    """Why a base is not the one that an increment stands on."""
    if base is None:
        return "is not landed any more"
    return None if base.run_id == one.base_run_id else f"was taken again, by run {base.run_id}"


def _broken(found: Manifest | Summary, day: date, one: Increment, why: str) -> DamagedError:
    source = found.source
    through = "" if day == found.extracted_at else f" through {day}"
    return DamagedError(f"{source} of {found.extracted_at} stands on {one.base} (run {one.base_run_id}){through}, "
                        f"which {why}: its rows are not complete without that. "
                        f"{how_to_repair(source, found.extracted_at)}")
