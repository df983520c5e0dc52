"""Whatever a tap sends is there exactly as it said it, or is refused in a sentence and nothing has changed."""

import csv
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
from decimal import Decimal

import pytest
from in_process import (
    SILENT,
    TargetRun,
    encoded,
    foreign_project,
    in_process,
    left_in_staging,
    load_landed,
    record,
    relations,
    schema,
    send_csv,
    send_postgres,
    state,
)
from landing.core.dates import today as this_day
from landing.core.errors import LandingError
from landing.singer import reader
from landing.zone.target import TargetCSV

DAY = "2024-03-05"
RUN = "20240305T000000Z-0000000a"
THINGS = schema("things", {"id": {"type": "integer"}, "name": {"type": ["string", "null"]},
                           "price": {"type": ["number", "null"]}, "doc": {"type": ["object", "null"]}}, ["id"])
GOOD = [THINGS, record("things", id=1, name="one")]
LONG = "1234567890123456789012345678901234567890"  # 40 digits


@pytest.fixture(scope="module")
def foreign(server, tmp_path_factory):
    """One project for all cases: what is refused leaves nothing behind, which is looked at after each."""
    with foreign_project(server, tmp_path_factory.mktemp("foreign"), DAY) as made:
        yield made


def batch(stream, *urls, **encoding):
    return {"type": "BATCH", "stream": stream, "encoding": encoding, "manifest": [*urls]}


def raw(fields):
    return f'{{"type": "RECORD", "stream": "things", "record": {{{fields}}}}}'


