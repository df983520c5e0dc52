"""Value codecs for third-party taps: each value of a RECORD as text of its column's type, or an error.

A value that cannot be loaded would block the load of the whole partition. So a value that PostgreSQL would reject or
truncate is rejected before it is landed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from landing.model import validation
from landing.model.csv_dialect import json_text, text
from landing.model.schema import INTEGERS, Column

# What both Python and PostgreSQL can parse.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?|NaN|[+-]?Infinity")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

TIMESTAMP = re.compile(
    DATE.pattern + r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?( ?Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
NUL_ESCAPED = re.compile(r"(?<!\\)(\\\\)*\\u0000")


def writer(column: Column) -> Callable[[Any], str | None]:
    """A function from a RECORD's value to the field's text; it raises ValueError if the type cannot hold the value."""
    if column.type in INTEGERS:
        bound = 1 << (8 * INTEGERS[column.type] - 1)
        return lambda value: None if value is None else _integer(value, bound)
    write = WRITERS.get(column.type, _text)
    return lambda value: None if value is None else write(value)


def _integer(value: Any, bound: int) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or not -bound <= value < bound:
        raise ValueError(f"is not a whole number from {-bound} to {bound - 1}")
    return str(value)


def _number(value: Any) -> str:
    written = text(value)
    if isinstance(value, bool) or not NUMBER.fullmatch(written):
        raise ValueError("is not a number")
    return written


def _boolean(value: Any) -> str:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return text(value)


def _date(value: Any) -> str:
    if not DATE.fullmatch(text(value)) or not _exists(value):
        raise ValueError("is not a date as YYYY-MM-DD")
    return value


def _timestamp(value: Any) -> str:
    if not TIMESTAMP.fullmatch(text(value)) or not _exists(value):
        raise ValueError("is not a date and time in ISO 8601")
    return value


def _exists(value: str) -> bool:
    """Whether calendar and clock have this moment."""
    try:
        return validation.moment(value) is not None
    except ValueError:
        return False


def _json(value: Any) -> str:
    written = json_text(value)
    if NUL_ESCAPED.search(written):
        raise ValueError("has the character NUL, which PostgreSQL's jsonb cannot hold")
    return written


def _text(value: Any) -> str:
    written = text(value)
    if "\0" in written:
        raise ValueError("has the character NUL, which PostgreSQL's text cannot hold")
    return written


WRITERS = {"numeric": _number, "boolean": _boolean, "date": _date, "timestamp with time zone": _timestamp,
           "jsonb": _json}
