"""Projects with a running Airflow of their own, started and stopped as a user does."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import psutil
from conftest import CANARY, ROOT, Database, Project
from receivers import Receivers, free_port

DAG = "/api/v2/dags/ELT_with_meltano"
TABLES = ["orders", "notes", "order_details"]


class Airflow:
    """A project with a running Airflow of its own."""

    def __init__(self, folder: Path, source: Database, warehouse: Database, metadata: Database) -> None:
        self.project, self.metadata = Project(folder, source, warehouse), metadata
        for part in ("orchestrate", "demo"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(".venv"))
        for part in ("Makefile", "requirements.txt"):
            shutil.copy2(ROOT / part, folder)  # with its time: make compares them
        (folder / "orchestrate/airflow/.venv").symlink_to(ROOT / "orchestrate/airflow/.venv")
        user, password = quote(metadata.user, safe=""), quote(metadata.password, safe="")
        address = f"postgresql+psycopg2://{user}:{password}@{metadata.host}:{metadata.port}/{metadata.name}"
        self.port = free_port()
        self.set(AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"'{address}'", AIRFLOW_PORT=self.port)
        source.run("CREATE TABLE orders (order_id smallint PRIMARY KEY, customer text);"
                   "INSERT INTO orders SELECT g, 'c' || g % 7 FROM generate_series(1, 100) g;"
                   "CREATE TABLE notes (note text); INSERT INTO notes VALUES ('a'), ('a'), (NULL)")

    def set(self, **variables: object) -> None:
        """Add variables to .env."""
        with (self.project.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def send_alerts(self, alerts: Receivers) -> None:
        """To these services. One more cannot be reached, and another is none of apprise's."""
        self.alerts = alerts
        urls = (f"json://me:{CANARY}@{alerts.webhook}/{CANARY}, json://{CANARY}@127.0.0.1:{free_port()}/{CANARY} "
                f"nosuch://{CANARY},mailto://{alerts.smtp}/?from=landing@example.com&to=ops@example.com")
        self.set(ALERT_URLS=f"'{urls}'", ALERT_DEADLINE="23:59")

    def make(self, target: str) -> subprocess.CompletedProcess:
        variables = {"AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1"}
        # All is installed: uv has nothing to do, and `false` would say so if it had.
        return subprocess.run(["make", target, "UV=false"], cwd=self.project.folder, text=True, check=False,
                              env=self.project.environment(**variables), capture_output=True, timeout=300)

    def invoke(self, *arguments: str) -> str:
        """Airflow's own command line, as docs/how-to/airflow.md has it: `airflow …`."""
        return self.project.meltano("invoke", *arguments).text

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """Its REST interface: status and answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json", **self.authorization(path)})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def authorization(self, path: str) -> dict[str, str]:
        if path == "/auth/token":
            return {}
        if not hasattr(self, "token"):
            file = self.project.folder / ".airflow/simple_auth_manager_passwords.json.generated"
            secret = json.loads(file.read_text())["admin"]
            self.token = self.ask("POST", "/auth/token", {"username": "admin", "password": secret})[1]["access_token"]
        return {"Authorization": f"Bearer {self.token}"}

    def trigger(self, **body: object) -> tuple[int, object]:
        return self.ask("POST", f"{DAG}/dagRuns", {"logical_date": None, **body})

    def runs(self, *days: str) -> dict[str, dict]:
        """The newest run of each date."""
        runs = self.ask("GET", f"{DAG}/dagRuns?limit=200&order_by=id")[1]["dag_runs"]
        dated = {run["conf"].get("date") or run["partition_key"]: run for run in runs}
        return {day: dated[day] for day in days if day in dated}

    def wait(self, *days: str, state: str = "success") -> dict[str, dict]:
        """Until the runs of these dates have ended, in that state."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            runs = self.runs(*days)
            if len(runs) == len(days) and all(run["state"] in ("success", "failed") for run in runs.values()):
                break
            time.sleep(1)
        assert {day: run["state"] for day, run in runs.items()} == dict.fromkeys(days, state), self.said()
        return runs

    def backfills_done(self) -> None:
        """Airflow takes one backfill of a DAG at a time, and closes it a while after its last run has ended."""
        deadline = time.monotonic() + 120
        while any(one["completed_at"] is None
                  for one in self.ask("GET", "/api/v2/backfills?dag_id=ELT_with_meltano")[1]["backfills"]):
            assert time.monotonic() < deadline, "the backfill does not end"
            time.sleep(1)

    def said(self, folder: str = "") -> str:
        logs = self.project.folder / ".airflow/logs" / folder
        return "\n".join(path.read_text()[-2000:] for path in logs.rglob("*.log"))

    def tasks(self, run: dict) -> dict[str, str]:
        found = self.ask("GET", f"{DAG}/dagRuns/{quote(run['dag_run_id'])}/taskInstances")[1]["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def log(self, run: dict, task: str) -> str:
        """Of all attempts at a task, in order."""
        folder = self.project.folder / f".airflow/logs/dag_id=ELT_with_meltano/run_id={run['dag_run_id']}"
        return "".join(path.read_text() for path in sorted((folder / f"task_id={task}").glob("attempt=*.log")))

    def warehouse(self, *days: str) -> dict[tuple[str, str], list]:
        """Rows and ledger of each table of each date."""
        run = self.project.warehouse.run
        return {(table, day): run(f'SELECT t::text FROM public_history."{table}" t WHERE extracted_at = %s ORDER BY 1',
                                  day)
                + run("SELECT source, rows, sha256, run_id FROM public_history._loads "
                      "WHERE table_name = %s AND extracted_at = %s", table, day)
                for table in TABLES for day in days}

    def processes(self) -> list[psutil.Process]:
        """All processes of Airflow, and of its tasks."""
        supervisor = psutil.Process(int((self.project.folder / ".airflow/pid").read_text().split()[0]))
        return [supervisor, *supervisor.children(recursive=True)]

    def load_of(self, day: str) -> list[psutil.Process]:
        """The Meltano that loads a date, and its plugins; empty until the load waits for a lock."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if ("--state-id-suffix", day, "load_to_postgres") == tuple(command[-3:]) and self.loading():
                    plugins = process.children()
                    if any("target-postgres" in " ".join(one.cmdline()) for one in plugins):
                        return [process, *plugins]
        return []

    def sent(self, day: str) -> list[tuple[str, str]]:
        """Title and text of each message about a date, the same by webhook and by mail."""
        posts = [(post["title"], post["message"]) for post in [*self.alerts.posts] if day in post["title"]]
        mails = [(mail["subject"], mail.get_body().get_content()) for mail in [*self.alerts.mails]
                 if day in mail["subject"]]
        assert [title for title, _ in mails] == [title for title, _ in posts][:len(mails)]
        return posts if len(mails) == len(posts) else []

    @contextlib.contextmanager
    def held_load(self, day: str):
        """Trigger a date, whose load waits for a lock within."""
        if not self.project.warehouse.one("SELECT to_regclass('public_history._loads')"):  # no other test has loaded
            self.project.land("2024-02-20")
            self.project.load("2024-02-20")
        with self.project.warehouse.connect() as lock, lock.cursor() as cursor:
            lock.autocommit = False
            cursor.execute("CREATE SCHEMA IF NOT EXISTS public_history; CREATE TABLE IF NOT EXISTS "
                           "public_history._loads (); LOCK TABLE public_history._loads IN ACCESS EXCLUSIVE MODE")
            assert self.trigger(conf={"date": day})[0] == 200
            try:
                self.until(lambda: self.load_of(day), "the load did not begin")
                yield
            finally:
                lock.rollback()

    def loading(self) -> bool:
        """Whether a load waits for a lock."""
        return bool(self.project.warehouse.one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'target-postgres' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"))

    def until(self, condition, otherwise: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, otherwise + self.said()
            time.sleep(0.2)


