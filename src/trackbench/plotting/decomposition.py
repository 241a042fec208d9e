"""Reconstruction in phi sectors: efficiency, pairs of hits and time against the number of sectors."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from trackbench.plotting.style import PALETTE, Header, check_columns, draw_header, draw_note, new_figure, styled

COLUMNS = ("tracker", "kind", "sectors", "overlap", "metric", "value", "lo", "hi", "change", "change_lo", "change_hi")
# metric -> label of the axis
_PANELS = {
    "score": "TrackML score",
    "dm": "Double-majority efficiency",
    "cpu_ms": "CPU time per event [ms]",
    "cost": r"Pairs of hits $\Sigma n_i^2 / N^2$",
}
_LOGARITHMIC = ("cpu_ms", "cost")
# kind of row -> line style of the whole event
_LINES = {"tracker": "--", "floor": ":", "ceiling": "-."}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@styled
def decomposition_figure(table: pd.DataFrame, header: Header | None = None) -> tuple[Figure, pd.DataFrame]:
    """Four panels against the number of sectors, a curve per overlap: score, DM, CPU time, pairs of hits.

    table: from ``decomposition.decomposition_study``, one tracker; the whole event (1 sector) is the first point of
        every curve and a horizontal line, floor and ceiling are others
    Returns the figure and the rows shown. An empty table gives a figure that says so. Raises ConfigError for a missing
    column.
    """
    check_columns("decomposition table", table, COLUMNS)
    rows = table[table["metric"].isin(list(_PANELS))]
    figure = new_figure(12.0, 9.0)
    axes = figure.subplots(2, 2, sharex=True)
    overlaps = sorted(set(rows.loc[rows["sectors"] > 1, "overlap"]))
    for ax, (metric, label) in zip(axes.flat, _PANELS.items(), strict=True):
        _draw(ax, rows[rows["metric"] == metric], overlaps)
        ax.set_ylabel(label)
        if metric in _LOGARITHMIC and len(rows):
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
    _finish(axes, sorted(set(rows["sectors"])))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    else:
        draw_note(axes[0, 0], "no event to show")
    trackers = ", ".join(dict.fromkeys(rows.loc[rows["kind"] == "tracker", "tracker"]))
    bars = "bars: bootstrap over events; of score and DM for the difference to the whole event, of times for the time"
    text = f"{trackers}\n{bars}" if trackers else ""
    draw_header(axes[0, 0], header, text, right=axes[0, 1], margin=2.5)
    return figure, rows.reset_index(drop=True)


def _draw(ax: Axes, rows: pd.DataFrame, overlaps: Sequence[float]) -> None:
    for _, line in rows[rows["sectors"] == 1].iterrows():
        text = "whole event" if line["kind"] == "tracker" else f"{line['kind']}: {line['tracker']}"
        style = {"color": "0.5" if line["kind"] == "tracker" else "black", "linestyle": _LINES[line["kind"]]}
        ax.axhline(line["value"], linewidth=1.2, zorder=1, label=text, **style)
    rows = rows[rows["kind"] == "tracker"]
    whole = rows[rows["sectors"] == 1]
    for i, overlap in enumerate(overlaps):
        mine = pd.concat([whole, rows[(rows["sectors"] > 1) & (rows["overlap"] == overlap)]]).sort_values("sectors")
        value = mine["value"].to_numpy(np.float64)
        bars = _bars(mine)
        # Beside each other, so that bars can be told apart; the point of the whole event is common to all.
        shift = np.where(mine["sectors"] > 1, 2.0 ** (0.08 * (i - (len(overlaps) - 1) / 2)), 1.0)
        style = {"color": PALETTE[i % len(PALETTE)], "marker": _MARKERS[i % len(_MARKERS)], "linewidth": 1.2}
        ax.errorbar(mine["sectors"] * shift, value, yerr=bars, label=f"overlap {overlap:g} rad", **style)


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Errors down and up, (2, n): of the difference to the whole event where there is one."""
    own = [rows["value"] - rows["lo"], rows["hi"] - rows["value"]]
    paired = [rows["change"] - rows["change_lo"], rows["change_hi"] - rows["change"]]
    return np.clip(np.nan_to_num(np.where(rows["change"].notna(), paired, own)), 0, None)


def _finish(axes: np.ndarray, sectors: Sequence[int]) -> None:
    """A logarithmic axis with the numbers that were tried."""
    for ax in axes.flat:
        ax.grid(axis="y", color="0.9", linewidth=0.8)
        if not sectors:
            ax.set_xticks([])
            continue
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(list(sectors)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(list(sectors), [str(n) for n in sectors])
        ax.set_xlim(min(sectors) / 1.25, max(sectors) * 1.25)
    for ax in axes[1]:
        ax.set_xlabel("Number of sectors")
