r"""A declared type holds each value of a CSV file exactly, or the row is bad: refused or quarantined, never rounded.

PostgreSQL itself is the judge of what a type holds: the same values go into columns of the types, and come back.
"""

import json
import logging
import random
from decimal import Decimal

import duckdb
import psycopg2
import pytest
from landing.core.errors import BadFileError, SettingError
from landing.core.progress import Progress
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.entity import CsvEntity
from landing.model import declared_types
from landing.model.declared_types import SPACE, Declared
from landing.model.manifest import Manifest
from landing.storage.local import at

DAY = "2024-03-01"

CHANGED = {  # by PostgreSQL, without an error
    "numeric(10,2)": ["12.345", "0.001", "1e-3", "99999999.994"],
    "numeric(3,-2)": ["1250", "1"],
    "real": ["16777217", "0.123456789", "3.14159265358979"],
    "double precision": ["9007199254740993", "0.1234567890123456789"],
    "float(24)": ["16777217"],
    "date": ["2024-01-02 10:00:00", "2024-01-02 00:00:00.1", "2024-01-02 00:00+05"],
    "timestamp(0)": ["2024-01-02 00:00:00.9"],
    "timestamp": ["2024-01-02 00:00:00.1234567", "2024-01-02 00:00:00+05"],
    "timestamptz(3)": ["2024-01-02 00:00:00.1234Z"],
    "time(0)": ["00:00:00.9"],
    "time": ["10:00+05", "2024-01-02 10:00", "10:00:00.1234567"],
    "interval(0)": ["00:00:00.9", "P0DT0.9S"],
    "interval": ["00:00:00.1234567"],
    "money": ["12.345"],
    "varchar(3)": ["abc  "],
    '"char"': ["ab"],
    "name": ["x" * 64],
}
HELD = {
    "numeric(10,2)": ["12.34", "12.50", "12.5", "12.3400000", "+1", "007", "1e5", "1.2e-1", " 7 ", "NaN"],
    "numeric(3,-2)": ["1200", "12e2"],
    "numeric(10,1)": ["12.50"],
    "numeric": ["12.345", "1e-300", "9" * 500],
    "real": ["0.1", "12.345", "16777216", "0.05000000074505806", "1e-40", "-0", "0.0", "infinity"],
    "double precision": ["0.1", "0.10000000000000001", "9007199254740992", "1e23", "5e-324"],
    "integer": ["1", "+1", "01", " 1 "],
    "date": ["2024-01-02", "2024/01/02", "20240102", "2024-01-02 00:00:00", "infinity"],
    "timestamp(0)": ["2024-01-02 00:00:00", "2024-01-02 00:00:00.000", "2024-01-02"],
    "timestamp(3)": ["2024-01-02 00:00:00.123", "2024-01-02 00:00:00.12300"],
    "timestamptz": ["2024-01-02 00:00:00.123456+05:30", "2024-01-02T00:00:00Z"],
    "time(3)": ["10:00:00.123", "10:00"],
    "timetz": ["10:00:00+05", "10:00Z"],
    "interval": ["1 day 02:03:04.5", "-3 days", "1 year 2 mons 3 days 04:05:06", "P1Y2M3DT4H5M6.5S"],
    "interval(3)": ["00:00:00.123"],
    "money": ["12.34", "-$1.50", "12.340"],
    "boolean": ["t", "TRUE", "yes", "0", "off"],
    "uuid": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "varchar(3)": ["abc", "ab "],
    "char(3)": ["abc", "ab", "abc  "],
    "char": ["a"],
    "bit(3)": ["101"],
    "bit varying(5)": ["101"],
    "oid": ["4294967295"],
    "text": [" x "],
    "json": ['{"a": 1.0}'],
    "inet": ["10.0.0.1/8"],
    "bytea": ["\\x00ff"],
    "integer[]": ["{1,2}"],
    "text[]": ['{a,"b c"}'],
}
WRONG = {"integer": ["1.0", "1e2", ""], "smallint": ["32768"], "real": ["1e40", "1e-60"], "boolean": ["maybe"],
         "numeric(3,1)": ["100"], "bit(3)": ["10"], "char(3)": ["abcd"], "oid": ["-1"], "date": ["2023-02-29"],
         "uuid": ["a0eebc99"]}


