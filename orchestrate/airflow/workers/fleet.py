"""Which workers there are: WORKER_QUEUES and WORKER_CONCURRENCY, in `.env` or the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from landing.api import SettingError, settings

from workers.policy.airflow_local_settings import source_queues

QUEUES = re.compile(r"[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*")
DEFAULT = "default"  # Airflow's queue of tasks without one


@dataclass(frozen=True)
class Worker:
    """A worker, its queues separated by commas, and how many tasks it runs at once."""

    name: str
    queues: str
    concurrency: int


def workers() -> list[Worker]:
    """One worker for each word of WORKER_QUEUES; two of the default queue if it is unset.

    Raises:
        SettingError: A value is malformed, or a queue that a task needs has no worker.
    """
    words = (settings().get("WORKER_QUEUES") or f"{DEFAULT} {DEFAULT}").split()
    for word in words:
        if not QUEUES.fullmatch(word):
            raise SettingError(f"WORKER_QUEUES: {word!r} is not a list of queues. Expected one word for each worker, "
                               "such as 'default,heavy default'. Correct it in .env, and run again.")
    taken = {queue for word in words for queue in word.split(",")}
    needed = {queue: f"source {source}" for source, queue in source_queues().items()}
    for queue, what in {DEFAULT: "load_to_postgres", **needed}.items():
        if queue not in taken:
            raise SettingError(f"No worker takes the queue {queue!r}, which {what} needs. Add it to WORKER_QUEUES in "
                               f".env ({' '.join(words)!r}), and run again.")
    return [Worker(f"w{number}", word, concurrency()) for number, word in enumerate(words, 1)]


def concurrency() -> int:
    """WORKER_CONCURRENCY: tasks that a worker runs at once (2)."""
    text = settings().get("WORKER_CONCURRENCY") or "2"
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 100):
        raise SettingError(f"WORKER_CONCURRENCY={text!r} is not a number from 1 to 99. Correct it in .env, and run "
                           "again.")
    return int(text)
