"""The sums of a manifest, for those who look at many: a tenth of a second for 10,000 tables instead of two."""

from __future__ import annotations

from datetime import date

import msgspec
from msgspec import Struct

from landing.model.increment import Increment
from landing.model.manifest import FORMAT_VERSION, Manifest, Version
from landing.model.naming import RunId
from landing.model.validation import Count, Moment, Seconds, Text

CHECKED = 1 << 20  # characters of a manifest, some 400 tables, up to which all of it is checked


class _TableSums(Struct, frozen=True):
    stream: Text
    rows: Count
    bytes: Count
    increment: Increment | None = None
    appended: bool = False


class Summary(Struct, frozen=True):
    """What one partition holds, without its tables' columns and files."""

    source: Text
    extracted_at: date
    run_id: RunId
    taken_at: Moment
    seconds: Seconds
    tables: list[_TableSums]
    declared: list[Text] | None = None
    min_reader_version: Version = 1

    @property
    def rows(self) -> int:
        """Rows of all tables, also of those whose files have only what changed."""
        return sum(table.increment.total_rows if table.increment else table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(table.bytes for table in self.tables)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Read the sums of a manifest. The SHA-256 of a large one is not checked.

        Raises:
            ValueError, RecursionError: It is not a manifest that this version can read, or it was edited.
        """
        if len(text) <= CHECKED:
            Manifest.from_json(text)
        found = msgspec.json.decode(text, type=cls)
        if found.min_reader_version > FORMAT_VERSION:
            raise ValueError(f"it needs a reader of format_version {found.min_reader_version}")
        return found
