"""Airflow imports this module by its name: it pins sources to queues and names the workers of one machine apart.

SOURCE_QUEUES in `.env` or the environment, such as `crm=heavy,csv=files`: the tasks `extract_<source>` of these sources
run on workers that take these queues.
"""

from __future__ import annotations

import os
import re
from typing import Any

from landing.api import JOB_PREFIX, SettingError, declared_sources, settings

__all__ = ["task_policy"]  # others would become settings of Airflow

DAG_ID = "ELT_with_meltano"
PAIR = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)=([A-Za-z0-9_.-]+)")


def source_queues() -> dict[str, str]:
    """Queue of each pinned source. Raises SettingError if SOURCE_QUEUES is malformed or names an unknown source."""
    found = {}
    for word in re.split(r"[\s,]+", settings().get("SOURCE_QUEUES", "").strip(" ,")):
        pair = PAIR.fullmatch(word)
        if word and not pair:
            raise SettingError(f"SOURCE_QUEUES: {word!r} is not <source>=<queue>. Expected, for example, "
                               "SOURCE_QUEUES=crm=heavy,csv=files. Correct it in .env, and run again.")
        if pair and pair[1] not in declared_sources():
            raise SettingError(f"SOURCE_QUEUES names the source {pair[1]!r}. Declared sources: "
                               f"{', '.join(declared_sources())}. Correct it in .env, and run again.")
        if pair:
            found[pair[1]] = pair[2]
    return found


def task_policy(task: Any) -> None:
    """Set the queue of a pinned source's extract. Airflow calls it for each task of a DAG that it reads."""
    if task.dag_id == DAG_ID and task.task_id.startswith(JOB_PREFIX):
        task.queue = source_queues().get(task.task_id.removeprefix(JOB_PREFIX), task.queue)


def hostname() -> str:
    """A task instance's host: the worker's name and the machine's."""
    from airflow.utils.net import getfqdn  # here: only Airflow's own processes need it

    worker = os.environ.get("LANDING_WORKER")
    return f"{worker}@{getfqdn()}" if worker else getfqdn()
