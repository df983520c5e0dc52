"""Rows of a CSV file that repeat the key of an earlier row.

Keys are compared as PostgreSQL's unique index will compare them: by value, so that 1, +1 and 01 are the same integer.
DuckDB does so in bounded memory, and spills to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from landing.extract.csv.declared_types import DATES, FLOATS, SPACE, TIMES, Decimal, Declared, day_of
from landing.extract.csv.text import CsvText
from landing.model.schema import INTEGERS

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows

# The time of day in a text, and the UTC offset behind it.
TIME_OF_DAY = r"([0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)"
OFFSET = r":[0-9:.]*([+-][0-9]{2}):?([0-9]{2})?$"


def value(type_: str, column: str) -> str:
    """DuckDB's expression that is equal for equal values; the text itself if only PostgreSQL can tell."""
    declared = Declared.of(type_)
    name = "" if declared.array else declared.name
    if declared.spaced:
        column = f"trim({column}, '{SPACE}')"
    if name in INTEGERS or name == "oid":
        return f"TRY_CAST(ltrim({column}, '+') AS BIGINT)"
    if name in ("numeric", "money"):
        return _number(f"replace({column}, '$', '')" if name == "money" else column)
    if name in FLOATS:
        return f"TRY_CAST({column} AS {'FLOAT' if name == 'real' else 'DOUBLE'})"
    if name == "boolean":
        return f"(lower({column})[1] IN ('t', 'y', '1') OR lower({column}) = 'on')"
    if name in DATES:
        return moment(name, column)
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


def moment(name: str, column: str) -> str:
    """The date, or the timestamp in UTC, of a text, `infinity` included."""
    day = day_of(column)
    if name == "date":
        return f"coalesce({day}, TRY_CAST(lower({column}) AS DATE))"
    when = f"TRY_CAST({day}::VARCHAR || ' ' || {_time(column)} AS TIMESTAMP)"
    if name == "timestamp with time zone":
        when = f"({when} - to_minutes({_offset(column)}))"
    return f"coalesce({when}, TRY_CAST(lower({column}) AS TIMESTAMP))"


def find_duplicates(rows: ParsedRows, keys: Sequence[str], *, keep_last: bool = False) -> int:
    """Fill the table `duplicates`.

    Args:
        rows: The rows of an entity.
        keys: The key's expressions, as value() gives them.
        keep_last: The last row of each key is none, instead of the first.

    Returns:
        The number of rows in that table.
    """
    if repeated := _repeated(rows, keys, keep_last=keep_last):
        rows.query(f"CREATE OR REPLACE TABLE duplicates AS SELECT number, first FROM {repeated} ORDER BY number")  # noqa: S608
    return rows.query("SELECT count(*) FROM duplicates").fetchone()[0]


def reject_repeated(rows: ParsedRows, value: str, code: int, found: str) -> None:
    """Have rows fail whose value an earlier row has. `found`: the expression for what is reported."""
    if repeated := _repeated(rows, [value], found):
        rows.fail(f"SELECT number, {code}, found, first FROM {repeated}")  # noqa: S608


def _repeated(rows: ParsedRows, keys: Sequence[str], found: str = "NULL", *, keep_last: bool = False) -> str | None:
    """A relation of the rows that repeat a key, with the row that has it first, or last; None if there are none.

    Only rows whose hash occurs twice are compared by their keys.
    """
    listed = ", ".join(keys)
    aliased = ", ".join(f"{key} AS k{n}" for n, key in enumerate(keys))
    names = ", ".join(f"k{n}" for n in range(len(keys)))
    some = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    rows.query(f"CREATE OR REPLACE TABLE suspects AS SELECT hash({listed}) AS h FROM accepted WHERE {some} "  # noqa: S608
               "GROUP BY h HAVING count(*) > 1")
    if not rows.query("SELECT count(*) FROM suspects").fetchone()[0]:
        return None
    kept, repeats = ("max", "<") if keep_last else ("min", ">")
    return (f"(SELECT number, found, {kept}(number) OVER (PARTITION BY {names}) AS first FROM "  # noqa: S608
            f"(SELECT number, {found} AS found, {aliased} FROM accepted "
            f"WHERE {some} AND hash({listed}) IN (SELECT h FROM suspects)) QUALIFY number {repeats} first)")


def first_duplicates(rows: ParsedRows, limit: int, base: str) -> Iterator[tuple[CsvText, str]]:
    """The first rows of the table `duplicates`: their text, at that row, and the line of the row that they repeat.

    `base`: what to say of the number 0, which is none of these rows.
    """
    pairs = rows.query(f"SELECT * FROM duplicates ORDER BY number LIMIT {limit}").fetchall()  # noqa: S608
    first_of, lines = dict(pairs), dict.fromkeys((first for _, first in pairs), "") | {0: base}
    for number, (text, _) in enumerate(rows.texts_again(), 1):
        if number in lines:
            lines[number] = rows.line_of(text)
        if number in first_of:
            yield text, lines[first_of[number]]
