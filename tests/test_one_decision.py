"""Date, source and whether a landed date may be replaced are decided once, by the tap, and hold at the commit."""

import contextlib
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from in_process import TargetRun, foreign_project, record, schema, send_csv
from landing.extract.csv.tap import TapCSV
from landing.zone.target import TargetCSV

DAY = "2024-03-05"
MOMENT = datetime(2024, 3, 5, 23, 59, 50, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    with foreign_project(server, tmp_path_factory.mktemp("decision"), DAY) as project:
        yield project


@pytest.fixture
def empty(made, monkeypatch):
    """A project with nothing landed."""
    monkeypatch.delenv("DATESTAMP", raising=False)
    yield made
    for path in sorted(made.output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture
def sent(monkeypatch):
    """What the tap sends when it starts at `began` for `day`, with the CSV file as it is then."""
    def send(empty, rows, *, began=MOMENT, day=None, entities=("a",), use_batch=False):
        for entity in entities:
            empty.csv(f"{entity}.csv", "id,value\n" + "".join(f"{n},v\n" for n in range(rows)))
        files = [{"entity": entity, "path": f"extract/{entity}.csv"} for entity in entities]
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
            patch.setenv("DATESTAMP", day or began.date().isoformat())
            patch.setattr("landing.singer.tap.now", lambda: began)
            patch.setattr("landing.core.dates.today", lambda: began.date())
            TapCSV(config={"files": files, "use_batch": use_batch}).sync_all()
        return out.getvalue().encode()

    return send


def hear(messages, **settings):
    return TargetRun(TargetCSV(config=settings), messages)


def rows(empty, day=DAY):
    return [table["rows"] for table in empty.manifest("csv", day)["tables"]]


def test_a_run_that_began_before_midnight_replaces_its_date_after_midnight(empty, sent):
    hear(sent(empty, 1, began=MOMENT - timedelta(hours=1)))
    assert hear(sent(empty, 2)).refusal is None  # committed today, years later
    assert rows(empty) == [2]


def test_a_date_that_was_past_when_the_run_began_stays_as_it_is(empty, sent):
    hear(sent(empty, 1))
    before = empty.landed()
    later = MOMENT + timedelta(days=2)
    assert hear(sent(empty, 2, began=later, day=DAY)).refusal is None
    assert hear(sent(empty, 2, began=later, day=DAY, use_batch=True)).refusal is None
    assert empty.landed() == before


def test_of_two_extracts_of_one_past_date_the_first_that_commits_stays(empty, sent):
    later = MOMENT + timedelta(days=2)
    one, other = (sent(empty, count, began=later, day=DAY) for count in (1, 2))  # neither saw the date landed
    for messages in (other, one):
        assert hear(messages).refusal is None
    assert rows(empty) == [2]


def test_an_older_snapshot_never_replaces_a_newer_one(empty, sent):
    old, new = (sent(empty, count, began=MOMENT - timedelta(minutes=9 - count)) for count in (1, 2))
    hear(new)
    before = empty.landed()
    assert hear(old).refusal is None
    assert empty.landed() == before
    assert hear(new).refusal is None
    assert rows(empty) == [2]


def test_tap_and_target_that_were_told_different_dates_commit_nothing(empty, sent):
    refused = hear(sent(empty, 1), datestamp="2024-03-06").refusal
    assert f"The tap extracted csv for {DAY}, but target-csv is set to land 2024-03-06" in refused
    assert not empty.landed()


def test_midnight_between_the_starts_of_tap_and_target_is_no_difference(empty, sent):
    assert hear(sent(empty, 3)).refusal is None
    assert rows(empty) == [3]


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_midnight_between_the_starts_leaves_nothing_under_the_other_date_of_a_store(empty, sent, store, monkeypatch):
    for name, value in store.variables(root := store.url()).items():
        monkeypatch.setenv(name, value)
    assert hear(sent(empty, 3)).refusal is None
    found = store.content(root)
    partition = f"source=csv/extracted_at={DAY}"
    table, = json.loads(found[f"{partition}/_manifest.json"])["tables"]
    file, = table["files"]
    assert found[f"{partition}/{file['path']}"].count(b"\n") == 1 + table["rows"] == 4
    assert {key for key in found if not key.startswith("_attempts/")} == {
        f"{partition}/_manifest.json", f"{partition}/{file['path']}"}


def test_a_kept_date_that_was_removed_meanwhile_is_said(empty, sent):
    hear(sent(empty, 1))
    kept = sent(empty, 2, began=MOMENT + timedelta(days=2), day=DAY, use_batch=True)
    empty.manifest_path("csv", DAY).unlink()
    assert "was landed when the tap looked, and has been removed since" in hear(kept).refusal


def without(messages, *names):
    """The messages of a tap that had these streams deselected."""
    kept = []
    for line in messages.splitlines():
        message = json.loads(line)
        if message["type"] == "STATE":
            closing = message["value"]["landing"]
            for name in names:
                del closing["streams"][name]
            closing["left_out"] = dict.fromkeys(names)
        if message.get("stream") not in names:
            kept.append(message)
    return b"\n".join(json.dumps(message).encode() for message in kept)


@pytest.mark.parametrize("day", [DAY, "2024-03-06"])
def test_tables_that_the_source_still_has_are_not_left_out_unasked(empty, sent, monkeypatch, day):
    hear(sent(empty, 1, entities=("a", "b")))
    before = empty.landed()
    began = MOMENT + timedelta(seconds=5) if day == DAY else MOMENT + timedelta(hours=1)
    part = without(sent(empty, 2, entities=("a", "b"), began=began), "b")
    refused = hear(part).refusal
    assert "left out table b" in refused
    assert f"ALLOW_FEWER_TABLES=true MELTANO_ENVIRONMENT=extract SOURCE=csv DATESTAMP={day}" in refused
    assert empty.landed() == before
    monkeypatch.setenv("ALLOW_FEWER_TABLES", "true")
    assert hear(part).refusal is None
    assert rows(empty, day) == [2]


def test_a_table_that_the_source_lost_needs_no_permission(empty, sent):
    hear(sent(empty, 1, entities=("a", "b")))
    assert hear(sent(empty, 2, entities=("a",), began=MOMENT + timedelta(seconds=5))).refusal is None
    assert rows(empty) == [2]


def test_a_tap_without_proof_replaces_no_date_by_fewer_tables_unasked(empty):
    def streams(*names):
        return [message for name in names for message in
                (schema(name, {"id": {"type": "integer"}}), record(name, id=1))]

    assert send_csv(streams("a", "b"), datestamp=DAY).refusal is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REEXTRACT", "true")
        assert "left out table b" in send_csv(streams("a"), datestamp=DAY).refusal
        assert send_csv(streams("a", "b", "c"), datestamp=DAY).refusal is None


def selected(shop, *streams, columns=()):
    """A catalog of the shop with only these streams, and without these columns of them."""
    catalog = json.loads(shop.pipe([*shop.tap_postgres(), "--discover"], ["cat"]).stdout)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["stream"] in streams
            elif entry["breadcrumb"][-1] in columns:
                entry["metadata"]["selected"] = False
    path = shop.folder / "catalog.json"
    path.write_text(json.dumps(catalog))
    return ["--catalog", str(path)]


def test_a_partial_extract_of_a_database_replaces_nothing_unasked(shop):
    shop.land(DAY, "postgres")
    before = shop.landed()
    for streams, columns, lost in ((["public-orders"], [], "left out table public-notes"),
                                   (["public-orders", "public-notes"], ["freight"],
                                    "left out column freight of public-orders")):
        command = [*shop.tap_postgres(), *selected(shop, *streams, columns=columns)]
        refused = shop.pipe(command, shop.target_csv(), check=False, DATESTAMP=DAY, REEXTRACT="true")
        assert refused.returncode == 1
        assert lost in refused.text
        assert shop.landed() == before
    shop.source.run("DROP TABLE notes")
    only = [*shop.tap_postgres(), *selected(shop, "public-orders")]
    shop.pipe(only, shop.target_csv(), DATESTAMP=DAY, REEXTRACT="true")
    assert [table["name"] for table in shop.manifest("postgres", DAY)["tables"]] == ["orders"]


@pytest.mark.parametrize("method", ["FULL_TABLE", "INCREMENTAL"])
def test_a_bookmark_never_narrows_a_table(shop, method):
    catalog = json.loads(shop.pipe([*shop.tap_postgres(), "--discover"], ["cat"]).stdout)
    for stream in catalog["streams"]:
        if stream["stream"] == "public-orders":
            stream |= {"replication_method": method, "replication_key": "order_id"}
    (shop.folder / "catalog.json").write_text(json.dumps(catalog))
    bookmark = {"replication_key": "order_id", "replication_key_value": 91}
    (shop.folder / "state.json").write_text(json.dumps({"bookmarks": {"public-orders": bookmark}}))
    command = [*shop.tap_postgres(), "--catalog", "catalog.json", "--state", "state.json"]
    shop.pipe(command, shop.target_csv(), DATESTAMP=DAY)
    assert {table["name"]: table["rows"] for table in shop.manifest("postgres", DAY)["tables"]}["orders"] == 100
