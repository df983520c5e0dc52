"""The contract of a CSV entity: a row that breaks a rule is refused with the rule, or quarantined, each row once."""

import pytest
import yaml
from conftest import ROOT
from landing.core.errors import BadFileError, SettingError
from msgspec import to_builtins
from protected import DAY, ENTITY, PEOPLE, PLAIN

SALES = ("transaction_id,customer_id,product_id,store_id,quantity,unit_price,discount,total_amount,payment_method,"
         "timestamp\n")
PAGE = (ROOT / "docs/how-to/contracts.md").read_text()
ENTRY = yaml.safe_load(PAGE.split("```yaml\n")[1].split("```")[0])["files"][0]  # as documented
CONTRACT = {name: ENTRY[name] for name in ("columns", "derive", "checks")}


def sale(number, **changed):
    row = {"transaction_id": f"TX-{number:04x}", "customer_id": "CUST-001", "product_id": "P1", "store_id": "S01",
           "quantity": "2", "unit_price": "9.99", "discount": "", "total_amount": "", "payment_method": " Card ",
           "timestamp": "2024-01-20 10:00:00"} | changed
    return ",".join(row.values()) + "\n"


BAD = {  # in the order of their rows: what is changed, and what the row then breaks
    "type": {"quantity": "two"},
    "required": {"customer_id": ""},
    "exclusiveMinimum": {"quantity": "0"},
    "minimum": {"unit_price": "-0.01"},
    "maximum": {"discount": "0.16"},
    "enum": {"payment_method": "cheque"},
    "pattern": {"customer_id": "CUST-1"},
    "minLength": {"store_id": "S1"},
    "maxLength": {"store_id": "S00001"},
    "exclusiveMaximum": {"unit_price": "1000"},
    "total_matches": {"total_amount": "20"},
    "unique": {"transaction_id": "TX-0000"},
}


def test_each_bad_row_is_rejected_once_with_its_rule_and_the_others_land(convert):
    lines = [sale(0), *(sale(number, **changed) for number, changed in enumerate(BAD.values(), 1)), sale(99)]
    landed = convert(SALES + "".join(lines), quarantine=True, **CONTRACT)
    assert {row["rule"]: row["line"] for row in landed.rejected} == {rule: 3 + n for n, rule in enumerate(BAD)}
    assert len(landed.rejected) == len(BAD)
    assert landed.text == SALES + (
        "TX-0000,CUST-001,P1,S01,2,9.99,,19.9800,card,2024-01-20 10:00:00\n"
        "TX-0063,CUST-001,P1,S01,2,9.99,,19.9800,card,2024-01-20 10:00:00\n")


@pytest.mark.parametrize("rule", BAD)
def test_without_a_quarantine_the_file_is_refused_with_line_rule_expected_and_found(convert, rule):
    expected = {
        "type": "column 'quantity': not a value of type integer",
        "required": "column 'customer_id': required: expected a value, found no value",
        "exclusiveMinimum": "column 'quantity': exclusiveMinimum: expected more than 0, found '0'",
        "minimum": "column 'unit_price': minimum: expected at least 0, found '-0.01'",
        "maximum": "column 'discount': maximum: expected at most 0.15, found '0.16'",
        "enum": "column 'payment_method': enum: expected one of 'card', 'cash', found 'cheque'",
        "pattern": "column 'customer_id': pattern: expected a text that matches 'CUST-[0-9]{3}', found 'CUST-1'",
        "minLength": "column 'store_id': minLength: expected at least 3 characters, found 'S1'",
        "maxLength": "column 'store_id': maxLength: expected at most 5 characters, found 'S00001'",
        "exclusiveMaximum": "column 'unit_price': exclusiveMaximum: expected less than 1000, found '1000'",
        "total_matches": "total_matches: expected total_amount = quantity * unit_price * (1 - coalesce(discount, 0)), "
                         "found total_amount '20', quantity '2', unit_price '9.99', discount no value",
        "unique": "column 'transaction_id': unique: expected a value that no earlier row has, found 'TX-0000', first "
                  "in line 2"}
    with pytest.raises(BadFileError) as refused:
        convert(SALES + sale(0) + sale(1, **BAD[rule]), **CONTRACT)
    assert f"0.csv, line 3: {expected[rule]}" in str(refused.value)
    assert "Nothing of this source's date was committed." in str(refused.value)


