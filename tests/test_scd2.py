"""Versions of rows by scd2() are those of a plain replay of the dates, in whatever order they were loaded; and landed()
shows a date as its sources have it.
"""

import random
from collections import Counter
from decimal import Decimal

import pytest
from conftest import Project, databases
from dates import Dates
from landing.load.table_names import TableNames
from landing.transform.sources import declaration, newest_manifests
from transforms import dbt, with_models

DAYS = [f"2024-01-{day:02}" for day in range(1, 11)]
FIRST = (DAYS[0], DAYS[6])  # loaded before the models are built; the others are late, or new
PEOPLE = {"id": "integer", "name": "text", "note": "text"}
HARD = {"a": "integer", "b": "text", "j": "json", "p": "point", "n": "numeric", "x": "double precision[]",
        "extracted_at": "text"}
KEYS = {"people": ["id"], "hard": ["b", "a"], "only_keys": ["x", "y"], "changing": ["id"], "keyless": ["id", "part"],
        "some day": ["Id"]}
MODELS = {
    **{f"{name}_versions": f"{{{{ scd2('{name}') }}}}" for name in ("people", "hard", "only_keys", "changing")},
    "keyless_versions": "{{ scd2('keyless', key=['id', 'part']) }}",
    "some_day_versions": "{{ scd2('some day') }}",
    "no_key": "{{ scd2('keyless') }}",
    "ambiguous": "{{ scd2('keyless', key=['id']) }}",
    "unknown": "{{ scd2('keyless', key=['nobody']) }}",
    "named": "{{ scd2('own_names') }}",
    "shown": "select * from {{ landed('hard') }}",
    "shown_other": "select * from {{ landed('other') }}",
}


def people(random):
    """Some of six people, each with one of a few values."""
    return [[str(number), random.choice(["a", "b"]), random.choice([None, "", "x"])]
            for number in range(6) if random.random() < 0.7]


def hard(random):
    values = [random.choice(one) for one in (['{"a": 1}', '{"a":1}', None], ["(1,2)", "(-0,2)"],
                                             ["1", "1.50", "1.5"], ["{1,NULL}", "{1}"], ["x", None])]
    return [["1", "k", *values], ["1", "K", *values], ["2", "k", None, None, None, None, None]]


def changing(day):
    """A column is there on the first five dates, another from the fifth on, and a scale from the seventh on."""
    number = DAYS.index(day)
    columns = {"id": "integer", **({"gone": "text"} if number < 5 else {}), **({"new": "text"} if number > 3 else {}),
               "wide": "integer" if number < 6 else "numeric(7,2)"}
    value = {"gone": "g", "new": "n", "wide": "7" if number < 6 else "7.00"}
    return columns, [["1", *(value[name] for name in columns if name != "id")]], "id"


def land(dates, day):
    chance = random.Random(day)
    keyless = [[str(number), part, chance.choice("ab")] for number in range(2) for part in "pq"]
    dates.land(day, people=(PEOPLE, people(chance), "id"), hard=(HARD, hard(chance), "b", "a"),
               only_keys=({"x": "integer", "y": "integer"}, [["1", str(y)] for y in range(3) if chance.random() < 0.6],
                          "x", "y"),
               changing=changing(day),
               keyless=({"id": "integer", "part": "text", "value": "text"}, keyless),
               own_names=({"id": "integer", "valid_to": "date"}, [["1", None]], "id"),
               **{"some day": ({"Id": "integer", "a \"quoted\" name": "text"}, [["1", chance.choice("ab")]], "Id")})


def replay(dates, table, key, loaded):
    """Versions by the rows of each date: (valid_from, valid_to, values) by name."""
    states = {day: {tuple(row[name] for name in key): row for row in rows(dates, "public_history", table, day)}
              for day in loaded}
    found = []
    for one in {key for state in states.values() for key in state}:
        before = None
        for day in loaded:
            row = states[day].get(one)
            if before and (row is None or values(row) != values(before)):
                found[-1]["valid_to"] = day
            if row and (before is None or values(row) != values(before)):
                found.append({"valid_from": day, "valid_to": None, **row})
            before = row
    return sorted(found, key=str)


