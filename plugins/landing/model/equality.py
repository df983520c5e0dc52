"""Equal values of a type, as DuckDB expressions over their texts: 1, +1 and 01 are the same integer.

Keys are compared so, as PostgreSQL's unique index compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from landing.model.declared_types import (
    DATES,
    FLOATS,
    SPACE,
    TIMES,
    Decimal,
    Declared,
    day_of,
    moment_as_written,
)
from landing.model.schema import INTEGERS, Column

NUMBERS = {*INTEGERS, "numeric"}
# The time of day in a text, and the UTC offset behind it.
TIME_OF_DAY = r"([0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)"
OFFSET = r":[0-9:.]*([+-][0-9]{2}):?([0-9]{2})?$"


def key_types(tables: Iterable[Sequence[Column]], key: Sequence[str]) -> dict[str, str]:
    """The type by which the values of each key column are compared, of tables with these columns."""
    found = {}
    columns = [column for one in tables for column in one]
    for name in key:
        types = {_unmodified(column.type) for column in columns if column.name == name}
        found[name] = types.pop() if len(types) == 1 else "numeric" if types <= NUMBERS else "text"
    return found


def _unmodified(type_: str) -> str:
    """A type without its modifiers, which decide about values and not about their equality."""
    declared = Declared.of(type_)
    return type_ if declared.array else declared.name


def value(type_: str, column: str) -> str:
    """DuckDB's expression that is equal for equal values; the text itself if only PostgreSQL can tell."""
    declared = Declared.of(type_)
    name = "" if declared.array else declared.name
    text = column
    if declared.spaced:
        column = f"trim({column}, '{SPACE}')"
    if name in INTEGERS or name == "oid":
        return f"coalesce(TRY_CAST({text} AS BIGINT), TRY_CAST(ltrim({column}, '+') AS BIGINT))"
    if name in ("numeric", "money"):
        return _number(f"replace({column}, '$', '')" if name == "money" else column)
    if name in FLOATS:
        return f"TRY_CAST({column} AS {'FLOAT' if name == 'real' else 'DOUBLE'})"
    if name == "boolean":
        return f"(lower({column})[1] IN ('t', 'y', '1') OR lower({column}) = 'on')"
    if name in DATES:
        return spaced_moment(name, text)
    if name in TIMES:
        return f"{time_of_day(column)}::VARCHAR || ' ' || {_offset(column)}"
    if name in ("character", "bpchar"):
        return f"rtrim({column}, ' ')"
    if name in ("uuid", "macaddr", "macaddr8"):
        return f"lower({column})"
    return column


def _number(column: str) -> str:
    number = Decimal.of(column)
    sign = f"CASE WHEN {column} LIKE '-%' THEN '-' ELSE '' END"
    return (f"CASE WHEN regexp_matches({column}, '(?i)[nf]') THEN replace(ltrim(lower({column}), '+'), 'inity', '') "
            f"WHEN {number.digits} = '' THEN '0' ELSE {sign} || {number.digits} || 'e' || {number.point} END")


def _time(column: str) -> str:
    return rf"coalesce(nullif(regexp_extract({column}, '{TIME_OF_DAY}', 1), ''), '00:00')"


def time_of_day(column: str) -> str:
    """The time of day in a text, or midnight."""
    return f"TRY_CAST({_time(column)} AS TIME)"


def _offset(column: str) -> str:
    """Minutes east of UTC."""
    hours, minutes = (f"regexp_extract({column}, '{OFFSET}', {group})" for group in (1, 2))
    amount = f"60 * abs(coalesce(TRY_CAST({hours} AS INTEGER), 0)) + coalesce(TRY_CAST({minutes} AS INTEGER), 0)"
    return f"(CASE WHEN {hours} LIKE '-%' THEN -1 ELSE 1 END * ({amount}))"


def spaced_moment(name: str, column: str) -> str:
    """As moment(), for a text that may have outer spaces. Most are as programs write them, which is read fast."""
    slow = moment(name, f"trim({column}, '{SPACE}')")
    if name == "timestamp with time zone":
        return slow
    type_ = "DATE" if name == "date" else "TIMESTAMP"
    return f"CASE WHEN {moment_as_written(name, column)} THEN TRY_CAST({column} AS {type_}) ELSE {slow} END"


def moment(name: str, column: str) -> str:
    """The date, or the timestamp in UTC, of a text, `infinity` included."""
    day = day_of(column)
    if name == "date":
        return f"coalesce({day}, TRY_CAST(lower({column}) AS DATE))"
    when = f"TRY_CAST({day}::VARCHAR || ' ' || {_time(column)} AS TIMESTAMP)"
    if name == "timestamp with time zone":
        when = f"({when} - to_minutes({_offset(column)}))"
    return f"coalesce({when}, TRY_CAST(lower({column}) AS TIMESTAMP))"