# Input, and what the refusal says; where the two targets have different words for it, those of each.
REFUSED = {
    "a record before its schema": ([record("things", id=1), THINGS], "before a corresponding schema"),
    "a record of an unknown stream": ([*GOOD, record("other", id=1)], "'other'"),
    "a batch before its schema": ([batch("things", "file:///x", format="jsonl")], "BATCH of things comes before"),
    "a version before its schema": ([{"type": "ACTIVATE_VERSION", "stream": "things", "version": 1}],
                                    "ACTIVATE_VERSION of things comes before"),
    "a last line cut short": ([*GOOD, '{"type": "RECORD", "stream": "things", "rec'], "Line 3 .* was cut short"),
    "a state cut short": ([*GOOD, '{"type": "STATE", "value": {"a'], "Line 3 .* was cut short"),
    "words": ([*GOOD, "Traceback (most recent call last):"], "Line 3 .* not JSON"),
    "a line of nothing": ([*GOOD, "", record("things", id=2)], "Line 3 .* not JSON"),
    "an array": (["[1]"], "not an object"),
    "a number": (["1"], "not an object"),
    "null": (["null"], "not an object"),
    "no type": ([{"stream": "things"}], "its type is None"),
    "an unknown type": ([*GOOD, {"type": "LOG"}], "its type is 'LOG'"),
    "a type that is no text": ([{"type": ["RECORD"]}], "its type is"),
    "a record without a stream": ([{"type": "RECORD", "record": {}}], "without a valid 'stream'"),
    "a record that is no object": ([THINGS, {"type": "RECORD", "stream": "things", "record": [1]}], "valid 'record'"),
    "a schema that is null": ([{"type": "SCHEMA", "stream": "things", "schema": None}], "valid 'schema'"),
    "a schema without properties": ([{"type": "SCHEMA", "stream": "t", "schema": {}}], "no valid 'properties'"),
    "a property without a schema": ([schema("things", {"id": True})], "no valid 'properties'"),
    "a schema that is none": ([schema("things", {"id": {"type": "whole"}})], "not valid JSON Schema"),
    "a key that has no column": ([schema("things", {"id": {}}, ["di"])], "names columns that its SCHEMA lacks"),
    "a column without a name": ([schema("things", {"": {}})], "an empty name"),
    "a state that is no object": ([{"type": "STATE", "value": [1]}], "valid 'value'"),
    "a version that is no number": ([THINGS, {"type": "ACTIVATE_VERSION", "stream": "things"}], "valid 'version'"),
    "a key of JSON twice": ([THINGS, raw('"id": 1, "name": "a", "name": "b"')], "'name' twice in one object"),
    "NaN": ([THINGS, raw('"id": 1, "price": NaN')], "NaN, which is not JSON"),
    "Infinity": ([THINGS, raw('"id": 1, "price": -Infinity')], "-Infinity, which is not JSON"),
    "Latin-1": ([THINGS, b'{"type": "RECORD", "stream": "things", "record": {"id": 1, "name": "\xe9"}}'], "UTF-8"),
    "half a surrogate pair": ([THINGS, raw(r'"id": 1, "name": "a\ud83d"')], "a lone surrogate"),
    "more digits than numeric has": ([THINGS, raw('"id": 1, "price": 1e131072')], "than PostgreSQL's numeric"),
    "too many digits after the point": ([THINGS, raw('"id": 1, "doc": {"a": 1e-16384}')], "than PostgreSQL's numeric"),
    "an exponent beyond reason": ([THINGS, raw('"id": 1, "price": 1e99999999999999999999')], "thousands of digits"),
    "an integer of 5000 digits": ([THINGS, raw(f'"id": 1, "price": {"9" * 5000}')], "thousands of digits"),
    "an integer beyond bigint": ([THINGS, record("things", id=2**63)], ("is not a whole number from", "out of range")),
    "text for a number": ([THINGS, record("things", id="1")], "id is a string; expected type: \"integer\""),
    "null where there is none": ([THINGS, record("things", id=None)], "id is null; expected type"),
    "a fraction for an integer": ([THINGS, raw('"id": 1.5')], "id is a number; expected type"),
    "no key": ([THINGS, record("things", name="a")], "missing one or more key_properties"),
    "no required property": ([{"type": "SCHEMA", "stream": "t", "schema": {
        "properties": {"a": {}}, "required": ["a"]}}, record("t")], "expected required"),
    "more than the schema has": ([*GOOD, record("things", id=2, colour="red")], "has properties .* lacks: colour"),
    "the character NUL": ([THINGS, record("things", id=1, name="a\0b")], "NUL"),
    "NUL in an object": ([THINGS, record("things", id=1, doc={"a": "\0"})], ("NUL", "Unicode escape")),
    "a day that never was": ([schema("t", {"at": {"type": "string", "format": "date"}}), record("t", at="2024-02-30")],
                             ("is not a date", "Could not parse")),
    "a time that is none": ([schema("t", {"at": {"type": "string", "format": "date-time"}}), record("t", at="noon")],
                            ("is not a date and time", "Could not parse")),
    "JSON without an end": ([THINGS, "[" * 200_000], "nested too deeply|cut short"),
    "a batch of an unknown encoding": ([THINGS, batch("things", "file:///x", format="avro")], "avro"),
    "a batch that says nothing": ([THINGS, {"type": "BATCH", "stream": "things"}], "valid 'encoding'"),
    "a batch of no file": ([THINGS, batch("things", "file:///nowhere/x.jsonl", format="jsonl")], "nowhere/x.jsonl"),
    "a batch compressed by something": ([THINGS, batch("things", "file:///dev/null", format="jsonl",
                                                       compression="rar")], "'rar' is not supported"),
    "files from outside": ([THINGS, batch("things", "file:///etc/hostname", format="csv")],
                           ("not a file below", "Land it first")),
    "files of another run's folder": ([THINGS, batch("things", "file:///x/_staging/../../etc/hostname", format="csv")],
                                      ("not a file below", "Land it first")),
    "a completion message that is text": ([*GOOD, state(landing="all of it")], "completion message is not valid"),
    "a completion message without counts": ([*GOOD, state(landing={"run_id": RUN})], "required"),
    "a completion message that leaves its folder": ([*GOOD, state(landing={"run_id": "../..", "streams": {}})],
                                                     "completion message is not valid"),
    "a column whose name is too long": ([schema("t", {"n" * 64: {"type": "string"}}), record("t", **{"n" * 64: "a"})],
                                        "63 bytes|too long|exceeds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_in_a_sentence_and_nothing_is_committed(foreign, case):
    sent, words = REFUSED[case]
    for_csv, for_postgres = words if isinstance(words, tuple) else (words, words)
    heard = send_csv(sent)
    assert re.search(for_csv, heard.refusal or "taken by target-csv"), heard.refusal
    assert not heard.states
    assert not foreign.landed()
    assert not left_in_staging(foreign)
    heard = send_postgres(foreign, sent)
    assert re.search(for_postgres, heard.refusal or "taken by target-postgres"), heard.refusal
    assert not heard.states
    assert relations(foreign.warehouse) == []


ODD = ['Näme, "quoted"', "a%b", "(a):b[c].d e", "select", "source", "extracted_at", "_sdc_deleted_at"]
TEXTS = ["", "007", "2024-01-01", "NULL", "\\N", "\\.", "line\nfeed\r", 'a "b", c', " ", "日本 \U0001f600", None]


def test_what_is_taken_is_there_exactly_as_it_was_said(foreign):
    """Digits, texts, names: in the file, in the warehouse that is loaded from it, and by the stock way."""
    things = schema("things", {"id": {"type": "integer"}, "text": {"type": ["string", "null"]},
                               "number": {"type": "number"}, "doc": {"type": "object"},
                               **{name: {"type": ["string", "null"]} for name in ODD}}, ["id"])
    numbers = [f"0.{LONG}", LONG, f"-{LONG}.{LONG}", "1.10", "1e-30", "123e30"]
    lines = [things, things]
    for number, text in enumerate(TEXTS):
        odd = "".join(f", {json.dumps(name)}: {json.dumps(name + '!')}" for name in ODD)
        said = numbers[number % len(numbers)]
        lines += [raw(f'"doc": {{"a": [{said}, "\\\\u0000"]}}, "id": {number}, "text": {json.dumps(text)}, '
                      f'"number": {said}{odd if number else ""}'), json.loads(json.dumps(things))]
    expected = [(number, text, Decimal(numbers[number % len(numbers)]),
                 {"a": [Decimal(numbers[number % len(numbers)]), "\\u0000"]},
                 *(name + "!" if number else None for name in ODD)) for number, text in enumerate(TEXTS)]
    foreign.warehouse.run("CREATE SCHEMA stock")
    assert send_csv(lines).refusal is None
    assert send_postgres(foreign, lines, default_target_schema="stock").refusal is None
    foreign.pipe(foreign.tap_landed(sources=["foreign"]), foreign.target_postgres(), EXTRACTED_AT=DAY)
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in ODD)
    for table in ("stock.things", "public.things"):
        rows = foreign.warehouse.run(f"SELECT id, text, number, doc::text, {names} FROM {table} ORDER BY id")
        assert [(*row[:3], json.loads(row[3], parse_float=Decimal, parse_int=Decimal), *row[4:])
                for row in rows] == expected, table
    shutil.rmtree(foreign.output)
    foreign.warehouse.run("DROP SCHEMA stock, public, public_history CASCADE; CREATE SCHEMA public")


@pytest.fixture
def today(foreign):
    """A day that may be landed again, and nothing there yet."""
    with in_process(foreign, str(this_day())):
        yield foreign
    shutil.rmtree(foreign.output, ignore_errors=True)
    foreign.warehouse.run("DROP SCHEMA IF EXISTS public_history CASCADE;"
                          "DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def landed_rows(made):
    """Rows of the only landed table, as texts."""
    path, = (path for path in made.output.glob("source=*/*/table=*/*") if path.suffix == ".csv")
    return list(csv.reader(io.StringIO(path.read_text(), newline="")))[1:]


def test_a_batch_of_json_lines_is_taken_as_its_records(today, tmp_path):
    lines = b"".join(json.dumps({"id": n, "name": f"n{n}"}).encode() + b"\n" for n in range(3))
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.replace(b"n", b"m")))
    sent = [schema("things", {"id": {"type": "integer"}, "name": {"type": "string"}, "mame": {"type": "string"}}),
            batch("things", (tmp_path / "a.jsonl").as_uri(), format="jsonl"), record("things", id=9, name="r"),
            batch("things", (tmp_path / "b.jsonl.gz").as_uri(), format="jsonl", compression="gzip")]
    rows = [*((str(n), f"n{n}", "") for n in range(3)), ("9", "r", ""), *((str(n), "", f"m{n}") for n in range(3))]
    assert send_csv(sent).refusal is None
    assert [tuple(row) for row in landed_rows(today)] == rows
    assert send_postgres(today, sent).refusal is None
    assert sorted(today.warehouse.run("SELECT id::text, coalesce(name, ''), coalesce(mame, '') FROM things")) == sorted(
        rows)
    (tmp_path / "a.jsonl").write_bytes(lines[:-5])
    for heard in (send_csv(sent), send_postgres(today, sent)):
        assert "a.jsonl, line 3: it is not JSON" in heard.refusal
    assert today.warehouse.one("SELECT count(*) FROM things") == len(rows)


