"""What a run consists of: who runs which phase of which data set in which round, and how long that may take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contestant import EXTRACT, LOAD, LOAD_KEY, VERIFY, Contestant
from data import EMPTY, LARGE, SALES, SAMPLE, WIDE_DATA, Data, lineitems, sales, small

EMPTY_RUNS = 3  # at least: start-up is taken off everything
WITHIN = 1.0  # s, guessed: what is done before and after each measurement


@dataclass(frozen=True)
class Step:
    """One measurement."""

    round: int
    data: Data
    phase: str
    who: type[Contestant]

    @property
    def guess(self) -> float:
        """Seconds, roughly."""
        return WITHIN + self.who.start + self.data.rows / self.who.rate + self.data.tables * 0.01


@dataclass(frozen=True)
class Plan:
    """What was asked for. `named`: contestants were named, so that each runs at every size."""

    who: tuple[type[Contestant], ...]
    phases: tuple[str, ...]
    sizes: tuple[int, ...]
    rounds: int
    csv_rows: int = 1_000_000
    tables: tuple[int, ...] = ()
    wide: bool = False
    named: bool = False
    repeat_large: bool = False
    startup: bool = True

    @property
    def datasets(self) -> list[Data]:
        """Those that somebody takes."""
        every = [*[EMPTY] * self.startup, SAMPLE, *map(lineitems, self.sizes), sales(self.csv_rows),
                 *map(small, self.tables), *[WIDE_DATA] * self.wide]
        return [data for data in every if any(self.takes(one, data, phase) for one in self.who
                                              for phase in self.phases)]

    def takes(self, one: type[Contestant], data: Data, phase: str) -> bool:
        """Whether a contestant runs a phase of a data set."""
        if phase not in self.phases or not one.takes(data, phase):
            return False
        if self.named or data in (EMPTY, SAMPLE) or data.shape is SALES:
            return True
        if data.rows >= LARGE and one.slow:
            return False
        usual = [rows for rows in self.sizes if rows < LARGE] or [*self.sizes]
        only = {"smallest": min, "largest": max}.get(one.only)
        return not (only and usual) or data.rows == only(usual)

    def steps(self) -> Iterator[Step]:
        """All measurements, in their order."""
        for number in range(1, self.rounds + 1):
            for data in self.datasets:
                for _ in range(-(-EMPTY_RUNS // self.rounds) if data is EMPTY else 1):
                    yield from self._round(number, data, self.who)
                if data is EMPTY:
                    yield from self._round(number, data, [one for one in self.who if one.twice])

    def _round(self, number: int, data: Data, who: Iterable[type[Contestant]]) -> Iterator[Step]:
        """Each phase by each contestant in turn, so that those who are compared run close to each other.

        What a contestant loaded is verified before the next one loads.
        """
        for phases in ((EXTRACT,), (LOAD,), (LOAD_KEY, VERIFY)):
            for one in who:
                for phase in phases:
                    if number <= self._rounds_of(one, data, phase) and self.takes(one, data, phase):
                        yield Step(number, data, phase, one)

    def _rounds_of(self, one: type[Contestant], data: Data, phase: str) -> int:
        once = one.slow or phase in one.once or (data.rows >= one.once_from and not self.repeat_large)
        return 1 if once else self.rounds

    @staticmethod
    def making(data: Data) -> float:
        """Seconds to make a source, roughly."""
        return data.rows / 150_000 + data.tables * 0.01

    def without_key(self, data: Data) -> bool:
        """Whether the source is needed without its key, too."""
        return any(one.from_keyless and self.takes(one, data, LOAD) for one in self.who)


class Progress:
    """The share of the run that is done, and when it will end: guesses, corrected by what the steps so far took."""

    def __init__(self, plan: Plan) -> None:
        self.total = sum(step.guess for step in plan.steps()) + sum(map(plan.making, plan.datasets))
        self.done, self.started = 0.0, time.monotonic()

    def add(self, guess: float) -> None:
        self.done += guess

    def __str__(self) -> str:
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        if share < 0.02:  # too early to tell
            return f"{share:4.0%}            "
        left = (time.monotonic() - self.started) * (1 - share) / share
        return f"{share:4.0%}  ends {time.strftime('%H:%M', time.localtime(time.time() + left))}"
