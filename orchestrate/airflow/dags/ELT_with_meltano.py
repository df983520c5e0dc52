"""ELT_with_meltano: extract every declared source for one date, load the date, verify it, transform it.

One run is one date, the run's partition key. Each task runs one command. If it fails, its log ends with the error and
that command; clear the task to retry. A failed run sends one message to ALERT_URLS.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronPartitionTimetable, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from landing.api import (
    JOB_PREFIX,
    DamagedError,
    LandedDate,
    LandingZone,
    LoadHistory,
    Manifest,
    SettingError,
    build_date,
    connect,
    declared_sources,
    extract_command,
    has_files_of_each_date,
    load_command,
    parse_date,
    refuse_future,
    today,
    transform_command,
    transform_is_set_up,
)
from meltano_dags import alerts
from meltano_dags.commands import ROOT, meltano, run

SCHEMA = os.environ.get("SCHEMA") or "public"
LANDED = {source: Asset(f"landed_{source}", uri=f"landing://{source}") for source in declared_sources()}
LOADED = Asset(f"loaded_{SCHEMA}", uri=f"warehouse://{SCHEMA}")
TRANSFORMED = Asset(f"transformed_{SCHEMA}", uri=f"transform://{SCHEMA}")
LOAD, VALIDATE, TRANSFORM = "load_to_postgres", "validate", "transform"
FAILURE = "failure"  # XCom: why a task failed


def date_text(context: Any) -> str:
    """Date of a run: parameter `date`, else partition key, else logical date, else the day of its creation."""
    run = context["dag_run"]
    moment = run.logical_date or run.run_after
    return context["params"]["date"] or run.partition_key or moment.astimezone(UTC).date().isoformat()


def date_of(context: Any) -> str:
    """The validated date of a run."""
    try:
        return refuse_future(parse_date(date_text(context), "date"), "date").isoformat()
    except SettingError as error:
        raise AirflowFailException(str(error)) from None  # a retry cannot help


def retry_command(task_id: str, context: Any) -> str:
    """The command of a task."""
    day = parse_date(date_of(context), "date")
    if task_id == TRANSFORM:
        return transform_command(day, SCHEMA)
    if task_id not in (LOAD, VALIDATE):
        again = "REEXTRACT=true " if context["params"]["re_extract"] else ""
        return again + extract_command(task_id.removeprefix(JOB_PREFIX), day)
    words = [f"{name}={shlex.quote(value)}" for name, value in left_out(context).items()]
    verify = f"meltano invoke landing verify {day} --schema {shlex.quote(SCHEMA)}"
    return " ".join([*words, load_command(day, SCHEMA) if task_id == LOAD else verify])


def summary(manifest: Manifest) -> dict[str, Any]:
    """A landed partition, for the asset event."""
    return {"source": manifest.source, "extracted_at": manifest.extracted_at.isoformat(), "run_id": manifest.run_id,
            "tables": len(manifest.tables), "rows": manifest.rows}


def explained(work: Callable[..., Any]) -> Callable[..., Any]:
    """Leave a task's error for alert()."""
    @functools.wraps(work)
    def inner(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        except AirflowSkipException:
            raise
        except BaseException as error:  # a timeout is one
            with contextlib.suppress(Exception):  # it must not hide the error
                context = get_current_context()
                text = str(error) if isinstance(error, AirflowException) else ended(
                    context["ti"].task_id, f"ended by {type(error).__name__}: {error}", context)
                context["ti"].xcom_push(FAILURE, text)
            raise
    return inner


@explained
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
    if source in landed.missing and when < today() and not has_files_of_each_date(source, when):
        print(f"{day} is past and {source} is not landed: this takes today's rows. To load the date without it "
              f"instead, trigger it with without_sources: {source}.", flush=True)
    flags = {"REEXTRACT": "true"} if context["params"]["re_extract"] else {}
    before = landed_run(source, day)
    meltano(f"Extract of {source} for {day}", retry_command(JOB_PREFIX + source, context), JOB_PREFIX + source, day,
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


@explained
def load() -> dict[str, Any]:
    """Load all sources of the run's date in one atomic swap."""
    context = get_current_context()
    day = date_of(context)
    meltano(f"Load of {day} into {SCHEMA}", retry_command(LOAD, context), LOAD, day,
            MELTANO_ENVIRONMENT="load", SCHEMA=SCHEMA, EXTRACTED_AT=day, **left_out(context))
    sources = [summary(manifest) for manifest in landed_date(context).manifests()]
    extra = {"schema": SCHEMA, "extracted_at": day, "rows": sum(source["rows"] for source in sources),
             "run_id": {source["source"]: source["run_id"] for source in sources}}
    context["outlet_events"][LOADED].extra = extra
    return extra


@explained
def validate() -> str:
    """Verify by checksum that source, files and warehouse match."""
    context = get_current_context()
    day = date_of(context)
    command = [str(ROOT / "plugins/.venv/bin/landing"), "verify", day, "--schema", SCHEMA]
    run(f"Validation of {day}", retry_command(VALIDATE, context), command, **left_out(context))
    return f"{day}: source = files = warehouse"


@explained
def transform() -> dict[str, Any]:
    """Build and test the models of the run's date. Skipped if a newer date is loaded, which the models show then."""
    context = get_current_context()
    day = date_of(context)
    newest = newest_loaded()
    if day < newest:
        raise AirflowSkipException(f"{newest} is loaded, and the models show the newest date. To build {day} beside "
                                   f"it, run: {retry_command(TRANSFORM, context)}")
    meltano(f"Transform of {day}", retry_command(TRANSFORM, context), TRANSFORM, day, SCHEMA=SCHEMA, EXTRACTED_AT=day)
    extra = {"schema": SCHEMA, "extracted_at": day}
    context["outlet_events"][TRANSFORMED].extra = extra
    return extra


def newest_loaded() -> str:
    """The newest loaded date of any source."""
    with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
        return build_date(LoadHistory(cursor, f"{SCHEMA}_history"), None).newest.isoformat()


def ended(task_id: str, how: str, context: Any) -> str:
    """A message about a task that ended without an error of its command."""
    return f"{task_id} {how}\nTo retry, clear this task or run: {retry_command(task_id, context)}"


def alert(context: Any) -> None:
    """Send one message about a failed run: what failed, and the retry commands. The DAG processor calls it."""
    run, ti = context["dag_run"], context["ti"]
    states = ti.get_task_states(run.dag_id, run_ids=[run.run_id])[run.run_id]
    failed = [task_id for task_id, state in states.items() if state == "failed"]
    parts = [ti.xcom_pull(task_id, key=FAILURE, run_id=run.run_id)
             or ended(task_id, "left no error: it was killed, or marked as failed by hand.", context)
             for task_id in failed]
    alerts.send(f"{date_text(context)}: {', '.join(failed)} failed", "\n\n".join(parts))


with DAG(
    "ELT_with_meltano",
    description="Sources -> landing zone -> warehouse -> models, one date per run",
    doc_md=__doc__,
    # Its partition key is the landing zone's extracted_at.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", key_format="%Y-%m-%d"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=4,
    on_failure_callback=alert,
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
    loaded = task(load, task_id=LOAD, outlets=[LOADED], trigger_rule="none_failed")()
    validated = task(validate, task_id=VALIDATE)()
    extracts >> loaded >> validated
    if transform_is_set_up():
        validated >> task(transform, task_id=TRANSFORM, outlets=[TRANSFORMED], max_active_tis_per_dag=1)()