def test_state_is_passed_on_as_it_came_once_all_is_committed(today, monkeypatch):
    digits = '{"at": 1.10, "high": 123456789012345678901234567890.5, "text": "é"}'
    sent = [THINGS, state(at=1), record("things", id=1), f'{{"type": "STATE", "value": {digits}}}',
            record("things", id=2)]
    for hear in (send_csv, lambda lines: send_postgres(today, lines)):
        monkeypatch.setattr("singer_sdk.target_base.Target._MAX_RECORD_AGE_IN_MINUTES", -1.0)  # the SDK's moment: now
        heard = hear([*sent, "no message"])
        assert heard.refusal
        assert not heard.states
        line, = hear(sent).states
        assert json.loads(line, parse_float=Decimal) == json.loads(digits, parse_float=Decimal)


@pytest.mark.parametrize("what", ["landing.zone.target.commit",
                                  "landing.load.stock.Connector.commit"])
def test_state_is_kept_back_where_the_commit_fails(today, monkeypatch, what):
    def fail(*_, **__):
        raise LandingError("the disk is full")

    monkeypatch.setattr(what, fail)
    hear = send_csv if "zone" in what else lambda lines: send_postgres(today, lines)
    heard = hear([*GOOD, state(at=1)])
    assert heard.refusal == "the disk is full"
    assert not heard.states
    assert not today.landed()
    assert relations(today.warehouse) == []


