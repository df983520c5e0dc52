"""A disk that loses its power at any moment has each date as before or as after, and as after once that was told.

power.py says what such a disk keeps. Steps are recorded of the real target, `gc` and `drop`, in this process.
"""

import hashlib
import json
import shutil
from collections import Counter
from datetime import date

import pytest
from in_process import TargetRun, encoded, schema, serverless, state
from landing.core.dates import now
from landing.core.errors import LandingError
from landing.model.naming import new_run_id
from landing.storage import hashing, local
from landing.storage.local import sync
from landing.zone import layout
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.landing_zone import MANIFEST, LandingZone
from landing.zone.removal import remove
from landing.zone.target import TargetCSV
from power import ABSENT, Disk, LostError, recorded

DAY, OTHER = "2024-03-05", "2024-03-06"


class Zone:
    """A landing zone in a folder that is recorded, and what a crash at each step would leave of a date."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "some" / "where"
        self.zone = LandingZone.at(self.root)
        self.steps = []

    def partition(self, day=DAY, source="own"):
        return self.root / layout.partition(source, date.fromisoformat(day))

    def send(self, day=DAY, tables=("a", "b"), rows=3, source="own", **settings):
        """As a tap does: files in staging, of the first table two and its bad rows; then target-csv. Its run id."""
        run = new_run_id()
        messages, streams = [], {}
        for number, name in enumerate(tables):
            start = schema(name, {"id": {"type": "integer", "x-sql-datatype": "integer"}})
            metadata = start["schema"]["x-landing"] = {"source": source, "schema": None, "table": name}
            chunks = [self._file(run, f"{name}-{n}.csv", f"id\n{rows * n}\n{rows * n + 1}\n", 2)
                      for n in range(1 if number else 2)]
            if not number:
                metadata["quarantine"] = self._file(run, f"{name}.jsonl", "{}\n", 1)
            messages += [start, {"type": "BATCH", "stream": name, "encoding": {"format": "csv"}, "manifest": [
                (self.zone.staging(run) / chunk["path"]).url for chunk in chunks]}]
            streams[name] = {"rows": 2 * len(chunks), "files": chunks}
        proof = {"run_id": run, "source": source, "streams": streams, "extracted_at": day, "kept": False,
                 "left_out": {}, "started_at": now().isoformat()}
        target = TargetCSV(config={"datestamp": day, **settings})
        heard = TargetRun(target, encoded([*messages, state(landing=proof)]))
        if heard.refusal:
            raise LandingError(heard.refusal)
        return target.run_id

    def _file(self, run, name, text, rows):
        with hashing.create(self.zone.staging(run) / name) as file:
            file.write(text.encode())
        return {"path": name, "rows": rows, "bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def during(self, change):
        """Record a change, and give back a check of it."""
        shutil.rmtree(self.folder / "before", ignore_errors=True)
        before = Disk(self.folder)
        with recorded(self.folder) as self.steps:
            result = change()
        return before, result

    def outcomes(self, before, steps, partition):
        """What a date may be after a crash behind each step; LostError with the steps before it."""
        for number, step in enumerate(steps):
            before.apply(step)
            try:
                yield before.outcomes(partition)
            except LostError as error:
                raise LostError(f"{error} after step {number}: {step.what} {step.path}") from None


@pytest.fixture
def made(tmp_path, monkeypatch):
    with serverless(tmp_path, DAY):
        monkeypatch.setenv("REEXTRACT", "true")
        monkeypatch.setenv("ALLOW_FEWER_TABLES", "true")
        monkeypatch.setenv("LANDING_ROOT", str(tmp_path / "disk/some/where"))
        (tmp_path / "disk").mkdir()
        yield Zone(tmp_path / "disk")


def holds(made, change, old, *, new=None, day=DAY, source="own"):
    """At each step the date is the old or the new one, and at the end the new; and others are as they were."""
    others = {path for path in made.root.glob("source=*/extracted_at=*") if path != made.partition(day, source)}
    kept = {path: json.loads((path / MANIFEST).read_text())["run_id"] for path in others}
    start, result = made.during(change)
    new, last = new or result, None
    for last in made.outcomes(start, made.steps, made.partition(day, source)):
        assert last <= {old, new}
        assert {path: start.outcomes(path) for path in others} == {path: {run} for path, run in kept.items()}
    assert last == {new}, "it was said to be done"
    return result


def test_the_first_date_of_a_new_landing_zone_is_there_or_not(made):
    holds(made, made.send, ABSENT)
    holds(made, lambda: made.send(OTHER), ABSENT, day=OTHER)
    holds(made, lambda: made.send(source="more"), ABSENT, source="more")


def test_a_date_that_is_taken_again_is_the_old_one_or_the_new_one(made):
    first = made.send()
    made.send(OTHER)
    second = holds(made, lambda: made.send(rows=7, tables=("a", "b", "c")), first)
    third = holds(made, lambda: made.send(tables=("b",)), second)
    assert [path.name for path in made.partition().glob("table=*")] == ["table=b"]
    holds(made, made.send, third)


def killed_at_the_commit_point(made, monkeypatch, **more):
    """A run that ends between the manifest's rename and the sync of its folder. Its id."""
    def recorded(path, real=sync):
        if path == made.partition() and any(step.to == path / MANIFEST for step in made.steps):
            raise KeyboardInterrupt
        real(path)

    target = []
    with monkeypatch.context() as patch:
        patch.setattr(local, "sync", recorded)
        patch.setattr(TargetCSV, "stopped", lambda self: target.append(self))
        try:
            made.send(**more)
        except KeyboardInterrupt:
            return json.loads((made.partition() / MANIFEST).read_text())["run_id"]
    raise AssertionError("it was not killed")


