"""The state machine: random sequences of what people do with sources, landing zone and warehouse, checked at each step.

A rule does one thing with the world, and notes in the model what has to come of it. Where the product may refuse (types
that do not widen, views of a person's in the way), it may, and then has to leave all as it was and say why. See
invariants.py for what holds after each step, and soak.py for long runs.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import invariants
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import Model, Schema, Table, Take, history_name, must_widen, placed
from world import CHECKS, CRM, CSV, ENTITIES, LARGEST, POSTGRES, SOURCES, TAPS, Ended, Run, World

DAYS = ["2024-01-20", "2024-01-21", "2024-01-22", "2024-02-29", "today"]
SCHEMAS = ["public", "mart"]
NAMES = ["a", "b", "c", "extracted_at", "Größe"]

# Types, with values as text.
VALUES = {
    "smallint": ["0", "7", "-32768"],
    "integer": ["1", "42", "2147483647"],
    "bigint": ["5", "9007199254740993"],
    "numeric": ["1.50", "0", "-0.001"],
    "numeric(7,2)": ["10.25", "99999.99"],
    "numeric(10,2)": ["10.20", "12345678.90"],
    "numeric(12,4)": ["3.1416", "7.0000"],
    "real": ["0.1", "2.5", "16777216"],
    "double precision": ["0.1", "2.5", "1e+300"],
    "character varying(5)": ["", "abc", "yes"],
    "character varying(20)": ["", "a longer value"],
    "text": ["", "ten", "1", "'q', \"d\"", "two\nlines", "\\."],
    "date": ["2024-02-29", "0001-01-01"],
    "timestamp(0) without time zone": ["2024-01-20 10:00:00"],
    "timestamp without time zone": ["2024-01-20 10:00:00.123456"],
    "timestamp with time zone": ["2024-01-20 10:00:00.5+00"],
    "boolean": ["t", "f"],
    "integer[]": ["{1,NULL}", "{}"],
    "jsonb": ['{"a": [1, null]}'],
    "mood": ["sad", "glad"],
}
CSV_VALUES = [None, "", "1", "20", "007", "1.50", "ten", "n/a", "'yes'", 'a "b", c', "two\nlines", "9007199254740993",
              "2024-01-20", "\\."]

# Views that people build: the role that owns one, and what it is. The loader is no member of the others' role.
OTHERS, OWN, OTHERS_MATERIALIZED, OWN_MATERIALIZED = "others'", "own", "others', materialized", "own, materialized"
KINDS = {OTHERS: ("", "VIEW"), OTHERS_MATERIALIZED: ("", "MATERIALIZED VIEW"),
         OWN: ("SET ROLE warehouse_loader;", "VIEW"),
         OWN_MATERIALIZED: ("SET ROLE warehouse_loader;", "MATERIALIZED VIEW")}

databases = st.sampled_from([POSTGRES, CRM])
sources = st.sampled_from(SOURCES)
days = st.sampled_from(DAYS)
schemas = st.sampled_from(["public", "public", "mart"])
entities = st.sampled_from([*ENTITIES])
places = st.integers(0, 4)
counts = collections.Counter()  # steps of all examples in this process, by rule
outcomes = collections.Counter()


failures: list[str] = []  # as they came, for one that does not come again when Hypothesis repeats its steps


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Note a failure."""
    try:
        yield
    except AssertionError:
        failures.append(traceback.format_exc())
        raise


def step(**arguments: st.SearchStrategy) -> Callable:
    """A rule that is counted."""

    def decorate(function: Callable) -> Callable:
        @rule(**arguments)
        @functools.wraps(function)
        def counted(machine: Machine, **given: object) -> None:
            counts[function.__name__] += 1
            with noted():
                function(machine, **given)
        return counted

    return decorate


def change(**arguments: st.SearchStrategy) -> Callable:
    """A rule that changes a source and `then`, at times, takes and loads it: else most changes would go unseen."""

    def decorate(function: Callable) -> Callable:
        @step(**arguments, then=st.sampled_from(["nothing"] * 3 + ["next date", "same date"]))
        @functools.wraps(function)
        def followed(machine: Machine, then: str, **given: object) -> None:
            function(machine, **given)
            if then != "nothing":
                machine.take_and_load_one(given.get("source", CSV), again=then == "same date")

        return followed

    return decorate


