"""A project with PostgreSQL only, or CSV files only, works after removing the other job and plugin from meltano.yml."""

import json
import subprocess

import pytest
import yaml
from conftest import ROOT

DAY = "2024-01-20"
TAPS = {"postgres": "tap-postgres", "csv": "tap-csv"}

TASKS = """
import json, os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
dag = runpy.run_path(sys.argv[1])["dag"]
print("TASKS" + json.dumps({task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}))
"""


def only(project, source):
    """Leave one source, as the documentation says."""
    path = project.folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    gone = {*TAPS} - {source}
    content["jobs"] = [job for job in content["jobs"] if job["name"].removeprefix("extract_") not in gone]
    content["plugins"]["extractors"] = [one for one in content["plugins"]["extractors"]
                                        if one["name"] not in {TAPS[other] for other in gone}]
    path.write_text(yaml.safe_dump(content))
    if source == "csv":
        lines = (project.folder / ".env").read_text().splitlines(keepends=True)
        (project.folder / ".env").write_text("".join(line for line in lines if not line.startswith("SOURCE_")))


@pytest.mark.parametrize(("source", "tables"), [("postgres", 2), ("csv", 1)])
def test_a_project_of_one_kind_of_source_runs_every_command(shop, source, tables):
    only(shop, source)
    nothing = shop.landing("list").stdout
    assert f"SOURCE={source} " in nothing
    assert f"meltano run extract_{source}" in nothing
    shop.meltano("run", f"extract_{source}", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    assert [one["load"] for one in planned(shop)] == ["load"]
    shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)
    assert f"{tables} of {tables} tables equal" in shop.meltano("invoke", "landing", "verify", DAY).stdout
    assert [(one["state"], [*one["sources"]]) for one in planned(shop)] == [("identical", [source])]
    for command in (["list"], ["show", DAY], ["certify"], ["status", "--max-age", "36500d"], ["gc"], ["drop", DAY]):
        said = shop.landing(*command)
        assert said.returncode == 0
        assert not {*TAPS} - {source} & {*said.stdout.split()}
    assert tasks(shop) == {f"extract_{source}": ["load_to_postgres"], "load_to_postgres": ["validate"], "validate": []}


def planned(project):
    return json.loads(project.landing("plan", "--from", DAY, "--to", DAY, "--json").stdout)["dates"]


def tasks(project):
    done = subprocess.run(
        [ROOT / "orchestrate/airflow/.venv/bin/python", "-c", TASKS,
         ROOT / "orchestrate/airflow/dags/ELT_with_meltano.py"], capture_output=True, text=True, timeout=120,
        env=project.environment(MELTANO_PROJECT_ROOT=str(project.folder), AIRFLOW_HOME=str(project.folder / "airflow")))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("TASKS")[2])


def test_certify_of_a_project_without_postgresql_says_that_there_is_nothing_to_check(project):
    only(project, "csv")
    said = project.landing("certify").stdout
    assert said.startswith("Nothing to check: meltano.yml has no tap-postgres")
    assert json.loads(project.landing("certify", "--json").stdout)["columns"] == []


def test_the_load_of_a_meltano_yml_of_an_older_version_still_runs(shop):
    """Its tap-landing inherits from tap-csv."""
    path = shop.folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    landing = next(one for one in content["plugins"]["extractors"] if one["name"] == "tap-landing")
    del landing["variant"]
    landing |= {"inherit_from": "tap-csv", "capabilities": ["about", "batch"],
                "config": {"files": [], "from_landing": True}}
    path.write_text(yaml.safe_dump(content))
    shop.land(DAY)
    shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)
    assert shop.unproved(DAY) == []
