"""Bad rows of a table, put aside into a file beside it: JSON lines, so that nobody takes them for rows of the table."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path

from landing.core import settings
from landing.core.errors import BadFileError
from landing.extract.csv.text import UNDECODED, BadRow
from landing.model.schema import File
from landing.storage.hashing import BUFFER, HashedFile


class Quarantine:
    """Takes bad rows up to a limit; its file is there once it has one."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit`: lines. A row of several counts as many, for a quote in the wrong place swallows rows."""
        self.path, self.limit = path, limit
        self.rows = self.lines = 0
        self._raw: HashedFile | None = None
        self._file: io.BufferedWriter | None = None

    def take(self, row: BadRow) -> None:
        """Put a row aside, or refuse its file with the row that is one too many."""
        text = row.text.rstrip("\r\n")
        self.rows += 1
        self.lines += 1 + len(re.findall("\r\n|\r|\n", text))
        if self.lines > self.limit:
            raise BadFileError(row.path, row.line, f"{row.reason}. With it there are {self.lines:,} bad lines, and "
                                                   f"max_bad_rows allows {self.limit:,}")
        if self._file is None:
            self._raw = HashedFile(self.path, "xb")
            self._file = io.BufferedWriter(self._raw, BUFFER)
        said = {"file": _name(row.path), "line": row.line, "column": row.column, "reason": row.reason,
                "text": re.sub("[\ud800-\udfff]", _escaped, text)}
        self._file.write((json.dumps(said, ensure_ascii=False) + "\n").encode())

    def close(self) -> File | None:
        """The file, if any row was bad."""
        if self._file is None:
            return None
        self._file.close()
        return File.at(self.path, self.rows, self._raw.size, self._raw.sha256)


@cache
def _name(path: Path) -> str:
    """Below the project, so that the same input gives the same bytes wherever it lies."""
    return str(path.relative_to(settings.root()) if path.is_relative_to(settings.root()) else path)


def _escaped(match: re.Match) -> str:
    r"""An undecoded byte as `\xe9`."""
    return f"\\x{ord(match[0]) - UNDECODED:02x}" if UNDECODED <= ord(match[0]) <= UNDECODED + 0xFF else "\ufffd"
