"""Loading a date never changes a value of another date, whatever the order of columns, types and dates."""

import itertools
import random
import re

import pytest
from dates import Dates, reordered
from landing.core.errors import RefusedError
from test_schema_change import WIDER

D1, D2, D3, D4 = (f"2024-01-{day}" for day in (20, 21, 22, 23))


@pytest.fixture
def dates(project):
    dates = Dates(project)
    yield dates
    dates.close()


def test_the_third_csv_file_leaves_the_second_date_as_it_was(project):
    tap = project.tap_csv({"entity": "t", "path": "extract/t.csv"})
    for when, text in ((D1, "a,b\n1,10\n"), (D2, "b,a\n10,1\n20,\n"), (D3, "a,b\n1,ten\n")):
        project.csv("t.csv", text)
        project.pipe(tap, project.target_csv(), DATESTAMP=when)
        project.pipe(project.tap_landed(sources=["csv"]), project.target_postgres(), EXTRACTED_AT=when)
    query = "SELECT a, b FROM public_history.t WHERE extracted_at = %s ORDER BY b"
    assert project.warehouse.run(query, D2) == [(1, "10"), (None, "20")]


@pytest.mark.parametrize(("old", "new", "wide"), [
    ("smallint[]", "bigint[]", "bigint[]"), ("integer[]", "text", "text"),
    ("integer[]", "text[]", None), ("text[]", "integer[]", None), ("integer[]", "date[]", None)])
def test_an_array_widens_with_its_elements_and_never_to_an_array_of_text(dates, old, new, wide):
    dates.land(D1, t=({"a": old}, [("{1,NULL}",)]))
    dates.land(D2, t=({"a": new}, [("{NULL}",)]))
    dates.load(D1)
    if wide is None:
        with pytest.raises(RefusedError, match="neither holds the other"):
            dates.load(D2)
    else:
        dates.load(D2)
    assert dates.one("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'a' "
                     "AND attrelid = 'public_history.t'::regclass") == (wide or old)
    assert dates.unproved(D1, *[D2] * bool(wide)) == []


def test_partitions_of_tables_with_the_longest_names_have_names_of_their_own(dates):
    names = [letter * 62 + last for letter, last in (("a", "x"), ("a", "y"), ("b", "z"))] + ["a" * 39 + "ü" * 12]
    assert {len(name.encode()) for name in names} == {63}
    for day, value in ((D1, "1"), (D2, "2")):
        dates.land(day, **{name: ({"a": "integer"}, [(value,)]) for name in names})
        dates.load(day)
    found = [dates.run("SELECT relname FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits "
                       "WHERE inhparent = format('public_history.%%I', %s::text)::regclass) ORDER BY 1", name)
             for name in names]
    partitions = [partition for rows in found for partition, in rows]
    assert len({*partitions}) == 2 * len(names)
    for name, rows in zip(names, found, strict=True):
        assert [re.fullmatch(r"(.*)~[0-9a-f]+@(.*)", partition).groups() for partition, in rows] == [
            (name.encode()[:40].decode(errors="ignore"), day) for day in (D1, D2)]
        assert [dates.rows(name, "a", day=day) for day in (D1, D2)] == [[("1",)], [("2",)]]


def orders_of(dates, table):
    """Names in order, of the table of history and of each of its partitions."""
    return {tuple(names) for _, names in dates.run(
        "SELECT c.oid, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a "
        "ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.oid IN (SELECT relid FROM pg_partition_tree(%s::regclass)) GROUP BY 1", f"public_history.{table}")}


ROWS = [("1", "10", "x"), (None, "20", None), ("3", None, ""), (None, None, None)]


