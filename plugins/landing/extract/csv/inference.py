"""Type inference for CSV columns, as DuckDB expressions over a column's text.

A type is inferred only if PostgreSQL writes each value exactly as the file does, so that the warehouse returns the
file's text.
"""

from __future__ import annotations

from collections.abc import Container

DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"

TIMESTAMP = "timestamp without time zone"

# By type, the condition that {0} is exactly what PostgreSQL writes for a value; the first match counts.
SPELLINGS = {
    "integer": "TRY_CAST({0} AS INTEGER)::VARCHAR = {0}",
    "bigint": "TRY_CAST({0} AS BIGINT)::VARCHAR = {0}",
    "numeric": f"strlen({{0}}) <= 1000 AND regexp_matches({{0}}, '{DECIMAL}')"
    " AND NOT (starts_with({0}, '-') AND regexp_matches({0}, '^-[0.]+$'))",
    "date": "strlen({0}) = 10 AND TRY_CAST({0} AS DATE)::VARCHAR = {0}",
    TIMESTAMP: "strlen({0}) BETWEEN 19 AND 26 AND {0} NOT LIKE '%)'"
    " AND TRY_CAST({0} AS TIMESTAMP)::VARCHAR = {0}",
}

# One bit per candidate type; a column's mask is the OR over its values.
BITS = {type_: 1 << place for place, type_ in enumerate([*SPELLINGS, "text"])}
NUMBERS = BITS["integer"] | BITS["bigint"] | BITS["numeric"]


def kind(column: str) -> str:
    """DuckDB's expression for a value's bit, or NULL.

    Cheap comparisons come first: they rule out most texts, and types that do not have such a character.
    """
    text = BITS["text"]
    return (f"CASE WHEN {column} < '-' OR {column} >= ':' THEN {text} "
            f"WHEN contains({column}, ':') THEN {_among([TIMESTAMP], column)} "
            f"WHEN contains({column}, '.') THEN {_among(['numeric'], column)} "
            f"WHEN {column} IS NOT NULL THEN {_among(SPELLINGS.keys() - {TIMESTAMP}, column)} END")


def _among(types: Container[str], column: str) -> str:
    cases = " ".join(f"WHEN {check.format(column)} THEN {BITS[type_]}" for type_, check in SPELLINGS.items()
                     if type_ in types)
    return f"CASE {cases} ELSE {BITS['text']} END"


def allowed(type_: str) -> int:
    """The mask of values that do not widen a type."""
    return sum(bit for name, bit in BITS.items() if type_ in ("text", inferred(BITS[name] | BITS[type_])))


def inferred(bits: int) -> str:
    """The type for a column's mask: the widest number type, else the only type, else text."""
    if bits and not bits & ~NUMBERS:
        return max((type_ for type_, bit in BITS.items() if bits & bit), key=BITS.__getitem__)
    return next((type_ for type_, bit in BITS.items() if bits == bit), "text")
