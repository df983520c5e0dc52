"""Files that a run writes in a storage where nothing can be moved: under their final keys, listed by no manifest yet.

Their names have the run's id. So a run's files can be told from all others, and nobody removes another run's but `gc`,
after that run is certainly dead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from landing.model.naming import RUN_ID
from landing.storage.base import Object, Prefix, Storage

DEAD_AFTER = 24.0  # hours without a write after which a run is treated as dead
QUARANTINE = "_quarantine-"  # before the run id: readers of *.csv do not match it


@dataclass(frozen=True)
class RunPrefix(Prefix):
    """A partition, for the files of one run."""

    run_id: str

    def file(self, table: str, suffix: str, number: int | None = None) -> Object:
        """A file of a table, given by the name of its folder."""
        mark = QUARANTINE if suffix == ".jsonl" else ""
        return self.named(table, f"{mark}{self.run_id}{'' if number is None else f'-{number:04}'}{suffix}")

    def named(self, table: str, name: str) -> Object:
        """A file of a table by the name that file() gave it."""
        return Object(self.storage, f"{self.key}/{table}/{name}")


def run_of(key: str) -> str | None:
    """The id of the run that wrote a file."""
    found = RUN_ID.search(key.rpartition("/")[2])
    return found and found[0]


def of_runs(storage: Storage, partition: str, runs: Collection[str | None]) -> list[str]:
    """Keys of the files in a partition that these runs wrote."""
    return [key for key in table_files(storage, partition) if run_of(key) in runs]


def table_files(storage: Storage, partition: str) -> list[str]:
    """Keys of all files in a partition's tables."""
    found = [key for key in storage.walk(partition) if key.startswith(f"{partition}/table=")]
    return [key for key in found if key.count("/") == partition.count("/") + 2]


def idle(storage: Storage, keys: Iterable[str], since: float) -> list[str]:
    """Those of these files whose run wrote none of them since a time, in seconds since 1970."""
    newest: dict[str | None, float] = {}
    changed = {key: storage.changed(key) for key in keys}
    for key, time in changed.items():
        newest[run_of(key)] = max(time, newest.get(run_of(key), 0.0))
    return [key for key in changed if newest[run_of(key)] < since]
