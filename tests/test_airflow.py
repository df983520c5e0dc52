"""Airflow: one run is one date; what fails says what to type, and clearing it heals the run."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import yaml
from airflows import DAG, Airflow
from conftest import CANARY, ROOT, databases
from receivers import free_port, receivers

DAGS = Path("orchestrate/airflow/dags")
PYTHON = Path("orchestrate/airflow/.venv/bin/python")
DOCUMENTED = [shlex.split(line)[2:] for line in (ROOT / "docs/how-to/airflow.md").read_text().splitlines()
              if line.startswith("meltano invoke airflow ")]

LOOK = """
import json, runpy, sys
from pathlib import Path
sys.path.append(str(Path(sys.argv[1]).parent))
from types import SimpleNamespace
from datetime import datetime, timezone
from airflow.sdk.exceptions import AirflowException
from meltano_dags import commands
module = runpy.run_path(sys.argv[1])
dag = module["dag"]

def day(date=None, partition=None, logical=None):
    run = SimpleNamespace(partition_key=partition, logical_date=logical,
                          run_after=datetime(2024, 1, 5, 23, tzinfo=timezone.utc))
    try:
        return module["date_of"]({"params": {"date": date}, "dag_run": run})
    except AirflowException as error:
        return type(error).__name__

def accepts(date):
    try:
        return dag.params.get_param("date").resolve(date) == date
    except Exception:
        return False

def fails(*arguments):
    try:
        commands.run(*arguments)
    except AirflowException as error:
        return str(error)