class Machine(RuleBasedStateMachine):
    """One example: a project of its own. The one who runs it sets `server` and, for a landing zone in it, `store`."""

    server = store = None

    def __init__(self) -> None:
        super().__init__()
        folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.world, self.model = World(self.server, folder / "project", self.store), Model((POSTGRES, CSV))
        self.today = _today()
        outcomes["examples"] += 1
        self.changed = False  # by the last step: landing zone or warehouse
        self.saved: list[tuple[str, str, bool, Path, Take]] = []  # outputs of taps
        self.saved_loads: list[tuple[str, tuple[str, ...], Path, dict[str, Take]]] = []
        self.people: dict[str, tuple[str, str, str, str]] = {}  # schema, table, column and kind of what people built
        self.numbers = itertools.count()
        for source in (POSTGRES, CRM):
            self.world.change(source, "CREATE TYPE mood AS ENUM ('sad', 'glad');"
                              "CREATE TABLE t_0 (id integer PRIMARY KEY, a integer);"
                              "INSERT INTO t_0 VALUES (1, 10), (2, NULL)")

    @initialize(loaded=st.sampled_from([True, True, False]), sources=st.sampled_from([2, 3, 3]),
                by_key=st.sampled_from([None, 0, 1]), checked=st.sampled_from([False, False, True]))
    def begin(self, loaded, sources, by_key, checked):
        """Most examples begin with a date that is loaded and with INCREMENTAL tables, some with one database only."""
        self.world.by_key, self.world.checks = by_key, CHECKS if checked else {}
        if sources == 3:
            self.add_crm()
        if loaded:
            self._take_whole(DAYS[0])
            self._load_and_note(DAYS[0], SCHEMAS[0])

    def add_crm(self) -> None:
        if CRM not in self.model.declared:
            self.world.declare_crm()
            self.model.declared = SOURCES

    def _known(self, source: str) -> str:
        """The source, or another one while it is not declared."""
        return source if source in self.model.declared else POSTGRES

    def teardown(self) -> None:
        self.world.close()

    # Sources: the databases

    def _pick(self, source: str, table: int, column: int = 0) -> tuple[str, str] | None:
        """A table and a column of it, as SQL names them, or None."""
        names = table_names(self.world, source)
        if not names:
            return None
        name = names[table % len(names)]
        columns = list(self.world.tables(source)[name].columns)
        return _quoted(name), _quoted(columns[column % len(columns)])

    def _change(self, source: str, statement: str, *, table: int, column: int = 0, **names: str) -> None:
        if picked := self._pick(source, table, column):
            self.world.change(source, statement.format(t=picked[0], c=picked[1], **names))

    @change(source=databases, table=places, number=st.integers(0, 40), value=places)
    def insert(self, source, table, number, value):
        picked = self._pick(source, table)
        if picked:
            columns = self.world.tables(source)[picked[0].strip('"')].columns
            values = [str(number) if name == "id" else _value(type_, value + place)
                      for place, (name, type_) in enumerate(columns.items())]
            literals = ", ".join("NULL" if one is None else "'" + one.replace("'", "''") + "'" for one in values)
            self.world.change(source, f"INSERT INTO {picked[0]} VALUES ({literals})")

    @change(source=databases, table=places, column=places)
    def update(self, source, table, column):
        self._change(source, "UPDATE {t} SET {c} = NULL WHERE ctid = (SELECT max(ctid) FROM {t})", table=table,
                     column=column)

    @change(source=databases, table=places,
          how=st.sampled_from(["DELETE FROM {t} WHERE ctid = (SELECT min(ctid) FROM {t})", "TRUNCATE {t}"]))
    def delete(self, source, table, how):
        self._change(source, how, table=table)

    @change(source=databases, table=places, name=st.sampled_from(NAMES), type_=st.sampled_from([*VALUES]), value=places)
    def add_column(self, source, table, name, type_, value):
        default = (VALUES[type_] + [None])[value % (len(VALUES[type_]) + 1)]
        default = "NULL" if default is None else "'" + default.replace("'", "''").replace("{", "{{").replace(
            "}", "}}") + "'"
        self._change(source, f'ALTER TABLE {{t}} ADD COLUMN "{name}" {type_} DEFAULT {default}', table=table)

    @change(source=databases, table=places, column=places)
    def drop_column(self, source, table, column):
        picked = self._pick(source, table, column)
        if picked and len(self.world.tables(source)[picked[0].strip('"')].columns) > 1:
            self._change(source, "ALTER TABLE {t} DROP COLUMN {c} CASCADE", table=table, column=column)

    @change(source=databases, table=places, column=places, name=st.sampled_from(NAMES))
    def rename_column(self, source, table, column, name):
        self._change(source, f'ALTER TABLE {{t}} RENAME COLUMN {{c}} TO "{name}"', table=table, column=column)

    @change(source=databases, table=places, turn=st.integers(1, 3))
    def reorder_columns(self, source, table, turn):
        """By a table that takes the place of the old one."""
        if picked := self._pick(source, table):
            before = self.world.tables(source)[picked[0].strip('"')]
            columns = [*map(_quoted, before.columns)]
            turn %= len(columns)
            key = f"; ALTER TABLE {picked[0]} ADD PRIMARY KEY ({', '.join(map(_quoted, before.key))})"
            self.world.change(
                source, f"CREATE TABLE other AS SELECT {', '.join(columns[turn:] + columns[:turn])} FROM {picked[0]}; "
                f"DROP TABLE {picked[0]} CASCADE; ALTER TABLE other RENAME TO {picked[0]}{key if before.key else ''}")

    @change(source=databases, table=places, column=places, type_=st.sampled_from([*VALUES]))
    def alter_type(self, source, table, column, type_):
        self._change(source, f"ALTER TABLE {{t}} ALTER COLUMN {{c}} DROP DEFAULT, ALTER COLUMN {{c}} TYPE {type_} "
                     f"USING {{c}}::text::{type_}", table=table, column=column)

    @change(source=databases, table=places, column=places)
    def change_key(self, source, table, column):
        if picked := self._pick(source, table, column):
            constraint = self.world.sources[source].run(
                "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'", picked[0])
            drop = f"DROP CONSTRAINT {_quoted(constraint[0][0])}, " if constraint else ""
            if not self.world.change(source, f"ALTER TABLE {picked[0]} {drop}ADD PRIMARY KEY ({picked[1]})") and drop:
                self.world.change(source, f"ALTER TABLE {picked[0]} {drop.rstrip(', ')}")

    @change(source=databases, number=places, type_=st.sampled_from([*VALUES]))
    def create_table(self, source, number, type_):
        self.world.change(source, f"CREATE TABLE t_{number} (id integer PRIMARY KEY, a {type_})")

    @change(source=databases, table=places)
    def drop_table(self, source, table):
        if len(table_names(self.world, source)) > 1:  # a source without a table is refused
            self._change(source, "DROP TABLE {t} CASCADE", table=table)

    @change(source=databases, table=places, number=places)
    def rename_table(self, source, table, number):
        self._change(source, f"ALTER TABLE {{t}} RENAME TO t_{number}", table=table)

    @change(source=databases, table=places, kind=st.sampled_from(["VIEW", "MATERIALIZED VIEW"]))
    def create_view(self, source, table, kind):
        self._change(source, f"CREATE {kind} t_view AS SELECT * FROM {{t}} WHERE true", table=table)

    @change(source=databases, what=st.sampled_from(["DROP", "DROP MATERIALIZED", "REFRESH MATERIALIZED"]))
    def change_view(self, source, what):
        self.world.change(source, f"{what} VIEW t_view")

    # Sources: the CSV files

    @change(entity=entities, a=st.sampled_from(CSV_VALUES), b=st.sampled_from(CSV_VALUES))
    def csv_row(self, entity, a, b):
        header, rows = self.world.csv[entity]
        number = str(1 + max((int(row[header.index("id")]) for row in rows), default=0)) if "id" in header else a
        values = dict.fromkeys(header, b) | {"a": a, "id": number}
        rows.append([values[name] for name in header])
        self.world.write_csv(entity)

    @change(entity=entities, turn=st.integers(1, 3))
    def csv_reorder(self, entity, turn):
        header, rows = self.world.csv[entity]
        turn %= len(header)
        self.world.csv[entity] = header[turn:] + header[:turn], [row[turn:] + row[:turn] for row in rows]
        self.world.write_csv(entity)

    @change(entity=entities, name=st.sampled_from(NAMES), value=st.sampled_from(CSV_VALUES))
    def csv_column(self, entity, name, value):
        """Comes, or goes if it is there."""
        header, rows = self.world.csv[entity]
        if name in header:
            place = header.index(name)
            for row in [header, *rows]:
                del row[place]
        else:
            header.append(name)
            for row in rows:
                row.append(value)
        self.world.write_csv(entity)

    @change(entity=entities, column=places, value=st.sampled_from([*CSV_VALUES, *["no rows"] * 3]))
    def csv_fill(self, entity, column, value):
        """Every value of a column: it becomes empty, a number, a text; or all rows go."""
        header, rows = self.world.csv[entity]
        if value == "no rows":
            rows.clear()
        elif header[column % len(header)] != "id":
            for row in rows:
                row[column % len(header)] = value
        self.world.write_csv(entity)

    @precondition(lambda self: CRM not in self.model.declared)
    @step()
    def add_a_source(self):
        """The second database: older dates stay complete without it."""
        self.add_crm()

    # Runs: extracts

    def _day(self, day: str) -> str:
        return self.today if day == "today" else day

    def _extract(self, source: str, day: str, fault: str = "", **settings: object) -> Run:
        self.changed = True
        reextract = {"REEXTRACT": "true"} if settings.pop("reextract", False) else {}
        return Run(self.world, self.world.tap(source, **settings), self.world.target_csv(source),
                   {"DATESTAMP": day, **reextract, **({"FAULT": fault} if fault else {})})

    def _landed(
        self, source: str, day: str, ended: Ended, *, reextract: bool = False, take: Take | None = None
    ) -> bool:
        """What an extract has to have done; whether it landed the date."""
        kept = not reextract and self.model.frozen(source, day, self.today)
        if ended.status:
            assert not kept or take, f"{source} of {day} is kept, and the run failed: {ended.text}"
            self._refused(ended, may_be_refused(self.world, source))
            return False
        if not kept:
            self._note_landed(source, day, take or Take(self.world.tables(source)))
            if self.world.zone.locks:
                self.model.leftovers.discard((source, day))
        outcomes["kept" if kept else "landed"] += 1
        return not kept

    def _note_landed(self, source: str, day: str, take: Take) -> None:
        manifest = self.world.manifests().get((source, day))
        assert manifest, f"{source} of {day}: the run ended well, and the date is not landed"
        types = {table["name"]: {column["name"]: column["type"] for column in table["columns"]}
                 for table in manifest["tables"]}
        tables = {name: table.typed(types.get(name, {})) if source == CSV and name in types else table
                  for name, table in take.tables.items()}
        declared = self.model.to_record(source, day, self.today)
        bases = {table["name"]: (one["base"], one["base_run_id"]) for table in manifest["tables"]
                 if (one := table.get("increment"))}
        outcomes["increments"] += len(bases)
        self.model.landed[source, day] = landed = Take(tables, manifest["run_id"], declared, bases)
        assert self.model.whole(source, landed), f"{source} of {day} stands on what is not landed: {bases}"

    def _refused(self, ended: Ended, may: bool) -> None:
        outcomes["refused"] += 1
        assert "Traceback" not in ended.text, ended.text
        assert may, f"a run failed that has to end well:\n{ended.text}"
        assert ended.text.strip(), "a run failed without a word"

    @step(source=sources, day=days, reextract=st.booleans(), connections=st.sampled_from([1, 2]),
          batch=st.sampled_from([True, True, False]), compression=st.sampled_from(["none", "gzip"]))
    def take(self, source, day, reextract, connections, batch, compression):
        source = self._known(source)
        day, settings = self._day(day), {"use_batch": batch, "compression": compression}
        settings |= {} if source == CSV else {"connections": connections}
        run = self._extract(source, day, reextract=reextract, **settings)
        self._landed(source, day, run.end(), reextract=reextract)

    @step(day=days)
    def take_whole_date(self, day):
        self._take_whole(self._day(day))

    def _take_whole(self, day: str, some: tuple[str, ...] = ()) -> None:
        """All sources: at once where the order does not decide which sources the manifests record."""
        some = some or self.model.declared
        if day >= self.today or all((source, day) in self.model.landed for source in some):
            runs = [(source, self._extract(source, day, reextract=True)) for source in some]
        else:
            runs = ((source, self._extract(source, day, reextract=True)) for source in some)
        for source, run in runs:
            self._landed(source, day, run.end(), reextract=True)

    @step(number=places, then=st.sampled_from(["load", "take later dates again"]))
    def take_a_base_again(self, number, then):
        """What stands on it is refused, until it is taken again in order."""
        for _ in () if self.model.bases() else range(2):
            self._take_whole(self._next(POSTGRES), (POSTGRES,))
        if not (bases := sorted(self.model.bases())):
            return
        source, day = bases[number % len(bases)]
        self._take_whole(day, (source,))
        for later in sorted(at for name, at in self.model.landed if name == source and at > day):
            if then != "load":
                self._take_whole(later, (source,))
            self._load_and_note(later, SCHEMAS[0], (source,))

    @step(source=sources, day=days, reextract=st.booleans(), many=st.sampled_from([2, 2, 2, 8]))
    def take_many_at_once(self, source, day, reextract, many):
        source = self._known(source)
        runs = [self._extract(source, self._day(day), reextract=reextract) for _ in range(many)]
        ended = [run.end() for run in runs]
        self._landed(source, self._day(day), min(ended, key=lambda one: one.status), reextract=reextract)
        may = may_be_refused(self.world, source)
        assert may or not any(one.status for one in ended), [one.text for one in ended]

    @step(source=sources, day=days, batch=st.booleans())
    def save_messages(self, source, day, batch):
        """Take a date, with the tap's output in a file in between."""
        source = self._known(source)
        day, path = self._day(day), self.world.folder / f"messages-{next(self.numbers)}"
        frozen = self.model.frozen(source, day, self.today)
        self.changed = True
        run = Run(self.world, self.world.tap(source, use_batch=batch), self.world.target_csv(source),
                  {"DATESTAMP": day}, path)
        if self._landed(source, day, run.end()):
            self.saved.append((source, day, batch, path, self.model.landed[source, day]))
        elif frozen and not batch:
            path.unlink()

    @step(number=places, reextract=st.booleans())
    def replay(self, number, reextract):
        """The same output of a tap once more. What came as files is used up."""
        if not self.saved:
            return
        source, day, batch, path, take = self.saved[number % len(self.saved)]
        self.changed = True
        variables = {"DATESTAMP": day, **({"REEXTRACT": "true"} if reextract else {})}
        ended = Run(self.world, None, self.world.target_csv(source), variables, path).end()
        kept = not reextract and self.model.frozen(source, day, self.today)
        broken = not self.model.whole(source, take)
        assert ended.status or kept or not broken, f"{source} of {day} stands on what is gone, and was landed again"
        if ended.status:
            self._refused(ended, batch or kept or broken)
        elif not kept:
            self._landed(source, day, ended, reextract=reextract, take=take)

    # Runs: loads

    def _load(self, day: str, schema: str, only: tuple[str, ...] = (), *, reload: bool = False, fault: str = "",
              messages: Path | None = None, batch: bool = True, connections: int = 2) -> Run:
        self.changed = True
        settings = {"sources": list(only)} if only else {}
        variables = {"EXTRACTED_AT": day, "SCHEMA": schema, **({"RELOAD": "true"} if reload else {}),
                     **({"FAULT": fault} if fault else {})}
        return Run(self.world, self.world.tap_landed(use_batch=batch, **settings),
                   self.world.target_postgres(connections=connections), variables, messages)

    def _whole(self, number: int, only: tuple[str, ...] = ()) -> str:
        """A date of which these sources are landed; one of which they are not, where there is none."""
        days = [day for day in map(self._day, DAYS) if self._wanted(day, only)]
        return days[number % len(days)] if days else self._day(DAYS[number])

    def _wanted(self, day: str, only: tuple[str, ...]) -> dict[str, Take] | None:
        """What a load takes; None where a source is not landed, or stands on what is not."""
        takes = {source: self.model.landed.get((source, day)) for source in only or self.model.needed(day, self.today)}
        return takes if all(take and self.model.whole(source, take) for source, take in takes.items()) else None

    def _conflicts(self, schema: str, takes: dict[str, Take]) -> list[str]:
        """Why a load may be refused."""
        history = self.world.history(schema)
        found = [f"{name}.{column}: {have} and {type_}" for source, take in takes.items()
                 for name, table in placed(source, take).items() if name in history
                 for column, type_ in table.columns.items()
                 if (have := history[name].columns.get(history_name(column))) and not must_widen(have, type_)]
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

    def _loaded(self, day: str, schema: str, ended: Ended, takes: dict[str, Take] | None, may: list[str]) -> None:
        """What a load has to have done."""
        if takes is None:
            assert ended.status, f"a load of {day} ended well, and a source is not landed:\n{ended.text}"
        blocked = self.world.checks and breaks_checks(takes or {})
        if blocked:
            outcomes["blocked"] += 1
            assert ended.status, f"checks of {day} do not hold, and it was loaded:\n{ended.text}"
            assert may or "Checks of" in ended.text, ended.text
        if ended.status:
            self._refused(ended, takes is None or bool(may or blocked))
            return
        outcomes["loaded"] += 1
        for source, take in takes.items():
            self.model.schema(schema).load(source, day, take)

    @step(number=places, schema=schemas, only=st.sampled_from([(), (), (), (POSTGRES,), (CSV,), (POSTGRES, CSV)]),
          reload=st.booleans(), batch=st.sampled_from([True, True, False]), connections=st.sampled_from([1, 2]))
    def load(self, number, schema, only, reload, batch, connections):
        day = self._whole(number, only)
        self._load_and_note(day, schema, only, reload=reload, batch=batch, connections=connections)

    def _load_and_note(self, day: str, schema: str, only: tuple[str, ...] = (), **how: object) -> None:
        takes = self._wanted(day, only)
        may = self._conflicts(schema, takes or {})
        ended = self._load(day, schema, only, **how).end()
        broken = not takes and all((source, day) in self.model.landed
                                   for source in only or self.model.needed(day, self.today))
        assert not broken or "stands on" in ended.text, f"{day} stands on what is gone:\n{ended.text}"
        outcomes["broken"] += broken
        self._loaded(day, schema, ended, takes, may)

    @step(day=days, schema=schemas, only=st.sampled_from([(), (), (), (POSTGRES,), (CSV,)]))
    def take_and_load(self, day, schema, only):
        """A day of work."""
        self._take_whole(self._day(day), only)
        self._load_and_note(self._day(day), schema, only)

    def _next(self, *some: str) -> str:
        """The date after the newest that is landed."""
        landed = max((day for source, day in self.model.landed if source in some), default="")
        return next((day for day in map(self._day, DAYS) if day > landed), self.today)

    def take_and_load_one(self, source: str, *, again: bool) -> None:
        """A source for its next date, or for its newest once more."""
        source = self._known(source)
        newest = max((day for name, day in self.model.landed if name == source), default="")
        day = newest if again and newest else self._next(source)
        self._take_whole(day, (source,))
        self._load_and_note(day, SCHEMAS[0], (source,))

    @step(schema=schemas)
    def next_date(self, schema):
        """What happens every day."""
        day = self._next(*self.model.declared)
        self._take_whole(day)
        self._load_and_note(day, schema)

    @step(schema=schemas)
    def newest_date_again(self, schema):
        day = max((day for _, day in self.model.landed), default=DAYS[0])
        self._take_whole(day)
        self._load_and_note(day, schema)

    @step(schema=schemas, backwards=st.booleans())
    def load_all(self, schema, backwards):
        """Every date that is landed."""
        for day in sorted({day for _, day in self.model.landed}, reverse=backwards):
            self._load_and_note(day, schema)

    @step(one=places, other=places, schema=schemas)
    def load_twice_at_once(self, one, other, schema):
        pair = [self._whole(one), self._whole(other)]
        takes = [self._wanted(day, ()) for day in pair]
        may = [why for some in takes for why in self._conflicts(schema, some or {})]
        both = [table for some in takes if some for source, take in some.items()
                for table in placed(source, take).items()]
        may += [f"{name}: {a} and {b}" for (name, x), (again, y) in itertools.combinations(both, 2) if name == again
                for column, a in x.columns.items() if (b := y.columns.get(column)) and not must_widen(a, b)]
        runs = [self._load(day, schema) for day in pair]
        for day, run, some in zip(pair, runs, takes, strict=True):
            self._loaded(day, schema, run.end(), some, may)

    @step(number=places, batch=st.booleans())
    def save_load(self, number, batch):
        """Load a date, with the tap's output in a file in between."""
        day, path = self._whole(number), self.world.folder / f"messages-{next(self.numbers)}"
        takes = self._wanted(day, ())
        may = self._conflicts("public", takes or {})
        self._loaded(day, "public", self._load(day, "public", messages=path, batch=batch).end(), takes, may)
        if takes:
            self.saved_loads.append((day, batch, path, takes))

    @step(number=places, schema=schemas)
    def replay_load(self, number, schema):
        """The date as it was then; where it came as files that are gone, it is refused."""
        if not self.saved_loads:
            return
        day, batch, path, takes = self.saved_loads[number % len(self.saved_loads)]
        self.changed = True
        may = self._conflicts(schema, takes)
        if batch and any(self.model.landed.get((source, day)) != take for source, take in takes.items()):
            may.append("the files are gone")
        ended = Run(self.world, None, self.world.target_postgres(), {"EXTRACTED_AT": day, "SCHEMA": schema}, path).end()
        self._loaded(day, schema, ended, takes, may)

    # Kills

    @step(source=sources, day=days, late=st.booleans(), at=st.integers(0, 40))
    def kill_an_extract(self, source, day, late, at):
        """At a boundary of tap or target; then the next ordinary run heals."""
        source = self._known(source)
        day, program = self._day(day), "landing-target-csv" if late else TAPS[source]
        before = self.world.manifests().get((source, day))
        run = self._extract(source, day, self._fault(program, at), reextract=True)
        ended = run.end()
        self._mind_the_kill(ended, (source, day))
        if self.world.manifests().get((source, day)) != before:
            self._note_landed(source, day, Take(self.world.tables(source)))
        elif not ended.status:
            raise AssertionError(f"a run that landed nothing ended well: {ended.text}")
        self.check()
        self._landed(source, day, self._extract(source, day, reextract=True).end(), reextract=True)

    @step(number=places, schema=schemas, late=st.sampled_from([True, True, True, False]), at=st.integers(0, 120),
          reload=st.booleans())
    def kill_a_load(self, number, schema, late, at, reload):
        day, program = self._whole(number), "landing-target-postgres" if late else "landing-tap-csv"
        takes = self._wanted(day, ())
        may = self._conflicts(schema, takes or {})
        self._mind_the_kill(self._load(day, schema, reload=reload, fault=self._fault(program, at)).end())
        state = self.model.schema(schema)
        after = replace(state, loaded=state.loaded | {(source, day): take for source, take in (takes or {}).items()})
        if self.world.ledger(schema) != state.ledger():
            invariants.same(self.world.ledger(schema), after.ledger(), "the ledger, neither as before the kill nor")
            self.model.schemas[schema] = after
        self.check()
        self._loaded(day, schema, self._load(day, schema).end(), takes, may)

    def _fault(self, program: str, at: int) -> str:
        log = self.world.folder / "fired.jsonl"
        log.unlink(missing_ok=True)
        return f'{{"in": "{program}", "log": "{log}", "at": {at}, "kill": "self"}}'

    def _mind_the_kill(self, ended: Ended, where: tuple[str, str] | None = None) -> None:
        if (self.world.folder / "fired.jsonl").exists():
            outcomes["killed"] += 1
            self.world.await_quiet()
            self.model.killed = True
            if where:
                self.model.leftovers.add(where)
        else:
            assert "Traceback" not in ended.text, ended.text

    # Commands, people, accidents

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
        day, schema = self._day(day), self.model.schemas.get("public", Schema())
        ended = self.world.project.landing("verify", day, check=False)
        assert "Traceback" not in ended.text, ended.text
        needed = self.model.needed(day, self.today)
        pairs = [(self.model.landed.get((source, day)), schema.loaded.get((source, day))) for source in needed]
        if self._wanted(day, ()) is None or any(pair[1] is None or pair[0].tables != pair[1].tables for pair in pairs):
            assert ended.returncode, f"verify {day} ended well:\n{ended.text}"
        elif all(landed == loaded for landed, loaded in pairs):  # of equal rows the order may differ
            assert not ended.returncode, ended.text

    @step(number=places, schema=schemas, table=places, how=st.sampled_from(["rows", "partition"]))
    def lose(self, number, schema, table, how):
        """By hand, in the warehouse: the proof tells, a load brings a partition back, and RELOAD rows."""
        days = self.model.schema(schema).days(POSTGRES)
        day = days[number % len(days)] if days else ""
        takes = self._wanted(day, ()) if days else None
        if not takes or self._conflicts(schema, takes) or any(
                self.model.schema(schema).loaded.get((source, day)) != take for source, take in takes.items()):
            return  # a refusal would leave the loss
        partitions = [one for (name, at), one in sorted(self.world.partitions(schema).items()) if at == day and any(
            name in tables and (how == "partition" or tables[name].rows)
            for tables in itertools.starmap(placed, takes.items()))]
        if partitions:
            relation = partitions[table % len(partitions)]
            self.world.warehouse.run(f"DELETE FROM {relation}" if how == "rows" else f"DROP TABLE {relation}")
            ended = self.world.project.landing("verify", day, "--schema", schema, check=False)
            assert ended.returncode, f"{relation}: {how} lost, and verify says that all is well:\n{ended.text}"
            self._load_and_note(day, schema, reload=how == "rows")

    @step(number=places, source=sources, file=places)
    def damage(self, number, source, file):
        """A landed file, or one that it stands on: it is not loaded, nor is anything else of its date."""
        source = self._known(source)
        day = self._whole(number)
        if self._wanted(day, ()) is None or (source, day) not in self.model.landed:
            return
        manifests = self.world.manifests()
        listed = [(at, one["path"]) for name in self.model.landed[source, day].tables
                  for at, table in invariants.chain(manifests, source, day, name) for one in table["files"]]
        if not listed:
            return
        at, path = listed[file % len(listed)]
        key = self.world.files()[source, at][path]
        content = self.world.zone.read(key)
        self.world.zone.write(key, content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        ended = self._load(day, "public", reload=True).end()
        assert ended.status, f"a damaged file was loaded:\n{ended.text}"
        self._refused(ended, may=True)
        self.world.zone.write(key, content)

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
                f"{owner} CREATE {what} people.{mine} AS SELECT count(*) AS rows, count({_quoted(name)}) AS filled "
                f"FROM {relation}; RESET ROLE; GRANT SELECT ON {relation} TO pg_monitor")
            self.people[mine] = schema, view, name, kind

    # After each step

    @invariant()
    def holds(self) -> None:
        with noted():
            self.check()

    def check(self) -> None:
        if _today() != self.today:
            reject()  # the model's today is over
        if not self.changed:
            return
        self.changed = False
        invariants.landing_zone(self.world, self.model)
        invariants.warehouse(self.world, self.model)
        invariants.people(self.world, self.model, self.people)
        invariants.proofs(self.world, self.model)


def may_be_refused(world: World, source: str) -> bool:
    """Whether an extract may: a database without tables, an entity without its key, with a key twice or without one."""
    if source != CSV:
        return not world.tables(source)
    for name, keys in ENTITIES.items():
        header, rows = world.csv[name]
        if not {*keys} <= {*header}:
            return True
        values = [tuple(row[header.index(key)] for key in keys) for row in rows] if keys else []
        if len({*values}) != len(values) or any(None in value for value in values):
            return True
    return False


def breaks_checks(takes: dict[str, Take]) -> bool:
    """Whether what a load takes breaks CHECKS."""
    items = takes[CSV].tables["items"] if CSV in takes else None
    return items is not None and (not items.rows or any(
        int(row[list(items.columns).index("id")]) > LARGEST for row in items.rows))


def table_names(world: World, source: str) -> list[str]:
    """Names of the tables of a database."""
    return [name for name, in world.sources[source].run(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]


def _value(type_: str, place: int) -> str | None:
    values = [*VALUES.get(type_, ["x"]), None]
    return values[place % len(values)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
