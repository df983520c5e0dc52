"""A CSV file as text: decoded, its dialect found, its lines counted, its records checked one by one.

DuckDB tells NULL from "" and is fast, but forgives much in silence: a delimiter too many at the end of a line, a space
before a quote, an empty line. So Python's csv module reads each file first, finds the rows that are not as they should
be, and hashes the fields that DuckDB has to find in the others.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from landing.core.errors import BadFileError
from landing.extract.csv.dialect import Dialect

SAMPLE = 1 << 16
RECORD_BYTES = 16 << 20  # of one record in UTF-8: memory stays flat whatever a file holds

# UTF-32's begins with UTF-16's, so it stands first.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNDECODED = 0xDC00  # and the byte: half of a surrogate pair, which no text has


def _undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("landing-undecoded", _undecoded)


@dataclass(frozen=True)
class Measure:
    """What a whole file holds, and the path where it lies as UTF-8."""

    path: Path
    rows: int
    longest: int  # record, in bytes


class RowsHash:
    """A hash of rows, field by field and in their order, by which two readers of a file are compared."""

    BETWEEN = "\0"  # fields, and rows: no field has it, and each row has as many
    CHUNK = 1000  # rows

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Sequence[str]) -> None:
        """Rows, each with its fields joined by BETWEEN."""
        self._digest.update(self.BETWEEN.join([*rows, ""]).encode())

    @property
    def value(self) -> str:
        """Of all rows so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class BadRow:
    """A row that can't be landed: the line, the column if its value is why, the reason, and its text as it came."""

    path: Path
    line: int
    column: str | None
    reason: str
    text: str

    def refuse(self) -> NoReturn:
        """Refuse its file."""
        raise BadFileError(self.path, self.line, self.reason)


