"""What dbt writes of a run: target/run_results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FAILED = ("error", "fail", "runtime error")
NAMED = 5  # failures that a message names


def failures(path: Path) -> str | None:
    """Failed models and tests of the run that has just ended, for a message; None if it built and tested nothing."""
    try:
        results = json.loads(path.read_text("utf-8"))["results"]
    except FileNotFoundError:
        return None
    failed = [one for one in results if one["status"] in FAILED]
    if not failed:
        return None
    skipped = sum(one["status"] == "skipped" for one in results)
    more = f"; and {len(failed) - NAMED} more" if failed[NAMED:] else ""
    return (f"{len(failed)} of {len(results)} models and tests failed, {skipped} were skipped. "
            f"{'; '.join(map(_described, failed[:NAMED]))}{more}.")


def _described(result: dict[str, Any]) -> str:
    kind, _, *name = result["unique_id"].split(".")
    return f"{kind} {name[0]}: {' '.join((result['message'] or '').split()).rstrip('.')}"
