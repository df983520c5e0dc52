"""SQL types inferred from a CSV file's values, as DuckDB's expressions over a column's text.

A type is inferred only where PostgreSQL writes each of the column's values exactly as the file does, so that what comes
out of the warehouse is what went in.
"""

from __future__ import annotations

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


def kind(column: str) -> str:
    """A value's bit, or NULL; one comparison sorts out what can't begin a number or a date."""
    cases = " ".join(f"WHEN {check.format(column)} THEN {BITS[type_]}" for type_, check in SPELLINGS.items())
    text = BITS["text"]
    return f"CASE WHEN {column} < '-' OR {column} >= ':' THEN {text} {cases} WHEN {column} IS NOT NULL THEN {text} END"


def allowed(type_: str) -> int:
    """The bits of values that let inferred() keep to a type, or find a narrower one."""
    return sum(bit for name, bit in BITS.items() if type_ in ("text", inferred(BITS[name] | BITS[type_])))


def inferred(bits: int) -> str:
    """The type that keeps the text of all values: of numbers the widest, else the only one."""
    if bits and not bits & ~NUMBERS:
        return max((type_ for type_, bit in BITS.items() if bits & bit), key=BITS.__getitem__)
    return next((type_ for type_, bit in BITS.items() if bits == bit), "text")
