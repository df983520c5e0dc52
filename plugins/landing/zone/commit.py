"""The commit of a partition: atomic, durable, exclusive. Putting the manifest is the commit point.

Files get their final names first. A crash leaves the old partition or the new one, and at worst files that no manifest
lists; a failure without a crash (a full disk, say) removes those too.

In a folder a lock keeps writers apart. In a store there is none: a put expects the version of the manifest that was
read before, and nobody touches files that another run may be about to list.

A commit that keeps the run that it replaces stores that run's manifest under a second name first. Files that such a
manifest lists are never removed with those of other runs.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from msgspec import structs

from landing.core.errors import ConflictError, DamagedError, UnknownOutcomeError, ZoneError, sentence
from landing.model.manifest import LARGEST, UNUSABLE, Manifest, encode
from landing.model.naming import folder_name
from landing.model.schema import Table
from landing.storage.base import Object
from landing.storage.compression import suffix
from landing.zone import layout
from landing.zone.in_place import QUARANTINE, table_files
from landing.zone.landing_zone import LandingZone
from landing.zone.layout import MANIFEST

logger = logging.getLogger(__name__)
Point = Callable[[], AbstractContextManager[None]]
TRIES = 50  # of a put, while other runs of the same date are first
PAUSE = 0.5  # seconds between them, at most


def commit(
    zone: LandingZone, manifest: Manifest, staged: Mapping[str, list[Object]],
    check: Callable[[], None] = lambda: None, point: Point = contextlib.nullcontext, *, keep: bool = False,
) -> Manifest:
    """Publish a partition atomically, replacing what was there.

    Args:
        zone: Where to.
        manifest: What to publish. Its run id names the files, so it must be this commit's own, never one that came
            with the data.
        staged: Each table's files in order, as `Table.all_files` has them; their `path` is set here.
        check: Refuses by raising, before anything changes; where there is no lock, again after each commit of another
            run.
        point: Makes what is entered around the commit point.
        keep: Keep the run that is replaced.

    Returns:
        The manifest with the final paths.

    Raises:
        ZoneError: Nothing was committed.
        UnknownOutcomeError: It may be.
    """
    source, day = manifest.source, manifest.extracted_at
    zone.storage.require_conditions(f"{layout.staging(manifest.run_id)}/probe")
    with zone.locked(source, day):
        seen = _seen(zone, manifest, check)
        _refuse_landed(zone, seen, staged)
        tables, moves = _planned(zone, manifest, staged)
        manifest = structs.replace(manifest, tables=tables)
        moved: list[str] = []
        try:
            for found, key in moves:
                _move(zone, found, key)
                moved.append(key)
            replaced = _publish(zone, manifest, seen, check, point, keep=keep)
        except UnknownOutcomeError:
            raise  # a manifest may list them
        except BaseException:
            _take_back(zone, source, moved)
            raise
        # Failing, this leaves the superseded files, which the old manifest may need after all.
        zone.storage.flush(layout.partition(source, day))
        _sweep(zone, manifest, replaced)
    return manifest


@dataclass(frozen=True)
class Seen:
    """What is landed before a commit: the manifest, None if there is none or it cannot be read, and its version."""

    version: str | None
    manifest: Manifest | None


def _seen(zone: LandingZone, manifest: Manifest, check: Callable[[], None]) -> Seen:
    """What is landed, checked; the version is older than all that the check reads, or equal."""
    source, day = manifest.source, manifest.extracted_at
    version, found = zone.storage.version(layout.manifest(source, day)), None
    check()
    if zone.storage.in_place and version:
        with contextlib.suppress(DamagedError):
            found = zone.manifest(source, day)
    return Seen(version, found)


def _publish(zone: LandingZone, manifest: Manifest, seen: Seen, check: Callable[[], None], point: Point, *,
             keep: bool) -> Seen:
    """Put the manifest. Without a lock another run may be first: what it landed is checked, and replaced.

    Returns:
        What it replaced.
    """
    source, day, content = manifest.source, manifest.extracted_at, encode(manifest)
    for tried in itertools.count(1):
        try:
            if keep:
                _keep(zone, manifest)
            zone.storage.put(layout.manifest(source, day), content, f"{layout.staging(manifest.run_id)}/{MANIFEST}",
                             seen.version, point())
            return seen
        except ConflictError:
            if tried == TRIES:
                raise
            time.sleep(random.random() * PAUSE)
        seen = _seen(zone, manifest, check)
    raise AssertionError


def _keep(zone: LandingZone, manifest: Manifest) -> None:
    """Keep the run that `manifest` is about to replace.

    In place this may be another run than the one whose version the put expects: then that put is refused.
    """
    source, day, storage = manifest.source, manifest.extracted_at, zone.storage
    key, scratch = layout.manifest(source, day), f"{layout.staging(manifest.run_id)}/{MANIFEST}"
    try:
        content = storage.read(key, LARGEST)
        kept = layout.kept_manifest(source, day, Manifest.from_json(content.decode()).run_id)
    except FileNotFoundError:
        return
    except UNUSABLE as error:
        logger.warning("%s cannot be used (%s), so the run that it lists is not kept.", storage.describe(key), error)
        return
    try:
        storage.put(kept, content, scratch, storage.version(kept), contextlib.nullcontext())
    except UnknownOutcomeError as error:
        raise ZoneError(f"{error} Nothing was committed. Run again.") from None


def _refuse_landed(zone: LandingZone, seen: Seen, staged: Mapping[str, list[Object]]) -> None:
    """Raise ZoneError for files that are landed: in place nothing has moved them from where the tap said."""
    if seen.manifest:
        listed = {*layout.files(seen.manifest)}
        with contextlib.suppress(DamagedError):
            listed |= zone.kept_files(seen.manifest.source, seen.manifest.extracted_at)
        if landed := [one.key for found in staged.values() for one in found if one.key in listed]:
            raise ZoneError(f"{zone.storage.describe(landed[0])} is landed already. Nothing was committed. Saved "
                            "messages cannot be replayed: run the tap again.")


def _planned(
    zone: LandingZone, manifest: Manifest, staged: Mapping[str, list[Object]],
) -> tuple[list[Table], list[tuple[Object, str]]]:
    """The tables with their files' final paths, and each staged file that is elsewhere with its final key."""
    partition = layout.partition(manifest.source, manifest.extracted_at)
    tables, moves = [], []
    for table in manifest.tables:
        folder, landed = folder_name(table.stream), []
        for number, (found, file) in enumerate(zip(staged[table.stream], table.all_files, strict=True)):
            run = manifest.run_id
            name = run if len(table.files) == 1 else f"{run}-{number:04}"
            name = f"{QUARANTINE}{run}" if file is table.quarantine else name
            key = f"{partition}/{folder}/{name}{suffix(found.name)}"
            if zone.storage.in_place and found.key.startswith(f"{partition}/{folder}/"):
                key = found.key
            landed.append(structs.replace(file, path=key.removeprefix(f"{partition}/")))
            if key != found.key:
                moves.append((found, key))
        quarantine = landed.pop() if table.quarantine else None
        tables.append(structs.replace(table, files=landed, quarantine=quarantine))
    return tables, moves


