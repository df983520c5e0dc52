"""Steps by commands and by people who work with the warehouse."""

from __future__ import annotations

from hypothesis import strategies as st
from model import Schema, Take
from step_loads import Loads
from steps import days, places, quoted, schemas, step
from world import KINDS, OTHERS, SOURCES


class Commands(Loads):
    """`landing` commands, and what people build on views."""

    @step(keep=st.sampled_from(["", "", "30", "0"]), dead=st.booleans())
    def gc(self, keep, dead):
        """Only dates that are not their source's newest may go, whole; `dead`: all that killed runs left has to go."""
        self.changed = True
        whole = {at for at, take in self.model.landed.items() if self.model.whole(at[0], take)}
        self.world.project.landing("gc", "--yes", *(["--keep-days", keep] if keep else []),
                                   *(["--older-than", "0"] if dead else []))
        if dead:
            self.model.killed = False
        if dead or self.world.zone.locks:  # without locks a file of a killed run may be of one at work, for a day
            self.model.leftovers.clear()
        if keep:
            self._gone(self.model.landed, {*self.world.manifests()})
            for at in whole & self.model.landed.keys():
                assert self.model.whole(at[0], self.model.landed[at]), f"gc removed what {at} stands on"
            schema = self.model.schema("public")
            self._gone(schema.loaded, {(source, day) for source, day, *_ in self.world.ledger("public")} | {
                at for at, take in schema.loaded.items() if not take.tables})

    @step(number=places)
    def drop_date(self, number):
        """One whose absence changes no view: it goes from warehouse and landing zone, unless others stand on it."""
        schema = self.model.schema("public")
        days = sorted({day for _, day in self.model.landed} - {schema.newest(source) for source in SOURCES})
        if not days:
            return
        self.changed, day = True, days[number % len(days)]
        ended = self.world.project.landing("drop", day, "--yes", check=False)
        needed = day in {base for _, base in self.model.bases()}
        assert bool(ended.returncode) == needed, f"drop of {day}, on which others stand: {needed}\n{ended.text}"
        for dates in () if needed else (self.model.landed, schema.loaded):
            for at in [at for at in dates if at[1] == day]:
                del dates[at]

    def _gone(self, dates: dict[tuple[str, str], Take], left: set[tuple[str, str]]) -> None:
        newest = {source: max(day for name, day in dates if name == source) for source, _ in dates}
        lost = {*newest.items()} - left
        assert not lost, f"the newest dates are gone: {lost}"
        for at in {*dates} - left:
            del dates[at]

    @step(day=days)
    def verify(self, day):
        """The command says what the model knows."""
        day, schema = self.day(day), self.model.schemas.get("public", Schema())
        ended = self.world.project.landing("verify", day, check=False)
        assert "Traceback" not in ended.text, ended.text
        needed = self.model.needed(day, self.today)
        pairs = [(self.model.landed.get((source, day)), schema.loaded.get((source, day))) for source in needed]
        if self.wanted(day, ()) is None or any(pair[1] is None or pair[0].tables != pair[1].tables for pair in pairs):
            assert ended.returncode, f"verify {day} ended well:\n{ended.text}"
        elif all(landed == loaded for landed, loaded in pairs):  # of equal rows the order may differ
            assert not ended.returncode, ended.text

    @step(schema=schemas, table=places, column=places, kind=st.sampled_from([*KINDS, OTHERS, "drop"]))
    def build_on_a_view(self, schema, table, column, kind):
        """What people build, and grant, survives; until they drop it."""
        if kind == "drop":
            for mine in [*self.people]:
                self.world.warehouse.run(f"DROP {KINDS[self.people.pop(mine)[3]][1]} people.{mine}")
            return
        views = sorted(self.world.views(schema).items())
        if views:
            self.changed = True
            view, shown = views[table % len(views)]
            name = [*shown.columns][column % len(shown.columns)]
            relation, mine = self.world.relation(schema, view), f"mine_{next(self.numbers)}"
            owner, what = KINDS[kind]
            self.world.warehouse.run(
                f"{owner} CREATE {what} people.{mine} AS SELECT count(*) AS rows, count({quoted(name)}) AS filled "
                f"FROM {relation}; RESET ROLE; GRANT SELECT ON {relation} TO pg_monitor")
            self.people[mine] = schema, view, name, kind
