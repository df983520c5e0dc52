"""Messages that a target saw before never take away what is committed: each commit has files of its own names.

`tap … > sent` and `target-csv < sent` is how people of Singer keep and repeat a run, so the same run id comes again.
"""

import contextlib
import io
import json
import threading
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from in_process import TargetRun, foreign_project, in_process, left_in_staging
from landing.extract.csv.tap import TapCSV
from landing.load.tap import TapLanding
from landing.model.manifest import Manifest
from landing.storage import hashing
from landing.storage.local import LocalStorage
from landing.zone.commit import unlisted
from landing.zone.landing_zone import LandingZone
from landing.zone.target import TargetCSV

DAY, OTHER = "2024-03-05", "2024-03-06"
GOOD = "order_id,product_id\n1,11\n3,12\n"
BAD = "order_id,product_id\n1,11\n2\n3,12\n"


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    with foreign_project(server, tmp_path_factory.mktemp("replay"), DAY) as project:
        yield project


@pytest.fixture
def replayed(made, monkeypatch):
    """A project with nothing landed, in which a landed date may be taken again."""
    monkeypatch.setenv("REEXTRACT", "true")
    made.csv("order_details.csv", GOOD)
    yield made
    for path in sorted(made.output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def sent(**settings):
    """What the tap sends of the CSV source, or of a landed date."""
    entity = {"entity": "order_details", "path": "extract/order_details.csv"}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        tap = TapLanding if settings.get("from_landing") else TapCSV
        tap(config={"files": [entity], **settings}).sync_all()
    return out.getvalue().encode()


def hear(messages, **settings):
    return TargetRun(TargetCSV(config=settings), messages)


def whole(project, *days):
    """Each date has the files that its manifest lists, with their bytes, and no others."""
    zone = LandingZone.at(project.output)
    found = set()
    for source, day in zone.landed():
        manifest = zone.require(source, day)
        for table in manifest.tables:
            for file in table.all_files:
                assert hashing.sha256(zone.file(manifest, file)) == file.sha256
                assert manifest.run_id in file.path
        assert unlisted(zone, manifest) == []
        found.add(day.isoformat())
    assert found == {*days}
    assert not left_in_staging(project)
    return project.landed()


def test_a_replay_of_records_commits_again_and_both_times_the_date_is_whole(replayed):
    messages = sent(use_batch=False)
    assert hear(messages).refusal is None
    first = whole(replayed, DAY)
    assert hear(messages).refusal is None
    second = whole(replayed, DAY)
    assert sorted(body for path, body in first.items() if path.endswith(".csv")) == sorted(
        body for path, body in second.items() if path.endswith(".csv"))
    assert first.keys() != second.keys(), "files of its own names"


def test_a_replay_that_fails_midway_takes_back_only_its_own_files(replayed, monkeypatch):
    messages = sent(use_batch=False)
    assert hear(messages).refusal is None
    before = whole(replayed, DAY)

    def fail(_):
        raise OSError(28, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "to_json", fail)
        assert "No space left" in hear(messages).refusal
    assert whole(replayed, DAY) == before


def test_a_replay_of_files_that_were_committed_is_refused_and_changes_nothing(replayed):
    replayed.csv("order_details.csv", BAD)
    messages = sent(on_bad_rows="quarantine")
    assert hear(messages).refusal is None
    before = whole(replayed, DAY)
    assert [path for path in before if "_quarantine-" in path]
    assert "The tap's files are gone" in hear(messages).refusal
    assert whole(replayed, DAY) == before
    # Its table's file alone is there again: the quarantine's is missed.
    urls = [json.loads(line)["manifest"] for line in messages.splitlines() if b'"BATCH"' in line]
    path = Path(unquote(urlparse(urls[0][0]).path))
    path.parent.mkdir()
    path.write_bytes(next(body for name, body in before.items() if name.endswith(".csv")))
    assert "The tap's files are gone" in hear(messages).refusal
    assert whole(replayed, DAY) == before


def test_a_replay_for_another_date_leaves_both_dates_whole(replayed):
    messages = sent(use_batch=False)
    assert hear(messages).refusal is None
    before = whole(replayed, DAY)
    with in_process(replayed, OTHER):
        hear(messages)
    assert {path: body for path, body in replayed.landed().items() if DAY in path} == before


def test_replays_at_once_and_one_while_a_commit_is_at_work_leave_one_whole_date(replayed, monkeypatch):
    messages = sent(use_batch=False)
    assert hear(messages).refusal is None
    inside, goes_on, publish = threading.Event(), threading.Event(), LocalStorage.put

    def slowly(*arguments):
        inside.set()
        assert goes_on.wait(30)
        publish(*arguments)

    monkeypatch.setattr(LocalStorage, "put", slowly)
    targets = [TargetCSV(config={}) for _ in range(4)]
    threads = [threading.Thread(target=one.listen, args=(io.BytesIO(messages),)) for one in targets]
    threads[0].start()
    assert inside.wait(30)
    for thread in threads[1:]:
        thread.start()
    goes_on.set()
    for thread in threads:
        thread.join(60)
    assert [one.run_log._ended for one in targets] == [True] * 4
    assert replayed.manifest("csv", DAY)["run_id"] in {one.run_id for one in targets}
    whole(replayed, DAY)
