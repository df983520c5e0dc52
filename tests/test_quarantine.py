r"""With `on_bad_rows: quarantine` the rows that can be read land, and each of the others lies beside them.

What cannot be told apart row by row is refused as ever: no row is landed by guess.
"""

import hashlib
import json
import logging

import duckdb
import pytest
from landing.core.errors import BadFileError, SettingError
from landing.core.progress import Progress
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.quarantine import Quarantine
from landing.extract.csv.tap import TapCSV
from landing.model import declared_types
from landing.storage.local import at

DAY = "2024-03-01"


@pytest.fixture
def land(tmp_path, monkeypatch):
    """Lands files given by their content: their bytes in our dialect, the columns, and what is in quarantine."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))

    def run(*contents, limit=10, **declared):
        for number, content in enumerate(contents):
            path = tmp_path / ("in.csv" if len(contents) == 1 else f"{number}.csv")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        entity = CsvEntity(Declaration("e", "in.csv" if len(contents) == 1 else "[0-9].csv", **declared))
        out, folder = tmp_path / f"out-{next(numbers)}", tmp_path / f"folder-{next(numbers)}"
        folder.mkdir()
        quarantine = Quarantine(at(out / "bad.jsonl"), limit)
        progress = Progress(logging.getLogger("test"), "e")
        columns, _ = entity.convert(entity.names, folder, at(out / "e.csv"), progress, quarantine)
        file = quarantine.close()
        bad = (out / "bad.jsonl").read_text().splitlines() if file else []
        assert len(bad) == quarantine.rows
        return (out / "e.csv").read_bytes(), columns, [json.loads(line) for line in bad]

    numbers = iter(range(1000))
    return run


BAD = {
    "too few fields": (b"a,b\n1,x\n2\n3,y\n", {}, b"a,b\n1,x\n3,y\n", (3, None, "expected 2 fields, found 1", "2")),
    "too many fields": (b"a,b\n1,x\n2,z,\n", {}, b"a,b\n1,x\n", (3, None, "expected 2 fields, found 3", "2,z,")),
    "an empty line": (b"a,b\n1,x\n\n\n3,y\n\n", {}, b"a,b\n1,x\n3,y\n", (3, None, "an empty line between rows", "")),
    "bytes of another encoding": (b"a,b\n1,caf\xe9\n2,y\n", {}, b"a,b\n2,y\n",
                                  (2, None, "byte 0xe9 is not valid utf-8", "1,caf\\xe9")),
    "half a character": (b"a\n\xe2\x82\n2\n", {}, b"a\n2\n", (2, None, "byte 0xe2 is not valid utf-8", "\\xe2\\x82")),
    "half a utf-16 character": ("\ufeffa\n1\n".encode("utf-16-le") + b"2\0\n\0\x00\xd8x\0\n\0003\0\n\0", {},
                                b"a\n1\n2\n3\n", (4, None, "byte 0x00 is not valid utf-16", "\\x00\\xd8x")),
    "a NUL": (b"a,b\n1,\0\n2,y\n", {}, b"a,b\n2,y\n", (2, None, "a NUL character", "1,\0")),
    "text behind a quote": (b'a,b\n1,"say "hi" you"\n2,y\n', {}, b"a,b\n2,y\n",
                            (2, None, "',' expected after '\"'", '1,"say "hi" you"')),
    "a quote never closed in the last line": (b'a,b\n1,x\n2,"y\n', {}, b"a,b\n1,x\n",
                                              (3, None, "a quoted field that is never closed", '2,"y')),
    "a row of several lines": (b'a,b\n1,"x\ny",z\n2,y\n', {}, b"a,b\n2,y\n",
                               (2, None, "expected 2 fields, found 3", '1,"x\ny",z')),
    "a bad byte in a later line of a row": (b'a,b\n1,"x\n\xff"\n2,y\n', {}, b"a,b\n2,y\n",
                                            (2, None, "in line 3 byte 0xff is not valid utf-8", '1,"x\n\\xff"')),
    "a key without a value": (b"a,b\n1,x\n,z\n3,y\n", {"keys": ["a"]}, b"a,b\n1,x\n3,y\n",
                              (3, "a", "missing value in a key column", ",z")),
    "no value of its type": (b"a,b\n1,x\nn/a,z\n,y\n", {"types": {"a": "integer"}}, b"a,b\n1,x\n,y\n",
                             (3, "a", "not a value of type integer", "n/a,z")),
    "an empty string as a number": (b'a,b\n1,x\n"",z\n', {"types": {"a": "integer"}}, b"a,b\n1,x\n",
                                    (3, "a", "not a value of type integer", '"",z')),
    "a renamed column": (b"a,b\n1,x\nz,y\n", {"rename": {"a": "n"}, "types": {"a": "bigint"}}, b"n,b\n1,x\n",
                         (3, "n", "not a value of type bigint", "z,y")),
    "backslash as escape": (b'a,b\n1,"x \\"y\\""\n2,"z\\"" "y"\n', {"escape": "\\"}, b'a,b\n1,"x ""y"""\n',
                            (3, None, "expected after", '2,"z\\"" "y"')),
    "an escape of nothing": (b'a,b\n1,"C:\\dir"\n2,C:\\\\dir\n', {"escape": "\\"}, b'a,b\n2,C:\\\\dir\n',
                             (2, None, "needs no escape", '1,"C:\\dir"')),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_put_aside_with_its_line_and_text_and_the_good_ones_land(land, case):
    content, declared, expected, *bad = BAD[case]
    found, _, quarantined = land(content, **declared)
    assert found == expected
    assert len(quarantined) == len(bad)
    for one, (line, column, reason, text) in zip(quarantined, bad, strict=True):
        assert (one["file"], one["line"], one["column"], one["text"]) == ("in.csv", line, column, text)
        assert reason in one["reason"]


