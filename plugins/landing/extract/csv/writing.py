"""Writes an entity's rows in the landing zone's CSV dialect."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from landing.core.progress import Progress
from landing.extract.csv.fields import TEXTS, Fields
from landing.extract.csv.plain import SEPARATOR
from landing.extract.csv.provenance import Provenance
from landing.extract.csv.text import RowsHash
from landing.model import csv_dialect
from landing.model.schema import Column
from landing.postgres.copy import Copied
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.hashing import BUFFER

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows

CHUNK = 2_000  # rows


def write_rows(
    rows: ParsedRows, columns: Sequence[Column], fields: Fields, expected: RowsHash, target: Object,
    progress: Progress,
) -> Copied:
    """Write the rows that are neither failed nor duplicates, in file order.

    Args:
        rows: What DuckDB parses.
        columns: The columns to write; those of provenance.py come last.
        fields: The others.
        expected: Hash of the fields that text.py read.
        target: The new file.
        progress: Counts the written chunks.

    Raises:
        BadFileError: DuckDB parses a field in another way than text.py.
    """
    found, dropped = RowsHash(), _Dropped(rows.dropped())
    added = [column.name for column in columns[len(fields.columns):]]
    provenance = Provenance(added, rows.texts_again(), alone=not fields.columns) if added else None
    asked = [TEXTS]
    if added or not fields.unchanged(rows):
        asked.append(fields.line(rows, alone=len(columns) == 1))
    if added:
        asked.append(fields.hashed(rows))
    raw, written = hashing.create(target, progress.advance), 0
    with io.BufferedWriter(raw, BUFFER) as file:
        file.write(csv_dialect.header(columns))
        for texts, *others in _chunks(rows, asked):
            found.add(texts)
            lines, *hashed = others or [texts]
            if provenance:
                lines = provenance.appended(lines, [*map(fields.sha256, *hashed)])
            lines = dropped.remove(lines)
            content = "\n".join([*lines, ""])
            file.write(fields.protected((content if others else content.replace(SEPARATOR, ",")).encode()))
            written += len(lines)
    if found.value != expected.value:
        rows.refuse_difference()
    return Copied(written, raw.size, raw.sha256)


def _chunks(rows: ParsedRows, asked: Sequence[str]) -> Iterator[list[tuple[str, ...]]]:
    """All rows, some at a time, as columns."""
    texts = ", ".join(f"coalesce({rows.text(index)}, '')" for index in range(rows.width))
    parsed = rows.query(f"SELECT {', '.join(asked)} FROM "  # noqa: S608
                        f"(SELECT concat_ws(chr(0), {texts}) AS {TEXTS}, * FROM parsed)")
    while chunk := parsed.fetchmany(CHUNK):
        yield [*zip(*chunk, strict=True)]


class _Dropped:
    """Removes rows by their number, in one pass."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers, self._seen = numbers, 0
        self._next = next(numbers, None)

    def remove(self, lines: Sequence[str]) -> Sequence[str]:
        """The lines that are to be landed, of those that follow the lines of the last call."""
        first, self._seen = self._seen + 1, self._seen + len(lines)
        if self._next is None or self._next > self._seen:
            return lines
        kept = []
        for number, line in enumerate(lines, first):
            if number == self._next:
                self._next = next(self._numbers, None)
            else:
                kept.append(line)
        return kept
