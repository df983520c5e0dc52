"""A result as a chart: rows a second of each contestant, one panel for each job, at the largest size."""

from __future__ import annotations

from pathlib import Path

from figures import EXTRACT, LOAD, LOAD_KEY, OURS, Figures
from goals import LABELS
from matplotlib import rcParams
from matplotlib.figure import Figure

rcParams["svg.hashsalt"] = "landing"  # the same result gives the same file

OURS_COLOUR, COLOUR = "#0b6e4f", "#9aa5b1"


def draw(figures: Figures, path: Path) -> None:
    """Write an SVG."""
    rows = max(figures.result["sizes"])
    data, jobs = f"lineitem_{rows}", (EXTRACT, LOAD, LOAD_KEY)
    ranked = [figures.contestants(data, phase) for (phase,) in jobs]
    heights = [max(len(names), 1) for names in ranked]
    chart = Figure(figsize=(9, 1.6 + 0.3 * sum(heights)), layout="constrained")
    panels = chart.subplots(len(jobs), 1, sharex=True, height_ratios=heights)
    for panel, phases, names in zip(panels, jobs, ranked, strict=True):
        rates = [figures.rate(who, data, phases) or 0 for who in names]
        bars = panel.barh(names, rates, color=[OURS_COLOUR if who.startswith(OURS) else COLOUR for who in names])
        panel.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
        panel.set_title(LABELS[phases], loc="left", fontsize=10)
        panel.set_xscale("log")
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("rows per second, without the cost of starting up (logarithmic)")
    panels[-1].set_xlim(right=panels[-1].get_xlim()[1] * 2)  # room for the figures
    chart.suptitle(f"PostgreSQL to files and back, {rows:,} rows x 16 columns", fontsize=11)
    chart.savefig(path, metadata={"Date": None})
