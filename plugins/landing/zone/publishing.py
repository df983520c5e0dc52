"""Publishes a partition that is made of a landed one, a copy or an export, as atomically as commit.py an extract."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date

from landing.core.commands import how_to_repair
from landing.core.errors import ConflictError, DamagedError, ZoneError, sentence
from landing.model.manifest import LARGEST, UNUSABLE, Manifest
from landing.storage.base import Object
from landing.zone import layout
from landing.zone.commit import PAUSE, TRIES
from landing.zone.in_place import DEAD_AFTER, idle, table_files
from landing.zone.landing_zone import LandingZone

logger = logging.getLogger(__name__)


def content_of(zone: LandingZone, manifest: Manifest) -> bytes:
    """The bytes of a landed manifest, or of a kept run's. Raises ZoneError if another one has its place by now."""
    source, day = manifest.source, manifest.extracted_at
    for key in (layout.manifest(source, day), layout.kept_manifest(source, day, manifest.run_id)):
        with contextlib.suppress(*UNUSABLE, OSError):
            content = zone.storage.read(key, LARGEST)
            if Manifest.from_json(content.decode()) == manifest.ordered():
                return content
    raise ZoneError(f"{source} of {day} was replaced in {zone.storage.describe()} while it was read. Nothing was "
                    "committed at the other root. Run again.")


@contextlib.contextmanager
def reading(zone: LandingZone, manifest: Manifest) -> Iterator[None]:
    """Read a partition's files. One that was replaced meanwhile has lost them, and is not damaged: see content_of()."""
    try:
        yield
    except DamagedError as error:
        content_of(zone, manifest)
        repair = how_to_repair(manifest.source, manifest.extracted_at)
        raise DamagedError(f"{error}" if repair in str(error) else f"{error}. {repair}") from None


@dataclass(frozen=True)
class Publication:
    """A partition to publish.

    Attributes:
        run_id: Whose staging area may be used.
        files: Each finished file with its final key. In place, they are there already.
        content: The manifest's bytes.
        kept: The id of a kept run, which replaces no other; None for the newest.
    """

    zone: LandingZone
    source: str
    day: date
    run_id: str
    files: list[tuple[Object, str]]
    content: bytes
    kept: str | None = None

    @property
    def partition(self) -> str:
        """Its prefix."""
        return layout.partition(self.source, self.day)

    @property
    def key(self) -> str:
        """Of its manifest."""
        return (layout.kept_manifest(self.source, self.day, self.kept) if self.kept else
                layout.manifest(self.source, self.day))

    def publish(self, look: Callable[[], Collection[str] | None]) -> bool:
        """Replace what is there by this partition.

        Args:
            look: The keys of the files that the manifest there lists; None if there is nothing to replace it for. It
                refuses by raising. Without a lock it is called again after each commit of another run.

        Returns:
            Whether it was published.

        Raises:
            ZoneError: Nothing was committed.
            UnknownOutcomeError: It may be.
        """
        storage = self.zone.storage
        storage.require_conditions(f"{layout.staging(self.run_id)}/probe")
        with self.zone.locked(self.source, self.day):
            for tried in itertools.count(1):
                version, before = storage.version(self.key), look()
                if before is None:
                    return False
                try:
                    self._put(version, before)
                    break
                except ConflictError:
                    if tried == TRIES:
                        raise
                    time.sleep(random.random() * PAUSE)
            storage.flush(self.partition)
            if not self.kept:
                self._sweep(before)
        return True

    def _put(self, version: str | None, before: Collection[str]) -> None:
        storage, moved = self.zone.storage, []
        try:
            for found, key in self.files:
                if found.key != key:
                    storage.delete(key, up_to=self.partition)  # of a run that was killed, or damaged
                    storage.move(found.key, key)
                    moved.append(key)
            storage.put(self.key, self.content,
                        f"{layout.staging(self.run_id)}/{layout.MANIFEST}", version, nullcontext())
        except BaseException:
            for key in {*moved} - {*before}:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    storage.delete(key, up_to=f"source={self.source}")
            raise

    def _sweep(self, before: Collection[str]) -> None:
        """Remove files that no manifest lists. The partition is committed: a failure is a warning."""
        storage = self.zone.storage
        try:
            others = {*table_files(storage, self.partition)} - {key for _, key in self.files}
            others -= self.zone.kept_files(self.source, self.day)
            if storage.in_place:  # of another run they may be what it is about to list
                storage.delete_each([*others & {*before},
                                     *idle(storage, others - {*before}, time.time() - DEAD_AFTER * 3600)])
                return
            for key in others:
                storage.delete(key, up_to=self.partition)
        except (OSError, DamagedError) as error:
            logger.warning("%s of %s is committed and complete. Files that it superseded could not be removed (%s).",
                           self.source, self.day, sentence(error).rstrip("."))
