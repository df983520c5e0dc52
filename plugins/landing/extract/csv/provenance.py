"""Where each row comes from: the columns that `metadata: true` adds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from landing.extract.csv.text import CsvText
from landing.model import csv_dialect
from landing.model.schema import Column

FILE, ROW, HASH = "_source_file", "_source_row", "_row_hash"
COLUMNS = [
    Column(FILE, "text", comment="File, relative to the project"),
    Column(ROW, "bigint", comment="Line of the file at which the row begins"),
    Column(HASH, "text", comment="SHA-256 of the row's fields, as a line of the landing zone's CSV"),
]


class Provenance:
    """Appends the wanted columns to lines of rows that have the others."""

    def __init__(self, wanted: Sequence[str], texts: Iterator[tuple[CsvText, list[str]]], *, alone: bool) -> None:
        """Args:
        wanted: Some of the columns.
        texts: All rows again, in order.
        alone: Whether the lines are empty, as no other column is wanted.
        """
        self._wanted, self._texts, self._alone = wanted, texts, alone

    def appended(self, lines: Sequence[str], hashes: Sequence[str]) -> list[str]:
        """The next lines, in order, with these columns."""
        places = ((text.name, text.first) for text, _ in itertools.islice(self._texts, len(lines)))
        return [",".join([*([] if self._alone else [line]), *self._fields(*place, sha256)])
                for line, place, sha256 in zip(lines, places, hashes, strict=True)]

    def _fields(self, file: str, row: int, sha256: str) -> Iterator[str]:
        values = {FILE: file, ROW: str(row), HASH: sha256}
        alone = self._alone and len(self._wanted) == 1
        return (csv_dialect.quoted(values[name], alone=alone) for name in self._wanted)
