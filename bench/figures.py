"""Medians and ratios of a result's runs: of whole runs, and net of the cost of starting up.

`who` is a contestant's name, `data` a data set's, `phases` a tuple of phases: several are a job of several steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

EXTRACT, LOAD, LOAD_KEY, VERIFY = ("extract",), ("load",), ("load_key",), ("verify",)
WHOLE = ("extract", "load_key")
LABELS = {EXTRACT: "extract", LOAD: "load without a key", LOAD_KEY: "load with its key", WHOLE: "extract and load",
          VERIFY: "verify"}
DISTURBED = 0.1  # share of the machine's CPU; the kernel's own writing takes some
LIMIT, PSQL, OURS, TRIVIAL = "psql, 2 connections", "psql, 1 connection", "landing", "trivial meltano run"


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, the least and the most."""

    middle: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        found = [*values]
        return cls(median(found), min(found), max(found), len(found)) if found else None


class Figures:
    """What can be asked of a result. What was not run is None."""

    def __init__(self, result: dict, name: str = "") -> None:
        self.result, self.name = result, name or result["date"]
        self.runs = [run for run in result["runs"] if "failed" not in run]
        self.failed = [run for run in result["runs"] if "failed" in run]

    @classmethod
    def read(cls, path: Path) -> Figures:
        return cls(json.loads(path.read_text()), path.stem)

    def of(self, who: str, data: str, phase: str) -> list[dict]:
        """All runs of one phase."""
        return [run for run in self.runs if (run["contestant"], run["data"], run["phase"]) == (who, data, phase)]

    def median(self, who: str, data: str, phase: str, field: str) -> float | None:
        """Of seconds, cpu, server_cpu or bytes."""
        values = [run[field] for run in self.of(who, data, phase)]
        return median(values) if values else None

    def fixed(self, who: str, phase: str) -> float | None:
        """Seconds with no rows. Of all rounds: one run that somebody disturbed would make every rate too good."""
        return self.median(who, "empty", phase, "seconds")

    def own(self, who: str, data: str, phase: str) -> str:
        """The data set itself, or the sample, where it was too much to run."""
        return data if self.of(who, data, phase) else "sample"

    def seconds(self, who: str, data: str, phases: Sequence[str], net: bool = False) -> dict[int, float]:
        """Seconds in each round that has all phases; `net` of the median of starting up, if that was measured.

        A run of which nothing is left after start-up measured nothing.
        """
        rounds: dict[int, list[float]] = {}
        for phase in phases:
            off = self.fixed(who, phase) if net else 0.0
            if off is None:
                return {}
            found: dict[int, list[float]] = {}
            for run in self.of(who, self.own(who, data, phase), phase):
                if run["seconds"] > off:
                    found.setdefault(run["round"], []).append(run["seconds"] - off)
            for number, values in found.items():
                rounds.setdefault(number, []).append(median(values))
        return {number: sum(parts) for number, parts in rounds.items() if len(parts) == len(phases)}

    def per_row(self, who: str, data: str, phases: Sequence[str], net: bool = False) -> dict[int, float]:
        """Seconds a row in each round."""
        rows = self.rows(self.own(who, data, phases[0]))
        found = self.seconds(who, data, phases, net)
        return {number: taken / rows for number, taken in found.items()} if rows else {}

    def rate(self, who: str, data: str, phases: Sequence[str], net: bool = False) -> float | None:
        """Rows a second."""
        found = self.per_row(who, data, phases, net)
        return 1 / median(found.values()) if found else None

    def faster(self, who: str, than: str, data: str, phases: Sequence[str], net: bool = False) -> Spread | None:
        """How many times as fast, a row."""
        return within(self.per_row(than, data, phases, net), self.per_row(who, data, phases, net))

    def growth(self, who: str, small: str, large: str, phases: Sequence[str], net: bool = False) -> Spread | None:
        """What a row of the larger data set costs, to one of the smaller."""
        return within(self.per_row(who, large, phases, net), self.per_row(who, small, phases, net))

    def disturbed(self) -> float:
        """The share of the machine's CPU that others took while we measured (0 to 1)."""
        cores = self.result["machine"]["cores"]
        seconds = sum(run["seconds"] for run in self.runs)
        return sum(run["others_cpu"] for run in self.runs) / (seconds * cores) if seconds else 0.0

    def is_disturbed(self) -> bool:
        """Whether that was so much that the result counts for nothing."""
        return self.disturbed() > DISTURBED

    def peaks(self, who: str, data: str, phase: str) -> dict[str, float]:
        """Peak memory (MB) of each program."""
        found: dict[str, float] = {}
        for run in self.of(who, data, phase):
            for name, peak in run["peaks"].items():
                found[name] = max(peak, found.get(name, 0.0))
        return found

    def peak(self, who: str, data: str, phases: Sequence[str]) -> float:
        """Of the largest process."""
        return max((peak for phase in phases for peak in self.peaks(who, data, phase).values()), default=0.0)

    def rows(self, data: str) -> int:
        """Of a data set; 0 if it was not run."""
        return next((run["rows"] for run in self.runs if run["data"] == data), 0)

    def datasets(self, prefix: str) -> list[str]:
        """Names of the data sets that were run, the smallest first."""
        rows = {run["data"]: run["rows"] for run in self.runs if run["data"].startswith(prefix)}
        return sorted(rows, key=rows.__getitem__)


def within(over: Mapping[int, float], under: Mapping[int, float]) -> Spread | None:
    """Ratios taken within each round, since a machine's speed drifts; without a common round, of the medians."""
    if common := over.keys() & under.keys():
        return Spread.of(over[number] / under[number] for number in common)
    return Spread.of([median(over.values()) / median(under.values())]) if over and under else None
