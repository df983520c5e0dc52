"""Files of the landing zone: hashed as they stream, compressed where their name says so.

Rows, bytes and SHA-256 are always of what is in a file, never of its compressed form: a date is the same date however
it is stored, and what is proved is the rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landing.core.errors import DamagedError, describe
from landing.storage.compression import _open
from landing.storage.local import make_folder, named

BUFFER = 1 << 20


def _unreadable(path: Path | str, error: Exception) -> DamagedError:
    why = describe(error) if isinstance(error, OSError) else error
    return DamagedError(f"{path} cannot be read ({why})")


class HashedFile(io.RawIOBase):
    """A file that hashes what passes, one way or the other; put a BufferedReader or BufferedWriter around it."""

    def __init__(self, path: Path | str, mode: str, passed: Callable[[Any], None] | None = None) -> None:
        """`mode` is `rb`, or `xb` for a new file, whose folder is made if need be. `passed` sees each chunk."""
        if "x" in mode:
            make_folder(Path(path).parent)
        self._path, self._mode = path, mode
        try:
            self._file, self._damages = _open(path, mode)
        except OSError as error:
            raise (_unreadable(path, error) if mode == "rb" else error) from None
        self._digest = hashlib.sha256()
        self._passed = passed
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what has passed so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return "r" in self._mode

    def writable(self) -> bool:
        return "r" not in self._mode

    def write(self, chunk: Any) -> int:
        with named(self._path):
            written = self._file.write(chunk)
        self._pass(memoryview(chunk)[:written])
        return written

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer)
        except (*self._damages, OSError) as error:
            raise _unreadable(self._path, error) from None
        self._pass(memoryview(buffer)[:count])
        return count

    def _pass(self, chunk: memoryview) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
        if self._passed:
            self._passed(chunk)

    def close(self) -> None:
        try:
            with named(self._path):
                self._file.close()
        finally:
            super().close()


class RowSum:
    """The sum of the SHA-256 of each row that is written: equal for the same rows, in whatever order they come.

    Each byte is looked at and hashed once, when it comes, however long its row or value is.
    """

    def __init__(self, passed: Callable[[Any], None] | None = None) -> None:
        self.value, self.rows = 0, 0
        self._passed = passed
        self._row: Any = None  # the hash of a row whose end has not come yet
        self._inside = False  # it ends in the middle of a quoted value

    def write(self, chunk: Any) -> int:
        """Add a chunk, which may begin and end anywhere."""
        content = bytes(chunk)
        if b'"' in content:
            *lines, rest = content.split(b"\n")
            for line in lines:
                self._add_line(line)
            self._add(rest)
        elif self._inside:
            self._row.update(content)
        else:
            *lines, rest = content.split(b"\n")
            if lines and self._row is not None:
                self._add_line(lines.pop(0))
            self.value += sum(int.from_bytes(hashlib.sha256(line).digest(), "big") for line in lines)
            self.rows += len(lines)
            self._add(rest)
        if self._passed:
            self._passed(chunk)
        return len(chunk)

    def _add_line(self, line: bytes) -> None:
        """A line with its end: the end of the row, but in a quoted value."""
        self._add(line)
        if self._inside:
            self._row.update(b"\n")
        else:
            row = self._row or hashlib.sha256()  # a line may be empty
            self.value += int.from_bytes(row.digest(), "big")
            self.rows += 1
            self._row = None

    def _add(self, part: bytes) -> None:
        if not part:
            return
        if self._row is None:
            self._row = hashlib.sha256()
        self._row.update(part)
        self._inside ^= part.count(b'"') % 2 == 1


def reader(path: Path) -> io.BufferedReader:
    """What is in a file."""
    return io.BufferedReader(HashedFile(path, "rb"), BUFFER)


def sha256(path: Path, passed: Callable[[Any], None] | None = None) -> str:
    """SHA-256 of what is in a file; DamagedError where it can't be read."""
    buffer = bytearray(BUFFER)
    with HashedFile(path, "rb", passed) as file:
        while file.readinto(buffer):
            pass
        return file.sha256
