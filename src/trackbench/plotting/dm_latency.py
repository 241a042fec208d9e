"""DM efficiency of trackers against their time per event, quoted numbers in a panel of their own."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.definitions import METRICS
from trackbench.evaluation.intervals import interval_text
from trackbench.evaluation.published import is_quoted
from trackbench.plotting.style import (
    DAGGER,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    pretty,
    styled,
    tracker_style,
)

METRIC_COLUMNS = ("tracker", "metric", "region", "value", "lo", "hi", "selection", "source")
POINT_COLUMNS = ("row", "quoted", "dm", "dm_lo", "dm_hi", "seconds", "lo", "hi", "clock", "conditions")
CPU, WALL = "CPU time", "wall clock"
_MARKERS = ("o", "s", "^", "D", "v", "P", "h")  # where two trackers would look the same


@styled
def dm_latency_figure(
    metrics: pd.DataFrame, statement: str, header: Header | None = None, interval: str = "", region: str = "all"
) -> tuple[Figure, pd.DataFrame]:
    """DM efficiency against time per event: rows measured on one sample, left; quoted numbers in a panel of their own.

    metrics: the long table ``tables/metrics_{sample}.csv``; statement: how times were taken, written in the figure
    interval: name of the binomial interval in the table; region: rows of this region only
    Times are CPU seconds, of rows on a GPU wall clock. Quoted numbers are of other data, selections and hardware, which
    their legend names; both panels have one scale of the efficiency.
    Returns the figure and its points, ``POINT_COLUMNS``. Raises ConfigError for a missing column or an empty statement.
    """
    if not statement:
        raise ConfigError(describe("latency statement", "empty", "how times were taken"))
    points = dm_latency_points(metrics, region)
    measured, quoted = points[~points["quoted"]], points[points["quoted"]]
    figure = new_figure(14.0 if len(quoted) else 8.0, 7.0)
    axes = figure.subplots(1, 2 if len(quoted) else 1, sharey=True, squeeze=False)[0]
    clock = f"{CPU} per event [s]" if (measured["clock"] == CPU).all() else f"{CPU} (GPU: {WALL}) per event [s]"
    _draw(axes[0], measured, clock, "measured on the same events")
    axes[0].set_ylabel(METRICS["dm"].title)
    if len(quoted):
        title = f"{DAGGER} quoted: other data, other selections, other hardware"
        _draw(axes[1], quoted, f"Time per event, {WALL}, as published [s]", title)
    if measured.empty:
        draw_note(axes[0], "nothing to show")
    y_bars = f"vertical bars: {interval_text(interval)}; " if interval else ""
    bars = f"{y_bars}horizontal bars: 16-84 % of events"
    draw_header(axes[0], header, "\n".join((statement, bars)), right=axes[-1], margin=1.8)
    return figure, points


def dm_latency_points(metrics: pd.DataFrame, region: str = "all") -> pd.DataFrame:
    """Trackers of the long table that have both a DM efficiency and a time; see ``dm_latency_figure``."""
    check_columns("metrics table", metrics, METRIC_COLUMNS)
    rows = metrics[metrics["region"] == region]
    points = []
    for (name, quoted), mine in rows.groupby(["tracker", is_quoted(rows)], sort=False):
        mine = mine.drop_duplicates("metric").set_index("metric")
        on_gpu = "cpu_ms" in mine.index and "device cuda" in mine.loc["cpu_ms", "selection"]
        metric = "latency_ms" if quoted or on_gpu else "cpu_ms"
        if not {"dm", metric} <= set(mine.index):
            continue
        dm, time = mine.loc["dm"], mine.loc[metric]
        facts = {"row": name, "quoted": bool(quoted), "dm": dm["value"], "dm_lo": dm["lo"], "dm_hi": dm["hi"]}
        seconds = {"seconds": 1e-3 * time["value"], "lo": 1e-3 * time["lo"], "hi": 1e-3 * time["hi"]}
        clock = CPU if metric == "cpu_ms" else WALL
        points.append({**facts, **seconds, "clock": clock, "conditions": time["selection"]})
    return pd.DataFrame(points, columns=list(POINT_COLUMNS)).astype({"quoted": bool})


def _draw(ax: Axes, points: pd.DataFrame, label: str, title: str) -> None:
    used = set()
    for point in points.itertuples():
        style = tracker_style(point.row)
        marker = next((m for m in (style.marker, *_MARKERS) if (style.color, m) not in used), style.marker)
        used.add((style.color, marker))
        bars = np.nan_to_num(np.clip([[point.dm - point.dm_lo], [point.dm_hi - point.dm]], 0, None))
        spread = np.nan_to_num(np.clip([[point.seconds - point.lo], [point.hi - point.seconds]], 0, None))
        other = point.quoted or point.clock != CPU
        options = {"marker": marker, "markersize": 9, "markerfacecolor": "white" if other else style.color}
        options |= {"color": style.color, "linestyle": "", "label": _name(point)}
        ax.errorbar([point.seconds], [point.dm], xerr=spread, yerr=bars, **options)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(label)
    ax.margins(0.12)
    ax.grid(color="0.92", linewidth=0.8)
    if len(points):
        columns = 1 if points["quoted"].any() else 2
        options = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": columns, "fontsize": 11}
        ax.legend(title=title, alignment="left", **options)


def _name(point) -> str:
    if point.quoted:
        return pretty(f"{point.row} {DAGGER}: {point.conditions}")
    return point.row if point.clock == CPU else f"{point.row} (GPU, wall clock)"
