"""What other people's taps sent, recorded as it came: each lands and loads exactly as it says, or is refused.

transcripts/README.md tells how each was recorded.
"""

import csv
import io
import json
import os
import random
import re
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from in_process import foreign_project, left_in_staging, load_landed, relations, send_csv, send_postgres
from psycopg2 import sql

DAY = "2024-03-07"
TRANSCRIPTS = {path.stem: path for path in sorted((Path(__file__).parent / "transcripts").glob("*.jsonl"))}
REFUSED = {"meltanolabs-tap-postgres-null-in-array": "tags/2 is null; expected type: [\"string\"]"}
TAKEN = [name for name in TRANSCRIPTS if name not in REFUSED]


def exact(text):
    return json.loads(text, parse_float=Decimal)


def said(name):
    """Properties and records of each stream, as the transcript has them."""
    streams = {}
    for message in map(exact, TRANSCRIPTS[name].read_text("utf-8").splitlines()):
        if message["type"] == "SCHEMA":
            streams.setdefault(message["stream"], (message["schema"]["properties"], []))
        elif message["type"] == "RECORD":
            streams[message["stream"]][1].append(message["record"])
    return streams


def states(name):
    messages = map(exact, TRANSCRIPTS[name].read_text("utf-8").splitlines())
    return [message["value"] for message in messages if message["type"] == "STATE" and message["value"]][-1:]


@pytest.fixture(scope="module")
def heard(server, tmp_path_factory):
    """Every transcript through both targets, and what target-csv landed loaded into a schema of its own."""
    with foreign_project(server, tmp_path_factory.mktemp("transcripts"), DAY) as made:
        made.by_csv = {name: send_csv(path.read_bytes(), source=name) for name, path in TRANSCRIPTS.items()}
        made.by_stock = {name: send_postgres(made, path.read_bytes(), default_target_schema=name)
                         for name, path in TRANSCRIPTS.items()}
        made.loads = {name: load_landed(made, name, DAY, f"landed {name}") for name in TAKEN}
        yield made


def in_file(value):
    """A value as its field's text; numbers and JSON by what they mean."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return "" if value is None else value


def understood(text, value):
    """A field's text, as far as a value of that kind can be written in several ways."""
    if isinstance(value, (dict, list)):
        return exact(text)
    return Decimal(text) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else text


@pytest.mark.parametrize("name", TAKEN)
def test_a_transcript_is_landed_as_it_says(heard, name):
    assert heard.by_csv[name].refusal is None
    assert [exact(line) for line in heard.by_csv[name].states] == states(name)
    tables = {table["stream"]: table for table in heard.manifest(name, DAY)["tables"]}
    assert tables.keys() == said(name).keys()
    for stream, (properties, records) in said(name).items():
        path = heard.manifest_path(name, DAY).parent / tables[stream]["files"][0]["path"]
        rows = [*csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))]
        assert tables[stream]["rows"] == len(rows) == len(records) > 0
        for row, record in zip(rows, records, strict=True):
            values = {one: record.get(one) for one in properties}
            assert {one: understood(text, values[one]) for one, text in row.items()} == {
                one: in_file(value) for one, value in values.items()}


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_transcript_landed_is_loaded(heard, name):
    assert heard.loads[name].refusal is None
    for table in heard.manifest(name, DAY)["tables"]:
        relation = sql.Identifier(f"landed {name}", table["name"]).as_string(heard.warehouse.connection)
        assert heard.warehouse.one(f"SELECT count(*) FROM {relation}") == table["rows"]


def moment(value):
    """Dates and times by what they mean, in UTC."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


@pytest.mark.parametrize("name", TAKEN)
def test_a_transcript_is_loaded_by_the_stock_way_as_it_says(heard, name):
    assert heard.by_stock[name].refusal is None
    assert [exact(line) for line in heard.by_stock[name].states] == states(name)
    for stream, (properties, records) in said(name).items():
        relation = sql.Identifier(name, stream.split("-")[-1]).as_string(heard.warehouse.connection)
        rows = [exact(row) for row, in heard.warehouse.run(f"SELECT row_to_json(t)::text FROM {relation} t")]
        expected = [{one: moment(record.get(one)) for one in properties} for record in records]
        found = [{one: moment(value) for one, value in row.items()} for row in rows]
        assert sorted(found, key=repr) == sorted(expected, key=repr)


BROKEN = [None, 10**30, 1.5, "", "\0", "2024-99-99", "n" * 70, [], {}, [None], {"type": 5}, {"$ref": "#/nowhere"}]
INPUTS = int(os.environ.get("BROKEN_TRANSCRIPTS", "30"))


def broken(chance, value):
    """JSON with something in it taken away, added or replaced."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.9:
        value = value.copy()
        key = chance.choice([*value]) if isinstance(value, dict) else chance.randrange(len(value))
        if chance.random() < 0.2:
            del value[key]
        else:
            value[key] = broken(chance, value[key])
        return value
    return chance.choice(BROKEN)


def broken_transcript(chance):
    """Lines of a transcript lost, doubled, cut, in another order, with another byte, or with other JSON."""
    lines = chance.choice([*TRANSCRIPTS.values()]).read_bytes().splitlines()
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    line, cut = lines[at], chance.randrange(len(lines[at]))
    ways = [[], [line, lines[other]], [line[:cut]], [line[:cut] + bytes([chance.randrange(256)]) + line[cut + 1:]],
            *4 * [[json.dumps(broken(chance, json.loads(line))).encode()]]]
    return b"\n".join([*lines[:at], *chance.choice(ways), *lines[at + 1:]])


def test_a_broken_transcript_is_taken_or_refused_in_a_sentence_that_leaves_nothing(heard):
    before = heard.landed(), relations(heard.warehouse)
    for seed in range(INPUTS):
        sent = broken_transcript(random.Random(seed))
        for hear in (partial(send_csv, source="broken"), partial(send_postgres, heard, default_target_schema="broken")):
            one = hear(sent)
            if one.refusal is None:
                shutil.rmtree(heard.output / "source=broken", ignore_errors=True)
                heard.warehouse.run("DROP SCHEMA IF EXISTS broken CASCADE")
            else:
                assert re.match("Line [0-9]+ of |The warehouse rejected ", one.refusal), (seed, one.refusal)
                assert not one.states, seed
            assert not left_in_staging(heard), seed
            assert (heard.landed(), relations(heard.warehouse)) == before, seed


@pytest.mark.parametrize("name", REFUSED)
def test_a_transcript_that_cannot_be_taken_is_refused(heard, name):
    for one in (heard.by_csv[name], heard.by_stock[name]):
        assert REFUSED[name] in one.refusal
        assert not one.states
    assert not heard.manifest_path(name, DAY).exists()
    assert name not in {schema for schema, _ in relations(heard.warehouse)}
    assert not left_in_staging(heard)
