"""Quarantine: a table's rejected rows in a file beside it, as JSON lines so that no tool takes them for its rows."""

from __future__ import annotations

import io
import json
import re

from landing.core.errors import BadFileError
from landing.extract.csv.decoded import UNDECODED, RejectedRow
from landing.model.schema import File
from landing.protection.columns import TableProtection
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.hashing import BUFFER, HashedFile


class Quarantine:
    """Writes rejected rows up to a limit; the first one creates the file."""

    def __init__(self, place: Object, limit: int, protection: TableProtection | None = None) -> None:
        """Args:
        place: The file.
        limit: A number of lines, not rows: a misplaced quote can swallow many rows into one.
        protection: Of the table's columns. It hides all of a row, whose columns need not be known.
        """
        self.place, self.limit, self._protection = place, limit, protection
        self.rows = self.lines = 0
        self._raw: HashedFile | None = None
        self._file: io.BufferedWriter | None = None

    def take(self, row: RejectedRow) -> None:
        """Write a row. Raises BadFileError beyond the limit."""
        text = row.text.rstrip("\r\n")
        self.rows += 1
        self.lines += 1 + len(re.findall("\r\n|\r|\n", text))
        if self.lines > self.limit:
            raise BadFileError(row.place, row.line, f"{row.reason}. This makes {self.lines:,} rejected lines; "
                               f"max_bad_rows allows {self.limit:,}", row.column)
        if self._file is None:
            self._raw = hashing.create(self.place)
            self._file = io.BufferedWriter(self._raw, BUFFER)
        text = re.sub("[\ud800-\udfff]", _escaped, text)
        entry = {"file": row.name, "line": row.line, "column": row.column, "rule": row.rule, "reason": row.reason,
                 **({"text": text} if self._protection is None else self._protection.rejected(text))}
        self._file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())

    def close(self) -> File | None:
        """Close the file. Returns None if no row was rejected."""
        if self._file is None:
            return None
        self._file.close()
        return File.at(self.place, self.rows, self._raw.size, self._raw.sha256)


def _escaped(match: re.Match) -> str:
    r"""An undecodable byte as `\xe9`."""
    return f"\\x{ord(match[0]) - UNDECODED:02x}" if UNDECODED <= ord(match[0]) <= UNDECODED + 0xFF else "\ufffd"
