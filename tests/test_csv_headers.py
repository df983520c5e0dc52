"""Headers: columns belong together by name, and everything that is wrong with a header is named at once."""

import re

import pytest
from landing.core.errors import BadFileError, SettingError

DAY = "2024-03-01"
LONG = "the amount that was paid by the customer including all taxes and fees"
UMLAUTS = "ä" * 40


def test_files_whose_columns_are_in_another_order_land_by_name_in_the_order_of_the_first(convert):
    found = convert("a,b,c\n1,x,\n", 'c,a,b\n"",2,"y\nz"\nv,3,w\n', "b,c,a\nu,,4\n", "a,b,c\n5,t,s\n", keys=["a"])
    assert found.text == 'a,b,c\n1,x,\n2,"y\nz",""\n3,w,v\n4,u,\n5,t,s\n'
    assert found.types == {"a": "integer", "b": "text", "c": "text"}


def test_a_bad_row_of_a_reordered_file_is_named_by_its_own_file_and_line_and_keeps_its_text(convert, tmp_path):
    files = "a,b\n1,x\n", 'b,a\n"y\nz",2\nu\nv,n/a\nw,1\nlast,5\n'
    found = convert(*files, quarantine=True, types={"a": "integer"})
    assert found.text == 'a,b\n1,x\n2,"y\nz"\n1,w\n5,last\n'
    assert [(row["file"], row["line"], row["column"], row["text"]) for row in found.rejected] == [
        ("1.csv", 4, None, "u"), ("1.csv", 5, "a", "v,n/a")]
    with pytest.raises(BadFileError, match=r"1\.csv, line 4: expected 2 fields"):
        convert(*files)
    with pytest.raises(BadFileError, match=r"1\.csv, line 3: duplicate key \(a\), first in line 2 of .*0\.csv"):
        convert("a,b\n1,x\n", "b,a\ny,2\nz,1\n", keys=["a"])


def test_readers_that_differ_in_a_reordered_file_are_noticed(convert):
    with pytest.raises(BadFileError, match=r"1\.csv, line 3: two CSV parsers"):
        convert("a,b\n1,x\n", 'b,a\ny,2\n "z",3\n')


def test_many_files_in_two_orders_stay_in_the_order_of_their_names(convert, tmp_path):
    for number in range(400):
        row = f"a,b\n{number},x\n" if number % 2 else f"b,a\nx,{number}\n"
        (tmp_path / f"many-{number:03}.csv").write_text(row)
    found = convert(path="many-*.csv")
    assert found.text == "b,a\n" + "".join(f"x,{number}\n" for number in range(400))


def test_a_header_with_other_columns_is_refused_with_their_names_and_all_files(convert):
    with pytest.raises(BadFileError) as refused:
        convert("a,b,c\n1,2,3\n", "c,a,x,y\n", "b,a,c\n", "a,b\n")
    assert re.search(r"1\.csv, line 1: the columns differ from those of .*0\.csv: missing 'b'; additional 'x', 'y'\. "
                     r"Likewise: .*3\.csv \(missing 'c'\)\. Nothing", str(refused.value))
    with pytest.raises(BadFileError, match=r"1\.csv, line 1: .*: additional 'a'\. "):
        convert("a,b\n", "a,b,a\n")


def test_all_names_that_are_wrong_are_said_at_once(convert):
    with pytest.raises(BadFileError) as refused:
        convert(f'{LONG},a,,b,a,{UMLAUTS},"x\ny"\n')
    for fault in (f"column 1, '{LONG}', has a name of 69 bytes", "column 2, 'a', occurs 2 times",
                  "column 3, '', has no name", "column 5, 'a', occurs 2 times",
                  f"column 6, '{UMLAUTS}', has a name of 80 bytes", "has a control character",
                  "`long_headers: shorten`"):
        assert fault in str(refused.value)
    assert "column 4" not in str(refused.value)


def test_a_column_that_the_file_does_not_have_is_a_wrong_setting_that_says_what_the_file_has(convert):
    said = r"\(keys: 'idd'; types: 'x', 'y'; rename: 'z'\)\. .*0\.csv has 'id', 'b'\. "
    with pytest.raises(SettingError, match=said):
        convert("id,b\n", keys=["idd"], types={"y": "text", "x": "text", "b": "text"}, rename={"z": "b"})


def test_long_names_are_shortened_to_unique_ones_that_depend_on_nothing_else(convert):
    similar = LONG + " 2"
    found = convert(f"{LONG},id,{similar},{UMLAUTS}\n1,2,3,4\n", long_headers="shorten", keys=[similar],
                    types={LONG: "numeric(5,2)"})
    names = [column.name for column in found.columns]
    assert all(len(name.encode()) <= 63 for name in names)
    assert len({*names}) == 4
    assert names[0].startswith(LONG[:52] + "_")
    assert [column.comment for column in found.columns] == [
        f"CSV header: {LONG}", None, f"CSV header: {similar}", f"CSV header: {UMLAUTS}"]
    assert found.entity.keys == [names[2]]
    assert found.types[names[0]] == "numeric(5,2)"
    again = convert(f"{UMLAUTS},{similar}\n1,2\n", long_headers="shorten")
    assert [column.name for column in again.columns] == [names[3], names[2]]
    short = convert(f"{LONG},b\n1,2\n", long_headers="shorten", rename={LONG: "paid"})
    assert [column.name for column in short.columns] == ["paid", "b"]
    with pytest.raises(BadFileError, match="has a name of 69 bytes"):  # `rename` is not cut
        convert("a,b\n1,2\n", long_headers="shorten", rename={"a": LONG})
    with pytest.raises(BadFileError, match="occurs 2 times"):
        convert(f"{LONG},{names[0]}\n1,2\n", long_headers="shorten")


def test_a_shortened_name_loads_and_its_header_is_the_columns_comment(project):
    project.csv("e.csv", f"id,{LONG}\n1,2\n")
    entry = {"entity": "e", "path": "extract/e.csv", "keys": ["id"], "long_headers": "shorten"}
    project.pipe(project.tap_csv(entry), project.target_csv(), DATESTAMP=DAY)
    column = project.manifest("csv", DAY)["tables"][0]["columns"][1]
    assert column["comment"] == f"CSV header: {LONG}"
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.load(DAY)
    assert project.warehouse.one("SELECT col_description('e'::regclass, 2)") == f"CSV header: {LONG}"
    assert project.warehouse.run("TABLE e") == [(1, 2)]
