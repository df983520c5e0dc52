"""Steps that extract, and what they have to land."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from expectation import Expectation
from hypothesis import strategies as st
from model import Take
from steps import Steps, days, outcomes, places, sources, step
from world import CANARY, CSV, Ended, Run


class Extracts(Steps):
    """Runs of the two taps with target-csv."""

    def expect(self, source: str, day: str, *, batch: bool = True) -> Expectation:
        """What an extract has to land now."""
        return Expectation(self.world, self.model, source, day, batch=batch)

    def extract(self, source: str, day: str, fault: str = "", **settings: object) -> Run:
        """A run at work."""
        self.changed = True
        reextract = {"REEXTRACT": "true"} if settings.pop("reextract", False) else {}
        return Run(self.world, self.world.tap(source, **settings), self.world.target_csv(source),
                   {"DATESTAMP": day, **reextract, **({"FAULT": fault} if fault else {})})

    def landed(self, source: str, day: str, ended: Ended, expected: Expectation, *, reextract: bool = False) -> bool:
        """What an extract has to have done; whether it landed the date."""
        if not reextract and self.model.frozen(source, day, self.today):
            assert not ended.status, f"{source} of {day} is kept, and the run failed: {ended.text}"
            outcomes["kept"] += 1
            return False
        self.keeps_secrets(ended)
        if expected.refused or ended.status:
            outcomes["refused files"] += source == CSV
            assert ended.status, f"{source} of {day} was landed, and has to be refused: {expected.refused}"
            self.refused(ended, may=bool(expected.refused))
            return False
        self.note_landed(source, day, expected)
        if self.world.zone.locks:
            self.model.leftovers.discard((source, day))
        outcomes["landed"] += 1
        return True

    def note_landed(self, source: str, day: str, expected: Expectation) -> None:
        """Note what a run has landed by its manifest."""
        manifest = self.world.manifests().get((source, day))
        assert manifest, f"{source} of {day}: the run ended well, and the date is not landed"
        assert not expected.refused, f"{source} of {day} was landed, and has to be refused: {expected.refused}"
        self.note(source, day, manifest, expected.take(manifest))

    def note(self, source: str, day: str, manifest: dict, take: Take) -> None:
        """Note a take by its manifest."""
        declared = self.model.to_record(source, day, self.today)
        bases = {table["name"]: (one["base"], one["base_run_id"]) for table in manifest["tables"]
                 if (one := table.get("increment"))}
        assert source != CSV or bases == take.bases, f"{source} of {day} stands on {bases}, and not on {take.bases}"
        outcomes["appended" if source == CSV else "increments"] += len(bases)
        outcomes["rejected"] += sum(map(len, take.rejected.values()))
        outcomes["protected"] += any(way != "plain" for ways in take.ways.values() for way in ways.values())
        take = replace(take, run_id=manifest["run_id"], declared=declared, bases=bases)
        self.model.landed[source, day] = take
        assert self.model.whole(source, take), f"{source} of {day} stands on what is not landed: {bases}"

    def keeps_secrets(self, ended: Ended) -> None:
        """A run that protects columns says nothing of their values."""
        assert not self.world.protection.methods or CANARY not in ended.text, ended.text

    @step(source=sources, day=days, reextract=st.booleans(), connections=st.sampled_from([1, 2]),
          batch=st.sampled_from([True, True, False]), compression=st.sampled_from(["none", "gzip"]))
    def take(self, source, day, reextract, connections, batch, compression):
        source = self.known(source)
        day, settings = self.day(day), {"use_batch": batch, "compression": compression}
        settings |= {} if source == CSV else {"connections": connections}
        expected = self.expect(source, day, batch=batch)
        run = self.extract(source, day, reextract=reextract, **settings)
        self.landed(source, day, run.end(), expected, reextract=reextract)

    @step(day=days)
    def take_whole_date(self, day):
        self.take_whole(self.day(day))

    def take_whole(self, day: str, some: tuple[str, ...] = ()) -> None:
        """All sources: at once where the order does not decide which sources the manifests record."""
        some = some or self.model.declared
        if day >= self.today or all((source, day) in self.model.landed for source in some):
            runs = [(source, self.expect(source, day), self.extract(source, day, reextract=True)) for source in some]
        else:
            runs = ((source, self.expect(source, day), self.extract(source, day, reextract=True)) for source in some)
        for source, expected, run in runs:
            self.landed(source, day, run.end(), expected, reextract=True)

    @step(source=sources, day=days, reextract=st.booleans(), many=st.sampled_from([2, 2, 2, 8]))
    def take_many_at_once(self, source, day, reextract, many):
        source, day = self.known(source), self.day(day)
        expected = self.expect(source, day)
        runs = [self.extract(source, day, reextract=reextract) for _ in range(many)]
        ended = [run.end() for run in runs]
        self.landed(source, day, min(ended, key=lambda one: one.status), expected, reextract=reextract)
        assert expected.refused or not any(one.status for one in ended), [one.text for one in ended]

    @step(source=sources, day=days, batch=st.booleans())
    def save_messages(self, source, day, batch):
        """Take a date, with the tap's output in a file in between."""
        source = self.known(source)
        day, path = self.day(day), self.world.folder / f"messages-{next(self.numbers)}"
        frozen = self.model.frozen(source, day, self.today)
        self.changed = True
        expected = self.expect(source, day, batch=batch)
        run = Run(self.world, self.world.tap(source, use_batch=batch), self.world.target_csv(source),
                  {"DATESTAMP": day}, path)
        if self.landed(source, day, run.end(), expected):
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
        ended = self._replayed(source, day, path, reextract)
        kept = not reextract and self.model.frozen(source, day, self.today)
        broken = not self.model.whole(source, take)
        assert ended.status or kept or not broken, f"{source} of {day} stands on what is gone, and was landed again"
        if ended.status:
            self.refused(ended, may=batch or kept or broken)
        elif not kept:
            self.note(source, day, self.world.manifests()[source, day], take)
            if self.world.zone.locks:
                self.model.leftovers.discard((source, day))

    def _replayed(self, source: str, day: str, path: Path, reextract: bool) -> Ended:
        variables = {"DATESTAMP": day, **({"REEXTRACT": "true"} if reextract else {})}
        return Run(self.world, None, self.world.target_csv(source), variables, path).end()