print("LOOK" + json.dumps({
    "tasks": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
    "retries": {task.retries for task in dag.tasks} == {2},
    "days": [day("2024-01-01", "2024-01-02", datetime(2024, 1, 3, tzinfo=timezone.utc)),
             day(None, "2024-01-02", datetime(2024, 1, 3, tzinfo=timezone.utc)),
             day(None, None, datetime(2024, 1, 3, tzinfo=timezone.utc)), day(), day("2024-02-30"), day(None, "x;y"),
             day("9999-12-31"), day(None, "9999-12-31")],
    "accepted": {date: accepts(date) for date in ("2024-01-20", "2024-02-30", "2024-01-20; touch pwned", "")},
    "re_extract": dag.params["re_extract"],
    "failed": [fails("What", "again", ["sh", "-c", script]) for script in json.loads(sys.argv[3])],
    "inherited": sorted(set(commands.environment(DATESTAMP="2024-01-01")) & set(json.loads(sys.argv[2]))),
}))
"""


def leaves(error, message, program="tap-csv"):
    """A shell command that leaves an error where the plugins do."""
    line = json.dumps({"program": program, "error": error, "message": message})
    return f"echo {shlex.quote(line)} >> $LANDING_ERRORS; "


REFUSED = leaves("BadFileError", "in.csv, line 2: expected 2 fields, found 3.")
ENDED_EARLY = leaves("IncompleteInputError", "The input ended.", "target-csv")
FAILED = {"false": "What failed. Exit status 1, and no program left an error: one of them was killed, or Meltano "
                   "itself failed. Its lines are in the task's log.",
          "kill -9 $$": "What failed. It was killed by SIGKILL.",
          f"{REFUSED}{ENDED_EARLY}exit 1": "What failed. tap-csv: in.csv, line 2: expected 2 fields, found 3.",
          f"{ENDED_EARLY}printf '{{\"pro' >> $LANDING_ERRORS; exit 1": "What failed. target-csv: The input ended."}


def look(folder, **variables):
    """The DAG as Python sees it, without a scheduler."""
    names = ["SOURCE", "SOURCE_POSTGRES_HOST", "DATESTAMP", "REEXTRACT", "MELTANO_ENVIRONMENT", "PATH",
             "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    environment = {**os.environ, "MELTANO_PROJECT_ROOT": str(folder), "AIRFLOW_HOME": str(folder / ".airflow"),
                   "AIRFLOW__CORE__UNIT_TEST_MODE": "False", **variables}
    command = [ROOT / PYTHON, "-c", LOOK, ROOT / DAGS / "ELT_with_meltano.py", json.dumps(names),
               json.dumps([*FAILED])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("LOOK")[2])


def test_every_declared_source_has_a_task_and_none_is_loaded_before_all_are_landed(tmp_path):
    jobs = (ROOT / "meltano.yml").read_text().replace("jobs:\n", "jobs:\n- name: extract_crm\n  tasks: []\n", 1)
    (tmp_path / "meltano.yml").write_text(jobs)
    dag = look(tmp_path)
    extracts = ["extract_crm", "extract_postgres", "extract_csv"]
    assert dag["tasks"] == {**{name: ["load_to_postgres"] for name in extracts},
                            "load_to_postgres": ["validate"], "validate": []}
    assert dag["retries"]


def test_a_run_has_one_date_and_it_is_one(tmp_path):
    dag = look(ROOT)
    assert dag["days"] == ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-05", *["AirflowFailException"] * 4]
    assert dag["accepted"] == {"2024-01-20": True, "2024-02-30": False, "2024-01-20; touch pwned": False, "": False}
    assert dag["re_extract"] is False


def test_a_failed_task_says_the_cause_and_the_command_also_if_it_was_killed_without_a_word():
    assert look(ROOT)["failed"] == [f"{said}\nTo retry, clear this task or run: again" for said in FAILED.values()]


def test_what_airflow_was_started_with_does_not_decide_what_a_task_does():
    left_over = dict.fromkeys(("SOURCE", "SOURCE_POSTGRES_HOST", "REEXTRACT", "MELTANO_ENVIRONMENT"), "true")
    dag = look(ROOT, **left_over, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql://u:p@127.0.0.1/none")
    assert dag["inherited"] == ["DATESTAMP", "PATH", "SOURCE_POSTGRES_HOST"]


SECRETS = """
import json, os, stat, sys
from pathlib import Path
sys.path.insert(0, "orchestrate/airflow")
import servers
servers.HOME = Path(os.environ["AIRFLOW_HOME"])
servers.PASSWORDS = servers.HOME / servers.PASSWORDS.name
servers.prepare()
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.configuration import write_default_airflow_configuration_if_needed
conf = write_default_airflow_configuration_if_needed()  # as the first command does
before = servers.PASSWORDS.read_text()
SimpleAuthManager().init()
keys = ("core/fernet_key", "api/secret_key", "api_auth/jwt_secret")
lines = (servers.HOME / "airflow.cfg").read_text().splitlines()
print("SECRETS" + json.dumps({
    "secrets": {name: conf.get(*name.split("/")) for name in keys} | json.loads(before),
    "stays": all(any(line.endswith(conf.get(*name.split("/"))) for line in lines) for name in keys),
    "kept": servers.PASSWORDS.read_text() == before,
    "open": [conf.getboolean("core", "simple_auth_manager_all_admins"), conf.get("api", "expose_config")],
    "modes": {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (servers.HOME, *servers.HOME.iterdir())
              if path.is_file() or path == servers.HOME},
}))
"""


def secrets(home, mode=0o755):
    """What a new Airflow has for secrets, in a folder that its command line made before."""
    home.mkdir(mode, exist_ok=True)
    settings = {setting["env"]: setting["value"] for plugin in yaml.safe_load((ROOT / "meltano.yml").read_text())
                ["plugins"]["utilities"] for setting in plugin.get("settings", []) if "value" in setting}
    environment = {**os.environ, **settings, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
                   "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/none.db"}
    done = subprocess.run([ROOT / PYTHON, "-c", SECRETS], cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    before, _, found = done.stdout.partition("SECRETS")
    found = json.loads(found)
    assert not [one for one in found["secrets"].values() if one in before + done.stderr], "a secret is printed"
    return found


def test_no_secret_of_airflow_is_a_default_or_readable_by_others(tmp_path):
    first, second = (secrets(tmp_path / name) for name in ("first", "second"))
    for found in (first, second):
        assert found["kept"], "Airflow takes the password that is there, and prints none"
        assert found["open"] == [False, "False"]
        assert found["modes"].pop("first" if found is first else "second") == "0o700"
        assert set(found["modes"].values()) == {"0o600"}, found["modes"]
        assert all(len(secret) >= 16 for secret in found["secrets"].values())
        assert set(found["secrets"]) == {"admin", "core/fernet_key", "api/secret_key", "api_auth/jwt_secret"}
        assert found["stays"], "the next start finds them all in files"
    assert not {*first["secrets"].values()} & {*second["secrets"].values()}


ENDED = """
import os, signal, sys
sys.path.append(sys.argv[1])
from meltano_dags import commands
sleeper = ["sh", "-c", "echo $$; exec sleep 300"]

