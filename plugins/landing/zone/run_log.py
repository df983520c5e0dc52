"""What was tried: a log for each date of a source, which is there before the date is, and when it never comes to be.

    <root>/_attempts/<source>@<date>.jsonl

A line when a run begins (`run_id`, `started_at`), and one when it ends (`run_id`, `ended_at`, `outcome`, and `landed`,
the run id in the manifest, or `error`, the class of what went wrong: a message may hold values). Who is killed says
nothing.
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
from pathlib import Path

from landing.core.dates import now, parse_date, run_date
from landing.core.errors import SettingError
from landing.core.settings import landing_root
from landing.core.sources import NAME, source_name, stock_source
from landing.model.naming import new_run_id
from landing.storage.local import make_folder

FOLDER = "_attempts"
COMMITTED, KEPT, FAILED, DROPPED = "committed", "kept", "failed", "dropped"
OPEN = "killed, or at work"
logger = logging.getLogger("target-csv")


@dataclass(frozen=True)
class Run:
    """One run that was to land a source's date; times in ISO 8601, UTC."""

    run_id: str
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str = OPEN
    landed: str | None = None
    error: str | None = None


def path_of(root: Path, source: str, day: date) -> Path:
    """The log of a source's date."""
    return root / FOLDER / f"{source}@{day}.jsonl"


def read(root: Path, source: str, day: date) -> list[Run]:
    """Attempts at a source's date, in order of their beginning; lines that a full disk cut short are left out."""
    found: dict[str, Run] = {}
    try:
        lines = path_of(root, source, day).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            said = json.loads(line)
            found[said["run_id"]] = replace(found.get(said["run_id"], Run(said["run_id"])), **said)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return list(found.values())


def logs(root: Path) -> Iterator[tuple[str, date, Path]]:
    """Every log: its source, its date, where it lies."""
    for path in sorted((root / FOLDER).glob("*@*.jsonl")):
        source, _, day = path.stem.rpartition("@")
        try:
            yield source, parse_date(day, "date"), path
        except SettingError:
            continue


class RunLog:
    """The words of one run. That they can't be written is said, and stops nothing."""

    def __init__(self, root: Path, run_id: str, day: date) -> None:
        self.root, self.run_id, self.day = root, run_id, day
        self.started_at = now()
        self._path: Path | None = None
        self._ended = False

    def begin(self, source: str | None) -> None:
        """Say so once, as soon as it is known which source this is."""
        if self._path is None and source and NAME.fullmatch(source):
            self._path = path_of(self.root, source, self.day)
            self._write(started_at=self.started_at.isoformat(timespec="seconds"))

    def end(self, outcome: str, *, landed: str | None = None, error: str | None = None) -> None:
        """Say how it ended; only the first word counts."""
        if self._path is None or self._ended:
            return
        self._ended = True
        more = {name: value for name, value in (("landed", landed), ("error", error)) if value}
        self._write(ended_at=now().isoformat(timespec="seconds"), outcome=outcome, **more)

    def _write(self, **said: str) -> None:
        """One write to the end of the file: lines of runs side by side stay whole."""
        line = json.dumps({"run_id": self.run_id, **said}) + "\n"
        try:
            make_folder(self._path.parent)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.warning("The log of attempts could not be written: %s", error)


@contextlib.contextmanager
def log_discovery_failure(tap: str) -> Iterator[None]:
    """Note a failure of `--discover` for the date that DATESTAMP names: Meltano then starts no target that would.

    Without DATESTAMP it is not known that this was about a date: `meltano select` discovers, too.
    """
    try:
        yield
    except Exception as error:
        environ = os.environ
        if "--discover" in sys.argv and "DATESTAMP" in environ and environ.get("MELTANO_ENVIRONMENT") != "load":
            with contextlib.suppress(SettingError):
                root = landing_root(environ.get("MELTANO_EXTRACT_LANDING_ROOT"))
                log = RunLog(root, new_run_id(), run_date("DATESTAMP"))
                configured = environ.get("MELTANO_EXTRACT_SOURCE") or None
                log.begin(source_name(configured, stock_source(tap.removeprefix("tap-"))))
                log.end(FAILED, error=type(error).__name__)
        raise