def test_values_are_normalized_then_derived_then_checked_and_the_manifest_says_so(convert):
    landed = convert("a,b,c\n\" X \",2,\n,3,4\n", normalize={"a": ["trim", "lower"]},
                     columns={"a": {"enum": ["x"]}, "b": {"type": "integer"}, "c": {"type": "numeric(5,1)"},
                              "d": {"type": "integer", "minimum": 0}},
                     derive={"c": "b * 1.5", "d": "CASE WHEN c = 3 THEN b - 2 ELSE b END"})
    assert landed.text == "a,b,c,d\nx,2,3.0,0\n,3,4,3\n"
    assert landed.types == {"a": "text", "b": "integer", "c": "numeric(5,1)", "d": "integer"}
    assert {name: to_builtins(reading) for name, reading in landed.entity.converted.items()} == {
        "a": {"normalize": ("trim", "lower")}, "c": {"derived": "b * 1.5"},
        "d": {"derived": "CASE WHEN c = 3 THEN b - 2 ELSE b END"}}


def test_trimmed_texts_can_be_null_and_other_options_read_what_is_normalized(convert):
    landed = convert("a,b\n  ,YES \nx,no\n", normalize=["trim", "lower"], null_values={"a": [""]},
                     columns={"b": {"true_values": ["yes"], "false_values": ["no"]}})
    assert landed.text == "a,b\n,t\nx,f\n"


def test_a_column_that_is_filled_where_it_is_empty_is_converted_as_any_other(convert):
    columns = {"q": {"type": "integer"}, "total": {"type": "numeric(9,2)"}}
    landed = convert('q;total\n2;"1.234,5"\n3;NaN\n4;""\n5;\n', columns=columns, derive={"total": "q * 1.5"},
                     delimiter=";", decimal_comma={"total": True}, null_values=["", "NaN"])
    assert landed.text == "q,total\n2,1234.50\n3,4.50\n4,6.00\n5,7.50\n"


def test_a_derived_value_that_its_type_does_not_hold_or_that_cannot_be_computed_is_rejected(convert):
    columns = {"a": {"type": "numeric(10,2)"}, "b": {"type": "numeric(10,2)"}, "c": {"type": "text"}}
    derive = {"b": "a / 3", "c": "CAST('x' || a AS INTEGER)::VARCHAR"}
    landed = convert("a,b,c\n3,,c\n1,,c\nNaN,,c\n3,,\n,,c\n", quarantine=True, columns=columns, derive=derive)
    assert landed.text == "a,b,c\n3,1.00,c\n,,c\n"
    assert [(row["line"], row["column"], row["rule"]) for row in landed.rejected] == [
        (3, "b", "type"), (4, "b", "derive"), (5, "c", "derive")]
    assert landed.rejected[2]["reason"] == (
        "derive: expected CAST('x' || a AS INTEGER)::VARCHAR, found a '3'")


def test_bounds_compare_by_the_type_and_unique_and_enum_by_value(convert):
    content = "n,d,f,u\n9.0,2024-01-31,9,1.0\n10,2024-02-01,1e1,2\n007,infinity,NaN,01\n"
    landed = convert(content, quarantine=True, columns={
        "n": {"type": "numeric(38,10)", "minimum": "8.9999999999", "enum": [9, "10.000", 7]},
        "d": {"type": "date", "exclusiveMinimum": "2024-01-31"},
        "f": {"type": "double precision", "maximum": 100.5},
        "u": {"type": "numeric(3,1)", "unique": True}})
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(2, "exclusiveMinimum"), (4, "minimum")]
    landed = convert("n,u\n1,1.0\n2,01\n3,\n4,\n", quarantine=True, columns={"u": {"type": "numeric", "unique": True}})
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(3, "unique")]
    assert convert("t\n2024-01-31T23:00:00Z\n", quarantine=True, columns={
        "t": {"type": "timestamptz", "maximum": "2024-02-01 00:00:00+01"}}).rejected == []


