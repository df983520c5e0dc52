"""What `landing drop` removes: one date of one source or of all, from the warehouse and from the landing zone.

The warehouse comes first, in one transaction under the schema's lock; then each source's partition in the landing zone,
under its commit lock. If killed in between, the date is landed and not loaded; run again to remove the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial

from msgspec import structs

from landing.core.errors import DamagedError, SettingError, ZoneError
from landing.core.sources import declared_sources
from landing.load import history
from landing.load.gc import partitions, sizes
from landing.load.history import history_name
from landing.load.load_history import LoadedTables
from landing.load.staging import Load
from landing.load.warehouse import Warehouse
from landing.model.naming import new_run_id
from landing.model.schema import Table
from landing.zone import layout
from landing.zone.chains import again, standing_on
from landing.zone.gc import Leftover
from landing.zone.landing_zone import LandingZone
from landing.zone.removal import remove
from landing.zone.run_log import DROPPED, RunLog


class Drop:
    """The partitions of one date to remove. `source`: only this one, or None for all."""

    def __init__(self, landing_zone: LandingZone, warehouse: Warehouse | None, day: date, source: str | None) -> None:
        """`warehouse`: locked by the caller (Warehouse.lock), or None if nothing was ever loaded."""
        self.zone, self.warehouse, self.day, self.source = landing_zone, warehouse, day, source
        self.sources = None if source is None else [source]

    def __iter__(self) -> Iterator[Leftover]:
        """The partitions, in the order of removal.

        Raises:
            SettingError: The source is unknown.
            ZoneError: A partition is behind a link, or others stand on it.
        """
        landed = self._landed()
        self._check(landed)
        self.zone.refuse_linked(self.source, self.day)
        self._refuse_bases(landed)
        if self.warehouse and (tables := [(part.history, *one) for part in self.warehouse.load_history.parts()
                                          for one in part.tables(self.day, self.sources)]):
            yield self._loaded(self.warehouse, tables)
        elif self.warehouse and any(at == self.day and self.source in (None, name)
                                    for at, name in self.warehouse.refusals.dates()):
            yield Leftover("refused load", f"{self.warehouse.history} {self.day}", 0, None, "checks did not hold",
                           partial(self._unload, self.warehouse))
        for source in landed:
            if self.source in (None, source):
                prefix = layout.partition(source, self.day)
                yield Leftover("landed date", prefix, self.zone.storage.bytes(prefix), self._rows(source),
                               "dropped", partial(self._remove, source))

    def _check(self, landed: Sequence[str]) -> None:
        loaded = self.warehouse.load_history.newest() if self.warehouse else {}
        known = sorted({*landed, *declared_sources(), *(source for source, _ in self.zone.landed()), *loaded})
        if self.source not in (None, *known):
            raise SettingError(f"--source {self.source} is unknown. Known sources: {', '.join(known)}.")

    def _refuse_bases(self, landed: Sequence[str]) -> None:
        """Raise ZoneError if later dates stand on the landed one: without it their rows would be gone."""
        for source in landed:
            summary = self.zone.readable(source, self.day) if self.source in (None, source) else None
            runs = {summary.run_id, *self.zone.earlier(summary)} if summary else ()
            if runs and (days := standing_on(self.zone, source, self.day, runs, kept=True)):
                newest = standing_on(self.zone, source, self.day, runs)
                kept = ", ".join(str(day) for day in days if day not in newest)
                only = f"Of {kept} only earlier runs do: `landing gc --keep-runs 0` lists them. " if kept else ""
                raise ZoneError(f"{', '.join(map(str, days))} of {source} hold only what changed since {self.day}, so "
                                f"it is needed. Nothing was dropped. {only}Take them again first, or drop them, the "
                                f"newest first: {again(source, days)}")

    def _landed(self) -> list[str]:
        """Sources with a folder for the date, with or without a manifest."""
        return [source for source, day in self.zone.partitions() if day == self.day]

    def _rows(self, source: str) -> int | None:
        try:
            manifest = self.zone.manifest(source, self.day)
        except DamagedError:
            return None
        return manifest and manifest.rows

    def _loaded(self, warehouse: Warehouse, tables: Sequence[tuple[str, str, str]]) -> Leftover:
        found, bytes_of = partitions(warehouse, self.day), sizes(warehouse)
        rows = sum(entry.rows for entry in warehouse.load_history.entries(self.day)
                   if (entry.history, entry.source, entry.table) in tables)
        sources = sorted({source for _, source, _ in tables} - {""})
        return Leftover("loaded date", f"{warehouse.history} {self.day} {', '.join(sources)}".rstrip(),
                        sum(bytes_of.get(found.get((where, name, self.day)), 0) for where, _, name in tables), rows,
                        "; ".join(self._views(warehouse, sources)) or "views unchanged",
                        partial(self._unload, warehouse))

    def _views(self, warehouse: Warehouse, sources: Sequence[str]) -> Iterator[str]:
        """The effect on the views that show the date."""
        newest, shown = warehouse.load_history.newest(), warehouse.load_history.shown()
        for source in sources:
            if newest.get(source) == self.day:
                left = self._left(warehouse, source)
                yield f"the views of {source} " + (f"go back to {left}" if left else "become empty")
            elif (source, self.day) in shown:
                yield f"the views of {source} that show it, for lack of newer data, go further back or become empty"

    def _left(self, warehouse: Warehouse, source: str) -> date | None:
        return max((entry.day for entry in warehouse.load_history.entries()
                    if entry.source == source and entry.day != self.day), default=None)

    def _unload(self, warehouse: Warehouse) -> bool:
        newest = warehouse.load_history.newest()
        left = [load for source, day in newest.items() if day == self.day and self.source in (None, source)
                for load in self._landed_as(warehouse, source)]
        warehouse.drop(self.day, self.sources, left)
        return True

    def _landed_as(self, warehouse: Warehouse, source: str) -> list[Load]:
        """Tables of the newest remaining date whose loaded run is still landed."""
        day = self._left(warehouse, source)
        try:
            manifest = day and self.zone.manifest(source, day)
        except DamagedError:
            return []
        entries = LoadedTables(warehouse.load_history.entries(day) if manifest else [])
        have = {(schema, name): columns for schema in warehouse.schemas()
                for name, (columns, _) in history.tables(warehouse.cursor, f"{schema}_history").items()}
        found = [(table, entries.get(source, table)) for table in (manifest.tables if manifest else [])]
        return [warehouse.names.at(Load(source, day, manifest.run_id, manifest.taken_at,
                                        _as_stored(table, have[entry.schema, entry.table])), entry.schema, entry.table)
                for table, entry in found
                if entry and entry.run_id == manifest.run_id and (entry.schema, entry.table) in have]

    def _remove(self, source: str) -> bool:
        remove(self.zone, source, self.day)
        log = RunLog(self.zone.storage, new_run_id(), self.day)
        log.begin(source)
        log.end(DROPPED)
        return True


def _as_stored(table: Table, have: dict[str, str]) -> Table:
    """The table without columns that a person dropped from history."""
    return structs.replace(table, columns=[column for column in table.columns if history_name(column.name) in have])
