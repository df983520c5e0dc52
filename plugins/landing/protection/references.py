"""Foreign keys whose two sides are protected differently, so that they no longer join."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from landing.model.schema import Column, Table
from landing.protection.methods import DROP, ENCRYPT, MASK, TOKEN


def broken(tables: Iterable[Table]) -> Iterator[str]:
    """A sentence for each pair of columns that does not join."""
    found = {(table.schema, table.name): table for table in tables}
    for table in found.values():
        for key in table.foreign_keys:
            other = found.get((key.schema, key.table))
            for name, referenced in zip(key.columns, key.references, strict=True) if other else ():
                ours, theirs = _way(table, name), _way(other, referenced)
                if {ours, theirs} & {TOKEN, ENCRYPT, MASK, DROP} and (ours != theirs or ours == MASK):
                    yield (f"{table.schema}.{table.name}.{name} ({ours}) references "
                           f"{other.schema}.{other.name}.{referenced} ({theirs}): they do not join as they are landed")


def _way(table: Table, name: str) -> str:
    column = next((one for one in table.columns if one.name == name), None)
    if column is None:
        return DROP if name in table.dropped else "not selected"
    return column.protection.method if column.protection else "plain"


def protected(columns: Iterable[Column]) -> dict[str, str]:
    """Methods by protected column."""
    return {column.name: column.protection.method for column in columns if column.protection}
