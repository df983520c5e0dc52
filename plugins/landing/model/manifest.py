"""The manifest: what a partition holds, and from which snapshot. Renaming it into place is the commit point."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from landing.core.errors import ZoneError
from landing.model import schema
from landing.model.inputs import Input
from landing.model.naming import RunId
from landing.model.schema import File, Sha256, Table
from landing.model.validation import Moment, Scalar, Seconds, Text, document, require_unique

FORMAT_VERSION = 2  # of what is written, and the newest that is read
# The oldest FORMAT_VERSION whose reader understands what is written: to version 1 an increment would be a whole table.
WHOLE_TABLES, INCREMENTS = 1, 2
LARGEST = 128 << 20  # bytes of a manifest; one of 10,000 tables has some 30 MB
UNUSABLE = (ValueError, RecursionError)

Version = Annotated[int, Meta(ge=1)]


class _Header(Struct):
    format_version: Version
    sha256: Sha256
    min_reader_version: Version = 1


class Manifest(Struct, frozen=True, kw_only=True):
    """What one partition holds, and from which snapshot it was extracted."""

    source: Text
    extracted_at: date
    run_id: RunId
    taken_at: Moment
    seconds: Seconds  # that the extract took
    snapshot: dict[str, Scalar]
    software: dict[str, Scalar]
    tables: list[Table]
    declared: list[Text] | None = None  # sources that its date consists of; None: written by an older version

    left_out: dict[Text, Text] = {}  # why, by stream: relations of the source that could not be read
    inputs: dict[Text, list[Input]] = {}  # by entity, where `after_landing` moves them

    @property
    def rows(self) -> int:
        """Rows of all tables, also of those whose files have only what changed."""
        return sum(table.total_rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(table.bytes for table in self.tables)

    def ordered(self) -> Manifest:
        """With tables sorted by stream, as in the file."""
        return msgspec.structs.replace(self, tables=sorted(self.tables, key=lambda table: table.stream))

    @property
    def all_files(self) -> list[File]:
        """The files of all tables, and of their rejected rows."""
        return [file for table in self.tables for file in table.all_files]

    def to_json(self) -> str:
        """The text of the file; docs/landing-zone.md describes each field."""
        fields = msgspec.structs.asdict(self)
        oldest = INCREMENTS if any(table.increment for table in self.tables) else WHOLE_TABLES
        versions = {"format_version": FORMAT_VERSION, "min_reader_version": oldest}
        fields["inputs"] = msgspec.to_builtins(self.inputs)
        changed = {"extracted_at": self.extracted_at.isoformat(), "taken_at": self.taken_at.isoformat(),
                   "tables": [schema.to_json(table) for table in self.ordered().tables]}
        if self.declared is None:
            del fields["declared"]
        for name in ("left_out", "inputs"):
            if not fields[name]:
                del fields[name]
        return to_text(versions | fields | changed)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest; fields that this version does not know are ignored.

        Raises:
            ValueError, RecursionError: It is not a manifest that this version can read, or it was edited.
        """
        raw = document(text)
        header = msgspec.convert(raw, _Header)
        if header.min_reader_version > FORMAT_VERSION:
            raise ValueError(f"it needs a reader of format_version {header.min_reader_version}, and this is one of "
                             f"{FORMAT_VERSION}")
        if header.sha256 != (found := sealed(raw)["sha256"]):
            raise ValueError(f"it was changed: its own SHA-256 is {found}, expected {header.sha256}")
        manifest = msgspec.convert(raw, cls)
        require_unique((table.stream for table in manifest.tables), "table")
        require_unique((file.path for file in manifest.all_files), "file")
        for table, fields in zip(manifest.tables, raw["tables"], strict=True):
            _require_consistent(table, fields)
            if table.increment and table.increment.base >= manifest.extracted_at:
                raise ValueError(f"{table.stream!r} stands on {table.increment.base}, which is not an earlier date")
        return manifest


def to_text(fields: Mapping[str, Any]) -> str:
    """The text of a manifest's file, with the SHA-256 of these fields."""
    return json.dumps(sealed(fields), indent=1, ensure_ascii=False) + "\n"


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a manifest with the SHA-256 of all others, whatever their spacing and order."""
    others = {name: value for name, value in fields.items() if name != "sha256"}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return others | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _require_consistent(table: Table, fields: Mapping[str, Any]) -> None:
    """Raise ValueError if a table contradicts itself; `fields` has its sums, which Table computes."""
    names = [column.name for column in table.columns]
    require_unique(names, f"column of {table.stream!r}")
    if unknown := {*table.primary_key} - {*names}:
        raise ValueError(f"the key of {table.stream!r} has columns that the table lacks: {sorted(unknown)}")
    if (table.rows, table.bytes) != (fields.get("rows"), fields.get("bytes")) or not table.files:
        raise ValueError(f"the files of {table.stream!r} do not add up to its rows and bytes")


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest. Raises ZoneError if they could not be read back as the same manifest."""
    where = f"The manifest of {manifest.source} of {manifest.extracted_at}"
    try:
        text = manifest.to_json().encode()
        if len(text) > LARGEST:
            raise ZoneError(f"{where} would have {len(text):,} bytes, and the limit is {LARGEST:,}. Nothing was "
                            "committed. Deselect tables, or divide them between several sources, and run again.")
        same = Manifest.from_json(text.decode()) == manifest.ordered()
    except (*UNUSABLE, TypeError) as error:
        raise ZoneError(f"{where} could not be read back ({type(error).__name__}: {error!s:.500}). Nothing was "
                        "committed. Correct what the tap sends, and run again.") from None
    if not same:
        raise ZoneError(f"{where} would be read back as a different one. Nothing was committed. Correct what the tap "
                        "sends, and run again.")
    return text