def test_a_row_that_breaks_a_rule_does_not_make_a_later_one_a_repetition(convert):
    landed = convert("a,b\n1,x\n1,yy\n2,z\n", quarantine=True, columns={"a": {"unique": True}, "b": {"minLength": 2}})
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(2, "minLength"), (4, "minLength")]


WRONG = {
    "a rule that does not exist for a type": ({"columns": {"a": {"type": "json", "minimum": 1}}}, "columns.a.minimum"),
    "a bound without a type": ({"columns": {"a": {"minimum": 1}}}, "columns.a.minimum needs the column's type"),
    "a bound of a number without digits": ({"columns": {"a": {"type": "numeric", "minimum": 1}}}, "up to 38 digits"),
    "a bound that is no value of the type": ({"columns": {"a": {"type": "date", "maximum": "soon"}}},
                                            "'soon' is not a value of the column's type date"),
    "an enum of other values": ({"columns": {"a": {"type": "integer", "enum": [1, "x"]}}}, "'x' is not a value"),
    "a pattern for a number": ({"columns": {"a": {"type": "integer", "pattern": "1"}}}, "it is for texts"),
    "a wrong pattern": ({"columns": {"a": {"pattern": "("}}}, "is not a regular expression of RE2: .*missing"),
    "a length below zero": ({"columns": {"a": {"minLength": -1}}}, "is not a number of characters"),
    "a flag that is none": ({"columns": {"a": {"required": "yes"}}}, "is not true or false"),
    "an unknown way to normalize": ({"normalize": {"a": ["title"]}}, "is not a list of trim and lower"),
    "a rule of a column that does not exist": ({"columns": {"x": {"required": True}}}, "columns: 'x'"),
    "a derived column without a type": ({"derive": {"x": "b"}}, "derive.x fills a column without a type"),
    "an option of a new column": ({"derive": {"x": "1"}, "columns": {"x": {"type": "integer", "normalize": ["trim"]}}},
                                 "not in the files, so normalize cannot"),
    "SQL that is not": ({"checks": {"c": "b >"}}, "checks.c 'b >' is not SQL over the columns of a row: syntax error"),
    "SQL of a column that does not exist": ({"checks": {"c": "x > 1"}}, "there is no column x"),
    "SQL of a column without a type": ({"checks": {"c": "a > 1"}}, "column a has no declared type"),
    "SQL that compares what cannot be": ({"checks": {"c": "b > DATE '2024-01-01'"}}, "Cannot compare"),
    "SQL that is no condition": ({"checks": {"c": "b + 1"}}, "is not a condition: its type is"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_contract_that_cannot_hold_is_refused_before_rows_are_read(convert, case):
    options, reason = WRONG[case]
    options["columns"] = {"b": {"type": "integer"}} | options.get("columns", {})
    with pytest.raises(SettingError, match=reason):
        convert("a,b\n1,not read\n", **options)


OUTSIDE = ["(SELECT count(*) FROM read_csv('0.csv')) > 0", "b IN (SELECT 1)", "EXISTS (FROM read_text('/etc/passwd'))",
           "b > 0) FROM read_csv('0.csv') WHERE (true", "b > 0; DROP TABLE failed", "now() > TIMESTAMP '2024-01-01'",
           "random() > b", "current_setting('memory_limit') = 'x'", "getvariable('x') = 1", "nextval('s') > 0",
           "count(*) > 0", "sum(b) OVER () > 0", "error('x') IS NULL", "sleep_ms(5) IS NULL", "b > $1",
           "columns('b') > 0",
           "c0 = 'x'", "failed.number > 0", "write_log('x') IS NULL", "list_transform([b], lambda x: x)[1] > 0"]


@pytest.mark.parametrize("text", OUTSIDE)
def test_sql_reaches_nothing_but_the_columns_of_its_row(convert, text):
    with pytest.raises(SettingError, match=r"checks.c .* is not SQL over the columns of a row"):
        convert("a,b\n1,1\n", columns={"b": {"type": "integer"}}, checks={"c": text})


def test_columns_are_found_by_either_name_in_any_case_and_keep_their_own_names(convert):
    landed = convert('number,c0,"Total €"\n1,2,3\n2,2,5\n', quarantine=True, rename={"Total €": "code"},
                     types={"number": "integer", "c0": "integer", "code": "integer"},
                     checks={"sums": 'number + c0 = "Total €" AND CODE = number + C0 -- and so on'})
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(3, "sums")]
    assert landed.text == "number,c0,code\n1,2,3\n"


def test_a_contract_holds_for_columns_that_are_not_landed_only_as_far_as_sql_needs_them(convert):
    columns = {"a": {"type": "integer", "minimum": 5}, "b": {"type": "integer"}}
    landed = convert("a,b\n1,2\n3,2\nx,2\n", quarantine=True, columns=columns, checks={"c": "a < b"}, wanted=["b"])
    assert landed.text == "b\n2\n"
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(3, "c"), (4, "type")]


