"""What is committed can be read; what cannot be is refused before anything changes. gc waits for a commit at work."""

import hashlib
import io
import json
import os
import re
import threading
from datetime import timedelta

import pytest
from in_process import TargetRun, record, schema, send_csv, serverless, state
from landing.core.dates import parse_date, today
from landing.core.errors import DamagedError, ZoneError
from landing.model import manifest
from landing.model.schema import combined
from landing.storage.local import LocalStorage
from landing.zone import run_log
from landing.zone.commit import unlisted
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.landing_zone import LandingZone
from landing.zone.target import TargetCSV
from msgspec import structs
from test_protocol import RUN

DAY = "2024-03-05"
THINGS = schema("things", {"id": {"type": "integer"}})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A landing zone of a project without any server."""
    with serverless(tmp_path, DAY) as output:
        monkeypatch.setenv("REEXTRACT", "true")
        yield output


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.suffix not in (".lock", ".jsonl")}


UNREADABLE = {
    "too large": (lambda _: None, {}, r"would have [\d,]+ bytes, and the limit is 100\. "),
    "a snapshot in a snapshot": (lambda proof: proof.update(snapshot={"a": {"b": 1}}), {},
                                 r"completion message is not valid: .* at `\$\.snapshot"),
    "a comment that is no text": (lambda _: None, {"comment": 5}, r"x-landing is not valid: .* at `\$\.comment`"),
    "a column's comment that is no text": (lambda _: None, {}, "could not be read back"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_manifest_that_could_not_be_read_back_is_refused_before_the_commit(root, case, monkeypatch):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    before = files(root)
    change, mark, words = UNREADABLE[case]
    start = schema("things", {"id": {"type": "integer", "description": 5 if "column" in case else "x"}})
    start["schema"]["x-landing"] = {"source": "own", "schema": "public", "table": "things", **mark}
    proof = {"run_id": RUN, "source": "own", "streams": {"things": {"rows": 1, "files": []}}}
    change(proof)
    sent = [start, record("things", id=2), state(landing=proof)]
    with monkeypatch.context() as patch:
        if case == "too large":
            patch.setattr(manifest, "LARGEST", 100)
        heard = TargetRun(TargetCSV(config={}), io.BytesIO(b"\n".join(json.dumps(one).encode() for one in sent)))
    assert re.search(words, heard.refusal or "it was committed"), heard.refusal
    assert "othing was committed" in heard.refusal
    assert files(root) == before


def test_what_cannot_be_taken_back_does_not_hide_why_the_commit_failed(root, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    def refuse(path, **_):
        raise OSError(30, "Read-only file system", str(path))

    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    before = files(root)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", fail)
        patch.setattr(os, "unlink", refuse)
        heard = send_csv([THINGS, record("things", id=2)], source="own")
    assert "No space left on device" in heard.refusal
    assert "Nothing was committed" in heard.refusal
    left = files(root).items() - before.items()
    assert len(left) == 1
    assert before.items() <= files(root).items()
    for one, wrong in removed(ZoneLeftovers(LandingZone.at(root))):
        assert (one.kind, wrong) == ("superseded file", "")
    assert files(root) == before


def test_a_file_that_is_there_under_a_commits_name_is_neither_replaced_nor_removed(root, monkeypatch):
    """As where two tables' names differ only in case, on a file system for which they are one."""
    def move(storage, old, new, real=LocalStorage.move):
        (storage.root / new).parent.mkdir(parents=True)
        (storage.root / new).write_text("another's")
        return real(storage, old, new)

    monkeypatch.setattr(LocalStorage, "move", move)
    heard = send_csv([THINGS, record("things", id=1)], source="own")
    assert "do two tables of this partition differ only in case?" in heard.refusal
    assert [*files(root).values()] == [b"another's"]


def test_what_is_behind_a_link_or_no_folder_stays_as_it_is(root, tmp_path):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    partition, outside = root / "source=own" / f"extracted_at={DAY}", tmp_path / "outside"
    outside.mkdir()
    (outside / "of a person.csv").write_text("x")
    (partition / "table=link").symlink_to(outside)
    (partition / "table=note").write_text("of a person")
    zone, manifest = LandingZone.at(root), LandingZone.at(root).require("own", parse_date(DAY, "day"))
    assert unlisted(zone, manifest) == []
    assert send_csv([THINGS, record("things", id=2)], source="own").refusal is None
    assert {path.name for path in partition.iterdir()} == {"table=things", "table=link", "table=note", "_manifest.json"}
    assert (outside / "of a person.csv").exists()


