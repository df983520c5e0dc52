r"""The one CSV dialect of the landing zone, and how SQL types look in it and in Singer.

UTF-8, LF, a header, comma, `"` doubled inside `"`; NULL is nothing at all and an empty string is `""`. These are the
bytes that PostgreSQL's `COPY … TO STDOUT (FORMAT csv, HEADER)` writes, so a line that we write ourselves is quoted by
its rules (`CopyAttributeOutCSV` in copyto.c), and the same rows have the same SHA-256 whoever wrote them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from landing.storage import compression

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


@dataclass(frozen=True)
class File:
    """A landed file: path below the date's folder, data rows, bytes, SHA-256; `stored`, its size where compressed."""

    path: str
    rows: int
    bytes: int
    sha256: str
    stored: int | None = None

    @classmethod
    def at(cls, path: Path, rows: int, size: int, sha256: str) -> File:
        """A file that is written; `size` in bytes is of what is in it."""
        stored = path.stat().st_size if compression.compressed(path) else None
        return cls(path.name, rows, size, sha256, stored)

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk."""
        return self.bytes if self.stored is None else self.stored

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest, and in a tap's closing message."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ForeignKey:
    """`columns` hold values of `references`, in order: columns of a table of the same source."""

    columns: list[str]
    schema: str
    table: str
    references: list[str]


@dataclass(frozen=True)
class Table:
    """A table of a date. `schema` is None for what has none (a CSV file).

    `declared_types` says that a person declared types for the columns: then the warehouse's text may differ from the
    file's (`1.50` as `real` is `1.5`).
    """

    stream: str
    name: str
    schema: str | None
    columns: list[Column]
    primary_key: list[str]
    files: list[File] = field(default_factory=list)
    comment: str | None = None
    declared_types: bool = False
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    quarantine: File | None = None  # its bad rows, none of which is among `rows`
    duplicates: int = 0  # rows that were left out, since an earlier row has their key
    lossy: bool = False  # a person allowed declared types that do not hold every value exactly
    not_of_snapshot: list[str] = field(default_factory=list)  # foreign tables that its rows come from

    @property
    def all_files(self) -> list[File]:
        """Those with its rows, then its quarantine's."""
        return [*self.files, *([self.quarantine] if self.quarantine else [])]

    @property
    def rows(self) -> int:
        """Data rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Of all files, as combined() has it."""
        return combined([file.sha256 for file in self.files])


def combined(hashes: list[str]) -> str:
    """A table's hash: its file's; of several files, the hash of their hashes in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
