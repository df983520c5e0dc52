"""A CSV file as text: decoded, its dialect found, its lines counted, its records checked one by one.

DuckDB tells NULL from "" and is fast, but forgives much in silence: a delimiter too many at the end of a line, a space
before a quote, an empty line. So Python's csv module reads each file first, refuses what is not as it should be by its
line, and counts what DuckDB has to find there.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from landing.errors import BadFileError

DELIMITERS = ",;\t|"
SAMPLE = 1 << 16
RECORD_CHARACTERS = 16 << 20  # of one record: memory stays flat whatever a file holds

# UTF-32's begins with UTF-16's, so it stands first.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Dialect:
    """How a file writes its fields."""

    delimiter: str
    quote: str
    escape: str

    @property
    def doubles(self) -> bool:
        """Whether a quote in a quoted field is doubled, and nothing else escaped."""
        return self.escape == self.quote


def sniffed(sample: str, delimiter: str | None, quote: str | None, escape: str | None) -> Dialect:
    r"""What is declared; else the delimiter that the header has most of, the quote that encloses fields, and a
    backslash as escape where only that makes sense: `"a \"b\" c"`."""
    sample = re.sub("\r\n?", "\n", sample)
    if delimiter is None:
        header = re.sub('"[^"]*"', "", sample).split("\n", 1)[0]
        found = Counter(char for char in header if char in DELIMITERS).most_common(1)
        delimiter = found[0][0] if found else ","
    edge = re.escape(delimiter)
    if quote is None:
        single, double = (re.search(f"(?:^|{edge}){q}[^{q}\n]*{q}(?:{edge}|$)", sample, re.M) for q in "'\"")
        quote = "'" if single and not double else '"'
    if escape is None:
        escape = "\\" if re.search(rf"\\{re.escape(quote)}[^{edge}{re.escape(quote)}\n]", sample) else quote
    return Dialect(delimiter, quote, escape)


@dataclass(frozen=True)
class Measure:
    """What a whole file holds, and the path where it lies as UTF-8."""

    path: Path
    rows: int
    characters: int
    longest: int


class CsvText:
    """One file; each call reads it from its start."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        """A byte order mark is never a mistake, so it goes before what is declared."""
        self.path = path
        with self._readable(), path.open("rb") as file:
            head = file.read(4)
        self.marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
        self.encoding = codecs.lookup(self.marked or encoding or "utf-8").name
        self.line = 0  # lines read
        self.first = 1  # first line of the record that is being read
        self.characters = 0  # of that record, so far
        self.longest = 0  # of all records
        self.newlines: str | tuple[str, ...] | None = None

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadFileError(self.path, None, f"it can't be read ({error.strerror})") from None

    def sample(self) -> str:
        """The first characters."""
        with self._readable(), self.path.open(encoding=self.encoding, errors="replace", newline="") as file:
            return file.read(SAMPLE).removeprefix("\ufeff")

    def stamp(self) -> tuple[int, ...]:
        """Differs once the file has been written to, or replaced."""
        with self._readable():
            stat = self.path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def lines(self, copy: TextIO | None = None) -> Iterator[str]:
        """Its lines, copied as they pass. Bytes that aren't of the encoding, NULs and endless records are refused."""
        self.line, self.first, self.characters, self.longest = 0, 1, 0, 0
        with self._readable(), self.path.open(encoding=self.encoding, newline="") as file:
            while text := self._next_line(file):
                self.line += 1
                if self.line == 1:
                    text = text.removeprefix("\ufeff")
                self.characters += len(text)
                if self.characters > RECORD_CHARACTERS:
                    raise self.refused(f"a record of more than {RECORD_CHARACTERS:,} characters (or a quote that is "
                                       "never closed)")
                if "\0" in text:
                    raise BadFileError(self.path, self.line, "a NUL character, which PostgreSQL's text can't hold")
                if copy:
                    copy.write(text)
                yield text
            self.newlines = file.newlines

    def _next_line(self, file: TextIO) -> str:
        try:
            return file.readline(RECORD_CHARACTERS + 1)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding, "ignore")
            line = self.line + 1 + len(re.findall("\r\n|\r|\n", before))
            raise BadFileError(
                self.path, line,
                f"byte 0x{error.object[error.start]:02x} is not {self.encoding} ({error.reason}). Declare the file's "
                "encoding, such as `encoding: cp1252` or `encoding: latin-1`",
            ) from None

    def refused(self, reason: str) -> BadFileError:
        """The record that was read last, or is being read, as an error."""
        return BadFileError(self.path, self.first, reason)

    def records(self, dialect: Dialect, copy: TextIO | None = None) -> Iterator[list[str]]:
        """Its records, the header too; `first` is the line where the last one began."""
        lines = self.lines(copy)
        if not dialect.doubles:  # csv would apply the escape outside of quotes as well, and PostgreSQL doesn't
            escaped = re.compile(f"{re.escape(dialect.escape)}[{re.escape(dialect.escape + dialect.quote)}]")
            lines = (escaped.sub("__", line) for line in lines)
        csv.field_size_limit(RECORD_CHARACTERS + 1)
        reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
        try:
            for record in reader:
                yield record
                self.first = self.line + 1
                self.longest = max(self.longest, self.characters)
                self.characters = 0
        except csv.Error as error:
            reason = "a quoted field that is never closed" if "end of data" in str(error) else str(error)
            raise self.refused(f"{reason} (read with {dialect})") from None

    def header(self, dialect: Dialect) -> list[str]:
        """The first record."""
        with contextlib.closing(self.records(dialect)) as records:
            header = next(records, None)
        if not header:
            raise self.refused("no header; expected one at least")
        return header

    def measured(self, dialect: Dialect, copy: Path) -> Measure:
        """Read it all. What isn't plain UTF-8 is written again to `copy`."""
        if self.encoding == "utf-8" and not self.marked:
            return Measure(self.path, *self._counted(self.records(dialect)), self.longest)
        with copy.open("x", encoding="utf-8", newline="") as file:
            return Measure(copy, *self._counted(self.records(dialect, file)), self.longest)

    def _counted(self, records: Iterator[list[str]]) -> tuple[int, int]:
        """Rows and characters in their fields; all rows are as wide as the header, and none is an empty line."""
        width = len(next(records))
        rows = characters = blank = 0
        for record in records:
            if not record and width > 1:
                blank = blank or self.first
                continue
            if blank:  # at the end of the file they do no harm
                raise BadFileError(self.path, blank, "an empty line between rows")
            if len(record) != width and record:
                raise self.refused(f"{len(record)} fields, and the header has {width}")
            rows += 1
            characters += sum(map(len, record))
        return rows, characters
