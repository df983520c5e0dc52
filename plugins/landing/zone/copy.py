"""Copies a landed partition to another root: the same files under the same names, and the manifest's very bytes.

Each file is hashed as it is read here, and read back there, before the manifest is put. So what is committed there is
what was landed, or nothing is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date

from landing.core.commands import how_to_repair
from landing.core.errors import DamagedError, FrozenError, SettingError, ZoneError, describe
from landing.core.progress import Progress
from landing.model.manifest import LARGEST, UNUSABLE, Manifest
from landing.model.naming import new_run_id
from landing.model.schema import File
from landing.storage import hashing
from landing.storage.base import Object
from landing.zone import layout
from landing.zone.commit import unlisted
from landing.zone.landing_zone import LandingZone
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

    def run(self) -> Copied:
        """Copy it, unless it is there.

        Raises:
            NotLandedError: It is not landed here.
            DamagedError: It is not what was landed. Nothing was committed there.
            FrozenError: Another run's partition is there.
            ZoneError: It was replaced here meanwhile, or the other root cannot be written.
        """
        manifest = self.origin.require(self.source, self.day)
        if self._complete(self._there(manifest), manifest):
            return self._result(manifest, THERE)
        log = RunLog(self.target.storage, self.run_id, self.day)
        log.begin(self.source)
        try:
            outcome = self._publish(manifest, [*self._staged(manifest)])
        except BaseException as error:
            log.fail(error)
            raise
        finally:
            self.target.discard(self.run_id)
        log.end(COMMITTED, landed=manifest.run_id)
        return self._result(manifest, outcome)

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
        if there and there.run_id != manifest.run_id and not self.replace:
            raise FrozenError(
                f"{self.source} of {self.day} is there already from another run: {self.target.storage.describe()} has "
                f"{there.run_id}, {self.origin.storage.describe()} has {manifest.run_id}. Nothing was changed. To "
                "replace it there, run again with --replace.")
        return there

    def _complete(self, there: Manifest | None, manifest: Manifest) -> bool:
        """Whether the other root has this run's partition, with each file in its full size."""
        if there is None or there.run_id != manifest.run_id:
            return False
        try:
            for file in (file for table in there.tables for file in table.all_files):
                self.target.file(there, file)
        except DamagedError as error:
            self._refuse_damaged(error)
            return False
        return True

    def _refuse_damaged(self, error: DamagedError) -> None:
        if not self.replace:
            raise DamagedError(f"{error} Or replace it there by what is landed here: run again with --replace."
                               ) from None

    def _staged(self, manifest: Manifest) -> Iterator[tuple[Object, str]]:
        """Bring all files to the other root: each as it is staged there, with its final key."""
        staging, partition = self.target.staging(self.run_id), layout.partition(self.source, self.day)
        number = 0
        for table in manifest.tables:
            progress = Progress(logger, table.name, size=table.bytes)
            for file in table.all_files:
                staged = staging / f"{number:05}-{file.path.rpartition('/')[2]}"
                self._transfer(manifest, file, staged, progress)
                yield staged, f"{partition}/{file.path}"
                number += 1
            progress.done(table.rows)

    def _transfer(self, manifest: Manifest, file: File, staged: Object, progress: Progress) -> None:
        """Copy one file, hashed on both sides."""
        try:
            found = self.origin.file(manifest, file)
            sha256 = hashing.copy(found, staged, progress.stream())
            progress.close()
            if sha256 != file.sha256:
                raise DamagedError(f"{found}: expected SHA-256 {file.sha256}; found {sha256}. "
                                   f"{how_to_repair(self.source, self.day)}")
        except DamagedError:
            self._content(manifest)  # of a partition that was replaced meanwhile, missing files are no damage
            raise
        if (staged.size(), hashing.sha256(staged)) != (file.size, file.sha256):
            raise ZoneError(f"{staged} does not read back as it was written. Nothing was committed there. Run again.")

    def _content(self, manifest: Manifest) -> bytes:
        """The manifest's bytes. Raises ZoneError if another one has its place by now."""
        try:
            content = self.origin.storage.read(layout.manifest(self.source, self.day), LARGEST)
            if Manifest.from_json(content.decode()) == manifest.ordered():
                return content
        except (*UNUSABLE, OSError):
            pass
        raise ZoneError(f"{self.source} of {self.day} was replaced in {self.origin.storage.describe()} while it was "
                        "copied. Nothing was committed there. Run again.")

    def _publish(self, manifest: Manifest, staged: list[tuple[Object, str]]) -> str:
        """Commit what is staged, unless another copy did so meanwhile."""
        storage, key = self.target.storage, layout.manifest(self.source, self.day)
        partition, content = layout.partition(self.source, self.day), self._content(manifest)
        with self.target.locked(self.source, self.day):
            version, there = storage.version(key), self._there(manifest)
            if self._complete(there, manifest):
                return THERE
            try:
                for found, final in staged:
                    storage.delete(final, up_to=partition)  # of a copy that was killed, or damaged
                    storage.move(found.key, final)
                storage.put(key, content, f"{layout.staging(self.run_id)}/{layout.MANIFEST}", version, nullcontext())
            except BaseException:
                self._take_back(there, manifest, [final for _, final in staged])
                raise
            storage.flush(partition)
            self._sweep(manifest)
        return REPLACED if version else COPIED

    def _take_back(self, there: Manifest | None, manifest: Manifest, keys: list[str]) -> None:
        """Remove a failed copy's files, unless the manifest that is there lists the same."""
        if there is None or there.run_id != manifest.run_id:
            for key in keys:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    self.target.storage.delete(key, up_to=f"source={self.source}")

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what the replaced manifest listed. The partition is committed: a failure is a warning."""
        try:
            for key in unlisted(self.target, manifest):
                self.target.storage.delete(key, up_to=layout.partition(self.source, self.day))
        except OSError as error:
            logger.warning("%s of %s is committed and complete. Files that it superseded could not be removed (%s).",
                           self.source, self.day, describe(error))