def timeout(*_):
    raise TimeoutError

if sys.argv[2] == "a timeout":
    signal.signal(signal.SIGALRM, timeout)
    signal.alarm(3)
if sys.argv[2] == "its command":
    commands.run = lambda *words, **variables: print("COMMAND", words[2], variables, flush=True)
    commands.meltano("What", "again", "job", "2024-01-01", DATESTAMP="2024-01-01")
else:
    commands.run("What", "again", sleeper)
"""


def dag_process(ending):
    environment = {**os.environ, "MELTANO_PROJECT_ROOT": str(ROOT), "AIRFLOW__CORE__UNIT_TEST_MODE": "True"}
    return subprocess.Popen([ROOT / PYTHON, "-c", ENDED, ROOT / DAGS, ending], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "a timeout"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_command_does_not_outlive_its_task(ending):
    with dag_process(ending) as task:
        pid = next(int(line) for line in task.stdout if line.strip().isdigit())
        if ending.startswith("SIG"):
            task.send_signal(signal.Signals[ending])
        task.wait(60)
        assert task.returncode != 0
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}/stat").exists() and "sleep" in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline, "the command is at work still"
            time.sleep(0.05)


def test_a_retry_is_not_held_up_by_a_run_that_was_killed():
    with dag_process("its command") as task:
        command = next(line for line in task.stdout if line.startswith("COMMAND"))
    assert "'run', '--force', '--state-id-suffix', '2024-01-01', 'job'" in command
    assert "MELTANO_SYS_DIR_ROOT" in command


@pytest.fixture(scope="module")
def airflow(server, tmp_path_factory):
    """Airflow on this test's own databases; at the end none of its processes may be left."""
    with databases(server) as make, receivers() as alerts:
        one = Airflow(tmp_path_factory.mktemp("airflow") / "project", make("source"), make("warehouse"),
                      make("metadata"))
        one.send_alerts(alerts)
        started = one.make("airflow")
        assert started.returncode == 0, started.stdout + started.stderr
        assert "Warning: Alert 3 of ALERT_URLS (nosuch) is not a URL that apprise knows." in started.stdout
        assert CANARY not in started.stdout + started.stderr
        assert len(one.processes()) > 4
        try:
            yield one
            with one.held_load("2024-02-09"):
                processes = one.processes()
                stopped = one.make("airflow-stop")
                assert stopped.returncode == 0, stopped.stdout + stopped.stderr
                assert not [process for process in processes if at_work(process)]
            one.until(lambda: not one.loading(), "a load goes on")  # its session waited for the lock
            assert "not running" in one.make("airflow-stop").stdout
        finally:
            one.make("airflow-stop")
            assert "not running" in one.make("airflow-stop").stdout


def verified(airflow, *days):
    return all("3 of 3 tables equal" in airflow.project.landing("verify", day).stdout for day in days)


