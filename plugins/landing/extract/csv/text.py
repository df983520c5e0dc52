"""The records of a CSV file, checked one by one.

DuckDB tells NULL from "" and is fast, but silently accepts too much: a trailing delimiter, a space before a quote, an
empty line. So Python's csv module reads each file first, finds malformed rows, and hashes the fields of all others;
DuckDB must find the same fields. Where the form of many rows is certain, plain.py stands in for the csv module.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from landing.extract.csv import plain
from landing.extract.csv.decoded import RECORD_BYTES, SAMPLE, DecodedFile, RejectedRow
from landing.extract.csv.dialect import Dialect
from landing.extract.csv.plain import SEPARATOR, Block, PlainRows
from landing.storage.base import Object
from landing.storage.finding import local_file


@dataclass(frozen=True)
class Measure:
    """A whole file as UTF-8.

    Attributes:
        place: The file itself, or a copy.
        rows: Data rows.
        longest: Size of the longest record in bytes.
        complete: Whether no line was left out, so that line numbers are those of the original.
        unquoted: Whether the landing zone's dialect surely quotes no field.
    """

    place: Object
    rows: int
    longest: int
    complete: bool
    unquoted: bool


Take = Callable[[Block], Sequence[int]]  # returns the positions of rows to be read singly


class RowsHash:
    """A hash of rows, field by field and in order, to compare two readers of a file."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Sequence[str]) -> None:
        """Add rows, each with its fields joined by SEPARATOR."""
        self.add_fields(SEPARATOR.join([*rows, ""]))

    def add_fields(self, fields: str) -> None:
        """Add the fields of rows, each followed by SEPARATOR."""
        self._digest.update(fields.encode())

    @property
    def value(self) -> str:
        """The hash of all rows so far."""
        return self._digest.hexdigest()


class _Tally:
    """Counts and hashes the rows of a file, and writes its lines."""

    CHUNK = 1000  # rows

    def __init__(self, text: CsvText, rows: RowsHash, copy: TextIO | None) -> None:
        self.count, self.unquoted = 0, True
        self._text, self._rows, self._copy = text, rows, copy
        self._chunk: list[str] = []
        self._size = 0

    def copy_lines(self) -> None:
        """Write the lines of the record that was read just now."""
        if self._copy:
            self._copy.writelines(self._text.lines)

    def record(self, record: list[str]) -> None:
        """Add the record that was read just now."""
        self.copy_lines()
        self.unquoted = False
        self._chunk.append(SEPARATOR.join(record))
        self._size += self._text.bytes
        if len(self._chunk) == self.CHUNK or self._size > SAMPLE:
            self.flush()

    def block(self, block: Block) -> Sequence[int]:
        """Add a block of rows."""
        self.flush()
        self.count += block.rows
        self.unquoted &= block.unquoted
        self._rows.add_fields(block.fields if (order := self._text.order) is None else block.in_order(order))
        if self._copy:
            self._copy.write(block.lines)
        return ()

    def flush(self) -> None:
        """Hash the records so far."""
        if self._chunk:
            self.count += len(self._chunk)
            self._rows.add(self._chunk)
            self._chunk, self._size = [], 0


