r"""The one CSV dialect of the landing zone.

UTF-8, LF, a header, comma, `"` doubled inside `"`; NULL is an empty field, and an empty string is `""`. These are the
bytes that PostgreSQL's `COPY … TO STDOUT (FORMAT csv, HEADER)` writes. Lines that this module writes are quoted by the
same rules (`CopyAttributeOutCSV` in copyto.c), so equal rows have equal checksums.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from landing.model.schema import Column
from landing.storage import hashing
from landing.storage.base import Object

COPY_OPTIONS = "(FORMAT csv, HEADER, DELIMITER ',', QUOTE '\"', ESCAPE '\"', NULL '', ENCODING 'UTF8')"
NO_FIELDS: Mapping[str, str] = {}
MUST_QUOTE = re.compile('[,"\n\r]')
FIELD = re.compile(',(?:"([^"]*(?:""[^"]*)*)"|([^,]*))')


def quoted(value: str | None, *, alone: bool = False) -> str:
    r"""One field. `alone` in its line, `\.` is quoted too: older servers read it as the end of the data."""
    if value is None:
        return ""
    if not value or MUST_QUOTE.search(value) or (alone and value == r"\."):
        return '"' + value.replace('"', '""') + '"'
    return value


def line(values: Sequence[str | None]) -> bytes:
    """One line, with its line feed."""
    return (",".join(quoted(value, alone=len(values) == 1) for value in values) + "\n").encode()


def sql_line(columns: Sequence[str], *, alone: bool, fields: Mapping[str, str] = NO_FIELDS,
             within: Sequence[str] = ()) -> str:
    """DuckDB's expression for the line of a row of text columns.

    Args:
        columns: SQL expressions.
        alone: As for quoted().
        fields: Expressions of fields that are not made here, by column.
        within: Texts that contain the values of all other columns: searching these is faster than each column.
    """
    line = _sql_line(columns, alone=alone, fields=fields)
    if alone or not within:
        return line
    made = [c for c in columns if c not in fields]
    special = [f"contains({text}, {char})" for text in within for char in ("','", "'\"'", "chr(10)", "chr(13)")]
    quoted = " OR ".join([*special, *(f"coalesce({c} = '', false)" for c in made)])
    plain = ", ".join(fields.get(c, f"coalesce({c}, '')") for c in columns)
    return f"CASE WHEN {quoted} THEN {line} ELSE concat_ws(',', {plain}) END"


def _sql_line(columns: Sequence[str], *, alone: bool, fields: Mapping[str, str]) -> str:
    listed = ", ".join(fields[c] if c in fields else _sql_field(c, alone=alone) for c in columns)
    return f"concat_ws(',', {listed})"  # a chain of `||` would be nested too deeply for a thousand columns


def _sql_field(c: str, *, alone: bool) -> str:
    return (f"CASE WHEN {c} IS NULL THEN '' WHEN {c} = '' OR regexp_matches({c}, '[,\"\\n\\r]')"
            + (rf" OR {c} = '\.'" if alone else "")
            + f" THEN '\"' || replace({c}, '\"', '\"\"') || '\"' ELSE {c} END")


def read_rows(place: Object) -> Iterator[list[str | None]]:
    """Rows of a file in this dialect; NULL is None. A field may be as long as PostgreSQL allows."""
    with io.TextIOWrapper(hashing.reader(place), "utf-8", newline="\n") as file:
        records = _records(file)
        next(records, None)  # the header
        for record in records:
            if '"' in record:
                fields = FIELD.finditer("," + record)
                yield [m[2] or None if m[1] is None else m[1].replace('""', '"') for m in fields]
            else:
                yield [field or None for field in record.split(",")]


def _records(lines: Iterable[str]) -> Iterator[str]:
    """Join lines at line feeds inside quotes: before one of those the number of quotes is odd."""
    parts: list[str] = []
    inside = False
    for text in lines:
        parts.append(text)
        inside ^= text.count('"') % 2 == 1
        if not inside:
            yield "".join(parts).removesuffix("\n")
            parts.clear()


def text(value: Any) -> str | None:
    """The field's text for a RECORD's value; a string is unchanged."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (dict, list)):
        return json_text(value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def json_text(value: Any) -> str:
    """JSON with every digit of its numbers; Python's json cannot write a Decimal."""
    import simplejson  # here: it comes with the Singer SDK, which notebook and Airflow lack

    return simplejson.dumps(value, ensure_ascii=False, use_decimal=True, default=str)


def header(columns: Iterable[Column]) -> bytes:
    """The header line."""
    return line([column.name for column in columns])
