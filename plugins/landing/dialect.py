r"""The one CSV dialect of the landing zone, and how SQL types look in it and in Singer.

UTF-8, LF, a header, comma, `"` doubled inside `"`; NULL is nothing at all and an empty string is `""`. These are the
bytes that PostgreSQL's `COPY … TO STDOUT (FORMAT csv, HEADER)` writes, so a line that we write ourselves is quoted by
its rules (`CopyAttributeOutCSV` in copyto.c), and the same rows have the same SHA-256 whoever wrote them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from landing import files

COPY_OPTIONS = "(FORMAT csv, HEADER, DELIMITER ',', QUOTE '\"', ESCAPE '\"', NULL '', ENCODING 'UTF8')"

MUST_QUOTE = re.compile('[,"\n\r]')

FIELD = re.compile(',(?:"([^"]*(?:""[^"]*)*)"|([^,]*))')

# A type as format_type() writes it, with its modifiers, arrays included: nothing in it can end a statement. Of those
# in quotes "char" is a byte, and "bit" has any length.
TYPE = re.compile(r'("char"|"bit"|[a-z][a-z0-9_]*( [a-z]+)*)(\(-?\d+(, ?-?\d+)?\))?( (with|without) time zone)?(\[\])*')

NAME_BYTES = 63  # PostgreSQL cuts longer names without asking

INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}


@dataclass(frozen=True)
class Column:
    """A column as it is landed.

    `type` is exact SQL as format_type() gives it. `source_type` stands beside it where the source's own type (an
    enum, a domain, an extension's type) is not one that every PostgreSQL has.
    """

    name: str
    type: str
    nullable: bool = True
    source_type: str | None = None
    comment: str | None = None
    evidence: bool = True  # False: no value to infer the type from, so it is text for want of one

    def to_dict(self) -> dict[str, Any]:
        """As in a manifest."""
        return {name: value for name, value in asdict(self).items() if name != "evidence" or not value}


def quoted(value: str | None, *, alone: bool = False) -> str:
    r"""One field; `alone` in its line, `\.` is quoted as well (older servers take it for the end of the data)."""
    if value is None:
        return ""
    if not value or MUST_QUOTE.search(value) or (alone and value == r"\."):
        return '"' + value.replace('"', '""') + '"'
    return value


def line(values: Sequence[str | None]) -> bytes:
    """One line, with its line feed."""
    return (",".join(quoted(value, alone=len(values) == 1) for value in values) + "\n").encode()


def sql_line(columns: Sequence[str]) -> str:
    """DuckDB's expression for the line of a row of text columns; `columns` are SQL expressions."""
    fields = [
        f"CASE WHEN {c} IS NULL THEN '' WHEN {c} = '' OR regexp_matches({c}, '[,\"\\n\\r]')"
        + (rf" OR {c} = '\.'" if len(columns) == 1 else "")
        + f" THEN '\"' || replace({c}, '\"', '\"\"') || '\"' ELSE {c} END"
        for c in columns
    ]
    return f"concat_ws(',', {', '.join(fields)})"  # `||` between them would be too deep for a thousand columns


def read_rows(path: Path) -> Iterator[list[str | None]]:
    """Rows of a file in our dialect, as text, NULL and '' apart; a field may be as long as PostgreSQL allows."""
    with io.TextIOWrapper(files.reader(path), "utf-8", newline="\n") as file:
        records = _records(file)
        next(records, None)  # the header
        for record in records:
            if '"' in record:
                fields = FIELD.finditer("," + record)
                yield [m[2] or None if m[1] is None else m[1].replace('""', '"') for m in fields]
            else:
                yield [field or None for field in record.split(",")]


def _records(lines: Iterable[str]) -> Iterator[str]:
    """Lines put together where a line feed is in quotes, which leaves an odd number of them before it."""
    parts: list[str] = []
    inside = False
    for text in lines:
        parts.append(text)
        inside ^= text.count('"') % 2 == 1
        if not inside:
            yield "".join(parts).removesuffix("\n")
            parts.clear()


def json_schema(column: Column) -> dict[str, Any]:
    """A column's property in a SCHEMA message.

    Integers and booleans go as JSON's own. All else goes as PostgreSQL's text: JSON's numbers have no NaN, and those
    who read them no 38 digits. `format` tells other targets what the text is.
    """
    kind, format_ = "string", None
    if column.type in INTEGERS:
        kind = "integer"
    elif column.type == "boolean":
        kind = "boolean"
    elif column.type in {"real", "double precision"} or re.fullmatch(r"numeric(\(.*\))?", column.type):
        format_ = "singer.decimal"
    elif column.type == "date":
        format_ = "date"
    elif re.fullmatch(r"timestamp(\(\d\))? with(out)? time zone", column.type):
        format_ = "date-time"
    schema: dict[str, Any] = {"type": [kind, "null"] if column.nullable else [kind]}
    if format_:
        schema["format"] = format_
    if column.comment:
        schema["description"] = column.comment
    if column.source_type:
        schema["x-source-type"] = column.source_type
    if not column.evidence:
        schema["x-evidence"] = False
    return schema | {"x-sql-datatype": column.type}


def column_of(name: str, schema: Mapping[str, Any], *, ours: bool = True) -> Column:
    """The column of a property in a SCHEMA message, by our own mark or, from another tap, by its JSON type.

    ValueError where our mark is no type.
    """
    types = schema.get("type") or [t for option in schema.get("anyOf", []) for t in _as_list(option.get("type"))]
    types = _as_list(types) or ["null", "string"]
    said = schema.get("x-sql-datatype")
    if ours and said and not TYPE.fullmatch(said):
        raise ValueError(f"property {name!r} has the type {said!r}, which is not one")
    type_ = said if said and (ours or said in INTEGERS) else _foreign_type({*types} - {"null"}, schema.get("format"))
    evidence = not ours or schema.get("x-evidence") is not False
    return Column(name, type_, "null" in types, schema.get("x-source-type"), schema.get("description"), evidence)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _foreign_type(types: set[str], format_: str | None) -> str:
    if types == {"string"}:
        named = {"date": "date", "date-time": "timestamp with time zone", "singer.decimal": "numeric"}
        return named.get(format_ or "", "text")
    if types and types <= {"object", "array"}:
        return "jsonb"
    named = {("integer",): "bigint", ("number",): "numeric", ("integer", "number"): "numeric", ("boolean",): "boolean"}
    return named.get(tuple(sorted(types)), "text")


def reader(column: Column) -> Callable[[str | None], Any]:
    """From the field's text to the value of a RECORD, as json_schema() promises it."""
    if column.type in INTEGERS:
        return lambda text: None if text is None else int(text)
    if column.type == "boolean":
        return lambda text: None if text is None else text == "t"
    return lambda text: text


def text(value: Any) -> str | None:
    """From the value of a RECORD to the field's text; what is text already stays as it is."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (dict, list)):
        return json_text(value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def json_text(value: Any) -> str:
    """JSON with every digit of its numbers: Python's own would write a Decimal as text, if it did."""
    import simplejson  # here: it comes with the Singer SDK, and not everybody who imports this has that

    return simplejson.dumps(value, ensure_ascii=False, use_decimal=True, default=str)


def records(path: Path, columns: Sequence[Column], constants: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A landed file as Singer records; `constants` are added to each."""
    readers = [reader(column) for column in columns]
    names = [column.name for column in columns]
    for row in read_rows(path):
        yield dict(zip(names, (read(field) for read, field in zip(readers, row, strict=True)), strict=True)) | constants


def header(columns: Iterable[Column]) -> bytes:
    """The header line."""
    return line([column.name for column in columns])
