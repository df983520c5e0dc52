"""A result as a chart: rows a second of extract and load, as whole runs and without start-up, at the largest size.

An SVG that is readable on a light and on a dark page.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from data import SAMPLE
from figures import EXTRACT, LIMIT, LOAD, LOAD_KEY, OURS, PSQL, Figures

# Who, and what the load is: two tools made no key.
BARS = {LIMIT: LOAD_KEY, OURS: LOAD_KEY, "DuckDB, Parquet": LOAD_KEY, PSQL: LOAD_KEY, "dlt": LOAD, "sling": LOAD,
        "stock Singer, defaults": LOAD_KEY}
NAMES, PANEL, LEFT, GAP, ROW, TOP = 205, 270, (205, 565), 90, 30, 62
STYLE = """<style>
text{font:13px system-ui,sans-serif;fill:#1f2328} .title{font-weight:600} .of{fill:#59636e;font-size:12px}
.name{text-anchor:end} .ours{fill:#0b6e4f;font-weight:600} rect{fill:#9aa5b1} rect.ours{fill:#0b6e4f}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc} .of{fill:#9198a1} text.ours{fill:#3fb68b} rect{fill:#656c76}
rect.ours{fill:#3fb68b}}
</style>"""


def draw(figures: Figures, path: Path) -> None:
    """Write an SVG."""
    rows = max(figures.result["sizes"])
    data = f"lineitem_{rows}"
    bars = [(who, *rates) for who, load in BARS.items() if (rates := _rates(figures, who, data, EXTRACT + load))]
    height = TOP + ROW * len(bars) + 40
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" role="img" '
             'aria-label="Rows a second of extract and load, by tool">', STYLE,
             f'<text class="title" x="10" y="20">PostgreSQL to files to PostgreSQL: {rows:,} rows of 16 columns, rows '
             "a second</text>"]
    for number, title in enumerate(("whole run", "without start-up")):
        drawn.append(f'<text class="of" x="{LEFT[number]}" y="46">{title}</text>')
        most = max((bar[1 + number] for bar in bars), default=0)  # bars may be of none
        for row, bar in enumerate(bars):
            y, rate, ours = TOP + ROW * row, bar[1 + number], ' class="ours"' if bar[0] == OURS else ""
            width = rate / most * PANEL
            drawn.append(f'<rect{ours} x="{LEFT[number]}" y="{y - 6}" width="{width:.1f}" height="20" rx="2"/>')
            drawn.append(f'<text{ours} x="{LEFT[number] + width + 6:.1f}" y="{y + 9}">{rate:,.0f}</text>')
    for row, (who, *_) in enumerate(bars):
        mark = " *" if BARS[who] == LOAD else " **" if not figures.of(who, data, "extract") else ""
        kind = "name ours" if who == OURS else "name"
        drawn.append(f'<text class="{kind}" x="{NAMES - 10}" y="{TOP + ROW * row + 9}">{escape(who + mark)}</text>')
    drawn.append(f'<text class="of" x="10" y="{height - 14}">Load with its primary key; * without. ** On '
                 f"{SAMPLE.rows:,} rows, since more would take too long.</text>")
    path.write_text("\n".join([*drawn, "</svg>", ""]), "utf-8")


def _rates(figures: Figures, who: str, data: str, phases: tuple[str, ...]) -> tuple[float, float] | None:
    """Rows a second of whole runs and without start-up; of the sample, where the data set was too much to run."""
    own = data if figures.of(who, data, phases[0]) else "sample"
    seconds = [figures.median(who, own, phase, "seconds") for phase in phases]
    net = figures.rate(who, data, phases)
    if None in seconds or net is None:
        return None
    return figures.of(who, own, phases[0])[0]["rows"] / sum(seconds), net
