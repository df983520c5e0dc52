"""Entities of CSV files are converted side by side: they land, and fail, as one after the other."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from in_process import serverless
from landing.core.errors import BadFileError
from landing.extract.csv import side_by_side
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.tap import TapCSV
from landing.zone.landing_zone import LandingZone
from landing.zone.target import TargetCSV

DAY = "2024-03-01"


@pytest.fixture
def site(tmp_path):
    """A project without servers: its folder."""
    with serverless(tmp_path, DAY):
        yield tmp_path


def entity(site, name, rows, **declared):
    (site / f"{name}.csv").write_text("a,b\n" + "".join(f"{one},x\n" for one in rows))
    return {"entity": name, "path": f"{site / name}.csv", "keys": ["a"], "types": {"a": "integer"}, **declared}


def extract(files):
    """Run the tap, and return what it sends."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        TapCSV(config={"files": files}).sync_all()
    return said.getvalue()


def staged(site):
    return [path.name for path in (site / "output").rglob("*") if path.is_file() and path.suffix == ".csv"]


def test_many_entities_land_in_their_order_with_the_rows_of_each(site, monkeypatch):
    monkeypatch.setattr(side_by_side, "LARGE", 100)
    files = [entity(site, f"e{number}", range(10 * number + 1)) for number in range(9)]
    sent = extract(files)
    schemas = [json.loads(line)["stream"] for line in sent.splitlines() if json.loads(line)["type"] == "SCHEMA"]
    assert schemas == [one["entity"] for one in files]
    with contextlib.redirect_stdout(io.StringIO()):
        TargetCSV(config={"source": "csv"}).listen(io.StringIO(sent))
    zone = LandingZone.at(str(site / "output"))
    tables = {table.name: table for table in zone.manifest("csv", TapCSV(config={"files": []}).date).tables}
    assert {name: table.rows for name, table in tables.items()} == {f"e{n}": 10 * n + 1 for n in range(9)}


def test_the_first_entity_that_fails_is_reported_and_no_other_file_is_moved(site):
    moved = {"after_landing": {"failed": str(site / "failed")}}
    files = [entity(site, "good", range(20_000)), entity(site, "bad", ["x"], **moved),
             entity(site, "worse", ["y"], **moved)]
    with pytest.raises(BadFileError, match=r"bad\.csv, line 2"):
        extract(files)
    assert (site / "failed" / "bad.csv").exists()
    assert (site / "worse.csv").exists()
    assert not staged(site)


def test_an_entity_that_fails_ends_the_others(site, monkeypatch):
    convert, ended, begun = CsvEntity.convert, [], threading.Event()

    def endless(self, *arguments, **named):
        if self.declaration.entity == "endless":
            begun.set()
            try:
                while True:
                    for text in self.texts:
                        text.sample()
                    time.sleep(0.01)
            finally:
                ended.append("endless")
        begun.wait()
        return convert(self, *arguments, **named)

    monkeypatch.setattr(CsvEntity, "convert", endless)
    with pytest.raises(BadFileError, match=r"bad\.csv, line 2"):
        extract([entity(site, "bad", ["x"]), entity(site, "endless", [1]), entity(site, "later", [1])])
    assert ended == ["endless"]
    assert not staged(site)


def test_a_statement_of_duckdb_is_interrupted(site, monkeypatch):
    convert, begun = CsvEntity.convert, threading.Event()

    def endless(self, *arguments, **named):
        if self.declaration.entity == "endless":
            import duckdb

            with duckdb.connect() as connection, self.texts[0].stop.watching(connection):
                begun.set()
                connection.execute("SELECT max(a.range + b.range) FROM range(10000000) a, range(10000000) b").fetchall()
        begun.wait()
        return convert(self, *arguments, **named)

    monkeypatch.setattr(CsvEntity, "convert", endless)
    with pytest.raises(BadFileError, match=r"bad\.csv, line 2"):
        extract([entity(site, "bad", ["x"]), entity(site, "endless", [1])])


INTERRUPTED = """
import threading
import duckdb
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.tap import TapCSV
from landing.singer.process import run

convert, begun = CsvEntity.convert, threading.Event()

def endless(self, *arguments, **named):
    if self.declaration.entity == "endless":
        with duckdb.connect() as connection, self.texts[0].stop.watching(connection):
            begun.set()
            connection.execute("SELECT max(a.range + b.range) FROM range(10000000) a, range(10000000) b").fetchall()
    begun.wait()
    return convert(self, *arguments, **named)

CsvEntity.convert = endless
run(TapCSV)
"""


def test_the_last_words_of_a_failed_run_are_its_error(site):
    (site / "config.json").write_text(json.dumps({"files": [entity(site, "bad", ["x"]), entity(site, "endless", [1])]}))
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, "--config", str(site / "config.json")],
                          env={**os.environ, "SOURCE": "csv"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "bad.csv, line 2" in done.stderr.splitlines()[-1], done.stderr
