"""The constrained types of manifests and messages, and the strict parsing of JSON and of moments.

Anybody who can write to the landing zone can write a manifest, so every field is checked before it is used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, NoReturn

from msgspec import Meta

Text = Annotated[str, Meta(pattern=r"\A[^\0\ud800-\udfff]*\Z")]  # what file systems and PostgreSQL can store
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Seconds = Annotated[float, Meta(ge=0, lt=1e9)]
Moment = Annotated[datetime, Meta(tz=True)]
Scalar = str | int | float | bool | None

MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?"
    r"(?: ?(Z)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
MAX_OFFSET = 16  # hours: PostgreSQL's


def document(text: str) -> Any:
    """Parse JSON strictly. Raises ValueError on NaN, Infinity and duplicate keys, which Python's parser accepts."""
    return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require_unique((key for key, _ in pairs), "key")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def require_unique(names: Iterable[Hashable], what: str) -> None:
    """Raise ValueError on duplicate names."""
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise ValueError(f"{what} {name!r:.200} occurs {times} times")


def moment(text: str) -> datetime:
    """Parse a date, or date and time, in ISO 8601.

    datetime.fromisoformat accepts different texts in each version of Python.

    Raises:
        ValueError: It is not one, or its offset from UTC is one that PostgreSQL refuses.
    """
    found = MOMENT.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r:.200} is not a date and time in ISO 8601")
    parts = [int(part or 0) for part in found.groups()[:6]]
    return datetime(*parts, int((found[7] or "")[:6].ljust(6, "0")), _offset(*found.groups()[7:]))


def _offset(z: str | None, sign: str | None, hours: str | None, minutes: str | None) -> timezone | None:
    if z:
        return UTC
    if not sign:
        return None
    if int(hours) >= MAX_OFFSET or int(minutes or 0) > 59:
        raise ValueError(f"{sign}{hours}:{minutes} is not an offset from UTC")
    return timezone((-1 if sign == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes or 0)))
