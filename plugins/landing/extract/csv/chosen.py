"""Rows that are read once more, by their numbers: those between them are counted, block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from landing.extract.csv.dialect import Dialect
from landing.extract.csv.plain import Block
from landing.extract.csv.text import CsvText


class ChosenRows:
    """Some rows of an entity's files, in order. Numbers begin with 1 and run over all files."""

    def __init__(self, texts: Sequence[CsvText], dialect: Dialect, numbers: Iterable[int]) -> None:
        """`numbers`: in ascending order."""
        self._texts, self._dialect, self._numbers = texts, dialect, iter(numbers)
        self._next = next(self._numbers, None)
        self._seen = 0  # rows
        self._single: deque[int] = deque()  # numbers of rows that follow, out of a block that was seen

    def __iter__(self) -> Iterator[tuple[int, CsvText, list[str]]]:
        """Number, text at that row, and fields of each row. Malformed rows have no number."""
        for text in self._texts:
            if self._next is None:
                return
            rows = text.rows(self._dialect, _skip, self._take)
            next(rows)
            for row in rows:
                if (number := self._number()) is not None:
                    yield number, text, row or [""]
                if self._next is None and not self._single:
                    return

    def _take(self, block: Block) -> Sequence[int]:
        """The positions of the chosen rows in the next block of rows."""
        before, self._seen = self._seen, self._seen + block.rows
        while self._next is not None and self._next <= self._seen:
            self._single.append(self._next)
            self._next = next(self._numbers, None)
        return [number - before - 1 for number in self._single]

    def _number(self) -> int | None:
        """The number of the row that was read just now, if it is chosen."""
        if self._single:
            return self._single.popleft()
        self._seen += 1
        if self._next != self._seen:
            return None
        self._next = next(self._numbers, None)
        return self._seen


def _skip(row: object) -> None:
    """It is already quarantined or refused."""
