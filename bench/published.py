"""The results that the documentation quotes: of each figure the newest that has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from figures import Figures, Spread

RESULTS = Path(__file__).resolve().parent / "results"
ENOUGH = 3  # rounds: a result with fewer does not replace an older one
PRIVATE = ("-short", "-some")  # trials, which git ignores, too


class Published:
    """All results in a folder, the newest first."""

    def __init__(self, folder: Path = RESULTS) -> None:
        paths = [path for path in folder.glob("*.json") if not path.stem.endswith(PRIVATE)]
        self.results = sorted(map(Figures.read, paths), key=lambda one: (one.result["date"], one.name), reverse=True)
        self.reports = sorted(one.name for one in self.results if (folder / f"{one.name}.md").exists())
        self.charts = [one.name for one in self.results if (folder / f"{one.name}.svg").exists()]

    def best(self, data: str, phases: Sequence[str], *who: str) -> Figures | None:
        """The newest result in which all of `who` ran a job; if need be a disturbed one, or with too few rounds."""
        having = [one for one in self.results if all(one.seconds(name, data, phases) for name in who)]
        rounds = {one.name: len(one.seconds(who[0], data, phases)) for one in having}
        return max(having, default=None,
                   key=lambda one: (not one.is_disturbed(), min(rounds[one.name], ENOUGH), one.result["date"],
                                    rounds[one.name]))

    def sizes(self) -> list[int]:
        """Numbers of rows of lineitem that any result has."""
        return sorted({one.rows(data) for one in self.results for data in one.datasets("lineitem")})

    def source(self, figures: Figures, up: str) -> str:
        """A link to the report, from a page that is `up` below the project's folder."""
        shown = figures.name
        return f"[{shown}]({up}bench/results/{shown}.md)" if shown in self.reports else f"`bench/results/{shown}.json`"


def spread(found: Spread | None, unit: str = "", exact: bool = False) -> str:
    """`13.6 (13.1 to 14.5)`; without brackets for one round. `exact`: as much as a bound has to be compared with."""
    if found is None:
        return "-"
    middle, low, high = (f"{value:.3g}" if exact else short(value) for value in (found.middle, found.low, found.high))
    return f"{middle}{unit} ({low} to {high})" if found.rounds > 1 else f"{middle}{unit}"


def short(value: float) -> str:
    """Three digits at most after the point, fewer of larger numbers."""
    return format(value, ",.0f" if value >= 100 else ".1f" if value >= 10 else ".2f")


def rate(value: float | None) -> str:
    """Rows a second, to three digits."""
    if value is None:
        return "-"
    return f"{float(f'{value:.3g}'):,.0f}"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    """A table of Markdown; nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines] if lines else []
