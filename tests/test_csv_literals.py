"""A value of a declared type that DuckDB cannot judge is refused by the extract, not first by the load.

PostgreSQL is the judge: what passes is a value that it stores.
"""

import random

import duckdb
import psycopg2
import pytest
from landing.core.errors import BadFileError
from landing.extract.csv import literals
from landing.model import declared_types
from landing.model.declared_types import Declared

GOOD = {
    "json": ['{"a": [1, 2.5e3, null, true], "b": "\\u00e9"}', " 1 ", '"x"', "[]", '{"a":1,"a":2}', "1e999"],
    "jsonb": ['{"a": [1, 2.5e3, null, true], "b": "\\u00e9"}', '"\\ud83d\\ude00"'],
    "bytea": ["\\x00ff", "\\x", "abc", "a\\\\b\\000", "", "é"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "2001:DB8::/32", "::ffff:1.2.3.4"],
    "cidr": ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "0.0.0.0/0"],
    "macaddr": ["08:00:2b:01:02:03", "8:0:2b:1:2:3", "08-00-2b-01-02-03", "08002b:010203", "0800.2b01.0203",
                "08002B010203"],
    "macaddr8": ["08:00:2b:01:02:03:04:05", "08-00-2b-01-02-03-04-05", "08002b0102030405", "08:00:2b:01:02:03"],
    "pg_lsn": ["16/B374D848", "0/0"],
    "bit varying": ["", "101"], "bit varying(3)": ["101", "1"], '"bit"': ["1010"],
    "int4range": ["[1,5)", "(,5]", "empty", " [ 1 , 2 ] ", "(5,5)", "[,]", "[1,2147483646]", "(2147483646,)"],
    "int8range": ["[1,9223372036854775806]"],
    "numrange": ["[1.5,2e3)", "(,)", "[5,5]"],
    "integer[]": ["{}", "{1,2}", "{1,NULL, 3 }", "{{1,2},{3,4}}", ' { "1" , " 2" } ', "{null}"],
    "bigint[]": ["{9223372036854775807}"], "smallint[]": ["{-32768}"],
    "numeric[]": ["{1.5,NaN,1e10,Infinity}"], "boolean[]": ["{t,FALSE,yes}"],
    "text[]": ['{a,"b c","",NULL,"NULL","a\\"b\\\\"}', "{ä ö}", '{"{}"}'],
    "uuid[]": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
    "json[]": ['{"{\\"a\\": 1}"}'], "inet[]": ["{10.0.0.1,::1}"], "bytea[]": ['{"\\\\x00ff"}'],
    "int4range[]": ['{"[1,2)",empty}'],
    "text": ["", "x"], "varchar[]": ["{a}"],
}
BAD = {
    "json": ["", "{a:1}", "{'a':1}", "[1,]", "NaN", "01", "1.", '"a\tb"', "1 2", "tru", "\ufeff1", '"\\x"',
             "[" * 9 + "]", "٣"],
    "jsonb": ['"\\u0000"', '"\\ud800"', '{"a":1e999999}', "nope"],
    "bytea": ["\\x0", "\\xzz", "a\\b", "\\9"],
    "inet": ["", "10.0.0", "10.0.0.256", "10.0.0.1/33", "::1/129", ":::", "10.0.0.1/255.0.0.0", "fe80::1%eth0", "host"],
    "cidr": ["10.0.0.1/8", "2001:db8::1/32"],
    "macaddr": ["", "08:00:2b:01:02", "08:00:2b:01:02:0g", "08:00-2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02", "zz"],
    "pg_lsn": ["16B374D848", "1/123456789"],
    "bit varying": ["102"], "bit varying(3)": ["1010"], '"bit"': ["x"],
    "int4range": ["[5,1)", "[1;5)", "1,5", "[a,b)", "[1.5,2)", "[1,2147483647]", "(2147483647,)", "[99999999999,)",
                  ""],
    "numrange": ["[2,1]", "[x,)"],
    "integer[]": ["", "1,2", "{1,2", "{1,,2}", "{1,}", "{a}", "{1.5}", "{{1},{2,3}}", "{1,{2}}", "{99999999999}",
                  "{} x", "{{{{{{{1}}}}}}}", "{\"1\"2}", "{''}"],
    "smallint[]": ["{32768}"], "numeric[]": ["{x}"], "boolean[]": ["{maybe}", "{falſe}"],
    "text[]": ['{"a}', "{a{b}", '{a"b"}'], "uuid[]": ["{x}"], "json[]": ["{{a}"], "inet[]": ["{x}"],
}


def spelled(values):
    return [(type_, value) for type_, several in values.items() for value in several]


def lossy(type_):
    return {"lossy": True} if type_ == "jsonb" else {}


@pytest.mark.parametrize("type_", GOOD)
def test_values_of_a_type_land(convert, type_):
    rows = "".join('"' + value.replace('"', '""') + '",x\n' for value in GOOD[type_])
    assert len(convert("v,n\n" + rows, types={"v": type_}, **lossy(type_)).text.splitlines()) == len(GOOD[type_]) + 1


