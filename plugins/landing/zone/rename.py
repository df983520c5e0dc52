"""Renames a source in the landing zone: its partitions, the manifests that name it, its run logs.

A date is copied under the new name, committed there, and only then removed under the old one. So a kill at any moment
leaves it landed under the old name, under both, or under the new one, and a second run completes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from msgspec import structs

from landing.core.errors import ZoneError
from landing.model.manifest import LARGEST, Manifest, to_text
from landing.model.naming import new_run_id
from landing.model.validation import document
from landing.storage.base import Lock
from landing.zone import layout, moves, run_log
from landing.zone.landing_zone import LandingZone
from landing.zone.removal import delete_files, forget_kept, listed_files


@dataclass(frozen=True)
class Change:
    """One thing that a rename changes. `rows`: None where it has none. `apply`: a second call completes the first."""

    kind: str
    what: str
    becomes: str
    rows: int | None
    apply: Callable[[], None]


class ZoneRename:
    """The changes in a landing zone."""

    def __init__(self, zone: LandingZone, old: str, new: str) -> None:
        self.zone, self.storage, self.old, self.new = zone, zone.storage, old, new

    def changes(self) -> list[Change]:
        """All of them, in the order to make them.

        Raises:
            DamagedError: A partition of the source is not what was landed.
            ZoneError: The new name has other data for one of its dates, or a link leads to one.
        """
        self.zone.refuse_linked(self.old)
        return [*self._partitions(), *self._others(), *self._logs(), *self._move_lists()]

    def _partitions(self) -> Iterator[Change]:
        for day in sorted(day for source, day in self.zone.partitions() if source == self.old):
            manifest = self.zone.manifest(self.old, day)
            if manifest:
                self._check(manifest)
            yield Change("landed date" if manifest else "unfinished date", layout.partition(self.old, day),
                         layout.partition(self.new, day) if manifest else "removed", manifest and manifest.rows,
                         partial(self._move, day))

    def _check(self, manifest: Manifest) -> None:
        """Refuse files that are not there, and another partition under the new name."""
        for one in self._runs(manifest):
            for file in one.all_files:
                self.zone.file(one, file)
        there = self.zone.manifest(self.new, manifest.extracted_at)
        if there and there.run_id != manifest.run_id:
            raise ZoneError(f"{self.new} is landed for {manifest.extracted_at}, too, from another run. Nothing was "
                            f"changed. Choose another name, or remove one of the two: landing drop "
                            f"{manifest.extracted_at} --source {self.new}")

    def _runs(self, manifest: Manifest) -> list[Manifest]:
        """A partition's manifest, and those of its kept runs."""
        source, day = manifest.source, manifest.extracted_at
        kept = (self.zone.kept(source, day, run_id) for run_id in self.zone.kept_runs(source, day))
        return [manifest, *(one for one in kept if one)]

    def _move(self, day: date) -> None:
        with self._locked(day) as lock:
            listed = listed_files(self.zone, self.old, day)
            if manifest := self.zone.manifest(self.old, day):
                self._check(manifest)
                if self.zone.manifest(self.new, day) is None:
                    self._commit(manifest)
                self.storage.flush(layout.partition(self.new, day))
                self.storage.delete(layout.manifest(self.old, day), up_to=layout.partition(self.old, day))
                self.storage.flush(layout.partition(self.old, day))
            forget_kept(self.zone, self.old, day)
            delete_files(self.zone, self.old, day, listed)
            self.storage.delete(layout.partition(self.old, day), up_to="")  # the source's folder, if it is empty
            lock.remove()

    @contextlib.contextmanager
    def _locked(self, day: date) -> Iterator[Lock]:
        """Both partitions' locks, in one order for all; the old one's lock."""
        with contextlib.ExitStack() as stack:
            locks = {source: stack.enter_context(self.zone.locked(source, day))
                     for source in sorted((self.old, self.new))}
            yield locks[self.old]

    def _commit(self, manifest: Manifest) -> None:
        day = manifest.extracted_at
        before, after = layout.partition(self.old, day), layout.partition(self.new, day)
        for path in sorted({file.path for one in self._runs(manifest) for file in one.all_files}):
            self.storage.delete(f"{after}/{path}", up_to=after)  # of a killed rename; no manifest lists it
            self.storage.copy(f"{before}/{path}", f"{after}/{path}")
        for key in self._manifests(self.old, day):  # the newest run's, the commit point, comes last
            self._put(key.replace(before, after, 1), self._renamed(key) | {"source": self.new})

    def _others(self) -> Iterator[Change]:
        """Manifests of other sources that record this one for their date."""
        for source, day in self.zone.landed():
            manifest = self.zone.readable(source, day) if source != self.old else None
            if manifest and self.old in (manifest.declared or ()):
                yield Change("manifest", layout.manifest(source, day), f"its date needs {self.new}", None,
                             partial(self._record, source, day))

    def _record(self, source: str, day: date) -> None:
        with self.zone.locked(source, day):
            manifest = self.zone.manifest(source, day)
            if manifest and self.old in (manifest.declared or ()):
                for key in self._manifests(source, day):
                    self._put(key, self._renamed(key))

    def _manifests(self, source: str, day: date) -> list[str]:
        """Keys of a partition's manifests, the newest run's last."""
        kept = [layout.kept_manifest(source, day, run_id) for run_id in self.zone.kept_runs(source, day)]
        return [*kept, layout.manifest(source, day)]

    def _renamed(self, key: str) -> dict[str, Any]:
        """All fields of a manifest, also those that this version does not know, with the new name in `declared`."""
        fields = document(self.storage.read(key, LARGEST).decode())
        if fields.get("declared") is None:
            return fields
        names = dict.fromkeys(self.new if name == self.old else name for name in fields["declared"])
        return fields | {"declared": [*names]}

    def _put(self, key: str, fields: dict[str, Any]) -> None:
        run_id = new_run_id()
        try:
            self.storage.put(key, to_text(fields).encode(), f"{layout.staging(run_id)}/{layout.MANIFEST}",
                             self.storage.version(key), nullcontext())
        finally:
            self.zone.discard(run_id)

    def _move_lists(self) -> Iterator[Change]:
        """Moves of input files that are still to be made."""
        for todo in moves.lists(self.zone, self.old):
            yield Change("move list", todo.key, layout.moves(self.new, todo.run_id), None, partial(self._list, todo))

    def _list(self, todo: moves.MoveList) -> None:
        moves.put(self.zone, structs.replace(todo, source=self.new))
        self.storage.delete(todo.key, up_to=layout.MOVES)

    def _logs(self) -> Iterator[Change]:
        for source, day, key in run_log.logs(self.storage):
            if source == self.old:
                yield Change("attempt log", key, layout.run_log(self.new, day), None, partial(self._log, day))

    def _log(self, day: date) -> None:
        """Lines that are there twice, after a kill, are one run all the same."""
        before, after = layout.run_log(self.old, day), layout.run_log(self.new, day)
        if self.storage.in_place or self.storage.exists(after):
            self.storage.append(after, self.storage.read_all(before, run_log.LARGEST), new_run_id())
            run_log.remove(self.storage, before)
        else:
            self.storage.move(before, after)
        self.storage.flush(layout.RUN_LOGS)
