"""Tables as they are landed: columns, files, foreign keys. Manifest and messages are made of these."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from landing.model.increment import Cursor, Increment, chained
from landing.model.validation import Count, Text
from landing.storage.base import Object
from landing.storage.compression import compressed

# A type as format_type() writes it, with modifiers and array brackets: nothing in it can end a statement. In quotes,
# "char" is a byte and "bit" has any length.
TYPE = re.compile(r'("char"|"bit"|[a-z][a-z0-9_]*( [a-z]+)*)(\(-?\d+(, ?-?\d+)?\))?( (with|without) time zone)?(\[\])*')
MAX_COLUMNS = 1600  # of a PostgreSQL table
NAME_BYTES = 63  # PostgreSQL truncates longer names without an error
INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}

SqlType = Annotated[str, Meta(pattern=rf"\A(?:{TYPE.pattern})\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Protection(Struct, frozen=True, omit_defaults=True):
    """How values were protected before they were landed, as text.

    `type` is what the column would be landed as otherwise. `check` tells the key from others of the same id.
    """

    method: Literal["token", "encrypt", "mask"]
    type: SqlType
    key: Text | None = None
    check: Text | None = None


class Column(Struct, frozen=True):
    """A column as it is landed.

    `type` is exact SQL as format_type() gives it. `source_type` is the source's own type, if that is one (an enum, a
    domain, an extension's type) that other PostgreSQL servers may lack.
    """

    name: Text
    type: SqlType
    nullable: bool = True
    source_type: Text | None = None
    comment: Text | None = None
    evidence: bool = True  # False: no value to infer a type from, so `type` is text by default
    protection: Protection | None = None


class Reading(Struct, frozen=True, omit_defaults=True):
    """How a CSV column's text was read where that is not PostgreSQL's own way: what is landed was converted.

    `derived`: the SQL that filled the column where it was empty, or all of it if the file does not have the column.
    """

    null_values: tuple[Text, ...] = ()
    true_values: tuple[Text, ...] = ()
    false_values: tuple[Text, ...] = ()
    decimal_comma: bool = False
    date_format: Text | None = None
    normalize: tuple[Text, ...] = ()
    derived: Text | None = None


class File(Struct, frozen=True, omit_defaults=True):
    """A landed file: path below the partition, data rows, bytes, SHA-256; `stored` is its size if it is compressed."""

    path: Text
    rows: Count
    bytes: Count
    sha256: Sha256
    stored: Count | None = None

    @classmethod
    def at(cls, place: Object, rows: int, size: int, sha256: str) -> File:
        """A file that is written; `size` is the number of bytes before compression."""
        stored = place.size() if compressed(place.name) else None
        return cls(place.name, rows, size, sha256, stored)

    @property
    def size(self) -> int:
        """Size on disk in bytes."""
        return self.bytes if self.stored is None else self.stored


class ForeignKey(Struct, frozen=True):
    """`columns` reference the columns `references` of another table of the same source, in order."""

    columns: list[Text]
    schema: Text
    table: Text
    references: list[Text]


class Table(Struct, frozen=True, kw_only=True):
    """A table of a partition. `schema` is None for a table that has none (a CSV file).

    `declared_types`: a person declared the columns' types, so the warehouse's text may differ from the file's (`1.50`
    as `real` is `1.5`).
    """

    stream: Text
    schema: Text | None = None
    name: Text
    primary_key: list[Text]
    comment: Text | None = None
    declared_types: bool = False
    foreign_keys: list[ForeignKey] = []
    columns: list[Column]
    files: list[File] = []
    quarantine: File | None = None  # rejected rows, which `rows` does not count
    duplicates: Count = 0  # rows that were left out because an earlier row has their key
    converted: dict[Text, Reading] = {}  # by column of a CSV file
    lossy: bool = False  # a person allowed declared types that do not hold every value exactly
    not_of_snapshot: list[Text] = []  # foreign tables that its rows come from
    dropped: list[Text] = []  # columns that protection leaves out
    appended: bool = False  # its files have only rows that are added to those of an earlier date
    increment: Increment | None = None  # its files have only what changed since another date
    cursor: Cursor | None = None  # where the next increment begins
    full_because: Text | None = None  # why its files have all rows, if only what changed was wanted

    @property
    def all_files(self) -> list[File]:
        """Files with its rows, then its quarantine file."""
        return [*self.files, *([self.quarantine] if self.quarantine else [])]

    @property
    def rows(self) -> int:
        """Data rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def total_rows(self) -> int:
        """Rows of the whole table."""
        return self.increment.total_rows if self.increment else self.rows

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Checksum of all files: see combined()."""
        return combined([file.sha256 for file in self.files])

    @property
    def chain_sha256(self) -> str:
        """Checksum of all files, and of those that they stand on."""
        return chained(self.increment.base_sha256, self.sha256) if self.increment else self.sha256


def combined(hashes: list[str]) -> str:
    """A table's checksum: that of its file; of several files, the hash of their hashes in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


# Left out of the JSON where they have this value. msgspec's `omit_defaults` would also leave out `comment` and
# `nullable`, which other readers use.
OMITTED = {"quarantine": None, "duplicates": 0, "converted": {}, "lossy": False, "not_of_snapshot": [],
           "evidence": True, "protection": None, "dropped": [], "appended": False, "increment": None, "cursor": None,
           "full_because": None}


def to_json(table: Table) -> dict[str, Any]:
    """A table as in a manifest."""
    fields = _written(table)
    head = {name: fields[name] for name in ("stream", "schema", "name")}
    return {**head, "rows": table.rows, "bytes": table.bytes, **fields,
            "columns": [_written(column) for column in table.columns]}


def _written(value: Struct) -> dict[str, Any]:
    fields = msgspec.to_builtins(value)
    return {name: field for name, field in fields.items() if name not in OMITTED or field != OMITTED[name]}
