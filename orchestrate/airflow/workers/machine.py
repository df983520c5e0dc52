"""Airflow with workers on one machine: Redis, Airflow's components, and each worker in a working copy of its own."""

from __future__ import annotations

import configparser
import os
import socket
import sys
from pathlib import Path

import servers
from landing.api import SettingError, settings
from processes import Component

from workers import broker, fleet, store, working_copy
from workers.broker import Broker
from workers.fleet import Worker
from workers.store import StandIn

FOLDER = servers.HOME / "workers"
BROKER = FOLDER / "broker_url"
STORE = servers.HOME / "store.env"
POLICY = Path(__file__).parent / "policy"
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
KEYS = (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret"))
HEARTBEAT = "60"  # seconds until a task without heartbeats is retried: Airflow's own default is 300
API_TIMEOUT = "60"  # seconds for an answer of the API server: after Airflow's own 5, a task fails where it is busy
# Seconds until a broker delivers the message of a task again that has not ended: more than any task takes.
VISIBILITY = str(7 * 24 * 3600)


def start() -> None:
    """Start all in the background and wait until every worker answers."""
    if servers.pid():
        servers.start()  # says so
        return
    broker.require()
    store.require(servers.ROOT)
    expected = fleet.workers()
    require_database()
    if not store.landing_root():
        print("LANDING_ROOT is a folder, and workers share none: they use an S3 server in memory, whose dates are gone "
              f"when it stops. Its variables, for other commands: set -a; . {STORE.relative_to(servers.ROOT)}",
              flush=True)
    servers.start("airflow:workers", lambda: answering() >= {f"{one.name}@{socket.gethostname()}" for one in expected})
    for one in expected:
        print(f"Worker {one.name}: queues {one.queues}, {one.concurrency} tasks at once, in {FOLDER / one.name}",
              flush=True)


def require_database() -> None:
    """Raise SettingError if the metadata database, which is Celery's result backend too, is not PostgreSQL."""
    if not settings().get(DATABASE, "").startswith("postgresql"):
        raise SettingError(f"{DATABASE} in .env does not name a PostgreSQL database, which workers need. Set it, "
                           "such as postgresql+psycopg2://user:password@host/airflow, and run again.")


def run() -> None:
    """Run all until a component ends or a signal arrives. A worker that ends is started again."""
    servers.prepare()
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    before: list[Component] = []
    try:
        url = own_broker(before)
        own_store(before)
        os.environ.update(environ(url))
        servers.supervise([*before, *servers.components(), *map(worker, fleet.workers())])
    finally:
        for part in before:
            part.end()


def own_broker(parts: list[Component]) -> str:
    """URL of the configured broker, or of one that is started here; also in a file for start()."""
    url = settings().get(broker.VARIABLE) or ""
    if not url:
        redis = Broker(FOLDER / "redis")
        parts.append(redis.component())
        parts[-1].start()
        redis.wait()
        url = redis.url
    broker.write_private(BROKER, url)
    return url


def own_store(parts: list[Component]) -> None:
    """Start a stand-in for the store if none is configured."""
    if not store.landing_root():
        stand_in = StandIn()
        parts.append(stand_in.component(FOLDER))
        parts[-1].start()
        stand_in.wait(STORE)


def environ(broker_url: str) -> dict[str, str]:
    """Airflow's settings, the same for every component."""
    values = settings()
    mine = {
        # A task that was sent to a worker which died before it took it is sent again after task_queued_timeout. One
        # that waits for a worker must not fail for it.
        "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "1000000",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT,
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": API_TIMEOUT,
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": VISIBILITY,
        "AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_INTERVAL": "0",  # a process in each worker, for DAGs from git
        **keys(),
    }
    return {
        **{name: values.get(name) or value for name, value in mine.items()},
        **store.log_settings(store.landing_root()),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(sum(one.concurrency for one in fleet.workers())),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow_local_settings.hostname",
        broker.VARIABLE: broker_url,
        "PYTHONPATH": str(POLICY),
    }


def keys() -> dict[str, str]:
    """The keys that Airflow's first command generated into its configuration: workers have homes of their own."""
    found = configparser.ConfigParser(interpolation=None)
    found.read(servers.HOME / "airflow.cfg", encoding="utf-8")
    return {f"AIRFLOW__{section.upper()}__{name.upper()}": found[section][name] for section, name in KEYS}


def worker(one: Worker) -> Component:
    """A worker in its own working copy."""
    folder = working_copy.make(servers.ROOT, FOLDER / one.name)
    command = [servers.PROGRAM, "celery", "worker", "--queues", one.queues, "--concurrency", str(one.concurrency),
               "--celery-hostname", f"{one.name}@%h", "--skip-serve-logs"]
    environ = {
        "MELTANO_PROJECT_ROOT": str(folder),
        "AIRFLOW_HOME": str(folder / ".airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "orchestrate/airflow/dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{servers.address().url}/execution/",
        "PYTHONPATH": str(folder / POLICY.relative_to(servers.ROOT)),
        "LANDING_WORKER": one.name,
    }
    # A task that cannot reach the API server fails.
    return Component(f"Worker {one.name}", command, folder, environ, restart=True, when=servers.healthy)


def answering() -> set[str]:
    """Names of the workers that answer by the broker."""
    import celery  # here: half a second

    try:
        with celery.Celery(broker=BROKER.read_text()) as app:
            return {name for answer in app.control.ping(timeout=1) for name in answer}
    except Exception:  # Redis is not up yet
        return set()


if __name__ == "__main__":
    sys.exit(__doc__)
