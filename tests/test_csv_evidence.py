"""A CSV column without a value says nothing of its type: history keeps what values told, in any order of dates."""

import itertools
from contextlib import closing
from datetime import date

import pytest
from landing.load.warehouse import Warehouse
from landing.postgres.connect import connect
from landing.verify.backfill import BackfillPlanner
from landing.zone.landing_zone import LandingZone

FILLED, BLANK, EMPTY, WORDS = "id,a,b\n1,7,2024-01-02\n", "id,a,b\n1,,\n", "id,a,b\n", "id,a,b\n1,n/a,x\n"
DAYS = [f"2024-03-0{number}" for number in range(1, 7)]
TYPES = {"id": "integer", "a": "integer", "b": "date"}


@pytest.fixture
def take(project):
    """Lands, and loads, a file of this content for a date; its log."""
    (project.folder / "meltano.yml").write_text("jobs: [{name: extract_csv, tasks: []}]\n")
    tables = itertools.count()

    def run(day, *contents, load=True):
        files = []
        for number, content in enumerate(contents):
            project.csv(f"e{number}.csv", content)
            files.append({"entity": f"e{number}", "path": f"extract/e{number}.csv", "keys": ["id"]})
        log = project.pipe(project.tap_csv(*files), project.target_csv(), DATESTAMP=day, REEXTRACT="true").text
        if load:
            project.load(day)
        return " ".join(log.split())

    run.tables = tables
    return run


def types(project, table):
    found = dict(project.warehouse.run(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        "AND attrelid = to_regclass(%s)", f"public_history.{table}"))
    return {name: found[name] for name in ("id", "a", "b")}


def test_types_are_those_of_the_values_in_every_order_of_dates(project, take):
    """Each table has the same three files in another order, and then the first of them again."""
    orders = [*itertools.permutations([FILLED, BLANK, EMPTY])]
    for number, day in enumerate([*DAYS[:3], DAYS[0]]):
        take(day, *(order[number % 3] for order in orders))
    for number, order in enumerate(orders):
        assert types(project, f"e{number}") == TYPES, order
        rows = dict(zip(DAYS, order, strict=False))
        expected = [(day, *(("7", "2024-01-02") if rows[day] == FILLED else (None, None)))
                    for day in DAYS[:3] if rows[day] != EMPTY]
        assert project.warehouse.run(f"SELECT extracted_at::text, a::text, b::text FROM public_history.e{number} "
                                     "ORDER BY 1") == expected
    for day in DAYS[:3]:
        assert "6 of 6 tables equal" in project.landing("verify", day).stdout


def test_without_any_value_a_column_is_text_and_the_first_values_set_its_type_two_columns_apart(project, take):
    take(DAYS[0], EMPTY, BLANK)
    take(DAYS[1], BLANK, EMPTY)
    assert set(types(project, "e0").values()) == {"text", "integer"}
    take(DAYS[2], "id,a,b\n1,7,\n", "id,a,b\n1,,2024-01-02\n")
    assert types(project, "e0") == {**TYPES, "b": "text"}
    assert types(project, "e1") == {**TYPES, "a": "text"}
    project.warehouse.run("CREATE VIEW mine AS SELECT id, b FROM public.e0")
    take(DAYS[3], "id,a,b\n1,,2024-01-02\n", FILLED)
    assert types(project, "e0") == types(project, "e1") == TYPES
    assert project.warehouse.run("SELECT * FROM mine") == [(1, date(2024, 1, 2))]


def test_text_that_has_values_stays_text_whatever_comes(project, take):
    take(DAYS[0], WORDS)
    take(DAYS[1], BLANK)
    take(DAYS[2], FILLED)
    take(DAYS[3], EMPTY)
    assert types(project, "e0") == {"id": "integer", "a": "text", "b": "text"}
    assert project.warehouse.run("SELECT a FROM public_history.e0 ORDER BY extracted_at") == [("n/a",), (None,), ("7",)]
    take(DAYS[4], 'id,a,b\n1,"",\n')  # an empty string is a value
    take(DAYS[5], FILLED)
    assert types(project, "e0")["a"] == "text"


def test_the_manifest_says_which_columns_had_no_value(project, take):
    take(DAYS[0], "id,a,b\n1,,x\n", load=False)
    columns = project.manifest("csv", DAYS[0])["tables"][0]["columns"]
    assert [column.get("evidence") for column in columns] == [None, False, None]
    project.pipe(project.tap_csv({"entity": "e0", "path": "extract/e0.csv", "types": {"a": "date"}}),
                 project.target_csv(), DATESTAMP=DAYS[1])
    assert "evidence" not in project.manifest("csv", DAYS[1])["tables"][0]["columns"][1]  # declared


def test_a_plan_of_several_dates_knows_where_a_column_has_values_only_then(project, take):
    for day, content in zip(DAYS, (EMPTY, FILLED, BLANK, WORDS, FILLED), strict=False):
        take(day, content, load=False)
    zone = LandingZone.at(project.output)
    with closing(connect(project.warehouse.dsn(), "test")) as connection:
        planner = BackfillPlanner(zone, {}, re_extract=False)
        planner.warehouse = Warehouse(connection, "public", None)
        plans = planner.plan(date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[4]))
    assert [plan.refusals for plan in plans] == [[]] * 5
    assert [plan.to_text for plan in plans] == [[], [], [], ["e0.a (integer)", "e0.b (date)"], []]


def test_a_value_that_changes_a_columns_type_is_named_at_the_extract(project, take):
    assert "for the date before" not in take(DAYS[0], "id,a,b\n1,7,2024-01-02\n", load=False)
    assert "for the date before" not in take(DAYS[1], BLANK, load=False)
    assert "for the date before" not in take(DAYS[1], FILLED, load=False)
    log = take(DAYS[2], 'id,a,b\n1,8,2024-01-02\n2,"n/a",2024-01-02\n3,x,2024-01-02\n', load=False)
    assert "e0.a: inferred type text, but integer for the date before, since line 3 of " in log
    assert "n/a" not in log
    assert "e0.b" not in log
    log = take(DAYS[3], "id,a,b\n99999999999,1,\n", load=False)
    assert "e0.id: inferred type bigint, but integer for the date before, since line 2 of " in log
    assert "e0.a: inferred type integer, but text for the date before. Loading" in log
