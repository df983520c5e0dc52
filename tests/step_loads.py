"""Steps that load, and what they have to have done."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from model import Table, Take, history_name, must_widen, placed
from step_extracts import Extracts
from steps import DAYS, SCHEMAS, days, outcomes, places, schemas, step
from world import CSV, LARGEST, OWN, POSTGRES, Ended, Run


class Loads(Extracts):
    """Runs of tap-landing with target-postgres."""

    def load_run(self, day: str, schema: str, only: tuple[str, ...] = (), *, reload: bool = False, fault: str = "",
                 messages: Path | None = None, batch: bool = True, connections: int = 2) -> Run:
        """A load at work."""
        self.changed = True
        settings = {"sources": list(only)} if only else {}
        variables = {"EXTRACTED_AT": day, "SCHEMA": schema, **({"RELOAD": "true"} if reload else {}),
                     **({"FAULT": fault} if fault else {})}
        return Run(self.world, self.world.tap_landed(use_batch=batch, **settings),
                   self.world.target_postgres(connections=connections), variables, messages)

    def a_whole_date(self, number: int, only: tuple[str, ...] = ()) -> str:
        """A date of which these sources are landed; one of which they are not, where there is none."""
        days = [day for day in map(self.day, DAYS) if self.wanted(day, only)]
        return days[number % len(days)] if days else self.day(DAYS[number])

    def wanted(self, day: str, only: tuple[str, ...]) -> dict[str, Take] | None:
        """What a load takes; None where a source is not landed, or stands on what is not."""
        takes = {source: self.model.landed.get((source, day)) for source in only or self.model.needed(day, self.today)}
        return takes if all(take and self.model.whole(source, take) for source, take in takes.items()) else None

    def conflicts(self, schema: str, takes: dict[str, Take]) -> list[str]:
        """Why a load may be refused."""
        history = self.world.history(schema)
        found = [f"{name}.{column}: {have} and {type_}" for source, take in takes.items()
                 for name, table in placed(source, take).items() if name in history
                 for column, type_ in table.columns.items()
                 if (have := history[name].columns.get(history_name(column))) and not must_widen(have, type_)]
        found += [why for take in takes.values() for why in take.clashes]
        return found + [why for source, take in takes.items()
                        for why in self._in_the_way(schema, placed(source, take), history)]

    def _in_the_way(self, schema: str, tables: dict[str, Table], history: dict) -> list[str]:
        """What people built that cannot stay: on a column that goes or, unless it is the loader's own view, changes."""
        found = []
        for name, (where, table, column, kind) in self.people.items():
            if where == schema and table in tables:
                new, old = tables[table].columns.get(column), history[table].columns.get(history_name(column))
                if new is None or (kind != OWN and new != old):
                    found.append(f"{name} is built on {column} of {table}")
        return found

    def loaded(self, day: str, schema: str, ended: Ended, takes: dict[str, Take] | None, may: list[str]) -> None:
        """What a load has to have done."""
        if takes is None:
            assert ended.status, f"a load of {day} ended well, and a source is not landed:\n{ended.text}"
        blocked = self.world.checks and breaks_checks(takes or {})
        if blocked:
            outcomes["blocked"] += 1
            assert ended.status, f"checks of {day} do not hold, and it was loaded:\n{ended.text}"
            assert may or "Checks of" in ended.text, ended.text
        if ended.status:
            self.refused(ended, may=takes is None or bool(may or blocked))
            return
        outcomes["loaded"] += 1
        for source, take in takes.items():
            self.model.schema(schema).load(source, day, take)

    @step(number=places, schema=schemas, only=st.sampled_from([(), (), (), (POSTGRES,), (CSV,), (POSTGRES, CSV)]),
          reload=st.booleans(), batch=st.sampled_from([True, True, False]), connections=st.sampled_from([1, 2]))
    def load(self, number, schema, only, reload, batch, connections):
        day = self.a_whole_date(number, only)
        self.load_and_note(day, schema, only, reload=reload, batch=batch, connections=connections)

    def load_and_note(self, day: str, schema: str, only: tuple[str, ...] = (), **how: object) -> None:
        """Load a date, and note what came of it."""
        takes = self.wanted(day, only)
        may = self.conflicts(schema, takes or {})
        ended = self.load_run(day, schema, only, **how).end()
        broken = not takes and all((source, day) in self.model.landed
                                   for source in only or self.model.needed(day, self.today))
        assert not broken or "stands on" in ended.text, f"{day} stands on what is gone:\n{ended.text}"
        outcomes["broken"] += broken
        self.loaded(day, schema, ended, takes, may)

    @step(day=days, schema=schemas, only=st.sampled_from([(), (), (), (POSTGRES,), (CSV,)]))
    def take_and_load(self, day, schema, only):
        """A day of work."""
        self.take_whole(self.day(day), only)
        self.load_and_note(self.day(day), schema, only)

    def take_and_load_one(self, source: str, *, again: bool) -> None:
        """A source for its next date, or for its newest once more."""
        source = self.known(source)
        newest = max((day for name, day in self.model.landed if name == source), default="")
        day = newest if again and newest else self.next_day(source)
        self.take_whole(day, (source,))
        self.load_and_note(day, SCHEMAS[0], (source,))

    @step(schema=schemas)
    def next_date(self, schema):
        """What happens every day."""
        day = self.next_day(*self.model.declared)
        self.take_whole(day)
        self.load_and_note(day, schema)

    @step(schema=schemas)
    def newest_date_again(self, schema):
        day = max((day for _, day in self.model.landed), default=DAYS[0])
        self.take_whole(day)
        self.load_and_note(day, schema)

    @step(schema=schemas, backwards=st.booleans())
    def load_all(self, schema, backwards):
        """Every date that is landed."""
        for day in sorted({day for _, day in self.model.landed}, reverse=backwards):
            self.load_and_note(day, schema)

    @step(one=places, other=places, schema=schemas)
    def load_twice_at_once(self, one, other, schema):
        pair = [self.a_whole_date(one), self.a_whole_date(other)]
        takes = [self.wanted(day, ()) for day in pair]
        may = [why for some in takes for why in self.conflicts(schema, some or {})]
        both = [table for some in takes if some for source, take in some.items()
                for table in placed(source, take).items()]
        may += [f"{name}: {a} and {b}" for (name, x), (again, y) in itertools.combinations(both, 2) if name == again
                for column, a in x.columns.items() if (b := y.columns.get(column)) and not must_widen(a, b)]
        runs = [self.load_run(day, schema) for day in pair]
        for day, run, some in zip(pair, runs, takes, strict=True):
            self.loaded(day, schema, run.end(), some, may)

    @step(number=places, batch=st.booleans())
    def save_load(self, number, batch):
        """Load a date, with the tap's output in a file in between."""
        day, path = self.a_whole_date(number), self.world.folder / f"messages-{next(self.numbers)}"
        takes = self.wanted(day, ())
        may = self.conflicts("public", takes or {})
        self.loaded(day, "public", self.load_run(day, "public", messages=path, batch=batch).end(), takes, may)
        if takes:
            self.saved_loads.append((day, batch, path, takes))

    @step(number=places, schema=schemas)
    def replay_load(self, number, schema):
        """The date as it was then; where it came as files that are gone, it is refused."""
        if not self.saved_loads:
            return
        day, batch, path, takes = self.saved_loads[number % len(self.saved_loads)]
        self.changed = True
        may = self.conflicts(schema, takes)
        if batch and any(self.model.landed.get((source, day)) != take for source, take in takes.items()):
            may.append("the files are gone")
        ended = Run(self.world, None, self.world.target_postgres(), {"EXTRACTED_AT": day, "SCHEMA": schema}, path).end()
        self.loaded(day, schema, ended, takes, may)


def breaks_checks(takes: dict[str, Take]) -> bool:
    """Whether what a load takes breaks CHECKS."""
    items = takes[CSV].tables["items"] if CSV in takes else None
    return items is not None and (not items.rows or any(
        int(row[list(items.columns).index("id")]) > LARGEST for row in items.rows))


def change(**arguments: st.SearchStrategy) -> Callable:
    """A rule that changes a source and `then`, at times, takes and loads it: else most changes would go unseen."""

    def decorate(function: Callable) -> Callable:
        @step(**arguments, then=st.sampled_from(["nothing"] * 3 + ["next date", "same date"]))
        @functools.wraps(function)
        def followed(machine: Loads, then: str, **given: object) -> None:
            function(machine, **given)
            if then != "nothing":
                machine.take_and_load_one(given.get("source", CSV), again=then == "same date")

        return followed

    return decorate
