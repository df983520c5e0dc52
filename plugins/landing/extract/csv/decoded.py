"""A CSV file decoded line by line; NULs and undecodable bytes are marked, and are the fault of their record."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from landing.core.errors import BadFileError, UnsettledFileError
from landing.storage.base import Object
from landing.storage.hashing import BUFFER
from landing.storage.names import name_of

SAMPLE = 1 << 16  # characters
PIECE = 1 << 20  # characters of a line that are read at once
RECORD_BYTES = 16 << 20  # limit for one record, in UTF-8: bounds memory

# UTF-32's mark begins with UTF-16's, so it comes first.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNDECODED = 0xDC00  # plus the byte: half of a surrogate pair, which valid text cannot contain


def _mark_undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("landing-undecoded", _mark_undecoded)


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be landed: its first line, column and rule that are the reason, if any, and its raw text."""

    place: Object
    name: str
    line: int
    column: str | None
    reason: str
    text: str
    rule: str | None = None

    def refuse(self) -> NoReturn:
        """Reject the whole file because of this row."""
        raise BadFileError(self.place, self.line, self.reason, self.column)


class DecodedFile:
    """A file's lines, and the state of the record that is being read from them.

    Attributes:
        place: The file.
        name: How rows refer to it: where its entity's path finds it.
        encoding: By its byte order mark, else as declared, else UTF-8.
        version: When it was first opened.
        marked: Whether it has a byte order mark.
        line: Number of lines read.
        first: First line of the current record.
        lines: The current record's lines so far.
        bytes: Their size in UTF-8.
        fault: What is wrong with the current record's text, if anything.
    """

    def __init__(self, place: Object, encoding: str | None, name: str | None = None) -> None:
        """A byte order mark is never a mistake, so it overrides the declared `encoding`."""
        self.place = place
        name = name_of(place) if name is None else name
        self.name = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        self.version = self._current_version()
        with self._readable(), io.BufferedReader(place.open()) as file:
            head = file.read(4)
        mark = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
        self.marked = mark is not None
        self.encoding = codecs.lookup(mark or encoding or "utf-8").name
        self.line = 0
        self._next_record()

    def _next_record(self) -> None:
        self.first = self.line + 1
        self.lines: list[str] = []
        self.bytes = 0
        self.fault: str | None = None

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnsettledFileError(self.place, None, f"cannot be read ({error.strerror})") from None
        except UnicodeError as error:  # from a codec that cannot continue after an error
            raise BadFileError(self.place, self.line + 1, f"not valid {self.encoding} ({error})") from None

    def _current_version(self) -> str:
        with self._readable():
            version = self.place.version()
            if version is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return version

    def refuse_changed(self) -> None:
        """Raise UnsettledFileError if the file was written to or replaced since it was first opened."""
        if self._current_version() != self.version:
            raise UnsettledFileError(self.place, None, "the file changed while it was read")

    @cached_property
    def size(self) -> int:
        """Bytes."""
        with self._readable():
            return self.place.size() or 0

    def _opened(self) -> io.TextIOWrapper:
        stored = io.BufferedReader(self.place.open(), BUFFER)
        return io.TextIOWrapper(stored, self.encoding, "landing-undecoded", newline="")

    def sample(self) -> str:
        """The first characters."""
        with self._readable(), self._opened() as file:
            return file.read(SAMPLE).removeprefix("\ufeff")

    def decoded_lines(self) -> Iterator[str]:
        """All lines, from the start. Raises BadFileError for a record that is too long."""
        self.line = 0
        self._next_record()
        with self._readable(), self._opened() as file:
            self._file = file
            self.put_back("")
            while text := self._next_line():
                self.line += 1
                if self.line == 1:
                    text = text.removeprefix("\ufeff")
                self.bytes += len(text) if text.isascii() else self._encoded_size(text)
                if self.bytes > RECORD_BYTES:
                    raise self.refused(f"a record of more than {RECORD_BYTES:,} bytes, or a quote that is never closed")
                self.lines.append(text)
                if "\0" in text:
                    self._set_fault("a NUL character, which PostgreSQL's text cannot hold")
                    text = text.replace("\0", chr(UNDECODED))  # marked like a byte that is not text
                yield text

    def _next_line(self) -> str:
        """A line, in pieces that bound memory; one that is longer than a record may be is cut."""
        text = self._put_back.readline()
        cut = bool(text) and not self._held
        if not text:
            text = self._file.readline(PIECE)
            cut = len(text) == PIECE
        pieces, size = [text], len(text)
        while cut and not text.endswith("\n") and size <= RECORD_BYTES:
            ended = text.endswith("\r")
            text = self._file.read(1) if ended else self._file.readline(PIECE)
            if ended and text != "\n":
                self.put_back(text)
                break
            cut = len(text) == PIECE
            pieces.append(text)
            size += len(text.encode(errors="surrogatepass"))
        return "".join(pieces)

    @property
    def _held(self) -> bool:
        """Whether there are characters that were put back."""
        return self._put_back.tell() < self._end

    def block(self, size: int, longest: int, quote: str) -> str:
        """The lines that follow a record, of `size` characters and on to the end of a line, and of a quoted field.

        Returns:
            "" at the end, or if lines were put back. A line of `longest` characters or more may be cut, and a field of
            `size` or more.
        """
        text = "" if self._held or self._file.closed else self._file.read(size)
        if text and not text.endswith("\n"):
            text += self._file.readline(longest)
        pieces, rest, inside = [text], size, quote in text and text.count(quote) % 2 == 1
        while inside and rest > 0 and pieces[-1].endswith("\n"):
            pieces.append(self._file.readline(longest))
            rest -= len(pieces[-1])
            inside ^= pieces[-1].count(quote) % 2 == 1
        return "".join(pieces)

    def put_back(self, lines: str) -> None:
        """Have text that block() returned be read line by line."""
        self._put_back, self._end = io.StringIO(lines, newline=""), len(lines)

    def _encoded_size(self, text: str) -> int:
        try:
            return len(text.encode())
        except UnicodeEncodeError as error:
            self._set_fault(f"byte 0x{ord(text[error.start]) & 0xff:02x} is not valid {self.encoding}. Declare the "
                            "file's encoding, such as `encoding: cp1252` or `encoding: latin-1`")
            return len(text.encode(errors="surrogatepass"))

    def _set_fault(self, fault: str) -> None:
        where = f"in line {self.line} " if self.line > self.first else ""
        self.fault = self.fault or where + fault

    def refused(self, reason: str, column: str | None = None) -> BadFileError:
        """An error that rejects the file because of the current record."""
        return BadFileError(self.place, self.first, reason, column)

    def rejected(self, reason: str, column: str | None = None, rule: str | None = None) -> RejectedRow:
        """The current record as a rejected row; a fault of its text is the reason, if it has one."""
        return RejectedRow(self.place, self.name, self.first, column, self.fault or reason, "".join(self.lines), rule)
