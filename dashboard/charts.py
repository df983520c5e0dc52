"""Charts as SVG, in the colours of style.css. Labels and values stay text; a pointer over a mark shows its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from html import escape
from typing import Any

ROW, GAP, LETTER = 24, 10, 7.2  # pixels: of a bar with its space, between label and bar, of a character
LABEL = 26  # characters of a label, at most
PLOT, LEFT, FOOT, HEAD = 190, 46, 26, 14  # of columns: height, space for the axis, for labels, above
APART = 36  # pixels from label to label below columns, at least
NONE = "(none)"


@dataclass(frozen=True)
class Table:
    """The result of a query: a label in the first column, numbers in the others."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def labels(self) -> list[str]:
        found = [row[0] for row in self.rows]
        dates = [one for one in found if isinstance(one, date)]
        months = dates and all(one.day == 1 for one in dates)
        return [NONE if one is None else f"{one:%b %Y}" if months and isinstance(one, date) else str(one)
                for one in found]

    @property
    def series(self) -> list[list[float]]:
        """The numbers of each column; NULL is 0, and so are NaN and the infinite ones, which no axis can show."""
        return [[_finite(row[place]) for row in self.rows] for place in range(1, len(self.columns))]


@dataclass(frozen=True)
class Drawing:
    """Marks, without the element <svg> around them."""

    marks: str
    width: int
    height: int

    def svg(self, about: str) -> str:
        return (f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(about)}">'
                f"{self.marks}</svg>")


def _finite(value: Any) -> float:
    return float(value or 0) if math.isfinite(value or 0) else 0.0


def number(value: Any) -> str:
    """A value as people read it: 12,345 or 0.25."""
    if value is None:
        return "-"
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (float, Decimal)) and value != int(value) and abs(value) < 1000:
        return f"{value:,.2f}"
    return f"{value:,.0f}" if isinstance(value, (int, float, Decimal)) else str(value)


def compact(value: float) -> str:
    """A value at an axis: 1.5M, 20k, 0.5."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def bars(data: Table, width: int) -> Drawing:
    """One horizontal bar a row, with its value."""
    labels = [_short(label) for label in data.labels]
    left = round(max(map(len, labels), default=0) * LETTER) + GAP + 6
    values, top = data.series[0], max([*data.series[0], 0]) or 1
    room = width - left - round(max((len(number(row[1])) for row in data.rows), default=0) * LETTER) - GAP
    marks = []
    for place, (label, value, row) in enumerate(zip(labels, values, data.rows, strict=True)):
        y, length = place * ROW, round(max(value, 0) / top * room, 1)
        marks.append(
            f'<g><title>{escape(f"{data.labels[place]}: {number(row[1])}")}</title>'
            f'<text class="label" x="{left - GAP}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
            f'<rect class="s0" x="{left}" y="{y + 4}" width="{length}" height="{ROW - 8}" rx="2"/>'
            f'<text class="value" x="{left + length + 6}" y="{y + 16}">{number(row[1])}</text></g>')
    return Drawing("".join(marks), width, max(len(labels), 1) * ROW)


def columns(data: Table, width: int) -> Drawing:
    """One column a row, in the given order; several numbers are stacked, with a legend."""
    data = _without_empty(data)
    legend = _legend(data.columns[1:], width) if len(data.columns) > 2 else Drawing("", width, 0)
    totals = [sum(max(value, 0) for value in values) for values in zip(*data.series, strict=True)]
    ticks = _ticks(max([*totals, 0]))
    scale, base = PLOT / ticks[-1], legend.height + HEAD + PLOT
    step = (width - LEFT) / max(len(data.rows), 1)
    marks = [legend.marks, *_grid(ticks, scale, base, width), *_axis(data.labels, step, base, width)]
    for place, (label, row) in enumerate(zip(data.labels, data.rows, strict=True)):
        y = float(base)
        for series, name in enumerate(data.columns[1:]):
            height = max(data.series[series][place], 0) * scale
            y -= height
            said = f"{label}, {name}: {number(row[series + 1])}"
            marks.append(f'<rect class="s{series % 8}" x="{LEFT + place * step + step * 0.1:.1f}" y="{y:.1f}" '
                         f'width="{step * 0.8:.1f}" height="{height:.1f}"><title>{escape(said)}</title></rect>')
    return Drawing("".join(marks), width, base + FOOT)


def _without_empty(data: Table) -> Table:
    """Without series that are 0 throughout, unless all are."""
    kept = [0, *(place for place, values in enumerate(data.series, 1) if any(values))]
    if len(kept) == 1:
        return Table(data.columns[:2], [row[:2] for row in data.rows])
    return Table([data.columns[place] for place in kept], [[row[place] for place in kept] for row in data.rows])


def _grid(ticks: Sequence[float], scale: float, base: float, width: int) -> list[str]:
    heights = [(tick, base - tick * scale) for tick in ticks]
    return [f'<line class="grid" x1="{LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{compact(tick)}</text>'
            for tick, y in heights]


def _axis(labels: Sequence[str], step: float, base: float, width: int) -> list[str]:
    """Labels below the columns, as many as there is room for."""
    every = max(1, math.ceil(max([APART, *(len(label) * LETTER + 8 for label in labels)]) / step)) if labels else 1
    marks = []
    for place in range(0, len(labels), every):
        x = LEFT + (place + 0.5) * step
        ends = x + len(labels[place]) * LETTER / 2 > width
        at = f'x="{width}" y="{base + 17}" text-anchor="end"' if ends else (
            f'x="{x:.1f}" y="{base + 17}" text-anchor="middle"')
        marks.append(f'<text class="label" {at}>{escape(labels[place])}</text>')
    return marks


def _legend(names: Sequence[str], width: int) -> Drawing:
    marks, x, y = [], 0.0, 0
    for place, name in enumerate(names):
        length = 18 + len(name) * LETTER + 16
        if x and x + length > width:
            x, y = 0.0, y + 18
        marks.append(f'<rect class="s{place % 8}" x="{x:.0f}" y="{y + 2}" width="11" height="11" rx="2"/>'
                     f'<text class="label" x="{x + 16:.0f}" y="{y + 12}">{escape(name)}</text>')
        x += length
    return Drawing("".join(marks), width, y + 24)


def _ticks(top: float) -> list[float]:
    """Three to six round values from 0 up to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(top))
    step = next(step * size for step in (0.2, 0.25, 0.5, 1, 2, 2.5) if top / (step * size) <= 5)
    return [place * step for place in range(math.ceil(top / step - 1e-9) + 1)]


def _short(label: str) -> str:
    return label if len(label) <= LABEL else label[:LABEL - 1] + "…"


KINDS: dict[str, Callable[[Table, int], Drawing]] = {"bars": bars, "columns": columns}
