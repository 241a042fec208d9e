"""Time of network and clustering against the number of tracks and of hits."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from trackbench.errors import ConfigError, describe
from trackbench.plotting.style import (
    DAGGER,
    PALETTE,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    row_style,
    styled,
)

TIMING_COLUMNS = ("row", "device", "n_tracks", "n_hits", "call", "stage")  # and the clock: wall_s, cpu_s
COLUMNS = ("row", "device", "stage", "n_tracks", "n_hits", "n_calls", "median_ms", "lo_ms", "hi_ms")
QUOTED_COLUMNS = ("set", "row", "metric", "value")
STAGES = {"network": ("-", "o"), "clustering": ("--", "s"), "total": (":", "^")}  # line, marker
CLOCKS = {"wall_s": "wall clock", "cpu_s": "CPU process time"}


def track_latency_table(timing: pd.DataFrame, clock: str = "wall_s") -> pd.DataFrame:
    """Median time and its 16 to 84 percentile of network, clustering and everything.

    timing: rows of ``trackbench.track_latency.time_tracks`` with ``row`` and ``device`` added
    clock: "wall_s" or "cpu_s"
    Returns ``COLUMNS``, one row per row, device, stage and number of tracks; n_hits is the median of the calls.
    Raises ConfigError for a missing column or clock.
    """
    if clock not in CLOCKS:
        raise ConfigError(describe("latency clock", f"'{clock}' is not known", "one of " + ", ".join(CLOCKS)))
    check_columns("timing table", timing, (*TIMING_COLUMNS, clock))
    rows = []
    keys = ["row", "device", "stage", "n_tracks"]
    for key, calls in timing[timing["stage"].isin(STAGES)].groupby(keys, sort=True):
        quantiles = np.quantile(1e3 * calls[clock].to_numpy(np.float64), (0.5, 0.16, 0.84))
        rows.append((*key, float(calls["n_hits"].median()), len(calls), *quantiles))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def quoted_points(published: pd.DataFrame) -> pd.DataFrame:
    """Published times of sets with a known number of tracks, at the middle of its range, of rows with both stages.

    published: of ``trackformers_published.read_published``
    Returns ``COLUMNS`` with device "quoted"; ``lo_tracks hi_tracks`` = the range. The number of hits is not published.
    """
    check_columns("published numbers", published, QUOTED_COLUMNS)
    rows = []
    stages = {"network_ms": "network", "clustering_ms": "clustering"}
    timed = published[published["metric"].isin(list(stages))]
    whole = timed.groupby(["set", "row"])["metric"].transform("nunique") == len(stages)
    for number in timed[whole].itertuples():
        low, _, high = number.set.partition("-")
        if high.isdigit():
            middle = (int(low) + int(high)) / 2
            names = {"row": number.row, "device": "quoted", "stage": stages[number.metric], "n_tracks": middle}
            rows.append({**names, "median_ms": number.value, "lo_tracks": int(low), "hi_tracks": int(high)})
    return pd.DataFrame(rows, columns=[*COLUMNS, "lo_tracks", "hi_tracks"])


@styled
def track_latency_figure(
    timing: pd.DataFrame,
    statement: str,
    clock: str = "wall_s",
    published: pd.DataFrame | None = None,
    header: Header | None = None,
    labels: dict[str, str] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Time against tracks, left, and against hits, right: network, clustering and everything, per row and device.

    timing, clock: as for ``track_latency_table``; statement: device, precision, threads, written in the figure
    published: quoted numbers, shown against tracks by open markers; labels: row -> label of its model
    Returns the figure and the table, quoted points (device "quoted") appended. Raises ConfigError for a missing column
    or an empty statement.
    """
    if not statement:
        raise ConfigError(describe("latency statement", "empty", "device, precision and threads"))
    table = track_latency_table(timing, clock)
    quoted = quoted_points(published) if published is not None else None
    figure = new_figure(13.5, 6.8)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, table, "n_tracks")
    _draw(right, table, "n_hits")
    handles = _key(table, labels or {})
    if quoted is not None:
        handles += _draw_quoted(left, quoted)
    if table.empty:
        draw_note(left, "no timing to show")
    _finish(left, right)
    if handles:
        right.legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5))
    left.set_ylabel(f"Time per event [ms], {CLOCKS[clock]}")
    calls = "-".join(map(str, sorted({table["n_calls"].min(), table["n_calls"].max()}))) if len(table) else "0"
    text = statement + f"\nmedian of {calls} calls, bars 16-84 %; events of drawn particles, no noise"
    text += f"; {DAGGER} quoted: other device, bar = range of tracks, hits not given" if quoted is not None else ""
    draw_header(left, header, text, right=right)
    parts = [table, quoted] if quoted is not None and len(quoted) else [table]
    # Records, because concatenating columns without any number is deprecated.
    return figure, pd.DataFrame([row for part in parts for row in part.to_dict("records")], columns=parts[-1].columns)


def _draw(ax: Axes, table: pd.DataFrame, x: str) -> None:
    devices = list(dict.fromkeys(table["device"]))
    for (row, device, stage), mine in table.groupby(["row", "device", "stage"], sort=True):
        mine = mine.sort_values(x)
        value = mine["median_ms"].to_numpy()
        bars = np.clip([value - mine["lo_ms"], mine["hi_ms"] - value], 0, None)
        ax.errorbar(mine[x], value, yerr=bars, **_line(row_style(row).color, stage, devices.index(device) == 0))


def _line(color: str, stage: str, filled: bool) -> dict:
    line, marker = STAGES[stage]
    face = color if filled else "white"
    return {"color": color, "linestyle": line, "marker": marker, "markerfacecolor": face, "linewidth": 1.2}


def _key(table: pd.DataFrame, labels: dict[str, str]) -> list[Line2D]:
    """Legend: colour = row, line and marker = stage, filled or open marker = device."""
    handles = []
    for row in dict.fromkeys(table["row"]):
        name = f"{row} ({labels[row]})" if labels.get(row) else row
        handles.append(Line2D([], [], color=row_style(row).color, linewidth=5, label=name))
    for stage in (stage for stage in STAGES if stage in set(table["stage"])):
        handles.append(Line2D([], [], **_line("0.35", stage, True), label=stage))
    devices = list(dict.fromkeys(table["device"]))
    for i, device in enumerate(devices if len(devices) > 1 else ()):
        options = {**_line("0.35", "network", i == 0), "linestyle": ""}
        handles.append(Line2D([], [], **options, label=f"{'filled' if i == 0 else 'open'}: {device}"))
    return handles


def _draw_quoted(ax: Axes, quoted: pd.DataFrame) -> list[Line2D]:
    handles = []
    rows = list(dict.fromkeys(quoted["row"]))
    for (row, stage), mine in quoted.groupby(["row", "stage"], sort=False):
        middle = mine["n_tracks"].to_numpy(np.float64)
        bars = np.array([middle - mine["lo_tracks"], mine["hi_tracks"] - middle], dtype=np.float64)
        options = {**_line(("black", PALETTE[1])[min(rows.index(row), 1)], stage, False), "linestyle": ""}
        ax.errorbar(middle, mine["median_ms"], xerr=bars, **options)
        handles.append(Line2D([], [], **options, label=f"{row}: {stage} {DAGGER}"))
    return handles


def _finish(left: Axes, right: Axes) -> None:
    for ax, text in ((left, "Number of tracks"), (right, "Number of hits")):
        ax.set(xscale="log", yscale="log", xlabel=text)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_formatter(NullFormatter())
