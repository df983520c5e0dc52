"""The manifest of an exported partition: which landed run it is made of, and what became of each column."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import msgspec
from msgspec import Struct

from landing.export.mapping import Target
from landing.model.manifest import LARGEST, to_text
from landing.model.naming import RunId
from landing.model.schema import File, Sha256, SqlType, Table
from landing.model.validation import Moment, Scalar, Text, document
from landing.storage.base import Storage
from landing.zone import layout

FORMAT = "parquet"
FORMAT_VERSION = 1


class Origin(Struct, frozen=True):
    """The landed partition: its run, when it was taken, and the SHA-256 that its manifest has of itself."""

    run_id: RunId
    taken_at: Moment
    sha256: Sha256


class ExportedColumn(Struct, frozen=True, omit_defaults=True):
    """A column: its name and type at the source, Parquet's type, and why it is text if it is not typed.

    `written_as` is its name in Parquet if another column's differs from it only in case.
    """

    name: Text
    type: SqlType
    parquet: str
    as_text: str | None = None
    written_as: Text | None = None

    @classmethod
    def of(cls, target: Target) -> ExportedColumn:
        """As it was written."""
        renamed = target.name if target.name != target.column.name else None
        return cls(target.column.name, target.column.type, target.typed.parquet, target.typed.as_text, renamed)


class ExportedTable(Struct, frozen=True):
    """A table. Its files have all of its rows but rejected ones."""

    stream: Text
    schema: Text | None
    name: Text
    primary_key: list[Text]
    rows: int
    columns: list[ExportedColumn]
    files: list[File]

    @classmethod
    def of(cls, table: Table, columns: list[Target], files: list[File]) -> ExportedTable:
        """As it was written."""
        return cls(table.stream, table.schema, table.name, table.primary_key, table.rows,
                   [ExportedColumn.of(one) for one in columns], files)


class ExportManifest(Struct, frozen=True):
    """An exported partition."""

    source: Text
    extracted_at: date
    run_id: RunId
    exported_at: Moment
    landed: Origin
    software: dict[str, Scalar]
    tables: list[ExportedTable]
    format: Literal["parquet"] = FORMAT
    format_version: int = FORMAT_VERSION

    @property
    def all_files(self) -> list[File]:
        """The files of all tables."""
        return [file for table in self.tables for file in table.files]

    def encode(self) -> bytes:
        """The bytes of the file, which end in the SHA-256 of all other fields."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        fields["exported_at"] = self.exported_at.isoformat()
        fields["landed"]["taken_at"] = self.landed.taken_at.isoformat()
        head = {name: fields.pop(name) for name in ("format", "format_version")}
        return to_text(head | fields).encode()


def read(storage: Storage, source: str, day: date) -> ExportManifest | None:
    """The manifest of an exported partition; None if there is none.

    Raises:
        ValueError: What is there is not one.
    """
    try:
        text = storage.read(layout.manifest(source, day), LARGEST).decode()
    except FileNotFoundError:
        return None
    return msgspec.convert(document(text), ExportManifest)