@pytest.fixture
def land(tmp_path, monkeypatch):
    """Lands one column, x, of a declared type, and gives the entity's bytes."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))

    def run(type_, values, **declared):
        lines = "".join(f'{number},"{value}"\n' for number, value in enumerate(v.replace('"', '""') for v in values))
        (tmp_path / "in.csv").write_text("n,x\n" + lines)
        entity = CsvEntity(Declaration("e", "in.csv", types={"x": type_}, **declared))
        out = tmp_path / "e.csv"
        out.unlink(missing_ok=True)
        entity.convert(entity.names, tmp_path, at(out), Progress(logging.getLogger("test"), "e"))
        return out.read_text()

    return run


def spelled(values):
    return [(type_, value) for type_, several in values.items() for value in several]


@pytest.mark.parametrize(("type_", "value"), spelled(CHANGED))
def test_a_value_that_its_type_would_change_is_refused_by_line_and_length_and_not_shown(land, type_, value):
    with pytest.raises(BadFileError) as refused:
        land(type_, [value])
    said = str(refused.value)
    assert "in.csv, line 2: column 'x': " in said
    assert f"(the value's length is {len(value)})" in said
    assert f"type {type_} does not hold it exactly" in said or f"not a value of type {type_}" in said
    assert f": {value}" not in said
    assert f"'{value}'" not in said


@pytest.mark.parametrize(("type_", "value"), spelled(HELD))
def test_a_value_that_its_type_holds_lands_with_its_own_text_however_it_is_spelled(land, type_, value):
    assert land(type_, [value]).startswith("n,x\n0,")


@pytest.mark.parametrize(("type_", "value"), spelled(WRONG))
def test_a_value_that_is_none_of_its_type_is_refused_at_extract_and_not_first_at_load(land, type_, value):
    for lossy in (False, True):
        with pytest.raises(BadFileError, match="line 2: column 'x': not a value of type"):
            land(type_, [value], lossy=lossy)


@pytest.mark.parametrize(("type_", "value"), spelled(CHANGED))
def test_lossy_takes_what_the_type_would_change(land, type_, value):
    assert value in land(type_, [value], lossy=True)


def test_lossy_does_not_loosen_a_key(land):
    with pytest.raises(BadFileError, match="does not hold it exactly"):
        land("numeric(10,2)", ["12.345"], lossy=True, keys=["x"])


def test_a_type_of_which_only_postgresql_can_tell_what_it_changes_needs_the_word_lossy(land):
    for type_ in ("jsonb", "point", "numeric(10,2)[]", "timestamp[]", "tsvector", "mood", "interval hour to minute"):
        with pytest.raises(SettingError, match="set `lossy: true`"):
            land(type_, ["{}"])
        land(type_, ["{}"], lossy=True)


# For each type, SQL that is true where it holds all of the text %(v)s.
JUDGED = {
    "numeric(10,2)": "%(v)s::numeric(10,2) = %(v)s::numeric", "numeric(3,1)": "%(v)s::numeric(3,1) = %(v)s::numeric",
    "numeric(5,-2)": "%(v)s::numeric(5,-2) = %(v)s::numeric", "numeric(2,4)": "%(v)s::numeric(2,4) = %(v)s::numeric",
    "numeric(60,30)": "%(v)s::numeric(60,30) = %(v)s::numeric", "numeric": "%(v)s::numeric IS NOT NULL",
    "timestamp(0)": "%(v)s::timestamp(0) = %(v)s::timestamp", "timestamp(2)": "%(v)s::timestamp(2) = %(v)s::timestamp",
    "time(1)": "%(v)s::time(1) = %(v)s::time", "interval(2)": "%(v)s::interval(2) = %(v)s::interval",
    "timestamptz(5)": "%(v)s::timestamptz(5) = %(v)s::timestamptz",
    "date": "%(v)s::date::timestamp = %(v)s::timestamp", "bigint": "%(v)s::bigint = %(v)s::numeric",
    "money": "%(v)s::money::numeric = replace(%(v)s, '$', '')::numeric",
}


def random_numbers(chance, count):
    for _ in range(count):
        whole, part = ("".join(chance.choices("00123459", k=chance.randrange(6))) for _ in range(2))
        exponent = chance.choice(["", "", f"e{chance.randrange(-6, 7)}", f"E+{chance.randrange(3)}"])
        yield chance.choice(["", "-", "+"]) + (whole or "0") + ("." + part if part else "") + exponent


def random_moments(chance, count):
    for _ in range(count):
        part = "".join(chance.choices("0015", k=chance.randrange(7)))
        clock = f"{chance.randrange(24):02}:{chance.randrange(60):02}" + (
            f":{chance.randrange(60):02}" + ("." + part if part else "") if chance.random() < 0.8 else "")
        day = f"2024-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        yield chance.choice([f"{day} {clock}", f"{day} 00:00:00", clock, day, f"{day}T{clock}"])


def passed(values, type_):
    """Those of the texts that are held."""
    column = f"trim(v, '{SPACE}')" if Declared.of(type_).spaced else "v"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT unnest(?::VARCHAR[]) AS v", [values])
        held = declared_types.held(type_, column)
        found = connection.execute(f"SELECT v FROM t WHERE coalesce({held}, false)").fetchall()
    return {value for value, in found}


def test_what_passes_is_just_what_postgresql_gives_back_as_the_same_value(project):
    chance = random.Random(3)
    values = [*{*random_numbers(chance, 1500), *random_moments(chance, 1000), "NaN", "infinity", " 1.50 ", "1."}]
    project.warehouse.run("SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET lc_monetary = 'C'")
    project.warehouse.run("CREATE TABLE v AS SELECT unnest(%s::text[]) AS v", values)
    for type_, judged in JUDGED.items():
        project.warehouse.run(
            "CREATE OR REPLACE FUNCTION held(v text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN "
            f"{judged.replace('%(v)s', 'v')}; EXCEPTION WHEN OTHERS THEN RETURN false; END $$")
        by_postgresql = {value for value, in project.warehouse.run("SELECT v FROM v WHERE held(v)")}
        ours = passed(values, type_)
        assert ours <= by_postgresql, type_
        if type_.startswith("numeric"):  # of others it takes spellings that we do not know
            assert ours == by_postgresql, type_
        if type_.startswith("timestamp"):
            assert {value for value in by_postgresql if value[4:5] == "-"} <= ours
        assert len(ours) > 20, type_


def test_a_float_passes_where_it_gives_the_number_back_with_as_many_digits(project):
    chance = random.Random(5)
    values = [f"{chance.choice('123456789')}{''.join(chance.choices('0123456789', k=chance.randrange(20)))}"
              f"e{chance.randrange(-60, 50)}" for _ in range(1500)]
    values += [repr(chance.random()) for _ in range(200)] + [f"{chance.random():.17g}" for _ in range(200)]
    for type_ in ("real", "double precision"):
        ours, several = passed(values, type_), 0
        for value in values:
            digits = Decimal(value).normalize().as_tuple().digits
            try:
                back = project.warehouse.one(f"SELECT %s::{type_}::float8", value)
            except psycopg2.errors.NumericValueOutOfRange:
                assert value not in ours
                continue
            same = f"{Decimal(back):.{len(digits) - 1}e}" == f"{Decimal(value):.{len(digits) - 1}e}"
            assert (value in ours) == same, (type_, value)
            several += same
        assert 100 < several < len(values)


FILE = {"entity": "e", "path": "extract/e.csv", "keys": ["id"], "types": {"amount": "numeric(10,2)"}}


def extract(project, check=True, day=DAY, **declared):
    return project.pipe(project.tap_csv({**FILE, **declared}), project.target_csv(), check, DATESTAMP=day)


def test_the_whole_way_a_date_is_refused_quarantined_or_says_that_it_is_lossy(project):
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    path = project.csv("e.csv", "id,amount\n1,12.34\n2,12.345\n3,12.50000\n")
    result = extract(project, check=False)
    assert result.returncode
    assert (f"{path}, line 3: column 'amount': type numeric(10,2) does not hold it exactly (the value's length is 6)"
            in " ".join(result.text.split()))
    assert "12.345" not in result.text
    assert "Traceback" not in result.text
    assert project.landed() == {}

    extract(project, on_bad_rows="quarantine")
    table, = project.manifest("csv", DAY)["tables"]
    assert (table["rows"], table["quarantine"]["rows"]) == (2, 1)
    assert "lossy" not in table
    bad = json.loads((project.manifest_path("csv", DAY).parent / table["quarantine"]["path"]).read_text())
    assert (bad["line"], bad["column"], bad["text"]) == (3, "amount", "2,12.345")
    project.load(DAY)
    assert project.rows("e") == [("(1,12.34)",), ("(3,12.50)",)]

    extract(project, day="2024-03-02", lossy=True)
    table, = project.manifest("csv", "2024-03-02")["tables"]
    assert (table["rows"], table["lossy"]) == (3, True)
    assert Manifest.from_json(project.manifest_path("csv", "2024-03-02").read_text()).tables[0].lossy
    project.load("2024-03-02")
    assert project.rows("e") == [("(1,12.34)",), ("(2,12.35)",), ("(3,12.50)",)]
