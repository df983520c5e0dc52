"""Tables and charts of the notebook. Charts show their values as numbers, too."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Markdown
from landing.api import EQUAL
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL.Image import Dither
from PIL.Image import open as open_image

INK, PALE, RED = "#22313f", "#8795a1", "#b3261e"
MAP = "YlGnBu"
KINDS = {"inserted": "#2a9d8f", "updated": "#e9a23b", "deleted": "#c8553d"}
# Okabe and Ito's colour-blind safe palette; the ninth is for all other categories.
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f6a93", "#b8c2cb"]
COLOURS_OF_A_PNG = 96
WIDTH = 8.6  # inches
TABLES = 40  # rows of the heat map
LABELS = 7  # labelled dates of the heat map
NUMBERED = 12  # up to this many dates, each cell of the heat map shows its number


def table(frame: pd.DataFrame, wrong: str | None = None, number: str = "") -> HTML:
    """Align numbers right, in the format `number`, and text left. Rows with text in column `wrong` are red."""
    kinds = ["right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in frame.dtypes]
    lines = [_line("th", frame.columns, kinds)]
    for row in frame.itertuples(index=False, name=None):
        bad = wrong is not None and bool(row[frame.columns.get_loc(wrong)])
        cells = [_text(cell, number) for cell in row]
        lines.append(_line("td", cells, kinds, f"; color: {RED}; font-weight: bold" if bad else ""))
    return HTML("<table>\n" + "\n".join(lines) + "\n</table>")


def _line(tag: str, cells: Sequence[str], kinds: Sequence[str], style: str = "") -> str:
    return "<tr>" + "".join(
        f'<{tag} style="text-align: {kind}{style}">{html.escape(cell)}</{tag}>'
        for cell, kind in zip(cells, kinds, strict=True)
    ) + "</tr>"


def _text(cell: Any, number: str) -> str:
    if not isinstance(cell, list) and pd.isna(cell):
        return ""
    return format(cell, number) if isinstance(cell, (int, np.integer)) else str(cell)


def reconciliation(found: pd.DataFrame) -> HTML:
    """The rows of `landing verify` with shortened hashes."""
    shown = found[["source", "table", "rows", "bytes"]].copy()
    for column, name in {"landed": "sha256: source", "files": "files", "warehouse": "warehouse"}.items():
        shown[name] = [value[:12] if isinstance(value, str) else "-" for value in found[column]]
    shown["equal"] = [EQUAL[how] if equal else "NO"
                      for equal, how in zip(found["equal"], found["compared"], strict=True)]
    methods = [", ".join(f"{name} ({method})" for name, method in one.items()) for one in found["protected"]]
    if any(methods):
        shown["protected, compared as landed"] = methods
    shown["why not"] = [value if isinstance(value, str) else "" for value in found["problem"]]
    if not shown["why not"].any():
        return table(shown.drop(columns="why not"), number=",")
    return table(shown, wrong="why not", number=",")


def picture(figure: Figure, alt: str) -> Image:
    """A PNG with few colours, small enough to commit, and byte-identical for the same data."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=144, facecolor="white")
    open_image(drawn).convert("RGB").quantize(COLOURS_OF_A_PNG, dither=Dither.NONE).save(small, "png", optimize=True)
    return Image(small.getvalue(), width=int(WIDTH * 100), alt=alt)


