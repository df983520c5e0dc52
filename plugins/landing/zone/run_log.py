"""Run log: every attempt to land a partition, also of partitions that never came to be.

A line when a run starts (`run_id`, `started_at`), and one when it ends (`run_id`, `ended_at`, `outcome`, and `landed`,
the run id in the manifest, or `error` and `message`, the error's class and text). A killed run writes no end record.

A tap that fails writes a line of its own (`tap`, `host`, `group`, `at`, `error`, `message`): all that target-csv sees
is that the input ended, and its end record names the tap's error instead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from landing.core.dates import now, parse_date, run_date
from landing.core.errors import SettingError
from landing.core.reporting import stored
from landing.core.settings import landing_root
from landing.core.sources import NAME, source_name, stock_source
from landing.model.naming import new_run_id
from landing.storage.base import Storage
from landing.zone import layout
from landing.zone.landing_zone import LandingZone

COMMITTED, KEPT, FAILED, DROPPED = "committed", "kept", "failed", "dropped"
OPEN = "killed, or at work"
LARGEST = 64 << 20  # bytes of a log that are read
HOST = socket.gethostname()
START = timedelta(minutes=1)  # by which a tap may fail before its target has started
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run that was to land a source's date; times in ISO 8601, UTC."""

    run_id: str
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str = OPEN
    landed: str | None = None
    error: str | None = None
    message: str | None = None


def read(storage: Storage, source: str, day: date) -> list[Run]:
    """Runs that tried to land a partition, in order of their start. Lines that a full disk cut short are left out."""
    found: dict[str, Run] = {}
    for event in _events(storage, source, day):
        with contextlib.suppress(TypeError, KeyError, AttributeError):
            event = {name: str(value) for name, value in event.items() if value is not None}
            found[event["run_id"]] = replace(found.get(event["run_id"], Run(event["run_id"])), **event)
    return list(found.values())


def _events(storage: Storage, source: str, day: date) -> Iterator[Any]:
    try:
        lines = storage.read_all(layout.run_log(source, day), LARGEST).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        logger.warning("The run log of %s of %s cannot be read (%s).", source, day, error)
        return
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(line)


def logs(storage: Storage) -> Iterator[tuple[str, date, str]]:
    """Every log: its source, its date, its key."""
    found = storage.prefixes(layout.RUN_LOGS, links=False) if storage.in_place else storage.files(layout.RUN_LOGS)
    for key in found:
        name, _, suffix = key.rpartition("/")[2].rpartition(".")
        source, at, day = name.rpartition("@")
        if at and suffix == "jsonl":
            with contextlib.suppress(SettingError):
                yield source, parse_date(day, "date"), key


def remove(storage: Storage, key: str) -> None:
    """Remove a log."""
    if storage.in_place:
        storage.delete_all(key)
    else:
        storage.delete(key, up_to=layout.RUN_LOGS)


class RunLog:
    """One run's event log. Write failures are logged, never raised."""

    def __init__(self, storage: Storage, run_id: str, day: date) -> None:
        self.storage, self.run_id, self.day = storage, run_id, day
        self.started_at = now()
        self._key: str | None = None
        self._ended = False

    def begin(self, source: str | None) -> None:
        """Write the start record once the source is known."""
        if self._key is None and source and NAME.fullmatch(source):
            self._key = layout.run_log(source, self.day)
            self._write(started_at=self.started_at.isoformat(timespec="seconds"))

    def end(self, outcome: str, **more: str) -> None:
        """Write the end record, with `more` of the fields of Run; only the first call counts."""
        if self._key is None or self._ended:
            return
        self._ended = True
        self._write(ended_at=now().isoformat(timespec="seconds"), outcome=outcome, **more)

    def fail(self, error: BaseException, *, of_tap: bool = False, **more: str) -> None:
        """Write the end record of a failed run; `of_tap`: the tap's error, if it left one, is the cause."""
        self.end(**{"outcome": FAILED, **_told(error), **(self._tap_error() if of_tap else {}), **more})

    def tap_failed(self, tap: str, source: str | None, error: Exception) -> None:
        """Leave the error of a tap for its target, which is in the same process group."""
        if source and NAME.fullmatch(source):
            self._key = layout.run_log(source, self.day)
            self._append({"tap": tap, "host": HOST, "group": os.getpgrp(), "at": now().isoformat(timespec="seconds"),
                          **_told(error)})

    def _tap_error(self) -> dict[str, str]:
        if self._key is None:
            return {}
        source = self._key.rpartition("/")[2].rpartition("@")[0]
        since = (self.started_at - START).isoformat(timespec="seconds")
        found = {}
        for event in _events(self.storage, source, self.day):
            with contextlib.suppress(TypeError, KeyError):
                if (event["host"], event["group"]) == (HOST, os.getpgrp()) and event["at"] >= since:
                    found = {name: str(event[name]) for name in ("error", "message")}
        return found

    def _write(self, **event: str) -> None:
        self._append({"run_id": self.run_id, **event})

    def _append(self, event: dict[str, Any]) -> None:
        """Append one line in one write: lines of concurrent runs stay whole."""
        line = json.dumps(event) + "\n"
        try:
            self.storage.append(self._key, line.encode(), self.run_id)
        except OSError as error:
            logger.warning("The run log could not be written: %s", error)


def _told(error: BaseException) -> dict[str, str]:
    return {"error": type(error).__name__, "message": stored(error)}


@contextlib.contextmanager
def log_tap_failure(tap: str) -> Iterator[None]:
    """Log a tap's failure: of `--discover` as a failed run, since Meltano starts no target then; else for its target.

    Without DATESTAMP a discovery need not be part of a run: `meltano select` discovers too.
    """
    try:
        yield
    except Exception as error:
        discovers = "--discover" in sys.argv
        if os.environ.get("MELTANO_ENVIRONMENT") != "load" and ("DATESTAMP" in os.environ or not discovers):
            with contextlib.suppress(SettingError):
                root = landing_root(os.environ.get("MELTANO_EXTRACT_LANDING_ROOT"))
                log = RunLog(LandingZone.at(root).storage, new_run_id(), run_date("DATESTAMP"))
                configured = os.environ.get("MELTANO_EXTRACT_SOURCE") or None
                source = source_name(configured, stock_source(tap.removeprefix("tap-")))
                if discovers:
                    log.begin(source)
                    log.fail(error)
                else:
                    log.tap_failed(tap, source, error)
        raise
