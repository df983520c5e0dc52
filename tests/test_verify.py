"""A hash that `verify` prints was computed from what it is named after, and `equal` says what was compared."""

import hashlib
import json
import random
import sys

import pytest
from dates import Dates
from landing.postgres.copy import copy_out
from landing.storage.hashing import RowSum
from psycopg2 import sql

D1, D2 = "2024-01-20", "2024-01-21"
NUMBERS = {"id": "integer", "a": "text"}
ROWS = [[str(number), f"line {number}\n\"quoted\", and more" if number % 3 else None] for number in range(50)]


@pytest.fixture
def dates(project):
    dates = Dates(project)
    yield dates
    dates.close()


def hash_of(dates, table, day, *columns):
    """SHA-256 of a partition's COPY."""
    relation = sql.Identifier("public_history", f"{table}@{day}")
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(map(sql.Identifier, columns)), relation)
    return copy_out(dates.connection, query).sha256


def test_the_warehouses_hash_is_always_of_what_the_warehouse_has(dates):
    """One file; several in a row or side by side; declared types; each as loaded, and after it was changed."""
    declared = {"id": "integer", "a": "real", "b": "date"}
    values = [["1", "1.50", "2024-1-2"], ["2", None, None]]
    dates.land(D1, one=(NUMBERS, ROWS))
    dates.land(D1, "chunks", chunks=3, chunked=(NUMBERS, ROWS))
    dates.land(D1, "declared", declared=True, typed=(declared, values))
    dates.land(D1, "both", declared=True, chunks=2, both=(declared, values))
    sources = {"postgres": ("one", NUMBERS, "bytes"), "chunks": ("chunked", NUMBERS, "rows"),
               "declared": ("typed", declared, "values"), "both": ("both", declared, "values")}
    for connections in (1, 2):
        dates.load(D1, *sources, reload=True, connections=connections)
        for source, (table, columns, compared) in sources.items():
            proof, = dates.proofs(D1, source)
            assert proof.warehouse == hash_of(dates, table, D1, *columns), table
            assert (proof.holds, proof.problem, proof.compared) == (True, None, compared), table
            assert proof.landed == proof.files, table
            assert (proof.warehouse == proof.landed) == (compared == "bytes"), table
    for source, (table, columns, _) in sources.items():
        dates.run(f"UPDATE public_history.{table} SET id = 7 WHERE id = 2")
        proof, = dates.proofs(D1, source)
        assert proof.warehouse == hash_of(dates, table, D1, *columns), table
        assert (proof.holds, proof.compared) == (False, None)
        assert proof.problem == "the warehouse's rows are not those of the files"


def test_values_in_columns_that_the_landed_date_lacks_are_not_equal(dates):
    dates.land(D1, t=({"a": "integer", "b": "integer"}, [["1", "10"]]))
    dates.load(D1)
    dates.land(D1, t=({"a": "integer"}, [["1"]]))
    proof, = dates.proofs(D1)
    assert (proof.holds, proof.problem) == (False, "the warehouse has values in columns that the files lack: b")
    dates.load(D1)
    assert dates.unproved(D1) == []
    dates.run("UPDATE public_history.t SET b = 7")
    assert [one.table for one in dates.unproved(D1)] == ["t"]


def test_chunks_whose_column_became_wider_are_compared_by_their_values(dates):
    dates.land(D1, chunks=3, t=({"a": "real"}, [["0.1"], ["1e+06"], [None], ["1e+06"]]))
    dates.land(D2, t=({"a": "double precision"}, [["5"]]))
    dates.load(D1, connections=2)
    dates.load(D2)
    proof, = dates.proofs(D1)
    assert (proof.holds, proof.compared) == (True, "values")
    dates.run("DELETE FROM public_history.t WHERE ctid = (SELECT min(ctid) FROM public_history.t WHERE a = 1e6)")
    assert [one.holds for one in dates.proofs(D1)] == [False]


