"""Twelve dates of three sources on two workers, one of which is killed and one restarted midway: `make workers-test`.

Prints which worker ran what.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from datetime import date, timedelta

import psutil
import pytest
import yaml
from airflows import DAG
from fleets import Fleet, fleet

DAYS = [(date(2024, 1, 1) + timedelta(days=number)).isoformat() for number in range(12)]
TABLES = 4  # of a date: two of postgres, one each of crm and csv
STEPS = 2400  # seconds for all dates


def three_sources(one: Fleet) -> None:
    """Declare a third source, and give each extract some work."""
    one.project.source.run("CREATE SCHEMA crm; CREATE TABLE crm.leads (id integer PRIMARY KEY, name text);"
                           "INSERT INTO crm.leads SELECT g, md5(g::text) FROM generate_series(1, 20000) g")
    path = one.project.folder / "meltano.yml"
    declared = yaml.safe_load(path.read_text())
    declared["plugins"]["extractors"].append({"name": "tap-crm", "inherit_from": "tap-postgres",
                                              "config": {"filter_schemas": ["crm"]}})
    declared["jobs"].insert(0, {"name": "extract_crm", "tasks": ["tap-crm target-csv"]})
    path.write_text(yaml.safe_dump(declared, sort_keys=False))


@pytest.fixture(scope="module")
def workers(server, stores, tmp_path_factory):
    with fleet(server, tmp_path_factory.mktemp("workers") / "project", stores["moto"], three_sources,
               AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT=120) as one:
        yield one


def until(condition, what: str, seconds: float = STEPS):
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(1)
    raise AssertionError(f"not within {seconds} s: {what}")


def instances(workers: Fleet) -> list[dict]:
    """Task instances of all dates."""
    return [one | {"day": day} for day, run in workers.runs(*DAYS).items() for one in workers.instances(run)]


def at_work(workers: Fleet, name: str, tasks: str) -> list[psutil.Process]:
    """Processes of the commands that a worker runs for such tasks."""
    found = []
    for process in workers.worker(name).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "--state-id-suffix" in words and words[-1].startswith(tasks):
                found.append(process)
    return found


def test_twelve_dates_of_three_sources_survive_a_killed_and_a_restarted_worker(workers):
    begun = time.monotonic()
    workers.invoke("airflow", "backfill", "create", "--dag-id", "ELT_with_meltano", "--from-date", DAYS[0],
                   "--to-date", DAYS[-1], "--reprocess-behavior", "completed")
    until(lambda: sum(one["state"] == "success" for one in instances(workers)) >= 8, "eight tasks")
    until(lambda: at_work(workers, "w1", "extract_"), "an extract on w1")
    lost = [(one["day"], one["task_id"]) for one in instances(workers)
            if one["state"] == "running" and one["hostname"].startswith("w1@")]
    ended = workers.kill("w1")
    print(f"\n{time.monotonic() - begun:.0f} s: w1 killed with {len(ended)} processes, tasks {lost}", flush=True)
    _, left = psutil.wait_procs(ended, timeout=30)
    assert not left
    until(lambda: sum(one["state"] == "success" for one in instances(workers)) >= 30, "thirty tasks")
    second = workers.worker("w2")
    second.send_signal(signal.SIGTERM)  # it ends its tasks first, then is started again
    print(f"{time.monotonic() - begun:.0f} s: w2 restarted", flush=True)
    until(lambda: all(run["state"] in ("success", "failed") for run in workers.runs(*DAYS).values()), "all dates")
    found = instances(workers)
    print(f"{time.monotonic() - begun:.0f} s: all dates ended", flush=True)
    report(found)
    assert {day: run["state"] for day, run in workers.runs(*DAYS).items()} == dict.fromkeys(DAYS, "success")
    assert len(found) == len(DAYS) * 5
    assert {one["hostname"].partition("@")[0] for one in found} == {"w1", "w2"}
    assert {(one["day"], one["task_id"]) for one in found if one["try_number"] > 1} >= {*lost}
    assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE
    for day in DAYS:
        assert f"{TABLES} of {TABLES} tables equal" in workers.project.landing("verify", day).stdout
    assert workers.landed_files() == []


def report(found: list[dict]) -> None:
    """Which worker ran what, and what was retried."""
    for host, number in sorted(Counter(one["hostname"] for one in found).items()):
        tasks = Counter(one["task_id"] for one in found if one["hostname"] == host)
        print(f"{host}: {number} tasks ({', '.join(f'{name} {count}' for name, count in sorted(tasks.items()))})")
    for one in found:
        if one["try_number"] > 1:
            print(f"retried: {one['task_id']} of {one['day']}, attempt {one['try_number']} on {one['hostname']}")


def test_a_worker_that_froze_and_wakes_beside_its_retry_leaves_the_date_right(workers):
    """Its task goes on while the retry has already committed, as after a network partition."""
    day = "2024-02-01"
    with workers.project.source.connect() as lock, lock.cursor() as cursor:
        lock.autocommit = False
        cursor.execute("LOCK TABLE crm.leads IN ACCESS EXCLUSIVE MODE")
        assert workers.trigger(conf={"date": day})[0] == 200
        name, meltano = until(lambda: next(((name, found[0]) for name in ("w1", "w2")
                                            if (found := at_work(workers, name, "extract_crm"))), None), "an extract")
        supervisor = next(one for one in meltano.parents() if one.parent().pid == workers.worker(name).pid)
        frozen = [supervisor, *supervisor.children(recursive=True)]
        for process in frozen:
            process.suspend()
        run = workers.runs(day)[day]
        print(f"\n{name} frozen with extract_crm of {day}", flush=True)

        def attempt() -> dict:
            return next(one for one in workers.instances(run) if one["task_id"] == "extract_crm")

        first = attempt()["try_number"]
        until(lambda: attempt()["try_number"] > first and attempt()["state"] == "running", "a retry")
        lock.rollback()
    until(lambda: attempt()["state"] == "success", "the retry's end")
    committed = manifest(workers, day)
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    psutil.wait_procs(frozen, timeout=120)
    until(lambda: workers.runs(day)[day]["state"] == "success", "the date")
    assert manifest(workers, day) == committed  # the frozen one's rows replaced nothing
    assert f"{TABLES} of {TABLES} tables equal" in workers.project.landing("verify", day).stdout
    print(f"{name} woke after the commit of the retry on {attempt()['hostname']}; {DAG} is green", flush=True)


def manifest(workers: Fleet, day: str) -> bytes:
    """The manifest of crm's date."""
    key, = (key for key in workers.store.keys() if f"source=crm/extracted_at={day}/_manifest.json" in key)  # noqa: SIM118
    return workers.store.read(key)
