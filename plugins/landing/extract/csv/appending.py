"""What an entity's new rows are added to, where its files have new rows only (`load: append`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from landing.extract.bases import Base
from landing.model.equality import key_types, value
from landing.model.schema import Column

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows


@dataclass(frozen=True)
class Appending:
    """The newest earlier date, and the key by which its rows are known."""

    base: Base
    key: Sequence[str]

    def mark_known(self, rows: ParsedRows, columns: Mapping[int, Column]) -> int:
        """Fill the table `known` with the numbers of accepted rows whose key the base has. Returns how many."""
        from landing.extract.chain_keys import Part, find_known  # here: it imports DuckDB

        parts = [Part(link.table.columns, self.base.files(link)) for link in self.base.links]
        types = key_types([*(part.columns for part in parts), [*columns.values()]], self.key)
        indexes = {column.name: index for index, column in columns.items()}
        values = ", ".join(f"{value(type_, f'c{indexes[name]}')} AS k{number}"
                           for number, (name, type_) in enumerate(types.items()))
        rows.query(f"CREATE TABLE new_keys AS SELECT number, {values} FROM accepted "  # noqa: S608
                   "WHERE number NOT IN (SELECT number FROM duplicates)")
        return find_known(rows.connection, parts, types, rows.memory)