def test_dates_triggered_by_command_line_and_by_rest_run_side_by_side(airflow):
    assert airflow.trigger(conf={"date": "2024-01-11"})[0] == 200
    assert airflow.trigger(partition_key="2024-01-12")[0] == 200
    airflow.invoke(*next(command for command in DOCUMENTED if "trigger" in command))
    airflow.wait("2024-01-20", "2024-01-11", "2024-01-12")
    assert verified(airflow, "2024-01-20", "2024-01-11", "2024-01-12")
    events = airflow.ask("GET", "/api/v2/assets/events?limit=100")[1]["asset_events"]
    extras = [event["extra"] for event in events if event["extra"].get("extracted_at") == "2024-01-11"]
    assert {extra.get("source", extra.get("schema")) for extra in extras} == {"postgres", "csv", "public"}
    manifest = airflow.project.manifest("postgres", "2024-01-11")
    assert [extra for extra in extras if extra.get("source") == "postgres"] == [
        {"source": "postgres", "extracted_at": "2024-01-11", "run_id": manifest["run_id"], "tables": 2, "rows": 103,
         "did": "extracted"}]


def test_what_is_no_date_is_refused_at_the_trigger(airflow):
    for wrong in ("2024-02-30", "2024-01-20; touch pwned", "$(touch pwned)", "tomorrow"):
        status, said = airflow.trigger(conf={"date": wrong})
        assert status == 400, said
        assert "is not a 'date'" in said
    assert not list(airflow.project.folder.rglob("pwned"))


def test_a_backfill_of_the_same_dates_again_changes_nothing(airflow):
    days = ["2024-01-20", "2024-01-21", "2024-01-22"]
    backfill = next(command for command in DOCUMENTED if "backfill" in command)
    assert [backfill[index] for index in (6, 8)] == [days[0], days[-1]]
    airflow.invoke(*backfill)
    airflow.wait(*days)
    before = airflow.warehouse(*days)
    assert len(before) == 9
    assert all(before.values())
    ended = {day: run["end_date"] for day, run in airflow.runs(*days).items()}
    airflow.backfills_done()
    airflow.invoke(*backfill)
    deadline = time.monotonic() + 60
    while any(run["end_date"] == ended[day] for day, run in airflow.runs(*days).items()):
        assert time.monotonic() < deadline, "the second backfill made no run"
        time.sleep(0.5)
    runs = airflow.wait(*days)
    assert airflow.warehouse(*days) == before
    assert verified(airflow, *days)
    assert "already landed, frozen" in airflow.log(runs[days[0]], "extract_postgres")


def test_a_source_that_is_down_blocks_the_load_and_clearing_its_task_heals_the_run(airflow):
    day, source = "2024-01-30", airflow.project.source
    allow = f"ALTER DATABASE {source.name} WITH ALLOW_CONNECTIONS "
    airflow.project.warehouse.run(allow + "false")
    try:
        assert airflow.trigger(conf={"date": day})[0] == 200
        run = airflow.wait(day, state="failed")[day]
    finally:
        airflow.project.warehouse.run(allow + "true")
    assert airflow.tasks(run) == {"extract_postgres": "failed", "extract_csv": "success",
                                  "load_to_postgres": "upstream_failed", "validate": "upstream_failed"}
    said = airflow.log(run, "extract_postgres")
    assert said.count(f"Extract of postgres for {day} failed") >= 3  # tried twice more
    assert "is not currently accepting connections" in said
    command = f"MELTANO_ENVIRONMENT=extract SOURCE=postgres DATESTAMP={day} meltano run extract_postgres"
    assert f"run: {command}" in said
    airflow.until(lambda: airflow.sent(day), "no message came")
    (title, text), = airflow.sent(day)
    assert title == f"{day}: extract_postgres failed"
    assert "is not currently accepting connections" in text
    assert f"To retry, clear this task or run: {command}" in text
    assert "load_to_postgres" not in text
    airflow.until(lambda: "Alert 4 of ALERT_URLS (mailto) is sent" in airflow.said("dag_processor"), "not logged")
    assert "Alert 2 of ALERT_URLS (json) was not sent" in airflow.said("dag_processor")
    assert "Alert 3 of ALERT_URLS (nosuch) was not sent" in airflow.said("dag_processor")
    assert CANARY not in airflow.said()
    for path in (airflow.project.folder / ".airflow").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    tables = airflow.metadata.run("SELECT relname FROM pg_class WHERE relkind = 'r' "
                                  "AND relnamespace = 'public'::regnamespace")
    assert len(tables) > 20
    for table, in tables:
        found = airflow.metadata.one(f'SELECT count(*) FROM "{table}" t WHERE strpos(t::text, %s) > 0', CANARY)
        assert not found, table
    cleared = {"dry_run": False, "dag_run_id": run["dag_run_id"], "task_ids": ["extract_postgres"],
               "include_downstream": True, "only_failed": False, "reset_dag_runs": True}
    assert airflow.ask("POST", f"{DAG}/clearTaskInstances", cleared)[0] == 200
    airflow.wait(day)
    assert verified(airflow, day)
    assert len(airflow.sent(day)) == 1  # none for each retry, and none for success


