"""The removal of a partition: for readers at once, by its manifest; then its files.

In a store another run may be at work on the same date: only files that a manifest listed are removed, and those of runs
that are dead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from datetime import date

from landing.core.errors import DamagedError, ZoneError, describe
from landing.zone import layout
from landing.zone.in_place import DEAD_AFTER, idle, table_files
from landing.zone.landing_zone import LandingZone


def remove(zone: LandingZone, source: str, day: date, *, only_unfinished: bool = False,
           older_than: float = DEAD_AFTER) -> bool:
    """Remove a partition with all of its runs: for readers at once, then its files.

    A crash leaves the partition as it was, with fewer kept runs, or a folder without a manifest. `older_than`: hours
    without a write after which a run is treated as dead.

    Returns:
        False where it is landed and should not be.
    """
    partition, key = layout.partition(source, day), layout.manifest(source, day)
    with zone.locked(source, day) as lock:
        if only_unfinished and zone.storage.exists(key):
            return False
        listed = listed_files(zone, source, day)
        forget_kept(zone, source, day)  # first: they must not become runs of a partition that is landed anew
        if zone.storage.exists(partition):
            zone.storage.delete(key, up_to=partition)
            zone.storage.flush(partition)  # also of a manifest that a killed removal deleted
        try:
            delete_files(zone, source, day, listed, older_than)
        except OSError as error:
            raise ZoneError(f"{zone.storage.describe(partition)} is no longer a landed partition, and not all of its "
                            f"files could be removed ({describe(error)}): `landing gc --yes --older-than 0` removes "
                            "them.") from None
        lock.remove()
    return True


def listed_files(zone: LandingZone, source: str, day: date) -> set[str]:
    """Keys of the files that go with a partition; a folder goes with all that is in it."""
    found: set[str] = set()
    for run_id in (None, *zone.kept_runs(source, day)) if zone.storage.in_place else ():
        with contextlib.suppress(DamagedError):
            manifest = zone.kept(source, day, run_id) if run_id else zone.manifest(source, day)
            found |= {*(layout.files(manifest) if manifest else ())}
    return found


def forget_kept(zone: LandingZone, source: str, day: date) -> None:
    """Delete the manifests of a partition's kept runs."""
    partition = layout.partition(source, day)
    if runs := zone.kept_runs(source, day):
        for run_id in runs:
            zone.storage.delete(layout.kept_manifest(source, day, run_id), up_to=partition)
        zone.storage.flush(partition)


def delete_files(zone: LandingZone, source: str, day: date, listed: Collection[str],
                 older_than: float = DEAD_AFTER) -> None:
    """Delete the files of a partition whose manifests are removed.

    Where another run may be at work, those that the manifests listed, and those of runs that are dead: without a write
    for `older_than` hours.
    """
    partition, storage = layout.partition(source, day), zone.storage
    if not storage.in_place:
        storage.delete_all(partition)
        return
    others = {*table_files(storage, partition)} - {*listed}
    storage.delete_each([*listed, *idle(storage, others, time.time() - older_than * 3600)])
