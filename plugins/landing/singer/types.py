"""Columns in SCHEMA messages, and the rows of landed files as Singer records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from landing.model.csv_dialect import read_rows
from landing.model.schema import INTEGERS, TYPE, Column, Protection
from landing.storage.base import Object


def json_schema(column: Column) -> dict[str, Any]:
    """A column's property in a SCHEMA message.

    Integers and booleans are JSON's own. All else is PostgreSQL's text: JSON has no NaN, and most JSON readers lose
    digits of long numbers. `format` tells third-party targets what the text is.
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
    if column.protection:
        schema["x-protection"] = msgspec.to_builtins(column.protection)
    return schema | {"x-sql-datatype": column.type}


def column_of(name: str, schema: Mapping[str, Any], *, ours: bool = True) -> Column:
    """The column of a property in a SCHEMA message, by `x-sql-datatype` or, from a third-party tap, by its JSON type.

    Raises:
        ValueError: `x-sql-datatype` is not a type, or `x-protection` is not valid.
    """
    types = schema.get("type") or [t for option in schema.get("anyOf", []) for t in _as_list(option.get("type"))]
    types = _as_list(types) or ["null", "string"]
    declared = schema.get("x-sql-datatype")
    if ours and declared and not TYPE.fullmatch(declared):
        raise ValueError(f"property {name!r} has the type {declared!r}, which is not an SQL type")
    exact = declared and (ours or declared in INTEGERS)
    type_ = declared if exact else _type_of_json({*types} - {"null"}, schema.get("format"))
    evidence = not ours or schema.get("x-evidence") is not False
    protection = msgspec.convert(schema.get("x-protection") if ours else None, Protection | None)
    return Column(name, type_, "null" in types, schema.get("x-source-type"), schema.get("description"), evidence,
                  protection)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _type_of_json(types: set[str], format_: str | None) -> str:
    if types == {"string"}:
        named = {"date": "date", "date-time": "timestamp with time zone", "singer.decimal": "numeric"}
        return named.get(format_ or "", "text")
    if types and types <= {"object", "array"}:
        return "jsonb"
    named = {("integer",): "bigint", ("number",): "numeric", ("integer", "number"): "numeric", ("boolean",): "boolean"}
    return named.get(tuple(sorted(types)), "text")


def reader(column: Column) -> Callable[[str | None], Any]:
    """A function from a field's text to the value of a RECORD, as json_schema() describes it."""
    if column.type in INTEGERS:
        return lambda text: None if text is None else int(text)
    if column.type == "boolean":
        return lambda text: None if text is None else text == "t"
    return lambda text: text


def records(place: Object, columns: Sequence[Column], constants: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A landed file as Singer records; `constants` are added to each."""
    readers = [reader(column) for column in columns]
    names = [column.name for column in columns]
    for row in read_rows(place):
        yield dict(zip(names, (read(field) for read, field in zip(readers, row, strict=True)), strict=True)) | constants
