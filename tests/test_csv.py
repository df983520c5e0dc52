r"""A CSV file arrives as it was, or is refused with its name, its line and the reason.

Most cases go through CsvEntity, which needs no process of its own; one of each kind goes the whole way.
"""

import io
import json
import logging
import os
import random
from dataclasses import replace
from datetime import date

import pytest
from landing.core.errors import BadFileError, LandingError, SettingError, SourceError
from landing.core.progress import Progress
from landing.extract.csv import entity as entity_module
from landing.extract.csv.declaration import Declaration, declarations
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.plain import SEPARATOR, PlainRows
from landing.extract.csv.text import RECORD_BYTES, CsvText, RejectedRow
from landing.storage.local import at

DAY = "2024-03-01"
BACKSLASH = "\\"


@pytest.fixture
def land(tmp_path, monkeypatch):
    """Lands files given by their content, without a process: their bytes in our dialect, and the columns."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))

    def run(*contents, path="in.csv", wanted=None, **declared):
        for number, content in enumerate(contents):
            file = tmp_path / (path if len(contents) == 1 else f"{number}.csv")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        entity = CsvEntity(Declaration("e", path, **declared))
        progress = Progress(logging.getLogger("test"), "e")
        out, folder = tmp_path / "out" / "e.csv", tmp_path / "folder"
        out.unlink(missing_ok=True)
        for needed in (out.parent, folder):
            needed.mkdir(exist_ok=True)
        columns, copied = entity.convert(wanted or entity.names, folder, at(out), progress)
        assert copied.bytes == out.stat().st_size
        return out.read_bytes(), columns

    return run


def landed(project, entity="e"):
    """A landed table's bytes, and its part of the manifest."""
    table = next(table for table in project.manifest("csv", DAY)["tables"] if table["name"] == entity)
    return (project.manifest_path("csv", DAY).parent / table["files"][0]["path"]).read_bytes(), table


def extract(project, *files, check=True):
    return project.pipe(project.tap_csv(*files), project.target_csv(), check, DATESTAMP=DAY)