def test_a_listed_file_that_is_not_there_or_of_another_size_or_elsewhere_is_not_read(root):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    zone = LandingZone.at(root)
    manifest = zone.require("own", parse_date(DAY, "day"))
    file, = manifest.tables[0].files
    path = root / zone.file(manifest, file).key
    assert path.read_bytes() == b"id\n1\n"
    (path.parent.parent.parent / "elsewhere").write_bytes(path.read_bytes())
    for other, words in ((structs.replace(file, bytes=6), "expected 6 bytes, found 5"),
                         (structs.replace(file, path="table=things/none"), "expected 5 bytes, found nothing"),
                         (structs.replace(file, path="table=things"), "expected 5 bytes, found nothing"),
                         (structs.replace(file, path="../elsewhere"), "outside of its folder"),
                         (structs.replace(file, path="table=things/" + "x" * 300), "File name too long")):
        with pytest.raises(DamagedError, match=words):
            zone.file(manifest, other)


def test_a_lock_whose_file_was_removed_while_somebody_waited_for_it_is_taken_anew(root):
    zone, day, held, waited = LandingZone.at(root), today(), threading.Event(), []

    def wait():
        held.set()
        with zone.locked("own", day) as lock:
            waited.append(lock.path.exists())

    other = threading.Thread(target=wait)
    with zone.locked("own", day) as lock:
        other.start()
        held.wait(30)
        other.join(0.3)
        assert other.is_alive()
        lock.remove()
    other.join(30)
    assert waited == [True]


def test_a_staging_folder_is_taken_by_one_target_at_a_time(root):
    zone = LandingZone.at(root)
    (root / "_staging" / RUN).mkdir(parents=True)
    first = zone.claim(RUN)
    with pytest.raises(ZoneError, match="is claimed by another target"):
        zone.claim(RUN)
    first.release()
    zone.claim(RUN).release()


def test_a_table_has_its_files_hash_or_that_of_its_files_hashes():
    assert combined(["a" * 64]) == "a" * 64
    assert combined(["a", "b"]) == hashlib.sha256(b"a\nb").hexdigest()


@pytest.mark.parametrize("first", [True, False])
def test_gc_takes_no_file_of_a_commit_at_work_for_superseded(root, monkeypatch, first):
    sent = [THINGS, record("things", id=1)]
    if not first:
        assert send_csv(sent, source="own").refusal is None
    moved, goes_on, put = threading.Event(), threading.Event(), LocalStorage.put

    def slowly(*arguments):
        moved.set()
        assert goes_on.wait(60)
        put(*arguments)

    monkeypatch.setattr(LocalStorage, "put", slowly)
    commit = threading.Thread(target=send_csv, args=(sent,), kwargs={"source": "own"})
    commit.start()
    assert moved.wait(60)
    found = []
    # Dates before tomorrow go, but for a source's newest: a commit's files alone make no date that may go.
    tomorrow = today() + timedelta(days=1)
    gc = threading.Thread(target=lambda: found.extend(ZoneLeftovers(LandingZone.at(root), tomorrow)))
    gc.start()
    gc.join(0.3)
    assert gc.is_alive(), "it waits for the commit"
    goes_on.set()
    for one in (commit, gc):
        one.join(60)
    assert found == []
    assert len([path for path in files(root) if path.endswith(".csv")]) == 1


def test_a_source_may_be_a_link_to_another_disk(root, tmp_path):
    (tmp_path / "disk").mkdir()
    root.mkdir(exist_ok=True)
    (root / "source=own").symlink_to(tmp_path / "disk")
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    assert len([*(tmp_path / "disk").rglob("*.csv")]) == 1


def test_a_manifest_from_before_min_reader_version_is_read(root):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    path, = root.rglob("_manifest.json")
    fields = json.loads(path.read_text())
    del fields["min_reader_version"]
    path.write_text(json.dumps(manifest.sealed(fields)))
    assert LandingZone.at(root).require("own", parse_date(DAY, "day")).rows == 1


def test_a_source_that_cannot_be_listed_stops_no_other(root, monkeypatch):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    (root / "source=other").mkdir()

    def prefixes(storage, prefix, real=LocalStorage.prefixes, **more):
        if prefix == "source=other":
            raise PermissionError(13, "Permission denied", prefix)
        return real(storage, prefix, **more)

    monkeypatch.setattr(LocalStorage, "prefixes", prefixes)
    assert send_csv([THINGS, record("things", id=2)], source="own").refusal is None


def test_a_run_log_that_is_a_link_is_not_read(root, tmp_path, caplog):
    assert send_csv([THINGS, record("things", id=1)], source="own").refusal is None
    log, = (root / "_attempts").iterdir()
    log.rename(tmp_path / "elsewhere")
    log.symlink_to(tmp_path / "elsewhere")
    assert run_log.read(LocalStorage(root), "own", parse_date(DAY, "day")) == []
    assert "cannot be read (not a regular file)" in caplog.text


def test_a_staging_area_that_is_gone_is_not_said_to_be_claimed(root):
    with pytest.raises(FileNotFoundError):
        LandingZone.at(root).claim(RUN)
