"""What the documentation quotes of the results: the blocks of README.md, docs/performance.md and mkdocs.yml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import scale
from figures import EXTRACT, LABELS, LIMIT, LOAD, LOAD_KEY, OURS, PSQL, TRIVIAL, VERIFY, WHOLE, Figures, Spread
from goals import USUAL, Goal, goals
from published import ENOUGH, Published, rate, spread, table

DATA = f"lineitem_{USUAL}"
HEAD = ("", "whole run, s", "net of start-up, s", "rows/s, whole", "rows/s, net", "of psql on two connections, whole",
        "net", "memory, MB")
NOT_RUN = ["Not measured yet."]
QUICK = (LIMIT, PSQL, OURS, "DuckDB, Parquet")
SLOW = ("pg_dump, pg_restore", "DuckDB, CSV", "dlt", "sling", "stock Singer, best settings", "stock Singer, defaults")


def measured(results: Published) -> list[str]:
    """On what, when, how often; the chart."""
    figures = _usual(results)
    of, rounds = figures.result["machine"], len(figures.seconds(OURS, DATA, WHOLE))
    text = ("Six million rows of 16 columns (0.9 GB as CSV), two connections; source, warehouse and files on one "
            f"machine: {of['cores']} cores ({of['processor']}), {of['memory']}, {of['system']}, Python {of['Python']}, "
            f"PostgreSQL {of['PostgreSQL'].split()[0]}. Medians of {rounds} rounds on {figures.result['date']}, in "
            "brackets the least and the most; one number is one round. Others took "
            f"{figures.disturbed():.0%} of the machine's CPU meanwhile. All figures, versions and settings: "
            f"{results.source(figures, '../')}.")
    return [text, "", f"![Rows a second: whole runs, and net of start-up]({_chart(results, '../')})"]


def jobs(results: Published) -> list[str]:
    """The three jobs at the usual size."""
    return [line for phases in (EXTRACT, LOAD_KEY, WHOLE)
            for line in (f"**{LABELS[phases].capitalize()}**", "", *_job(_usual(results), phases, QUICK), "")][:-1]


def slower(results: Published) -> list[str]:
    """Tools that the usual run leaves out, where they ran last, beside ours and the limit."""
    lines: list[str] = []
    for phases, tool in ((EXTRACT, "sling"), (LOAD, "sling"), (LOAD_KEY, "pg_dump, pg_restore")):
        figures = results.best(DATA, phases, tool, OURS)
        if figures:
            made = _job(figures, phases, (LIMIT, OURS, *SLOW))
            lines += [f"**{LABELS[phases].capitalize()}**, {results.source(figures, '../')}", "", *made, ""]
    return lines[:-1] or NOT_RUN


def _job(figures: Figures, phases: tuple[str, ...], who: Sequence[str]) -> list[str]:
    """Those of `who` that ran it, the fastest first."""
    ran = [one for one in who if figures.seconds(one, DATA, phases)]
    ran.sort(key=lambda one: -(figures.rate(one, DATA, phases) or 0))
    return table(HEAD, (_row(figures, one, phases) for one in ran))


def _row(figures: Figures, who: str, phases: tuple[str, ...]) -> list[str]:
    own = figures.own(who, DATA, phases[0])
    name = f"**{who}**" if who == OURS else who if own == DATA else f"{who}, on {figures.rows(own):,} rows"
    seconds = [Spread.of(figures.seconds(who, DATA, phases, net).values()) for net in (False, True)]
    rates = [figures.rate(who, DATA, phases, net) for net in (False, True)]
    ratios = [figures.faster(who, LIMIT, DATA, phases, net) for net in (False, True)]
    shown = ["1", "1"] if who == LIMIT else map(spread, ratios)
    return [name, *map(spread, seconds), *map(rate, rates), *shown,
            f"{figures.peak(who, own, phases):,.0f}"]


def startup(results: Published) -> list[str]:
    """A table with no rows."""
    figures = results.best("empty", WHOLE, OURS)
    jobs = (EXTRACT, LOAD_KEY, WHOLE, VERIFY)
    who = [one for one in (OURS, TRIVIAL, LIMIT, "DuckDB, Parquet", "dlt", "sling", "stock Singer, defaults")
           if figures.seconds(one, "empty", EXTRACT)]
    rows = ([f"**{one}**" if one == OURS else one,
             *(spread(Spread.of(figures.seconds(one, "empty", phases).values())) for phases in jobs)] for one in who)
    return [f"Seconds of a whole run, {results.source(figures, '../')}:", "",
            *table(("", *(LABELS[phases] for phases in jobs)), rows)]


def verify(results: Published) -> list[str]:
    """Beside the work that psql and sha256sum do for it."""
    figures = results.best(DATA, VERIFY, OURS)
    return [f"{results.source(figures, '../')}:", "", *_job(figures, VERIFY, QUICK)] if figures else NOT_RUN


def csv(results: Published) -> list[str]:
    """A CSV file, with and without a contract, beside DuckDB."""
    figures = results.best("sales", EXTRACT, "landing, CSV file")
    if not figures:
        return NOT_RUN
    head = ("", "whole run, s", "net of start-up, s", "memory, MB")
    who = [one for one in figures.result["contestants"] if figures.seconds(one, "sales", EXTRACT)]
    rows = ([one, *_two(figures, one, "sales", EXTRACT), f"{figures.peak(one, 'sales', EXTRACT):,.0f}"] for one in who)
    return [f"{figures.rows('sales'):,} rows of 10 columns, a thousandth of which break a rule, "
            f"{results.source(figures, '../')}:", "", *table(head, rows)]


def _two(figures: Figures, who: str, data: str, phases: tuple[str, ...]) -> list[str]:
    """Whole and net."""
    return [spread(Spread.of(figures.seconds(who, data, phases, net).values())) for net in (False, True)]


def protection(results: Published) -> list[str]:
    """One column encrypted, one as tokens, beside the same without."""
    who = "landing, protected"
    having = [found for rows in results.sizes() if (found := results.best(f"lineitem_{rows}", EXTRACT, who, OURS))]
    if not having:
        return NOT_RUN
    figures = having[0]
    data = next(one for one in figures.datasets("lineitem") if figures.seconds(who, one, EXTRACT))
    rows = ([one, *_two(figures, one, data, EXTRACT), f"{figures.peak(one, data, EXTRACT):,.0f}"]
            for one in (OURS, who))
    head = (f"extract of {figures.rows(data):,} rows", "whole run, s", "net of start-up, s", "memory, MB")
    return [f"{results.source(figures, '../')}:", "", *table(head, rows)]


def all_goals(results: Published) -> list[str]:
    """Each goal by the newest result that has it."""
    found: dict[str, tuple[Goal, Figures]] = {}
    for figures in results.results:
        for goal in goals(figures):
            key = goal.what.partition(" (")[0]
            if key not in found or _worth(goal, figures) > _worth(*found[key]):
                found[key] = goal, figures
    return table(("", "whole run", "net", "goal", "met", "measured"), (_goal(*one) for one in found.values()))


def _goal(goal: Goal, figures: Figures) -> list[str]:
    when = figures.result["date"] + ", disturbed" * figures.is_disturbed()
    return [goal.what, spread(goal.whole, goal.unit, True), spread(goal.net, goal.unit, True),
            f"{'≥' if goal.at_least else '≤'} {goal.bound:g}{goal.unit}",
            {True: "yes", False: "**no**", None: "not run"}[goal.met], when if goal.value else ""]


def _worth(goal: Goal, figures: Figures) -> tuple[bool, int]:
    """Of equal ones the newest is taken."""
    return goal.value is not None and not figures.is_disturbed(), min(goal.value.rounds, ENOUGH) if goal.value else 0


def readme(results: Published) -> list[str]:
    """The tables and the chart of README.md. Each table is of one result: a machine's speed drifts from day to day."""
    main, other = _usual(results), results.best(DATA, EXTRACT, "sling", OURS)
    lines = ["Six million rows of 16 columns (0.9 GB as CSV) on 2 cores with source, warehouse and files on them; "
             f"seconds of a whole run, and net of start-up, {main.result['date']}:", "",
             *_seconds(main, (LIMIT, OURS, "DuckDB, Parquet", PSQL)), ""]
    if other:
        slow = ("dlt", "sling", "stock Singer, defaults")
        lines += [f"The same with slower tools, in another run, {other.result['date']}:", "",
                  *_seconds(other, (LIMIT, OURS, *slow)), ""]
    return [*lines, f"![Rows a second]({_chart(results, '')})"]


