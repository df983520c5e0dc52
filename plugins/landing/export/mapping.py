"""From PostgreSQL's types, as they are landed, to Parquet's: of a column its type there, and the SQL that converts it.

A column is typed where every value keeps all that it says and every common reader (Spark, DuckDB, polars) knows the
type; else it is the landed text. An expression fails for a value that its type does not hold: then the whole column is
text in that export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from landing.model.schema import Column, Table

DIGITS = 38  # of a DECIMAL
MODIFIER = re.compile(r"\((-?\d+)(?:, ?(-?\d+))?\)")
TEXTS = {"text", "character varying", "character"}
CALENDAR = "a value is infinite, BC or after the year 9999"
IN_FORM = "a value is not in PostgreSQL's own form"
# By PostgreSQL's type: DuckDB's, Parquet's, the form of texts that are not PostgreSQL's own, and what cannot be held.
INTEGER = r"[+-]?[0-9]+"
TYPES = {
    "smallint": ("SMALLINT", "INT32 (INTEGER(16))", INTEGER, IN_FORM),
    "integer": ("INTEGER", "INT32", INTEGER, IN_FORM),
    "bigint": ("BIGINT", "INT64", INTEGER, IN_FORM),
    "real": ("FLOAT", "FLOAT", ".*", IN_FORM),
    "double precision": ("DOUBLE", "DOUBLE", ".*", IN_FORM),
    "boolean": ("BOOLEAN", "BOOLEAN", "t|f|true|false", IN_FORM),
    "date": ("DATE", "INT32 (DATE)", "[0-9]{4}-[0-9]{2}-[0-9]{2}", CALENDAR),
    "timestamp without time zone": ("TIMESTAMP", "INT64 (TIMESTAMP, microseconds, local)",
                                    r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(\.[0-9]{1,6})?", CALENDAR),
    "timestamp with time zone": ("TIMESTAMPTZ", "INT64 (TIMESTAMP, microseconds, UTC)",
                                 r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(\.[0-9]{1,6})?[+-][0-9]{2}(:[0-9]{2})?",
                                 CALENDAR),
    "bytea": ("BLOB", "BYTE_ARRAY", r"\\x([0-9a-fA-F]{2})*", IN_FORM),
}
# What PostgreSQL's own texts may have that the type does not hold: all else fails in the cast.
MOMENT = "strlen({x}) <= 32 AND substr({x}, 5, 1) = '-' AND right({x}, 1) <> 'C'"  # DuckDB takes BC for a time zone
GUARDS = {"DATE": "strlen({x}) = 10", "TIMESTAMP": MOMENT, "TIMESTAMPTZ": MOMENT, "BLOB": "left({x}, 2) = '\\x'"}
QUOTED = {"VARCHAR", "TIMESTAMP", "TIMESTAMPTZ", "BLOB"}  # elements of arrays may be in quotes
# As text in any case, and why.
UNKNOWN = "Parquet has no such type"
AS_TEXT = {
    "uuid": "Spark does not read UUID",
    "time without time zone": "Spark does not read TIME",
    "interval": "Spark does not read INTERVAL, and months, days and microseconds do not convert into each other",
    "numeric": "without a precision it has more digits than DECIMAL(38)",
    "json": "every reader has JSON as text", "jsonb": "every reader has JSON as text",
}
ARRAY = "an array has several dimensions or other bounds, or one of its elements is not held by its type"


@dataclass(frozen=True)
class Typed:
    """How values of one type are written.

    Attributes:
        sql: DuckDB's type.
        parquet: Parquet's, for people.
        expression: SQL that converts `{x}`, a text; it fails where the type does not hold the value.
        fails: When it fails, for people.
        as_text: Why it is text; None where it is typed, or text already.
    """

    sql: str
    parquet: str
    expression: str = "{x}"
    fails: str = ""
    as_text: str | None = None


TEXT = Typed("VARCHAR", "BYTE_ARRAY (STRING)")


def text(why: str) -> Typed:
    """Text, and why."""
    return Typed(TEXT.sql, TEXT.parquet, as_text=why)


@dataclass(frozen=True)
class Target:
    """A column in Parquet. `name` differs from the column's where two differ only in case."""

    column: Column
    name: str
    typed: Typed


def targets(table: Table, refused: Iterable[int] = ()) -> list[Target]:
    """The columns of a table in Parquet. `refused`: those with a value that their type does not hold, by number."""
    refused, names = {*refused}, _names([column.name for column in table.columns])
    found = []
    for number, (column, name) in enumerate(zip(table.columns, names, strict=True)):
        typed = mapped(column.type, exact=not table.lossy, own=not table.declared_types)
        found.append(Target(column, name, text(typed.fails) if number in refused else typed))
    return found


