"""What `landing move` moves: tables whose history is elsewhere than the setting `table_names` has them now.

History with its partitions, the view with what people built on it, and the entries of the load history move together,
in one transaction. Nothing is copied: they are renamed, and put into another schema.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg2 import sql

from landing.core.commands import move_command
from landing.core.errors import DamagedError, RefusedError
from landing.load import kept_views
from landing.load.history import STAGING, all_partitions, key_name, partition_name, short_name
from landing.load.load_history import Place
from landing.load.newest_views import NewestViews
from landing.load.warehouse import Warehouse
from landing.postgres.query import query
from landing.zone.landing_zone import LandingZone

RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s)
"""

# Indexes of primary keys: they go with their tables, and their names must be free there.
KEYS = """
SELECT n.nspname, t.relname, c.relname FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indisprimary AND n.nspname = ANY (%s)
"""

TAKE = """
UPDATE {} SET table_schema = %s, table_name = %s WHERE source = %s AND table_schema = %s AND table_name = %s
"""

KNOW = """
UPDATE {} SET source_schema = %s, source_table = coalesce(source_table, %s)
WHERE source = %s AND table_schema = %s AND table_name = %s AND source_schema IS NULL
"""


@dataclass(frozen=True)
class Move:
    """A table of history and its view, from one place to another. `dates`, `rows`: of its history."""

    source: str
    source_schema: str | None
    source_table: str
    old: tuple[str, str]  # schema and name
    new: tuple[str, str]
    dates: int
    rows: int


@dataclass(frozen=True)
class _Relation:
    """A relation to move, through a name that nothing has: the old names may be the new ones of others."""

    kind: str
    old: tuple[str, str]
    new: tuple[str, str]
    through: str

    def statements(self) -> Iterator[sql.Composable]:
        """Three statements, each of which runs for all relations before the next one."""
        alter, through = sql.SQL(f"ALTER {self.kind} {{}} "), sql.Identifier(self.through)
        yield alter.format(sql.Identifier(*self.old)) + sql.SQL("RENAME TO {}").format(through)
        yield (alter.format(sql.Identifier(self.old[0], self.through)) +
               sql.SQL("SET SCHEMA {}").format(sql.Identifier(self.new[0]))) if (
            self.old[0] != self.new[0] and self.kind != "INDEX") else sql.SQL("")
        yield alter.format(sql.Identifier(self.new[0], self.through)) + sql.SQL("RENAME TO {}").format(
            sql.Identifier(self.new[1]))


