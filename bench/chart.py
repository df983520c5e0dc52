"""A result as a chart: rows a second of extract and load, as whole runs and net of start-up, at one size.

One linear scale from zero for all bars. An SVG that is readable on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import floor, log10
from pathlib import Path

from figures import EXTRACT, LIMIT, LOAD, LOAD_KEY, OURS, PSQL, Figures

# Who, and what the load is: two tools made no key.
BARS = {LIMIT: LOAD_KEY, OURS: LOAD_KEY, "DuckDB, Parquet": LOAD_KEY, PSQL: LOAD_KEY, "pg_dump, pg_restore": LOAD_KEY,
        "dlt": LOAD, "sling": LOAD, "stock Singer, defaults": LOAD_KEY}
WIDTH, LEFT, PANEL, TOP, ROW, BAR = 900, 200, 610, 78, 46, 16
USUAL = "lineitem_6000000"
STYLE = """<style>
text{font:13px system-ui,sans-serif;fill:#1f2328} .title{font-weight:600} .of{fill:#59636e;font-size:12px}
.name{text-anchor:end} .axis{text-anchor:middle} .ours{fill:#0b6e4f;font-weight:600} rect{fill:#59636e}
rect.net{fill:#b6bfc9} rect.ours{fill:#0b6e4f} rect.ours.net{fill:#7cc4a8} line{stroke:#d1d9e0}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc} .of{fill:#9198a1} text.ours{fill:#3fb68b} rect{fill:#9198a1}
rect.net{fill:#4d555e} rect.ours{fill:#3fb68b} rect.ours.net{fill:#1f6b52} line{stroke:#3d444d}}
</style>"""


def draw(figures: Figures, path: Path) -> bool:
    """Write an SVG; False if there is nothing to show."""
    sizes = figures.datasets("lineitem")
    data = USUAL if USUAL in sizes else sizes[-1] if sizes else ""
    bars = {who: [rate for net in (False, True) if (rate := figures.rate(who, data, EXTRACT + load, net))]
            for who, load in BARS.items()}
    bars = dict(sorted(filter(lambda bar: bar[1], bars.items()), key=lambda bar: -bar[1][0]))
    if not bars:
        return False
    path.write_text("\n".join([*_lines(figures, data, bars), "</svg>", ""]), "utf-8")
    return True


def _lines(figures: Figures, data: str, bars: dict[str, list[float]]) -> Iterator[str]:
    bottom = TOP + ROW * len(bars)
    step = _step(max(map(max, bars.values())))
    most = step * -(-max(map(max, bars.values())) // step)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" role="img" '
           'aria-label="Rows a second of extract and load, by tool">')
    yield STYLE
    yield (f'<text class="title" x="10" y="20">PostgreSQL to files to PostgreSQL: {figures.rows(data):,} rows of 16 '
           "columns, rows a second (longer is faster)</text>")
    yield from _legend()
    for number in range(round(most / step) + 1):
        x = LEFT + number * step / most * PANEL
        yield f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="of axis" x="{x:.1f}" y="{bottom + 16}">{number * step:,.0f}</text>'
    for row, (who, rates) in enumerate(bars.items()):
        yield from _bars(_name(figures, who, data), who == OURS, TOP + ROW * row, rates, most)
    yield f'<text class="of" x="10" y="{bottom + 36}">{_notes(figures, data, bars)}</text>'


def _step(most: float) -> int:
    """A round number, of which four to ten reach the longest bar."""
    size = 10 ** floor(log10(most))
    return max(int(size * (0.2 if most < 2 * size else 0.5 if most < 5 * size else 1)), 1)


def _legend() -> Iterator[str]:
    for x, kind, label in ((LEFT, "", "whole run"), (LEFT + 110, ' class="net"', "net of start-up")):
        yield f'<rect{kind} x="{x}" y="40" width="14" height="14" rx="2"/>'
        yield f'<text class="of" x="{x + 20}" y="52">{label}</text>'


def _bars(name: str, ours: bool, y: int, rates: list[float], most: float) -> Iterator[str]:
    yield f'<text class="name{" ours" * ours}" x="{LEFT - 10}" y="{y + BAR + 5}">{escape(name)}</text>'
    for number, (kind, rate) in enumerate(zip(("", "net"), rates, strict=False)):  # net, if that was measured
        top, width = y + number * (BAR + 2), rate / most * PANEL
        kinds = " ".join(filter(None, ("ours" * ours, kind)))
        yield (f'<rect{f" class={chr(34)}{kinds}{chr(34)}" * bool(kinds)} x="{LEFT}" y="{top}" width="{width:.1f}" '
               f'height="{BAR}" rx="2"/>')
        yield (f'<text class="{"ours" if ours else "of"}" x="{LEFT + width + 6:.1f}" y="{top + BAR - 4}">{rate:,.0f}'
               "</text>")


def _name(figures: Figures, who: str, data: str) -> str:
    return who + " *" * (BARS[who] == LOAD) + " **" * (figures.own(who, data, "extract") != data)


def _notes(figures: Figures, data: str, bars: dict[str, list[float]]) -> str:
    notes = ["Extract, and load with the primary key."]
    if any(BARS[who] == LOAD for who in bars):
        notes.append("* Load without it.")
    if any(figures.own(who, data, "extract") != data for who in bars):
        notes.append(f"** On {figures.rows('sample'):,} rows, since more would take too long.")
    return " ".join(notes)
