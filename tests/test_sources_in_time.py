"""A date is complete by the sources that its own day had: adding, missing or removing one never spoils older dates."""

import json
import subprocess
from datetime import date

import pytest
import yaml
from conftest import ROOT
from landing.core.dates import today
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
TODAY = str(today())


def declare(project, *sources):
    """Give meltano.yml a job for each of these sources."""
    path = project.folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    others = [job for job in content["jobs"] if not job["name"].startswith("extract_")]
    taps = {"postgres": "tap-postgres", "csv": "tap-csv"}
    jobs = [{"name": f"extract_{one}", "tasks": [f"{taps.get(one, f'tap-{one}')} target-csv"]} for one in sources]
    path.write_text(yaml.safe_dump(content | {"jobs": jobs + others}))


def land(project, day, *sources, **variables):
    """As `project.land`, and crm, a source of one more CSV file."""
    for source in sources:
        if source != "crm":
            project.land(day, source, **variables)
            continue
        project.csv("contacts.csv", "id,name\n1,Ada\n")
        tap = project.tap_csv({"entity": "contacts", "path": "extract/contacts.csv"}, source="crm")
        project.pipe(tap, project.target_csv(source="crm"), DATESTAMP=day, **variables)


def as_of(project, source, day, **fields):
    """A manifest as a run on its own day would have left it; without `declared`, of an older version."""
    manifest = project.manifest(source, day) | {"taken_at": f"{day}T03:00:00+00:00"} | fields
    if fields.get("declared", ()) is None:
        del manifest["declared"]
    project.write_manifest(source, day, manifest)


def plan(project, first, last=None):
    said = json.loads(project.landing("plan", "--from", first, "--to", last or first, "--json").stdout)
    return {one["day"]: one for one in said["dates"]}


def verified(project, day, **variables):
    result = project.landing("verify", day, **variables)
    return {line.split()[0] for line in result.stdout.splitlines()[2:-1]}


@pytest.fixture
def grown(shop):
    """Two dates of two sources, then a third source, which is landed from the third date on."""
    declare(shop, "postgres", "csv")
    for day in (D1, D2):
        land(shop, day, "postgres", "csv")
    declare(shop, "postgres", "csv", "crm")
    land(shop, D3, "postgres", "csv", "crm")
    return shop


def test_dates_before_a_source_was_added_load_and_verify_without_it(grown):
    assert [plan(grown, D1, D3)[day]["state"] for day in (D1, D2, D3)] == ["landed"] * 3
    assert [*plan(grown, D1)[D1]["sources"]] == ["postgres", "csv"]
    for day in (D3, D1):
        grown.load(day)
    assert verified(grown, D1) == {"postgres", "csv"}
    assert verified(grown, D3) == {"postgres", "csv", "crm"}
    assert plan(grown, D1)[D1]["state"] == "identical"
    said = grown.landing("show", D1).stdout
    assert f"crm of {D1}: not landed. The date is complete without it" in said
    assert "extract_crm" not in said
    assert "Not landed" not in grown.landing("list").stdout
    assert "crm is not loaded on" in grown.landing("diff", D1, D3).stdout


def test_a_past_date_whose_source_failed_is_refused_and_todays_rows_are_never_advised_as_its_own(grown):
    grown.manifest_path("crm", D3).unlink()
    refused = grown.load(D3, check=False).text
    assert f"Source 'crm' is not landed for {D3}" in refused
    assert "That day is past, so an extract now takes today's rows. To load the date without crm: " in refused
    assert f"WITHOUT_SOURCES=crm MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={D3} meltano run load" in refused
    assert f"To accept today's rows as those of {D3}: MELTANO_ENVIRONMENT=extract SOURCE=crm DATESTAMP={D3}" in refused
    assert "an extract now takes today's rows" in grown.landing("verify", D3, check=False).stderr
    assert "an extract now takes today's rows" in grown.landing("show", D3).stdout
    assert f"Not landed: {D3} (crm)." in grown.landing("list").stdout
    one = plan(grown, D3)[D3]
    assert (one["state"], one["late"]) == ("missing", ["crm"])
    said = grown.landing("plan", "--from", D1, "--to", D3).stdout
    assert "Past dates that were not landed on their day: 1. An extract now takes today's rows" in said
    assert f"WITHOUT_SOURCES=crm MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={D3}" in said