def values(row):
    """A row's values: numbers by value, all others by their text."""
    return {name: Decimal(value) if name in ("n", "wide") and value is not None else value
            for name, value in row.items()}


def rows(dates, schema, table, day=None):
    """Rows as dictionaries of texts, named as in the source."""
    relation = f'"{schema}"."{table}"'
    names = [name for name, in dates.run(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped", relation)]
    renamed = {name: "extracted_at" if name == "extracted_at_" else name for name in names
               if name != "extracted_at" or not day}
    fields = ", ".join('"{}"::text'.format(name.replace('"', '""')) for name in renamed)
    where = f" WHERE extracted_at = '{day}'" if day else ""
    return [dict(zip(renamed.values(), row, strict=True))
            for row in dates.run(f"SELECT {fields} FROM {relation}{where}")]


@pytest.fixture(scope="module")
def built(server, tmp_path_factory):
    """Two dates, and the models built on them."""
    with databases(server) as make:
        project = Project(tmp_path_factory.mktemp("scd2"), make("source"), make("warehouse"))
        dates = Dates(project)
        for day in FIRST:
            land(dates, day)
        dates.land(FIRST[0], source="other", other=({"id": "integer"}, [["7"]], "id"))
        dates.load(FIRST[0], "postgres", "other")
        dates.load(FIRST[1])
        sources = declaration(newest_manifests(dates.zone, ["postgres", "other"]), TableNames({}, "public"))
        with_models(project, sources, MODELS)
        yield dates, dbt(project, "build", check=False)
        dates.close()


def versions(dates, table):
    return sorted(rows(dates, "marts", f"{table.replace(' ', '_')}_versions"), key=str)


def ordered(expected, found):
    """The replay's versions with the names in the order of the view's."""
    names = list(found[0]) if found else []
    return sorted(({name: row[name] for name in names} for row in expected), key=str)


def test_versions_are_those_of_a_replay_also_after_late_dates_in_any_order(built):
    dates, _ = built
    loaded = [*FIRST]
    late = [day for day in DAYS if day not in FIRST]
    random.Random(16).shuffle(late)
    for day in [None, *late]:
        if day:
            land(dates, day)
            dates.load(day)
            loaded = sorted([*loaded, day])
        for table, key in KEYS.items():
            found = versions(dates, table)
            assert found, table
            assert found == ordered(replay(dates, table, key, loaded), found), (table, loaded)
    counts = Counter(row["id"] for row in versions(dates, "people"))
    assert max(counts.values()) > 3, "rows changed, went and came back"
    assert sorted(row["valid_from"] for row in versions(dates, "changing")) == [DAYS[0], DAYS[4], DAYS[5]], (
        "a column more or less is a change; another type of the same numbers is none")


def test_models_see_the_source_s_own_columns_and_the_last_date_of_a_source_that_the_date_lacks(built):
    dates, _ = built
    found, of_day = (sorted(rows(dates, *place), key=str) for place in (
        ("marts", "shown"), ("public_history", "hard", FIRST[1])))
    assert [*found[0]] == [*HARD], "without the partition's date"
    assert found == of_day
    assert rows(dates, "marts", "shown_other") == [{"id": "7"}]


def test_a_table_without_a_usable_key_is_refused_by_name(built):
    _, result = built
    assert result.returncode == 1
    for said in ('"public_history"."keyless" has no primary key: its table has none, or not the same on all dates. '
                 "Name the columns that tell its rows apart: scd2('keyless', key=[",
                 "scd2('keyless'): rows of one date have the same id, or NULL there.",
                 "scd2('keyless'): there is no column nobody for its key. Columns: id, part, value",
                 "scd2('own_names'): the table has a column valid_to of its own."):
        assert said in " ".join(result.text.split()), said
