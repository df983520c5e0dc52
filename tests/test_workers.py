"""Airflow's Celery workers: tasks spread over working copies that share the store, the databases and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import ROOT
from fleets import READY, Fleet, fleet
from stores import SECRET

PYTHON = ROOT / "orchestrate/airflow/.venv/bin/python"
DAYS = ["2024-03-01", "2024-03-02", "2024-03-03"]
pytestmark = pytest.mark.skipif(not READY.exists(), reason="the Celery executor is not installed")


@pytest.fixture(scope="module")
def workers(server, stores, tmp_path_factory):
    """Two workers; the CSV files' source runs on the first."""
    with fleet(server, tmp_path_factory.mktemp("workers") / "project", stores["moto"], SOURCE_QUEUES="csv=files",
               WORKER_QUEUES="'default,files default'") as one:
        yield one


@pytest.fixture(scope="module")
def runs(workers: Fleet) -> list[dict]:
    """A backfill of three dates."""
    workers.invoke("airflow", "backfill", "create", "--dag-id", "ELT_with_meltano", "--from-date", DAYS[0],
                   "--to-date", DAYS[-1], "--reprocess-behavior", "completed")
    return [*workers.wait(*DAYS).values()]


def test_a_backfill_spreads_over_both_workers_and_lands_on_the_store_alone(workers, runs):
    hosts = {one["hostname"].partition("@")[0] for run in runs for one in workers.instances(run)}
    assert hosts == {"w1", "w2"}
    assert workers.landed_files() == []
    manifests = [key for key in workers.store.keys() if key.endswith("_manifest.json")]  # noqa: SIM118 (not a dict)
    assert len([key for key in manifests if any(day in key for day in DAYS)]) == 6
    for day in DAYS:
        assert "3 of 3 tables equal" in workers.project.landing("verify", day).stdout


def test_a_pinned_source_runs_on_the_workers_of_its_queue(workers, runs):
    found = {(one["task_id"], one["queue"], one["hostname"].partition("@")[0]) for run in runs
             for one in workers.instances(run) if one["task_id"].startswith("extract_")}
    assert {one for one in found if one[0] == "extract_csv"} == {("extract_csv", "files", "w1")}
    assert {queue for task, queue, _ in found if task == "extract_postgres"} == {"default"}


def test_logs_are_on_the_store_and_the_web_ui_shows_them(workers, runs):
    said = workers.log(runs[0], "extract_postgres")
    assert f"postgres of {DAYS[0]}: extracted." in said
    folder = f"run_id={runs[0]['dag_run_id']}"
    keys = [key for key in workers.store.keys() if "_airflow_logs" in key]  # noqa: SIM118
    assert len([key for key in keys if folder in key]) >= 4
    assert not [path for copy in workers.copies for path in copy.rglob("attempt=*.log") if folder in str(path)]


def test_no_process_listens_beyond_the_loopback(workers):
    found = set()
    for process in workers.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {connection.laddr for connection in process.net_connections("inet")
                      if connection.status == psutil.CONN_LISTEN}
    assert {address.ip for address in found} == {"127.0.0.1"}
    assert len(found) == 2, found  # API server and Redis


def test_secrets_are_the_same_for_all_private_and_in_no_command_line_or_log(workers, runs):
    folder = workers.project.folder / ".airflow"
    names = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
    environments = [process.environ() for process in workers.processes()[0].children()
                    if process.status() != psutil.STATUS_ZOMBIE]
    found = [{name: one[name] for name in names} for one in environments if {*names} <= {*one}]
    assert len(found) >= 3  # the title of a worker overwrites its environment
    assert all(one == found[0] for one in found)
    password = (folder / "workers/broker_url").read_text().partition("//:")[2].partition("@")[0]
    secrets = {*found[0].values(), password, SECRET, workers.metadata.password}
    assert all(len(secret) > 10 for secret in secrets)
    lines = ""
    for process in workers.processes():
        with contextlib.suppress(psutil.Error):  # it ends meanwhile
            lines += " ".join(process.cmdline())
    logs = (folder / "airflow.log").read_text() + workers.started + "".join(
        workers.store.read(key).decode() for key in workers.store.keys() if "_airflow_logs" in key)  # noqa: SIM118
    assert not [secret for secret in secrets if secret in lines + logs]
    for path in (folder, *folder.rglob("*")):
        if any(secret.encode() in path.read_bytes() for secret in secrets) if path.is_file() else path == folder:
            reachable = [stat.S_IMODE(one.stat().st_mode) & 0o077 for one in (path, *path.parents)]
            assert not all(reachable[:1 + len(path.relative_to(folder).parts)]), path


def test_a_worker_that_is_killed_is_started_again_and_its_load_retried(workers, runs):
    day = "2024-03-04"
    with workers.held_load(day):
        load = next(one for one in workers.instances(workers.runs(day)[day]) if one["task_id"] == "load_to_postgres")
        name = load["hostname"].partition("@")[0]
        ended = workers.kill(name)
        _, left = psutil.wait_procs(ended, timeout=30)
        assert not left
    run = workers.wait(day)[day]
    load, = (one for one in workers.instances(run) if one["task_id"] == "load_to_postgres")
    assert load["try_number"] > 1
    assert "3 of 3 tables equal" in workers.project.landing("verify", day).stdout
    workers.until(lambda: workers.worker(name).pid not in [process.pid for process in ended], "not started again")
    assert workers.landed_files() == []