def _names(names: Sequence[str]) -> list[str]:
    """Names of which no two are equal but for case: DuckDB and Spark take those for one."""
    taken = {name.lower() for name in names}
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        number, new = 0, name
        while (number == 0 and name.lower() in seen) or (number and new.lower() in taken):
            number += 1
            new = f"{name}_{number}"
        seen.add(new.lower())
        taken.add(new.lower())
        found.append(new)
    return found


def mapped(type_: str, *, exact: bool = True, own: bool = True) -> Typed:
    """How a PostgreSQL type is written.

    Args:
        type_: As format_type() writes it.
        exact: Whether the type holds every landed text exactly.
        own: Whether the texts are PostgreSQL's own.
    """
    if type_.endswith("[]"):
        return _array(mapped(type_.removesuffix("[]"), exact=exact, own=own), type_, own=own)
    plain, modifier = _parts(type_)
    if plain in TEXTS:
        return TEXT
    if plain == "numeric" and modifier:
        typed = _decimal(modifier, own=own)
    elif plain in TYPES:
        sql, parquet, form, fails = TYPES[plain]
        guard = GUARDS.get(sql) if own else _form(form)
        typed = Typed(sql, parquet, _cast(guard, sql), fails)
    else:
        return text(AS_TEXT.get(plain, UNKNOWN))
    if not exact and plain not in INTEGERS_AND_BOOLEAN:
        return text("its declaration is `lossy`: the landed text may say more than the type holds")
    return typed


INTEGERS_AND_BOOLEAN = {"smallint", "integer", "bigint", "boolean", "bytea"}


def _parts(type_: str) -> tuple[str, tuple[int, int] | None]:
    """A type without its modifier, and the modifier: precision, and scale (0 if it has none)."""
    found = MODIFIER.search(type_)
    plain = " ".join(MODIFIER.sub("", type_).split())
    return plain, (int(found[1]), int(found[2] or 0)) if found else None


def _decimal(modifier: tuple[int, int], *, own: bool) -> Typed:
    precision, scale = modifier
    scale, whole = max(scale, 0), max(precision - scale, 0)  # numeric(3,-5) has 8 digits, and numeric(3,5) 5
    if whole + scale > DIGITS:
        return text(f"DECIMAL has {DIGITS} digits at most")
    sql = f"DECIMAL({max(whole + scale, 1)},{scale})"
    guard = None if own else _form(rf"[+-]?[0-9]*(\.[0-9]{{0,{scale}}})?")
    return Typed(sql, sql, _cast(guard, sql), "a value is NaN or infinite")


def _form(pattern: str) -> str:
    return f"regexp_full_match({{x}}, '{pattern}')"


def _cast(guard: str | None, sql: str) -> str:
    """Convert what the guard lets through, and fail for all else: by a cast, since TRY does not take error()."""
    value = f"CASE WHEN {{x}} IS NULL OR {guard} THEN {{x}} ELSE {FAIL} END" if guard else "{x}"
    return f"unhex(substr({value}, 3))" if sql == "BLOB" else f"CAST({value} AS {sql})"


FAIL = "CAST(CAST(left({x}, 0) || '?' AS INTEGER) AS VARCHAR)"


def _array(element: Typed, type_: str, *, own: bool) -> Typed:
    """A list of one dimension; PostgreSQL's text of others is a text here, too."""
    plain = _parts(type_.removesuffix("[]"))[0]
    if plain not in {*TYPES, *TEXTS, *AS_TEXT}:
        return text(UNKNOWN)
    if not own:
        return text("an array of a source that writes its own texts is not taken apart")
    parts, value = "string_split({body}, ',')", "nullif(e, 'NULL')"
    if element.sql in QUOTED:
        parts = """regexp_extract_all({body}, '"(?:[^"\\\\]|\\\\.)*"|[^",]+', 0, 's')"""
        value = ("""CASE WHEN left(e, 1) = '"' THEN regexp_replace(substr(e, 2, length(e) - 2), """
                 """'\\\\(.)', '\\1', 'gs') ELSE nullif(e, 'NULL') END""")
    items = f"list_transform({parts.replace('{body}', 'substr({x}, 2, length({x}) - 2)')}, lambda e: {value})"
    if element.expression != "{x}":
        items = f"list_transform({items}, lambda v: {element.expression.replace('{x}', 'v')})"
    sql = f"{element.sql}[]"
    return Typed(sql, f"LIST of {element.parquet}", (
        f"CASE WHEN {{x}} IS NULL THEN NULL WHEN {{x}} = '{{}}' THEN CAST([] AS {sql}) "
        f"WHEN left({{x}}, 1) = '{{' AND substr({{x}}, 2, 1) <> '{{' THEN {items} ELSE CAST([{FAIL}] AS {sql}) END"),
        ARRAY, element.as_text)
