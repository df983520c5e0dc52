"""Stream metadata: `x-landing` beside `properties` in a SCHEMA message of ours; and the encoding of our BATCHes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec
from msgspec import Struct

from landing.model.naming import RunId
from landing.model.schema import File, ForeignKey, Reading
from landing.model.validation import Count, Moment, Text
from landing.model.whole import Whole
from landing.singer.reader import converted

METADATA = "x-landing"
ENCODING = "csv"  # of a BATCH: files in the one dialect (model/csv_dialect.py)


class StreamMetadata(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a SCHEMA says of a table besides its columns. All defaults: a stream of another vendor's tap."""

    source: Text | None = None
    schema: Text | None = None
    table: Text | None = None  # unset: the stream's name
    comment: Text | None = None
    foreign_keys: list[ForeignKey] = []
    not_of_snapshot: list[Text] = []
    dropped: list[Text] = []
    declared_types: bool = False
    converted: dict[Text, Reading] = {}
    lossy: bool = False
    duplicates: Count = 0
    quarantine: File | None = None
    mapped: list[Text] = []  # columns that a stream map sets
    lands: date | None = None  # the date that the run lands
    # Of a landed partition:
    extracted_at: date | None = None
    run_id: RunId | None = None
    taken_at: Moment | None = None
    primary_key: list[Text] = []  # without the partition's own columns
    whole: Whole | None = None  # if its files have only what changed

    def __post_init__(self) -> None:
        if self.extracted_at and not (self.source and self.run_id and self.taken_at):
            raise ValueError("extracted_at needs source, run_id and taken_at")

    def to_schema(self) -> dict[str, Any]:
        """The part of a SCHEMA's schema."""
        return {METADATA: msgspec.to_builtins(self)}

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> StreamMetadata:
        """The stream metadata of a SCHEMA's schema. Raises BadLineError if it is not valid."""
        return converted(schema.get(METADATA, {}), cls, f"the SCHEMA's {METADATA}")


def unused_name(name: str, taken: Iterable[str]) -> str:
    """`name`, with underscores appended until it differs from all of `taken`."""
    taken = set(taken)
    while name in taken:
        name += "_"
    return name
