"""A CSV file with two rows of one key is found at the extract: no date lands that can never be loaded."""

import json
import logging

import pytest
from landing.core.errors import BadFileError
from landing.core.progress import Progress
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.quarantine import Quarantine
from landing.storage.local import at

DAY = "2024-03-01"

ONE = {  # texts that PostgreSQL's unique index takes for one value
    "integer": ["1", "+1", "01", " 1"],
    "numeric": ["1", "1.0", "1.00", "+1", "10e-1", "001.000"],
    "numeric(10,2)": ["-0.5", "-.50", "-5e-1"],
    "real": ["0.1", "0.10", "1e-1"],
    "double precision": ["0.1", "0.10000000000000001", "0", "-0"][:2],
    "boolean": ["t", "yes", "1", "on", "TRUE"],
    "date": ["2024-01-02", "20240102", "2024/1/2", "2024-01-02 00:00"],
    "timestamp": ["2024-01-02", "2024-01-02 00:00:00.000", "20240102T00:00"],
    "timestamptz": ["2024-01-02 00:00:00Z", "2024-01-02 05:30+0530", "2024-01-01 19:00:00-05", "2024-01-02"],
    "time": ["10:00", "10:00:00", "10:00:00.000"],
    "uuid": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "char(4)": ["ab", "ab  "],
    "text": ["x"],
}
TWO = {  # and texts that it takes for several
    "text": ["1", "01", "1.0", "a", "A", "a ", "\u00e9", "e\u0301"],
    "varchar(9)": ["ab", "ab "],
    "numeric": ["1", "-1", "0.1", "10", "1e-2", "NaN", "0"],
    "integer": ["1", "-1", "10"],
    "timestamptz": ["2024-01-02 00:00:00+01", "2024-01-02 00:00:00-01", "2024-01-02 00:00:00"],
    "timestamp": ["2024-01-02 00:00:00", "2024-01-02 00:00:00.000001", "2024-01-02 00:01"],
    "timetz": ["10:00Z", "10:00+01", "11:00+01"],
    "boolean": ["t", "f"],
    "date": ["2024-01-02", "2024-02-01", "infinity", "-infinity"],
    "double precision": ["0.1", "0.10000000000000002", "1e300", "-1e300"],
}


@pytest.fixture
def land(tmp_path, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))

    def run(*contents, wanted=None, limit=None, **declared):
        for number, content in enumerate(contents):
            (tmp_path / f"{number}.csv").write_text(content)
        declaration = {"keys": ["k"], **declared}
        entity = CsvEntity(Declaration("e", "[0-9].csv" if len(contents) > 1 else "0.csv", **declaration))
        out, bad = tmp_path / "e.csv", tmp_path / "bad.jsonl"
        for old in (out, bad):
            old.unlink(missing_ok=True)
        quarantine = None if limit is None else Quarantine(at(bad), limit)
        bad_rows = quarantine if declared.get("on_bad_rows") == "quarantine" else None
        progress = Progress(logging.getLogger("test"), "e")
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        _, copied = entity.convert(wanted or entity.names, folder, at(out), progress, bad_rows, quarantine)
        for copy in folder.glob("*.csv"):
            copy.unlink()
        if quarantine and quarantine.close():
            return out.read_text(), [json.loads(line) for line in bad.read_text().splitlines()]
        assert copied.rows == out.read_text().count("\n") - 1
        return out.read_text(), entity.duplicates

    return run


def content(values):
    return "k,b\n" + "".join(f'"{value}",{n}\n' for n, value in enumerate(values))


@pytest.mark.parametrize("type_", ONE)
def test_texts_of_one_value_are_one_key_as_postgresql_has_it(land, project, type_):
    project.warehouse.run(f"SET TimeZone = 'UTC'; CREATE TABLE t (k {type_} PRIMARY KEY)")
    for value in ONE[type_]:
        inserted = project.warehouse.run("INSERT INTO t VALUES (%s) ON CONFLICT DO NOTHING RETURNING 1", value)
        assert bool(inserted) == (value == ONE[type_][0])
        with pytest.raises(BadFileError, match=r"0\.csv, line 3: duplicate key \(k\), first in line 2"):
            land(content([ONE[type_][0], value]), types={"k": type_})


@pytest.mark.parametrize("type_", TWO)
def test_texts_of_several_values_are_several_keys_as_postgresql_has_it(land, project, type_):
    project.warehouse.run(f"SET TimeZone = 'UTC'; CREATE TABLE t (k {type_} PRIMARY KEY)")
    for value in TWO[type_]:
        project.warehouse.run("INSERT INTO t VALUES (%s)", value)
    assert land(content(TWO[type_]), types={"k": type_})[1] == 0


