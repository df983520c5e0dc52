"""Rows of a CSV file that have the key of an earlier row, found before they are landed.

Keys are compared as PostgreSQL's unique index will compare them: by the value of the column's type, so that 1, +1 and
01 are one integer. DuckDB does so in bounded memory, and uses the disk for what has no room in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from landing.extract.csv.declared_types import DATES, FLOATS, SPACE, TIMES, Decimal, Declared, day_of
from landing.model.schema import INTEGERS

# The time of a text, and its zone, where it has a time.
TIME_OF_DAY = r"([0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)"
OFFSET = r":[0-9:.]*([+-][0-9]{2}):?([0-9]{2})?$"


def value(type_: str, column: str) -> str:
    """DuckDB's expression that is equal for texts of equal value; the text itself where only PostgreSQL can tell."""
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
        return _moment(name, column)
    if name in TIMES:
        return f"TRY_CAST({_time(column)} AS TIME)::VARCHAR || ' ' || {_offset(column)}"
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


def _offset(column: str) -> str:
    """Minutes east of UTC."""
    hours, minutes = (f"regexp_extract({column}, '{OFFSET}', {group})" for group in (1, 2))
    amount = f"60 * abs(coalesce(TRY_CAST({hours} AS INTEGER), 0)) + coalesce(TRY_CAST({minutes} AS INTEGER), 0)"
    return f"(CASE WHEN {hours} LIKE '-%' THEN -1 ELSE 1 END * ({amount}))"


def _moment(name: str, column: str) -> str:
    day = day_of(column)
    if name == "date":
        return f"coalesce({day}::VARCHAR, lower({column}))"
    moment = f"TRY_CAST({day}::VARCHAR || ' ' || {_time(column)} AS TIMESTAMP)"
    if name == "timestamp with time zone":
        moment = f"({moment} - to_minutes({_offset(column)}))"
    return f"coalesce({moment}::VARCHAR, lower({column}))"


class DoubledKeys:
    """The rows of the view `entity` (numbered from 1, bad ones too) that have an earlier row's key."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> None:
        """`keys`: expressions as value() gives them. Only rows whose hash comes twice are compared by their keys."""
        self._connection = connection
        listed = ", ".join(keys)
        aliased = ", ".join(f"{key} AS k{n}" for n, key in enumerate(keys))
        names = ", ".join(f"k{n}" for n in range(len(keys)))
        connection.execute(f"CREATE TABLE suspects AS SELECT hash({listed}) AS h FROM entity WHERE bad IS NULL "  # noqa: S608
                           "GROUP BY h HAVING count(*) > 1")
        self.rows = 0
        if not connection.execute("SELECT count(*) FROM suspects").fetchone()[0]:
            return
        connection.execute(
            "CREATE TABLE doubled AS SELECT place, first FROM (SELECT place, min(place) OVER (PARTITION BY "  # noqa: S608
            f"{names}) AS first FROM (SELECT place, {aliased} "
            "FROM (SELECT row_number() OVER () AS place, * FROM entity) "
            f"WHERE bad IS NULL AND hash({listed}) IN (SELECT h FROM suspects))) WHERE place > first ORDER BY place"
        )
        self.rows = connection.execute("SELECT count(*) FROM doubled").fetchone()[0]

    def pairs(self, limit: int) -> list[tuple[int, int]]:
        """The first of them, each with the first row that has its key."""
        return self._connection.execute("SELECT place, first FROM doubled ORDER BY place LIMIT ?", [limit]).fetchall()

    def places(self) -> Iterator[int]:
        """All of them, in order."""
        if self.rows:
            found = self._connection.cursor().execute("SELECT place FROM doubled ORDER BY place")
            while some := found.fetchmany(10_000):
                yield from (place for place, in some)
