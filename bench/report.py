"""A result as Markdown: whole runs, and net of the cost of starting up, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import chart
from figures import EXTRACT, LABELS, LIMIT, LOAD, LOAD_KEY, OURS, VERIFY, WHOLE, Figures, Spread
from goals import goals

JOBS = (EXTRACT, LOAD, LOAD_KEY, WHOLE, VERIFY)
HEAD = ("", "whole run, s", "min to max", "rows/s", "of the limit", "net, s", "min to max", "rows/s", "of the limit",
        "CPU tool/server, s", "MB memory", "MB disk", "rounds")
OTHERS = {"small": "small tables, 10 rows each", "wide": "A wide table: text and bytea of up to 8 MB"}


def write(path: Path) -> str | None:
    """Write the Markdown and the chart beside a result's JSON; who failed, for the exit status."""
    figures = Figures.read(path)
    drawing = path.with_suffix(".svg")
    drawn = chart.draw(figures, drawing)
    path.with_suffix(".md").write_text("\n".join(lines(figures, drawing.name if drawn else "")) + "\n")
    print(f"wrote {path}, .md{' and .svg' if drawn else ''}", flush=True)
    failed = sorted({run["contestant"] for run in figures.failed})
    return f"failed: {'; '.join(failed)}" if failed else None


def lines(figures: Figures, drawing: str) -> Iterator[str]:
    """The whole report."""
    _, _, name = figures.name.partition(figures.result["date"])
    yield f"# Benchmark of {figures.result['date']}{', ' * bool(name)}{name.strip('-')}"
    yield from _machine(figures)
    yield from ("", "Net: the median of starting up (a run with no rows) is taken off; it has a table of its own. "
                "Medians of the rounds, with the least and the most; ratios are taken within each round. The limit is "
                f"{LIMIT}. Server: CPU of PostgreSQL. Memory: of the largest process.")
    if drawing:
        yield from ("", f"![Rows a second]({drawing})")
    if figures.is_disturbed():
        share = f"{figures.disturbed():.0%}"
        yield from ("", f"**Others took {share} of the machine while this was measured: it counts for "
                        "nothing. Measure again when nothing else runs.**")
    yield from _failures(figures)
    yield from _goals(figures)
    for data in figures.datasets("lineitem"):
        for phases in JOBS:
            if made := [*table(figures, data, phases)]:
                yield from ("", f"## {figures.rows(data):,} rows: {LABELS[phases]}", "", *made)
    if figures.datasets("sales"):
        yield from ("", f"## A CSV file of {figures.rows('sales'):,} rows, of which a thousandth breaks a rule", "",
                    *table(figures, "sales", EXTRACT))
    yield from ("", "## Starting up: a table with no rows", "", *fixed(figures))
    for prefix, title in OTHERS.items():
        for data in figures.datasets(prefix):
            tables = f"{figures.rows(data) // 10:,} " if prefix == "small" else ""
            yield from ("", f"## {tables}{title}", "", *_plain(figures, data))
    yield from ("", "## Who took part", "", "| | |", "|---|---|")
    yield from (f"| {who} | {settings} |" for who, settings in figures.result["contestants"].items())


def _machine(figures: Figures) -> Iterator[str]:
    result = figures.result
    yield from ("", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in result["machine"].items()))
    if "minutes" in result:
        yield f"| rounds | {result['rounds']}; one of what is slow, and of what is far from a goal |"
        yield f"| took | {result['minutes']:.0f} minutes, {figures.disturbed():.0%} of the CPU taken by others |"


def _failures(figures: Figures) -> Iterator[str]:
    for run in figures.failed:
        why = run["failed"].splitlines() or ["?"]
        yield from ("", f"**Failed: {run['contestant']}, {run['phase']} of {run['data']}, round {run['round']}:**", "",
                    "```", *why[-6:], "```")


def _goals(figures: Figures) -> Iterator[str]:
    disturbed = figures.is_disturbed()
    yield from ("", "## Goals", "", "| | whole run | min to max | net | min to max | goal | met |", "|---" * 7 + "|")
    for goal in goals(figures):
        bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}{goal.unit}"
        met = {True: "yes", False: "**no**", None: "not run"}[goal.met]
        met += ", disturbed" if disturbed and goal.met is not None else ""
        shown = " | ".join(part for one in (goal.whole, goal.net) for part in parts(one, ".3g", goal.unit))
        yield f"| {goal.what} | {shown} | {bound} | {met} |"