def test_with_more_columns_than_a_query_has_each_row_is_still_rejected_once(convert):
    names = [f"n{number}" for number in range(450)]
    rows = [["1"] * 450, ["x", *["1"] * 448, "0"], ["1"] * 449 + ["0"]]
    content = "\n".join(",".join(row) for row in [names, *rows]) + "\n"
    types = {**dict.fromkeys(names, "integer"), "sum": "bigint"}
    landed = convert(content, quarantine=True, types=types, columns={"n449": {"minimum": 1}},
                     derive={"sum": "n0 + n449"})
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(3, "type"), (4, "minimum")]
    assert landed.text.splitlines()[1].endswith(",1,2")


def test_the_documented_messages_are_those_of_a_run(convert):
    messages = [block.split("```")[0].strip() for block in PAGE.split("```text\n")[1:]]
    with pytest.raises(BadFileError) as refused:
        convert(SALES + sale(0) + sale(1, quantity="0"), path="0.csv", **CONTRACT)
    assert messages[0].split(".csv, ")[1] in str(refused.value)
    columns = CONTRACT["columns"] | {"store_id": {"minimum": 3}}
    with pytest.raises(SettingError) as wrong:
        convert(SALES, **CONTRACT | {"columns": columns})
    assert messages[1].replace("entity 'sales'", "entity 'e'") in str(wrong.value)


PROTECTED = ENTITY | {"protect": {"name": "token", "e-mail": "drop"}, "on_bad_rows": "quarantine"}


def test_no_message_and_no_rejected_row_has_a_value_of_a_protected_column(people_files):
    people_files.project.csv("people.csv", PEOPLE + f"9;{PLAIN} again;x;2001-01-01\n")
    columns = {"name": {"type": "text", "maxLength": 14, "normalize": ["trim"]}, "id": {"type": "integer"}}
    contract = {"columns": columns, "checks": {"not_nine": "id <> 9 OR name = ''"}}
    for rules, found in ((contract, "maxLength: expected at most 14 characters, found a protected value"),
                         (contract | {"columns": columns | {"name": {"type": "text"}}},
                          "not_nine: expected id <> 9 OR name = '', found id '9', name a protected value")):
        declared = PROTECTED | rules
        refused = people_files.extract(DAY, "csv", check=False, files=[declared | {"on_bad_rows": "fail"}]).text
        assert found in refused
        assert PLAIN not in refused
        assert PLAIN not in people_files.extract(DAY, "csv", files=[declared]).text
        assert not [key for key, value in people_files.project.landed().items() if PLAIN.encode() in value]


def test_a_derived_column_of_protected_values_is_protected_or_refused(people_files):
    derived = {"columns": {"name": {"type": "text"}, "copy": {"type": "text"}}, "derive": {"copy": "upper(name)"}}
    result = people_files.extract(DAY, "csv", check=False, files=[PROTECTED | derived])
    assert "derive.copy uses the protected column name, and is not protected itself. Protect it, too." in result.text
    derived["protect"] = PROTECTED["protect"] | {"copy": "token"}
    people_files.extract(DAY, "csv", files=[PROTECTED | derived])
    assert PLAIN.upper().encode() not in b"".join(people_files.project.landed().values())