def test_the_command_says_what_was_compared(project):
    project.csv("t.csv", "a,b\n1.50,2024-1-2\n")
    tap = project.tap_csv({"entity": "t", "path": "extract/t.csv", "types": {"a": "real", "b": "date"}},
                          {"entity": "u", "path": "extract/t.csv"})
    jobs = (project.folder / "meltano.yml").read_text().replace("- name: extract_postgres", "- name: other")
    (project.folder / "meltano.yml").write_text(jobs)
    project.pipe(tap, project.target_csv(), DATESTAMP=D1)
    project.load(D1)
    typed, plain = json.loads(project.landing("verify", D1, "--json").stdout)
    assert (typed["equal"], typed["compared"], typed["landed"] == typed["warehouse"]) == (True, "values", False)
    assert (plain["equal"], plain["compared"], plain["landed"] == plain["warehouse"]) == (True, "bytes", True)
    said = project.landing("verify", D1).stdout.splitlines()
    assert said[2].split()[-6:] == ["yes:", "values,", "as", "the", "warehouse's", "types"]
    assert said[3].split()[-1] == "yes"
    assert said[4] == "2 of 2 tables equal, 2 rows."


def summed(content, sizes):
    """Value and rows of a content that comes in chunks of these sizes."""
    rows, place = RowSum(), 0
    for size in sizes:
        rows.write(memoryview(content)[place:place + size])
        place += size
    rows.write(content[place:])
    return rows.value, rows.rows


def test_the_sum_of_rows_is_the_same_however_the_content_is_cut():
    rows = [b"1,2", b"", b'"a\n""b""\n",3', b'"\n\n",', b'""', b'x,"y\n', b"4", b'"' + b'"" \n' * 40 + b'"', b"5", b""]
    rows[5:7] = [b'x,"y\n4"']
    content = b"".join(row + b"\n" for row in rows)
    expected = sum(int.from_bytes(hashlib.sha256(row).digest(), "big") for row in rows), len(rows)
    assert summed(content, []) == expected
    assert summed(content, [1] * len(content)) == expected
    chance = random.Random(1)
    for _ in range(200):
        assert summed(content, [chance.randint(0, 30) for _ in range(chance.randint(1, 40))]) == expected
    shuffled = b"".join(row + b"\n" for row in chance.sample(rows, len(rows)))
    assert summed(shuffled, []) == expected


def test_each_row_is_hashed_behind_the_key():
    key, content = random.Random(2).randbytes(64), b'1,2\n\n"a\n""b""\n",3\n1,2\n'
    rows = RowSum(key=key)
    rows.write(content)
    hashes = [int.from_bytes(hashlib.sha256(key + row).digest(), "big") for row in (b"1,2", b"", b'"a\n""b""\n",3')]
    assert (rows.value, rows.rows) == (sum(hashes) + hashes[0], 4)
    rows.subtract(b'"a\n""b""\n",3\n')
    assert (rows.value, rows.rows) == (2 * hashes[0] + hashes[1], 3)


@pytest.mark.parametrize("line", [b"x" * 63, b'""' + b"x" * 61, b""], ids=["plain", "with quotes", "empty"])
def test_a_value_of_many_lines_is_looked_at_once(line, monkeypatch):
    """Bytes that are hashed, and calls into C, in proportion to the bytes that come; none of them are kept."""
    hashed = []

    class Counting:
        def __init__(self, content=b""):
            self.hash = sha256(content)
            hashed.append(len(content))

        def update(self, content):
            hashed.append(len(content))
            self.hash.update(content)

        def copy(self):
            return Counting()

        def digest(self):
            return self.hash.digest()

    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", Counting)

    def work(lines):
        hashed.clear()
        content = b'1,"' + (line + b"\n") * lines + b'"\n'
        rows, calls = RowSum(), []
        sys.setprofile(lambda frame, event, function: calls.append(event))
        try:
            for place in range(0, len(content), 1000):
                rows.write(content[place:place + 1000])
                assert not any(isinstance(value, bytes) and len(value) > 1000 for value in vars(rows).values())
        finally:
            sys.setprofile(None)
        assert rows.rows == 1
        assert sum(hashed) <= len(content)
        return len(calls)

    assert work(8000) <= 4.2 * work(2000)