class Mover:
    """Finds and runs the moves of a warehouse, which the caller has locked."""

    def __init__(self, warehouse: Warehouse, zone: LandingZone) -> None:
        self.warehouse, self.zone = warehouse, zone

    def moves(self) -> list[Move]:
        """Tables that are elsewhere than the setting has them.

        Raises:
            RefusedError: A table's new place is unknown, or taken.
        """
        by_place: dict[tuple[str, str, str], list[Place]] = {}
        for place in self.warehouse.load_history.places():
            by_place.setdefault((place.source, place.schema, place.table), []).append(place)
        moves = [move for places in by_place.values() for move in self._moves(places)]
        self._refuse_taken(moves)
        return moves

    def _moves(self, places: Sequence[Place]) -> Iterator[Move]:
        """The move of one table of the warehouse, which may have held several tables of its source."""
        source, old = places[0].source, (places[0].schema, places[0].table)
        found = {self.warehouse.names.place(source, *origin): origin
                 for origin in sorted({self._origin(one) for one in places}, key=str)}
        if len(found) > 1:
            origins = " and ".join(".".join(filter(None, origin)) for origin in found.values())
            raise RefusedError(f"{old[0]}.{old[1]}", f"it has dates of {origins} of source {source}, which table_names "
                               "now gives different names", "Set table_names back, or load into another SCHEMA")
        (new, origin), = found.items()
        if new != old:
            yield Move(source, *origin, old, new, sum(one.dates for one in places), sum(one.rows for one in places))

    def _origin(self, place: Place) -> tuple[str | None, str]:
        """Schema and name in the source; for a table that an older version loaded, from its manifest if needed."""
        name = place.source_table or place.table
        if place.source_schema is not None or not self.warehouse.names.needs_schema(place.source):
            return place.source_schema, name
        for entry in sorted(self.warehouse.load_history.entries(), key=lambda one: one.day, reverse=True):
            if (entry.source, entry.schema, entry.table) == (place.source, place.schema, place.table):
                for table in self._landed(entry.source, entry.day, entry.run_id):
                    if table.name == name:
                        return table.schema, name
        raise RefusedError(place, f"its schema in source {place.source} is unknown, and no date of it is landed any "
                           "more", f"Set source_schema of its entries in {self.warehouse.history}._loads, or leave "
                           f"{{schema}} out of table_names for {place.source}")

    def _landed(self, source: str, day: date, run_id: str) -> list:
        try:
            manifest = self.zone.manifest(source, day)
        except DamagedError:
            return []
        return manifest.tables if manifest and manifest.run_id == run_id else []

    def _refuse_taken(self, moves: Sequence[Move]) -> None:
        self.warehouse.target({move.new[0] for move in moves})
        leaving, arriving = {move.old for move in moves}, dict[tuple[str, str], Move]()
        schemas = {schema for move in moves for schema in (move.new[0], f"{move.new[0]}_history")}
        there = {(schema, name) for schema, name, _ in query(self.warehouse.cursor, RELATIONS, (list(schemas),))}
        for move in moves:
            schema, name = move.new
            if (other := arriving.setdefault(move.new, move)) is not move:
                raise RefusedError(f"{schema}.{name}", f"table_names gives this name to {other.source_table} of "
                                   f"{other.source} and to {move.source_table} of {move.source}", "Change it")
            if move.new not in leaving and (taken := sorted({(schema, name), (f"{schema}_history", name)} & there)):
                raise RefusedError(f"{move.source}, table {move.source_table}", f"{'.'.join(taken[0])} exists in the "
                                   "warehouse", "Rename it there, or change table_names")

    def run(self, moves: Sequence[Move]) -> None:
        """Move all in one transaction with lock retry."""
        self.warehouse.create()
        self.warehouse.lock_retry.run(lambda: self._move(moves), "Nothing was moved.",
                                      move_command(self.warehouse.schema))

    def _move(self, moves: Sequence[Move]) -> None:
        cursor, load_history = self.warehouse.cursor, self.warehouse.load_history
        for schema in {move.old[0] for move in moves}:
            NewestViews(schema, load_history.part(schema)).lock([
                move.old[1] for move in moves if move.old[0] == schema])
        for statements in zip(*(one.statements() for one in self._relations(moves)), strict=True):
            for statement in statements:
                if statement != sql.SQL(""):
                    query(cursor, statement)
        self._record(moves)
        for schema in sorted({schema for move in moves for schema in (move.old[0], move.new[0])}):
            views = NewestViews(schema, load_history.part(schema))
            views.lock([])
            views.update([])

    def _relations(self, moves: Iterable[Move]) -> Iterator[_Relation]:
        """Views, then history, then partitions: readers lock in this order."""
        moves, cursor = list(moves), self.warehouse.cursor
        schemas = [f"{schema}{end}" for schema in {schema for move in moves for schema in (move.old[0], move.new[0])}
                   for end in ("", "_history")]
        kinds = {(schema, name): kind for schema, name, kind in query(cursor, RELATIONS, (schemas,))}
        for move in moves:
            if kinds.get(move.old) == "v":
                yield _Relation("VIEW", move.old, move.new, _unused())
        histories = [tuple((f"{schema}_history", name) for schema, name in (move.old, move.new)) for move in moves]
        partitions = {history: all_partitions(cursor, history) for history in {old[0] for old, _ in histories}}
        tables = [(old, new, None) for old, new in histories if kinds.get(old) == "p"] + [
            ((old[0], partition), new, day) for old, new in histories
            for (table, day), partition in partitions[old[0]].items() if table == old[1]]
        for old, new in histories:
            for number, view in enumerate(kept_views.by_table(cursor, old[0]).get(old[1], ()), 1):
                yield _Relation("VIEW", (old[0], view.name), (new[0], kept_views.kept_name(new[1], number)), _unused())
        keys = {(schema, table): key for schema, table, key in query(cursor, KEYS, (schemas,))}
        leaving = {name for old, *_ in tables for name in (old, (old[0], keys.get(old)))}
        staying: dict[str, set[str]] = {new[0]: set() for _, new, _ in tables}
        for schema, name in {*kinds} - leaving:
            staying.setdefault(schema, set()).add(name)
        for old, (schema, name), day in tables:
            reserved = staying[schema]
            new = partition_name(name, day, reserved) if day else name
            yield _Relation("TABLE", old, (schema, new), _unused())
            if key := keys.get(old):
                new = key_name(name, day, reserved) if day else short_name(name, "_pkey", reserved)
                yield _Relation("INDEX", (old[0], key), (schema, new), _unused())

    def _record(self, moves: Sequence[Move]) -> None:
        cursor = self.warehouse.cursor
        relation = self.warehouse.load_history.doubled
        through = [(move, _unused()) for move in moves]
        for move, _ in through:
            query(cursor, sql.SQL(KNOW).format(relation),
                  (move.source_schema, move.source_table, move.source, *move.old))
        for move, name in through:
            query(cursor, sql.SQL(TAKE).format(relation), (move.new[0], name, move.source, *move.old))
        for move, name in through:
            query(cursor, sql.SQL(TAKE).format(relation), (*move.new, move.source, move.new[0], name))


def _unused() -> str:
    return STAGING + secrets.token_hex(8)


