"""Overview of all trackers: headline numbers in one figure, and paired differences to a reference."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.definitions import METRICS
from trackbench.evaluation.intervals import interval_text
from trackbench.evaluation.published import QUOTED
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

METRIC_COLUMNS = ("tracker", "metric", "region", "value", "lo", "hi", "source")
DIFFERENCE_COLUMNS = ("tracker", "reference", "metric", "value", "lo", "hi")


@styled
def summary_figure(
    metrics: pd.DataFrame,
    shown: tuple[str, ...] = ("dm", "fake_rate"),
    region: str = "all",
    header: Header | None = None,
    interval: str = "",
) -> tuple[Figure, pd.DataFrame]:
    """One row per tracker, one panel per metric: value with its interval.

    metrics: the long table ``tables/metrics.csv``; a row whose ``source`` starts with "quoted" gets
        an open marker and a dagger below a line, because its selection and data may differ
    shown: names of the metrics to show, one panel each
    region: rows of this region only
    interval: name of the binomial interval in the table, written in the figure
    Returns the figure and the rows shown, best first in the first metric, quoted ones last. An empty
    table gives a figure that says so. Raises ConfigError for a missing column or metric.
    """
    check_columns("metrics table", metrics, METRIC_COLUMNS)
    rows = metrics[(metrics["region"] == region) & metrics["metric"].isin(shown)]
    if len(metrics) and rows.empty:
        what = f"no row with metric {', '.join(shown)} and region '{region}'"
        raise ConfigError(describe("metrics table", what, "one of " + ", ".join(sorted(set(metrics["metric"])))))
    rows, order = _ordered(rows, shown[0])
    height = max(3.0, 1.5 + 0.27 * len(order))  # 19 rows fit a screen of 800 pixels
    figure = new_figure(3.0 + 3.6 * len(shown), height)
    axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for ax, metric in zip(axes, shown, strict=True):
        _draw_metric(ax, rows[rows["metric"] == metric])
        ax.set_xlabel(METRICS[metric].title if metric in METRICS else metric, fontsize=13)
    _finish_rows(axes, [f"{name} {DAGGER}" if quoted else name for name, quoted in order])
    n_measured = sum(not quoted for _, quoted in order)
    if 0 < n_measured < len(order):
        for ax in axes:
            ax.axhline(n_measured - 0.5, color="0.6", linewidth=0.8)
    extra = [f"bars: {interval_text(interval)}"] if interval else []
    extra += [f"{DAGGER} quoted: other data, selection and kind of fake rate"] if n_measured < len(order) else []
    draw_header(axes[0], header, ";  ".join(extra), right=axes[-1], margin=3.0)
    return figure, rows


def _ordered(rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[tuple[str, bool]]]:
    """Sort by ``metric``: measured before quoted, best first, ties by name. Adds a column ``quoted``."""
    rows = rows.assign(quoted=rows["source"].str.startswith(QUOTED).to_numpy(bool))
    first = rows[rows["metric"] == metric]
    value = dict(zip(zip(first["tracker"], first["quoted"], strict=True), first["value"], strict=True))
    keys = list(dict.fromkeys(zip(rows["tracker"], rows["quoted"].tolist(), strict=True)))
    order = sorted(keys, key=lambda key: (key[1], -np.nan_to_num(value.get(key, np.nan), nan=-1.0), key[0]))
    position = {key: i for i, key in enumerate(order)}
    row = [position[key] for key in zip(rows["tracker"], rows["quoted"].tolist(), strict=True)]
    return rows.assign(row=np.asarray(row, np.int64)).sort_values(["row", "metric"], ignore_index=True), order


def _draw_metric(ax: Axes, rows: pd.DataFrame) -> None:
    for entry in rows.itertuples():
        style = tracker_style(entry.tracker)
        bars = np.nan_to_num(np.clip([[entry.value - entry.lo], [entry.hi - entry.value]], 0, None))
        face = "white" if entry.quoted else style.color
        options = {"color": style.color, "marker": style.marker, "markerfacecolor": face, "markersize": 8}
        ax.errorbar([entry.value], [entry.row], xerr=bars, linestyle="", **options)
        if np.isfinite(entry.value):
            end = np.nanmax([entry.value, entry.hi])
            place = {"textcoords": "offset points", "va": "center", "fontsize": 10, "color": "0.25"}
            ax.annotate(f"{entry.value:.3f}", (end, entry.row), (8, 0), **place)
    highest = np.nanmax(rows[["value", "hi"]].to_numpy(np.float64), initial=0.0)
    top = max(1.34 * highest, 0.02)  # room for the number beside the highest value
    ax.set_xlim(-0.04 * top, top)


def _write_above(ax: Axes, text: str, x: float, y: float) -> None:
    box = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
    options = {"textcoords": "offset points", "ha": "center", "fontsize": 10, "color": "0.25", "bbox": box}
    ax.annotate(text, (x, y), (0, 8), **options)


def _finish_rows(axes: np.ndarray, names: list[str]) -> None:
    for ax in axes:
        ax.tick_params(axis="y", which="both", right=False, left=False)
        ax.grid(axis="x", color="0.9", linewidth=0.8)
        ax.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylim(max(len(names), 1) - 0.4, -0.7)
    if not names:
        draw_note(axes[0], "no tracker to show")


@styled
def difference_figure(
    differences: pd.DataFrame, metric: str = "dm", header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Difference of each tracker to a reference on the same events, with its paired bootstrap interval.

    differences: rows with ``DIFFERENCE_COLUMNS``, of ``evaluation.tables.differences``: tracker minus
        reference, ``lo hi`` from a bootstrap that draws the same events for both
    metric: rows of this metric only
    Returns the figure and the rows shown, largest difference first. Raises ConfigError for a missing
    column or more than one reference.
    """
    check_columns("differences table", differences, DIFFERENCE_COLUMNS)
    rows = differences[differences["metric"] == metric]
    references = sorted(set(rows["reference"]))
    if len(references) > 1:
        raise ConfigError(describe("differences table", "references " + ", ".join(references), "one reference"))
    rows = rows[rows["tracker"] != rows["reference"]]
    rows = rows.sort_values(["value", "tracker"], ascending=[False, True], ignore_index=True)
    figure = new_figure(8.0, max(3.5, 2.0 + 0.42 * len(rows)))
    ax = figure.subplots()
    ax.axvline(0.0, color="0.4", linewidth=1)
    for i, entry in enumerate(rows.itertuples()):
        style = tracker_style(entry.tracker)
        bars = np.clip([[entry.value - entry.lo], [entry.hi - entry.value]], 0, None)
        ax.errorbar([entry.value], [i], xerr=bars, color=style.color, marker=style.marker, markersize=9, linestyle="")
        text = f"{entry.value:+.3f} [{entry.lo:+.3f}, {entry.hi:+.3f}]".replace("-", "\N{MINUS SIGN}")
        _write_above(ax, text, entry.value, i)
    values = rows[["value", "lo", "hi"]].to_numpy(np.float64)
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    room = 0.22 * max(high - low, 0.01)  # for half of the text above an outermost point
    ax.set_xlim(low - room, high + room)
    title = METRICS[metric].title if metric in METRICS else metric
    ax.set_xlabel(f"{title}: difference to {references[0] if references else 'the reference'}")
    _finish_rows(np.array([ax]), rows["tracker"].tolist())
    draw_header(ax, header, "bars: paired bootstrap over events, 16-84 %", margin=3.0)
    return figure, rows
