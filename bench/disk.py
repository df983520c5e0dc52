"""Whether the disk holds a run: estimated before anything is made."""

from __future__ import annotations

import shutil
from pathlib import Path

from contestant import LOAD
from plan import Plan

SPARE = 1.15
ROW, SORTED = 48, 45  # bytes: what a load of ours adds to a row and its key; a row's part in sorting for a key
WAL = 9_500_000_000  # max_wal_size is exceeded a little


class DiskError(RuntimeError):
    """The disk does not hold the run."""


def needed(plan: Plan) -> dict[str, float]:
    """Bytes by what they are for. Files of all contestants are kept until the end, the warehouse is one at a time."""
    found = dict.fromkeys(("source", "source without key", "files", "warehouse", "sorting for the key", "WAL"), 0.0)
    for data in plan.datasets:
        shape = data.shape
        found["source"] += data.rows * (shape.heap + shape.index)
        found["source without key"] += data.rows * shape.heap * plan.without_key(data)
        takers = [one for one in plan.who if any(plan.takes(one, data, phase) for phase in plan.phases)]
        for one in takers:
            copies = 1 + (one.from_keyless and plan.takes(one, data, LOAD))
            found["files"] += data.rows * shape.text * one.files * copies
        if {*plan.phases} - {"extract"}:
            found["warehouse"] = max(found["warehouse"], data.rows * (shape.heap + shape.index + ROW))
            found["sorting for the key"] = max(found["sorting for the key"], data.rows * SORTED * bool(shape.key))
    found["WAL"] = min(WAL, 2 * max(found["warehouse"], found["source"]))
    return {name: size * SPARE for name, size in found.items() if size}


def check(plan: Plan, folder: Path) -> None:
    """Raises DiskError if `folder` does not hold what the run needs."""
    parts = needed(plan)
    total, free = sum(parts.values()), shutil.disk_usage(folder).free
    if total > free:
        listed = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in parts.items())
        raise DiskError(f"{folder} has {free / 1e9:,.1f} GB free, and the benchmark needs {total / 1e9:,.1f} GB "
                        f"({listed}). Free space, set TMPDIR to a folder on a larger disk, or ask for fewer --rows, "
                        "--phases or contestants (--only).")