def test_a_line_that_ends_in_another_way_is_bad_and_so_is_the_next_that_may_be_its_rest(land):
    found, _, bad = land(b"a\r\n1\r\nhal\nf\r\n2\r\n")
    assert found == b"a\n1\n2\n"
    assert [(one["line"], one["text"]) for one in bad] == [(3, "hal"), (4, "f")]
    found, _, bad = land(b'a,b\r\n1,"x\ny"\r\n2,z\r\n')  # in quotes it is of the value
    assert (found, bad) == (b'a,b\n1,"x\ny"\n2,z\n', [])


REFUSED = {
    "an empty file": (b"", "no header"),
    "a header that is not utf-8": (b"caf\xe9,b\n1,2\n", "line 1: byte 0xe9 is not valid utf-8"),
    "a NUL in the header": ("a,b\n1,2\n".encode("utf-16-le"), "line 1: a NUL"),
    "a header of wrong quotes": (b'"a"x,b\n1,2\n', "line 1: ',' expected"),
    "the same column twice": (b"a,a\n1,2\n", "occurs 2 times"),
    "text behind a quote, some lines below it": (b'a,b\n1,"x\ny"z\n2,y\n', "the end of this row is ambiguous"),
    "a quote that may go on": (b'a,b\n1,"5" pipe\nx,foo"\n2,y\n', "line 2: .*the end of this row is ambiguous"),
    "a quote never closed above other rows": (b'a,b\n1,"x\n2,y\n3,z\n', "line 2: .*the end of this row is"),
    "no row that can be read": (b"a;b\n1,2\n3,4\n", r"in\.csv: all 2 rows are rejected"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_the_file_or_cannot_be_told_from_good_rows_is_refused(land, case):
    content, reason = REFUSED[case]
    with pytest.raises(BadFileError, match=reason):
        land(content)


def test_above_the_limit_the_file_is_refused_by_the_line_that_is_one_too_many(land):
    content = "a,b\n" + "1,x\n2\n" * 3
    assert len(land(content, limit=3)[2]) == 3
    with pytest.raises(BadFileError, match=r"line 7: expected 2 fields.* 3 rejected lines; max_bad_rows allows 2"):
        land(content, limit=2)
    with pytest.raises(BadFileError, match="This makes 3 rejected lines; max_bad_rows allows 2"):
        land('a,b\n1,x\n1,"2\n3\n4",5\n', limit=2)  # a quote that swallows rows swallows lines
    with pytest.raises(BadFileError, match="line 3: not a value of type integer"):
        land("a,b\n1,x\nz,y\n", limit=0, types={"a": "integer"})


def test_rows_are_named_by_their_line_in_the_file_that_has_them_whatever_was_put_aside_before(land):
    found, _, bad = land("a,b\n1,x\n2\nz,y\n", 'a,b\n4,"x\ny"\n\n5\nz,y\n,v\n6,w\n', keys=["a"], types={"a": "integer"})
    assert found == b'a,b\n1,x\n4,"x\ny"\n6,w\n'
    assert [(one["file"], one["line"], one["column"]) for one in bad] == [
        ("0.csv", 3, None), ("1.csv", 4, None), ("1.csv", 5, None), ("0.csv", 4, "a"), ("1.csv", 6, "a"),
        ("1.csv", 7, "a")]


def test_bad_rows_have_no_say_in_the_types_of_columns(land):
    _, columns, _ = land("a,b,c,d\n1,2,3,\nTOTAL,x,y,z\n4,5,6,\n", types={"a": "integer"}, keys=["a"])
    assert [(one.type, one.nullable) for one in columns] == [
        ("integer", False), ("integer", True), ("integer", True), ("text", True)]


def test_the_same_input_gives_the_same_bytes_and_a_good_file_no_quarantine(land):
    content = "a,b\n1,x\n2\n" * 4
    assert land(content) == land(content)
    assert land("a,b\n1,x\n")[2] == []


def test_a_value_in_a_column_that_is_not_wanted_harms_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    (tmp_path / "in.csv").write_text("a,b\nx,1\n,2\n")
    entity = CsvEntity(Declaration("e", "in.csv", types={"a": "integer"}, keys=["a"]))
    quarantine = Quarantine(at(tmp_path / "bad.jsonl"), 0)
    progress = Progress(logging.getLogger("test"), "e")
    entity.convert(["b"], tmp_path, at(tmp_path / "out.csv"), progress, quarantine)
    assert (tmp_path / "out.csv").read_text() == "b\n1\n2\n"


NUMBERS = ["0", "-1", "+7", "007", "32767", "32768", "-32769", "2147483647", "2147483648", "9223372036854775807",
           "9223372036854775808", "9" * 40, "1.5", "-.5", "5.", "1e5", "1E-5", "1e40", "1e-50", "1e400", "0e400",
           "0.0e-999", "99.95", "99.94", "999.99", "1e2", "1e999", "3.4e38", "3.5e38", "1.17e-38", "1.2e-38", "1_000",
           "1,000", "0x1F", "--1", "+-1", "+", ".", "e5", "1e", " 1", "1 ", "", " ", "NaN", "nan", "Infinity", "-inf",
           "+infinity", "n/a", "NULL", "-", "٣", "½"]
DATES = ["2024-02-29", "2023-02-29", "2024-2-9", "2024/02/09", "20240209", "20241309", "2024-02-09x", "0000-01-01",
         "0001-01-01", "9999-12-31", "10000-01-01", "31/12/2024", "12-31-2024", "2024-0102", "24-01-01", "1", "now",
         "2024-02-09 23:59:59", "2024-02-09T01:02:03.123456", "2024-02-09 24:00:01", "2024-02-09 12:60",
         "2024-02-09 12:30", "2024-02-09 12:30:61", "2024-02-09 12", "2024-02-09T12:30:00Z", "2024-02-09 12:30+05",
         "2024-02-09 12:30:00.5-0330", "2024-02-09 12:30:00+14:59", "2024-02-09 12:30:00+15:00", "20240209 12:30",
         "20240209T12:30:00+00", "2024-02-09 12:30:00+16:00", "2024-02-30 12:30", "0000-01-01 00:00:00", "tomorrow"]
WORDS = ["t", "TRUE", "fAl", "o", "on", "of", "yes", "ye", "n", "2", "01", "abc", "abcd", "äöü", "äöüß", "abc  ",
         "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8", "\\."]
TYPES = ["smallint", "integer", "int8", "real", "float8", "numeric", "numeric(3,1)", "numeric(5,2)", "decimal(4)",
         "boolean", "date", "timestamp", "timestamp(3) without time zone", "timestamptz", "uuid",
         "character varying(3)", "char(3)"]


def test_a_value_that_passes_for_a_declared_type_is_one_that_postgresql_reads(project):
    values = [*NUMBERS, *DATES, *WORDS]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE v AS SELECT unnest(?::VARCHAR[]) AS c0", [values])
        passed = {type_: {value for value, in connection.execute(
            f"SELECT c0 FROM v WHERE {declared_types.fits(type_, 'c0')} UNION SELECT c0 FROM v WHERE "
            f"{declared_types.held(type_, 'c0')}").fetchall()} for type_ in TYPES}
    for number, type_ in enumerate(TYPES):
        project.warehouse.run(f"CREATE TABLE t{number} (v {type_})")
        for value in passed[type_]:
            project.warehouse.run(f"SET DateStyle = 'ISO, YMD'; INSERT INTO t{number} VALUES (%s)", value)
    usual = {"smallint": {"0", "-1", "+7", "007", "32767"}, "numeric(3,1)": {"99.94", "1.5", "-.5", "5."},
             "real": {"1E-5", "3.4e38", "NaN", "-inf", "0e400"}, "date": {"2024-02-29", "2024-2-9", "20240209"},
             "timestamptz": {"2024-02-09T12:30:00Z", "2024-02-09 12:30+05"}, "boolean": {"t", "TRUE", "0", "on"}}
    assert all(values <= passed[type_] for type_, values in usual.items())
    assert not {"", "n/a", "2023-02-29", "31/12/2024", "0x1F"} & set().union(*(passed[type_] for type_ in TYPES[:-2]))
    assert declared_types.fits("jsonb", "c0") is declared_types.fits("integer[]", "c0") is None


def table(project, day=DAY):
    return project.manifest("csv", day)["tables"][0]


def quarantined(project, day=DAY):
    return project.manifest_path("csv", day).parent / table(project, day)["quarantine"]["path"]


def test_the_whole_way_counts_shows_and_keeps_bad_rows_and_loads_the_others(project):
    yaml = project.folder / "meltano.yml"
    files = "      files:\n      - entity: order_details"
    settings = "      on_bad_rows: quarantine\n      max_bad_rows: 5\n"
    yaml.write_text(yaml.read_text().replace(files, settings + files)
                    .replace("- name: extract_postgres\n  tasks:\n  - tap-postgres target-csv\n", ""))
    project.csv("order_details.csv", "order_id,product_id,unit_price\n1,11,14\n1,,2\n2,12\n3,13,1.5\n")
    run = project.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    path = quarantined(project)
    assert f"2 rejected rows are quarantined, not landed: {path}" in " ".join(run.text.split())
    assert path.name == f"_quarantine-{project.manifest('csv', DAY)['run_id']}.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"file": "extract/order_details.csv", "line": 4, "column": None, "rule": None,
         "reason": "expected 3 fields, found 2", "text": "2,12"},
        {"file": "extract/order_details.csv", "line": 3, "column": "product_id", "rule": "key",
         "reason": "missing value in a key column", "text": "1,,2"}]
    file = table(project)["quarantine"]
    assert (file["rows"], file["bytes"], file["sha256"]) == (
        2, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert table(project)["rows"] == 2
    said = project.landing("show", DAY).stdout
    assert f"order_details: 2 rejected rows, not included above, in {file['path']}" in said
    shown = json.loads(project.landing("show", DAY, "--json").stdout)["sources"][0]["tables"][0]
    assert (shown["rows"], shown["quarantine"]) == (2, file)
    project.load(DAY)
    assert project.rows("order_details") == [("(1,11,14)",), ("(3,13,1.5)",)]
    assert "1 of 1 tables equal" in project.landing("verify", DAY).stdout
    assert project.landing("gc").stdout == "Nothing to remove.\n"


@pytest.fixture
def quarantining(project):
    """A project of one entity, with its bad row in quarantine, and how to land it again."""
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.csv("e.csv", "a,b\n1,x\n2\n")
    tap = project.tap_csv({"entity": "e", "path": "extract/e.csv", "on_bad_rows": "quarantine"}, max_bad_rows=1,
                          compression="gzip")

    def again(check=True, **variables):
        return project.pipe(tap, project.target_csv(), check, DATESTAMP=DAY, **variables)

    again()
    return again


def test_a_date_that_is_taken_again_has_the_new_quarantine_or_none(project, quarantining):
    first = quarantined(project)
    project.csv("e.csv", "a,b\n1,x\n2\n3\n")  # one too many: all is as before
    result = quarantining(check=False, REEXTRACT="true")
    assert result.returncode
    assert "e.csv, line 4: expected 2 fields" in result.text
    assert "Traceback" not in result.text
    assert quarantined(project) == first
    project.csv("e.csv", "a,b\n1,x\n2,y\n")
    quarantining(REEXTRACT="true")
    assert "quarantine" not in table(project)
    assert [path.suffix for path in first.parent.iterdir()] == [".gz"]
    assert not list((project.output / "_staging").glob("*/"))


def test_a_quarantine_that_was_damaged_is_found_and_holds_up_no_load(project, quarantining):
    path = quarantined(project)
    path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    project.load(DAY)
    result = project.landing("verify", DAY, check=False)
    assert result.returncode
    assert f"{path} is not what was landed" in result.text
    assert "REEXTRACT=true" in result.text


def test_rows_that_go_as_records_have_no_quarantine_and_are_refused_with_that(project, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    files = [{"entity": "e", "path": "extract/order_details.csv", "on_bad_rows": "quarantine"}]
    for setting in ({"use_batch": False}, {"stream_maps": {"e": {"order_id": "order_id"}}}):
        with pytest.raises(SettingError, match="Set on_bad_rows: fail"):
            TapCSV(config={"files": files, **setting}).discover_streams()
