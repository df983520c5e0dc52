"""A result as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import chart
from data import SAMPLE
from figures import EXTRACT, LIMIT, LOAD, LOAD_KEY, OURS, WHOLE, Figures
from goals import LABELS, goals

DISTURBED = 0.1  # share of the machine's CPU; the kernel's own writing takes some
OTHERS = (("small", "1,000 small tables, 10 rows each"), ("wide", "A wide table: text and bytea of up to 8 MB"),
          ("sales", "A CSV file of 1 M sales, of which 1,000 break a rule"))


def write(path: Path) -> str | None:
    """Write the Markdown and the chart beside a result's JSON; who failed, for the exit status."""
    figures = Figures(json.loads(path.read_text()))
    drawing = path.with_suffix(".svg")
    chart.draw(figures, drawing)
    path.with_suffix(".md").write_text("\n".join(lines(figures, drawing.name)) + "\n")
    print(f"wrote {path}, .md and .svg", flush=True)
    failed = sorted({run["contestant"] for run in figures.failed})
    return f"failed: {'; '.join(failed)}" if failed else None


def lines(figures: Figures, drawing: str) -> Iterator[str]:
    """The whole report."""
    result = figures.result
    yield f"# Benchmark of {result['date']}{', short form' if result['short'] else ''}"
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in result["machine"].items())
    yield from ("", "Rates have the cost of starting up taken off; it has a table of its own. Ratios are taken within "
                f"each round. The limit is {LIMIT}. Server: CPU of PostgreSQL. Memory: of the largest process.", "")
    yield f"![Rows per second]({drawing})"
    if figures.disturbed() > DISTURBED:
        share = f"{figures.disturbed():.0%}"
        yield from ("", f"**Others took {share} of the machine while this was measured: it counts for "
                        "nothing. Measure again when nothing else runs.**")
    yield from _failures(figures)
    yield from _goals(figures)
    for rows in result["sizes"]:
        for phases in (EXTRACT, LOAD, LOAD_KEY, WHOLE):
            yield from ("", f"## {rows:,} rows: {LABELS[phases]}", "", *_table(figures, f"lineitem_{rows}", phases))
    yield from ("", "## Starting up: a table with no rows", "", *_fixed(figures))
    for data, title in OTHERS:
        if any(run["data"] == data for run in figures.runs):
            yield from ("", f"## {title}", "", *_plain(figures, data))
    yield from ("", "## Who took part", "", "| | |", "|---|---|")
    yield from (f"| {who} | {settings} |" for who, settings in result["contestants"].items())


def _failures(figures: Figures) -> Iterator[str]:
    for run in figures.failed:
        why = run["failed"].splitlines() or ["?"]
        yield from ("", f"**Failed: {run['contestant']}, {run['phase']} of {run['data']}, round {run['round']}:**", "",
                    "```", *why[-6:], "```")


def _goals(figures: Figures) -> Iterator[str]:
    disturbed = figures.disturbed() > DISTURBED
    yield from ("", "## Goals", "", "| | measured | goal | met |", "|---|---|---|---|")
    for goal in goals(figures):
        bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}{goal.unit}"
        met = {True: "yes", False: "**no**", None: "not measured"}[goal.met]
        met += ", disturbed" if disturbed and goal.met is not None else ""
        yield f"| {goal.what} | {_number(goal.value, '.2f')}{goal.unit * (goal.value is not None)} | {bound} | {met} |"


def _table(figures: Figures, data: str, phases: tuple[str, ...]) -> Iterator[str]:
    """One job at one size, the fastest first."""
    head = ("", "whole run, s", "rows/s", "to the limit", "ours to it", "CPU tool/server, s", "MB memory", "MB disk",
            "runs")
    yield from (f"| {' | '.join(head)} |", "|---" * len(head) + "|")
    whole = [who for who in figures.result["contestants"] if figures.net(who, data, phases)]
    for who in sorted(whole, key=lambda who: -(figures.rate(who, data, phases) or 0)):
        own = data if figures.of(who, data, phases[0]) else "sample"
        seconds, cpu, served = (_sum(figures.median(who, own, phase, field) for phase in phases)
                                for field in ("seconds", "cpu", "server_cpu"))
        peak = max(max(figures.peaks(who, own, phase).values(), default=0) for phase in phases)
        size = figures.median(who, own, phases[-1], "bytes") or 0
        name = f"**{who}**" if who == OURS else f"{who}, on {SAMPLE.rows:,} rows" if own != data else who
        yield (f"| {name} | {_number(seconds, '.2f')} | {_number(figures.rate(who, data, phases), ',.0f')} "
               f"| {_number(figures.faster(who, LIMIT, data, phases), '.2f')} "
               f"| {_number(figures.faster(OURS, who, data, phases), '.2f')} | {cpu:.2f}/{served:.2f} | {peak:.0f} "
               f"| {size / 1e6:,.0f} | {len(figures.of(who, own, phases[0]))} |")


def _fixed(figures: Figures) -> Iterator[str]:
    yield from ("| | extract, s | load, s | load with key, s |", "|---|---|---|---|")
    for who in figures.result["contestants"]:
        seconds = [_number(figures.fixed(who, phase), ".2f") for (phase,) in (EXTRACT, LOAD, LOAD_KEY)]
        yield f"| {who} | {' | '.join(seconds)} |"


def _plain(figures: Figures, data: str) -> Iterator[str]:
    """Whole runs, and the memory of every program that is ours."""
    yield from ("| | extract, s | load with key, s | MB memory, extract | MB memory, load |", "|---|---|---|---|---|")
    for who in figures.result["contestants"]:
        if figures.of(who, data, "extract"):
            seconds = [_number(figures.median(who, data, phase, "seconds"), ".2f") for phase in WHOLE]
            peaks = [", ".join(f"{name} {peak:.0f}" for name, peak in sorted(figures.peaks(who, data, phase).items()))
                     for phase in WHOLE]
            yield f"| {who} | {' | '.join(seconds + peaks)} |"


def _sum(values: Iterator[float | None]) -> float:
    return sum(value or 0.0 for value in values)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
