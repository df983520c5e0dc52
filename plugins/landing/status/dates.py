"""The state of a source's date: what a person should know of it, and what to run then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from landing.core.commands import extract_command, load_command, without_command
from landing.core.errors import DamagedError
from landing.core.sources import has_files_of_each_date
from landing.load.refusals import Refusal
from landing.model.summary import Summary
from landing.model.validation import moment
from landing.status.facts import (
    DAMAGED,
    DROPPED,
    DUE,
    FAILED,
    LANDED,
    LOADED,
    MISSING,
    NOTHING,
    REFUSED,
    STALE,
    UNFINISHED,
    UNKNOWN,
    UNLANDED,
    SourceDate,
    State,
)
from landing.status.loaded import LoadedDate
from landing.zone import run_log
from landing.zone.gc import DEAD_AFTER
from landing.zone.run_log import Run

AT_WORK = timedelta(hours=DEAD_AFTER)  # a run without an end record may be at work for so long
KEPT = " The landed date is unchanged."
TODAYS_ROWS = " That day is past: an extract now takes today's rows."


@dataclass(frozen=True)
class Found:
    """What there is of a source's date.

    `loaded_known`: the warehouse was read. `missing`: if other sources are landed, and the date is not complete without
    this one: all such sources. `refused`: checks that blocked a load of it.
    """

    source: str
    day: date
    landed: Summary | DamagedError | None
    loaded: LoadedDate | None
    loaded_known: bool
    runs: list[Run]
    missing: Sequence[str]
    refused: Sequence[Refusal] = ()

    def judged(self, now: datetime, schema: str) -> SourceDate:
        """With its state, its problem, and the command."""
        landed = None if isinstance(self.landed, DamagedError) else self.landed
        refused = [one for one in self.refused if landed and one.run_id == landed.run_id]
        state = REFUSED if refused else self._state(landed, now)
        problem, command = (_refused(refused), load_command(self.day, schema)) if refused else (
            self._problem(state, landed, now, schema))
        return SourceDate(self.day, state, landed, self.loaded, self.runs, problem, command, refused)

    def _state(self, landed: Summary | None, now: datetime) -> State:
        if isinstance(self.landed, DamagedError):
            return DAMAGED
        if landed:
            return UNKNOWN if not self.loaded_known else self._load_state(landed)
        if self.loaded:
            return UNLANDED
        outcome = self.runs[-1].outcome if self.runs else None
        by_outcome = {run_log.FAILED: FAILED, run_log.OPEN: UNFINISHED, run_log.DROPPED: DROPPED}
        if state := by_outcome.get(outcome):
            return state
        return NOTHING if not self.missing else DUE if self.day == now.date() else MISSING

    def _load_state(self, landed: Summary) -> State:
        if self.loaded is None:
            return LANDED if landed.tables else LOADED
        return LOADED if self.loaded.runs == {landed.run_id: len(landed.tables)} else STALE

    def _problem(self, state: State, landed: Summary | None, now: datetime,
                 schema: str) -> tuple[str | None, str | None]:
        if state == DAMAGED:
            return str(self.landed), None  # which has the command
        if state == STALE:
            return self._stale(landed), load_command(self.day, schema)
        again = extract_command(self.source, self.day)
        if state == MISSING:
            return ("Not landed.", again) if self._has_own_files() else self._past("Not landed.")
        if not self.runs or self.runs[-1].outcome not in (run_log.FAILED, run_log.OPEN):
            return None, None
        what = _unsuccessful(self.runs[-1], now)
        if self.day >= now.date() or (not landed and self._has_own_files()):
            return what + KEPT * bool(landed), again
        if landed:
            return what + KEPT, f"REEXTRACT=true {again}"
        return self._past(what) if self.missing else (what + TODAYS_ROWS, again)

    def _has_own_files(self) -> bool:
        return has_files_of_each_date(self.source, self.day)

    def _past(self, what: str) -> tuple[str, str]:
        """Not landed on its day: the rows of that day are gone."""
        names = "it" if len(self.missing) == 1 else ", ".join(self.missing)
        return f"{what}{TODAYS_ROWS} To load the date without {names}, run:", without_command(self.missing, self.day)

    def _stale(self, landed: Summary) -> str:
        runs = self.loaded.runs
        if others := sorted({*runs} - {landed.run_id}):
            return f"The warehouse has run {', '.join(others)}; landed is run {landed.run_id}."
        return f"{runs[landed.run_id]} of {len(landed.tables)} tables are loaded."


def _refused(refused: Sequence[Refusal]) -> str:
    checks = "; ".join(f"{one.table}, {one.check}: expected {one.expected}, found {one.found}" for one in refused)
    return f"Checks blocked its load at {refused[0].at:%Y-%m-%d %H:%M} UTC: {checks}. The views are unchanged."


def _unsuccessful(run: Run, now: datetime) -> str:
    if run.outcome == run_log.FAILED:
        return f"The last run failed at {clock(run.ended_at)}: {error_of(run)}"
    since = _moment(run.started_at)
    state = "killed" if since and now - since > AT_WORK else "at work, or killed"
    return f"The run that started at {clock(run.started_at)} has no end record: {state}."


def error_of(run: Run) -> str:
    """The error of a failed run: its message, else its class, as one or more sentences."""
    return f"{' '.join((run.message or run.error or 'unknown error').split()).rstrip('.')}."


def _moment(text: str | None) -> datetime | None:
    try:
        found = moment(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def clock(text: str | None) -> str:
    """A time of a run log, to the minute."""
    found = _moment(text)
    return f"{found:%Y-%m-%d %H:%M} UTC" if found else "an unknown time"