def test_state_is_kept_back_where_a_landed_date_stays_as_it_is(today):
    with in_process(today, DAY):
        assert send_csv([*GOOD, state(at=1)]).states
        before = today.landed()
        heard = send_csv([*GOOD, record("things", id=2), state(at=2)])
    assert (heard.refusal, heard.states, today.landed()) == (None, [], before)


def test_the_stock_way_commits_nothing_of_an_input_that_ends_in_an_error(today):
    sent = [THINGS, *(record("things", id=n) for n in range(5)), schema("more", {"a": {"type": "string"}})]
    assert send_postgres(today, [*sent, "no message"], batch_size_rows=2).refusal
    assert relations(today.warehouse) == []
    assert send_postgres(today, sent, batch_size_rows=2).refusal is None
    wider = schema("things", {**THINGS["schema"]["properties"], "colour": {"type": "string"}}, ["id"])
    sent = [THINGS, record("things", id=1, name="x"), wider, record("things", id=2, colour="red")]
    before = today.rows("things"), relations(today.warehouse)
    assert send_postgres(today, [*sent, "no message"], batch_size_rows=1).refusal
    assert (today.rows("things"), relations(today.warehouse)) == before
    assert send_postgres(today, sent).refusal is None
    assert today.warehouse.run("SELECT id, name, colour FROM things WHERE id IN (1, 2) ORDER BY id") == [
        (1, "x", None), (2, None, "red")]