def _move(zone: LandingZone, found: Object, key: str) -> None:
    try:
        zone.storage.move(found.key, key)
    except FileExistsError:
        raise ZoneError(f"{zone.storage.describe(key)} exists already: do two tables of this partition differ only in "
                        "case? Deselect one of them under tap-postgres in meltano.yml and run again.") from None


def _take_back(zone: LandingZone, source: str, moved: Sequence[str]) -> None:
    """Remove a failed commit's files, which no manifest lists."""
    for key in moved:
        with contextlib.suppress(OSError):  # the first error is the one to report
            zone.storage.delete(key, up_to=f"source={source}")


def unlisted(zone: LandingZone, manifest: Manifest) -> list[str]:
    """Keys of files in a partition's tables that neither its manifest nor that of a kept run lists.

    While the partition's lock is held they are certainly of no use; else a commit may be about to list them.

    Raises:
        DamagedError: The manifest of a kept run cannot be read.
    """
    source, day = manifest.source, manifest.extracted_at
    found = {*table_files(zone.storage, layout.partition(source, day))} - {*layout.files(manifest)}
    return sorted(found - zone.kept_files(source, day)) if found else []


def _sweep(zone: LandingZone, manifest: Manifest, replaced: Seen) -> None:
    """Remove what neither the manifest nor a kept run lists. The partition is committed: a failure is a warning.

    Where another run may be at work, only what the replaced manifest listed: whoever replaces it removes its files.
    """
    source, day = manifest.source, manifest.extracted_at
    try:
        if zone.storage.in_place:
            before = {*(layout.files(replaced.manifest) if replaced.manifest else ())} - {*layout.files(manifest)}
            zone.storage.delete_each(before - zone.kept_files(source, day) if before else ())
            return
        for key in unlisted(zone, manifest):
            zone.storage.delete(key, up_to=layout.partition(source, day))
    except (OSError, DamagedError) as error:
        logger.warning("%s of %s is committed and complete. Files that it superseded could not be removed (%s): "
                       "`landing gc --yes` removes them.", source, day, sentence(error).rstrip("."))
