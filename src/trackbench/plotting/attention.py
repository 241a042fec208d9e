"""Reconstruction ratio against the attention a clusterer leaves to compute, per surface."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trackbench.plotting.style import (
    DAGGER,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    styled,
    tracker_style,
)

SURFACE_COLUMNS = ("region", "method", "recon_ratio", "attention", "source")
MEASURED = "measured"
_LABELS = {
    "recon_ratio": "Reconstruction ratio",
    "fully_contained": "Fully contained tracks",
    "majority_contained": "Majority contained tracks",
    "dm": "Track DM efficiency",
}


@styled
def attention_figure(
    surfaces: pd.DataFrame, value: str = "recon_ratio", header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Show what each clusterer keeps of the tracks against the share of hit pairs it leaves.

    surfaces: rows of ``tables/surfaces.csv``: ``region`` ("barrel", "endcap-", "endcap+"; "endcap" in
        quoted rows), ``method``, ``attention`` = sum of squared cluster sizes / N^2, ``source``
        ("measured", anything else is quoted: open marker and dagger), the column ``value``, and for
        error bars ``attention_err`` and ``recon_ratio_err`` or ``dm_lo dm_hi`` where they exist
    value: "recon_ratio" (mean largest share of a track in one cluster), "fully_contained",
        "majority_contained" or "dm"
    Upper left is better: more of each track for less attention. Best is never one number: one giant
    cluster has ratio 1 and attention 1.
    Returns the figure and the rows shown, sorted. Raises ConfigError for a missing column.
    """
    check_columns("surfaces table", surfaces, (*SURFACE_COLUMNS, value))
    rows = surfaces.assign(quoted=(surfaces["source"] != MEASURED).to_numpy(bool))
    rows = rows.sort_values(["quoted", "region", "method"], kind="stable", ignore_index=True)
    figure = new_figure(13.0, 6.0)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    barrel = rows["region"].str.startswith("barrel").to_numpy(bool) if len(rows) else np.zeros(0, bool)
    for ax, mask, title in zip(axes, (barrel, ~barrel), ("Barrel", "Endcaps (- and + apart)"), strict=True):
        _draw_region(ax, rows[mask], value, title.replace("-", "\N{MINUS SIGN}"))
    axes[0].set_ylabel(_LABELS.get(value, value))
    axes[0].set_xscale("log")
    _set_ranges(axes, rows, value)
    extra = f"{DAGGER} quoted from the talk, another sample" if rows["quoted"].any() else ""
    draw_header(axes[0], header, extra, right=axes[1])
    return figure, rows.drop(columns="quoted")


def _draw_region(ax: Axes, rows: pd.DataFrame, value: str, title: str) -> None:
    seen = set()
    for entry in rows.to_dict("records"):
        method, quoted = entry["method"], entry["quoted"]
        style = tracker_style(method)
        label = f"{method} {DAGGER}" if quoted else method
        face = "white" if quoted else style.color
        options = {"color": style.color, "marker": style.marker, "markerfacecolor": face, "markersize": 10}
        bars = {"xerr": _bar(entry, "attention"), "yerr": _bar(entry, value), "linestyle": ""}
        ax.errorbar([entry["attention"]], [entry[value]], label=None if label in seen else label, **bars, **options)
        seen.add(label)
        if entry["region"] in ("endcap-", "endcap+"):
            sign = "+" if entry["region"].endswith("+") else "\N{MINUS SIGN}"
            place = {"textcoords": "offset points", "fontsize": 11, "color": style.color}
            ax.annotate(sign, (entry["attention"], entry[value]), (6, 3), **place)
        if not quoted:
            _draw_link(ax, entry, rows, value, style.color)
    if len(rows):
        ax.legend(loc="lower right", ncols=2, title=title, alignment="left", frameon=True)
    else:
        draw_note(ax, f"{title}: nothing to show")
    ax.set_xlabel(r"Attention  $\Sigma\,|C|^2 / N^2$")


def _bar(entry: dict, name: str) -> np.ndarray:
    """Error bar of a column, (2, 1): from its standard error or interval, 0 where there is none."""
    error = entry.get(f"{name}_err", 0.0)
    low = entry[name] - entry[f"{name}_lo"] if f"{name}_lo" in entry else error
    high = entry[f"{name}_hi"] - entry[name] if f"{name}_hi" in entry else error
    return np.clip(np.nan_to_num([[low], [high]]), 0, None)


def _draw_link(ax: Axes, entry: dict, rows: pd.DataFrame, value: str, color: str) -> None:
    """Join a measured point to the quoted one of the same method, so that pairs are found at a glance."""
    partner = rows[rows["quoted"] & (rows["method"] == entry["method"])]
    for other in partner.to_dict("records"):
        x, y = [entry["attention"], other["attention"]], [entry[value], other[value]]
        ax.plot(x, y, color=color, linewidth=0.8, linestyle=":")


def _set_ranges(axes: np.ndarray, rows: pd.DataFrame, value: str) -> None:
    attention = rows["attention"].to_numpy(np.float64)
    attention = attention[attention > 0]
    if attention.size:
        axes[0].set_xlim(attention.min() / 2, attention.max() * 2)
    lowest = np.nanmin(rows[value].to_numpy(np.float64), initial=1.0)
    span = max(1.0 - lowest, 0.05)
    axes[0].set_ylim(max(lowest - 0.75 * span, -0.05), 1.0 + 0.1 * span)  # legend below the points
