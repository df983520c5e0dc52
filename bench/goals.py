"""What we set out to reach, and whether a result shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from figures import EXTRACT, LIMIT, LOAD, LOAD_KEY, OURS, PSQL, TRIVIAL, WHOLE, Figures

LABELS = {EXTRACT: "extract", LOAD: "load without a key", LOAD_KEY: "load with its key", WHOLE: "extract and load"}
# A peer, how many times as fast we mean to be, and over which phases.
PEERS = (
    ("stock Singer, defaults", 100, (EXTRACT, LOAD_KEY)),
    ("sling", 5, (EXTRACT, LOAD)),
    ("dlt", 5, (EXTRACT, LOAD)),
    ("pg_dump, pg_restore", 1, (EXTRACT, LOAD_KEY)),
    ("DuckDB, Parquet", 1, (WHOLE,)),
    ("DuckDB, CSV", 1, (WHOLE,)),
)


@dataclass(frozen=True)
class Goal:
    """A figure (None: not run) that is to be at least, or at most, a bound."""

    what: str
    value: float | None
    bound: float
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def goals(figures: Figures) -> Iterator[Goal]:
    """All of them, those that were not run too."""
    sizes = figures.result["sizes"]
    for rows in sizes:
        data, size = f"lineitem_{rows}", f"{rows:,} rows"
        for phases in (EXTRACT, LOAD, LOAD_KEY):
            speed = figures.faster(OURS, LIMIT, data, phases)
            yield Goal(f"{size}: {LABELS[phases]}, to {LIMIT}", speed, 0.9)
        speed = figures.faster(OURS, PSQL, data, WHOLE)
        yield Goal(f"{size}: {LABELS[WHOLE]}, times as fast as {PSQL} for each", speed, 1.3)
        for peer, times, jobs in PEERS:
            for phases in jobs:
                speed = figures.faster(OURS, peer, data, phases)
                yield Goal(f"{size}: {LABELS[phases]}, times as fast as {peer}", speed, times)
    if len(sizes) > 1:
        for phases in (EXTRACT, LOAD, LOAD_KEY):
            small, large = (figures.rate(OURS, f"lineitem_{rows}", phases) for rows in (min(sizes), max(sizes)))
            growth = small / large if small and large else None
            yield Goal(f"{LABELS[phases]}: time a row at {max(sizes):,} rows, to {min(sizes):,}", growth, 1.1, False)
    yield from _costs(figures)


def _costs(figures: Figures) -> Iterator[Goal]:
    """Start-up, many tables, memory."""
    trivial = figures.fixed(TRIVIAL, "extract")
    for phases in (EXTRACT, LOAD_KEY):
        ours = figures.fixed(OURS, phases[0])
        times = ours / trivial if ours and trivial else None
        yield Goal(f"fixed cost: {LABELS[phases]}, to a trivial `meltano run`", times, 1.5, False)
    for phases in (EXTRACT, LOAD_KEY):
        seconds = figures.median(OURS, "small", phases[0], "seconds")
        yield Goal(f"1,000 small tables: {LABELS[phases]}", seconds, 60, False, " s")
    for data in (*(f"lineitem_{rows}" for rows in figures.result["sizes"]), "wide"):
        peaks = [peak for phases in (EXTRACT, LOAD, LOAD_KEY)
                 for name, peak in figures.peaks(OURS, data, phases[0]).items() if name.startswith("landing-")]
        yield Goal(f"peak memory of the largest of our processes: {data}", max(peaks, default=None), 150, False, " MB")
