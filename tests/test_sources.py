"""Sources are loaded one by one or together: what the warehouse shows of one never depends on another."""

from contextlib import closing
from datetime import date

import pytest
from dates import Dates
from landing.core.errors import WarehouseError
from landing.load.gc import WarehouseLeftovers
from landing.load.warehouse import Warehouse
from landing.postgres.connect import connect
from landing.verify.diff import Comparison

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
A = {"a": "integer"}


@pytest.fixture
def dates(project):
    dates = Dates(project)
    yield dates
    dates.close()


def test_loading_one_source_leaves_the_views_of_the_others_as_they_are(dates):
    for day, value in ((D1, "1"), (D2, "2"), (D3, "3")):
        dates.land(day, "postgres", orders=(A, [[value]]), **({"old": (A, [["9"]])} if day == D1 else {}))
        dates.land(day, "csv", lines=(A, [[value], [value]]))
    dates.load(D1, "postgres", "csv")
    dates.load(D2, "postgres")
    assert dates.shown("orders", "a") == ([("2",)], None)
    assert dates.shown("lines", "a") == ([("1",), ("1",)], None)
    assert dates.shown("old", "a") == ([], f"Not in the source since {D2}: see public_history.")
    dates.load(D3, "csv")
    assert dates.shown("orders", "a") == ([("2",)], None)
    assert dates.shown("lines", "a") == ([("3",), ("3",)], None)
    dates.load(D3, "postgres")
    dates.load(D2, "csv")
    assert dates.shown("orders", "a") == ([("3",)], None)
    assert dates.shown("lines", "a") == ([("3",), ("3",)], None)
    assert dates.shown("old", "a") == ([], f"Not in the source since {D2}: see public_history.")
    for day in (D1, D2, D3):
        assert all(one.holds for one in dates.proofs(day, "postgres", "csv"))


def test_a_view_that_an_older_version_emptied_shows_its_newest_date_after_any_load(dates):
    """It did so to all sources that a load did not take."""
    for day in (D1, D2):
        dates.land(day, "postgres", orders=(A, [["1"]]))
        dates.load(day, "postgres")
    dates.land(D1, "csv", lines=(A, [["1"]]))
    dates.load(D1, "csv")
    for source in ("postgres", "csv"):  # neither has anything new
        dates.run("CREATE OR REPLACE VIEW lines AS SELECT a FROM public_history.lines WHERE extracted_at = %s;"
                  "COMMENT ON VIEW lines IS %s", D2, f"Not in the source since {D2}: see public_history.\nMine")
        dates.load(D1, source)
        assert dates.shown("lines", "a") == ([("1",)], "Mine")


def test_the_newest_date_of_each_source_stays(dates):
    for day in (D1, D2):
        dates.land(day, "postgres", orders=(A, [["1"]]))
        dates.load(day, "postgres")
    dates.land(D1, "csv", lines=(A, [["1"]]))
    dates.load(D1, "csv")
    with closing(connect(dates.project.warehouse.dsn(), "test")) as connection:
        warehouse = Warehouse(connection, "public", None)
        with pytest.raises(WarehouseError, match=f"Views of source csv show {D1} of public_history"):
            warehouse.remove("csv", date.fromisoformat(D1))
        assert warehouse.ahead(date.fromisoformat(D1), ["postgres", "csv"]) == {"postgres": date.fromisoformat(D2)}
        warehouse.remove("postgres", date.fromisoformat(D1))
    assert dates.rows("lines", "a") == [("1",)]
    assert dates.run("SELECT source, extracted_at::text FROM public_history._loads ORDER BY 1") == [
        ("csv", D1), ("postgres", D2)]


def test_a_date_whose_rows_somebody_dropped_is_not_the_newest_that_gc_keeps(dates):
    for day in (D1, D2, D3):
        dates.land(day, "postgres", orders=(A, [["1"]]))
        dates.load(day, "postgres")
    dates.run(f'DROP TABLE public_history."orders@{D3}"')
    found = WarehouseLeftovers(Warehouse(dates.connection, "public", None), date(2030, 1, 1))
    assert [one.what for one in found] == [f"public_history {D1} postgres"]


def test_a_source_that_is_loaded_on_one_of_two_dates_has_no_rows_that_came_or_went(dates):
    for day in (D1, D2):
        dates.land(day, "postgres", orders=(A, [[day[-1]]]), **({"old": (A, [["1"]])} if day == D1 else {}))
        dates.land(day, "csv", lines=(A, [["1"], ["2"]]))
    dates.load(D1, "postgres", "csv")
    dates.load(D2, "postgres")
    days = date.fromisoformat(D1), date.fromisoformat(D2)
    changes = {one.table: one for one in Comparison(dates.connection, "public", *days).tables()}
    lines, old = changes["lines"], changes["old"]
    assert (lines.rows_before, lines.rows_after, lines.inserted, lines.deleted) == (2, None, 0, 0)
    assert lines.note == f"csv is not loaded on {D2}"
    assert (old.rows_before, old.deleted, old.note) == (1, 1, f"only on {D1}")
    back = {one.table: one for one in Comparison(dates.connection, "public", *days[::-1]).tables()}
    assert (back["lines"].inserted, back["lines"].unchanged) == (0, 0)


def test_a_load_of_a_part_of_the_sources_through_the_plugins_leaves_the_others(shop):
    shop.land(D1)
    shop.load(D1)
    shop.land(D2, "postgres")
    load = [shop.tap_landed(sources=["postgres"]), shop.target_postgres()]
    shop.pipe(*load, EXTRACTED_AT=D2)
    assert shop.warehouse.one("SELECT count(*) FROM order_details") == 2
    assert shop.warehouse.one("SELECT obj_description('order_details'::regclass)") is None
    said = shop.pipe(*load, EXTRACTED_AT=D1, RELOAD="true").text
    assert f"The views of postgres still show {D2}, which is newer" in said
    said = shop.pipe(*load, EXTRACTED_AT=D1).text
    assert "is already loaded: nothing changed" in said
    assert f"The views of postgres still show {D2}, which is newer" in said
    assert "still show" not in shop.pipe(*load, EXTRACTED_AT=D2).text
