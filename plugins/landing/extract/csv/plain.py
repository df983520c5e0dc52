"""Rows of a CSV file, read many at a time.

In a block without quotes every reader finds the same fields: all that is between two delimiters. With quotes, it is cut
at these: text within them and text outside of them take turns, and a quote must have the edge of a field beside it. A
block with anything else in it is left to text.py, which reads record by record.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from landing.extract.csv.dialect import Dialect

SIZE = 1 << 16  # characters of a block, at least: whole lines
QUOTED = 4  # times that size, at most, with quotes: the pieces between them take memory
LONGEST = 1 << 20  # bytes of a row: longer ones are left to text.py
SEPARATOR = "\0"  # of fields and rows: no field contains it


@dataclass(frozen=True)
class Block:
    """Rows of a file.

    Attributes:
        lines: As they are in the file.
        fields: Each field, followed by SEPARATOR.
        rows: Their number.
        height: The number of lines.
        longest: Bytes of the longest row, at most.
        unquoted: Whether the landing zone's dialect quotes none of the fields.
        quote: Encloses what may contain line feeds.
    """

    lines: str
    fields: str
    rows: int
    height: int
    longest: int
    unquoted: bool
    quote: str

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, list[str], list[str]]]:
        """Some of the rows: the position of the first line, the lines, and the fields."""
        records, fields = self._records(), self.fields.split(SEPARATOR)[:-1]
        width = len(fields) // self.rows
        for place in places:
            first, lines = records[place]
            yield first, lines, fields[place * width : (place + 1) * width]

    def _records(self) -> list[tuple[int, list[str]]]:
        records: list[tuple[int, list[str]]] = []
        inside = False
        for number, line in enumerate(io.StringIO(self.lines, newline="\n")):
            if inside:
                records[-1][1].append(line)
            else:
                records.append((number, [line]))
            inside ^= line.count(self.quote) % 2 == 1
        return records

    def in_order(self, order: Sequence[int]) -> str:
        """The fields of rows that have them in another order."""
        fields, width = self.fields.split(SEPARATOR), len(order)
        found = fields[:]
        for place, position in enumerate(order):
            found[place:-1:width] = fields[position:-1:width]
        return SEPARATOR.join(found)


class PlainRows:
    """Reads blocks of one file."""

    def __init__(self, dialect: Dialect, width: int, end: str) -> None:
        """Args:
        dialect: Of the file.
        width: Fields of a row.
        end: Of its lines; blocks with any other `\\r` are left to others.
        """
        self._delimiter, self._quote, self._doubles = dialect.delimiter, dialect.quote, dialect.doubles
        self._width, self._end = width, end
        self._special = {dialect.escape, SEPARATOR} - {dialect.quote}
        self._to_quote = {",", '"'} - {dialect.delimiter, dialect.quote}  # in a bare field, for the landing zone

    @property
    def possible(self) -> bool:
        """Whether any block can be read; an empty line is a row where there is one column."""
        return self._width > 1 and self._end in ("\n", "\r\n")

    def read(self, lines: str) -> Block | None:
        """Read a block of lines; the last one of a file may have no end.

        Returns:
            None if it is not certain that these lines are rows as they should be.
        """
        quoted = self._quote in lines
        if any(char in lines for char in self._special) or (quoted and len(lines) > QUOTED * SIZE):
            return None
        pieces = lines.split(self._quote) if quoted else [lines]
        within = pieces[1::2]
        # A quote stands for all that is between two quotes.
        text = self._unix(lines, self._quote.join(pieces[::2]) if within else lines)
        if text is None or len(pieces) % 2 == 0:
            return None
        rows = text.split("\n")
        if not rows[-1]:
            rows.pop()
        else:
            text += "\n"
        longest = self._longest(lines, rows, quoted=bool(within))
        if longest is None or longest >= LONGEST:
            return None
        if {*map(str.count, rows, [self._delimiter] * len(rows))} != {self._width - 1}:
            return None
        height = lines.count("\n") + (not lines.endswith("\n")) if within else len(rows)
        fields = self._fields(text, within)
        return fields and Block(lines, fields, len(rows), height, longest + len(self._end),
                                self._is_unquoted(text, within), self._quote)

    def _unix(self, lines: str, text: str) -> str | None:
        """Text outside of quotes with lines that end in a line feed only; None if some did not end as they should."""
        if self._end == "\n":
            return None if "\r" in lines else text
        same = text.count("\r\n") == text.count("\n") == lines.count("\r")
        return text.replace("\r\n", "\n") if same else None

    def _fields(self, text: str, within: Sequence[str]) -> str | None:
        """The fields of rows, as those of a Block; None if a quote is neither at the edge of a field nor doubled."""
        marked = text.replace(self._delimiter, SEPARATOR).replace("\n", SEPARATOR)
        if not within:
            return marked
        marked = SEPARATOR + marked
        outside = marked.split(self._quote)
        doubled = outside.count("")  # nothing is between the two quotes
        quoted = len(within) - doubled  # fields
        if doubled and not self._doubles:
            return None
        if not marked.count(SEPARATOR + self._quote) == marked.count(self._quote + SEPARATOR) == quoted:
            return None
        pieces = [""] * (len(outside) + len(within))
        pieces[::2] = [piece or self._quote for piece in outside] if doubled else outside
        pieces[1::2] = within
        return "".join(pieces)[1:]

    def _is_unquoted(self, text: str, within: Sequence[str]) -> bool:
        if any(char in text for char in self._to_quote):
            return False
        inside = "".join(within)
        return not within or not ("" in within or any(char in inside for char in ',"\n') or 2 * self._quote in text)

    @staticmethod
    def _longest(lines: str, rows: Sequence[str], *, quoted: bool) -> int | None:
        """Bytes of the longest row in UTF-8, at most; None if there is one that was not decoded."""
        try:
            size = len(lines) if lines.isascii() else len(lines.encode())
            return size if quoted or size < LONGEST else max(len(row.encode()) for row in rows)
        except UnicodeEncodeError:
            return None
