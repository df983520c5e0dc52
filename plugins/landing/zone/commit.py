"""The commit of a partition: atomic, durable, exclusive. Putting the manifest is the commit point.

Files get their final names first. A crash leaves the old partition or the new one, and at worst files that no manifest
lists; a failure without a crash (a full disk, say) removes those too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date

from msgspec import structs

from landing.core.errors import ZoneError, describe
from landing.model.manifest import Manifest, encode
from landing.model.naming import folder_name
from landing.model.schema import Table
from landing.storage.base import Object
from landing.storage.compression import suffix
from landing.zone import layout
from landing.zone.landing_zone import LandingZone
from landing.zone.layout import MANIFEST

logger = logging.getLogger(__name__)
NOTHING_MORE = contextlib.nullcontext()


def commit(
    zone: LandingZone, manifest: Manifest, staged: Mapping[str, list[Object]],
    check: Callable[[], None] = lambda: None, point: AbstractContextManager[None] = NOTHING_MORE,
) -> Manifest:
    """Publish a partition atomically, replacing what was there.

    Args:
        zone: Where to.
        manifest: What to publish. Its run id names the files, so it must be this commit's own, never one that came
            with the data.
        staged: Each table's files in order, as `Table.all_files` has them; their `path` is set here.
        check: Runs while the partition's lock is held, before anything changes; it refuses by raising.
        point: Entered around the commit point.

    Returns:
        The manifest with the final paths.

    Raises:
        ZoneError: Nothing was committed.
    """
    source, day = manifest.source, manifest.extracted_at
    with zone.locked(source, day):
        check()
        expected = zone.storage.version(layout.manifest(source, day))
        tables, moves = _planned(manifest, staged)
        manifest = structs.replace(manifest, tables=tables)
        content = encode(manifest)
        moved: list[str] = []
        try:
            for found, key in moves:
                _move(zone, found, key)
                moved.append(key)
            zone.storage.put(layout.manifest(source, day), content, f"{layout.staging(manifest.run_id)}/{MANIFEST}",
                             expected, point)
        except BaseException:
            _take_back(zone, source, moved)
            raise
        # Failing, this leaves the superseded files, which the old manifest may need after all.
        zone.storage.flush(layout.partition(source, day))
        _sweep(zone, manifest)
    return manifest


def _planned(manifest: Manifest, staged: Mapping[str, list[Object]]) -> tuple[list[Table], list[tuple[Object, str]]]:
    """The tables with their files' final paths, and each staged file with its final key."""
    partition = layout.partition(manifest.source, manifest.extracted_at)
    tables, moves = [], []
    for table in manifest.tables:
        folder, landed = folder_name(table.stream), []
        for number, (found, file) in enumerate(zip(staged[table.stream], table.all_files, strict=True)):
            run = manifest.run_id
            name = run if len(table.files) == 1 else f"{run}-{number:04}"
            name = f"_quarantine-{run}" if file is table.quarantine else name
            landed.append(structs.replace(file, path=f"{folder}/{name}{suffix(found.name)}"))
            moves.append((found, f"{partition}/{landed[-1].path}"))
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
    """Keys of files in a partition's tables that its manifest does not list.

    While the partition's lock is held they are certainly of no use; else a commit may be about to list them.
    """
    partition = layout.partition(manifest.source, manifest.extracted_at)
    listed = {f"{partition}/{file.path}" for table in manifest.tables for file in table.all_files}
    tables = [prefix for prefix in zone.storage.prefixes(partition, links=False)
              if prefix.startswith(f"{partition}/table=")]
    return sorted({key for prefix in tables for key in zone.storage.files(prefix)} - listed)


def _sweep(zone: LandingZone, manifest: Manifest) -> None:
    """Remove what the manifest does not list. The partition is committed: a failure is a warning."""
    try:
        for key in unlisted(zone, manifest):
            zone.storage.delete(key, up_to=layout.partition(manifest.source, manifest.extracted_at))
    except OSError as error:
        logger.warning("%s of %s is committed and complete. Files that it superseded could not be removed (%s): "
                       "`landing gc --yes` removes them.", manifest.source, manifest.extracted_at, describe(error))


def remove(zone: LandingZone, source: str, day: date, *, only_unfinished: bool = False) -> bool:
    """Remove a partition: for readers at once, then its files. False where it is landed and should not be.

    A crash leaves the partition as it was, or a folder without a manifest.
    """
    partition, manifest = layout.partition(source, day), layout.manifest(source, day)
    with zone.locked(source, day) as lock:
        if only_unfinished and zone.storage.exists(manifest):
            return False
        if zone.storage.exists(partition):
            zone.storage.delete(manifest, up_to=partition)
            zone.storage.flush(partition)  # also of a manifest that a killed removal deleted
        try:
            zone.storage.delete_all(partition)
        except OSError as error:
            raise ZoneError(f"{zone.storage.describe(partition)} is no longer a landed partition, and not all of its "
                            f"files could be removed ({describe(error)}): `landing gc --yes --older-than 0` removes "
                            "them.") from None
        lock.remove()
    return True
