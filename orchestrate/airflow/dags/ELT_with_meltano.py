"""ELT_with_meltano: extract every declared source for one date, load the date, verify it.

One run is one date, the run's partition key. Each task runs one command. If it fails, its log ends with that command;
clear the task to retry.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

ROOT = Path(__file__).resolve().parents[3]
os.environ.setdefault("MELTANO_PROJECT_ROOT", str(ROOT))  # for an Airflow that Meltano did not start

from landing.api import (  # noqa: E402
    JOB_PREFIX,
    LOG_FORMAT,
    DamagedError,
    LandedDate,
    LandingZone,
    Manifest,
    SettingError,
    declared_sources,
    extract_command,
    load_command,
    parse_date,
    parse_log,
    refuse_future,
    today,
)

SCHEMA = os.environ.get("SCHEMA") or "public"
LANDED = {source: Asset(f"landed_{source}", uri=f"landing://{source}") for source in declared_sources()}
LOADED = Asset(f"loaded_{SCHEMA}", uri=f"warehouse://{SCHEMA}")

# Linux: prctl option that sets the signal for the death of the parent.
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
GRACE = 30  # seconds between SIGTERM and SIGKILL

# Variables that select date, source or project. Commands must not inherit them from Airflow.
NOT_INHERITED = ("MELTANO_", "AIRFLOW_", "SOURCE", "DATESTAMP", "EXTRACTED_AT", "SCHEMA", "REEXTRACT", "RELOAD",
                "ALLOW_FEWER_TABLES", "WITHOUT_SOURCES", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV")


def date_of(context: Any) -> str:
    """Date of a run: parameter `date`, else partition key, else logical date, else the day of its creation."""
    run = context["dag_run"]
    moment = run.logical_date or run.run_after
    text = context["params"]["date"] or run.partition_key or moment.astimezone(timezone.utc).date().isoformat()
    try:
        return refuse_future(parse_date(text, "date"), "date").isoformat()
    except SettingError as error:
        raise AirflowFailException(str(error)) from None  # a retry cannot help


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without NOT_INHERITED, plus `variables`."""
    prefixes = tuple(name for name in NOT_INHERITED if name.endswith("_"))
    inherited = {name: value for name, value in os.environ.items()
                 if name not in NOT_INHERITED and not name.startswith(prefixes)}
    return {**inherited, "MELTANO_PROJECT_ROOT": str(ROOT), "NO_COLOR": "1", **variables}


def run(name: str, retry_command: str, command: list[str], **variables: str) -> None:
    """Run a command and copy its output to the task's log.

    Raises:
        AirflowException: It failed; with the last line of each plugin, Meltano's error, and the retry command.
    """
    errors, last = {}, "no output"
    print(f"$ {retry_command}", flush=True)
    with subprocess.Popen(command, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=_end_with_task) as process:
        try:
            for line in process.stdout:
                entry = parse_log(line)
                print(entry or line.rstrip("\n"), flush=True)
                if entry and entry.notable:
                    errors[entry.origin] = f"{entry.origin}: {entry.message}"
                last = line.strip() or last
        except BaseException:  # a timeout or Ctrl-C: the command must not outlive its task
            _end(process)
            raise
    if process.returncode:
        reason = " ".join(errors.values()) or last
        raise AirflowException(f"{name} failed (exit status {process.returncode}): {reason}\n"
                               f"To retry, clear this task or run: {retry_command}")


def _end_with_task() -> None:
    """In the child: end the command if its task is killed by SIGKILL. Meltano then ends its plugins.

    Airflow's SIGTERM reaches the whole process group without this.
    """
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def meltano(name: str, retry_command: str, job: str, day: str, **variables: str) -> None:
    """Run `meltano run` with its own system folder: concurrent runs would overwrite each other's files in a shared one.

    --force: otherwise a killed run blocks its retry for five minutes. The commit lock and the warehouse lock already
    serialize two runs of one date.
    """
    with tempfile.TemporaryDirectory(prefix="meltano-") as folder:
        command = [str(ROOT / ".venv/bin/meltano"), *LOG_FORMAT, "run", "--force",
                   "--state-id-suffix", day, job]
        run(name, retry_command, command, MELTANO_SYS_DIR_ROOT=folder, **variables)


def summary(manifest: Manifest) -> dict[str, Any]:
    """A landed partition, for the asset event."""
    return {"source": manifest.source, "extracted_at": manifest.extracted_at.isoformat(), "run_id": manifest.run_id,
            "tables": len(manifest.tables), "rows": sum(table.rows for table in manifest.tables)}