def table(figures: Figures, data: str, phases: tuple[str, ...]) -> Iterator[str]:
    """One job at one size, the fastest first; nothing if nobody ran it."""
    took = [who for who in figures.result["contestants"] if figures.seconds(who, data, phases)]
    if not any(figures.of(who, data, phases[0]) for who in took):
        return
    yield from (f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|")
    for who in sorted(took, key=lambda who: -(figures.rate(who, data, phases) or 0)):
        yield _row(figures, who, data, phases)


def _row(figures: Figures, who: str, data: str, phases: tuple[str, ...]) -> str:
    own = figures.own(who, data, phases[0])
    cells = []
    for net in (False, True):
        seconds = Spread.of(figures.seconds(who, data, phases, net).values())
        speed = figures.faster(who, LIMIT, data, phases, net)
        cells += [*parts(seconds, ".2f"), number(figures.rate(who, data, phases, net), ",.0f"),
                  number(speed and speed.middle, ".2f")]
    cpu, served = (sum(figures.median(who, own, phase, field) or 0 for phase in phases)
                   for field in ("cpu", "server_cpu"))
    size = (figures.median(who, own, phases[-1], "bytes") or 0) / 1e6
    cells += [f"{cpu:.2f}/{served:.2f}", f"{figures.peak(who, own, phases):.0f}", f"{size:,.0f}",
              str(len(figures.seconds(who, data, phases)))]
    return f"| {named(figures, who, own)} | {' | '.join(cells)} |"


def named(figures: Figures, who: str, data: str) -> str:
    """Ours in bold; who ran on the sample with the number of its rows."""
    if who == OURS:
        return f"**{who}**"
    return f"{who}, on {figures.rows('sample'):,} rows" if data == "sample" else who


def fixed(figures: Figures) -> Iterator[str]:
    """What starting up costs, and an extract and a load of both."""
    jobs = (EXTRACT, LOAD, LOAD_KEY, WHOLE, VERIFY)
    yield from ("| | " + " | ".join(f"{LABELS[phases]}, s | min to max" for phases in jobs) + " |",
                "|---" * (1 + 2 * len(jobs)) + "|")
    for who in figures.result["contestants"]:
        spreads = [_startup(figures, who, phases) for phases in jobs]
        if any(spreads):
            shown = " | ".join(part for one in spreads for part in parts(one, ".2f"))
            yield f"| {named(figures, who, 'empty')} | {shown} |"


def _startup(figures: Figures, who: str, phases: Sequence[str]) -> Spread | None:
    """Of all runs, not of rounds: there are few of them."""
    runs = [[run["seconds"] for run in figures.of(who, "empty", phase)] for phase in phases]
    return Spread.of(sum(parts) for parts in zip(*runs, strict=False)) if all(runs) else None


def _plain(figures: Figures, data: str) -> Iterator[str]:
    """Whole runs and net, and the memory of every program."""
    yield from ("| | job | whole run, s | min to max | net, s | min to max | MB memory |", "|---" * 7 + "|")
    for who in figures.result["contestants"]:
        for phases in (EXTRACT, LOAD_KEY, VERIFY):
            spreads = [Spread.of(figures.seconds(who, data, phases, net).values()) for net in (False, True)]
            if figures.of(who, data, phases[0]):
                peaks = sorted(figures.peaks(who, data, phases[0]).items())
                shown = " | ".join(part for one in spreads for part in parts(one, ".2f"))
                yield (f"| {named(figures, who, data)} | {LABELS[phases]} | {shown} "
                       f"| {', '.join(f'{name} {peak:.0f}' for name, peak in peaks)} |")


def parts(spread: Spread | None, form: str, unit: str = "") -> tuple[str, str]:
    """The median, and the least to the most, for two cells of a table."""
    if spread is None:
        return "-", "-"
    least, most = format(spread.low, form), format(spread.high, form)
    return format(spread.middle, form) + unit, f"{least} to {most}" if spread.rounds > 1 else "-"


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
