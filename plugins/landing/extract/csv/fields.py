"""The fields of an entity's landed lines: DuckDB's expressions, with a mark in front of each protected value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from landing.model import csv_dialect
from landing.model.schema import Column
from landing.protection.columns import TableProtection

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows


TEXTS = "texts"  # all texts of a row, joined, in the relation of these expressions


class Fields:
    """The wanted columns of the files, as they are landed.

    Attributes:
        indexes: Their positions in the file.
        columns: As they are landed.
    """

    def __init__(self, width: int, indexes: Sequence[int], columns: Sequence[Column], names: Sequence[str],
                 protection: TableProtection | None) -> None:
        """Args:
        width: Columns of the file.
        indexes: Positions of the wanted ones.
        columns: These, with the types of their values.
        names: Of all columns of the file.
        """
        self.indexes = indexes
        self.columns = protection.landed(columns) if protection else [*columns]
        self._marks = protection.marks(self.columns) if protection else None
        marked = {} if protection is None else {
            index: "".join(self._marks.of(column.name)) for index, column in zip(indexes, self.columns, strict=True)
            if column.name in self._marks}
        self._fields = {f"c{index}": f"coalesce('{mark}' || hex(c{index}), '')" for index, mark in marked.items()}
        # What a hash of the row may say: no value of a protected column, unless as it is landed.
        self._hashed = {index: index in marked for index in range(width)
                        if index in marked or not (protection and names[index] in protection.methods)}

    def line(self, rows: ParsedRows, *, alone: bool) -> str:
        """DuckDB's expression for a line. `alone`: as for csv_dialect.quoted()."""
        if not self.indexes:
            return "''"
        made = [f"c{index}" for index in self.indexes if rows.text(index) != f"c{index}" or index >= rows.width]
        return csv_dialect.sql_line([f"c{index}" for index in self.indexes], alone=alone, fields=self._fields,
                                    within=[TEXTS, *made])

    def unchanged(self, rows: ParsedRows) -> bool:
        """Whether the landed lines are the fields of the files with commas between: all, in order, and none quoted."""
        return (rows.unquoted and not self._fields and not rows.converted
                and [*self.indexes] == [*range(rows.width)] and rows.width > 1)

    def hashed(self, rows: ParsedRows) -> str:
        """DuckDB's expression for the text of a row whose hash `_row_hash` is; NULL and '' differ."""
        columns = [f"c{index}" if marked else rows.text(index) for index, marked in self._hashed.items()]
        return csv_dialect.sql_line(columns, alone=False, fields=self._fields, within=[TEXTS])

    def sha256(self, text: str) -> str:
        """The hash of such a text."""
        return hashlib.sha256(self.protected(text.encode())).hexdigest()

    def protected(self, content: bytes) -> bytes:
        """Lines with marked values protected."""
        return self._marks.replaced(content) if self._marks else content