def test_a_landed_table_has_one_header(today):
    properties = dict(reversed(THINGS["schema"]["properties"].items()))
    row = record("things", id=1, name="a")
    assert send_csv([*GOOD, schema("things", properties, ["id"]), row]).refusal is None  # in another order
    for changed in (schema("things", {"id": {"type": "integer"}, "name": {"type": "string"}}, ["id"]),
                    schema("things", THINGS["schema"]["properties"], ["name"])):
        assert send_csv([THINGS, changed, row]).refusal is None  # no row had come yet
        assert "changed after its first row" in send_csv([*GOOD, changed, row]).refusal


def test_records_are_taken_as_they_come_where_validation_is_switched_off(today):
    sent = [*GOOD, record("things", id=2, colour="red")]
    assert send_csv(sent, validate_records=False).refusal is None
    assert [row[0] for row in landed_rows(today)] == ["1", "2"]
    assert "is not a whole number" in send_csv([*sent, record("things", id="x")], validate_records=False).refusal


def test_only_one_version_of_a_table_is_landed(today):
    def of(version):
        return {**record("things", id=version), "version": version}

    activate = {"type": "ACTIVATE_VERSION", "stream": "things", "version": 2}
    assert send_csv([THINGS, activate, of(2), of(2), activate]).refusal is None
    assert "rows of version 1, and version 2 is activated" in send_csv([THINGS, of(1), of(2), activate]).refusal


def test_an_input_without_tables_is_refused_by_target_csv_and_changes_nothing_in_target_postgres(today):
    for sent in ([], [state(at=1)]):
        assert "sent no table" in send_csv(sent).refusal
        assert send_postgres(today, sent).refusal is None
        assert relations(today.warehouse) == []


def test_a_line_that_never_ends_does_not_take_all_memory(today, monkeypatch):
    class Endless(io.BytesIO):
        taken = 0

        def readline(self, size=-1):
            self.taken += size
            return b"a" * size

    monkeypatch.setattr(reader, "LONGEST", 1 << 20)
    endless = Endless()
    heard = TargetRun(TargetCSV(config=SILENT), endless)
    assert "longer than 1 MiB" in heard.refusal
    assert endless.taken == (1 << 20) + 1


