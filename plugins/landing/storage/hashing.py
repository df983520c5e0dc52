"""Landed files as streams: hashed as they pass, compressed where their name says so.

Rows, bytes and SHA-256 are always of the content, never of its compressed form: a partition stays the same however it
is stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

from landing.core.errors import DamagedError, ZoneError, describe, named
from landing.storage.base import Object
from landing.storage.compression import opened

BUFFER = 1 << 20
SLICE = 1 << 18  # bytes that are split into rows at once: of short rows they are many times as much memory
NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"\n')


def _unreadable(name: str, error: Exception) -> DamagedError:
    why = describe(error) if isinstance(error, OSError) else error
    return DamagedError(f"{name} cannot be read ({why})")


class HashedFile(io.RawIOBase):
    """A raw stream that hashes what passes, one way or the other; put a BufferedReader or BufferedWriter around it.

    Attributes:
        size: Bytes of content that have passed.
        passed: Called with each chunk.
    """

    def __init__(self, file: io.RawIOBase, name: str, *, writes: bool) -> None:
        """Wrap an open file, whose name says how it is compressed; create() and read() open one."""
        self.name, self._writes = name, writes
        with named(name):  # gzip writes its header
            self._file, self._damages = opened(file, name, writes=writes)
        self._digest = hashlib.sha256()
        self.passed: Callable[[Any], None] | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what has passed so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return not self._writes

    def writable(self) -> bool:
        return self._writes

    def write(self, chunk: Any) -> int:
        with named(self.name):
            written = self._file.write(chunk)
        self._pass(memoryview(chunk)[:written])
        return written

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer)
        except (*self._damages, OSError) as error:
            raise _unreadable(self.name, error) from None
        self._pass(memoryview(buffer)[:count])
        return count

    def _pass(self, chunk: memoryview) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
        if self.passed:
            self.passed(chunk)

    def close(self) -> None:
        try:
            with named(self.name):
                self._file.close()
        finally:
            super().close()


class RowSum:
    """The sum of the SHA-256 of each row that is written: equal for the same rows, in whatever order they come.

    Sums are whole numbers without a modulus: a row that comes twice counts twice, and no number of copies cancels. Each
    byte is looked at and hashed once, when it comes, however long its row or value is.

    With a `key` each row is hashed behind it. Without, somebody who writes tens of thousands of rows could choose them
    so that sums are equal (Wagner's generalized birthday attack), though SHA-256 itself is not broken. A key that is
    drawn at random once the rows exist makes SHA-256 behind it a random function to whoever chose them: of different
    multisets some row has different counts, and one of the 2^256 hashes that it may have makes the sums equal.
    """

    def __init__(self, passed: Callable[[Any], None] | None = None, key: bytes = b"") -> None:
        """`key`: none, or a block of SHA-256, which is hashed once for all rows."""
        self.value, self.rows = 0, 0
        self._passed = passed
        self._begun = hashlib.sha256(key).copy
        self._row: Any = None  # the hash of a row whose end has not come yet
        self._inside = False  # it ends in the middle of a quoted value

    def write(self, chunk: Any) -> int:
        """Add a chunk, which may begin and end anywhere."""
        content = memoryview(chunk)
        for start in range(0, len(content), SLICE):
            self._write(bytes(content[start:start + SLICE]))
        if self._passed:
            self._passed(chunk)
        return len(chunk)

    def _write(self, content: bytes) -> None:
        rows = content.split(b"\n")
        if self._inside or b'"' in content:
            rows = self._unbroken(content, rows)
        rest = rows.pop()
        if rows and self._row is not None:
            self._row.update(rows.pop(0))
            self._end(self._row)
            self._row = None
        value, begun, number = self.value, self._begun, int.from_bytes
        for row in rows:  # the loop that takes most of the time of `landing verify`
            hashed = begun()
            hashed.update(row)
            value += number(hashed.digest())
        self.value = value
        self.rows += len(rows)
        if rest:
            self._row = self._row or self._begun()
            self._row.update(rest)

    def subtract(self, content: bytes) -> None:
        """Take off whole rows, such as a header."""
        other = RowSum()
        other._begun = self._begun
        other.write(content)
        self.value -= other.value
        self.rows -= other.rows

    def _end(self, row: Any) -> None:
        self.value += int.from_bytes(row.digest())
        self.rows += 1

    def _unbroken(self, content: bytes, lines: list[bytes]) -> list[bytes]:
        """Rows out of lines: a line feed ends a row unless it is inside of quotes.

        Quotes next to each other are left out: between them no row can end.
        """
        marks = b'"' * self._inside + content.translate(None, NO_MARKS)
        parts = marks.replace(b'""', b"").split(b'"')  # line feeds, in turn outside and inside of quotes
        self._inside = len(parts) % 2 == 0
        if len(parts) == 1:
            return lines
        rows, begin, end = [], 0, 0
        for number, part in enumerate(parts):
            if part and not number % 2:
                rows.append(b"\n".join(lines[begin:end + 1]))
                rows += lines[end + 1:end + len(part)]
                begin = end + len(part)
            end += len(part)
        return [*rows, b"\n".join(lines[begin:])]


def create(place: Object, passed: Callable[[Any], None] | None = None) -> HashedFile:
    """A new file to write to. Raises FileExistsError."""
    file = HashedFile(place.storage.create(place.key), str(place), writes=True)
    file.passed = passed
    return file


def read(place: Object, passed: Callable[[Any], None] | None = None,
         through: Callable[[io.RawIOBase], io.RawIOBase] = lambda file: file) -> HashedFile:
    """A file to read from. Raises DamagedError, also later, where it cannot be read.

    `through`: wraps the stored bytes, before they are decompressed.
    """
    try:
        file = HashedFile(through(place.storage.open(place.key)), str(place), writes=False)
    except OSError as error:
        raise _unreadable(str(place), error) from None
    file.passed = passed
    return file


def discard() -> HashedFile:
    """Write to nowhere, for the hash alone."""
    return HashedFile(_Nowhere(), "nowhere", writes=True)


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        return len(chunk)


def reader(place: Object) -> io.BufferedReader:
    """A file's content."""
    return io.BufferedReader(read(place), BUFFER)


def sha256(place: Object, passed: Callable[[Any], None] | None = None) -> str:
    """SHA-256 of a file's content. Raises DamagedError where it cannot be read."""
    return _drained(read(place, passed))


def copy(place: Object, to: Object, expected: str, passed: Callable[[Any], None] | None = None) -> None:
    """Copy a file as it is stored, if the SHA-256 of its content is the expected one.

    Raises:
        DamagedError: It is not, or the file cannot be read.
        ZoneError: The copy cannot be written.
    """
    with writing(to), to.storage.create(to.key) as target:
        found = _drained(read(place, passed, lambda file: _Tee(file, to, target)))
        if found != expected:  # raised before the copy is finished
            raise DamagedError(f"{place}: expected SHA-256 {expected}, found {found}")


def _drained(file: HashedFile) -> str:
    buffer = bytearray(BUFFER)
    with file:
        while file.readinto(buffer):
            pass
        return file.sha256


@contextlib.contextmanager
def writing(to: Object) -> Iterator[None]:
    """Turn OSErrors into ZoneErrors, which nobody takes for the error of a reader."""
    try:
        yield
    except OSError as error:
        raise ZoneError(f"{to} cannot be written ({describe(error)}). Correct that, and run again.") from None


class _Tee(io.RawIOBase):
    """Reads from one file, and writes to another what it read."""

    def __init__(self, file: io.RawIOBase, to: Object, target: io.RawIOBase) -> None:
        self._file, self._to, self._target = file, to, target

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        rest = memoryview(buffer)[:self._file.readinto(buffer)]
        count = len(rest)
        with writing(self._to):
            while rest:
                rest = rest[self._target.write(rest):]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