def at_work(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_killed_task_ends_its_load_and_so_does_one_that_is_marked_as_failed(airflow):
    day = "2024-01-31"
    with airflow.held_load(day):
        run = airflow.runs(day)[day]
        first = airflow.load_of(day)
        first[0].parent().send_signal(signal.SIGKILL)  # the task
        airflow.until(lambda: not any(map(at_work, first)), "the load goes on")
        airflow.until(lambda: airflow.load_of(day), "no retry")
        second = airflow.load_of(day)
        task = f"{DAG}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/load_to_postgres"
        assert airflow.ask("PATCH", task, {"new_state": "failed"})[0] == 200
        airflow.until(lambda: not any(map(at_work, second)), "the load goes on")
    airflow.wait(day, state="failed")
    airflow.until(lambda: airflow.sent(day), "no message came")
    (title, text), = airflow.sent(day)
    assert title == f"{day}: load_to_postgres failed"
    assert "killed" in text or "Stopped by signal 15" in text  # the load may still leave its own words
    assert f"EXTRACTED_AT={day} meltano run load_to_postgres" in text
    warehouse = airflow.project.warehouse
    if warehouse.one("SELECT to_regclass('public_history._loads')"):  # another test has loaded
        assert not warehouse.run("SELECT 1 FROM public_history._loads WHERE extracted_at = %s", day)


def test_a_date_that_is_late_is_told_with_what_it_lacks_and_one_that_is_complete_is_not(airflow):
    late, complete = "2024-02-01", "2024-02-02"
    for source in ("postgres", "csv"):
        airflow.project.land(complete, source)
    airflow.project.load(complete)
    airflow.project.land(late, "csv")
    down = airflow.project.tap_postgres(port=1)
    airflow.project.pipe(down, airflow.project.target_csv(), check=False, SOURCE="postgres", DATESTAMP=late)
    dag = "/api/v2/dags/deadline/dagRuns"
    runs = [airflow.ask("POST", dag, {"logical_date": None, "conf": {"date": day}})[1]["dag_run_id"]
            for day in (complete, late)]
    airflow.until(lambda: all(airflow.ask("GET", f"{dag}/{quote(run)}")[1]["state"] == "success" for run in runs),
                  "the deadline was not checked")
    (title, text), = airflow.sent(late)
    assert title == f"{late} is late"
    assert "postgres not landed" in text
    assert "postgres: tap-postgres: connection to server" in text
    assert f"SOURCE=postgres DATESTAMP={late} meltano run extract_postgres" in text
    assert "extract_csv" not in text
    assert airflow.sent(complete) == []


def test_airflow_listens_on_its_port_of_loopback_and_nowhere_else(airflow):
    found = set()
    for process in airflow.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # a task that ends meanwhile
            found |= {connection.laddr for connection in process.net_connections("inet")
                      if connection.status == psutil.CONN_LISTEN}
    assert found == {("127.0.0.1", airflow.port)}


URLS = """
import sys
sys.path.append(sys.argv[1])
from meltano_dags import alerts
print(alerts.urls())
"""


def test_alert_urls_are_separated_by_spaces_or_commas_and_keep_their_own_commas():
    one, two, three = "mailto://h/?to=a@example.com,b@example.com", "slack://T/B/x", "json://h/a?b=1,2"
    environment = {**os.environ, "ALERT_URLS": f" {one}, {two},{three} "}
    said = subprocess.run([ROOT / PYTHON, "-c", URLS, ROOT / DAGS], env=environment, capture_output=True, text=True,
                          check=True).stdout
    assert said.strip() == str([one, two, three])


NAMES = """
import sys
sys.path.append(sys.argv[1])
from meltano_dags import alerts
print(alerts.unknown())
alerts.send("title", "body")
"""


@pytest.mark.parametrize(("url", "name"), [
    (f"me:{CANARY}@example.com/hook", "no scheme"), (f"{CANARY}:", "no scheme"), (f"nosuch://{CANARY}", "nosuch")])
def test_an_alert_url_is_named_without_its_secret_whatever_was_pasted(url, name):
    said = subprocess.run([ROOT / PYTHON, "-c", NAMES, ROOT / DAGS], env={**os.environ, "ALERT_URLS": url},
                          capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"['Alert 1 of ALERT_URLS ({name})']"
    assert f"Alert 1 of ALERT_URLS ({name}) was not sent: apprise does not know such a URL" in said.stderr
    assert CANARY not in said.stdout + said.stderr


DEADLINE = """
import json, os, runpy, sys
from datetime import datetime, timezone
from types import SimpleNamespace
sys.path.append(os.path.dirname(sys.argv[1]))
module = runpy.run_path(sys.argv[1])
check, sent = module["check"], []
names = check.__globals__
names["alerts"].send = lambda *message: sent.append(message)
context = {"dag_run": SimpleNamespace(run_after=datetime.now(timezone.utc)), "params": {"date": "9999-12-31"}}
names["get_current_context"] = lambda: context

def checked():
    try:
        check()
    except Exception as error:
        sent.append(type(error).__name__)

checked()
names["landing"] = lambda *arguments: {}
checked()
print("SENT" + json.dumps(sent))
"""


def test_a_deadline_that_cannot_be_checked_sends_one_message_that_says_why():
    done = subprocess.run([ROOT / PYTHON, "-c", DEADLINE, ROOT / DAGS / "deadline.py"],
                          env={**os.environ, "ALERT_DEADLINE": ""}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    (title, why), raised, (_, other), raised_too = json.loads(done.stdout.partition("SENT")[2])
    assert title == "9999-12-31 could not be checked"
    assert why.startswith("landing plan failed: --to 9999-12-31 is in the future")
    assert (raised, other, raised_too) == ("AirflowException", "KeyError: 'dates'", "KeyError")


def servers(folder):
    """Start Airflow of a project that has an .env and nothing else."""
    (folder / "orchestrate").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "orchestrate/airflow", folder / "orchestrate/airflow", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(".venv"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "ALERT_"))}
    return subprocess.run([ROOT / PYTHON, "orchestrate/airflow/servers.py", "start"], cwd=folder, text=True,
                          check=False, env=environment, capture_output=True, timeout=60)


@pytest.mark.parametrize(("line", "said"), [
    ("AIRFLOW_PORT=web", "AIRFLOW_PORT='web' is not a port. Expected a number from 1 to 65535."),
    ("AIRFLOW_PORT=70000", "AIRFLOW_PORT='70000' is not a port."),
    ("AIRFLOW_HOST=no such", "AIRFLOW_HOST='no such' is not an address or name of this machine."),
    ("AIRFLOW_HOST=192.0.2.1", "AIRFLOW_HOST='192.0.2.1' is not an address of this machine."),
    ("AIRFLOW_PORT={used}", "Airflow cannot listen on 127.0.0.1, port {used}: Address already in use. Set AIRFLOW_"),
    ("AIRFLOW_PORT={free}\nALERT_DEADLINE=6h", "ALERT_DEADLINE='6h' is not a time of day. Expected HH:MM in UTC"),
])
def test_a_setting_of_airflow_that_is_wrong_is_said_before_it_starts(tmp_path, line, said):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        names = {"used": used.getsockname()[1], "free": free_port()}
        (tmp_path / ".env").write_text(line.format(**names) + "\n")
        done = servers(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(said.format(**names))
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".airflow").exists()
