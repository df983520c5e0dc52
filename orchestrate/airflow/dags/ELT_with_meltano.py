"""ELT_with_meltano: land every declared source of a date, load the date, prove it.

One run is one date, which is the run's partition key. Each task is one command that a person could type; its log ends
with that command where it failed, and clearing the task runs it again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

ROOT = Path(__file__).resolve().parents[3]
os.environ.setdefault("MELTANO_PROJECT_ROOT", str(ROOT))  # for an Airflow that Meltano did not start

from landing.api import (  # noqa: E402
    JOB_PREFIX,
    DamagedError,
    LandingZone,
    Manifest,
    SettingError,
    declared_sources,
    extract_command,
    load_command,
    parse_date,
    reached,
)

SCHEMA = os.environ.get("SCHEMA") or "public"
LANDED = {source: Asset(f"landed_{source}", uri=f"landing://{source}") for source in declared_sources()}
LOADED = Asset(f"loaded_{SCHEMA}", uri=f"warehouse://{SCHEMA}")

# Linux: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
GRACE = 30  # seconds for a command to end after SIGTERM

# What a command inherits must not decide what it does: these say which date, source and project a run is for.
DECIDED_HERE = ("MELTANO_", "AIRFLOW_", "SOURCE", "DATESTAMP", "EXTRACTED_AT", "SCHEMA", "REEXTRACT", "RELOAD",
                "ALLOW_FEWER_TABLES", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV")


def date_of(context: Any) -> str:
    """The date of a run: parameter `date`, else its partition, else its data interval's, else the day it was made."""
    run = context["dag_run"]
    moment = run.logical_date or run.run_after
    said = context["params"]["date"] or run.partition_key or moment.astimezone(timezone.utc).date().isoformat()
    try:
        return reached(parse_date(said, "date"), "date").isoformat()
    except SettingError as error:
        raise AirflowFailException(str(error)) from None  # no retry makes it a date of today or before


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would decide a run, and with `variables`."""
    decided = tuple(name for name in DECIDED_HERE if name.endswith("_"))
    kept = {name: value for name, value in os.environ.items()
            if name not in DECIDED_HERE and not name.startswith(decided)}
    return {**kept, "MELTANO_PROJECT_ROOT": str(ROOT), "NO_COLOR": "1", **variables}


def run(what: str, again: str, command: list[str], **variables: str) -> None:
    """Run a command, its output into the task's log; AirflowException says what failed, and what to type."""
    error, last = "", "it said nothing"
    print(f"$ {again}", flush=True)
    with subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=_end_with_task) as process:
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                _, is_error, said = line.partition("[error")
                if is_error and " cmd_type" not in said:
                    error = said.partition("] ")[2].strip() or line.strip()
                last = line.strip() or last
        except BaseException:  # a timeout, or Ctrl-C: no command outlives its task
            _end(process)
            raise
    if process.returncode:
        raise AirflowException(f"{what} failed (exit status {process.returncode}): {error or last}\n"
                               f"To run it again, clear this task, or type: {again}")


def _end_with_task() -> None:
    """In the child: a task that is killed without notice ends its command, and Meltano then ends its plugins.

    Airflow's own SIGTERM goes to the task's process group and so reaches all of them.
    """
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def meltano(what: str, again: str, job: str, day: str, **variables: str) -> None:
    """`meltano run` in a system folder of its own: runs at the same time would overwrite each other's files there.

    With --force, since a run that was killed would hold up its retry for five minutes. Commit lock and warehouse lock
    keep two runs of one date apart.
    """
    with tempfile.TemporaryDirectory(prefix="meltano-") as folder:
        command = [str(ROOT / ".venv/bin/meltano"), "--log-format", "uncolored", "run", "--force",
                   "--state-id-suffix", day, job]
        run(what, again, command, MELTANO_SYS_DIR_ROOT=folder, **variables)


def figures(manifest: Manifest) -> dict[str, Any]:
    """What an asset event says of a landed date."""
    return {"source": manifest.source, "extracted_at": manifest.extracted_at.isoformat(), "run_id": manifest.run_id,
            "tables": len(manifest.tables), "rows": sum(table.rows for table in manifest.tables)}


def extract(source: str) -> dict[str, Any]:
    """Land one source for the run's date; what is landed and past stays as it is without `re_extract`."""
    context = get_current_context()
    day = date_of(context)
    when = parse_date(day, "date")
    again, flags = extract_command(source, when), {}
    if context["params"]["re_extract"]:
        again, flags = f"REEXTRACT=true {again}", {"REEXTRACT": "true"}
    before = landed_run(source, day)
    meltano(f"Extract of {source} for {day}", again, JOB_PREFIX + source, day,
            MELTANO_ENVIRONMENT="extract", SOURCE=source, DATESTAMP=day, **flags)
    manifest = LandingZone.configured().require(source, when)
    did = "kept what was landed" if before == manifest.run_id else "extracted anew" if before else "extracted"
    print(f"{source} of {day}: {did}.", flush=True)
    extra = {**figures(manifest), "did": did}
    context["outlet_events"][LANDED[source]].extra = extra
    return extra


def landed_run(source: str, day: str) -> str | None:
    """The run that landed a date, if any; a damaged manifest is none."""
    try:
        manifest = LandingZone.configured().manifest(source, parse_date(day, "date"))
    except DamagedError:
        return None
    return manifest.run_id if manifest else None


def load() -> dict[str, Any]:
    """Load the run's date: every source, in one swap."""
    context = get_current_context()
    day = date_of(context)
    when = parse_date(day, "date")
    meltano(f"Load of {day} into {SCHEMA}", load_command(when, SCHEMA), "load_to_postgres", day,
            MELTANO_ENVIRONMENT="load", SCHEMA=SCHEMA, EXTRACTED_AT=day)
    sources = [figures(LandingZone.configured().require(source, when)) for source in LANDED]
    extra = {"schema": SCHEMA, "extracted_at": day, "rows": sum(source["rows"] for source in sources),
             "run_id": {source["source"]: source["run_id"] for source in sources}}
    context["outlet_events"][LOADED].extra = extra
    return extra


def validate() -> str:
    """Prove the run's date: source = files = warehouse."""
    day = date_of(get_current_context())
    command = [str(ROOT / "plugins/.venv/bin/landing"), "verify", day, "--schema", SCHEMA]
    run(f"Validation of {day}", f"meltano invoke landing verify {day} --schema {SCHEMA}", command)
    return f"{day}: source = files = warehouse"


with DAG(
    "ELT_with_meltano",
    description="Sources -> landing zone -> warehouse, one date a run",
    doc_md=__doc__,
    # Its partition key is the landing zone's extracted_at.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", key_format="%Y-%m-%d"),
    start_date=datetime(2000, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=4,
    # The first delay is Airflow's own setting: AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY.
    default_args={"retries": 2, "retry_exponential_backoff": 2, "max_retry_delay": timedelta(minutes=30)},
    params={
        "date": Param(None, type=["null", "string"], format="date", title="Date (UTC)",
                      description="Which date to land and load. Left empty: today."),
        "re_extract": Param(False, type="boolean", title="Extract again",
                            description="Take a past date again although it is landed: today's rows overwrite what was "
                            "true then. Left off, what is landed is loaded."),
    },
    tags=["meltano", "landing"],
) as dag:
    extracts = [task(extract, task_id=f"{JOB_PREFIX}{source}", outlets=[asset])(source)
                for source, asset in LANDED.items()]
    loaded = task(load, task_id="load_to_postgres", outlets=[LOADED])()
    extracts >> loaded >> task(validate, task_id="validate")()