def test_two_sources_that_failed_on_a_past_date_are_named_at_once_and_the_advised_command_loads_it(grown):
    for source in ("csv", "crm"):
        grown.manifest_path(source, D3).unlink()
    refused = grown.load(D3, check=False).text
    assert f"Sources 'csv', 'crm' are not landed for {D3}" in refused
    without = f"WITHOUT_SOURCES=csv,crm MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={D3} meltano run load_to_"
    assert f"To load the date without csv, crm: {without}" in refused
    assert without in grown.landing("show", D3).stdout
    said = json.loads(grown.landing("status", "--json", check=False).stdout)["sources"]
    commands = [one["command"] for source in said for one in source["dates"] if one["state"] == "missing"]
    assert [one.partition(" ")[0] for one in commands] == ["WITHOUT_SOURCES=csv,crm"] * 2
    assert without in grown.load(D3, check=False, WITHOUT_SOURCES="csv").text  # what is left out already stays so
    grown.load(D3, WITHOUT_SOURCES="csv,crm")
    one = plan(grown, D3)[D3]
    assert (one["state"], one["sources"], one["late"]) == ("identical", {"postgres": "keep"}, [])


def test_a_source_of_an_older_version_that_is_declared_no_more_loads_and_spoils_no_plan(grown):
    as_of(grown, "csv", D1, declared=None)
    grown.manifest_path("postgres", D1).unlink()
    as_of(grown, "postgres", D2, declared=["old"])
    grown.manifest_path("csv", D2).unlink()
    declare(grown, "crm")
    planned = plan(grown, D1, D3)
    assert planned[D1]["sources"] == {"csv": "keep"}
    assert (planned[D2]["state"], planned[D2]["why"]) == ("missing", "none of its sources is declared")
    assert planned[D3]["state"] == "landed"
    grown.load(D1)
    refused = grown.load(D2, check=False).text
    assert f"None of the sources of {D2} (postgres, old) is declared in meltano.yml (crm)" in refused
    assert "`landing rename OLD NEW`" in refused


def test_todays_date_needs_a_source_that_is_added_today(shop):
    declare(shop, "postgres", "csv")
    land(shop, TODAY, "postgres", "csv")
    declare(shop, "postgres", "csv", "crm")
    refused = shop.load(TODAY, check=False).text
    assert f"Land it first: MELTANO_ENVIRONMENT=extract SOURCE=crm DATESTAMP={TODAY} meltano run extract_crm" in refused
    assert plan(shop, TODAY)[TODAY]["late"] == []
    land(shop, TODAY, "crm")
    shop.load(TODAY)


def test_extracting_an_old_date_again_does_not_make_the_new_source_necessary(grown):
    land(grown, D1, "postgres", REEXTRACT="true")
    assert grown.manifest("postgres", D1)["declared"] == ["postgres", "csv"]
    grown.load(D1)
    grown.manifest_path("csv", D2).unlink()
    land(grown, D2, "csv")  # late, and knowingly
    assert grown.manifest("csv", D2)["declared"] == ["postgres", "csv"]
    grown.load(D2)
    assert verified(grown, D2) == {"postgres", "csv"}


def test_a_new_source_that_was_landed_for_an_old_date_after_all_is_loaded_with_it(grown):
    land(grown, D1, "crm")
    grown.load(D1)
    assert verified(grown, D1) == {"postgres", "csv", "crm"}
    grown.load(D2)
    assert verified(grown, D2) == {"postgres", "csv"}


def test_a_new_project_whose_first_date_is_past_needs_every_declared_source(shop):
    land(shop, D1, "postgres")
    assert shop.manifest("postgres", D1)["declared"] == ["postgres", "csv"]
    assert f"Source 'csv' is not landed for {D1}" in shop.load(D1, check=False).text
    land(shop, D1, "csv")
    shop.load(D1)
    assert verified(shop, D1) == {"postgres", "csv"}