class CsvText(DecodedFile):
    """One CSV file; each method that reads it starts from its beginning.

    Attributes:
        longest: Bytes of the longest record.
        order: For each column of the entity, its position in this file; None if it is the same.
    """

    longest = 0
    order: Sequence[int] | None = None
    _plain: PlainRows | None = None  # reads blocks of the file that is being read
    _take: Take | None = None  # gets them
    _open = False  # whether what was read may be part of a malformed row

    def records(self, dialect: Dialect) -> Iterator[list[str]]:
        """All records, the header first; `fault` is set for a malformed one.

        Raises:
            BadFileError: The end of a malformed record is ambiguous.
        """
        csv.field_size_limit(RECORD_BYTES + 1)
        self.longest = 0
        lines = self.decoded_lines() if dialect.doubles else map(dialect.unescaped, self.decoded_lines())
        reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
        while True:
            yield from self._plain_records(dialect.quote)
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

    def _plain_records(self, quote: str) -> Iterator[list[str]]:
        """Hand over the blocks that follow, and read the rows that are asked for in return."""
        while self._plain and not self._open and (lines := self.block(plain.SIZE, plain.LONGEST, quote)):
            block = self._plain.read(lines)
            if block is None:
                self.put_back(lines)
                return
            first, self.line = self.line + 1, self.line + block.height
            self.longest = max(self.longest, block.longest)
            if asked := self._take(block):
                for place, texts, record in block.at(asked):
                    self.first, self.lines = first + place, texts
                    yield record
            self._next_record()

    def _unescaped(self, record: list[str], dialect: Dialect) -> list[str]:
        try:
            return list(dialect.fields("".join(self.lines).rstrip("\r\n")))
        except ValueError as error:
            self.fault = self.fault or f"{error} (read with {dialect})"
            return record

    def _misquoted(self, error: csv.Error, dialect: Dialect) -> list[str]:
        """Mark the current record as malformed, if its end is certain: the next row would be a guess otherwise."""
        unclosed = "end of data" in str(error)
        reason = f"{'a quoted field that is never closed' if unclosed else error} (read with {dialect})"
        if len(self.lines) > 1 or not (unclosed or dialect.closes(self.lines[0])):
            raise self.refused(f"{reason}, so the end of this row is ambiguous{self._hint(dialect)}")
        self.fault = self.fault or reason + self._hint(dialect)
        return []

    def _hint(self, dialect: Dialect) -> str:
        """What to declare where backslashes seem to escape quotes."""
        escaped = dialect.doubles and any(f"\\{dialect.quote}" in line for line in self.lines)
        return ". If a backslash escapes quotes here, declare `escape: '\\'`" if escaped else ""

    def header(self, dialect: Dialect) -> list[str]:
        """The first record."""
        with contextlib.closing(self._rows(dialect, RejectedRow.refuse)) as rows:
            return next(rows)

    def rows(
        self, dialect: Dialect, reject: Callable[[RejectedRow], None] = RejectedRow.refuse,
        take: Take | None = None,
    ) -> Iterator[list[str]]:
        """As _rows(), with the fields in the entity's order."""
        rows = self._rows(dialect, reject, take)
        return rows if self.order is None else map(operator.itemgetter(*self.order), rows)

    def _rows(self, dialect: Dialect, reject: Callable[[RejectedRow], None],
              take: Take | None = None) -> Iterator[list[str]]:
        """The header, then each well-formed row; `lines` is its text meanwhile.

        Args:
            dialect: How the file writes its fields.
            reject: Gets all other rows.
            take: Gets rows in blocks, with the fields in the file's order: only those that it returns, by their
                position in the block, are among the rows then.

        Raises:
            BadFileError: The header or the end of a row is malformed; by default, any row is.
        """
        self._plain, self._take, self._open = None, take, False
        records = self.records(dialect)
        header = next(records, None)
        if self.fault:
            raise self.refused(self.fault)
        if not header:
            raise self.refused("the file has no header")
        width, usual, torn, blank = len(header), _line_end(self.lines), False, None
        yield header
        if take and (plain_rows := PlainRows(dialect, width, usual)).possible:
            self._plain = plain_rows
        for record in records:
            end = _line_end(self.lines) if self._file.newlines != usual else usual  # `newlines` has quoted ones too
            other = end not in (usual, "")
            if not record and width > 1 and not (self.fault or other or torn):
                blank = blank or self.rejected("an empty line between rows")
                self._open = True
                continue
            if blank:  # harmless at the end of the file
                reject(blank)
                blank = None
            if other or torn:
                reject(self.rejected(f"mixed line endings ({usual!r} and {end!r})" if other else
                                     "may continue the line before, whose line ending differs from the header's"))
            elif self.fault or (record and len(record) != width):
                reject(self.rejected(f"expected {width} fields, found {len(record)}"))
            else:
                yield record
            self._open = torn = other

    def measured(
        self, dialect: Dialect, copy: Path, reject: Callable[[RejectedRow], None] | None = None,
        rows: RowsHash | None = None,
    ) -> Measure:
        """Read the whole file.

        Args:
            dialect: How it writes its fields.
            copy: A local file, written unless the file is plain UTF-8 without rejected rows.
            reject: Gets malformed rows; by default the first one is an error.
            rows: Hash to which all other rows are added.
        """
        rejected = 0

        def counted(row: RejectedRow) -> None:
            nonlocal rejected
            rejected += 1
            (reject or RejectedRow.refuse)(row)

        copied = self.encoding != "utf-8" or self.marked
        tally = self._tallied(dialect, counted, rows or RowsHash(), copy if copied else None)
        if rejected and not copied:
            self._tallied(dialect, _skip, RowsHash(), copy)
        place = local_file(copy) if copied or rejected else self.place
        return Measure(place, tally.count, self.longest, complete=not rejected, unquoted=tally.unquoted)

    def _tallied(self, dialect: Dialect, reject: Callable[[RejectedRow], None], rows: RowsHash,
                 copy: Path | None) -> _Tally:
        with copy.open("x", encoding="utf-8", newline="") if copy else contextlib.nullcontext() as file:
            tally = _Tally(self, rows, file)
            records = self.rows(dialect, reject, tally.block)
            next(records)
            tally.copy_lines()
            for record in records:
                tally.record(record or [""])
            tally.flush()
        self._plain = self._take = None  # a cycle of references would keep the last rows in memory
        return tally


def _skip(row: RejectedRow) -> None:
    """It was rejected before."""


def _line_end(lines: list[str]) -> str:
    return lines[-1][len(lines[-1].rstrip("\r\n")):]
