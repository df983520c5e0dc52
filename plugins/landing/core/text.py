"""Tables, durations, sizes and times as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from landing.core.errors import printable


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns, numbers to the right; None is a dash."""
    text = [["-" if cell is None else f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row]
            for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *text]) for i in range(len(head))]
    right = [any(isinstance(row[i], int) for row in rows) and all(isinstance(row[i], int | None) for row in rows)
             for i in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                  for cell, width, to_right in zip(line, widths, right, strict=True)).rstrip()
        for line in [list(head), ["-" * width for width in widths], *text]
    ]
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Seconds in readable units."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def age(since: timedelta) -> str:
    """A time that has passed: minutes, up to two days hours and minutes, then days."""
    minutes = int(since.total_seconds() // 60)
    if minutes >= 48 * 60:
        return f"{minutes // 1440} days"
    hours, minutes = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or not hours))


def size(count: int) -> str:
    """Bytes in readable units."""
    return f"{count:,} bytes" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def signed(count: int) -> str:
    """A difference, with its sign."""
    return f"{count:+,}" if count else "±0"


def moment(when: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{when:%Y-%m-%d %H:%M:%S}"