def own(made, *, closing=None, between=(), urls=None):
    """What a tap of ours sends for a file in its staging folder."""
    path = made.output / "_staging" / RUN / "table=things.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"id,name\n1,a\n2,b\n")
    file = {"path": path.name, "rows": 2, "bytes": 16, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    sent = {"rows": 2, "files": [file]}
    proof = {"run_id": RUN, "source": "own", "streams": {"things": sent}}
    if closing:
        closing(proof, sent, file)
    start = schema("things", {"id": {"type": "integer", "x-sql-datatype": "smallint"}, "name": {"type": "string"}})
    start["schema"]["x-landing"] = {"source": "own", "schema": "public", "table": "things"}
    return [start, batch("things", *(urls or [path.as_uri()]), format="csv"), *between, state(landing=proof)]


WRONG = {
    "fewer rows than its files": (lambda _, sent, __: sent.update(rows=1), "the tap sent 1 rows in 1 files"),
    "no files": (lambda _, sent, __: sent.update(files=[]), "the tap sent 2 rows in 0 files, and 1 files"),
    "other bytes": (lambda _, __, file: file.update(bytes=15), "is not the file that the tap wrote"),
    "a hash that is none": (lambda _, __, file: file.update(sha256="abc"), "completion message is not valid"),
    "a count that is none": (lambda _, __, file: file.update(rows=-1), "completion message is not valid"),
    "another stream": (lambda proof, sent, _: proof.update(streams={"other": sent}), "Only sent, or only arrived"),
    "one stream more": (lambda proof, sent, _: proof["streams"].update(other=sent), "Only sent, or only arrived"),
    "a folder that is not its run's": (lambda proof, *_: proof.update(run_id="../source=own"), "completion message"),
    "a source that is no name": (lambda proof, *_: proof.update(source="../up"), "not a valid source name"),
    "a moment without a zone": (lambda proof, *_: proof.update(taken_at="2024-03-05T00:00:00"), "completion message"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_closing_message_that_is_wrong_commits_nothing_and_removes_nothing(today, case):
    assert TargetRun(TargetCSV(config={}), own(today)).refusal is None
    before = today.landed()
    change, words = WRONG[case]
    heard = TargetRun(TargetCSV(config={}), own(today, closing=change))
    assert re.search(words, heard.refusal or "taken"), heard.refusal
    assert not heard.states
    assert today.landed() == before
    assert not left_in_staging(today)


def test_a_hash_that_is_not_the_files_is_found_when_the_date_is_loaded(today):
    """target-csv moves a file of ours as the tap wrote and hashed it; COPY reads it, and hashes what it reads."""
    heard = TargetRun(TargetCSV(config={}), own(today, closing=lambda _, __, file: file.update(sha256="0" * 64)))
    assert heard.refusal is None
    assert "SHA-256" in load_landed(today, "own", str(this_day()), "public").refusal
    assert not today.warehouse.one("SELECT to_regclass('public.things')")


def test_what_comes_after_the_closing_message_makes_it_void(today):
    for more in (state(bookmarks={}), record("things", id=3, name="c")):
        heard = TargetRun(TargetCSV(config={}), [*own(today), more])
        assert "completion message" in heard.refusal or "is sent both as files and as records" in heard.refusal
    assert not today.landed()


def test_files_and_records_of_one_table_are_refused_in_either_order(today):
    row = record("things", id=3, name="c")
    first, files, *rest = own(today)
    for sent in ([first, files, row, *rest], [first, row, files, *rest]):
        assert "is sent both as files and as records" in TargetRun(TargetCSV(config=SILENT), sent).refusal
        own(today)
    assert not today.landed()


def test_records_of_our_own_taps_need_their_proof_by_the_stock_way_too(today):
    start = schema("public-things", {"id": {"type": "integer"}})
    start["schema"]["x-landing"] = {"source": "own", "schema": "public", "table": "things"}
    sent = [start, record("public-things", id=1), record("public-things", id=2)]

    def closed(rows):
        return state(landing={"run_id": RUN, "streams": {"public-things": {"rows": rows, "files": []}}})

    assert "without the tap's completion message" in send_postgres(today, sent).refusal
    assert "the tap sent 3 rows, and 2 arrived" in send_postgres(today, [*sent, closed(3)]).refusal
    assert relations(today.warehouse) == []
    assert send_postgres(today, [*sent, closed(2)]).refusal is None
    assert today.warehouse.one("SELECT sum(id) FROM things") == 3


@pytest.mark.parametrize("broken", [b"\xff", b'{"type": "RECORD", "stream": "things", "record": {"id": "x"}}'])
def test_the_executables_say_it_in_a_sentence_and_exit_with_1(project, broken):
    path = project.folder / "sent"
    path.write_bytes(encoded([*GOOD, state(at=1)]) + b"\n" + broken)
    environment = project.environment(MELTANO_PROJECT_ROOT=str(project.folder), PYTHONIOENCODING="latin-1")
    for target in (project.target_csv(**SILENT), project.target_postgres()):
        with path.open("rb") as sent:
            result = subprocess.run(target, stdin=sent, capture_output=True, text=True, env=environment, timeout=300)
        assert result.returncode == 1
        assert "Line 4 of the tap's output is invalid: " in result.stderr
        assert "Traceback" not in result.stderr
        assert not result.stdout
    assert not project.landed()
    assert relations(project.warehouse) == []
