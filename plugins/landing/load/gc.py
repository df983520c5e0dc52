"""What `gc` removes from a warehouse: staging tables of dead loads and, on request, old partitions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date
from functools import partial

from psycopg2 import sql

from landing.core.errors import LandingError
from landing.load.history import STAGING, all_partitions
from landing.load.load_history import LoadedTable
from landing.load.warehouse import Warehouse
from landing.zone.gc import Leftover
from landing.zone.landing_zone import LandingZone

SIZES = """
SELECT n.nspname, c.relname, pg_total_relation_size(c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ANY (%s) WHERE c.relkind = 'r'
"""


def sizes(warehouse: Warehouse) -> dict[tuple[str, str], int]:
    """Bytes of each partition and staging table, by schema of history and name."""
    return {(history, name): size for history, name, size in warehouse.execute(SIZES, (warehouse.histories,))}


def partitions(warehouse: Warehouse, *days: date) -> dict[tuple[str, str, date], tuple[str, str]]:
    """Schema and name of each partition by schema of history, table and date, of every date or of these."""
    return {(history, table, at): (history, name) for history in warehouse.histories
            for (table, at), name in all_partitions(warehouse.cursor, history, *days).items()}


def adopt_targets(warehouse: Warehouse, zone: LandingZone) -> None:
    """Have the warehouse include the schemas of the newest landed dates: a killed first load of one is not recorded."""
    schemas = set()
    for source, day in dict(zone.landed()).items():
        with contextlib.suppress(LandingError):
            manifest = zone.require(source, day)
            schemas |= {warehouse.names.place(source, one.schema, one.name)[0] for one in manifest.tables}
    warehouse.adopt(schemas)


class WarehouseLeftovers:
    """Leftovers of a warehouse. The caller holds Warehouse.lock, so no load uses them."""

    def __init__(self, warehouse: Warehouse, first: date | None = None) -> None:
        """`first`: earlier partitions are removed, except those that views show. None removes no partition."""
        self.warehouse, self.first = warehouse, first

    def __iter__(self) -> Iterator[Leftover]:
        warehouse = self.warehouse
        bytes_of = sizes(warehouse)
        for history, name in sorted(one for one in bytes_of if one[1].startswith(STAGING)):
            yield Leftover("staging table", f"{history}.{name}", bytes_of[history, name], None, "left by a dead load",
                           partial(self._drop, sql.Identifier(history, name)))
        if self.first is None:
            return
        newest: dict[str, date] = {}  # of present rows: a person may have dropped partitions
        for entry in warehouse.load_history.present():
            newest[entry.source] = max(entry.day, newest.get(entry.source, entry.day))
        tables: dict[tuple[date, str], list[LoadedTable]] = {}
        for entry in warehouse.load_history.entries():
            tables.setdefault((entry.day, entry.source), []).append(entry)
        found, shown = partitions(warehouse), warehouse.load_history.shown()
        for (day, source), entries in sorted(tables.items(), key=lambda one: one[0]):
            if day < min(self.first, newest.get(source, day)) and (source, day) not in shown:
                size = sum(bytes_of.get(found.get((entry.history, entry.table, day)), 0) for entry in entries)
                yield Leftover("loaded date", f"{warehouse.history} {day} {source}", size,
                               sum(entry.rows for entry in entries), f"before {self.first}",
                               partial(self._remove, source, day))
        for day, source in warehouse.refusals.dates():
            if day < min(self.first, newest.get(source, day)) and (day, source) not in tables:
                yield Leftover("refused load", f"{warehouse.history} {day} {source}", 0, None, f"before {self.first}",
                               partial(self._remove, source, day))

    def _drop(self, relation: sql.Identifier) -> bool:
        statement = sql.SQL("DROP TABLE IF EXISTS {}").format(relation)
        self.warehouse.lock_retry.run(lambda: self.warehouse.execute(statement), "Nothing was removed.", "landing gc")
        return True

    def _remove(self, source: str, day: date) -> bool:
        self.warehouse.remove(source, day)
        return True