def test_dates_that_an_older_version_landed_need_the_sources_that_had_been_landed_by_then(grown):
    for day in (D1, D2, D3):
        for source in ("postgres", "csv"):
            as_of(grown, source, day, declared=None)
    as_of(grown, "crm", D3, declared=None)
    land(grown, D2, "crm")  # late: says nothing of when the source came
    zone = LandingZone.at(grown.output)

    def sources(day):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MELTANO_PROJECT_ROOT", str(grown.folder))
            return LandedDate(zone, date.fromisoformat(day)).sources

    assert sources(D1) == ["postgres", "csv"]
    grown.manifest_path("crm", D3).unlink()
    assert sources(D3) == ["postgres", "csv"]  # crm was first landed today, for D2
    as_of(grown, "crm", D2, declared=None)
    assert sources(D3) == ["postgres", "csv", "crm"]
    grown.load(D1)
    land(grown, D1, "postgres", REEXTRACT="true")
    assert grown.manifest("postgres", D1)["declared"] == ["postgres", "csv"]
    assert sources(D1) == ["postgres", "csv"]


def test_without_sources_loads_a_date_without_them_and_the_load_history_says_so(shop):
    land(shop, D1, "postgres")
    said = shop.load(D1, WITHOUT_SOURCES="csv").text
    assert f"{D1} is loaded without csv (WITHOUT_SOURCES)" in said
    verification = shop.landing("verify", D1)
    assert f"Without csv, which the load of {D1} left out." in verification.stderr
    assert "2 of 2 tables equal" in verification.stdout
    assert f"csv of {D1}: not landed. The date is complete without it" in shop.landing("show", D1).stdout
    assert shop.warehouse.run("SELECT DISTINCT left_out FROM public_history._loads") == [(["csv"],)]
    assert "already loaded: nothing changed" in shop.load(D1, WITHOUT_SOURCES="csv").text
    assert shop.load(D1, check=False).returncode == 1
    land(shop, D1, "csv")
    assert "order_details (not loaded)" in shop.landing("verify", D1, check=False).stderr
    shop.load(D1)
    assert verified(shop, D1) == {"postgres", "csv"}
    assert shop.warehouse.run("SELECT DISTINCT left_out FROM public_history._loads") == [(None,)]


def test_leaving_out_is_recorded_though_nothing_is_new_and_in_a_load_history_of_an_older_version(shop):
    land(shop, D1, "postgres", "csv")
    shop.load(D1)
    shop.landing("drop", D1, "--source", "csv", "--yes")
    shop.warehouse.run("ALTER TABLE public_history._loads DROP COLUMN left_out")
    assert "Source 'csv' is not landed" in shop.landing("verify", D1, check=False).stderr
    shop.load(D1, WITHOUT_SOURCES="csv")
    assert verified(shop, D1) == {"postgres"}


@pytest.mark.parametrize(("names", "reason"), [
    ("cvs", f"WITHOUT_SOURCES names cvs, which {D1} does not have. Its sources: postgres, csv."),
    ("csv, postgres", f"leaves no source of {D1}"),
])
def test_without_sources_that_makes_no_sense_is_refused(shop, names, reason):
    land(shop, D1, "postgres", "csv")
    refused = shop.load(D1, check=False, WITHOUT_SOURCES=names)
    assert refused.returncode == 1
    assert reason in refused.text
    assert not shop.warehouse.one("SELECT to_regclass('public_history._loads')")


def test_dates_of_a_source_that_was_removed_from_the_project_still_load_and_verify(grown):
    declare(grown, "postgres", "crm")
    grown.load(D1)
    assert verified(grown, D1) == {"postgres", "csv"}
    grown.landing("drop", D2, "--source", "csv", "--yes")
    said = grown.load(D2).text
    assert f"csv is left out: it was a source on {D2}, but is not landed, and meltano.yml no longer declares it" in said
    assert verified(grown, D2) == {"postgres"}
    assert {*plan(grown, D1, D2)[D1]["sources"].values()} == {"keep"}
    land(grown, TODAY, "postgres", "crm")
    grown.load(TODAY)
    assert verified(grown, TODAY) == {"postgres", "crm"}


