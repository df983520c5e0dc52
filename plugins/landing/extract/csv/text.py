"""The records of a CSV file, checked one by one.

DuckDB tells NULL from "" and is fast, but silently accepts too much: a trailing delimiter, a space before a quote, an
empty line. So Python's csv module reads each file first, finds malformed rows, and hashes the fields of all others;
DuckDB must find the same fields.
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

from landing.extract.csv.decoded import RECORD_BYTES, SAMPLE, DecodedFile, RejectedRow
from landing.extract.csv.dialect import Dialect
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
    """

    place: Object
    rows: int
    longest: int
    complete: bool


class RowsHash:
    """A hash of rows, field by field and in order, to compare two readers of a file."""

    SEPARATOR = "\0"  # of fields and rows: no field contains it, and all rows have the same number of fields
    CHUNK = 1000  # rows

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Sequence[str]) -> None:
        """Add rows, each with its fields joined by SEPARATOR."""
        self._digest.update(self.SEPARATOR.join([*rows, ""]).encode())

    @property
    def value(self) -> str:
        """The hash of all rows so far."""
        return self._digest.hexdigest()


class CsvText(DecodedFile):
    """One CSV file; each method that reads it starts from its beginning.

    Attributes:
        longest: Bytes of the longest record.
        order: For each column of the entity, its position in this file; None if it is the same.
    """

    longest = 0
    order: Sequence[int] | None = None

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
        self, dialect: Dialect, reject: Callable[[RejectedRow], None] = RejectedRow.refuse
    ) -> Iterator[list[str]]:
        """As _rows(), with the fields in the entity's order."""
        rows = self._rows(dialect, reject)
        return rows if self.order is None else map(operator.itemgetter(*self.order), rows)

    def _rows(self, dialect: Dialect, reject: Callable[[RejectedRow], None]) -> Iterator[list[str]]:
        """The header, then each well-formed row; `lines` is its text meanwhile. `reject` gets all other rows.

        Raises:
            BadFileError: The header or the end of a row is malformed; by default, any row is.
        """
        records = self.records(dialect)
        header = next(records, None)
        if self.fault:
            raise self.refused(self.fault)
        if not header:
            raise self.refused("the file has no header")
        width, usual, torn, blank = len(header), _line_end(self.lines), False, None
        yield header
        for record in records:
            end = _line_end(self.lines) if self._file.newlines != usual else usual  # `newlines` has quoted ones too
            other = end not in (usual, "")
            if not record and width > 1 and not (self.fault or other or torn):
                blank = blank or self.rejected("an empty line between rows")
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
            torn = other

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
        plain = self.encoding == "utf-8" and not self.marked and reject is None
        count, rows = 0, rows or RowsHash()
        with contextlib.nullcontext() if plain else copy.open("x", encoding="utf-8", newline="") as file:
            records = self.rows(dialect, reject or RejectedRow.refuse)
            next(records)
            if file:
                file.writelines(self.lines)
            for chunk in self._chunks(records, file):
                count += len(chunk)
                rows.add([*map(RowsHash.SEPARATOR.join, chunk)])
        return Measure(self.place if plain else local_file(copy), count, self.longest, complete=reject is None)

    def _chunks(self, records: Iterator[list[str]], file: TextIO | None) -> Iterator[list[list[str]]]:
        """Records in chunks of bounded size, written to `file` as they are read."""
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
