"""`landing status`: sources by dates, fresh or late."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from landing.cli.options import answered, as_json, output, with_schema
from landing.core.errors import LandingError, printable
from landing.core.text import age, duration, moment, signed, table
from landing.status import files
from landing.status.facts import MAX_AGE, SourceDate, SourceStatus, Status
from landing.status.metrics import as_metrics
from landing.status.page import as_page
from landing.status.reading import DAYS, read_status

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
BARS = " ▁▂▃▄▅▆▇█"
SHOWN = 10  # problems


class Age(click.ParamType):
    """A number with a unit: 26h, 90m, 2d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse it."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]+)?)([smhd])", value)
        if not found:
            self.fail(f"{value!r} is not an age. Expected a number with s, m, h or d, such as 26h, 90m or 2d.", param,
                      ctx)
        return timedelta(**{UNITS[found[2]]: float(found[1])})


@click.command(short_help="Sources by dates: fresh or late, last errors, sizes, trend.")
@click.option("--days", type=click.IntRange(1, 3660), default=DAYS, show_default=True, metavar="N",
              help="Show N days: the last ones or, if nothing happened in these, those before the newest date.")
@click.option("--max-age", type=Age(), metavar="AGE",
              help="Exit with status 1 if a declared source is late: the data of its newest landed or loaded date is "
              "older, such as 26h, 90m or 2d. Without it, 26h decides what is shown as late.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Also write one static page.")
@click.option("--metrics", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Also write metrics for Prometheus (node_exporter's textfile collector: FILE ends in .prom).")
@click.option("--no-warehouse", is_flag=True, help="Do not read what is loaded.")
@as_json
@with_schema
def status(days: int, max_age: timedelta | None, html: Path | None, metrics: Path | None, no_warehouse: bool,
           as_json: bool, schema: str) -> None:
    """Show what each source has of the last days: rows, what is loaded, failed runs, and the age of its data.

    Exit status 0: shown, whatever it shows. 1: it cannot be read or written or, with --max-age, a source is late: too
    old, never landed or loaded, or the warehouse cannot be read. 2: wrong usage.
    """
    with answered(as_json):
        found = read_status(schema, days, MAX_AGE if max_age is None else max_age, warehouse=not no_warehouse)
        if found.unreachable:
            click.echo(f"Cannot read from the warehouse what is loaded: {found.unreachable}", err=True)
        for path, render in ((html, as_page), (metrics, as_metrics)):
            if path:
                files.replace(path, render(found))
        fails = max_age is not None and bool(found.late)
        output(as_json, found.as_dict(), lambda: as_text(found) + ("" if fails else f"\n\n{_summary(found)}"))
        if fails:
            raise LandingError(_summary(found))


def as_text(found: Status) -> str:
    """Render it for a terminal: sources, their dates, then problems."""
    where = f"{found.root} at {moment(found.now)} UTC" + (f", schema {found.schema}" if found.schema else "")
    head = ("source", "state", "landed", "age", "loaded", "age", "rows", "change", "bytes", "time", "last run")
    parts = [printable(where), "", table(head, [_line(source) for source in found.sources]), "", _grid(found)]
    if problems := found.problems():
        parts += ["", *(line for source, one in problems[:SHOWN] for line in _problem(source, one))]
    if len(problems) > SHOWN:
        parts.append(f"{len(problems) - SHOWN} more problems: --html or --json has all.")
    return "\n".join(parts)


def _line(source: SourceStatus) -> tuple[Any, ...]:
    landed, loaded, run = source.landed, source.loaded, source.last_run
    return (source.name, source.state, landed and landed.extracted_at, _age(source.landed_age),
            loaded and loaded[0], _age(source.loaded_age), landed and landed.rows,
            None if source.change is None else signed(source.change), landed and landed.bytes,
            landed and duration(landed.seconds), run and run[1].outcome)


def _age(since: timedelta | None) -> str | None:
    return None if since is None else age(since)


def _grid(found: Status) -> str:
    """A line for each source with a bar (rows) and a symbol (state) for each day."""
    wide = max(map(len, ["days", *(printable(source.name) for source in found.sources)]))
    days = "".join(f"{day:%d} " for day in found.days)
    lines = [f"{'days':{wide}}  {days} {found.days[0]} to {found.days[-1]}"]
    for source in found.sources:
        lines.append(f"{printable(source.name):{wide}}  {''.join(_cells(source.dates))}".rstrip())
    legend = "   ".join(f"{state.symbol} {state.meaning}" for state in found.states())
    return "\n".join([*lines, f"{'':{wide}}  {legend}"])


def _cells(dates: list[SourceDate]) -> Iterator[str]:
    most = max((one.landed.rows for one in dates if one.landed), default=0)
    for one in dates:
        height = max(1, round(8 * one.landed.rows / most)) if one.landed and most else 0
        yield f"{BARS[height]}{one.state.symbol} "


def _problem(source: SourceStatus, one: SourceDate) -> Iterator[str]:
    yield printable(f"{source.name} of {one.day}: {one.state.name}. {one.problem}")
    if one.command:
        yield f"  {printable(one.command)}"


def _summary(found: Status) -> str:
    if not any(source.declared for source in found.sources):
        return "No source is declared: meltano.yml has no job named extract_<source>."
    if found.late:
        return printable(f"Late: {'; '.join(found.late)}.")
    return f"Fresh: no declared source is older than {age(found.max_age)}."