def extract(source: str) -> dict[str, Any]:
    """Extract one source for the run's date. A landed past date is frozen unless `re_extract` is set.

    Skipped if the date is complete without the source: it was declared later, or `without_sources` names it.
    """
    context = get_current_context()
    day = date_of(context)
    when = parse_date(day, "date")
    landed = landed_date(context)
    if source not in landed.sources:
        raise AirflowSkipException(f"{source} is not extracted for {day}: the date is complete without it.")
    if source in landed.missing and when < today():
        print(f"{day} is past and {source} is not landed: this takes today's rows. To load the date without it "
              f"instead, trigger it with without_sources: {source}.", flush=True)
    retry_command, flags = extract_command(source, when), {}
    if context["params"]["re_extract"]:
        retry_command, flags = f"REEXTRACT=true {retry_command}", {"REEXTRACT": "true"}
    before = landed_run(source, day)
    meltano(f"Extract of {source} for {day}", retry_command, JOB_PREFIX + source, day,
            MELTANO_ENVIRONMENT="extract", SOURCE=source, DATESTAMP=day, **flags)
    manifest = LandingZone.configured().require(source, when)
    did = "already landed, frozen" if before == manifest.run_id else "extracted again" if before else "extracted"
    print(f"{source} of {day}: {did}.", flush=True)
    extra = {**summary(manifest), "did": did}
    context["outlet_events"][LANDED[source]].extra = extra
    return extra


def landed_run(source: str, day: str) -> str | None:
    """Run id of the landed partition; None if it is missing or damaged."""
    try:
        manifest = LandingZone.configured().manifest(source, parse_date(day, "date"))
    except DamagedError:
        return None
    return manifest.run_id if manifest else None


def landed_date(context: Any) -> LandedDate:
    """The run's date in the landing zone, without the sources that the run leaves out."""
    names = left_out(context).get("WITHOUT_SOURCES", "").split(",")
    landed = LandedDate(LandingZone.configured(), parse_date(date_of(context), "date"), without=[*filter(None, names)])
    try:
        landed.required()
    except SettingError as error:
        raise AirflowFailException(str(error)) from None  # a retry cannot help
    return landed


def left_out(context: Any) -> dict[str, str]:
    """The variable for the sources that the run leaves out, if any: the parameter `without_sources`."""
    names = "".join((context["params"].get("without_sources") or "").split())
    return {"WITHOUT_SOURCES": names} if names else {}


def load() -> dict[str, Any]:
    """Load all sources of the run's date in one atomic swap."""
    context = get_current_context()
    day = date_of(context)
    retry_command = load_command(parse_date(day, "date"), SCHEMA)
    if flags := left_out(context):
        retry_command = f"WITHOUT_SOURCES={shlex.quote(flags['WITHOUT_SOURCES'])} {retry_command}"
    meltano(f"Load of {day} into {SCHEMA}", retry_command, "load_to_postgres", day,
            MELTANO_ENVIRONMENT="load", SCHEMA=SCHEMA, EXTRACTED_AT=day, **flags)
    sources = [summary(manifest) for manifest in landed_date(context).manifests()]
    extra = {"schema": SCHEMA, "extracted_at": day, "rows": sum(source["rows"] for source in sources),
             "run_id": {source["source"]: source["run_id"] for source in sources}}
    context["outlet_events"][LOADED].extra = extra
    return extra


def validate() -> str:
    """Verify by checksum that source, files and warehouse match."""
    context = get_current_context()
    day = date_of(context)
    command = [str(ROOT / "plugins/.venv/bin/landing"), "verify", day, "--schema", SCHEMA]
    run(f"Validation of {day}", f"meltano invoke landing verify {day} --schema {SCHEMA}", command, **left_out(context))
    return f"{day}: source = files = warehouse"


with DAG(
    "ELT_with_meltano",
    description="Sources -> landing zone -> warehouse, one date per run",
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
                      description="Date to extract and load. Empty: today."),
        "re_extract": Param(False, type="boolean", title="Extract again",
                            description="Extract a landed past date again: today's rows overwrite those of that date. "
                            "Off: load what is landed."),
        "without_sources": Param(None, type=["null", "string"], title="Without sources",
                                 description="Sources to leave out of this date, separated by commas: for one whose "
                                 "extract failed on that day. Empty: none."),
    },
    tags=["meltano", "landing"],
) as dag:
    extracts = [task(extract, task_id=f"{JOB_PREFIX}{source}", outlets=[asset])(source)
                for source, asset in LANDED.items()]
    loaded = task(load, task_id="load_to_postgres", outlets=[LOADED], trigger_rule="none_failed")()
    extracts >> loaded >> task(validate, task_id="validate")()