@pytest.mark.parametrize(("type_", "value"), spelled(BAD))
def test_a_value_of_another_kind_is_refused_by_file_line_column_and_type_and_never_shown(convert, type_, value):
    good = GOOD[type_][0].replace('"', '""')
    content = f'n,v\n1,"{good}"\n2,\n3,"' + value.replace('"', '""') + f'"\n4,"{good}"\n'
    with pytest.raises(BadFileError) as refused:
        convert(content, types={"v": type_}, **lossy(type_))
    assert f"0.csv, line 4: column 'v': not a value of type {type_}" in str(refused.value)
    assert len(value) < 2 or f"{value}." not in str(refused.value)
    found = convert(content, quarantine=True, types={"v": type_}, **lossy(type_))
    assert [(row["line"], row["column"]) for row in found.rejected] == [(4, "v")]
    assert [line[0] for line in found.text.splitlines()[1:]] == ["1", "2", "4"]


CHARACTERS = [*'"\\{}, 09ax:./[]()-e\n', "NULL", "'", ""]


def mutations(chance, values, count):
    """Values with a few characters changed."""
    for _ in range(count):
        value = [*chance.choice(values)]
        for _ in range(chance.randrange(1, 3)):
            place = chance.randrange(len(value) + 1)
            value[place: place + chance.randrange(2)] = chance.choice(CHARACTERS)
        yield "".join(value)


def test_what_passes_is_what_postgresql_stores(project):
    chance = random.Random(7)
    project.warehouse.run("SET DateStyle = 'ISO, YMD'")
    for number, type_ in enumerate(GOOD):
        values = {*GOOD[type_], *BAD.get(type_, []), *mutations(chance, [*GOOD[type_], *BAD.get(type_, [])], 300)}
        judge = literals.judge(type_)
        passed = [value for value in values if judge(value)]
        assert {*GOOD[type_]} <= {*passed}, type_
        project.warehouse.run(f"CREATE TABLE j{number} (v {type_})")
        for value in passed:
            try:
                project.warehouse.run(f"INSERT INTO j{number} SELECT %s", psycopg2.extensions.AsIs("E'" + value.replace(
                    "\\", "\\\\").replace("'", "\\'") + "'"))
            except psycopg2.Error as error:
                pytest.fail(f"{type_}: {value!r}: {error}")


LOSSY = ["time", "time(2)", "timetz(1)", "interval(1)", "money", "oid", "bit(3)", "name", '"char"', "numeric(3,-2)",
         "numeric(60,30)", "numeric(2,4)", "numeric(40,1)", "varchar(3)"]
SPANS = ["1 year 2 mons", "1 day 2 days", "999999999 years", "99999999 weeks", "9999999 weeks", "P1Y2M", "P1Y1Y", "P",
         "PT", "P1W", "1 day 02:03:04.5678", "1 hour 02:03", "-1 day +02:03:04", "3 mins 4 secs", "999999999:00:00",
         "P999999999Y", "PT1.5S", "2 weeks 3 days", "1 day 1 year", " ", "-", "PT999999999H999999999M999999999S",
         "9999999 years 99999999 months"]
NUMBERS = ["999.96", "999.94", "99.96", "-0.00995", "0.0099949", "0.01", "1e38", "9" * 29 + "." + "9" * 31, "99950",
           "9" * 39 + ".96", "9" * 39 + ".94", "99949", "1e3", "0", "", "x", "-", "$1.239", "-$5", "1e1000", "101",
           "4294967296", "b101", "1011", "abcd", "ab   ", "é", "y" * 70]
TIMES = ["10:11:12.99999", "23:59:59.999999", "10:11+05", "24:00", "2024-01-02 10:00", "2024-02-30 10:00",
         "2024-01-02T10:00:00.5Z"]


def test_with_lossy_too_what_passes_is_what_postgresql_reads(project):
    project.warehouse.run("SET DateStyle = 'ISO, YMD'; SET lc_monetary = 'C'")
    values = [*SPANS, *NUMBERS, *TIMES]
    for number, type_ in enumerate([*LOSSY, "interval"]):
        column = "trim(v)" if Declared.of(type_).spaced else "v"
        with duckdb.connect() as connection:
            conditions = [declared_types.fits(type_, column), declared_types.held(type_, column)]
            assert all(conditions), type_
            passed = {value for condition in conditions for value, in connection.execute(
                f"SELECT v FROM (SELECT unnest(?::VARCHAR[]) AS v) WHERE {condition}", [values]).fetchall()}
        assert passed, type_
        project.warehouse.run(f"CREATE TABLE l{number} (v {type_})")
        for value in passed:
            try:
                project.warehouse.run(f"INSERT INTO l{number} SELECT %s", value)
            except psycopg2.Error as error:
                pytest.fail(f"{type_}: {value!r}: {error}")


def test_types_that_only_postgresql_can_judge_are_not_judged():
    for type_ in ("point", "mood", "tsvector", "numeric(10,2)[]", "date[]", "varchar(3)[]", "interval"):
        assert literals.judge(type_) is None
    assert Declared.of("text[]").unchanged


def test_xml_is_content_that_is_well_formed():
    judge = literals.judge("xml")
    for value in ("<a/>", "text", "", "<a>1</a><b x='1'/>", '<?xml version="1.0"?><a/>', "<!-- c -->&amp;",
                  "<a xmlns:b='c'><b:d/></a>"):
        assert judge(value), value
    for value in ("<a>", "</content><content>", "</content>", "&nbsp;", "<b:d/>", "<!DOCTYPE a><a/>", "<a b=1/>",
                  "x < y", "<![CDATA[", '<a/><?xml version="1.0"?>'):
        assert not judge(value), value
