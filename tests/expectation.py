"""What an extract has to land, or why it has to be refused, as sources and landing zone are before it."""

from __future__ import annotations

from dataclasses import replace

from model import Model, Table, Take, must_widen
from model_files import APPEND, Entity, Landing, Refused, added
from model_protection import Protection
from world import CSV, World


class Expectation:
    """Of one source and date. `refused`: why it cannot be landed, or None."""

    def __init__(self, world: World, model: Model, source: str, day: str, *, batch: bool = True) -> None:
        self.source, self.day, self.model = source, day, model
        self.protection = world.protection
        self.refused: str | None = None
        self._tables: dict[str, Table] = {}
        self._landings: dict[str, tuple[Entity, Landing]] = {}
        self._bases: dict[str, tuple[str, Take]] = {}
        try:
            if source == CSV:
                self._read_files(world, batch)
            else:
                self._tables = world.tables(source)
        except Refused as reason:
            self.refused = str(reason)
        if source != CSV and any(map(self.protection.takes_a_key, self._tables.values())):
            self.refused = "a part of a key is masked or dropped"
        if empty := [name for name, table in self._tables.items() if not self.protection.landed(table).columns]:
            self.refused = f"no column of {empty} is landed"

    def _read_files(self, world: World, batch: bool) -> None:
        methods = world.protected_in_files()
        for name, entity in world.entities.items():
            header, rows = world.csv[name]
            if entity.quarantines and not batch:
                raise Refused(f"{name}: a quarantine needs files")
            own = Protection({**methods, **entity.protect}, self.protection.keys)
            base = self._base(name, entity, own, header)
            landing = entity.landing(header, rows, base)
            if own.takes_a_key(landing.part):
                raise Refused(f"{name}: a part of its key is masked or dropped")
            self._landings[name] = replace(entity, protect=own.methods), landing

    def _base(self, name: str, entity: Entity, protection: Protection, header: list[str]) -> Table | None:
        """The table that a file's rows are added to."""
        found = self.model.base(CSV, self.day, name) if entity.load == APPEND else None
        if not found:
            return None
        if not self.model.stands(CSV, found[1], name):
            raise Refused(f"{name} stands on what is gone")
        if any(key in protection.methods for key in entity.keys):
            raise Refused(f"{name}: its key is protected")
        ways = protection.ways(Table(dict.fromkeys(header), (), []))
        for take in self.model.chain(CSV, found[1], name):
            if differ := [one for one, way in take.ways[name].items() if ways.get(one, way) != way]:
                raise Refused(f"{name}: {differ} were protected otherwise")
        self._bases[name] = found
        return found[1].tables[name]

    def take(self, manifest: dict) -> Take:
        """What is landed; `manifest`: what it says of types is taken for inferred ones, and of whole tables."""
        types = {table["name"]: {column["name"]: column.get("protection", column)["type"]
                                 for column in table["columns"]} for table in manifest["tables"]}
        if self.source == CSV:
            return self._take_of_files({name: types.get(name, {}) for name in self._landings})
        protection = self.protection
        return Take({name: protection.landed(table) for name, table in self._tables.items()},
                    revealed={name: protection.revealed(table) for name, table in self._tables.items()},
                    ways={name: protection.ways(table) for name, table in self._tables.items()})

    def _take_of_files(self, types: dict[str, dict[str, str]]) -> Take:
        found = Take({}, bases={name: (day, base.run_id) for name, (day, base) in self._bases.items()})
        for name, (entity, landing) in self._landings.items():
            protection = Protection(entity.protect, self.protection.keys)
            plain = landing.part.typed({**dict.fromkeys(landing.part.columns, "text"), **types[name]})
            part, revealed = protection.landed(plain), protection.revealed(plain)
            found.ways[name], found.rejected[name] = protection.ways(plain), landing.rejected
            if name in self._bases:
                base = self._bases[name][1]
                found.parts[name] = part
                found = replace(found, clashes=(*found.clashes, *self._clashes(name, part)))
                part, revealed = added(base.tables[name], part), added(base.revealed[name], revealed)
            found.tables[name], found.revealed[name] = part, revealed
        return found

    def _clashes(self, name: str, part: Table) -> list[str]:
        """Columns with types on two dates of the chain that no type has to hold."""
        parts = [take.parts.get(name, take.tables[name]) for take in
                 self.model.chain(CSV, self._bases[name][1], name)] + [part]
        types = [{column: type_ for column, type_ in one.columns.items() if one.has_values(column)} for one in parts]
        return [f"{name}.{column}: {one[column]} and {type_}" for number, one in enumerate(types)
                for other in types[number + 1:] for column, type_ in other.items()
                if column in one and not must_widen(one[column], type_)]