def _seconds(figures: Figures, who: Sequence[str]) -> list[str]:
    head = ("", "extract, s", "net", "load with key, s", "net", "empty table, s", "memory")
    return table(head, filter(None, (_short(figures, one) for one in who)))


def _short(figures: Figures, who: str) -> list[str] | None:
    own = figures.own(who, DATA, "extract")
    load = LOAD_KEY if figures.seconds(who, DATA, LOAD_KEY) else LOAD
    jobs = [Spread.of(figures.seconds(who, DATA, phases, net).values()) for phases in (EXTRACT, load)
            for net in (False, True)]
    if not any(jobs):
        return None
    name = (f"**{who}**, with checksums and manifest" if who == OURS else who) + ", load without key" * (load == LOAD)
    name += f", {figures.rows(own):,} rows only" * (own != DATA)
    return [name, *(f"{one.middle:,.1f}" if one else "-" for one in jobs), f"{figures.fixed(who, 'extract') or 0:.1f}",
            f"{figures.peak(who, own, EXTRACT + load):,.0f} MB"]


def _usual(results: Published) -> Figures:
    return results.best(DATA, WHOLE, OURS, LIMIT)


def _chart(results: Published, up: str) -> str:
    """Of the newest result that has the slow tools, too, if there is one; otherwise of the usual run."""
    shown = [one for one in (results.best(DATA, WHOLE, OURS, LIMIT, "stock Singer, defaults"), _usual(results))
             if one and one.name in results.charts]
    return f"{up}bench/results/{shown[0].name if shown else 'missing'}.svg"


def nav(results: Published) -> list[str]:
    """The reports, for mkdocs.yml."""
    return [f"  - bench/results/{name}.md" for name in results.reports]


BLOCKS: Mapping[str, Callable[[Published], list[str]]] = {
    one.__name__: one for one in (measured, jobs, slower, startup, verify, csv, protection, all_goals, readme, nav,
                                  *scale.BLOCKS)}


def filled(text: str) -> str:
    """A page with its blocks written anew: what is between `bench: NAME` and `/bench`, each in a comment."""
    results = Published()
    lines: Iterator[str] = iter(text.splitlines())
    made: list[str] = []
    for line in lines:
        made.append(line)
        words = line.strip("<!-># ").split()
        if words[:1] == ["bench:"]:
            last = next(one for one in lines if one.strip("<!-># ") == "/bench")
            gap = [""] * line.startswith("<")
            made += [*gap, *BLOCKS[words[1]](results), *gap, last]
    return "\n".join(made) + "\n"
