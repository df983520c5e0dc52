"""A dashboard as a page and as a picture, both without script and network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from charts import KINDS, Table, number

STYLE = Path(__file__).with_name("style.css").read_text("utf-8").strip()
PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
CHART = 480  # pixels: width of a chart
SPACE, CARD, EDGE, TITLE = 16, 66, 14, 32  # of the picture: between cards, a figure, inside a card, above a chart
SHOWN = 500  # rows of a chart's table


@dataclass(frozen=True)
class Chart:
    """A chart with the query that it answers."""

    title: str
    kind: str
    query: str
    data: Table


@dataclass(frozen=True)
class Dashboard:
    """What is shown. `figures`: labels and values."""

    title: str
    about: str
    day: str
    schema: str
    figures: Sequence[tuple[str, Any]]
    charts: Sequence[Chart]


def page(board: Dashboard) -> str:
    """A self-contained HTML page."""
    figures = [f"<li><b>{escape(number(value))}</b>{escape(label)}</li>" for label, value in board.figures]
    texts = {"title": board.title, "about": board.about, "day": board.day, "schema": board.schema}
    return PAGE.substitute({name: escape(text) for name, text in texts.items()}, style=STYLE,
                           figures="\n".join(figures), charts="\n".join(map(_section, board.charts)))


def _section(chart: Chart) -> str:
    drawing = KINDS[chart.kind](chart.data, CHART)
    return (f"<section><h2>{escape(chart.title)}</h2>\n{drawing.svg(chart.title)}\n<details><summary>Values and query"
            f'</summary><div class="wide">{_table(chart.data)}</div><pre>{escape(chart.query.strip())}</pre></details>'
            "</section>")


def _table(data: Table) -> str:
    """The values, the first SHOWN rows of many."""
    head = "".join(f"<th>{escape(name)}</th>" for name in data.columns)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in [label, *map(number, row[1:])])
            for label, row in zip(data.labels[:SHOWN], data.rows, strict=False)]
    more = f"<p>… {len(data.rows) - SHOWN:,} more rows</p>" if len(data.rows) > SHOWN else ""
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + f"</table>{more}"


def picture(board: Dashboard) -> str:
    """The same as one SVG, for a README: figures, and charts in two columns."""
    wide = CHART + 2 * EDGE
    width, y = 2 * wide + 3 * SPACE, 78
    marks = [f'<text x="{SPACE}" y="34" class="title">{escape(board.title)}</text>'
             f'<text x="{SPACE}" y="58" class="label">{escape(board.about)}</text>']
    each = (width - SPACE) / max(len(board.figures), 1)
    for place, (label, value) in enumerate(board.figures):
        inside = (f'<text y="20" class="figure">{escape(number(value))}</text>'
                  f'<text y="40" class="label">{escape(label)}</text>')
        marks.append(_card(SPACE + place * each, y, each - SPACE, CARD, inside))
    tops = [y + CARD + SPACE] * 2
    for chart in board.charts:
        drawing = KINDS[chart.kind](chart.data, CHART)
        side = 0 if tops[0] <= tops[1] else 1
        inside = (f'<text y="13" class="heading">{escape(chart.title)}</text>'
                  f'<g transform="translate(0 {TITLE})">{drawing.marks}</g>')
        height = drawing.height + TITLE + 2 * EDGE
        marks.append(_card(SPACE + side * (wide + SPACE), tops[side], wide, height, inside))
        tops[side] += height + SPACE
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {max(tops)}" role="img" '
            f'aria-label="{escape(board.title)}"><style>{STYLE}\nsvg .title {{ font-size: 21px; font-weight: 650 }}\n'
            "svg .heading { font-size: 15px; font-weight: 600 } svg .figure { font-size: 22px; font-weight: 650 }\n"
            ".card { fill: var(--card); stroke: var(--line) } .page { fill: var(--page) }</style>"
            f'<rect class="page" width="{width}" height="{max(tops)}" rx="10"/>{"".join(marks)}</svg>\n')


def _card(x: float, y: float, width: float, height: float, inside: str) -> str:
    return (f'<rect class="card" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="10"/>'
            f'<g transform="translate({x + EDGE:.1f} {y + EDGE:.1f})">{inside}</g>')
