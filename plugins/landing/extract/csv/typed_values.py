"""Texts of declared types as DuckDB values, to compare and to compute with; and such values as texts again."""

from __future__ import annotations

from landing.model import equality
from landing.model.declared_types import DATES, FLOATS, SPACE, Declared
from landing.model.schema import INTEGERS

DECIMAL_DIGITS = 38  # of DuckDB's DECIMAL
TEXTS = {"text", "character varying", "character", "bpchar", "name"}
TIME = "time without time zone"


def duckdb_type(type_: str) -> str | None:
    """DuckDB's type for the values of a declared type; None if it has none that holds them exactly."""
    declared = Declared.of(type_)
    name, precision, scale = declared.name, declared.length, declared.scale or 0
    if declared.array:
        return None
    if name in INTEGERS:
        return "BIGINT"
    if name == "numeric":
        exact = precision and 0 <= scale <= precision <= DECIMAL_DIGITS
        return f"DECIMAL({precision}, {scale})" if exact else None
    if name in FLOATS:
        return "FLOAT" if name == "real" else "DOUBLE"
    if name in DATES:
        return "DATE" if name == "date" else "TIMESTAMP"
    return "VARCHAR" if name in TEXTS else {"boolean": "BOOLEAN", TIME: "TIME"}.get(name)


def is_ordered(type_: str) -> bool:
    """Whether values have a minimum: numbers, dates and times."""
    return duckdb_type(type_) not in (None, "VARCHAR", "BOOLEAN")


def typed(type_: str, column: str) -> str:
    """DuckDB's expression for the value of a text of a type that duckdb_type() knows.

    A timestamp with time zone is one in UTC. NULL for a number that DECIMAL lacks (NaN).
    """
    name, duckdb = Declared.of(type_).name, duckdb_type(type_)
    if name in DATES:
        return equality.spaced_moment(name, column)
    if name == TIME:
        return equality.time_of_day(column)
    if name == "numeric":
        return f"coalesce(TRY_CAST({column} AS {duckdb}), TRY_CAST(trim({column}, '{SPACE}') AS {duckdb}))"
    return column if duckdb == "VARCHAR" else equality.value(type_, column)


def text_of(type_: str, value: str) -> str:
    """DuckDB's expression for a value's text as PostgreSQL writes it for a type.

    A value that the type does not hold exactly keeps its own text, which the check of the type then rejects.
    """
    name, duckdb = Declared.of(type_).name, duckdb_type(type_)
    if duckdb == "BOOLEAN":
        return f"CASE WHEN ({value})::BOOLEAN THEN 't' WHEN NOT ({value})::BOOLEAN THEN 'f' END"
    if duckdb in (None, "VARCHAR"):
        return f"({value})::VARCHAR"
    exact = f"TRY_CAST(({value}) AS {duckdb})"
    text = f"CASE WHEN {exact} = ({value}) THEN {exact}::VARCHAR ELSE ({value})::VARCHAR END"
    return f"({text}) || '+00'" if name == "timestamp with time zone" else text