REFUSED = {
    "too few fields": (b"a,b\n1,2\n3\n", 3, "expected 2 fields, found 1"),
    "too many fields": (b"a,b\n1,2\n3,4,5\n", 3, "expected 2 fields, found 3"),
    "a delimiter at the end": (b"a,b\n1,2,\n", 2, "expected 2 fields, found 3"),
    "an empty line between rows": (b"a,b\n1,2\n\n3,4\n", 3, "an empty line between rows"),
    "an empty first line": (b"\na,b\n1,2\n", 1, "no header"),
    "a quote never closed": (b'a,b\n1,2\n3,"x\n5,6\n', 3, "a quoted field that is never closed"),
    "a quote never closed in the header": (b'"a,b\n1,2\n', 1, "a quoted field that is never closed"),
    "text behind a quote": (b'a,b\n1,"x\ny"z\n', 2, "',' expected after '\"'"),
    "a space before a quote": (b'a,b\n1,"x\ny"\n1, "x"\n', 4, "a space before a quote"),
    "bytes of another encoding": (b"a,b\n1,2\n3,caf\xe9\n", 3, "byte 0xe9 is not valid utf-8"),
    "half a character at the end": (b"a,b\n1,\xe2\x82", 2, "byte 0xe2 is not valid utf-8"),
    "a NUL": (b"a,b\n1,2\n3,\0\n", 3, "a NUL character"),
    "utf-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), 1, "a NUL character"),
    "line ends of two kinds": (b"a,b\n1,2\r\n3,4\n", 2, "mixed line endings"),
    "a CR in an unquoted field": (b"a,b\n1,x\ry\n", 2, "mixed line endings"),
    "a backslash as escape that is not declared": (b'a,b\n1,"x \\"y\\" z"\n', 2, "declare `escape: '\\'`"),
    "a header with as many commas as semicolons": (b"a,b;c\n1,2;3\n", 1, "Declare `delimiter`"),
    "the same column twice": (b"a,b,a\n1,2,3\n", 1, "column 1, 'a', occurs 2 times in the header"),
    "a header over 63 bytes": (("ä" * 32 + ",b\n1,2\n").encode(), 1, "64 bytes; PostgreSQL's limit is 63"),
    "a column without a name": (b"a,,c\n1,2,3\n", 1, "column 2, '', has no name"),
    "a line feed in a column's name": (b'"a\nx",b\n1,2\n', 1, "control character"),
    "an empty file": (b"", 1, "no header"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_file_line_and_reason(land, tmp_path, case):
    content, line, reason = REFUSED[case]
    with pytest.raises(BadFileError) as refused:
        land(content)
    where = f"{tmp_path}/in.csv" + (f", line {line}: " if line else ": ")
    assert str(refused.value).startswith(where)
    assert reason in str(refused.value)
    assert "Nothing of this source's date was committed" in str(refused.value)


def test_a_refused_file_commits_nothing_and_says_why_in_a_sentence(project):
    project.csv("good.csv", "a\n1\n")
    path = project.csv("bad.csv", "a,b\n1,2\n3\n")
    result = extract(project, {"entity": "good", "path": "extract/good.csv"},
                     {"entity": "bad", "path": "extract/bad.csv"}, check=False)
    assert result.returncode != 0
    assert f"{path}, line 3: expected 2 fields, found 1" in result.text
    assert "Traceback" not in result.text
    assert project.landed() == {}


@pytest.mark.parametrize(("declared", "reason"), [
    ({"path": "no.csv"}, "no.csv does not exist"),
    ({"path": "no/*.csv"}, "no/*.csv does not exist"),
    ({"path": "folder"}, "folder is a folder without *.csv files"),
    ({"path": "pipe"}, "pipe is not a regular file"),
    ({"path": "in.csv", "keys": ["c"]}, "the declaration names columns that do not exist (keys: 'c'). "),
    ({"path": "in.csv", "types": {"c": "integer"}}, "do not exist (types: 'c')"),
    ({"path": "in.csv", "rename": {"c": "d"}}, "do not exist (rename: 'c')"),
    ({"path": "in.csv", "rename": {"a": "b"}}, "occurs 2 times"),
    ({"path": "in.csv", "types": {"a": "integer; drop table x"}}, "is not a type name"),
    ({"path": "in.csv", "encoding": "klingon"}, "encoding='klingon' is not a Python encoding"),
    ({"path": "in.csv", "encoding": "hex"}, "encoding='hex' is not a Python encoding"),
    ({"path": "in.csv", "delimiter": "||"}, "delimiter='||' is not one character"),
    ({"path": "in.csv", "delimiter": '"'}, "is both the delimiter and the quote"),
])
def test_a_declaration_that_does_not_fit_is_refused(tmp_path, monkeypatch, declared, reason):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LandingError) as refused:
        CsvEntity(Declaration("e", **declared))
    assert reason in str(refused.value)


def test_a_type_that_would_be_sql_and_a_missing_file_are_refused_in_a_sentence(project):
    for settings, reason in [
        ({"path": "extract/order_details.csv", "types": {"discount": "real; drop table x"}}, "is not a type name"),
        ({"path": "extract/nothing.csv"}, "does not exist"),
    ]:
        result = extract(project, {"entity": "e", **settings}, check=False)
        assert result.returncode != 0
        assert reason in result.text
        assert "Traceback" not in result.text
        assert project.landed() == {}


def test_an_entity_declared_twice_is_refused():
    with pytest.raises(SettingError, match="declared 2 times"):
        declarations([{"entity": "e", "path": "a.csv"}, {"entity": "e", "path": "b.csv", "keys": None}], date.today())


def test_a_bad_line_is_named_in_the_file_that_has_it(land):
    with pytest.raises(BadFileError, match=r"1\.csv, line 3: expected 2 fields"):
        land("a,b\n1,2\n", "a,b\n1,2\n3\n", path="*.csv")


@pytest.mark.parametrize("keys", [["a"], ["b", "a"]])
def test_a_key_without_a_value_is_refused_by_its_line(land, keys):
    with pytest.raises(BadFileError, match=r"in\.csv, line 4: column 'a': missing value in a key column"):
        land('a,b\n1,"x\ny"\n,2\n', keys=keys)


def test_lines_are_counted_across_the_borders_of_what_is_read_at_once(land):
    rows = "".join(f"{n},{'é' * (n % 7)}\r\n" for n in range(20_000))
    with pytest.raises(BadFileError, match="line 20002: byte 0xe9"):
        land(f"a,b\r\n{rows}".encode() + b"1,\xe9\r\n")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_lines_are_counted_in_wide_encodings(land, encoding):
    bad = {"utf-16-le": b"\x00\xdc", "utf-16-be": b"\xdc\x00", "utf-32-le": b"\0\0\xff\xff"}[encoding]
    content = "\ufeffa,b\n" + "\u0a0a,2\n" * 9_000
    with pytest.raises(BadFileError, match="line 9002: byte 0x"):
        land(content.encode(encoding) + bad * 2)


@pytest.mark.parametrize("content", [
    "a,b\n1,2\n" + "x" * RECORD_BYTES + ",2\n",
    'a,b\n1,2\n3,"' + "x\n" * (RECORD_BYTES // 2 + 1) + '"\n',
])
def test_a_record_without_an_end_is_refused_before_it_fills_the_memory(land, content):
    with pytest.raises(BadFileError, match="line 3: a record of more than"):
        land(content)


def test_a_header_without_an_end_is_refused(land):
    with pytest.raises(BadFileError, match="line 1: a record of more than"):
        land("x" * RECORD_BYTES + ",b\n")


def test_a_field_of_many_megabytes_arrives(land):
    content = f"a,b\n1,{'é' * 5_000_000}\n"
    assert land(content)[0] == content.encode()


def test_a_file_that_changes_while_it_is_read_is_refused(land, tmp_path, monkeypatch):
    write = entity_module.write_rows

    def write_and_append(*arguments, **named):
        copied = write(*arguments, **named)
        with (tmp_path / "in.csv").open("a") as file:
            file.write("3,4\n")
        return copied

    monkeypatch.setattr(entity_module, "write_rows", write_and_append)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        land("a,b\n1,2\n")


READERS_DIFFER = {  # a row as one of the readers has it, and as the other does: as many characters in all
    "two fields swapped": ("ab,cd,e\n", ["cd", "ab", "e"]),
    "a character moved to the next column": ("ab,cd,e\n", ["a", "bcd", "e"]),
    "a character changed": ("ab,cd,e\n", ["ab", "cx", "e"]),
    "a field moved over an empty one": ("ab,,e\n", ["", "ab", "e"]),
    "a character between fields": ("ab\x1f,cd,e\n", ["ab", "\x1fcd", "e"]),
}


@pytest.mark.parametrize("case", READERS_DIFFER)
@pytest.mark.parametrize("keys", [[], ["b"]])
def test_a_field_that_the_two_readers_read_differently_is_refused_by_its_line(land, monkeypatch, case, keys):
    row, otherwise = READERS_DIFFER[case]
    content = "a,b,c\n1,2,3\n" + row + "4,5,6\n"
    assert land(content, keys=[])[0] == content.encode()
    rows = CsvText.rows

    def faulty(text, dialect, reject=RejectedRow.refuse, take=None):
        for number, record in enumerate(rows(text, dialect, reject)):
            yield otherwise if number == 2 else record

    monkeypatch.setattr(CsvText, "rows", faulty)
    with pytest.raises(BadFileError, match=r"in\.csv, line 3: (two CSV parsers|column 'b': missing value)"):
        land(content, keys=keys)


@pytest.mark.parametrize("case", READERS_DIFFER)
def test_a_block_that_the_two_readers_read_differently_is_refused(land, monkeypatch, case):
    row, otherwise = READERS_DIFFER[case]
    read = PlainRows.read

    def faulty(*arguments):
        block = read(*arguments)
        fields = row[:-1].replace(",", SEPARATOR)
        assert fields in block.fields
        return replace(block, fields=block.fields.replace(fields, SEPARATOR.join(otherwise)))

    monkeypatch.setattr(PlainRows, "read", faulty)
    with pytest.raises(BadFileError, match="two CSV parsers read this row differently"):
        land("a,b,c\n1,2,3\n" + row + "4,5,6\n")


def test_rows_that_the_two_readers_read_in_another_order_are_refused(land, monkeypatch):
    rows = CsvText.rows

    def faulty(text, dialect, reject=RejectedRow.refuse, take=None):
        header, first, second, *others = rows(text, dialect, reject)
        yield from [header, second, first, *others]

    monkeypatch.setattr(CsvText, "rows", faulty)
    with pytest.raises(BadFileError, match="two CSV parsers read this row differently"):
        land("a,b\n1,2\n3,4\n5,6\n")


PLAIN = b"a,b\n1,x\n"
ACCEPTED = {
    "utf-8 with a mark": (b"\xef\xbb\xbfa,b\n1,x\n", {}, PLAIN),
    "utf-8 with a mark, quoted header": (b'\xef\xbb\xbf"a","b"\n1,x\n', {}, PLAIN),
    "utf-8 with a mark, declared": (b"\xef\xbb\xbfa,b\n1,x\n", {"encoding": "utf8"}, PLAIN),
    "utf-16 with a mark": ("a,b\r\n1,é\r\n".encode("utf-16"), {}, "a,b\n1,é\n".encode()),
    "utf-16 big-endian with a mark": ("\ufeffa,b\n1,é\n".encode("utf-16-be"), {}, "a,b\n1,é\n".encode()),
    "utf-16 little-endian declared, no mark": ("a,b\n1,é\n".encode("utf-16-le"), {"encoding": "utf-16-le"},
                                               "a,b\n1,é\n".encode()),
    "cp1252": ("a,b\n1,€\n".encode("cp1252"), {"encoding": "cp1252"}, "a,b\n1,€\n".encode()),
    "latin-1": ("a,b\n1,ÿ\n".encode("latin-1"), {"encoding": "latin-1"}, "a,b\n1,ÿ\n".encode()),
    "CR LF": (b"a,b\r\n1,x\r\n", {}, PLAIN),
    "CR LF, the last line without": (b"a,b\r\n1,x", {}, PLAIN),
    "LF, the last line without": (b"a,b\n1,x", {}, PLAIN),
    "CR alone": (b"a,b\r1,x\r", {}, PLAIN),
    "empty lines at the end": (b"a,b\n1,x\n\n\n", {}, PLAIN),
    "semicolons": (b"a;b\n1;x,y\n", {}, b'a,b\n1,"x,y"\n'),
    "tabs": (b"a\tb\n1\tx\n", {}, PLAIN),
    "bars": (b"a|b\n1|x\n", {}, PLAIN),
    "a declared delimiter": (b"a~b\n1~x\n", {"delimiter": "~"}, PLAIN),
    "a declared delimiter that the header has less of": (b"a;b,c,d\n1;x\n", {"delimiter": ";"}, b'a,"b,c,d"\n1,x\n'),
    "delimiters in the header's quotes": (b'"a;;;",b\n1,x\n', {}, b"a;;;,b\n1,x\n"),
    "quotes everywhere": (b'"a","b"\n"1","x"\n', {}, PLAIN),
    "apostrophes around a field": (b"a,b\n1,'yes'\n", {}, b"a,b\n1,'yes'\n"),
    "apostrophes around all fields": (b"'a','b'\n'1','yes'\n", {}, b"'a','b'\n'1','yes'\n"),
    "single quotes": (b"'a','b'\n'1','x,''y'''\n", {"quote": "'"}, b"a,b\n1,\"x,'y'\"\n"),
    "single quotes declared": (b"a,b\n1,'x,y'\n2,z\n", {"quote": "'"}, b'a,b\n1,"x,y"\n2,z\n'),
    "double quotes where single ones quote": (b'a,b\n1,5" x\n2,6"\n', {"quote": "'"}, b'a,b\n1,"5"" x"\n2,"6"""\n'),
    "double quotes between semicolons": (b'a;b\n1;"x"\n', {"quote": "'"}, b'a,b\n1,"""x"""\n'),
    "apostrophes": (b"a,b\n'tis,isn't\n", {}, b"a,b\n'tis,isn't\n"),
    "backslash as escape": (b'a,b\n1,"x \\"y\\", \\\\"\n2,C:\\z\n', {"escape": BACKSLASH},
                            b'a,b\n1,"x ""y"", \\"\n2,C:\\z\n'),
    "backslash as escape, declared": (b'a,b\n1,"x\\""\n', {"escape": BACKSLASH}, b'a,b\n1,"x"""\n'),
    "backslashes that a guess would take for escapes": (b'a,b\n6\\"tall,"\\\\host"\n', {},
                                                        b'a,b\n"6\\""tall",\\\\host\n'),
    "backslashes that escape nothing": (b'a,b\n"C:\\dir\\",\\.\n\\N,\\\n', {}, b"a,b\nC:\\dir\\,\\.\n\\N,\\\n"),
    "quoted line ends": (b'a,b\n1,"x\ny"\n2,"x\r\ny"\n3,"x\ry"\n', {}, b'a,b\n1,"x\ny"\n2,"x\r\ny"\n3,"x\ry"\n'),
    "quoted LF among CR LF": (b'a,b\r\n1,"x\ny"\r\n', {}, b'a,b\n1,"x\ny"\n'),
    "NULL and the empty string": (b'a,b\n,""\n"",\n', {}, b'a,b\n,""\n"",\n'),
    "the words NULL and NaN": (b"a,b\nNULL,NaN\n", {}, b"a,b\nNULL,NaN\n"),
    "number signs": (b"#a,b\n#1,x\n", {}, b"#a,b\n#1,x\n"),
    "spaces": (b"a,b\n 1 ,  \n\t,x \n", {}, b"a,b\n 1 ,  \n\t,x \n"),
    "quotes inside of a field": (b'a,b\n5" x 3",x"y"\n', {}, b'a,b\n"5"" x 3""","x""y"""\n'),
    "a header and no rows": (b"a,b\n", {}, b"a,b\n"),
    "a header without its line end": (b"a,b", {}, b"a,b\n"),
    "one column": (b"a\n1\n\n2\n\n", {}, b"a\n1\n\n2\n\n"),
    "one column, CR LF": (b'a\r\n1\r\n\r\n""\r\n', {}, b'a\n1\n\n""\n'),
    "one column, backslash-dot": (b"a\n\\.\nx\n", {}, b'a\n"\\."\nx\n'),
    "names that differ in case": (b"a,A\n1,x\n", {}, b"a,A\n1,x\n"),
    "names that SQL would not like": (b'"a""b",select\n1,x\n', {}, b'"a""b",select\n1,x\n'),
    "a path with a pattern's characters": (PLAIN, {"path": "a[1].csv"}, PLAIN),
    "a path with a quote": (PLAIN, {"path": "it's.csv"}, PLAIN),
    "a path with a star": (PLAIN, {"path": "a*.csv"}, PLAIN),
    "a path in Hive's manner": (PLAIN, {"path": "c=1/d=2/a.csv"}, PLAIN),
    "a path that ends in .gz": (PLAIN, {"path": "a.csv.gz"}, PLAIN),
    "a folder": (PLAIN, {"path": "folder/in.CSV"}, PLAIN),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_files_of_any_dialect_land_with_their_own_text(land, case):
    content, declared, expected = ACCEPTED[case]
    assert land(content, **declared)[0] == expected


def test_files_are_put_together_in_order_of_their_names(land, tmp_path):
    contents = [f"a\n{n}\n{'x' * n}\n".encode() for n in range(1, 5)]
    expected = b"a\n" + b"".join(content.split(b"\n", 1)[1] for content in contents)
    assert land(*contents, path="[0-9].csv")[0] == expected


def test_a_folder_is_all_of_its_csv_files_and_a_pattern_goes_into_folders(project):
    (project.folder / "extract/x=1/deep").mkdir(parents=True)
    project.csv("x=1/b.csv", "a;b\r\n2;y\r\n")
    project.csv("x=1/a.CSV", "a;b\n1;x")
    project.csv("x=1/note.txt", "no")
    project.csv("x=1/.hidden.csv", "no")
    project.csv("x=1/deep/c.csv", "a;b\n3;\"z\"\n")
    extract(project, {"entity": "folder", "path": "extract/x=1"}, {"entity": "deep", "path": "extract/x=1/**/*.csv"})
    assert landed(project, "folder")[0] == b"a,b\n1,x\n2,y\n"
    assert landed(project, "deep")[0] == b"a,b\n2,y\n3,z\n"


def test_a_long_header_lands_under_its_new_name_and_is_kept_as_comment(project):
    long = "ä" * 32
    project.csv("e.csv", f"{long},b\n1,2\n")
    extract(project, {"entity": "e", "path": "extract/e.csv", "rename": {long: "id"}, "types": {long: "bigint"},
                      "keys": ["id"]})
    content, table = landed(project)
    assert content == b"id,b\n1,2\n"
    assert table["columns"][0] == {"name": "id", "type": "bigint", "nullable": False, "source_type": None,
                                   "comment": f"CSV header: {long}"}


def test_columns_and_rows_keep_their_order(land):
    rows = [f"{n * 7919 % 30_011},{n},{n % 3}" for n in range(30_000)]
    content = "z,a,m\n" + "\n".join(rows) + "\n"
    assert land(content)[0] == content.encode()


def test_as_many_columns_as_postgresql_takes_arrive(land):
    content = ",".join(f"c{n}" for n in range(1600)) + "\n" + ",".join(map(str, range(1600))) + "\n"
    found, columns = land(content)
    assert found == content.encode()
    assert {column.type for column in columns} == {"integer"}


def test_a_deselected_column_is_not_landed_and_not_among_the_types(project):
    project.csv("e.csv", "a,secret,c\n1,x,2\n")
    tap = project.tap_csv({"entity": "e", "path": "extract/e.csv"})
    found = project._run([*tap, "--discover"], True, {"MELTANO_PROJECT_ROOT": str(project.folder)})
    catalog = json.loads(found.stdout)
    for entry in catalog["streams"][0]["metadata"]:
        if entry["breadcrumb"] == ["properties", "secret"]:
            entry["metadata"]["selected"] = False
    path = project.folder / "catalog.json"
    path.write_text(json.dumps(catalog))
    project.pipe([*tap, "--catalog", str(path)], project.target_csv(), DATESTAMP=DAY)
    content, table = landed(project)
    assert content == b"a,c\n1,2\n"
    assert [column["name"] for column in table["columns"]] == ["a", "c"]
    assert b"secret" not in project.manifest_path("csv", DAY).read_bytes()


def test_discovery_reads_no_more_than_headers(tmp_path, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    with (tmp_path / "big.csv").open("wb") as file:
        file.write(b"a,b\n1,2\n")
        file.truncate(1 << 36)  # zeros to the end: reading them would be refused, and take minutes
    assert [column.name for column in CsvEntity(Declaration("e", "big.csv")).columns()] == ["a", "b"]


TYPES = {
    "integer": ["0", "-1", "2147483647", "-2147483648"],
    "bigint": ["1", "2147483648", "-9223372036854775808"],
    "numeric": ["1", "2147483648", "9223372036854775808", "0.10", "-0.01", "12345678901234567890.123456789", "9" * 999],
    "date": ["2024-02-29", "0001-01-01", "9999-12-31"],
    "timestamp without time zone": ["2024-02-29 23:59:59", "2024-01-01 00:00:00.5", "0001-01-01 00:00:00.000001",
                                    "9999-12-31 12:00:00.123456"],
}
TEXTS = ["007", "+1", "-0", "-0.0", "-0.00", "1e5", "1,000", "1.", ".5", "00.5", " 1", "1 ", "0x1F", "1_000", "٣",
         "NaN", "infinity", "-infinity", "true", "t", "", "9" * 1001, "1.2.3", "-", "--1", "1\n",
         "2023-02-29", "2024-2-1", "01/02/2024", "0000-01-01", "24-01-01", "0044-03-15 (BC)", "2024-01-01 (BC)",
         "2024-01-01T00:00:00", "2024-01-01 00:00", "2024-01-01 24:00:00", "2024-01-01 25:00:00",
         "2024-01-01 00:00:60", "2024-01-01 00:00:00.0", "2024-01-01 00:00:00.120", "2024-01-01 00:00:00.1234567",
         "2024-01-01 00:00:00Z", "2024-01-01 00:00:00+00", "0044-03-15 00:00:00 (BC)"]
MIXED = [["1", "2024-01-01"], ["2024-01-01", "2024-01-01 00:00:00"], ["1", "x"], ["1.5", "007"],
         ["2024-01-01", "2024-02-30"], ["1", ""]]


def field(value):
    return '"' + value.replace('"', '""') + '"'


def test_types_are_inferred_only_where_every_value_keeps_its_text(land):
    columns = {type_: (type_, [*values, None]) for type_, values in TYPES.items()}
    columns |= {f"text {n}": ("text", [value, value]) for n, value in enumerate(TEXTS)}
    columns |= {f"mixed {n}": ("text", values * 2) for n, values in enumerate(MIXED)}
    columns |= {f"late {n}": ("text", ["1"] * 40 + [value]) for n, value in enumerate(["x", "01", ""])}
    columns["nothing"] = ("text", [])
    height = max(len(values) for _, values in columns.values())
    lines = [",".join(field(values[n]) if n < len(values) and values[n] is not None else ""
                      for _, values in columns.values()) for n in range(height)]
    found = land("\n".join([",".join(map(field, columns)), *lines]) + "\n")[1]
    assert {column.name: column.type for column in found} == {name: type_ for name, (type_, _) in columns.items()}


def test_a_file_without_rows_has_columns_of_text(land):
    assert [column.type for column in land("a,b\n")[1]] == ["text", "text"]


def test_a_key_is_not_nullable_and_all_else_is(land):
    assert [column.nullable for column in land("a,b\n1,2\n", keys=["b"])[1]] == [True, False]


def test_inferred_types_bring_the_same_text_back_from_the_warehouse(project):
    height = max(map(len, TYPES.values()))
    rows = [[values[n % len(values)] for values in TYPES.values()] for n in range(height)]
    content = "\n".join([",".join(TYPES), *map(",".join, rows)]) + "\n"
    project.csv("e.csv", content)
    extract(project, {"entity": "e", "path": "extract/e.csv"})
    project.pipe(project.tap_landed(sources=["csv"]), project.target_postgres(), EXTRACTED_AT=DAY)
    project.warehouse.run("SET TimeZone = 'UTC'")
    assert copied_by_postgresql(project, "SELECT * FROM public.e") == landed(project)[0] == content.encode()
    types = project.warehouse.run("SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                                  "WHERE attrelid = 'public.e'::regclass AND attnum > 0 ORDER BY attnum")
    assert [type_ for (type_,) in types] == list(TYPES)


def test_declared_types_go_to_the_manifest_and_the_warehouse_and_verify_is_green(project):
    project.csv("e.csv", "id,discount,ok,price\n1,0.05000000074505806,true,1.50\n2,0.15,f,\n")
    types = {"discount": "real", "ok": "boolean", "price": "double precision"}
    extract(project, {"entity": "e", "path": "extract/e.csv", "types": types, "keys": ["id"]})
    assert {c["name"]: c["type"] for c in landed(project)[1]["columns"]} == {"id": "integer", **types}
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.load(DAY)
    assert "1 of 1 tables equal" in project.landing("verify", DAY).stdout
    assert project.rows("e") == [("(1,0.05,t,1.5)",), ("(2,0.15,f,)",)]


NASTY = ["a", ",", '"', "\n", "\r", "\r\n", "\\", "\\.", "é", "😀", " ", "#", "'", "\t", ";", "|", "\u2028", "\x0b",
         "\x1f", "\ufeff", "NULL", "\\N", "{}", "%s", "$1", ""]


def copied_by_postgresql(project, query):
    """What COPY says by itself."""
    out = io.BytesIO()
    with project.warehouse.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", out)
    return out.getvalue()


def nasty_rows(columns, seed):
    chance = random.Random(seed)
    return [[None if chance.random() < 0.2 else "".join(chance.choices(NASTY, k=chance.randrange(5)))
             for _ in range(columns)] for _ in range(3_000)]


def written(rows, quote, delimiter, end):
    """Every field in quotes, or, where it can do without, sometimes not."""
    def one(value, place):
        if value is None:
            return ""
        bare = value and not any(char in value for char in (quote, delimiter, "\n", "\r")) and value.strip() == value
        return value if bare and place % 2 else quote + value.replace(quote, quote * 2) + quote

    header = delimiter.join(f"c{n}" for n in range(len(rows[0])))
    return end.join([header, *(delimiter.join(map(one, row, range(len(row)))) for row in rows), ""])


@pytest.mark.parametrize(("columns", "quote", "delimiter", "end", "encoding"), [
    (4, '"', ",", "\n", "utf-8"), (1, '"', ",", "\n", "utf-8"), (3, "'", ";", "\r\n", "utf-16"),
    (2, '"', "\t", "\r", "utf-8"),
])
def test_nasty_rows_land_as_copy_itself_writes_them(project, land, columns, quote, delimiter, end, encoding):
    rows = nasty_rows(columns, seed=columns)
    content = written(rows, quote, delimiter, end).encode(encoding)
    names = ", ".join(f"c{n} text" for n in range(columns))
    project.warehouse.run(f"CREATE TEMP TABLE t (n serial, {names})")
    values = ", ".join(["%s"] * columns)
    with project.warehouse.connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO t ({names.replace(' text', '')}) VALUES ({values})", rows)
    expected = copied_by_postgresql(project, f"SELECT {names.replace(' text', '')} FROM t ORDER BY n")
    found, columns_ = land(content, delimiter=delimiter, quote=quote, escape=quote)
    assert found == expected
    assert {column.type for column in columns_} == {"text"}


def test_nasty_rows_go_to_the_warehouse_and_back_byte_for_byte(project):
    project.csv("e.csv", written(nasty_rows(3, seed=7), '"', ",", "\n"))
    declared = {"entity": "e", "path": "extract/e.csv", "quote": '"', "escape": '"'}
    extract(project, declared)
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.load(DAY)
    assert "1 of 1 tables equal" in project.landing("verify", DAY).stdout
    project.pipe(project.tap_csv(declared, use_batch=False), project.target_csv(), DATESTAMP="2024-03-02")
    assert (project.manifest("csv", "2024-03-02")["tables"][0]["files"][0]["sha256"]
            == landed(project)[1]["files"][0]["sha256"])


def test_a_missing_file_is_an_error_of_the_source(tmp_path):
    with pytest.raises(SourceError):
        Declaration("e", str(tmp_path / "nothing.csv")).files()
