"""What is committed can be read; what cannot be is refused before anything changes. gc waits for a commit at work."""

import io
import threading
from datetime import timedelta

import pytest
from landing import project as rules
from landing import zone as zones
from landing.retention import ZoneLeftovers
from landing.target_csv import TargetCSV
from landing.zone import LandingZone
from targets import Heard, hear_csv, record, schema, serverless, state
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
    "too large": (lambda _: None, {}, r"would have [\d,]+ bytes, and none has more than 100\. "),
    "a snapshot in a snapshot": (lambda proof: proof.update(snapshot={"a": {"b": 1}}), {}, "could not be read back"),
    "a comment that is no text": (lambda _: None, {"comment": 5}, "could not be read back"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_manifest_that_could_not_be_read_back_is_refused_before_the_commit(root, case, monkeypatch):
    assert hear_csv([THINGS, record("things", id=1)], source="own").refusal is None
    before = files(root)
    change, mark, words = UNREADABLE[case]
    start = schema("things", {"id": {"type": "integer"}})
    start["schema"]["x-landing"] = {"source": "own", "schema": "public", "table": "things", **mark}
    proof = {"run_id": RUN, "source": "own", "streams": {"things": {"rows": 1, "files": []}}}
    change(proof)
    sent = [start, record("things", id=2), state(landing=proof)]
    with monkeypatch.context() as patch:
        if case == "too large":
            patch.setattr(zones, "LARGEST", 100)
        heard = Heard(TargetCSV(config={}), io.BytesIO(b"\n".join(zones.json.dumps(one).encode() for one in sent)))
    assert zones.re.search(words, heard.refusal or "it was committed"), heard.refusal
    assert "othing was committed" in heard.refusal
    assert files(root) == before


@pytest.mark.parametrize("first", [True, False])
def test_gc_takes_no_file_of_a_commit_at_work_for_superseded(root, monkeypatch, first):
    sent = [THINGS, record("things", id=1)]
    if not first:
        assert hear_csv(sent, source="own").refusal is None
    moved, goes_on, publish = threading.Event(), threading.Event(), LandingZone._publish

    def slowly(*arguments):
        moved.set()
        assert goes_on.wait(60)
        publish(*arguments)

    monkeypatch.setattr(LandingZone, "_publish", slowly)
    commit = threading.Thread(target=hear_csv, args=(sent,), kwargs={"source": "own"})
    commit.start()
    assert moved.wait(60)
    found = []
    # Dates before tomorrow go, but for a source's newest: a commit's files alone make no date that may go.
    tomorrow = rules.today() + timedelta(days=1)
    gc = threading.Thread(target=lambda: found.extend(ZoneLeftovers(LandingZone(root), tomorrow)))
    gc.start()
    gc.join(0.3)
    assert gc.is_alive(), "it waits for the commit"
    goes_on.set()
    for one in (commit, gc):
        one.join(60)
    assert found == []
    assert len([path for path in files(root) if path.endswith(".csv")]) == 1
