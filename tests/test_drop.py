"""`landing drop` takes out one date and nothing else; a date that is in the future is refused everywhere but there."""

import json
import shutil
from datetime import timedelta

import pytest
from click.testing import CliRunner
from dates import Dates
from landing.cli import main
from landing.core.dates import today
from landing.load.history import HistoryTable
from landing.load.newest_views import NewestViews
from landing.storage import local

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
FUTURE = str(today() + timedelta(days=10_000))
A, AB = {"a": "integer"}, {"b": "text", "a": "integer"}


@pytest.fixture
def dates(project, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    dates = Dates(project)
    yield dates
    dates.close()


def landing(*arguments, check=True):
    """The command in this process: exit status 0, and what it printed."""
    result = CliRunner().invoke(main.main, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert not check or result.exit_code == 0, result.output
    return result.stdout if check else result.exit_code


def drop(*arguments):
    """(kind, what, why) of each thing."""
    return [(one["kind"], one["what"], one["why"]) for one in json.loads(landing("drop", *arguments, "--json"))]


def states():
    """How each landed date is loaded."""
    return {(one["source"], one["extracted_at"]): one["loaded"] for one in json.loads(landing("list", "--json"))}


def everything(dates):
    """What readers see: files, ledger, partitions, views with their comments."""
    return (dates.project.landed(), dates.run("SELECT * FROM public_history._loads ORDER BY 1, 2, 3"),
            dates.run("SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhparent "
                      "AND c.relkind = 'p' ORDER BY 1"),
            dates.run("SELECT relname, pg_get_viewdef(oid), obj_description(oid) FROM pg_class WHERE relkind = 'v' "
                      "AND relnamespace = 'public'::regnamespace ORDER BY 1"))


@pytest.fixture
def three(dates):
    """Three dates of the source postgres, the newest with other columns and a new table, and two of csv."""
    for day, value in ((D1, "1"), (D2, "2")):
        dates.land(day, "postgres", orders=(A, [[value]]), **({"old": (A, [["9"]])} if day == D1 else {}))
        dates.land(day, "csv", lines=(A, [[value]]))
        dates.load(day, "postgres", "csv")
    dates.land(D3, "postgres", orders=(AB, [["three", "3"]]), new=(A, [["7"]]))
    dates.load(D3, "postgres")
    dates.run("CREATE VIEW mine AS SELECT sum(a) AS total FROM orders")
    return dates


def test_any_date_goes_from_landing_and_warehouse_and_the_views_show_the_newest_that_is_left(three):
    before = everything(three)
    said = drop(D3)
    assert said == [("loaded date", f"public_history {D3} postgres", f"the views of postgres go back to {D2}"),
                    ("landed date", f"source=postgres/extracted_at={D3}", "dropped")]
    assert "Would remove 2 items" in landing("drop", D3)
    assert everything(three) == before
    assert drop(D3, "--yes") == said
    assert three.shown("orders", "a") == ([("2",)], None)
    assert three.run("SELECT string_agg(attname, ',') FROM pg_attribute WHERE attrelid = 'orders'::regclass "
                     "AND attnum > 0") == [("a",)]
    assert three.shown("new", "a") == ([], "No loaded date has it.")
    assert three.shown("old", "a") == ([], f"Not in the source since {D2}: see public_history.")
    assert three.run("SELECT total FROM mine") == [(2,)]
    assert states() == {(source, day): "yes" for source in ("csv", "postgres") for day in (D1, D2)}
    assert "dropped" in landing("show", D3)
    assert landing("drop", D3, "--yes") == f"Nothing to drop: {D3} is neither landed nor loaded.\n"
    assert drop(D1, "--source", "postgres", "--yes")[0][2] == "views unchanged"
    assert three.shown("orders", "a") == ([("2",)], None)
    assert three.shown("old", "a") == ([], "No loaded date has it.")
    assert states() == {("csv", D1): "yes", ("csv", D2): "yes", ("postgres", D2): "yes"}
    assert drop(D2, "--yes")[0] == ("loaded date", f"public_history {D2} csv, postgres",
                                    f"the views of csv go back to {D1}; the views of postgres become empty")
    assert three.shown("orders", "a") == ([], "No loaded date has it.")
    assert three.shown("lines", "a") == ([("1",)], None)
    three.land(D3, "postgres", orders=(AB, [["three", "3"]]))
    three.load(D3, "postgres")
    assert three.shown("orders", "b", "a") == ([("three", "3")], None)
    assert three.run("SELECT total FROM mine") == [(3,)]
    assert three.unproved(D3) == []


def test_a_date_that_is_left_but_no_longer_landed_is_shown_with_the_columns_that_its_view_has(three):
    shutil.rmtree(three.project.output / "source=postgres" / f"extracted_at={D2}")
    drop(D3, "--yes")
    assert three.shown("orders", "b", "a") == ([(None, "2")], None)


def test_a_source_that_is_not_known_and_a_warehouse_that_is_not_there_drop_nothing(three, monkeypatch, caplog):
    before = everything(three)
    assert landing("drop", D1, "--source", "csw", "--yes", check=False) == 1
    assert "is unknown. Known sources: csv, postgres" in caplog.text
    with monkeypatch.context() as patch:
        patch.setenv("TARGET_POSTGRES_PORT", "1")
        assert landing("drop", D1, "--yes", check=False) == 1
    three.run(f'CREATE VIEW built AS SELECT * FROM public_history."orders@{D1}"')
    assert landing("drop", D1, "--yes", check=False) == 1
    assert "view public.built of role tester is built on" in caplog.text
    three.run("DROP VIEW built")
    assert everything(three) == before


class Killed(BaseException):
    pass


def test_a_drop_that_is_killed_anywhere_and_run_again_ends_right(three, monkeypatch):
    expected = {(source, D1) for source in ("csv", "postgres")} | {("csv", D2)}
    before = everything(three)[1:]
    for where, name, at in ((HistoryTable, "retire", 2), (NewestViews, "update", 1), (local, "sync", 1),
                            (shutil, "rmtree", 1)):
        with monkeypatch.context() as patch:
            calls, function = [], getattr(where, name)

            def call(*arguments, at=at, calls=calls, function=function, **named):
                calls.append(1)
                if len(calls) == at:
                    raise Killed
                return function(*arguments, **named)

            patch.setattr(where, name, call)
            with pytest.raises(Killed):
                landing("drop", D3, "--yes")
        if where in (HistoryTable, NewestViews):
            assert everything(three)[1:] == before
        else:
            assert three.shown("orders", "a") == ([("2",)], None)
    landing("drop", D3, "--yes")
    landing("drop", D2, "--source", "postgres", "--yes")
    assert {*states()} == expected
    assert {*states().values()} == {"yes"}
    assert not list(three.project.output.glob(f"source=*/extracted_at={D3}"))


def test_a_partition_that_somebody_dropped_detached_or_emptied_is_not_loaded_and_a_load_brings_it_back(three):
    partition = f'public_history."orders@{D2}"'
    for change in ("DROP TABLE {}", "ALTER TABLE public_history.orders DETACH PARTITION {}", "TRUNCATE {}",
                   "DELETE FROM {}; SELECT pg_stat_force_next_flush()"):
        three.run(change.format(partition))
        assert states()["postgres", D2] == "no", change
        plan, = json.loads(landing("plan", "--from", D2, "--to", D2, "--json"))["dates"]
        assert (plan["state"], plan["load"], plan["tables"]) == ("stale", "load", [["postgres", "orders"]])
        assert [one.table for one in three.unproved(D2)] == ["orders"]
        three.load(D2, "postgres")
        assert states()["postgres", D2] == "yes", change
        assert three.unproved(D2) == []
        partition = three.one("SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
                              f"WHERE inhparent = 'public_history.orders'::regclass AND relname LIKE '%{D2}'")
    three.land(D2, "postgres", orders=(A, [["2"]]), empty=(A, []))
    three.load(D2, "postgres")
    assert states()["postgres", D2] == "yes"
    three.run(f'DROP TABLE public_history."empty@{D2}"')
    assert states()["postgres", D2] == "partly"


def test_a_date_that_is_yet_to_come_can_be_looked_at_and_dropped_and_loads_say_that_the_views_stay(dates):
    """As a version from before has left it."""
    for day in (D1, FUTURE):
        dates.land(day, "postgres", orders=(A, [[day[:4]]]))
        dates.land(day, "csv", lines=(A, []))
        dates.load(day, "postgres", "csv")
    assert states()["postgres", FUTURE] == "yes"
    assert "2 of 2 tables equal" in landing("verify", FUTURE)
    assert "orders" in landing("show", FUTURE)
    said = dates.project.load(D1, RELOAD="true").text
    assert (f"The views of postgres still show {FUTURE}, which is newer. That date is in the future. To remove it: "
            f"landing drop {FUTURE}") in said
    drop(FUTURE, "--yes")
    assert dates.rows("orders", "a") == [("2024",)]
    assert {*states()} == {("csv", D1), ("postgres", D1)}


def test_a_date_that_is_yet_to_come_is_neither_landed_nor_loaded(shop):
    last = f"today in UTC is {today()}"
    for command in (shop.tap_postgres(), shop.tap_csv(), shop.target_csv()):
        for arguments in ([], ["--discover"]) if "tap" in command[0] else ([],):
            done = shop.run([*command, *arguments], DATESTAMP=FUTURE)
            assert done.returncode == 1
            assert f"DATESTAMP={FUTURE} is in the future: {last}" in done.text
            assert "Traceback" not in done.text
    assert not list(shop.output.glob("source=*"))
    Dates(shop).land(FUTURE, "postgres", orders=(A, [["1"]]))
    done = shop.pipe(shop.tap_landed(sources=["postgres"]), shop.target_postgres(), check=False, EXTRACTED_AT=FUTURE)
    assert done.returncode == 1
    assert f"EXTRACTED_AT={FUTURE} is in the future: {last}" in done.text
    assert not shop.warehouse.one("SELECT to_regclass('public.orders')")
