"""Steps in which a process is killed, or something is lost or damaged."""

from __future__ import annotations

import itertools
from dataclasses import replace

import invariants
from hypothesis import strategies as st
from model import placed
from step_loads import Loads
from steps import days, outcomes, places, schemas, sources, step
from world import POSTGRES, TAPS, Ended


class Accidents(Loads):
    """What goes wrong, and how it is healed."""

    @step(source=sources, day=days, late=st.booleans(), at=st.integers(0, 40))
    def kill_an_extract(self, source, day, late, at):
        """At a boundary of tap or target; then the next ordinary run heals."""
        source = self.known(source)
        day, program = self.day(day), "landing-target-csv" if late else TAPS[source]
        before, expected = self.world.manifests().get((source, day)), self.expect(source, day)
        run = self.extract(source, day, self._fault(program, at), reextract=True)
        ended = run.end()
        self._mind_the_kill(ended, (source, day))
        if self.world.manifests().get((source, day)) != before:
            self.note_landed(source, day, expected)
        elif not ended.status:
            raise AssertionError(f"a run that landed nothing ended well: {ended.text}")
        self.check()
        self.landed(source, day, self.extract(source, day, reextract=True).end(), expected, reextract=True)

    @step(number=places, schema=schemas, late=st.sampled_from([True, True, True, False]), at=st.integers(0, 120),
          reload=st.booleans())
    def kill_a_load(self, number, schema, late, at, reload):
        day, program = self.a_whole_date(number), "landing-target-postgres" if late else "landing-tap-csv"
        takes = self.wanted(day, ())
        may = self.conflicts(schema, takes or {})
        self._mind_the_kill(self.load_run(day, schema, reload=reload, fault=self._fault(program, at)).end())
        state = self.model.schema(schema)
        after = replace(state, loaded=state.loaded | {(source, day): take for source, take in (takes or {}).items()})
        if self.world.ledger(schema) != state.ledger():
            invariants.same(self.world.ledger(schema), after.ledger(), "the ledger, neither as before the kill nor")
            self.model.schemas[schema] = after
        self.check()
        self.loaded(day, schema, self.load_run(day, schema).end(), takes, may)

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

    @step(number=places, schema=schemas, table=places, how=st.sampled_from(["rows", "partition"]))
    def lose(self, number, schema, table, how):
        """By hand, in the warehouse: the proof tells, a load brings a partition back, and RELOAD rows."""
        days = self.model.schema(schema).days(POSTGRES)
        day = days[number % len(days)] if days else ""
        takes = self.wanted(day, ()) if days else None
        if not takes or self.conflicts(schema, takes) or any(
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
            self.load_and_note(day, schema, reload=how == "rows")

    @step(number=places, source=sources, file=places)
    def damage(self, number, source, file):
        """A landed file, or one that it stands on: it is not loaded, nor is anything else of its date."""
        source = self.known(source)
        day = self.a_whole_date(number)
        if self.wanted(day, ()) is None or (source, day) not in self.model.landed:
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
        ended = self.load_run(day, "public", reload=True).end()
        assert ended.status, f"a damaged file was loaded:\n{ended.text}"
        self.refused(ended, may=True)
        self.world.zone.write(key, content)