def test_a_manifest_that_cannot_be_read_does_not_hide_its_source(grown):
    grown.manifest_path("csv", D1).write_text("{")
    refused = grown.load(D1, check=False)
    assert refused.returncode == 1
    assert "is not a manifest that can be used" in refused.text
    assert plan(grown, D1)[D1]["state"] == "damaged"


TASKS = """
import json, os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from types import SimpleNamespace
module = runpy.run_path(sys.argv[1])
calls, LOAD, VALIDATE = [], module["load"], module["validate"]
names = LOAD.__globals__

def task(function, *arguments, date, without=None):
    context = {"params": {"date": date, "re_extract": False, "without_sources": without}, "outlet_events":
               {asset: SimpleNamespace() for asset in [*module["LANDED"].values(), module["LOADED"]]},
               "ti": SimpleNamespace(task_id="extract_crm", xcom_push=lambda *_: None),
               "dag_run": SimpleNamespace(logical_date=None, run_after=None, partition_key=None)}
    names["get_current_context"] = lambda: context
    names["meltano"] = names["run"] = lambda *_, **variables: calls.append(variables.get("WITHOUT_SOURCES"))
    calls.clear()
    try:
        function(*arguments)
        return [*calls]
    except Exception as error:
        return type(error).__name__

D1, D3 = sys.argv[2:]
said = {"crm before": task(module["extract"], "crm", date=D1), "csv": task(module["extract"], "csv", date=D1),
        "load before": task(LOAD, date=D1), "without crm": task(module["extract"], "crm", date=D3, without="crm"),
        "missing": task(LOAD, date=D3), "load without crm": task(LOAD, date=D3, without=" crm"),
        "verify without crm": task(VALIDATE, date=D3, without="crm"),
        "unknown": task(LOAD, date=D3, without="nothing"),
        "rule": module["dag"].get_task("load_to_postgres").trigger_rule}
print("TASKS" + json.dumps(said))
"""


def test_the_dag_extracts_and_loads_the_sources_of_each_date(grown):
    grown.manifest_path("crm", D3).unlink()
    done = subprocess.run(
        [ROOT / "orchestrate/airflow/.venv/bin/python", "-c", TASKS,
         ROOT / "orchestrate/airflow/dags/ELT_with_meltano.py", D1, D3], capture_output=True, text=True, timeout=120,
        env=grown.environment(MELTANO_PROJECT_ROOT=str(grown.folder), AIRFLOW_HOME=str(grown.folder / ".airflow")))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.partition("TASKS")[2]) == {
        "crm before": "AirflowSkipException", "csv": [None], "load before": [None],
        "without crm": "AirflowSkipException", "missing": "NotLandedError", "load without crm": ["crm"],
        "verify without crm": ["crm"], "unknown": "AirflowFailException", "rule": "none_failed"}


def test_the_notebook_opens_a_date_before_a_source_was_added_and_one_that_was_loaded_without_it(grown):
    def opened(*arguments):
        done = subprocess.run(
            [ROOT / "notebook/.venv/bin/python", "-c", f"from warehouse import Day; print(Day(*{arguments}))"],
            capture_output=True, text=True, timeout=120, cwd=ROOT / "notebook",
            env=grown.environment(MELTANO_PROJECT_ROOT=str(grown.folder)))
        return done.stdout + done.stderr

    grown.load(D1)
    assert f"{D1} in schema public: 3 tables" in opened()
    grown.manifest_path("crm", D3).unlink()
    said = opened(D3)
    assert f"{D3} is not loaded into public" in said
    assert "an extract now takes today's rows. To load the date without crm: WITHOUT_SOURCES=crm" in said
    grown.load(D3, WITHOUT_SOURCES="crm")
    assert f"{D3} in schema public: 3 tables" in opened()