@pytest.mark.parametrize("neighbour", ["integer", "text", "date"])
def test_columns_that_were_reordered_widen_in_every_date(dates, neighbour):
    """Where the neighbour's type differs, the wrong column would also be of the wrong type."""
    third = {"integer": "7", "text": "seven", "date": "2024-02-02"}[neighbour]
    rows = [(*row[:2], third if row[2] else None) for row in ROWS]
    dates.land(D1, t=({"a": "integer", "b": "integer", "c": neighbour}, rows))
    dates.land(D2, t=({"c": neighbour, "b": "integer", "a": "integer"}, [row[::-1] for row in rows]))
    dates.land(D3, t=({"b": "text", "new": "date", "a": "bigint"}, [("ten", None, "1"), (None, "2024-03-03", None)]))
    for when in (D1, D2, D3):
        dates.load(when)
    for when in (D1, D2):
        assert dates.rows("t", "a", "b", "c", day=when) == sorted(rows, key=str)
    assert dates.unproved(D1, D2, D3) == []
    assert orders_of(dates, "t") == {("extracted_at", "a", "b", "c", "new")}
    dates.load(D1, reload=True)
    assert dates.rows("t", "a", "b", "c", "new", day=D1) == sorted(((*row, None) for row in rows), key=str)
    assert orders_of(dates, "t") == {("extracted_at", "a", "b", "c", "new")}
    assert dates.unproved(D1, D2, D3) == []


def test_partitions_that_older_loads_left_in_another_order_widen_too(dates):
    """Values that differ between a type's output and its cast, NULLs, and '' beside them."""
    columns = {"id": "integer", "c": "character(5)", "b": "boolean", "x": "xml", "f": "real", "d": "date"}
    rows = [("1", "ab   ", "t", "<a/>", "1e+20", "2024-01-01"), ("2", None, None, None, None, None),
            ("3", "     ", "f", None, "NaN", "infinity"), ("4", None, "t", None, None, "0044-03-15 BC")]
    if not dates.one("SELECT count(*) FROM pg_config WHERE name = 'CONFIGURE' AND setting LIKE '%%with-libxml%%'"):
        columns["x"] = "text"
    dates.land(D1, t=(columns, rows, "id"))
    dates.land(D2, t=(columns, rows, "id"))
    wider = dict.fromkeys(columns, "text") | {"id": "bigint"}
    dates.land(D3, t=(wider, [("9", "z", "true", "<b/>", "0.5", "soon")], "id"))
    dates.load(D1)
    dates.load(D2)
    reordered(dates, "t", D2, ["d", "b", "extracted_at", "f", "x", "id", "c"])
    dates.load(D3)
    for when in (D1, D2):
        assert dates.rows("t", *columns, day=when) == sorted(rows, key=str)
    assert dates.unproved(D1, D2, D3) == []


def test_a_column_of_a_composite_type_with_null_fields_is_not_null(dates):
    """A person may give history a column of any type; its dates keep what it holds."""
    dates.land(D1, t=({"a": "integer", "b": "integer"}, [("1", "2")]))
    dates.load(D1)
    dates.run("CREATE TYPE pair AS (x integer, y integer); DROP VIEW t; ALTER TABLE public_history.t ALTER b TYPE pair "
              "USING ROW(b, NULL)::pair; INSERT INTO public_history.t VALUES (%s, 3, ROW(NULL, NULL)), (%s, 4, NULL)",
              D1, D1)
    reordered(dates, "t", D1, ["b", "extracted_at", "a"])
    dates.land(D2, t=({"b": "text", "a": "integer"}, [("(1,1)", "1")]))
    dates.load(D2)
    assert dates.rows("t", "a", "b", day=D1) == [("1", "(2,)"), ("3", "(,)"), ("4", None)]


