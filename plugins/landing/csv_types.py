"""SQL types of a CSV file's columns, as DuckDB's expressions over a column's text.

A type is inferred only where PostgreSQL writes each of the column's values exactly as the file does, so that what comes
out of the warehouse is what went in. A declared type only has to be one that PostgreSQL reads the text as.
"""

from __future__ import annotations

import re

from landing.dialect import INTEGERS

# For each SQL type, whether the text {0} is just what PostgreSQL writes for a value of it. The first that fits counts.
DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
SPELLINGS = {
    "integer": "TRY_CAST({0} AS INTEGER)::VARCHAR = {0}",
    "bigint": "TRY_CAST({0} AS BIGINT)::VARCHAR = {0}",
    "numeric": f"strlen({{0}}) <= 1000 AND regexp_matches({{0}}, '{DECIMAL}')"
    " AND NOT regexp_matches({0}, '^-[0.]+$')",
    "date": "strlen({0}) = 10 AND TRY_CAST({0} AS DATE)::VARCHAR = {0}",
    "timestamp without time zone": "strlen({0}) BETWEEN 19 AND 26 AND {0} NOT LIKE '%)'"
    " AND TRY_CAST({0} AS TIMESTAMP)::VARCHAR = {0}",
}
# Each value's type is a bit, and "text" the last; a column has the bits of its values.
BITS = {type_: 1 << place for place, type_ in enumerate([*SPELLINGS, "text"])}
NUMBERS = BITS["integer"] | BITS["bigint"] | BITS["numeric"]

ALIASES = {
    "int2": "smallint", "int": "integer", "int4": "integer", "int8": "bigint", "decimal": "numeric", "float4": "real",
    "float8": "double precision", "bool": "boolean", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "varchar": "character varying", "char": "character",
}
NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
SHAPES = {
    "boolean": "(?i)t(r(ue?)?)?|f(a(l(se?)?)?)?|y(es?)?|no?|on|off?|1|0",
    "uuid": "(?i)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
}
DAY = "([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{8})"
TIME = r"([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?%s)?"
ZONE = "(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?"
DATES = {
    "date": DAY,
    "timestamp without time zone": DAY + TIME % "",
    "timestamp with time zone": DAY + TIME % ZONE,
}
FLOATS = {"real": (1.2e-38, 3.4e38), "double precision": (2.3e-308, 1.79e308)}


def kind(column: str) -> str:
    """A value's bit, or NULL; one comparison sorts out what can't begin a number or a date."""
    cases = " ".join(f"WHEN {check.format(column)} THEN {BITS[type_]}" for type_, check in SPELLINGS.items())
    text = BITS["text"]
    return f"CASE WHEN {column} < '-' OR {column} >= ':' THEN {text} {cases} WHEN {column} IS NOT NULL THEN {text} END"


def inferred(bits: int) -> str:
    """The type that keeps the text of all values: of numbers the widest, else the only one."""
    if bits and not bits & ~NUMBERS:
        return max((type_ for type_, bit in BITS.items() if bits & bit), key=BITS.__getitem__)
    return next((type_ for type_, bit in BITS.items() if bits == bit), "text")


def fits(type_: str, column: str) -> str | None:
    """Whether PostgreSQL, from 15 on, surely reads the text as a declared type; None of a type that only it can tell.

    It reads more than this ("Jan 8 1999"), and some of that with a loss: a time zone where the type has none.
    """
    name, length, scale = _parsed(type_)
    if name in INTEGERS or name in FLOATS or name == "numeric":
        return _number(name, length, scale or 0, column)
    if name in ("character varying", "character") and length:
        return f"length({column}) <= {length}"
    if name in SHAPES:
        return f"regexp_full_match({column}, '{SHAPES[name]}')"
    if name in DATES:
        digits = f"replace(regexp_extract({column}, '^[0-9/-]+'), '/', '-')"
        day = rf"TRY_CAST(regexp_replace({digits}, '^(\d{{4}})(\d\d)(\d\d)$', '\1-\2-\3') AS DATE)"
        return f"regexp_full_match({column}, '{DATES[name]}') AND {day} >= DATE '0001-01-01'"
    return None


def _parsed(type_: str) -> tuple[str, int | None, int | None]:
    """Its name as format_type() has it, and what stands in brackets."""
    name, length, scale, rest = re.fullmatch(r"([^(]+)(?:\((-?\d+)(?:, ?(-?\d+))?\))?(.*)", type_).groups()
    name += rest
    return ALIASES.get(name, name), length and int(length), scale and int(scale)


def _number(name: str, precision: int | None, scale: int, column: str) -> str | None:
    shaped = f"regexp_full_match({column}, '{NUMBER}')"
    if name in INTEGERS:
        number = f"TRY_CAST(ltrim({column}, '+') AS {name}) IS NOT NULL"
        return f"regexp_full_match({column}, '[+-]?[0-9]{{1,30}}') AND {number}"
    if name in FLOATS:
        in_range = f"abs(TRY_CAST({column} AS DOUBLE)) BETWEEN {FLOATS[name][0]} AND {FLOATS[name][1]}"
        return (f"regexp_full_match({column}, '(?i)nan|[+-]?inf(inity)?') OR {shaped} AND "
                f"({in_range} OR NOT regexp_matches({column}, '^[^eE]*[1-9]'))")
    if not precision:
        return f"strlen({column}) <= 1000 AND {shaped}"
    if 0 <= scale <= precision <= 38:
        return f"{shaped} AND TRY_CAST({column} AS DECIMAL({precision}, {scale})) IS NOT NULL"
    return None
