"""Loading a date never changes a value of another date, whatever the order of columns, types and dates."""

import random

import pytest
from dates import Dates, reordered

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
