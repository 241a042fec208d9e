"""Attention masks: what they keep of the tracks against the share of pairs, and their time and memory."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullFormatter

from trackbench.evaluation.surfaces import PT_MIN
from trackbench.plotting.style import (
    PALETTE,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    styled,
)

TABLE_COLUMNS = (
    "mask",
    "kind",
    "backend",
    "n_hits",
    "timed_hits",
    "share",
    "recall",
    "recall_pt",
    "wall_ms",
    "memory_mb",
)
COSTS = {"wall_ms": "Time per layer [ms]", "memory_mb": "Peak memory [MB]"}
# Colour of a kind of mask; masks of one kind differ by marker.
_COLORS = {
    "padding": "#717581",
    "cluster": "#ffa90e",
    "cone": "#bd1f01",
    "phi_window": "#3f90da",
    "phi_sector": "#832db6",
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = {"sdpa": "-", "varlen": "--", "flex": ":"}
_BARS = {"sdpa": 1.0, "varlen": 0.55, "flex": 0.25}  # opacity


@styled
def mask_figure(table: pd.DataFrame, setup: str, header: Header | None = None) -> tuple[Figure, pd.DataFrame]:
    """Same-particle pairs kept against the share of all pairs; time and memory of one layer per mask and backend.

    table: ``mask_study.mask_table`` of sample events; setup: layer and device in words, written in the figure
    Upper left is better: more of each track for less attention. Returns the figure and the rows shown. Raises
    ConfigError for a missing column.
    """
    check_columns("mask table", table, TABLE_COLUMNS)
    figure = new_figure(17.0, 7.0)
    axes = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    if table.empty:
        for ax in axes:
            draw_note(ax, "no masks to show")
    else:
        _draw_recall(axes[0], table)
        for ax, quantity in zip(axes[1:], COSTS, strict=True):
            _draw_bars(ax, table, quantity)
        axes[2].tick_params(labelleft=False)
    n_hits = "" if table.empty else f" on {table['timed_hits'].iloc[0]:.0f} hits"
    recall = "recall: pairs of hits of one particle that may attend to each other"
    note = f"{recall}\ntime of one layer, memory of mask and layer{n_hits}: {setup}"
    draw_header(axes[0], header, note, right=axes[2])
    return figure, table


@styled
def mask_scaling_figure(table: pd.DataFrame, setup: str, header: Header | None = None) -> tuple[Figure, pd.DataFrame]:
    """Time and memory of one layer against the number of hits, a line per mask and backend.

    table: ``mask_study.mask_table`` of tiled events; setup, returned values and errors as for ``mask_figure``
    """
    check_columns("mask table", table, TABLE_COLUMNS)
    figure = new_figure(15.0, 7.0)
    axes = figure.subplots(1, 2)
    for ax, quantity in zip(axes, COSTS, strict=True):
        if table.empty:
            draw_note(ax, "no sizes to show")
            continue
        _draw_lines(ax, table, quantity)
    if not table.empty:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=11)
    draw_header(axes[0], header, f"one event thinned or tiled; {setup}; memory: of mask and layer", right=axes[1])
    return figure, table


def _styles(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each mask: by kind, then by place among the masks of this kind."""
    styles, seen = {}, {}
    for mask, kind in table[["mask", "kind"]].drop_duplicates().itertuples(index=False):
        number = seen.get(kind, 0)
        seen[kind] = number + 1
        styles[mask] = (_COLORS.get(kind, PALETTE[-1]), _MARKERS[number % len(_MARKERS)])
    return styles


def _draw_recall(ax: Axes, table: pd.DataFrame) -> None:
    """Open marker: all particles, filled: fast ones, joined by a line."""
    styles = _styles(table)
    for row in table.drop_duplicates("mask").to_dict("records"):
        color, marker = styles[row["mask"]]
        x, y = [row["share"]] * 2, [row["recall"], row["recall_pt"]]
        ax.plot(x, y, color=color, linewidth=1.0)
        ax.plot(x[1:], y[1:], color=color, marker=marker, markersize=9, linestyle="", label=row["mask"])
        ax.plot(x[:1], y[:1], color=color, marker=marker, markersize=9, linestyle="", markerfacecolor="white")
    ax.set_xscale("log")
    shares = table["share"][table["share"] > 0]
    if len(shares):
        ax.set_xlim(shares.min() / 2, shares.max() * 2)
    lowest = np.nanmin(table[["recall", "recall_pt"]].to_numpy(np.float64), initial=1.0)
    ax.set_ylim(max(lowest - 0.1, -0.02), 1.03)
    title = f"filled: $p_\\mathrm{{T}}$ > {PT_MIN:g} GeV, open: all"
    ax.legend(loc="lower right", title=title, alignment="left", frameon=True, fontsize=11)
    ax.set_xlabel("Attention share: allowed pairs / $N^2$")
    ax.set_ylabel("Same-particle pair recall")


def _draw_bars(ax: Axes, table: pd.DataFrame, quantity: str) -> None:
    """Horizontal bars with their numbers, the backends of a mask beside each other, first mask on top."""
    styles, masks = _styles(table), list(dict.fromkeys(table["mask"]))
    height = 0.8 / table["backend"].nunique()
    values = table[quantity].to_numpy(np.float64)
    shown = values[values > 0]
    floor = shown.min() / 2 if shown.size else 1e-3
    for i, mask in enumerate(masks):
        mine = table[table["mask"] == mask]
        for k, (backend, value) in enumerate(zip(mine["backend"], mine[quantity], strict=True)):
            end, y = max(value, floor), i + (k - (len(mine) - 1) / 2) * height
            ax.barh(y, end, height, color=styles[mask][0], alpha=_BARS.get(backend, 1.0))
            place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 10}
            ax.annotate(f"{_number(value)} {backend}", (end, y), **place)
    ax.set_xscale("log")
    low, high = floor / 1.5, max(np.nanmax(values, initial=floor), floor)
    ax.set_xlim(low, high * (high / low) ** 0.7)  # room for the numbers
    ax.set_ylim(len(masks) - 0.4, -0.6)
    ax.set_yticks(range(len(masks)), masks, fontsize=12)
    ax.tick_params(axis="y", which="both", length=0)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel(COSTS[quantity])


def _number(value: float) -> str:
    """Three digits without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _draw_lines(ax: Axes, table: pd.DataFrame, quantity: str) -> None:
    styles = _styles(table)
    for (mask, backend), mine in table.groupby(["mask", "backend"], sort=False):
        rows = mine.sort_values("n_hits")
        color, marker = styles[mask]
        face = {"sdpa": color, "varlen": "white"}.get(backend, "none")
        look = {"color": color, "marker": marker, "markerfacecolor": face, "linestyle": _LINES.get(backend, "-")}
        ax.plot(rows["n_hits"], rows[quantity].clip(lower=1e-3), label=f"{mask}, {backend}", linewidth=1.2, **look)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(table["n_hits"]))))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(table["n_hits"].min() / 1.2, table["n_hits"].max() * 1.2)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("Number of hits")
    ax.set_ylabel(COSTS[quantity])
