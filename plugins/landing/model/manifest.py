"""The landing zone: where things lie, the manifest that makes a date exist, and the commit.

    <root>/source=<source>/extracted_at=<date>/_manifest.json
    <root>/source=<source>/extracted_at=<date>/table=<stream>/<run id>.csv
    <root>/source=<source>/extracted_at=<date>/table=<stream>/_quarantine-<run id>.jsonl    bad rows: see quarantine.py
    <root>/_staging/<run id>/                                               work in progress
    <root>/_attempts/<source>@<date>.jsonl                                  what was tried: see attempts.py

A source's date exists when its manifest does, and holds exactly the files that the manifest lists.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from landing.core.dates import parse_date
from landing.core.errors import DamagedError, SettingError, ZoneError
from landing.model import validation
from landing.model.naming import RUN_ID
from landing.model.schema import TYPE, Column, File, ForeignKey, Table

FORMAT_VERSION = 1
LARGEST = 128 << 20  # bytes of a manifest; one of 10,000 tables has some 30 MB
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What one date of one source holds, and from which snapshot it was truly taken."""

    source: str
    extracted_at: date
    run_id: str
    taken_at: datetime
    snapshot: dict[str, Any]
    software: dict[str, str]
    tables: list[Table]
    seconds: float | None = None  # that the extract took; manifests of before don't say

    @property
    def rows(self) -> int:
        """Data rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(table.bytes for table in self.tables)

    def ordered(self) -> Manifest:
        """With its tables in order of their streams, as in the file."""
        return replace(self, tables=sorted(self.tables, key=lambda table: table.stream))

    def to_json(self) -> str:
        """As it stands in the file; docs/landing-zone.md describes each field."""
        tables = [
            {"stream": t.stream, "schema": t.schema, "name": t.name, "rows": t.rows, "bytes": t.bytes,
             "primary_key": t.primary_key, "comment": t.comment, "declared_types": t.declared_types,
             "foreign_keys": [asdict(k) for k in t.foreign_keys],
             "columns": [c.to_dict() for c in t.columns], "files": [f.to_dict() for f in t.files],
             **({"quarantine": t.quarantine.to_dict()} if t.quarantine else {}),
             **({"duplicates": t.duplicates} if t.duplicates else {}), **({"lossy": True} if t.lossy else {}),
             **({"not_of_snapshot": t.not_of_snapshot} if t.not_of_snapshot else {})}
            for t in self.ordered().tables
        ]
        head = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "extracted_at": self.extracted_at.isoformat(),
            "run_id": self.run_id,
            "taken_at": self.taken_at.isoformat(),
            **({} if self.seconds is None else {"seconds": self.seconds}),
            "snapshot": self.snapshot,
            "software": self.software,
        }
        whole = head | {"tables": tables}
        return json.dumps(whole | {"sha256": _seal(whole)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read back; one of UNUSABLE when it isn't a manifest that this version understands, or was changed."""
        raw = validation.document(text)
        if raw["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {raw['format_version']}, expected {FORMAT_VERSION}")
        seal = raw.pop("sha256", None)
        if seal not in (None, _seal(raw)):  # manifests of before have none
            raise ValueError(f"it was changed: its own SHA-256 is {_seal(raw)}, expected {seal}")
        return cls(
            validation.text(raw["source"]), parse_date(raw["extracted_at"], "extracted_at"),
            validation.text(raw["run_id"], RUN_ID), validation.utc(raw["taken_at"]),
            validation.flat(raw["snapshot"]), validation.flat(raw["software"]), _tables(raw["tables"]),
            validation.seconds(raw.get("seconds")),
        )


UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, SettingError)


def _seal(raw: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, whatever its spacing and order."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _tables(raw: Any) -> list[Table]:
    tables = [_table(table) for table in validation.items(raw)]
    validation.once((table.stream for table in tables), "table")
    validation.once((file.path for table in tables for file in table.all_files), "file")
    return tables


def _table(raw: Mapping[str, Any]) -> Table:
    table = Table(
        validation.text(raw["stream"]), validation.text(raw["name"]), validation.text_or_none(raw["schema"]),
        [_column(Column(**one)) for one in validation.items(raw["columns"])], validation.texts(raw["primary_key"]),
        [_file(File(**one)) for one in validation.items(raw["files"])], validation.text_or_none(raw["comment"]),
        validation.flag(raw["declared_types"]),
        [_foreign_key(ForeignKey(**one)) for one in validation.items(raw.get("foreign_keys", []))],
        _file(File(**raw["quarantine"])) if raw.get("quarantine") else None,
        validation.count(raw.get("duplicates", 0)), validation.flag(raw.get("lossy", False)),
        validation.texts(raw.get("not_of_snapshot", [])),
    )
    names = [column.name for column in table.columns]
    validation.once(names, f"column of {table.stream!r}")
    if unknown := {*table.primary_key} - {*names}:
        raise ValueError(f"the key of {table.stream!r} has columns that it has not: {sorted(unknown)}")
    if (table.rows, table.bytes) != (raw["rows"], raw["bytes"]) or not table.files:
        raise ValueError(f"the files of {table.stream!r} do not add up to its rows and bytes")
    return table


def _column(column: Column) -> Column:
    if not TYPE.fullmatch(column.type):
        raise ValueError(f"column {column.name!r} has type {column.type!r}, which is not one")
    validation.text(column.name)
    validation.flag(column.nullable)
    validation.flag(column.evidence)
    validation.text_or_none(column.source_type)
    validation.text_or_none(column.comment)
    return column


def _file(file: File) -> File:
    validation.text(file.path)
    validation.text(file.sha256, SHA256)
    for number in (file.rows, file.bytes, file.size):
        validation.count(number)
    return file


def _foreign_key(key: ForeignKey) -> ForeignKey:
    validation.texts([key.schema, key.table])
    validation.texts(key.columns)
    validation.texts(key.references)
    return key


def encode(manifest: Manifest) -> bytes:
    """A manifest's text; ZoneError where it could not be read back as what it is."""
    where = f"The manifest of {manifest.source} of {manifest.extracted_at}"
    try:
        text = manifest.to_json().encode()
        if len(text) > LARGEST:
            raise ZoneError(f"{where} would have {len(text):,} bytes, and none has more than {LARGEST:,}. Nothing was "
                            "committed. Deselect tables, or divide them between several sources, and run again.")
        same = Manifest.from_json(text.decode()) == manifest.ordered()
    except UNUSABLE as error:
        raise ZoneError(f"{where} could not be read back ({type(error).__name__}: {error!s:.500}). Nothing was "
                        "committed. Correct what the tap sends, and run again.") from None
    if not same:
        raise ZoneError(f"{where} would be read back as another one. Nothing was committed. Correct what the tap "
                        "sends, and run again.")
    return text


def read_text(path: Path, again: str) -> str:
    """A manifest's text; of a link, a pipe or the like nothing is read, nor of what is larger than any manifest."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(f"{path} is no file. {again}")
    if found.st_size > LARGEST:
        raise DamagedError(f"{path} has {found.st_size:,} bytes, and no manifest has more than {LARGEST:,}. {again}")
    return path.read_text("utf-8")