def test_a_dropped_column_a_changed_key_and_an_older_date_keep_every_value(dates):
    dates.land(D1, t=({"id": "integer", "gone": "boolean", "a": "smallint"}, [("1", "t", "5"), ("2", "f", None)], "id"))
    dates.land(D2, t=({"a": "smallint", "id": "integer"}, [("5", "1"), ("6", "2")], "id"))
    dates.land(D3, t=({"n": "integer", "a": "text", "id": "bigint"}, [("1", "five", "1"), ("2", None, "1")], "n"))
    dates.land(D4, t=({"gone": "text", "a": "integer", "id": "bigint"}, [("maybe", "1", None)]))
    for when in (D2, D4, D1, D3):
        dates.load(when)
    assert dates.rows("t", "id", "gone", "a", day=D1) == [("1", "t", "5"), ("2", "f", None)]
    assert dates.rows("t", "id", "gone", "a", day=D2) == [("1", None, "5"), ("2", None, "6")]
    assert dates.unproved(D1, D2, D3, D4) == []
    assert len(orders_of(dates, "t")) == 1


# Values of each type at its ends, as COPY writes them.
ENDS = {
    "smallint": ["-32768", "32767"], "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["0.1", "-0", "1e+06", "1.234567e+06", "3.4028235e+38", "1e-45", "NaN", "-Infinity", "1.6777216e+07"],
    "double precision": ["0.1", "1e+15", "1.7976931348623157e+308", "5e-324", "NaN", "123456789012345"],
    "numeric": ["1.500", "NaN", "Infinity", "1" + "0" * 300], "numeric(9,0)": ["999999999", "-1", "NaN"],
    "numeric(10,2)": ["99999999.99", "0.50"], "numeric(12,2)": ["-9999999999.99", "1.50", "NaN"],
    "character(5)": ["ab   ", "abcde", "     "], "character(9)": ["abcdefghi", "a        "],
    "bpchar": ["a ", "", "abcdefghij"], "character varying(4)": ["", "abcd", "a   "],
    "character varying(5)": ["ab   ", "漢漢漢漢漢"], "character varying": ["", " " * 9],
    "timestamp(0) without time zone": ["2024-01-01 00:00:00", "infinity"],
    "timestamp(3) without time zone": ["2024-01-01 00:00:00.123", "0044-03-15 12:00:00 BC"],
    "timestamp(0) with time zone": ["2024-01-01 00:00:00+00"],
    "timestamp with time zone": ["2024-01-01 00:00:00.000001+00"],
    "time(3) with time zone": ["12:00:00.123+05:30"], "time with time zone": ["23:59:59.999999-08"],
    "interval(0)": ["1 year 2 mons 00:00:03"], "interval": ["-00:00:00.000001"],
    "interval year to month": ["3 years 1 mon"],
    "bit(3)": ["101"], "bit(5)": ["00000"], "bit varying(4)": ["", "1", "1111"],
    "integer[]": ["{1,NULL,-5}", "[0:1]={1,2}", "{}"], "bigint[]": ["{9223372036854775807}", "{{1,2},{3,4}}"],
    "double precision[]": ["{0.1,1e+15,NaN}"],
}


@pytest.mark.parametrize("order", [(D1, D2), (D2, D1)], ids=["narrow first", "wide first"])
def test_a_type_that_holds_another_takes_its_values_without_a_hand_and_both_dates_are_proved(dates, order):
    """Each pair of types that widens, and the way back: D1 has the one type and D2 the other."""
    pairs = [pair for both in WIDER for pair in (sorted(both), sorted(both, reverse=True)) if {*pair} <= {*ENDS}]
    names = [f"c{number}" for number in range(len(pairs))]
    landed = {}
    for place, when in enumerate((D1, D2)):
        columns = {name: pair[place] for name, pair in zip(names, pairs, strict=True)}
        landed[when] = columns, [*itertools.zip_longest(*(ENDS[type_] for type_ in columns.values()))]
        dates.land(when, t=landed[when])
    assert len(pairs) > 70
    for when in order:
        dates.load(when)
    types = dict(dates.run("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = "
                           "'public_history.t'::regclass AND attnum > 0"))
    assert {name: types[name] for name in names} == {
        name: WIDER[frozenset(pair)] for name, pair in zip(names, pairs, strict=True)}
    seen = {when: dates.rows("t", *names, day=when) for when in order}
    for when, (columns, rows) in landed.items():
        back = ", ".join(f"ARRAY(SELECT concat({name}::{type_}) FROM public_history.t WHERE extracted_at = '{when}' "
                         f"AND num_nulls({name}) = 0)" for name, type_ in columns.items())
        for name, found, values in zip(names, dates.run(f"SELECT {back}")[0], zip(*rows, strict=True), strict=True):
            assert sorted(found) == sorted(filter(lambda one: one is not None, values)), (when, name, columns[name])
    assert dates.unproved(D1, D2) == []
    assert {one.compared for when in order for one in dates.proofs(when)} == {"values"}
    dates.load(D1, reload=True)
    dates.load(D2, reload=True)
    assert {when: dates.rows("t", *names, day=when) for when in order} == seen


