"""`landing plan` says what each date is, what a backfill would do with it, and how long that should take."""

import json
import shutil
from datetime import date, timedelta

import pytest
from dates import Dates
from landing.core.dates import now, today
from landing.core.errors import RefusedError
from landing.load.load_history import LoadedTable, LoadedTables
from landing.model.manifest import Manifest
from landing.verify.estimates import Estimates

TODAY = today()
DAYS = [str(TODAY - timedelta(days=back)) for back in range(9, -1, -1)]
EVERY = {"csv": ["order_details"], "postgres": ["notes", "orders"]}
ALL = {(source, table) for source, tables in EVERY.items() for table in tables}


def planned(project_, *arguments, first=DAYS[0], last=DAYS[-1], **variables):
    """The plan's dates, and its total."""
    said = json.loads(project_.landing("plan", "--from", first, "--to", last, "--json", *arguments, **variables).stdout)
    return {one["day"]: one for one in said["dates"]}, said["total"]


def landed_as(project_, like, day, *sources):
    """A date like another, landed by a run of its own."""
    for source in sources or ("postgres", "csv"):
        there, here = (project_.manifest_path(source, one).parent for one in (like, day))
        shutil.copytree(there, here, dirs_exist_ok=True)
        said = {"extracted_at": day, "run_id": f"{day.replace('-', '')}T000000Z-00000000"}
        project_.write_manifest(source, day, project_.manifest(source, like) | said)


def runs(project_):
    """Run ids of every landed source and date, and of every table in the ledger."""
    landed = {(path.parts[-3].split("=")[1], path.parts[-2].split("=")[1]): path.read_text()
              for path in project_.output.glob("source=*/*/_manifest.json")}
    ledger = project_.warehouse.run("SELECT extracted_at::text, source, table_name, run_id FROM public_history._loads")
    return landed, {(day, (source, table)): run_id for day, source, table, run_id in ledger}


def backfill(project_, day):
    """As a person or Airflow would: every source, then the load; which of them failed."""
    failed = {source for source in EVERY if project_.land(day, source, check=False).returncode}
    return failed, project_.load(day, check=False).returncode != 0


@pytest.fixture
def every_state(shop):
    """Ten dates, the last of them today, in every state."""
    _missing, partly, landed, identical, anew, stale, loaded, damaged, cut, _ = DAYS
    shop.land(landed)
    for day in (identical, anew, stale, loaded, damaged, cut):
        landed_as(shop, landed, day)
    landed_as(shop, landed, partly, "postgres")
    for day in (identical, anew, stale, loaded):
        shop.load(day)
    landed_as(shop, landed, DAYS[-1])
    manifest = shop.manifest("postgres", anew)  # the same bytes from another run
    shop.write_manifest("postgres", anew, manifest | {"run_id": manifest["run_id"].replace("Z-0", "Z-1")})
    shop.source.run("UPDATE orders SET freight = 0 WHERE order_id = 1; DROP TABLE notes")
    shop.land(stale, "postgres", REEXTRACT="true")
    shutil.rmtree(shop.manifest_path("csv", loaded).parent)
    shop.manifest_path("postgres", damaged).write_text("{")
    next(shop.manifest_path("csv", cut).parent.glob("*/*.csv")).write_text("short")
    shop.source.run("CREATE TABLE notes (order_id integer, note text)")
    return shop


def test_a_plan_of_every_state_is_what_a_backfill_then_does(every_state):
    dates, total = planned(every_state)
    states = ["missing", "missing", "landed", "identical", "identical", "stale", "loaded", "damaged", "damaged",
              "landed"]
    assert [dates[day]["state"] for day in DAYS] == states
    assert dates[DAYS[0]]["why"] == "postgres, csv not landed"
    assert dates[DAYS[1]]["why"] == "csv not landed"
    assert dates[DAYS[5]]["why"] == "differs: postgres.notes, postgres.orders"
    assert total["dates"] == 10
    landed, ledger = runs(every_state)
    for day in DAYS:
        one = dates[day]
        failed, load_failed = backfill(every_state, day)
        landed_then, ledger_then = runs(every_state)
        anew = {source for source in EVERY if landed_then.get((source, day)) != landed.get((source, day))}
        loaded = {table for table in ALL if ledger_then.get((day, table)) != ledger.get((day, table))}
        assert anew == {source for source, action in one["sources"].items() if action == "extract"}, day
        assert failed == {source for source, action in one["sources"].items() if action == "refuse"}, day
        assert load_failed == (one["load"] == "refuse"), day
        assert bool(loaded) == (one["load"] == "load"), day
        # What a load removes because it is landed no longer is not among those to load.
        assert {table for table in loaded if (day, table) in ledger_then} == {tuple(one) for one in one["tables"]}, day
        landed, ledger = landed_then, ledger_then
    after, total = planned(every_state)
    good = [day for day in DAYS[:-1] if states[DAYS.index(day)] != "damaged"]
    assert {after[day]["state"] for day in good} == {"identical"}
    assert {after[day]["load"] for day in good} == {"nothing"}
    assert set(after[DAYS[-1]]["sources"].values()) == {"extract"}  # today is always taken again
    assert (total["extract"], total["load"], total["refused"]) == (2, 1, 2)
    assert total["seconds"] > 0
    everything, total = planned(every_state, "--re-extract")
    assert all(set(one["sources"].values()) == {"extract"} and one["load"] == "load" for one in everything.values())
    assert (total["extract"], total["load"], total["refused"]) == (20, 10, 0)
    said = every_state.landing("plan", "--from", DAYS[0], "--to", DAYS[-1]).stdout
    assert "10 dates: 2 extracts, 1 loads (2 refused);" in said
    assert said.splitlines()[2].startswith(f"{DAYS[0]}  identical  -")


