"""Values as other programs write them: options say how they are read, and PostgreSQL's own text is landed.

A value that cannot be read so is a bad row, refused by file, line, column and type. Nothing is guessed.
"""

import json

import pytest
from landing.core.errors import BadFileError, SettingError
from landing.model.manifest import Manifest

DAY = "2024-03-01"
GERMAN = 'id;amount;paid;day;note\n1;1.234,50;ja;31.12.2024;-\n2;-0,5;nein;1.2.2024;""\n3;;;;n/a\n'
BY_COLUMN = {"amount": {"type": "numeric(12,2)", "decimal_comma": True},
             "paid": {"type": "boolean", "true_values": ["ja"], "false_values": ["nein"]},
             "day": {"type": "date", "date_format": "%d.%m.%Y"}, "note": {"null_values": ["-", "n/a"]}}
TYPES = {"amount": "numeric(12,2)", "paid": "boolean", "day": "date"}
SHAPES = {
    "by columns": {"columns": BY_COLUMN},
    "by options": {"types": TYPES, "decimal_comma": ["amount"], "true_values": {"paid": ["ja"]},
                   "false_values": {"paid": ["nein"]}, "date_format": {"day": "%d.%m.%Y"},
                   "null_values": {"note": ["-", "n/a"]}},
    "for the whole entity": {"types": TYPES, "decimal_comma": True, "true_values": ["ja"], "false_values": ["nein"],
                             "date_format": "%d.%m.%Y", "null_values": ["-", "n/a"]},
    "mixed": {"types": {"amount": "numeric(12,2)"}, "decimal_comma": {"amount": True}, "true_values": "ja",
              "false_values": ["nein"], "null_values": ["-", "n/a"],
              "columns": {"paid": {"type": "boolean"}, "day": {"type": "date", "date_format": "%d.%m.%Y"}}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_land_as_postgresql_writes_them_in_each_way_to_declare_how_they_are_read(convert, shape):
    found = convert(GERMAN, keys=["id"], **SHAPES[shape])
    assert found.text == 'id,amount,paid,day,note\n1,1234.50,t,2024-12-31,\n2,-0.50,f,2024-02-01,""\n3,,,,\n'
    assert found.types == {"id": "integer", **TYPES, "note": "text"}
    assert found.entity.converted["amount"].decimal_comma
    assert found.entity.converted["note"].null_values == ("-", "n/a")


# type, options, file's text, landed text; None: a bad row
READ = [
    ("numeric(12,2)", {"decimal_comma": True}, {
        "1,5": "1.50", "+007,50": "7.50", ",5": "0.50", "5,": "5.00", "1.234.567,89": "1234567.89", "1.234": "1234.00",
        "-0,00": "0.00", " 1,5 ": "1.50", "0,5000": "0.50", "1,5e2": "1.5e2", "1.234.567,891": None, "12.34": None,
        "1.5": None, "1,234.50": None, "1.2345,6": None, "1.23.456": None, "1,2,3": None, "1 234,50": None,
        "abc": None, "": None}),
    ("numeric", {"decimal_comma": True}, {
        "1,50": "1.50", "7": "7", "00,10": "0.10", "NaN": "NaN", "-1.000,0": "-1000.0"}),
    ("integer", {"decimal_comma": True}, {"1.234": "1234", "1,5": None, "5": "5", "1.234.567.890.123": None}),
    ("double precision", {"decimal_comma": True}, {"1,50": "1.5", "2,0": "2", "-0": "-0", "1,5e3": "1.5e3"}),
    ("boolean", {"true_values": ["ja", "1"], "false_values": ["nein", "N'O"]}, {
        "ja": "t", "1": "t", "nein": "f", "N'O": "f", " ja ": "t", "Ja": None, "true": None, "0": None, "": None}),
    ("boolean", {"true_values": ["x"]}, {"x": "t", "": None, "f": None}),
    ("date", {"date_format": "%d.%m.%Y"}, {
        "31.12.2024": "2024-12-31", "1.2.2024": "2024-02-01", "31.02.2024": None, "1.13.2024": None, "1.2.24": None,
        "2024-02-01": None, " 1.2.2024": "2024-02-01", "1. 2.2024": None, "1.2.20245": None, "": None, "0.1.2024": None,
        "1.1.0000": None}),
    ("date", {"date_format": "%d/%m/%y"}, {"31/12/24": "2024-12-31", "31/12/69": "1969-12-31", "31/12/2024": None}),
    ("date", {"date_format": "%Y%m%d"}, {"20240201": "2024-02-01", "2024021": None}),
    ("date", {"date_format": "%d %b %Y"}, {"1 Feb 2024": "2024-02-01", "1 Mai 2024": None}),
    ("date", {"date_format": "%d.%m.%Y %H:%M"}, {"1.2.2024 00:00": "2024-02-01", "1.2.2024 10:00": None}),
    ("timestamp", {"date_format": "%d.%m.%Y %H:%M"}, {"1.2.2024 9:30": "2024-02-01 09:30:00", "1.2.2024 24:00": None}),
    ("timestamp", {"date_format": "%d.%m.%Y"}, {"1.2.2024": "2024-02-01 00:00:00"}),
    ("timestamp(1)", {"date_format": "%Y-%m-%d %H:%M:%S,%f"}, {
        "2024-02-01 10:00:00,5": "2024-02-01 10:00:00.5", "2024-02-01 10:00:00,25": None}),
    ("timestamp", {"date_format": "%m/%d/%Y %I:%M %p"}, {
        "02/01/2024 12:05 AM": "2024-02-01 00:05:00", "02/01/2024 13:05 AM": None}),
    ("timestamptz", {"date_format": "%d.%m.%Y %H:%M %z"}, {
        "1.2.2024 10:00 +05:30": "2024-02-01 04:30:00+00", "1.2.2024 10:00 -03": "2024-02-01 13:00:00+00",
        "1.2.2024 10:00": None}),
    ("timestamptz", {"date_format": "%d.%m.%Y %H:%M"}, {"1.2.2024 10:00": "2024-02-01 10:00:00+00"}),
    ("time", {"date_format": "%H.%M"}, {"9.30": "09:30:00", "24.00": None, "9:30": None}),
    ("integer", {"null_values": ["-", "n/a", "99.9"]}, {
        "-": "", "n/a": "", " - ": "", "N/A": None, "99.9": "", "5": "5"}),
    ("text", {"null_values": ["-", "it's"]}, {"-": "", "it's": "", " -": " -", "": '""'}),
    ("text", {"null_values": [""]}, {"": ""}),
    ("uuid[]", {"null_values": ["-"]}, {"-": ""}),
]


@pytest.mark.parametrize(("type_", "options", "texts"), READ, ids=[str(number) for number, _ in enumerate(READ)])
def test_a_value_is_read_as_declared_or_its_row_is_bad(convert, type_, options, texts):
    rows = "".join(f'{number};"{text}"\n' for number, text in enumerate(texts, 2))
    found = convert("line;x\n" + rows, quarantine=True, columns={"x": {"type": type_, **options}})
    landed = dict(line.split(",", 1) for line in found.text.splitlines()[1:])
    assert landed == {str(line): text for line, text in enumerate(texts.values(), 2) if text is not None}
    assert [row["line"] for row in found.rejected] == [
        line for line, text in enumerate(texts.values(), 2) if text is None]
    assert all(row["column"] == "x" and type_ in row["reason"] for row in found.rejected)


def test_what_is_landed_is_what_postgresql_gives_back(convert, project):
    for type_, options, texts in READ:
        rows = "".join(f'"{text}"\n' for text, landed in texts.items() if landed)
        found = convert("x,y\n" + rows.replace("\n", ",\n"), columns={"x": {"type": type_, **options}})
        for text in filter(None, (line.removesuffix(",") for line in found.text.splitlines()[1:])):
            if "e" not in text and type_ not in ("text", "uuid[]"):
                project.warehouse.run("SET DateStyle = 'ISO'; SET TimeZone = 'UTC'")
                written = project.warehouse.one(f"SELECT %s::{type_}::text", text)
                assert (written[0] if type_ == "boolean" else written) == text


def test_a_bad_value_is_refused_by_file_line_column_and_type_and_never_shown(convert):
    for options, value in [({"decimal_comma": True, "type": "numeric"}, "12.34"),
                           ({"date_format": "%d.%m.%Y"}, "1.1.24"), ({"true_values": ["ja"]}, "vielleicht")]:
        with pytest.raises(BadFileError, match=r"0\.csv, line 4: column 'x': not a value of type") as refused:
            convert(f'x;y\n;"a\nb"\n{value};\n', columns={"x": options})
        assert value not in str(refused.value)


def test_an_option_of_a_column_without_a_type_gives_it_one(convert):
    found = convert("a;b;c;d;e\n1,5;x;1.2.2024;1.2.2024 10:00;-\n;y;;;5\n", decimal_comma=["a"],
                    true_values={"b": ["x"]}, false_values={"b": ["y"]}, null_values={"e": ["-"]},
                    date_format={"c": "%d.%m.%Y", "d": "%d.%m.%Y %H:%M"})
    assert found.types == {"a": "numeric", "b": "boolean", "c": "date", "d": "timestamp without time zone",
                           "e": "integer"}
    assert found.text == "a,b,c,d,e\n1.5,t,2024-02-01,2024-02-01 10:00:00,\n,f,,,5\n"


def test_options_for_the_whole_entity_help_to_infer_types_but_change_no_other_column(convert):
    header = "count;price;total;version;grouped;flag;bit;day;mixed;text;none\n"
    found = convert(header + "1;1,5;1.234,50;1.5;1.234;ja;0;1.2.2024;1,5;nein;\n"
                             "2;2;0,5;2.0;5.678;nein;1;3.4.2024;x;vielleicht;\n",
                    decimal_comma=True, true_values=["ja", "1"], false_values=["nein", "0"], date_format="%d.%m.%Y")
    assert found.types == {"count": "integer", "price": "numeric", "total": "numeric", "version": "text",
                           "grouped": "text", "flag": "boolean", "bit": "integer", "day": "date", "mixed": "text",
                           "text": "text", "none": "text"}
    assert found.text.splitlines()[1:] == ["1,1.5,1234.50,1.5,1.234,t,0,2024-02-01,\"1,5\",nein,",
                                           "2,2,0.5,2.0,5.678,f,1,2024-04-03,x,vielleicht,"]
    assert {*found.entity.converted} == {"price", "total", "flag", "day"}
    assert not found.columns[-1].evidence


def test_bad_rows_have_no_say_in_what_is_inferred(convert):
    found = convert("id;price\n1;1,5\nx;y\n2;2,25\n", quarantine=True, decimal_comma=True, types={"id": "integer"})
    assert found.types == {"id": "integer", "price": "numeric"}
    assert found.text == "id,price\n1,1.5\n2,2.25\n"


def test_a_column_may_differ_from_its_entity(convert):
    found = convert("a;b;c\n1,5;1.5;-\n", decimal_comma=True, null_values=["-"],
                    columns={"b": {"decimal_comma": False, "type": "numeric"}, "c": {"null_values": []}})
    assert found.text == "a,b,c\n1.5,1.5,-\n"


def test_a_renamed_column_takes_options_by_either_name_but_not_those_of_another(convert):
    found = convert("Betrag;b\n1,5;-\n", rename={"Betrag": "amount"}, decimal_comma=["Betrag"],
                    columns={"amount": {"null_values": ["-"], "type": "numeric(3,1)"}})
    assert (found.text, found.types["amount"]) == ("amount,b\n1.5,-\n", "numeric(3,1)")
    found = convert("a;b\n1,5;1,5\n", rename={"a": "b", "b": "a"}, decimal_comma=["a"], types={"b": "text"})
    assert found.text == 'b,a\n"1,5",1.5\n'
    assert found.types == {"b": "text", "a": "numeric"}


def test_keys_are_compared_and_required_by_their_converted_values(convert):
    with pytest.raises(BadFileError, match=r"line 3: duplicate key \(a\), first in line 2"):
        convert("a;b\n1.234,5;x\n1234,50;y\n", keys=["a"], decimal_comma=["a"])
    with pytest.raises(BadFileError, match="line 3: column 'a': missing value in a key column"):
        convert("a;b\n1;x\n-;y\n", keys=["a"], null_values=["-"])
    with pytest.raises(BadFileError, match="line 3: column 'a': not a value of type date in date_format"):
        convert("a;b\n1.1.2024;x\nz;y\n", keys=["a"], date_format={"a": "%d.%m.%Y"})


@pytest.mark.parametrize(("options", "said"), [
    ({"columns": {"z": {"type": "text"}}}, r"\(columns: 'z'\)\. .*0\.csv has 'a', 'b'\."),
    ({"null_values": {"z": ["-"]}, "decimal_comma": ["y"]}, r"\(null_values: 'z'; decimal_comma: 'y'\)"),
    ({"columns": {"a": {"type": "date", "decimal_comma": True}}}, "column 'a' has the type date, which decimal_comma"),
    ({"types": {"a": "numeric"}, "date_format": {"a": "%d.%m.%Y"}}, "type numeric, which date_format cannot"),
    ({"columns": {"a": {"type": "text", "true_values": ["x"]}}}, "type text, which true_values cannot be applied to"),
    ({"columns": {"a": {"type": "date", "date_format": "%H:%M"}}}, "type date, which date_format cannot be applied to"),
    ({"columns": {"a": {"type": "numeric[]", "decimal_comma": True}}}, r"numeric\[\], which decimal_comma"),
    ({"columns": {"a": {"decimal_comma": True, "date_format": "%d.%m.%Y"}}}, "options of several types: date, numeric"),
    ({"date_format": "%d.%m"}, "date_format='%d.%m' has neither year, month and day nor a time"),
    ({"date_format": {"a": "%Q"}}, "date_format.a='%Q' has a directive other than %Y"),
    ({"true_values": [True]}, "true_values has True, which is not a text: put it in quotes"),
    ({"decimal_comma": {"a": "yes"}}, "decimal_comma.a is not true or false"),
    ({"true_values": ["x"], "false_values": ["x"]}, "true_values and false_values both have 'x'"),
    ({"null_values": ["x"], "columns": {"a": {"true_values": ["x"]}}}, "null_values and true_values of column 'a'"),
    ({"types": {"a": "date"}, "columns": {"a": {"type": "text"}}}, "columns.a.type is declared twice"),
    ({"columns": {"a": {"type": "nonsense; drop"}}}, "is not a type name"),
    ({"columns": {"a": {"type": "point"}}}, "set `lossy: true`"),
])
def test_options_that_fit_no_column_or_not_each_other_are_refused_before_anything_is_read(convert, options, said):
    with pytest.raises(SettingError, match=said):
        convert("a,b\n1,2\n", **options)


def test_the_whole_way_converts_records_it_loads_and_verifies(project):
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    project.csv("e.csv", GERMAN + "4;1,234.5;ja;1.1.2025;\n")
    entry = {"entity": "e", "path": "extract/e.csv", "keys": ["id"], "columns": BY_COLUMN}
    refused = project.pipe(project.tap_csv(entry), project.target_csv(), check=False, DATESTAMP=DAY)
    assert "e.csv, line 5: column 'amount': not a value of type numeric(12,2) with a decimal comma" in refused.text
    assert project.landed() == {}
    run = project.pipe(project.tap_csv(entry | {"on_bad_rows": "quarantine"}), project.target_csv(), DATESTAMP=DAY)
    assert "e: values are converted, as declared, in amount, paid, day, note." in run.text
    table, = project.manifest("csv", DAY)["tables"]
    assert table["converted"]["amount"] == {"decimal_comma": True}
    assert table["converted"]["day"] == {"date_format": "%d.%m.%Y"}
    assert Manifest.from_json(json.dumps(project.manifest("csv", DAY))).tables[0].converted["note"].null_values
    project.load(DAY)
    assert project.rows("e") == [("(1,1234.50,t,2024-12-31,)",), ('(2,-0.50,f,2024-02-01,"")',), ("(3,,,,)",)]
    assert "1 of 1 tables equal" in project.landing("verify", DAY).stdout
    project.csv("e.csv", GERMAN)  # the same rows as RECORDs
    tap = project.tap_csv(entry, use_batch=False)
    project.pipe(tap, project.target_csv(), DATESTAMP="2024-03-02")
    files = [project.manifest_path("csv", day).parent / project.manifest("csv", day)["tables"][0]["files"][0]["path"]
             for day in (DAY, "2024-03-02")]
    assert files[0].read_bytes() == files[1].read_bytes()
