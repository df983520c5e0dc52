"""metadata: true says of each row where it comes from, with a hash of its fields that anybody can compute."""

import hashlib

import pytest
from landing.core.errors import BadFileError, SettingError

DAY = "2024-03-01"


def sha256(line):
    return hashlib.sha256(line.encode()).hexdigest()


def test_each_row_has_its_file_its_line_and_the_hash_of_its_fields(convert):
    found = convert('a,b\n1,x\n2,"y\nz"\n3,\n4,""\n', "b,a\nu,5\n", metadata=True)
    lines = ["1,x", '2,"y\nz"', "3,", '4,""', "5,u"]
    places = ["0.csv,2", "0.csv,3", "0.csv,5", "0.csv,6", "1.csv,2"]
    assert found.text == "a,b,_source_file,_source_row,_row_hash\n" + "".join(
        f"{line},{place},{sha256(line)}\n" for line, place in zip(lines, places, strict=True))
    assert found.types == {"a": "integer", "b": "text", "_source_file": "text", "_source_row": "bigint",
                           "_row_hash": "text"}


def test_rejected_and_dropped_rows_change_no_line_number(convert):
    found = convert("a,b\n1,x\n2\nn,y\n1,z\n3,w\n", quarantine=True, metadata=True, keys=["a"], types={"a": "integer"},
                    on_duplicate_key="keep_first")
    assert [line.split(",")[:4] for line in found.text.splitlines()[1:]] == [
        ["1", "x", "0.csv", "2"], ["3", "w", "0.csv", "6"]]
    assert [row["line"] for row in found.rejected] == [3, 4]


def test_the_hash_is_of_the_fields_in_the_file_not_of_converted_values_or_selected_columns(convert):
    found = convert("a;b\n1,5;-\n", metadata=True, decimal_comma=["a"], null_values=["-"],
                    wanted=["a", "_row_hash", "_source_row"])
    assert found.text == f'a,_source_row,_row_hash\n1.5,2,{sha256(chr(34) + "1,5" + chr(34) + ",-")}\n'
    dot = "\\."
    assert convert(f"a\n{dot}\n", metadata=True).text.splitlines()[1] == f"{dot},0.csv,2,{sha256(dot)}"
    assert convert("a,b\n1,2\n", metadata=True, wanted=["_source_row"]).text == "_source_row\n2\n"


def test_a_path_with_a_comma_is_quoted_and_one_outside_of_the_project_is_whole(convert, tmp_path):
    (tmp_path / "in, 1.csv").write_text("a\n1\n")
    assert '1,"in, 1.csv",2,' in convert(path="in, 1.csv", metadata=True).text
    outside = tmp_path.parent / f"{tmp_path.name}-outside.csv"
    outside.write_text("a\n1\n")
    assert f"1,{outside},2," in convert(path=str(outside), metadata=True).text
    outside.unlink()


def test_a_file_that_has_such_a_column_itself_is_refused(convert):
    content = "a,_row_hash,_source_file\n1,2,3\n"
    with pytest.raises(BadFileError, match="the file has '_row_hash', '_source_file', which `metadata: true` would"):
        convert(content, metadata=True)
    assert convert(content).types["_row_hash"] == "integer"
    assert "renamed" in convert("a,_row_hash\n1,2\n", metadata=True, rename={"_row_hash": "renamed"}).types
    with pytest.raises(SettingError, match=r"\(keys: '_source_row'\)"):
        convert("a\n1\n", metadata=True, keys=["_source_row"])


def test_the_whole_way_they_land_load_and_verify(project):
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.csv("e.csv", "id,b\n1,x\n")
    entry = {"entity": "e", "path": "extract/e.csv", "keys": ["id"], "metadata": True}
    project.pipe(project.tap_csv(entry), project.target_csv(), DATESTAMP=DAY)
    columns = project.manifest("csv", DAY)["tables"][0]["columns"]
    assert [(column["name"], column["type"]) for column in columns[2:]] == [
        ("_source_file", "text"), ("_source_row", "bigint"), ("_row_hash", "text")]
    project.load(DAY)
    assert project.warehouse.run("TABLE e") == [(1, "x", "extract/e.csv", 2, sha256("1,x"))]
    assert "1 of 1 tables equal" in project.landing("verify", DAY).stdout
