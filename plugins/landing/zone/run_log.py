"""Run log: every attempt to land a partition, also of partitions that never came to be.

A line when a run starts (`run_id`, `started_at`), and one when it ends (`run_id`, `ended_at`, `outcome`, and `landed`,
the run id in the manifest, or `error`, the class of the error: a message may hold values). A killed run writes no end
record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from landing.core.dates import now, parse_date, run_date
from landing.core.errors import SettingError
from landing.core.settings import landing_root
from landing.core.sources import NAME, source_name, stock_source
from landing.model.naming import new_run_id
from landing.storage.base import Storage
from landing.zone import layout
from landing.zone.landing_zone import LandingZone

COMMITTED, KEPT, FAILED, DROPPED = "committed", "kept", "failed", "dropped"
OPEN = "killed, or at work"
LARGEST = 64 << 20  # bytes of a log that are read
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


def read(storage: Storage, source: str, day: date) -> list[Run]:
    """Runs that tried to land a partition, in order of their start. Lines that a full disk cut short are left out."""
    found: dict[str, Run] = {}
    try:
        lines = storage.read(layout.run_log(source, day), LARGEST).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except ValueError as error:
        logger.warning("The run log of %s of %s cannot be read (%s).", source, day, error)
        return []
    for line in lines:
        try:
            event = {name: str(value) for name, value in json.loads(line).items() if value is not None}
            found[event["run_id"]] = replace(found.get(event["run_id"], Run(event["run_id"])), **event)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return list(found.values())


def logs(storage: Storage) -> Iterator[tuple[str, date, str]]:
    """Every log: its source, its date, its key."""
    for key in storage.files(layout.RUN_LOGS):
        name, _, suffix = key.rpartition("/")[2].rpartition(".")
        source, at, day = name.rpartition("@")
        if at and suffix == "jsonl":
            with contextlib.suppress(SettingError):
                yield source, parse_date(day, "date"), key


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

    def end(self, outcome: str, *, landed: str | None = None, error: str | None = None) -> None:
        """Write the end record; only the first call counts."""
        if self._key is None or self._ended:
            return
        self._ended = True
        more = {name: value for name, value in (("landed", landed), ("error", error)) if value}
        self._write(ended_at=now().isoformat(timespec="seconds"), outcome=outcome, **more)

    def _write(self, **event: str) -> None:
        """Append one line in one write: lines of concurrent runs stay whole."""
        line = json.dumps({"run_id": self.run_id, **event}) + "\n"
        try:
            self.storage.append(self._key, line.encode())
        except OSError as error:
            logger.warning("The run log could not be written: %s", error)


@contextlib.contextmanager
def log_discovery_failure(tap: str) -> Iterator[None]:
    """Log a failure of `--discover` for the date that DATESTAMP names: Meltano starts no target then, which would.

    Without DATESTAMP the discovery need not be part of a run: `meltano select` discovers too.
    """
    try:
        yield
    except Exception as error:
        environ = os.environ
        if "--discover" in sys.argv and "DATESTAMP" in environ and environ.get("MELTANO_ENVIRONMENT") != "load":
            with contextlib.suppress(SettingError):
                root = landing_root(environ.get("MELTANO_EXTRACT_LANDING_ROOT"))
                log = RunLog(LandingZone.at(root).storage, new_run_id(), run_date("DATESTAMP"))
                configured = environ.get("MELTANO_EXTRACT_SOURCE") or None
                log.begin(source_name(configured, stock_source(tap.removeprefix("tap-"))))
                log.end(FAILED, error=type(error).__name__)
        raise