def test_what_follows_a_run_that_was_killed_at_its_commit_point_keeps_the_old_date_until_the_new_one_is_safe(
        made, monkeypatch):
    first = made.send()
    for follows, ends in ((lambda: made.send(rows=5), "its own"), (lambda: swept(made), "the killed one's")):
        start = Disk(made.folder)
        with recorded(made.folder) as made.steps:
            killed = killed_at_the_commit_point(made, monkeypatch, rows=9)
            number = len(made.steps)
            last = follows()
        new = last if ends == "its own" else killed
        for at, found in enumerate(made.outcomes(start, made.steps, made.partition())):
            assert found <= {first, killed, new}
            assert at >= number or found <= {first, killed}
        assert found == {new}
        first = new


def swept(made):
    """`gc --yes` of everything that no manifest lists."""
    found = [*removed(ZoneLeftovers(made.zone, older_than=0))]
    assert {one.kind for one, _ in found} >= {"superseded file"}
    assert not [wrong for _, wrong in found if wrong]


def test_a_date_that_is_removed_is_there_or_not(made):
    run = made.send()
    made.send(OTHER)
    holds(made, lambda: remove(made.zone, "own", date.fromisoformat(DAY)), run, new=ABSENT)
    assert not made.partition().exists()
    assert made.partition(OTHER).exists()


def test_a_removal_that_follows_a_killed_one_leaves_the_date_or_none(made, monkeypatch):
    def twice():
        with monkeypatch.context() as patch:
            patch.setattr(local.LocalStorage, "flush", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                remove(made.zone, "own", date.fromisoformat(DAY))
        return remove(made.zone, "own", date.fromisoformat(DAY))

    run = made.send()
    holds(made, twice, run, new=ABSENT)


def test_a_commit_that_fails_leaves_the_old_date_at_each_step(made, monkeypatch):
    first = made.send()

    def fail():
        with monkeypatch.context() as patch:
            patch.setattr(local.LocalStorage, "put", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(LandingError, match="No space left"):
                made.send(rows=9)

    holds(made, fail, first, new=first)


def test_each_sync_is_needed(made):
    """Of a first date and of one that is taken again: without it, some moment would lose a date. This test can fail."""
    needed, all_of_them = Counter(), Counter()
    for _ in range(2):
        old = json.loads(path.read_text())["run_id"] if (path := made.partition() / MANIFEST).exists() else ABSENT
        saved = made.folder.parent / "saved"
        shutil.copytree(made.folder, saved)
        _, new = made.during(lambda: made.send(rows=8))
        steps = made.steps
        for number, step in enumerate(steps):
            if step.what != "fsync":
                continue
            what = named(made, step)
            all_of_them[what] += 1
            before, last = Disk(saved), None
            before.folder = made.folder
            try:
                for last in made.outcomes(before, steps[:number] + steps[number + 1:], made.partition()):
                    assert last <= {old, new}
                assert last == {new}
            except AssertionError:
                needed[what] += 1
        shutil.rmtree(saved)
    assert {what for what in all_of_them if not needed[what]} <= {"_attempts", "_staging", "staging"}
    assert {*needed} >= {"data", "quarantine", "manifest", "table", "partition", "source", "root", "above"}


def named(made, step):
    """The kind of a file or folder that was synced."""
    relative = step.path.relative_to(made.folder)
    if not step.path.is_relative_to(made.root) or step.path == made.root:
        return "root" if step.path == made.root else "above"
    parts = relative.relative_to(made.root.relative_to(made.folder)).parts
    if parts[0] == "_staging":
        kinds = {".csv": "data", ".jsonl": "quarantine", ".json": "manifest"}
        return "_staging" if len(parts) == 1 else kinds.get(step.path.suffix, "staging")
    return parts[0] if parts[0] == "_attempts" else ("source", "partition", "table")[len(parts) - 1]
