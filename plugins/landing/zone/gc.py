"""What gc removes: what dead runs left behind and, where days are to be kept, the dates before them.

What is found can change before it is removed, so it is looked at again then, under the lock that those take who change
it: a date's commit lock, or the warehouse's advisory lock, which every load holds.

Staging folders have no lock: one in which nothing changed for `older_than` hours is taken for a dead run's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import psycopg2

from landing.core.dates import parse_date, today
from landing.core.errors import DamagedError, LandingError, SettingError, describe
from landing.model.manifest import Manifest
from landing.model.naming import RUN_ID
from landing.storage.local import sync
from landing.zone import run_log
from landing.zone.landing_zone import MANIFEST, STAGING, LandingZone

OLDER_THAN = 24.0  # hours


@dataclass(frozen=True)
class Leftover:
    """Something to remove: its bytes and data rows (None: not known), and why it may go."""

    kind: str
    what: str
    bytes: int
    rows: int | None
    why: str
    remove: Callable[[], bool] = field(repr=False, compare=False)  # False: somebody uses it again, so it stays


def removed(leftovers: Iterable[Leftover]) -> Iterator[tuple[Leftover, str]]:
    """Remove each, giving what is wrong if it could not be; one that can't does not hold up the others."""
    for one in leftovers:
        try:
            yield one, "" if one.remove() else "it is in use again"
        except psycopg2.Error as error:
            yield one, describe(error)
        except (LandingError, OSError) as error:
            yield one, str(error)


def first_kept(keep_days: int | None) -> date | None:
    """The first of the days that stay; None where all do."""
    return None if keep_days is None else today() - timedelta(days=keep_days)


class ZoneLeftovers:
    """Leftovers of a landing zone."""

    def __init__(self, zone: LandingZone, first: date | None = None, older_than: float = OLDER_THAN) -> None:
        """`first`: dates before it go, the newest of a source excepted. `older_than`: in hours."""
        self.zone, self.first, self.older_than = zone, first, older_than

    def __iter__(self) -> Iterator[Leftover]:
        manifests = {(source, day): self._manifest(source, day) for source, day in self._dates()}
        newest: dict[str, date] = {}
        for (source, day), manifest in manifests.items():
            if manifest:
                newest[source] = max(day, newest.get(source, day))
        yield from self._staging_folders()
        for (source, day), manifest in manifests.items():
            yield from self._settled(source, day, manifest, newest.get(source))
        yield from self._logs(newest)

    def _dates(self) -> Iterator[tuple[str, date]]:
        """Every date folder, with a manifest or without."""
        for path in sorted(self.zone.root.glob("source=*/extracted_at=*")):
            source, day = (part.split("=", 1)[1] for part in path.parts[-2:])
            try:
                when = parse_date(day, "extracted_at")
            except SettingError:
                continue
            if path.is_dir() and not path.is_symlink() and not path.parent.is_symlink():
                yield source, when

    def _manifest(self, source: str, day: date) -> Manifest | None:
        try:
            return self.zone.manifest(source, day)
        except DamagedError:
            return None

    def _past(self, day: date) -> bool:
        return self.first is not None and day < self.first

    def _staging_folders(self) -> Iterator[Leftover]:
        for path in sorted((self.zone.root / STAGING).glob("*")):
            if RUN_ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and self._idle(path):
                yield Leftover("staging folder", self._name(path), size_of(path), None,
                               f"unchanged for {self.older_than:g} h", partial(self._remove_folder, path))

    def _settled(self, source: str, day: date, manifest: Manifest | None, newest: date | None) -> list[Leftover]:
        """Of a date. A commit at work has files that no manifest lists yet: what looks so is looked at under its lock.

        Dates without such files take no lock: a landing zone may be read-only.
        """
        found = [*self._of_date(source, day, manifest, newest)]
        if any(one.kind != "landed date" for one in found):
            with self.zone.locked(source, day):
                found = [*self._of_date(source, day, self._manifest(source, day), newest)]
        return found

    def _of_date(self, source: str, day: date, manifest: Manifest | None, newest: date | None) -> Iterator[Leftover]:
        path = self.zone.partition(source, day)
        landed = (path / MANIFEST).exists()
        if landed and self._past(day) and newest and day < newest:
            yield Leftover("landed date", self._name(path), size_of(path), manifest.rows if manifest else None,
                           f"before {self.first}", partial(self.zone.remove, source, day))
        elif not landed and (self._past(day) or self._idle(path)):
            yield Leftover("unfinished date", self._name(path), size_of(path), None, f"has no {MANIFEST}",
                           partial(self.zone.remove, source, day, only_unfinished=True))
        elif manifest:
            for file in self.zone.unlisted(manifest):
                yield Leftover("superseded file", self._name(file), size_of(file), None, f"not in {MANIFEST}",
                               partial(self._remove_file, source, day, file))

    def _logs(self, newest: dict[str, date]) -> Iterator[Leftover]:
        """Attempts at dates that go, or never were."""
        for source, day, path in run_log.logs(self.zone.root):
            goes = not self._landed(source, day) or (source in newest and day < newest[source])
            if self._past(day) and goes and self._idle(path):
                yield Leftover("attempt log", self._name(path), size_of(path), None, f"before {self.first}",
                               partial(self._remove_log, source, day, path))

    def _landed(self, source: str, day: date) -> bool:
        return (self.zone.partition(source, day) / MANIFEST).exists()

    def _idle(self, path: Path) -> bool:
        return time.time() - _changed(path) >= self.older_than * 3600

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.zone.root))

    def _remove_folder(self, path: Path) -> bool:
        if path.exists():
            if not self._idle(path):
                return False
            shutil.rmtree(path)
        return True

    def _remove_file(self, source: str, day: date, path: Path) -> bool:
        with self.zone.locked(source, day):
            manifest = self.zone.manifest(source, day)
            if manifest is None or path not in self.zone.unlisted(manifest):
                return not path.exists()
            sync(path.parent.parent)  # of a commit that was killed, the manifest's rename may not be on the disk yet
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        return True

    def _remove_log(self, source: str, day: date, path: Path) -> bool:
        if self._landed(source, day) or not self._idle(path):
            return False
        path.unlink(missing_ok=True)
        return True


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of it and of all in it; what goes meanwhile is not there."""
    for one in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            yield one.lstat()


def _changed(path: Path) -> float:
    """When it, or anything in it, last changed."""
    return max((one.st_mtime for one in _stats(path)), default=0.0)


def size_of(path: Path) -> int:
    """Of it, or of all files in it."""
    return sum(one.st_size for one in _stats(path) if not stat.S_ISDIR(one.st_mode))
