"""What a manifest says, checked before anything is done with it: who can write to the landing zone can write one.

Each function gives back what is as it should be, and raises ValueError or TypeError for what is not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?"
    r"(?: ?(Z)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
MAX_OFFSET = 16  # hours: PostgreSQL's


def document(text: str) -> Any:
    """JSON by the book: no NaN, and no object with two equal keys, of which the last would count."""
    return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once((key for key, _ in pairs), "key")
    return dict(pairs)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def once(names: Iterable[Hashable], what: str) -> None:
    """No name stands twice."""
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise ValueError(f"{what} {name!r:.200} stands {times} times")


def text(value: Any, pattern: re.Pattern[str] | None = None) -> str:
    """Text that a file system and PostgreSQL can take: no NUL, no half of a character."""
    if not isinstance(value, str) or "\0" in value or (pattern and not pattern.fullmatch(value)):
        raise ValueError(f"{value!r:.200} is not what it should be")
    value.encode()
    return value


def text_or_none(value: Any) -> str | None:
    """Text, or null."""
    return None if value is None else text(value)


def items(values: Any) -> list[Any]:
    """A list."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.200} is no list")
    return values


def texts(values: Any) -> list[str]:
    """A list of texts."""
    return [text(value) for value in items(values)]


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r:.200} is neither true nor false")
    return value


def count(value: Any) -> int:
    """A number of rows or bytes."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.200} is no count")
    return value


def seconds(value: Any) -> float | None:
    """A time that something took, or null."""
    if value is not None and (type(value) not in (int, float) or not 0 <= value < 1e9):
        raise ValueError(f"{value!r:.200} is no time")
    return value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and numbers by name."""
    for value in values.values():
        if not isinstance(value, (str, int, float, type(None))):
            raise TypeError(f"{value!r:.200} is neither a text nor a number")
    return dict(values)


def moment(value: Any) -> datetime:
    """A date, or date and time, in ISO 8601. datetime.fromisoformat takes other texts in each version of Python."""
    found = MOMENT.fullmatch(text(value))
    if not found:
        raise ValueError(f"{value!r:.200} is not a date and time in ISO 8601")
    parts = [int(part or 0) for part in found.groups()[:6]]
    return datetime(*parts, int((found[7] or "")[:6].ljust(6, "0")), _offset(*found.groups()[7:]))


def utc(value: Any) -> datetime:
    """Likewise, with its offset from UTC."""
    if (found := moment(value)).tzinfo is None:
        raise ValueError(f"{value!r:.200} has no offset from UTC")
    return found


def _offset(z: str | None, sign: str | None, hours: str | None, minutes: str | None) -> timezone | None:
    if z:
        return timezone.utc
    if not sign:
        return None
    if int(hours) >= MAX_OFFSET or int(minutes or 0) > 59:
        raise ValueError(f"{sign}{hours}:{minutes} is not an offset from UTC")
    return timezone((-1 if sign == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes or 0)))