def test_an_inferred_number_is_compared_by_its_value_too(land):
    with pytest.raises(BadFileError, match=r"line 4: duplicate key \(k\), first in line 2"):
        land("k,b\n1.0,x\n2,y\n1.00,z\n")


def test_both_lines_are_named_in_whichever_files_they_are(land):
    with pytest.raises(BadFileError) as refused:
        land('k,b\n1,"x\ny"\n2,y\n', "k,b\n3,x\n2,y\n")
    assert "1.csv, line 3: duplicate key (k), first in line 4 of " in str(refused.value)
    assert "0.csv. To allow it" in str(refused.value)


def test_the_first_row_stays_and_the_others_are_counted_and_said(land, caplog):
    with caplog.at_level(logging.WARNING, "tap-csv"):
        assert land("k,b\n1,x\n2,y\n1,z\n3,v\n2,y\n1,w\n", on_duplicate_key="keep_first") == (
            "k,b\n1,x\n2,y\n3,v\n", 3)
    assert "e: dropped 3 rows with duplicate keys. The first is line 4" in caplog.text


def test_in_quarantine_each_names_the_line_of_the_first(land):
    found, bad = land("k,b\n1,x\n2,y\n1,z\n3\n,n\n01,w\n", limit=5, on_bad_rows="quarantine",
                      on_duplicate_key="quarantine", types={"k": "integer"})
    assert found == "k,b\n1,x\n2,y\n"
    assert {(one["line"], one["text"], one["reason"]) for one in bad} == {
        (5, "3", "expected 2 fields, found 1"), (6, ",n", "missing value in a key column"),
        (4, "1,z", "duplicate key (k), first in line 2"), (7, "01,w", "duplicate key (k), first in line 2")}
    with pytest.raises(BadFileError, match=r"line 5: duplicate key .* 3 rejected lines; max_bad_rows allows 2"):
        land("k,b\n" + "1,x\n" * 9, limit=2, on_duplicate_key="quarantine")


def test_a_bad_row_has_no_key_that_another_could_have(land):
    assert land("k,b\n1,x\n1,n/a\n".replace("x", "5"), limit=5, on_bad_rows="quarantine",
                types={"b": "integer"})[0] == "k,b\n1,5\n"


def test_a_key_of_which_a_part_is_left_out_is_the_rest(land):
    rows = "k,b,c\n1,1,x\n1,2,y\n"
    assert land(rows, keys=["k", "b"])[1] == 0
    with pytest.raises(BadFileError, match="first in line 2"):
        land(rows, keys=["k", "b"], wanted=["k", "c"])


def test_many_keys_take_bounded_memory_and_find_the_one_that_comes_twice(land, tmp_path):
    rows = "".join(f"key number {n:>40},{n}\n" for n in range(300_000))
    with pytest.raises(BadFileError, match=r"line 300002: duplicate key \(k\), first in line 12345"):
        land("k,b\n" + rows + f"key number {12_343:>40},x\n")
    found, left_out = land("k,b\n" + rows * 2, on_duplicate_key="keep_first")
    assert (found, left_out) == ("k,b\n" + rows, 300_000)


def test_the_whole_way_a_date_that_could_not_be_loaded_does_not_land(project):
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    path = project.csv("e.csv", "id,b\n7,x\n7,y\n")
    declared = {"entity": "e", "path": "extract/e.csv", "keys": ["id"]}
    result = project.pipe(project.tap_csv(declared), project.target_csv(), False, DATESTAMP=DAY)
    assert result.returncode
    assert f"{path}, line 3: duplicate key (id), first in line 2" in " ".join(result.text.split())
    assert "Traceback" not in result.text
    assert project.landed() == {}
    project.pipe(project.tap_csv(declared, on_duplicate_key="keep_first"), project.target_csv(), DATESTAMP=DAY)
    table, = project.manifest("csv", DAY)["tables"]
    assert (table["rows"], table["duplicates"]) == (1, 1)
    project.load(DAY)
    assert project.rows("e") == [("(7,x)",)]
    project.pipe(project.tap_csv({**declared, "on_duplicate_key": "quarantine"}), project.target_csv(), DATESTAMP=DAY,
                 REEXTRACT="true")
    table, = project.manifest("csv", DAY)["tables"]
    assert (table["rows"], table["quarantine"]["rows"], "duplicates" in table) == (1, 1, False)
