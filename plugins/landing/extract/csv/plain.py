"""Lines of a CSV file without quotes, read many at a time.

Every reader finds the same fields in such a block: all that is between two delimiters. A block with anything else in it
is left to text.py, which reads record by record.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from landing.extract.csv.dialect import Dialect

SIZE = 1 << 16  # characters of a block, at least: whole lines
LONGEST = 1 << 20  # bytes of a line: longer ones are left to text.py
SEPARATOR = "\0"  # of fields and rows: no field contains it


@dataclass(frozen=True)
class Block:
    """Rows of a file.

    Attributes:
        lines: As they are in the file.
        fields: Each field, followed by SEPARATOR.
        rows: Their number.
        longest: Bytes of the longest line.
        unquoted: Whether the landing zone's dialect quotes none of the fields either.
    """

    lines: str
    fields: str
    rows: int
    longest: int
    unquoted: bool

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, str, list[str]]]:
        """Some of the rows: position, line and fields."""
        lines = io.StringIO(self.lines, newline="\n").readlines()
        fields = self.fields.split(SEPARATOR)[:-1]
        width = len(fields) // self.rows
        for place in places:
            yield place, lines[place], fields[place * width : (place + 1) * width]


class PlainLines:
    """Reads blocks of one file."""

    def __init__(self, dialect: Dialect, width: int, end: str) -> None:
        """Args:
        dialect: Of the file.
        width: Fields of a row.
        end: Of its lines; blocks of a file with `\\r` are left to others.
        """
        self._delimiter, self._width, self._end = dialect.delimiter, width, end
        self._special = {dialect.quote, dialect.escape, SEPARATOR}
        self._to_quote = {",", '"'} - {dialect.delimiter}  # in a field, for the landing zone

    @property
    def possible(self) -> bool:
        """Whether any block can be read; an empty line is a row where there is one column."""
        return self._width > 1 and self._end in ("\n", "\r\n")

    def read(self, lines: str) -> Block | None:
        """Read a block of lines; the last one of a file may have no end.

        Returns:
            None if it is not certain that these lines are rows as they should be.
        """
        text = lines if self._end == "\n" else self._unix(lines)
        if text is None or "\r" in text or any(char in text for char in self._special):
            return None
        rows = text.split("\n")
        if not rows[-1]:
            rows.pop()
        else:
            text += "\n"
        longest = max(map(len, rows)) if text.isascii() else _longest(rows)
        if longest is None or longest >= LONGEST:
            return None
        if {*map(str.count, rows, [self._delimiter] * len(rows))} != {self._width - 1}:
            return None
        fields = text.replace(self._delimiter, SEPARATOR).replace("\n", SEPARATOR)
        return Block(lines, fields, len(rows), longest + len(self._end),
                     unquoted=not any(char in text for char in self._to_quote))

    @staticmethod
    def _unix(lines: str) -> str | None:
        """Lines that end in a line feed only; None if some did not end as they should."""
        return lines.replace("\r\n", "\n") if lines.count("\r\n") == lines.count("\n") else None


def _longest(rows: list[str]) -> int | None:
    """Bytes of the longest row in UTF-8; None if there is one that was not decoded."""
    try:
        return max(len(row.encode()) for row in rows)
    except UnicodeEncodeError:
        return None
