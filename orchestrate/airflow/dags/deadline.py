"""deadline: at ALERT_DEADLINE, one message to ALERT_URLS if the day's date is not complete.

It looks at landing zone and warehouse, not at runs of the other DAG, so it also finds a run that never began. Without
ALERT_DEADLINE there is no such DAG.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowException
from landing.api import extract_command, load_command, parse_date
from meltano_dags import alerts
from meltano_dags.commands import ROOT, environment

SCHEMA = os.environ.get("SCHEMA") or "public"
COMPLETE = ("identical", "loaded")  # states of `landing plan`


def landing(*arguments: str) -> Any:
    """What a `landing` command answers. Raises AirflowException with its error if it has no answer."""
    command = [str(ROOT / "plugins/.venv/bin/landing"), *arguments, "--schema", SCHEMA, "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": {"message": done.stderr.strip()}}
    if "error" in answer:
        raise AirflowException(f"landing {arguments[0]} failed: {answer['error']['message']}")
    return answer


def missing(day: str) -> list[str]:
    """What a date lacks, with the last errors and the commands to run; empty if it is complete."""
    plan = landing("plan", "--from", day, "--to", day)["dates"][0]
    if plan["state"] in COMPLETE:
        return []
    when, lines, commands = parse_date(day, "date"), [f"{plan['state']} ({plan['why']})."], []
    for source in landing("show", day)["sources"]:
        if source["source"] in plan["sources"] and not source["landed"]:
            last = source["attempts"][-1] if source["attempts"] else {"outcome": "no run yet", "message": None}
            lines.append(f"{source['source']}: {last['message'] or last['outcome']}")
            commands.append(extract_command(source["source"], when))
    return [*lines, "To complete it, run:", *commands, load_command(when, SCHEMA)]


def check() -> str:
    """Send a message if the date is not complete."""
    context = get_current_context()
    at = context["dag_run"].run_after.astimezone(UTC)
    day = context["params"]["date"] or at.date().isoformat()
    if not context["params"]["date"] and at.date() < datetime.now(UTC).date():
        return f"{day} is over: Airflow, or this DAG, began later"
    try:
        found = missing(day)
    except Exception as error:
        why = str(error) if isinstance(error, AirflowException) else f"{type(error).__name__}: {error}"
        alerts.send(f"{day} could not be checked", why)
        raise
    if found:
        alerts.send(f"{day} is late", "\n".join([f"At {at:%H:%M} UTC, {day} is not complete: {found[0]}", *found[1:]]))
    return f"{day} is late" if found else f"{day} is complete"


if at := alerts.deadline():
    with DAG(
        "deadline",
        description=f"One message if a date is not complete at {at:%H:%M} UTC",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(f"{at.minute} {at.hour} * * *", timezone="UTC"),
        start_date=datetime(2000, 1, 1, tzinfo=UTC),
        catchup=False,
        is_paused_upon_creation=False,
        params={"date": Param(None, type=["null", "string"], format="date", title="Date (UTC)",
                              description="Date to check. Empty: today.")},
        tags=["landing"],
    ):
        task(check)()