class CsvText:
    """One file as text. Each method that reads it reads it from its start."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        """A byte order mark is never a mistake, so it goes before what is declared."""
        self.path = path
        self.stamp = self._stamp()
        with self._readable(), path.open("rb") as file:
            head = file.read(4)
        self.marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
        self.encoding = codecs.lookup(self.marked or encoding or "utf-8").name
        self.line = 0  # lines read
        self.longest = 0  # bytes of the longest record
        self._next_record()

    def _next_record(self) -> None:
        self.first = self.line + 1  # line of the record that is being read
        self.lines: list[str] = []  # its lines, so far
        self.bytes = 0  # in them
        self.fault: str | None = None  # what is wrong with its text

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadFileError(self.path, None, f"it can't be read ({error.strerror})") from None
        except UnicodeError as error:  # of a codec that can't go on behind an error
            raise BadFileError(self.path, self.line + 1, f"it is not {self.encoding} ({error})") from None

    def _stamp(self) -> tuple[int, ...]:
        with self._readable():
            stat = self.path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    @property
    def changed(self) -> bool:
        """Whether it has been written to, or replaced, since it was opened first."""
        return self._stamp() != self.stamp

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stamp[1]

    def sample(self) -> str:
        """The first characters."""
        with self._readable(), self.path.open(encoding=self.encoding, errors="landing-undecoded", newline="") as file:
            return file.read(SAMPLE).removeprefix("\ufeff")

    def _lines(self) -> Iterator[str]:
        """Its lines; NULs and bytes that aren't of the encoding are marked, and are the record's fault."""
        self.line = self.longest = 0
        self._next_record()
        with self._readable(), self.path.open(encoding=self.encoding, errors="landing-undecoded", newline="") as file:
            self._file = file
            while text := file.readline(RECORD_BYTES + 1):
                self.line += 1
                if self.line == 1:
                    text = text.removeprefix("\ufeff")
                self.bytes += len(text) if text.isascii() else self._encoded(text)
                if self.bytes > RECORD_BYTES:
                    raise self.refused(f"a record of more than {RECORD_BYTES:,} bytes, or a quote never closed")
                self.lines.append(text)
                if "\0" in text:
                    self._found("a NUL character, which PostgreSQL's text can't hold")
                    text = text.replace("\0", chr(UNDECODED))  # csv of Python 3.10 stops at a NUL
                yield text

    def _encoded(self, text: str) -> int:
        """Its bytes in UTF-8, if it has no undecoded ones."""
        try:
            return len(text.encode())
        except UnicodeEncodeError as error:
            self._found(f"byte 0x{ord(text[error.start]) & 0xff:02x} is not {self.encoding}. Declare the file's "
                        "encoding, such as `encoding: cp1252` or `encoding: latin-1`")
            return len(text.encode(errors="surrogatepass"))

    def _found(self, fault: str) -> None:
        where = f"in line {self.line} " if self.line > self.first else ""
        self.fault = self.fault or where + fault

    def refused(self, reason: str) -> BadFileError:
        """The record that was read last, or is being read, as an error."""
        return BadFileError(self.path, self.first, reason)

    def bad(self, reason: str, column: str | None = None) -> BadRow:
        """The record that was read last, as a row that can't be landed."""
        return BadRow(self.path, self.first, column, self.fault or reason, "".join(self.lines))

    def records(self, dialect: Dialect) -> Iterator[list[str]]:
        """Its records, the header too; one whose text is wrong has a `fault`."""
        csv.field_size_limit(RECORD_BYTES + 1)
        lines = self._lines() if dialect.doubles else map(dialect.unescaped, self._lines())
        reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                record = self._misquoted(error, dialect)
            if record and not dialect.doubles:
                record = self._unescaped(record, dialect)
            yield record
            if self.bytes > self.longest:
                self.longest = self.bytes
            self._next_record()

    def _unescaped(self, record: list[str], dialect: Dialect) -> list[str]:
        try:
            return list(dialect.fields("".join(self.lines).rstrip("\r\n")))
        except ValueError as error:
            self.fault = self.fault or f"{error} (read with {dialect})"
            return record

    def _misquoted(self, error: csv.Error, dialect: Dialect) -> list[str]:
        """No record. Where it can't be told where the row ends, the next row would be one by guess."""
        unclosed = "end of data" in str(error)
        reason = f"{'a quoted field that is never closed' if unclosed else error} (read with {dialect})"
        if len(self.lines) > 1 or not (unclosed or dialect.closes(self.lines[0])):
            raise self.refused(f"{reason}, so it can't be told where this row ends{self._hint(dialect)}")
        self.fault = self.fault or reason + self._hint(dialect)
        return []

    def _hint(self, dialect: Dialect) -> str:
        """What to declare where backslashes seem to escape quotes."""
        escaped = dialect.doubles and any(f"\\{dialect.quote}" in line for line in self.lines)
        return ". If a backslash escapes quotes here, declare `escape: '\\'`" if escaped else ""

    def header(self, dialect: Dialect) -> list[str]:
        """The first record."""
        with contextlib.closing(self.rows(dialect)) as rows:
            return next(rows)

    def rows(self, dialect: Dialect, bad: Callable[[BadRow], None] = BadRow.refuse) -> Iterator[list[str]]:
        """The header, then each row that is as wide, `lines` being its text. `bad` takes the others, or refuses."""
        records = self.records(dialect)
        header = next(records, None)
        if self.fault:
            raise self.refused(self.fault)
        if not header:
            raise self.refused("no header; expected one at least")
        width, usual, torn, blank = len(header), _line_end(self.lines), False, None
        yield header
        for record in records:
            end = _line_end(self.lines) if self._file.newlines != usual else usual  # quoted ones are in `newlines` too
            other = end not in (usual, "")
            if not record and width > 1 and not (self.fault or other or torn):
                blank = blank or self.bad("an empty line between rows")
                continue
            if blank:  # at the end of the file they do no harm
                bad(blank)
                blank = None
            if other or torn:
                bad(self.bad(f"its lines end in different ways ({usual!r} and {end!r})" if other else
                             "it may go on from the line before, which ends in another way than the header"))
            elif self.fault or (record and len(record) != width):
                bad(self.bad(f"{len(record)} fields, and the header has {width}"))
            else:
                yield record
            torn = other

    def measured(
        self, dialect: Dialect, copy: Path, bad: Callable[[BadRow], None] | None = None, rows: RowsHash | None = None
    ) -> Measure:
        """Read it all. What isn't plain UTF-8, or has rows that `bad` may take, is written again to `copy`."""
        plain = self.encoding == "utf-8" and not self.marked and bad is None
        count, rows = 0, rows or RowsHash()
        with contextlib.nullcontext() if plain else copy.open("x", encoding="utf-8", newline="") as file:
            records = self.rows(dialect, bad or BadRow.refuse)
            next(records)
            if file:
                file.writelines(self.lines)
            for chunk in self._chunks(records, file):
                count += len(chunk)
                rows.add([*map(RowsHash.BETWEEN.join, chunk)])
        return Measure(self.path if plain else copy, count, self.longest)

    def _chunks(self, records: Iterator[list[str]], file: TextIO | None) -> Iterator[list[list[str]]]:
        """Records, some at a time, written to `file` as they come; fewer where they are long."""
        chunk, size = [], 0
        for record in records:
            if file:
                file.writelines(self.lines)
            chunk.append(record or [""])
            size += self.bytes
            if len(chunk) == RowsHash.CHUNK or size > SAMPLE:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


def _line_end(lines: list[str]) -> str:
    return lines[-1][len(lines[-1].rstrip("\r\n")):]
