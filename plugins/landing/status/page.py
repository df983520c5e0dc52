"""The status as one static page: no network, no script. The fragments of page.html are filled in here."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from string import Template

from landing.core.errors import printable
from landing.core.text import age, duration, moment, signed, size
from landing.model.summary import Summary
from landing.status.dates import clock, error_of
from landing.status.facts import BAD, GOOD, NEUTRAL, WAITING, SourceDate, SourceStatus, Status
from landing.zone.run_log import Run

ICONS = {GOOD: "%231a7f4e", WAITING: "%238a6100", BAD: "%23c02a21", NEUTRAL: "%237c8894"}
LEVELS = {"fresh": GOOD, "late": BAD, "not declared": NEUTRAL}
MANY = 31  # days: with more, the bars have no symbols
SHOWN = 20  # problems
BRIEF = 90  # characters of an error in a card; the problem has all of it
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Html(str):
    """Markup; everything else is escaped."""

    __slots__ = ()


def as_page(status: Status) -> str:
    """Render the page."""
    fill = _Fragments()
    problems = status.problems()
    level, headline = _headline(status, len(problems))
    where = f"{status.root}, read at {moment(status.now)} UTC"
    warehouse = f"; warehouse schema {status.schema}" if status.schema and not status.unreachable else ""
    return fill(
        "page", level=level, icon=ICONS[level], headline=headline, about=where + warehouse,
        notice=fill("notice", why=status.unreachable) if status.unreachable else "",
        cards=_joined(_card(fill, source) for source in status.sources),
        problems=_problems(fill, problems), limit=age(status.max_age),
        names=_joined(fill("name", name=source.name) for source in status.sources),
        dates=_joined(_row(fill, status, place) for place in reversed(range(len(status.days)))),
        legend=_joined(fill("key", level=one.level, symbol=one.symbol, meaning=one.meaning) for one in status.states()))


class _Fragments:
    """Fills in a fragment of page.html."""

    def __init__(self) -> None:
        page, *others = re.split(r"^<!-- (\w+) -->\n", Path(__file__).with_name("page.html").read_text("utf-8"),
                                 flags=re.MULTILINE)
        self._templates = {name: Template(text.strip()) for name, text in
                           [("page", page), *zip(others[::2], others[1::2], strict=True)]}

    def __call__(self, fragment: str, /, **values: object) -> Html:
        return Html(self._templates[fragment].substitute({key: _escaped(value) for key, value in values.items()}))


def _escaped(value: object) -> str:
    return value if isinstance(value, Html) else printable(str(value)).translate(ESCAPES)


def _joined(parts: Iterable[Html], between: str = "\n") -> Html:
    return Html(between.join(parts))


def _headline(status: Status, problems: int) -> tuple[str, str]:
    declared = [source for source in status.sources if source.declared]
    late = [source.name for source in declared if source.late]
    attention = f", {problems} date{'s need' if problems > 1 else ' needs'} attention" if problems else ""
    if not declared:
        return NEUTRAL, "No source is declared"
    if not late:
        fresh = "All sources are fresh" if len(declared) > 1 else f"{declared[0].name} is fresh"
        return (WAITING if problems else GOOD), fresh + attention
    which = f"{late[0]} is late" if len(late) == 1 else f"{len(late)} of {len(declared)} sources are late"
    return BAD, which + attention


def _card(fill: _Fragments, source: SourceStatus) -> Html:
    landed, loaded, run, error = source.landed, source.loaded, source.last_run, source.last_error
    return fill(
        "card", level=LEVELS[source.state], name=source.name, state=source.state,
        why=_joined(fill("why", why=one) for one in source.late),
        rows=f"{landed.rows:,}" if landed else "-", change=_change(source), trend=_trend(source),
        bars=_bars(fill, source), first=_day(source.dates[0].day), last=_day(source.dates[-1].day),
        landed=_dated(landed and landed.extracted_at, source.landed_age),
        loaded=_dated(loaded and loaded[0], source.loaded_age),
        extract=_sizes(landed) if landed else "-", run=_run(*run) if run else "none of these dates",
        error=fill("error", error=_error(*error)) if error else "")


def _change(source: SourceStatus) -> str:
    return "" if source.change is None else f"{signed(source.change)} since {source.before.extracted_at}"


def _dated(day: date | None, old: timedelta | None) -> str:
    return f"{day}, {age(old)} ago" if day and old is not None else "-"


def _day(day: date) -> str:
    return f"{day:%d %b %Y}".lstrip("0")


def _sizes(landed: Summary) -> str:
    tables = len(landed.tables)
    return f"{tables:,} table{'s' * (tables != 1)}, {size(landed.bytes)}, {duration(landed.seconds)}"


def _run(day: date, run: Run) -> str:
    return f"{run.outcome} {clock(run.ended_at or run.started_at)}, of {day}"


def _error(day: date, run: Run) -> str:
    return f"{day}: {textwrap.shorten(error_of(run), BRIEF, placeholder=' …')}"


def _trend(source: SourceStatus) -> str:
    return "Rows by date: " + ", ".join(_title(one) for one in source.dates)


def _title(one: SourceDate) -> str:
    rows = f", {one.landed.rows:,} rows, {size(one.landed.bytes)}, {duration(one.landed.seconds)}" if one.landed else ""
    return f"{one.day}: {one.state.name}{rows}"


def _bars(fill: _Fragments, source: SourceStatus) -> Html:
    most = max((one.landed.rows for one in source.dates if one.landed), default=0)
    many = " many" if len(source.dates) > MANY else ""
    return _joined((
        fill("bar", kind=f"{one.state.level}{'' if one.landed else ' empty'}{many}", title=_title(one),
             height=max(2, round(100 * one.landed.rows / most)) if one.landed and most else 2 if one.landed else 0,
             symbol=one.state.symbol) for one in source.dates), "")


def _problems(fill: _Fragments, problems: list[tuple[SourceStatus, SourceDate]]) -> Html:
    if not problems:
        return Html()
    items = (fill("problem", level=one.state.level, source=source.name, day=one.day, state=one.state.name,
                  what=one.problem, command=fill("command", command=one.command) if one.command else "")
             for source, one in problems[:SHOWN])
    more = f" (the newest {SHOWN} of {len(problems)})" if len(problems) > SHOWN else ""
    return fill("problems", heading=f"Needs attention{more}", items=_joined(items))


def _row(fill: _Fragments, status: Status, place: int) -> Html:
    cells = (_cell(fill, source.dates, place) for source in status.sources)
    return fill("date", weekday=f"{status.days[place]:%a}", day=status.days[place], cells=_joined(cells, ""))


def _cell(fill: _Fragments, dates: list[SourceDate], place: int) -> Html:
    one = dates[place]
    before = next((other.landed for other in reversed(dates[:place]) if other.landed), None)
    text = f"{one.landed.rows:,}" if one.landed else "" if one.state.symbol == "·" else one.state.name
    change = signed(one.landed.rows - before.rows) if one.landed and before else ""
    return fill("cell", level=one.state.level, title=_title(one), symbol=one.state.symbol, text=text, change=change)
