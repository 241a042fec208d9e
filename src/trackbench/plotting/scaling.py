"""Time, memory and tracks against the number of hits: one event tiled, and events of several pile-ups."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.definitions import METRICS
from trackbench.evaluation.intervals import interval_named, interval_text
from trackbench.evaluation.published import tiled_numbers
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

STUDY_COLUMNS = (
    *("row", "protocol", "pileup", "n_hits", "call", "status", "device", "device_name", "wall_s", "cpu_s"),
    *("peak_mb", "device_mb", "dm/num", "dm/den", "fake_rate/num", "fake_rate/den"),
)
COLUMNS = (
    *("row", "protocol", "pileup", "n_hits", "n_calls", "device", "seconds", "lo", "hi", "memory_mb"),
    *("dm", "dm_lo", "dm_hi", "fake_rate", "fake_rate_lo", "fake_rate_hi", "status"),
)
QUOTED_COLUMNS = ("tracker", "metric", "value", "selection", "caveat")
TILED, PILEUP, QUOTED = "tiled", "pile-up", "quoted"
_SHOWN = ("dm", "fake_rate")
_LINES = {TILED: {"linestyle": "--", "marker": "o", "markerfacecolor": "white"}, PILEUP: {"marker": "s"}}
_COSTS = {"seconds": "Time per event [s]", "memory_mb": "Peak memory [MB]"}
_GREY = "0.55"
_GREY_MARKERS = ("D", "^", "v", "P", "X", "h")


def scaling_table(study: pd.DataFrame, interval: str = "clopper-pearson") -> pd.DataFrame:
    """Pool the calls of each row, protocol and size or pile-up.

    study: rows of ``trackbench.scaling.scaling_study`` with ``row`` added; interval: of the rates
    Returns ``COLUMNS``: n_hits = median; seconds = median of CPU time, on a GPU of wall clock, with the 16 and 84 %
    quantiles; memory_mb = largest of the process, on a GPU of the device; rates pooled over events; status = "ok" or
    the reason of the first call that was not measured. What no call was measured for is NaN.
    Raises ConfigError for a missing column.
    """
    check_columns("scaling study", study, STUDY_COLUMNS)
    rows = []
    for (row, protocol, _), calls in study.groupby(["row", "protocol", _size(study)], sort=False):
        done = calls[calls["status"] == "ok"]
        on_gpu = calls["device"].iloc[0] != "cpu"
        seconds = done["wall_s" if on_gpu else "cpu_s"].to_numpy(np.float64)
        lo, middle, hi = np.quantile(seconds, (0.16, 0.5, 0.84)) if len(done) else (np.nan,) * 3
        failed = calls.loc[calls["status"] != "ok", "status"]
        facts = (row, protocol, calls["pileup"].iloc[0], float(calls["n_hits"].median()), len(done))
        cost = (calls["device"].iloc[0], middle, lo, hi, done["device_mb" if on_gpu else "peak_mb"].max())
        rates = [value for metric in _SHOWN for value in _rate(done, metric, interval)]
        rows.append((*facts, *cost, *rates, failed.iloc[0] if len(failed) else "ok"))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _size(study: pd.DataFrame) -> pd.Series:
    """What makes calls one point: the number of hits of tiled events, the pile-up of others."""
    return study["pileup"].where(study["protocol"] == PILEUP, study["n_hits"]).rename("size")


def _rate(calls: pd.DataFrame, metric: str, interval: str) -> tuple[float, float, float]:
    num, den = calls[f"{metric}/num"].sum(), calls[f"{metric}/den"].sum()
    if not den:
        return (np.nan,) * 3
    lo, hi = interval_named(interval)(num, den)
    return num / den, float(lo), float(hi)


def quoted_scaling(published: pd.DataFrame) -> pd.DataFrame:
    """Published times and memories of tiled events, a row per tracker and number of hits.

    published: from ``evaluation.published.read_published``; metrics ``latency_ms/tiled:N``, ``peak_memory_mb/tiled:N``
    Returns ``row protocol n_hits seconds memory_mb how``: protocol "quoted", how = "A100, tiled" or "digitised".
    """
    check_columns("published numbers", published, QUOTED_COLUMNS)
    points: dict[tuple[str, int], dict] = {}
    for number in tiled_numbers(published).itertuples():
        if number.metric in ("latency_ms", "peak_memory_mb"):
            how = "digitised" if "digitised" in number.caveat else "tiled"
            how = f"A100, {how}" if "A100" in number.selection else how
            facts = {"row": number.tracker, "protocol": QUOTED, "n_hits": number.n_hits, "seconds": np.nan}
            point = points.setdefault((number.tracker, number.n_hits), {**facts, "memory_mb": np.nan, "how": how})
            name, factor = ("seconds", 1e-3) if number.metric == "latency_ms" else ("memory_mb", 1.0)
            point[name] = factor * number.value
    columns = ["row", "protocol", "n_hits", "seconds", "memory_mb", "how"]
    return pd.DataFrame(list(points.values()), columns=columns).sort_values(["row", "n_hits"], ignore_index=True)


@styled
def scaling_figure(
    study: pd.DataFrame,
    statement: str,
    published: pd.DataFrame | None = None,
    header: Header | None = None,
    interval: str = "clopper-pearson",
    trained: str = "",
) -> tuple[Figure, pd.DataFrame]:
    """Time and peak memory against hits; below, where there is a pile-up scan, DM efficiency and fakes against pile-up.

    study, interval: as for ``scaling_table``; statement: device and threads, written in the figure
    published: numbers quoted beside, grey; trained: what the networks were trained on, in words
    Returns the figure and the table, quoted points appended. What was left out is named above the axes. Raises
    ConfigError for a missing column or an empty statement.
    """
    if not statement:
        raise ConfigError(describe("scaling statement", "empty", "device and threads"))
    table = scaling_table(study, interval)
    quoted = quoted_scaling(published) if published is not None else None
    scan = table[table["protocol"] == PILEUP]
    figure = new_figure(14.0, 10.5 if len(scan) else 6.2)
    axes = figure.subplots(2 if len(scan) else 1, 2, squeeze=False)
    for ax, (value, label) in zip(axes[0], _COSTS.items(), strict=True):
        _draw_costs(ax, table, value, quoted)
        ax.set_ylabel(label)
    if len(scan):
        for ax, metric in zip(axes[1], _SHOWN, strict=True):
            _draw_physics(ax, scan, metric, trained)
    if table.empty:
        draw_note(axes[0, 0], "nothing to show")
    handles = _key(table, quoted)
    if handles:
        axes[0, 1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=11)
    text = "\n".join(filter(None, (statement, _what_is_shown(table, interval), _left_out(table))))
    draw_header(axes[0, 0], header, text, right=axes[0, 1], margin=4.0)
    parts = [table] if quoted is None else [table, quoted]
    return figure, pd.DataFrame([row for part in parts for row in part.to_dict("records")], columns=_all_columns(parts))


def _all_columns(parts: list[pd.DataFrame]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))


def _what_is_shown(table: pd.DataFrame, interval: str) -> str:
    devices = set(table["device"])
    shown = {"cpu": "CPU seconds and memory of the process above that before the call"}
    shown["cuda"] = "wall clock and memory allocated on the device"
    texts = [f"{shown[name]} ({name})" for name in shown if name in devices]
    texts += ["median of calls, bars 16-84 %, largest memory"]
    texts += [f"rates: {interval_text(interval)}"] if (table["protocol"] == PILEUP).any() else []
    return ";  ".join(texts)


def _left_out(table: pd.DataFrame) -> str:
    """Sizes that were not measured, a line per row, and why the first of them was not."""
    missing = table[(table["status"] != "ok") & (table["n_calls"] == 0)]
    lines = []
    for row, mine in missing.groupby("row", sort=False):
        sizes = ", ".join(f"{n:,.0f}" for n in mine["n_hits"])
        lines.append(f"left out: {row} at {sizes} hits ({mine['status'].iloc[0].removeprefix('left out: ')})")
    return "\n".join(lines)


def _points(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    shown = table[(table["n_calls"] > 0) & (table["n_hits"] > 0)]  # the axes are logarithmic
    for (row, protocol), mine in shown.groupby(["row", "protocol"], sort=False):
        yield row, protocol, mine.sort_values("n_hits")


def _draw_costs(ax: Axes, table: pd.DataFrame, value: str, quoted: pd.DataFrame | None) -> None:
    if quoted is not None:
        for i, (_, mine) in enumerate(quoted.groupby("row", sort=True)):
            mine = mine[mine[value].notna()]
            ax.plot(mine["n_hits"], mine[value], **_grey(i))
    for row, protocol, mine in _points(table):
        options = {"color": tracker_style(row).color, **_LINES[protocol]}
        y = mine[value].to_numpy(np.float64)
        bars = np.clip([y - mine["lo"], mine["hi"] - y], 0, None) if value == "seconds" else None
        ax.errorbar(mine["n_hits"], y, yerr=bars, **options)
    ax.set(xscale="log", yscale="log", xlabel="Number of hits")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize=11)
    ax.grid(color="0.92", linewidth=0.8)


def _draw_physics(ax: Axes, scan: pd.DataFrame, metric: str, trained: str) -> None:
    """Rates at each pile-up, side by side where rows have equal values."""
    pileups = sorted(scan["pileup"].unique())
    rows = list(dict.fromkeys(scan["row"]))
    for i, row in enumerate(rows):
        mine = scan[(scan["row"] == row) & scan[metric].notna()].sort_values("pileup")
        x = [pileups.index(mean) + 0.16 * (i - (len(rows) - 1) / 2) / max(len(rows) / 3, 1) for mean in mine["pileup"]]
        y = mine[metric].to_numpy(np.float64)
        bars = np.clip([y - mine[f"{metric}_lo"], mine[f"{metric}_hi"] - y], 0, None)
        ax.errorbar(x, y, yerr=bars, color=tracker_style(row).color, **_LINES[PILEUP], linewidth=1)
    ax.set_xticks(range(len(pileups)), [f"{mean:g}" for mean in pileups])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(-0.5, len(pileups) - 0.5)
    highest = np.nanmax(scan[[metric, f"{metric}_hi"]].to_numpy(np.float64), initial=0.05)
    ax.set_ylim(-0.04 * highest, 1.2 * highest)
    ax.set(xlabel="Pile-up of the scan", ylabel=METRICS[metric].title)
    ax.text(0.03, 0.97, trained, transform=ax.transAxes, va="top", fontsize=11)
    ax.grid(axis="y", color="0.92", linewidth=0.8)


def _grey(i: int) -> dict:
    marker = _GREY_MARKERS[i % len(_GREY_MARKERS)]
    return {"color": _GREY, "marker": marker, "markerfacecolor": "white", "linestyle": ":", "linewidth": 1.2}


def _key(table: pd.DataFrame, quoted: pd.DataFrame | None) -> list[Line2D]:
    """Legend: colour = row, marker and line = protocol, grey = quoted."""
    handles = [Line2D([], [], color=tracker_style(row).color, linewidth=5, label=row) for row in table["row"].unique()]
    names = {TILED: "one event tiled", PILEUP: "pile-up scan"}
    for protocol in (name for name in names if name in set(table["protocol"])):
        handles.append(Line2D([], [], color="0.25", label=names[protocol], **_LINES[protocol]))
    if quoted is not None:
        for i, (row, mine) in enumerate(quoted.groupby("row", sort=True)):
            handles.append(Line2D([], [], label=f"{row} {DAGGER}\nquoted, {mine['how'].iloc[0]}", **_grey(i)))
    return handles
