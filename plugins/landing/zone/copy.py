"""Copies a landed partition to another root: the same files under the same names, and the manifest's very bytes.

Each file is hashed as it is read here, and read back there, before the manifest is put. So what is committed there is
what was landed, or nothing is. Kept runs come first, each as atomically.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from landing.core.errors import DamagedError, FrozenError, SettingError, ZoneError
from landing.core.progress import Progress
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.model.schema import File
from landing.storage import hashing
from landing.storage.base import Object
from landing.zone import layout
from landing.zone.chains import require_whole
from landing.zone.landing_zone import LandingZone
from landing.zone.publishing import Publication, content_of, reading
from landing.zone.run_log import COMMITTED, RunLog

COPIED, REPLACED, THERE = "copied", "replaced", "already there"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copied:
    """What became of one partition. `outcome`: COPIED, REPLACED or THERE."""

    source: str
    extracted_at: date
    tables: int
    rows: int
    bytes: int
    run_id: str
    outcome: str


def refuse_same_root(origin: LandingZone, target: LandingZone) -> None:
    """Raise SettingError if both are one place."""
    if target.storage.key(origin.storage.url(layout.MANIFEST)) == layout.MANIFEST:
        raise SettingError(f"--to {target.storage.describe()} is the landing zone itself. Give another root.")


class PartitionCopy:
    """One partition on its way to another root."""

    def __init__(self, origin: LandingZone, target: LandingZone, source: str, day: date, *, replace: bool) -> None:
        """`replace`: also over another run's partition, or a damaged one."""
        self.origin, self.target, self.source, self.day, self.replace = origin, target, source, day, replace
        self.run_id = new_run_id()  # of the copy; the partition keeps its own
        self._kept: set[str] = set()  # runs that are kept here
        self._numbers = itertools.count()  # of staged files

    def run(self) -> Copied:
        """Copy it, unless it is there.

        Raises:
            NotLandedError: It is not landed here.
            DamagedError: It is not what was landed. Nothing was committed there.
            FrozenError: Another run's partition is there.
            ZoneError: It was replaced here meanwhile, or the other root cannot be written.
        """
        manifest = self.origin.require(self.source, self.day)
        kept = [found for run_id in self.origin.earlier(manifest)
                if (found := self.origin.kept(self.source, self.day, run_id))]
        self._kept = {one.run_id for one in kept}
        lacking = [one for one in kept if not self._complete(self._kept_there(one), one)]
        newest = self._complete(self._there(manifest), manifest)
        if newest and not lacking:
            return self._result(manifest, THERE)
        self._require_bases(manifest)
        log = RunLog(self.target.storage, self.run_id, self.day)
        log.begin(self.source)
        try:
            for one in lacking:
                self._publish_kept(one)
            outcome = COPIED if newest else self._publish(manifest, [*self._brought(manifest)])
        except BaseException as error:
            log.fail(error)
            raise
        finally:
            self.target.discard(self.run_id)
        log.end(COMMITTED, landed=manifest.run_id)
        return self._result(manifest, outcome)

    def _require_bases(self, manifest: Manifest) -> None:
        """Raise ZoneError if the other root lacks a date that one of the tables stands on."""
        try:
            require_whole(self.target, manifest)
        except DamagedError as error:
            days = sorted({str(table.increment.base) for table in manifest.tables if table.increment})
            raise ZoneError(f"In {self.target.storage.describe()}: {error} Nothing was committed there. Copy what it "
                            f"stands on first: `landing copy {' '.join(days)}`, or all dates: `landing copy --all`."
                            ) from None

    def _result(self, manifest: Manifest, outcome: str) -> Copied:
        return Copied(self.source, self.day, len(manifest.tables), manifest.rows, manifest.bytes, manifest.run_id,
                      outcome)

    def _there(self, manifest: Manifest) -> Manifest | None:
        """The other root's manifest; None also for one that is damaged and may be replaced."""
        try:
            there = self.target.manifest(self.source, self.day)
        except DamagedError as error:
            self._refuse_damaged(error)
            return None
        if there and there.run_id not in {manifest.run_id, *self._kept} and not self.replace:
            raise FrozenError(
                f"{self.source} of {self.day} is there already from another run: {self.target.storage.describe()} has "
                f"{there.run_id}, {self.origin.storage.describe()} has {manifest.run_id}. Nothing was changed. To "
                "replace it there, run again with --replace.")
        return there

    def _kept_there(self, manifest: Manifest) -> Manifest | None:
        """The same kept run at the other root; None also for one that is damaged and may be replaced."""
        try:
            return self.target.kept(self.source, self.day, manifest.run_id)
        except DamagedError as error:
            self._refuse_damaged(error)
            return None

    def _complete(self, there: Manifest | None, manifest: Manifest) -> bool:
        """Whether the other root has this run's partition, with each file in its full size."""
        if there is None or there.run_id != manifest.run_id:
            return False
        try:
            for file in there.all_files:
                self.target.file(there, file)
        except DamagedError as error:
            self._refuse_damaged(error)
            return False
        return True

    def _refuse_damaged(self, error: DamagedError) -> None:
        if not self.replace:
            raise DamagedError(f"{error} Or replace it there by what is landed here: run again with --replace."
                               ) from None

    def _brought(self, manifest: Manifest) -> Iterator[tuple[Object, str]]:
        """Bring all files to the other root: each as it is there before the commit, with its final key."""
        storage, partition = self.target.storage, layout.partition(self.source, self.day)
        listed = self._listed_there()
        for table in manifest.tables:
            progress = Progress(logger, table.name, size=table.bytes)
            for file in table.all_files:
                place = Object(storage, f"{partition}/{file.path}")
                if not ((storage.in_place or place.key in listed) and _is(place, file)):
                    staged = self.target.staging(self.run_id) / f"{next(self._numbers):05}-{place.name}"
                    found = place if storage.in_place else staged
                    self._transfer(manifest, file, found, progress)
                    yield found, place.key
                else:  # in place it may be listed by now
                    yield place, place.key
            progress.done(table.rows)

    def _listed_there(self) -> set[str]:
        """Keys of the files that a manifest at the other root lists: they are durable."""
        with contextlib.suppress(DamagedError):
            there = self.target.manifest(self.source, self.day)
            return {*(layout.files(there) if there else ()), *self.target.kept_files(self.source, self.day)}
        return set()

    def _transfer(self, manifest: Manifest, file: File, to: Object, progress: Progress) -> None:
        """Copy one file, hashed on both sides."""
        with reading(self.origin, manifest):
            hashing.copy(self.origin.file(manifest, file), to, file.sha256, progress.stream())
            progress.close()
        if not _is(to, file):
            raise ZoneError(f"{to} does not read back as it was written. Nothing was committed there. Run again.")

    def _publish_kept(self, manifest: Manifest) -> None:
        """Commit a kept run, unless another copy did so meanwhile."""
        files, content = [*self._brought(manifest)], content_of(self.origin, manifest)
        Publication(self.target, self.source, self.day, self.run_id, files, content, manifest.run_id).publish(
            lambda: None if self._complete(self._kept_there(manifest), manifest) else [])

    def _publish(self, manifest: Manifest, files: list[tuple[Object, str]]) -> str:
        """Commit the files, unless another copy did so meanwhile."""
        replaced = False

        def look() -> list[str] | None:
            nonlocal replaced
            there = self._there(manifest)
            replaced = there is not None
            if self._complete(there, manifest):
                return None
            return layout.files(there) if there else []

        new = Publication(self.target, self.source, self.day, self.run_id, files, content_of(self.origin, manifest))
        return (REPLACED if replaced else COPIED) if new.publish(look) else THERE


def _is(place: Object, file: File) -> bool:
    """Whether a file reads as the one that the manifest lists."""
    try:
        return (place.size(), hashing.sha256(place)) == (file.size, file.sha256)
    except DamagedError:
        return False
