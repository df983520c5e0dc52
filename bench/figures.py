"""Medians and ratios of a result's runs, with the cost of starting up taken off.

`who` is a contestant's name, `data` a data set's, `phases` a tuple of phases: several are a job of several steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

EXTRACT, LOAD, LOAD_KEY = ("extract",), ("load",), ("load_key",)
WHOLE = ("extract", "load_key")
LIMIT, PSQL, OURS, TRIVIAL = "psql, 2 connections", "psql, 1 connection", "landing", "trivial meltano run"


class Figures:
    """What can be asked of a result. What was not run is None."""

    def __init__(self, result: dict) -> None:
        self.result = result
        self.runs = [run for run in result["runs"] if "failed" not in run]
        self.failed = [run for run in result["runs"] if "failed" in run]

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

    def net(self, who: str, data: str, phases: Sequence[str]) -> dict[int, float]:
        """Seconds a row in each round, start-up taken off; of the sample, where the data set was too much to run.

        A round in which nothing is left after start-up measured nothing, and is left out.
        """
        rounds: dict[int, list[float]] = {}
        for phase in phases:
            runs = self.of(who, data, phase) or self.of(who, "sample", phase)
            for run in runs:
                net = run["seconds"] - (self.fixed(who, phase) or 0)
                if net > 0 and run["rows"]:
                    rounds.setdefault(run["round"], []).append(net / run["rows"])
        return {number: sum(parts) for number, parts in rounds.items() if len(parts) == len(phases)}

    def rate(self, who: str, data: str, phases: Sequence[str]) -> float | None:
        """Rows a second."""
        net = self.net(who, data, phases)
        return 1 / median(net.values()) if net else None

    def faster(self, who: str, than: str, data: str, phases: Sequence[str]) -> float | None:
        """How many times as fast, taken within each round, since a machine's speed drifts."""
        mine, theirs = self.net(who, data, phases), self.net(than, data, phases)
        common = mine.keys() & theirs.keys()
        if common:
            return median(theirs[number] / mine[number] for number in common)
        return median(theirs.values()) / median(mine.values()) if mine and theirs else None

    def disturbed(self) -> float:
        """The share of the machine's CPU that others took while we measured (0 to 1)."""
        cores = self.result["machine"]["cores"]
        seconds = sum(run["seconds"] for run in self.runs)
        return sum(run["others_cpu"] for run in self.runs) / (seconds * cores) if seconds else 0.0

    def peaks(self, who: str, data: str, phase: str) -> dict[str, float]:
        """Peak memory (MB) of each program."""
        found: dict[str, float] = {}
        for run in self.of(who, data, phase):
            for name, peak in run["peaks"].items():
                found[name] = max(peak, found.get(name, 0.0))
        return found
