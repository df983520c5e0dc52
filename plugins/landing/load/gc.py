"""What gc removes: what dead runs left behind and, where days are to be kept, the dates before them.

What is found can change before it is removed, so it is looked at again then, under the lock that those take who change
it: a date's commit lock, or the warehouse's advisory lock, which every load holds.

Staging folders have no lock: one in which nothing changed for `older_than` hours is taken for a dead run's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial

from psycopg2 import sql

from landing.load.history import STAGING, all_partitions
from landing.load.load_history import LoadedTable
from landing.load.warehouse import Warehouse
from landing.zone.gc import Leftover

SIZES = """
SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s WHERE c.relkind = 'r'
"""


class WarehouseLeftovers:
    """Leftovers of a warehouse that the caller holds for itself (Warehouse.lock)."""

    def __init__(self, warehouse: Warehouse, first: date | None = None) -> None:
        """`first`: dates before it go, the newest loaded one of each source excepted."""
        self.warehouse, self.first = warehouse, first

    def __iter__(self) -> Iterator[Leftover]:
        warehouse = self.warehouse
        sizes = dict(warehouse.execute(SIZES, (warehouse.history,)))
        for name in sorted(name for name in sizes if name.startswith(STAGING)):
            yield Leftover("staging table", f"{warehouse.history}.{name}", sizes[name], None, "of a load that died",
                           partial(self._drop, name))
        if self.first is None:
            return
        newest: dict[str, date] = {}  # whose rows are there: a person may have dropped its partitions
        for entry in warehouse.load_history.present():
            newest[entry.source] = max(entry.day, newest.get(entry.source, entry.day))
        tables: dict[tuple[date, str], list[LoadedTable]] = {}
        for entry in warehouse.load_history.entries():
            tables.setdefault((entry.day, entry.source), []).append(entry)
        partitions = all_partitions(warehouse.cursor, warehouse.history)
        for (day, source), entries in sorted(tables.items(), key=lambda one: one[0]):
            if day < min(self.first, newest.get(source, day)):
                size = sum(sizes.get(partitions.get((entry.table, day)), 0) for entry in entries)
                yield Leftover("loaded date", f"{warehouse.history} {day} {source}", size,
                               sum(entry.rows for entry in entries), f"before {self.first}",
                               partial(self._remove, source, day))

    def _drop(self, name: str) -> bool:
        relation = sql.Identifier(self.warehouse.history, name)
        statement = sql.SQL("DROP TABLE IF EXISTS {}").format(relation)
        self.warehouse.lock_retry.run(lambda: self.warehouse.execute(statement), "Nothing was removed.", "landing gc")
        return True

    def _remove(self, source: str, day: date) -> bool:
        self.warehouse.remove(source, day)
        return True
