"""Renders what `gc` and `drop` removed, or would remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from landing.core.text import size, table
from landing.zone.gc import Leftover


def as_dicts(found: Sequence[tuple[Leftover, str]], yes: bool) -> list[dict[str, Any]]:
    """The leftovers for JSON."""
    return [{"kind": one.kind, "what": one.what, "bytes": one.bytes, "rows": one.rows, "why": one.why,
             "removed": yes and not problem, "problem": problem or None} for one, problem in found]


def as_text(found: Sequence[tuple[Leftover, str]], done: bool) -> str:
    """The leftovers as a table, with a summary."""
    if not found:
        return "Nothing to remove."
    rows = [(one.kind, one.what, one.bytes, one.rows, f"NOT REMOVED: {problem}" if problem else one.why)
            for one, problem in found]
    gone = [one for one, problem in found if not problem]
    sums = f"{len(gone)} items, {size(sum(one.bytes for one in gone))}, {sum(one.rows or 0 for one in gone):,} rows"
    end = f"Removed {sums}." if done else f"Would remove {sums}. Run again with --yes to remove them."
    return f"{table(('kind', 'what', 'bytes', 'rows', 'why'), rows)}\n{end}"