def test_a_plan_works_without_the_warehouse_and_says_so(shop):
    shop.land(DAYS[0])
    dates, total = planned(shop, last=DAYS[1], TARGET_POSTGRES_PORT="1")
    assert [(dates[day]["state"], dates[day]["load"]) for day in DAYS[:2]] == [("unknown", "unknown"),
                                                                             ("missing", "load")]
    assert total["seconds_unknown"] == 2
    result = shop.landing("plan", "--from", DAYS[0], "--to", DAYS[0], TARGET_POSTGRES_PORT="1")
    assert "Cannot read from the warehouse" in result.stderr
    assert "landed; the warehouse cannot be reached" in result.stdout
    assert "time" in result.stdout.splitlines()[0]
    assert "; unknown, plus" in result.stdout


@pytest.mark.parametrize(("first", "last", "said"), [
    ("2024-02-30", "2024-03-01", "--from='2024-02-30' is not a date"),
    ("2024-01-01", "tomorrow", "--to='tomorrow' is not a date"),
    ("2024-01-02", "2024-01-01", "--from 2024-01-02 is later than --to 2024-01-01"),
    (str(TODAY), str(TODAY + timedelta(days=9)), "is in the future"),
])
def test_dates_that_cannot_be_planned_are_refused(project, first, last, said):
    result = project.landing("plan", "--from", first, "--to", last, check=False)
    assert result.returncode == 1
    assert said in result.stderr
    assert not result.stdout


def test_a_ledger_without_times_still_serves_and_a_load_brings_the_column(shop):
    shop.land(DAYS[0])
    shop.load(DAYS[0])
    assert shop.manifest("csv", DAYS[0])["seconds"] > 0
    shop.warehouse.run("ALTER TABLE public_history._loads DROP COLUMN seconds")
    dates, total = planned(shop, last=DAYS[1])
    assert [dates[day]["state"] for day in DAYS[:2]] == ["identical", "missing"]
    assert [dates[day]["seconds"] for day in DAYS[:2]] == [0, None]
    assert total["seconds_unknown"] == 1
    shop.load(DAYS[0], RELOAD="true")
    assert all(seconds > 0 for seconds, in shop.warehouse.run("SELECT seconds FROM public_history._loads"))


def test_times_are_medians_scaled_by_rows_where_there_are_many():
    day = date(2024, 1, 1)
    manifests = [Manifest(source="s", extracted_at=day, run_id="r", taken_at=now(), seconds=seconds, snapshot={},
                          software={}, tables=[]) for seconds in (1.0, 9.0, 2.0)]
    loads = [LoadedTable("s", day, "small", 10, "", now(), now(), "r", seconds, "public")
             for seconds in (0.1, 0.3, 0.2)]
    loads += [LoadedTable("s", day, "big", rows, "", now(), now(), "r", rows / 1e5, "public")
              for rows in (100_000, 300_000)]
    loads += [LoadedTable("s", day, "old", 10, "", now(), now(), "r", None, "public")]
    times = Estimates(manifests, [LoadedTables(loads)])
    assert times.extract("s", 5) == 2.0
    assert times.extract("other", 5) is None
    assert times.load("s", "small", 9_999) == 0.2
    assert times.load("s", "big", 1_000_000) == pytest.approx(10)
    assert times.load("s", "old", 10) is None


def test_a_plan_says_what_each_load_would_refuse_or_turn_to_text_and_the_loads_then_do_so(project, monkeypatch):
    """A date is planned as if those before it had been loaded; one that is refused changes nothing for the next."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    jobs = (project.folder / "meltano.yml").read_text().replace("- name: extract_csv", "- name: other")
    (project.folder / "meltano.yml").write_text(jobs)
    dates = Dates(project)
    project.warehouse.run("CREATE TABLE public.mine (x integer)")
    rows = {"integer": "1", "bigint": "1", "text": "ten", "date": "2024-01-01", "numeric(7,2)": "1.50"}
    steps = [{"a": "integer"}, {"a": "date"}, {"a": "bigint", "b": "numeric(7,2)"}, {"b": "date", "a": "date"},
             {"a": "text", "b": "numeric(7,2)"}, {"a": "date", "_names": "text"}, {"a": "integer", "b": "bigint"}]
    for day, columns in zip(DAYS, steps, strict=False):
        more = {"mine": ({"x": "integer"}, [])} if "_names" in columns else {}
        dates.land(day, t=(columns, [[rows[type_] for type_ in columns.values()]]), **more)
    found, total = planned(project, last=DAYS[len(steps) - 1])
    for day in DAYS[:len(steps)]:
        one = found[day]
        refused = one["load"] == "refuse"
        assert refused == bool(one["refusals"]), one
        if refused:
            with pytest.raises(RefusedError) as error:
                dates.load(day)
            assert f"{error.value.where}: {error.value.what}. {error.value.then}" in one["refusals"]
        else:
            dates.load(day)
    assert [found[day]["load"] for day in DAYS[:7]] == ["load", "refuse", "load", "refuse", "load", "refuse", "load"]
    assert [found[day]["to_text"] for day in DAYS[:7]] == [[], [], [], [], ["t.a (bigint)"], [], []]
    assert len(found[DAYS[3]]["refusals"]) == 1
    assert "column b: the warehouse has numeric(7,2), this partition has date" in found[DAYS[3]]["refusals"][0]
    assert total["refused"] == 3
    dates.land(DAYS[7], t=({"b": "text"}, []))
    said = project.landing("plan", "--from", DAYS[1], "--to", DAYS[7]).stdout.splitlines()
    assert "public.mine exists in the warehouse and was not created by a load" in said[6]
    assert said[8].endswith("becomes text for all dates: t.b (numeric)")
    dates.close()
