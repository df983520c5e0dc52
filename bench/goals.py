"""What we set out to reach, and whether a result shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from figures import EXTRACT, LABELS, LIMIT, LOAD, LOAD_KEY, OURS, PSQL, TRIVIAL, VERIFY, WHOLE, Figures, Spread, within

SIZES = (1_000_000, 6_000_000, 20_000_000)  # rows, of which each has its goals
USUAL = 6_000_000
# Of psql on two connections.
OF_THE_LIMIT = ((EXTRACT, 0.9), (LOAD, 1.0), (LOAD_KEY, 1.0), (WHOLE, 1.0))
# A peer, how many times as fast we mean to be, and over which phases.
PEERS = (
    (PSQL, 1.3, (WHOLE,)),
    ("stock Singer, defaults", 100, (EXTRACT, LOAD_KEY)),
    ("sling", 5, (EXTRACT, LOAD)),
    ("dlt", 5, (EXTRACT, LOAD)),
    ("pg_dump, pg_restore", 1, (EXTRACT, LOAD_KEY)),
    ("DuckDB, Parquet", 1, (WHOLE,)),
    ("DuckDB, CSV", 1, (WHOLE,)),
)


@dataclass(frozen=True)
class Goal:
    """A figure (None: not run) that is to be at least, or at most, a bound.

    `net` decides where starting up can be taken off; otherwise `whole` does.
    """

    what: str
    whole: Spread | None
    net: Spread | None
    bound: float
    at_least: bool = True
    unit: str = ""

    @property
    def value(self) -> Spread | None:
        return self.net or self.whole

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value.middle >= self.bound if self.at_least else self.value.middle <= self.bound


def goals(figures: Figures) -> Iterator[Goal]:
    """All of them, those that were not run too."""
    for rows in sorted({*SIZES, *map(figures.rows, figures.datasets("lineitem"))}):
        yield from _of_size(figures, rows)
    yield from _growth(figures)
    seconds = figures.seconds(OURS, f"lineitem_{USUAL}", VERIFY)
    yield Goal(f"verify of {USUAL:,} rows", Spread.of(seconds.values()), None, 12, False, " s")
    yield from _fixed(figures)
    yield from _csv(figures)
    yield from _store(figures)
    for phases in (EXTRACT, LOAD_KEY):
        seconds = figures.seconds(OURS, "small", phases)
        yield Goal(f"1,000 small tables: {LABELS[phases]}", Spread.of(seconds.values()), None, 60, False, " s")
    yield from _memory(figures)


def _store(figures: Figures) -> Iterator[Goal]:
    who = "landing, store"
    for phases in (EXTRACT, LOAD_KEY):
        sizes = [data for data in figures.datasets("lineitem") if figures.of(who, data, phases[0])]
        data = sizes[-1] if sizes else ""
        size = f" ({figures.rows(data):,} rows)" if sizes else ""
        speed = _faster(figures, who, OURS, data, phases)
        yield Goal(f"{LABELS[phases]} with an object store, to a folder{size}", *speed, 0.8)


def _of_size(figures: Figures, rows: int) -> Iterator[Goal]:
    """To the limit, and to the peers that were run."""
    data, size = f"lineitem_{rows}", f"{rows:,} rows"
    for phases, bound in OF_THE_LIMIT:
        yield Goal(f"{size}: {LABELS[phases]}, to {LIMIT}", *_faster(figures, OURS, LIMIT, data, phases), bound)
    for peer, times, jobs in PEERS:
        for phases in jobs:
            speed = _faster(figures, OURS, peer, data, phases)
            if any(speed):
                yield Goal(f"{size}: {LABELS[phases]}, times as fast as {peer}", *speed, times)


def _faster(figures: Figures, who: str, than: str, data: str, phases: tuple[str, ...]) -> tuple:
    return tuple(figures.faster(who, than, data, phases, net) for net in (False, True))


def _growth(figures: Figures) -> Iterator[Goal]:
    large = max(map(figures.rows, figures.datasets("lineitem")), default=0)
    size = f" ({large:,} rows)" if large > USUAL else ""
    for phases in (EXTRACT, LOAD, LOAD_KEY):
        grown = (figures.growth(OURS, f"lineitem_{USUAL}", f"lineitem_{large}", phases, net) if large > USUAL else None
                 for net in (False, True))
        yield Goal(f"{LABELS[phases]}: time a row of a larger table, to {USUAL:,} rows{size}", *grown, 1.15, False)


def _fixed(figures: Figures) -> Iterator[Goal]:
    for phases in (EXTRACT, LOAD_KEY):
        ours, trivial = figures.seconds(OURS, "empty", phases), figures.seconds(TRIVIAL, "empty", phases)
        trivial = trivial or figures.seconds(TRIVIAL, "empty", EXTRACT)
        yield Goal(f"fixed cost: {LABELS[phases]}, to a trivial `meltano run`", within(ours, trivial), None, 1.1, False)


def _csv(figures: Figures) -> Iterator[Goal]:
    who = "landing, CSV file"
    size = f"CSV file of {figures.rows('sales') or 1_000_000:,} rows"
    whole = Spread.of(figures.seconds(who, "sales", EXTRACT).values())
    net = Spread.of(figures.seconds(who, "sales", EXTRACT, True).values())
    yield Goal(f"{size}: extract, over the fixed cost", whole if net else None, net, 3, False, " s")


def _memory(figures: Figures) -> Iterator[Goal]:
    """The largest process of ours, by contestant."""
    for who in dict.fromkeys((OURS, "landing, CSV file", *figures.result["contestants"])):
        if who.startswith(OURS):
            yield _peak(f"peak memory: {who}", [run for run in figures.runs if run["contestant"] == who
                                                and run["data"] != "wide"])
    yield _peak("peak memory: landing, rows of up to 16 MB", figures.of(OURS, "wide", "extract")
                + figures.of(OURS, "wide", "load_key"))


def _peak(what: str, runs: list[dict]) -> Goal:
    found = [(peak, f" ({name}, {run['phase']} of {run['data']})") for run in runs
             for name, peak in run["peaks"].items() if name.startswith("landing")]
    peak, which = max(found, default=(0.0, ""))
    return Goal(what + which, Spread.of([peak] if found else []), None, 150, False, " MB")