def _axes(title: str, height: float, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, columns, sharey=columns > 1)
    for one in np.atleast_1d(axes):
        one.spines[["top", "right", "left", "bottom"]].set_visible(False)
        one.tick_params(length=0, colors=INK, labelsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return figure, axes


def _thousands(axes: Axes, axis: str) -> None:
    getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def heat_map(loads: pd.DataFrame, day: date) -> Image:
    """Rows per table and date; a white cell is a table that the date does not have. `loads`: from Day.loads()."""
    rows = loads.pivot_table(index="table_name", columns="extracted_at", values="rows", sort=True)
    order = rows.iloc[:, -1].fillna(0).sort_values(ascending=False, kind="stable").index
    rows = rows.loc[order[:TABLES]]
    days, names = list(rows.columns), list(rows.index)
    which = "table" if len(order) == len(names) else f"table (the largest {TABLES} of {len(order)})"
    figure, axes = _axes(f"Rows per {which} and loaded date", 0.9 + 0.27 * len(names))
    top = max(2.0, float(np.nanmax(rows.to_numpy())))
    # A log scale keeps 10 and 100 rows apart beside 100,000. An empty table gets the palest colour, not white.
    axes.pcolormesh(rows.to_numpy(dtype=float).clip(min=1), cmap=MAP, norm=LogNorm(1, top), edgecolors="white",
                    linewidth=1.5 if len(days) <= NUMBERED else 0.5)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    step = -(-len(days) // LABELS)
    ticks = range(days.index(day) % step, len(days), step)
    axes.set_xticks([tick + 0.5 for tick in ticks], [str(days[tick]) for tick in ticks])
    axes.xaxis.tick_top()
    for x in range(len(days)) if len(days) <= NUMBERED else [len(days)]:
        _numbers(axes, x, rows.iloc[:, min(x, len(days) - 1)], inside=x < len(days), top=top)
    for label, tick in zip(axes.get_xticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if days[tick] == day else "normal")
    return picture(figure, f"Rows of {len(names)} tables on {len(days)} dates")


def _numbers(axes: Axes, x: int, column: pd.Series, *, inside: bool, top: float) -> None:
    """Write the numbers of one date into its cells, or to the right of the last date."""
    for y, value in enumerate(column):
        if not np.isnan(value):
            dark = inside and np.log(max(value, 1)) > 0.48 * np.log(top)
            axes.text(x + (0.5 if inside else 0.3), y + 0.5, f"{int(value):,}", va="center",
                      ha="center" if inside else "left", fontsize=8.5, color="white" if dark else INK)


def changes(found: pd.DataFrame, before: date, day: date) -> Image | Markdown:
    """Inserted, updated and deleted rows of each table between two dates. `found`: from Day.changes()."""
    kinds = list(KINDS)
    changed = found[found[kinds].sum(axis=1) > 0].sort_values(kinds, kind="stable")
    title = f"What changed from {before} to {day}: {len(changed)} of {len(found)} tables"
    if changed.empty:
        return Markdown(f"*{title}.*")
    names = changed["table"].where(changed["note"] == "", changed["table"] + " (" + changed["note"] + ")")
    figure, columns = _axes(title, 0.95 + 0.3 * len(changed), len(KINDS))
    widest = float(changed[kinds].to_numpy().max())
    for axes, (kind, colour) in zip(columns, KINDS.items(), strict=True):
        axes.barh(names, changed[kind], color=colour, height=0.62)
        axes.set_xlim(0, widest * 1.25)
        axes.set_xticks([])
        axes.set_title(f"{kind}: {changed[kind].sum():,}", loc="left", fontsize=9.5, color=colour, fontweight="bold")
        for y, value in enumerate(changed[kind]):
            axes.text(value + widest * 0.03, y, f"{value:,}" if value else "·", va="center", fontsize=9,
                      color=INK if value else PALE)
    return picture(figure, title)


def stacked_months(found: pd.DataFrame) -> Image:
    """One bar per month, stacked by category. `found`: month, category, revenue."""
    months = found.astype({"revenue": float}).pivot_table(index="month", columns="category", values="revenue",
                                                          aggfunc="sum", fill_value=0.0)
    months = months[months.sum().sort_values(ascending=False).index]
    if len(months.columns) > len(COLOURS):
        few = months.iloc[:, :len(COLOURS) - 1].copy()
        few["all others"] = months.iloc[:, len(COLOURS) - 1:].sum(axis=1)
        months = few
    figure, axes = _axes("Revenue per month and category", 3.3)
    bottom = np.zeros(len(months))
    for colour, name in zip(COLOURS, months.columns, strict=False):
        axes.bar(range(len(months)), months[name], bottom=bottom, color=colour, width=0.78, label=name)
        bottom += months[name].to_numpy()
    step = -(-len(months) // 12)
    axes.set_xticks(range(0, len(months), step), [f"{month:%b\n%Y}" for month in months.index[::step]])
    axes.yaxis.grid(True, color="#e3e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    _thousands(axes, "y")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return picture(figure, "Revenue per month, stacked by category")


def ranking(found: pd.DataFrame) -> Image:
    """One bar per row, in the given order. `found`: customer, revenue, orders."""
    found = found.iloc[::-1].astype({"revenue": float})
    figure, axes = _axes("Customers by revenue", 0.8 + 0.27 * len(found))
    axes.barh(range(len(found)), found["revenue"], color=COLOURS[0], height=0.66)
    axes.set_yticks(range(len(found)), found["customer"])
    axes.set_xticks([])
    widest = found["revenue"].max()
    axes.set_xlim(0, widest * 1.22)
    for y, (revenue, orders) in enumerate(zip(found["revenue"], found["orders"], strict=True)):
        axes.text(revenue + widest * 0.012, y, f"{revenue:,.0f}  in {orders:,} orders", va="center", fontsize=9)
    return picture(figure, f"The {len(found)} customers with the highest revenue")
