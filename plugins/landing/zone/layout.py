"""Where things are in a landing zone: the keys of partitions, manifests, staging areas and logs.

    source=<source>/extracted_at=<date>/_manifest.json                               of the newest run
    source=<source>/extracted_at=<date>/_manifest.<run id>.json                      of an earlier one that is kept
    source=<source>/extracted_at=<date>/table=<stream>/<run id>.csv
    source=<source>/extracted_at=<date>/table=<stream>/_quarantine-<run id>.jsonl    rejected rows
    _staging/<run id>/                                                               work in progress
    _attempts/<source>@<date>.jsonl                                                  run log
    _moves/<source>/<run id>.json                                                    input files to be moved

A partition exists when its manifest does, and consists of exactly the files that the manifest lists. Those of kept runs
lie beside them.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from landing.model.naming import RUN_ID

if TYPE_CHECKING:
    from landing.model.manifest import Manifest

MANIFEST = "_manifest.json"
STAGING = "_staging"
RUN_LOGS = "_attempts"
MOVES = "_moves"
KEPT = re.compile(rf"_manifest\.({RUN_ID.pattern})\.json")


def partition(source: str, day: date) -> str:
    """Prefix of a source's partition for a date."""
    return f"source={source}/extracted_at={day}"


def manifest(source: str, day: date) -> str:
    """Key of a partition's manifest."""
    return f"{partition(source, day)}/{MANIFEST}"


def kept_manifest(source: str, day: date, run_id: str) -> str:
    """Key of the manifest of an earlier run that is kept."""
    return f"{partition(source, day)}/_manifest.{run_id}.json"


def files(manifest: Manifest) -> list[str]:
    """Keys of the files that a manifest lists."""
    return [f"{partition(manifest.source, manifest.extracted_at)}/{file.path}" for file in manifest.all_files]


def staging(run_id: str) -> str:
    """Prefix of a run's own work in progress."""
    return f"{STAGING}/{run_id}"


def run_log(source: str, day: date) -> str:
    """Key of a partition's run log."""
    return f"{RUN_LOGS}/{source}@{day}.jsonl"


def moves(source: str, run_id: str) -> str:
    """Key of the list of input files that a run moves after its commit."""
    return f"{MOVES}/{source}/{run_id}.json"


def moves_lock(source: str) -> str:
    """Key of the lock of whoever commits or moves input files of a source."""
    return f"{STAGING}/{source}@moves.lock"


def lock(source: str, day: date) -> str:
    """Key of the lock that every change of a partition holds."""
    return f"{STAGING}/{source}@{day}.lock"
