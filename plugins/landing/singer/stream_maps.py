"""Streams whose rows a user's stream maps change: sent as RECORDs, under their own table's name and metadata.

The SDK's SCHEMA of such a stream has neither the stream metadata nor exact types. Both are restored here, so that a map
of one column changes that column and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from singer_sdk import Stream
from singer_sdk.exceptions import MapperNotInitialized
from singer_sdk.mapper import RemoveRecordTransform

from landing.model.schema import Table
from landing.singer.types import json_schema


def is_mapped(stream: Stream) -> bool:
    """Whether stream maps or flattening change or remove rows of the stream, which files would bypass."""
    return bool(stream.config.get("flattening_enabled") or _entries(stream)) or _removes_others(stream)


def _entries(stream: Stream) -> list[Mapping[str, Any]]:
    """The entries of the setting `stream_maps` that apply to a stream; an entry that removes it is empty."""
    found = []
    for pattern, entry in (stream.config.get("stream_maps") or {}).items():
        entry = entry if isinstance(entry, Mapping) else {"__removed__": None}
        source = entry.get("__source__", pattern)
        if stream.name == source or fnmatch(stream.name, source):
            found.append(entry)
    return found


def _removes_others(stream: Stream) -> bool:
    """Whether `__else__: null` removes every stream that no entry names."""
    try:
        return stream.tap.mapper.default_mapper_type is RemoveRecordTransform
    except MapperNotInitialized:
        return False


def changed_columns(stream: Stream) -> set[str]:
    """Columns that some stream map sets by an expression."""
    return {name for entry in _entries(stream) for name in entry if not name.startswith("__")}


def properties(stream: Stream, table: Table, mapped: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of a mapped SCHEMA: exact ones for the columns that no map changes, none for deselected columns."""
    exact = {column.name: json_schema(column) for column in table.columns}
    changed, known = changed_columns(stream), stream.schema.get("properties", {})
    return {name: exact[name] if name in exact and name not in changed else schema for name, schema in mapped.items()
            if name in exact or name in changed or name not in known}