def test_a_value_that_was_changed_in_a_wider_column_is_seen(dates):
    """Read back as the narrower type it would be what was landed."""
    dates.land(D1, t=({"a": "real"}, [["0.1"], ["1e+06"]]))
    dates.land(D2, t=({"a": "double precision"}, [["0.1"]]))
    dates.load(D1)
    dates.load(D2)
    assert dates.rows("t", "a", day=D1) == [("0.1",), ("1000000",)]
    assert dates.unproved(D1, D2) == []
    dates.run("UPDATE public_history.t SET a = 0.10000000149011612 WHERE extracted_at = %s AND a < 1", D1)
    assert [one.problem for one in dates.unproved(D1)] == ["the warehouse's rows are not those of the files"]


LADDERS = [["smallint", "integer", "bigint", "text"], ["character varying(4)", "character varying(9)", "text"],
           ["boolean", "text"], ["date", "text"], ["numeric(12,3)", "text"], ["character(3)", "text"]]
VALUES = {"smallint": "32767", "integer": "-5", "bigint": "9223372036854775807", "text": "ten", "boolean": "t",
          "character varying(4)": "ab", "character varying(9)": "", "date": "2024-01-01", "numeric(12,3)": "1.500",
          "character(3)": "a  "}


def table(chance: random.Random, steps: dict[str, int]) -> tuple:
    """A table of some of the columns in any order, some a step wider or narrower than they were."""
    names = chance.sample(sorted(steps), chance.randint(2, len(steps)))
    for name in names:
        steps[name] = min(len(LADDERS[int(name[1])]) - 1, max(0, steps[name] + chance.choice([-1, 0, 0, 1])))
    columns = {name: LADDERS[int(name[1])][steps[name]] for name in names}
    rows = [[chance.choice([VALUES[type_], None]) for type_ in columns.values()] for _ in range(4)]
    return ({"id": "integer", **columns}, [(str(number), *row) for number, row in enumerate(rows)],
            *(["id"] if chance.random() < 0.7 else []))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_changes_between_dates_each_date_stays_what_was_landed(dates, seed):
    chance = random.Random(seed)
    steps = {f"c{number}": 0 for number in range(len(LADDERS))}
    landed, loaded = {}, set()
    for number in range(1, 9):
        landed[f"2024-02-{number:02}"] = table(chance, steps)
        dates.land(f"2024-02-{number:02}", t=landed[f"2024-02-{number:02}"])
    for when in [*chance.sample(sorted(landed), len(landed)), *chance.choices(sorted(landed), k=3)]:
        if loaded and chance.random() < 0.3:
            columns = sorted(next(iter(orders_of(dates, "t"))))
            reordered(dates, "t", chance.choice(sorted(loaded)), chance.sample(columns, len(columns)))
        dates.load(when, reload=True)
        loaded.add(when)
        for earlier in loaded:
            columns, rows, *_ = landed[earlier]
            assert dates.rows("t", *columns, day=earlier) == sorted(rows, key=str), (earlier, when)
        assert dates.unproved(*loaded) == []
