"""Garbage collection: files that dead runs left behind and, where days are to be kept, the partitions before them.

What is found can change before it is removed. So each thing is checked again under the lock that its writers hold: a
partition's lock, or the warehouse's advisory lock.

Staging areas have no lock, and in a store nothing has: a run is treated as dead after `older_than` hours without
writes. Parts of uploads that a killed run left in a store are not listed there: the bucket's lifecycle rule removes
them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial

import psycopg2

from landing.core.dates import today
from landing.core.errors import DamagedError, LandingError, describe
from landing.model.manifest import Manifest
from landing.model.naming import RUN_ID
from landing.zone import layout, moves, run_log
from landing.zone.commit import unlisted
from landing.zone.in_place import DEAD_AFTER, idle
from landing.zone.landing_zone import LandingZone
from landing.zone.layout import MANIFEST
from landing.zone.removal import remove


@dataclass(frozen=True)
class Leftover:
    """Something to remove: its bytes and data rows (None: not known), and why it may go."""

    kind: str
    what: str
    bytes: int
    rows: int | None
    why: str
    remove: Callable[[], bool] = field(repr=False, compare=False)  # False: it is in use again, so it stays


def removed(leftovers: Iterable[Leftover]) -> Iterator[tuple[Leftover, str]]:
    """Remove each; with it comes the problem, if that failed. A failure does not stop the others."""
    for one in leftovers:
        try:
            yield one, "" if one.remove() else "it is in use again"
        except psycopg2.Error as error:
            yield one, describe(error)
        except (LandingError, OSError) as error:
            yield one, str(error)


def first_kept(keep_days: int | None) -> date | None:
    """The first day that is kept; None where all are."""
    return None if keep_days is None else today() - timedelta(days=keep_days)


class ZoneLeftovers:
    """Leftovers of a landing zone."""

    def __init__(self, zone: LandingZone, first: date | None = None, older_than: float = DEAD_AFTER,
                 first_kept: date | None = None) -> None:
        """Look for leftovers.

        Args:
            zone: Where.
            first: Partitions before this date are leftovers, except the newest of each source, and those that kept
                ones stand on.
            older_than: Hours without a write after which a run is treated as dead.
            first_kept: Earlier runs of partitions before this date are leftovers, except those that others stand on.
        """
        self._needed: dict[tuple[str, date], set[str]] = {}  # runs that others stand on
        self.zone, self.storage, self.first, self.older_than = zone, zone.storage, first, older_than
        self.first_kept = first_kept

    def __iter__(self) -> Iterator[Leftover]:
        manifests = {(source, day): self._manifest(source, day) for source, day in self.zone.partitions()}
        newest: dict[str, date] = {}
        for (source, day), manifest in manifests.items():
            if manifest:
                newest[source] = max(day, newest.get(source, day))
        self._needed = self._bases(manifests, newest)
        yield from self._staging_areas()
        yield from self._move_lists()
        for (source, day), manifest in manifests.items():
            yield from self._settled(source, day, manifest, newest.get(source))
        yield from self._logs(newest)

    def _manifest(self, source: str, day: date) -> Manifest | None:
        with contextlib.suppress(DamagedError):
            return self.zone.manifest(source, day)
        return None

    def _bases(self, manifests: Mapping[tuple[str, date], Manifest | None], newest: Mapping[str, date],
               ) -> dict[tuple[str, date], set[str]]:
        """Partitions that those which stay stand on, directly or through others, and the runs in them."""
        needed: dict[tuple[str, date], set[str]] = {}
        for (source, day), manifest in sorted(manifests.items(), key=lambda one: one[0], reverse=True):
            if manifest and (not self._past(day) or day == newest[source] or (source, day) in needed):
                kept = (self._kept(source, day, run_id) for run_id in self.zone.earlier(manifest)
                        if not self._expired(day) or run_id in needed.get((source, day), ()))
                for one in (one.increment for run in (manifest, *kept) if run for one in run.tables if one.increment):
                    needed.setdefault((source, one.base), set()).add(one.base_run_id)
        return needed

    def _kept(self, source: str, day: date, run_id: str) -> Manifest | None:
        with contextlib.suppress(DamagedError):
            return self.zone.kept(source, day, run_id)
        return None

    def _past(self, day: date) -> bool:
        return self.first is not None and day < self.first

    def _expired(self, day: date) -> bool:
        return self.first_kept is not None and day < self.first_kept

    def _staging_areas(self) -> Iterator[Leftover]:
        for prefix in self.storage.prefixes(layout.STAGING, links=False):
            if RUN_ID.fullmatch(prefix.rpartition("/")[2]) and self._idle(prefix):
                yield Leftover("staging folder", prefix, self.storage.bytes(prefix), None,
                               f"unchanged for {self.older_than:g} h", partial(self._remove_staging, prefix))

    def _move_lists(self) -> Iterator[Leftover]:
        """Lists of moves of input files, of runs that did not commit."""
        for source in self.storage.prefixes(layout.MOVES):
            for key in self.storage.files(source):
                todo = moves.read(self.zone, key)
                if todo and moves.is_committed(self.zone, todo) is False and self._idle(key):
                    yield Leftover("move list", key, self.storage.bytes(key), None, "its run did not commit",
                                   partial(self._remove_list, key))

    def _settled(self, source: str, day: date, manifest: Manifest | None, newest: date | None) -> list[Leftover]:
        """A partition's leftovers, found under its lock: a running commit has files that no manifest lists yet.

        Partitions without such files take no lock: a landing zone may be read-only.
        """
        found = [*self._of_partition(source, day, manifest, newest)]
        if any(one.kind != "landed date" for one in found):
            with self.zone.locked(source, day):
                found = [*self._of_partition(source, day, self._manifest(source, day), newest)]
        return found

    def _of_partition(
        self, source: str, day: date, manifest: Manifest | None, newest: date | None
    ) -> Iterator[Leftover]:
        prefix, landed = layout.partition(source, day), self._landed(source, day)
        if landed and self._past(day) and newest and day < newest and (source, day) not in self._needed:
            yield Leftover("landed date", prefix, self.storage.bytes(prefix), manifest.rows if manifest else None,
                           f"before {self.first}", partial(remove, self.zone, source, day, older_than=self.older_than))
        elif not landed and (self._past(day) or self._idle(prefix)):
            yield Leftover("unfinished date", prefix, self.storage.bytes(prefix), None, f"has no {MANIFEST}",
                           partial(remove, self.zone, source, day, only_unfinished=True, older_than=self.older_than))
        elif manifest:
            yield from self._earlier_runs(manifest)
            with contextlib.suppress(DamagedError):  # what a kept run lists cannot be told
                for key in self._unlisted(manifest):
                    yield Leftover("superseded file", key, self.storage.bytes(key), None, f"not in {MANIFEST}",
                                   partial(self._remove_file, source, day, key))

    def _earlier_runs(self, manifest: Manifest) -> Iterator[Leftover]:
        source, day = manifest.source, manifest.extracted_at
        needed = self._needed.get((source, day), ())
        for run_id in self.zone.earlier(manifest) if self._expired(day) else ():
            if run_id not in needed:
                key, kept = layout.kept_manifest(source, day, run_id), self._kept(source, day, run_id)
                size = sum(file.size for file in kept.all_files) if kept else 0
                yield Leftover("earlier run", key, self.storage.bytes(key) + size, kept and kept.rows,
                               f"of a date before {self.first_kept}", partial(self._remove_run, source, day, run_id))

    def _logs(self, newest: dict[str, date]) -> Iterator[Leftover]:
        """Logs of partitions that are removed, or never came to be."""
        for source, day, key in run_log.logs(self.storage):
            superseded = not self._landed(source, day) or (source in newest and day < newest[source])
            if self._past(day) and superseded and (source, day) not in self._needed and self._idle(key):
                yield Leftover("attempt log", key, self.storage.bytes(key), None, f"before {self.first}",
                               partial(self._remove_log, source, day, key))

    def _unlisted(self, manifest: Manifest) -> list[str]:
        """Files that no manifest lists; where no lock says that no run is about to list them, those of dead runs."""
        found = unlisted(self.zone, manifest)
        return idle(self.storage, found, self._limit) if self.storage.in_place else found

    @property
    def _limit(self) -> float:
        return time.time() - self.older_than * 3600

    def _landed(self, source: str, day: date) -> bool:
        return self.storage.exists(layout.manifest(source, day))

    def _idle(self, key: str) -> bool:
        return self.storage.changed(key) <= self._limit

    def _remove_staging(self, prefix: str) -> bool:
        if self.storage.exists(prefix):
            if not self._idle(prefix):
                return False
            self.storage.delete_all(prefix)
        return True

    def _remove_list(self, key: str) -> bool:
        todo = moves.read(self.zone, key)
        if todo is None or moves.is_committed(self.zone, todo) is not False:
            return False
        self.storage.delete(key, up_to=layout.MOVES)
        return True

    def _remove_file(self, source: str, day: date, key: str) -> bool:
        partition = layout.partition(source, day)
        with self.zone.locked(source, day):
            manifest = self.zone.manifest(source, day)
            if manifest is None or key not in self._unlisted(manifest):
                return not self.storage.exists(key)
            self.storage.flush(partition)  # after a killed commit the new manifest may not be durable yet
            self.storage.delete(key, up_to=partition)
        return True

    def _remove_run(self, source: str, day: date, run_id: str) -> bool:
        """Its manifest first; files that no other run has go with it."""
        with self.zone.locked(source, day):
            manifest, kept = self.zone.manifest(source, day), self._kept(source, day, run_id)
            if manifest is None or manifest.run_id == run_id:
                return False
            partition = layout.partition(source, day)
            self.storage.delete(layout.kept_manifest(source, day, run_id), up_to=partition)
            self.storage.flush(partition)
            for key in {*(layout.files(kept) if kept else ())} & {*unlisted(self.zone, manifest)}:
                self.storage.delete(key, up_to=partition)
        return True

    def _remove_log(self, source: str, day: date, key: str) -> bool:
        if self._landed(source, day) or not self._idle(key):
            return False
        run_log.remove(self.storage, key)
        return True
