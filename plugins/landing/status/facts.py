"""The facts of `landing status`: what each source has of each date, how old it is, and how its runs ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from landing.load.refusals import Refusal
from landing.model.summary import Summary
from landing.status.loaded import LoadedDate
from landing.zone.run_log import FAILED as RUN_FAILED
from landing.zone.run_log import Run

MAX_AGE = timedelta(hours=26)  # a day, and two hours for the run

GOOD, WAITING, BAD, NEUTRAL = "good", "waiting", "bad", "neutral"


class State(NamedTuple):
    """State of a source's date."""

    name: str
    symbol: str
    level: str
    meaning: str


LOADED = State("loaded", "●", GOOD, "landed and loaded")
LANDED = State("landed", "○", WAITING, "landed, not loaded")
UNKNOWN = State("unknown", "◌", NEUTRAL, "landed; the warehouse was not read")
STALE = State("stale", "◐", BAD, "loaded in part, or from an older run than is landed")
REFUSED = State("refused", "⊗", BAD, "landed; checks of its tables blocked the load")
FAILED = State("failed", "✕", BAD, "not landed: the last run failed")
UNFINISHED = State("unfinished", "…", WAITING, "not landed: a run started and has no end record")
DAMAGED = State("damaged", "!", BAD, "the manifest cannot be used")
DUE = State("due", "◔", WAITING, "not landed yet, today")
MISSING = State("missing", "□", BAD, "not landed, and the date needs it")
UNLANDED = State("loaded only", "◇", NEUTRAL, "loaded, no longer landed")
DROPPED = State("dropped", "⊘", NEUTRAL, "removed by landing drop")
NOTHING = State("nothing", "·", NEUTRAL, "nothing landed, no run")
STATES = (LOADED, LANDED, UNKNOWN, STALE, REFUSED, FAILED, UNFINISHED, DUE, MISSING, DAMAGED, UNLANDED, DROPPED,
          NOTHING)


@dataclass(frozen=True)
class SourceDate:
    """A source's date. `problem` is what a person should know, in sentences; `command` what to run then.

    `refused`: the checks that blocked its load.
    """

    day: date
    state: State
    landed: Summary | None
    loaded: LoadedDate | None
    runs: list[Run]
    problem: str | None = None
    command: str | None = None
    refused: Sequence[Refusal] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        landed, loaded = self.landed, self.loaded
        return {
            "date": self.day, "state": self.state.name, "landed": landed and sums(landed),
            "loaded": loaded and {"rows": loaded.rows, "tables": sum(loaded.runs.values()),
                                  "loaded_at": loaded.loaded_at.isoformat()},
            "last_run": self.runs[-1].__dict__ if self.runs else None,
            "problem": self.problem, "command": self.command,
            "refused": [{"table": one.table, "check": one.check, "expected": one.expected, "found": one.found}
                        for one in self.refused]}


def sums(landed: Summary) -> dict[str, Any]:
    """A landed date for JSON."""
    return {"date": landed.extracted_at, "taken_at": landed.taken_at.isoformat(), "run_id": landed.run_id,
            "tables": len(landed.tables), "rows": landed.rows, "bytes": landed.bytes, "seconds": landed.seconds}


@dataclass(frozen=True)
class SourceStatus:
    """A source.

    Attributes:
        name: Its name.
        declared: Whether meltano.yml declares it. One that is not declared is never late.
        dates: The shown dates, the newest last.
        landed: Its newest landed date whose manifest can be read, shown or not.
        before: The one before that.
        loaded: Its newest loaded date with its day; None also if the warehouse was not read.
        landed_age: Time since the snapshot of `landed` or, if that was taken later, since the end of its date.
        loaded_age: Likewise, of `loaded`.
        late: What is too old or missing, in words. Empty: the source is fresh.
    """

    name: str
    declared: bool
    dates: list[SourceDate]
    landed: Summary | None
    before: Summary | None
    loaded: tuple[date, LoadedDate] | None
    landed_age: timedelta | None
    loaded_age: timedelta | None
    late: list[str]

    @property
    def state(self) -> str:
        """In a word."""
        return "not declared" if not self.declared else "late" if self.late else "fresh"

    @property
    def change(self) -> int | None:
        """Rows of the newest landed date, less those of the one before."""
        return self.landed.rows - self.before.rows if self.landed and self.before else None

    @property
    def last_run(self) -> tuple[date, Run] | None:
        """The run that started last, of the shown dates, with its date."""
        return max(self._runs(), key=_start, default=None)

    @property
    def last_error(self) -> tuple[date, Run] | None:
        """The failed run that started last, of the shown dates, with its date."""
        return max((one for one in self._runs() if one[1].outcome == RUN_FAILED), key=_start, default=None)

    def _runs(self) -> Iterator[tuple[date, Run]]:
        return ((one.day, run) for one in self.dates for run in one.runs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        loaded = self.loaded and {"date": self.loaded[0], "rows": self.loaded[1].rows,
                                  "snapshot_at": self.loaded[1].snapshot_at.isoformat(),
                                  "loaded_at": self.loaded[1].loaded_at.isoformat()}
        return {"source": self.name, "state": self.state, "declared": self.declared, "late": self.late,
                "landed": self.landed and sums(self.landed), "landed_age_seconds": _seconds(self.landed_age),
                "change_rows": self.change, "loaded": loaded, "loaded_age_seconds": _seconds(self.loaded_age),
                "last_run": _run(self.last_run), "last_error": _run(self.last_error),
                "dates": [one.as_dict() for one in self.dates]}


@dataclass(frozen=True)
class Status:
    """All sources. `unreachable`: why the warehouse was not read; None if it was, or was not asked."""

    now: datetime
    root: str
    schema: str | None
    unreachable: str | None
    max_age: timedelta
    days: list[date]
    sources: list[SourceStatus]

    @property
    def late(self) -> list[str]:
        """What is too old or missing, in words."""
        return [f"{source.name}: {', '.join(source.late)}" for source in self.sources if source.late]

    def problems(self) -> list[tuple[SourceStatus, SourceDate]]:
        """The dates with something to know or do, the newest first."""
        found = [(source, one) for source in self.sources for one in source.dates if one.problem]
        return sorted(found, key=lambda pair: pair[1].day, reverse=True)

    def states(self) -> list[State]:
        """The states that occur, in the order of STATES."""
        used = {one.state for source in self.sources for one in source.dates}
        return [state for state in STATES if state in used]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"at": self.now.isoformat(timespec="seconds"), "root": self.root, "schema": self.schema,
                "warehouse_error": self.unreachable, "max_age_seconds": _seconds(self.max_age), "late": self.late,
                "sources": [source.as_dict() for source in self.sources]}


def _start(one: tuple[date, Run]) -> tuple[str, str]:
    return one[1].started_at or "", one[1].run_id


def _run(one: tuple[date, Run] | None) -> dict[str, Any] | None:
    return one and {"date": one[0], **one[1].__dict__}


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else round(age.total_seconds(), 1)