SETTINGS = """
import json, sys
sys.path[:0] = ["orchestrate/airflow", "orchestrate/airflow/dags"]
from workers import machine
machine.keys = dict
print("SETTINGS" + json.dumps(machine.environ("redis://")))
"""


def test_compose_and_kubernetes_set_what_make_workers_sets():
    done = subprocess.run([PYTHON, "-c", SETTINGS], cwd=ROOT, env={**os.environ, "LANDING_ROOT": "s3://bucket/zone"},
                          capture_output=True, text=True, check=True)
    ours = json.loads(done.stdout.partition("SETTINGS")[2])
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["worker"]["environment"]
    config = yaml.safe_load((ROOT / "orchestrate/airflow/kubernetes/values.yaml").read_text())["config"]
    names = ["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES",
             "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT", "AIRFLOW__LOGGING__REMOTE_LOGGING",
             "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT", "AIRFLOW__LOGGING__DELETE_LOCAL_LOGS",
             "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID"]
    for name in names:
        _, section, option = name.lower().split("__")
        assert ours[name] == service[name] == str(config[section][option]), name


def start(folder: Path, env: str, **variables: str) -> subprocess.CompletedProcess:
    """`make workers` without its installations, in a project that has an .env and nothing else."""
    (folder / ".env").write_text(env)
    (folder / "meltano.yml").write_bytes((ROOT / "meltano.yml").read_bytes())
    copy_orchestrate(folder)
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "ALERT_", "LANDING_", "WORKER_", "SOURCE_"))}
    return subprocess.run([PYTHON, "orchestrate/airflow/servers.py", "start", "workers"], cwd=folder, text=True,
                          env={**kept, **variables}, capture_output=True, timeout=60)


def copy_orchestrate(folder: Path) -> None:
    shutil.copytree(ROOT / "orchestrate/airflow", folder / "orchestrate/airflow",
                    ignore=shutil.ignore_patterns(".venv", "__pycache__"))


STORE = "LANDING_ROOT=s3://bucket/zone\n"


@pytest.mark.parametrize(("env", "said"), [
    ("LANDING_ROOT=output\n", "LANDING_ROOT='output' is a folder, and workers share none. Set LANDING_ROOT in .env"),
    ("TARGET_POSTGRES_HOST=db\n", "LANDING_ROOT='output' is a folder"),
    ("LANDING_ROOT=az://box/zone\n", "LANDING_ROOT=az://box/zone is not on S3"),
    (STORE + "WORKER_QUEUES='default; x'\n", "WORKER_QUEUES: 'default;' is not a list of queues."),
    (STORE + "WORKER_QUEUES=files\n", "No worker takes the queue 'default', which load_to_postgres needs."),
    (STORE + "SOURCE_QUEUES=csv=files\n", "No worker takes the queue 'files', which source csv needs."),
    (STORE + "SOURCE_QUEUES=crm=default\n", "SOURCE_QUEUES names the source 'crm'. Declared sources: postgres, csv."),
    (STORE + "SOURCE_QUEUES=csv\n", "SOURCE_QUEUES: 'csv' is not <source>=<queue>."),
    (STORE + "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:///x\n", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN in .env does"),
    (STORE + "WORKER_CONCURRENCY=many\n", "WORKER_CONCURRENCY='many' is not a number from 1 to 99."),
])
def test_what_workers_cannot_run_with_is_said_before_anything_starts(tmp_path, env, said):
    refused = start(tmp_path, env, AIRFLOW__CELERY__BROKER_URL="redis://127.0.0.1:1/0")
    assert refused.returncode == 1
    assert refused.stderr.startswith(said)
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / ".airflow").exists()


def test_without_redis_one_sentence_says_how_to_install_it(tmp_path):
    refused = start(tmp_path, STORE, PATH=str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith("redis-server is not on PATH. Install it (Debian, Ubuntu: apt-get install redis-")
    assert refused.stderr.count("\n") == 1


COPY = """
import sys
from pathlib import Path
sys.path.insert(0, "orchestrate/airflow")
from workers import working_copy
working_copy.make(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_working_copy_has_its_own_settings_and_state_and_no_landed_file(tmp_path):
    project, copy = tmp_path / "project", tmp_path / "copy"
    for path in (".env", "meltano.yml", "orchestrate/airflow/dags/one.py", "load/view.sql", "extract/in.csv",
                 "output/source=csv/extracted_at=2024-01-01/_manifest.json", ".meltano/meltano.db", ".airflow/pid",
                 ".demo/server.json", "orchestrate/airflow/.venv/bin/python", "plugins/.venv/bin/landing"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("first")
    for text in ("first", "second"):  # made, and renewed
        (project / "meltano.yml").write_text(text)
        subprocess.run([PYTHON, "-c", COPY, project, copy], cwd=ROOT, check=True)
        assert (copy / "meltano.yml").read_text() == text
        (copy / "output").mkdir(exist_ok=True)
        (copy / "output/own").touch()
    assert {path.name for path in copy.iterdir()} == {".env", "meltano.yml", "orchestrate", "load", "extract",
                                                      "plugins", "output"}
    assert [*(copy / "output").iterdir()] == [copy / "output/own"]
    assert {path.name for path in copy.iterdir() if path.is_symlink()} == {"extract", "plugins"}
    assert not (copy / "orchestrate/airflow/.venv").exists()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
