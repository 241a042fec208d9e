"""Seconds per stage of each tracker: what of its time goes where."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from trackbench.errors import ConfigError, describe
from trackbench.plotting.latency import CLOCKS
from trackbench.plotting.style import (
    PALETTE,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    styled,
)

TIMING_COLUMNS = ("tracker", "event_id", "stage")  # and the clock
COLUMNS = ("tracker", "stage", "seconds", "share", "n_events")
REST = "unattributed"
# Colour of each stage of ``trackers.base.STAGES``, in the order of the bars: that in which trackers pass them.
STAGE_COLORS = {
    "read": PALETTE[3],
    "features": PALETTE[9],
    "graph": PALETTE[2],
    "filter": PALETTE[7],
    "network": PALETTE[4],
    "seeding": PALETTE[1],
    "finding": PALETTE[0],
    "clustering": PALETTE[5],
    "ambiguity": PALETTE[8],
    "postprocess": PALETTE[6],
}


def stage_table(timing: pd.DataFrame, clock: str = "wall_s") -> pd.DataFrame:
    """Mean seconds per event of each stage; means, because they add up to the total where medians do not.

    timing: rows of ``*-timing.csv`` of one sample with the column ``tracker`` added
    clock: "wall_s" or "cpu_s"
    Returns ``COLUMNS``: for each tracker that reports a stage, in the order of ``timing``, its stages in the order of
    ``STAGE_COLORS`` and last "unattributed", what no stage accounts for; ``share`` = of the total time.
    Raises ConfigError for a missing column, another clock or an unknown stage.
    """
    if clock not in CLOCKS:
        raise ConfigError(describe("clock of stages", f"'{clock}' is not known", "one of " + ", ".join(CLOCKS)))
    check_columns("timing table", timing, (*TIMING_COLUMNS, clock))
    unknown = sorted(set(timing["stage"]) - {*STAGE_COLORS, "total"})
    if unknown:
        raise ConfigError(describe("timing table", f"stage '{unknown[0]}'", "one of total, " + ", ".join(STAGE_COLORS)))
    rows = []
    for tracker, calls in timing.groupby("tracker", sort=False):
        n_events = int((calls["stage"] == "total").sum())
        spent = calls.groupby("stage")[clock].sum() / max(n_events, 1)
        stages = {name: float(spent[name]) for name in STAGE_COLORS if name in spent}
        if not stages or not n_events:
            continue
        total = float(spent["total"])
        stages[REST] = total - sum(stages.values())
        rows += [(tracker, name, value, value / total if total else np.nan, n_events) for name, value in stages.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@styled
def stages_figure(
    timing: pd.DataFrame, statement: str, clock: str = "wall_s", header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Stacked bars of the stages of each tracker: seconds per event left, shares of the total right.

    timing, clock: as for ``stage_table``
    statement: what the reader must know: device, precision, threads, warm-up; written in the figure
    Returns the figure and ``stage_table``. Raises ConfigError for a missing column or an empty statement.
    """
    if not statement:
        raise ConfigError(describe("statement of stages", "empty", "device, precision, threads and warm-up"))
    table = stage_table(timing, clock)
    trackers = list(dict.fromkeys(table["tracker"]))
    figure = new_figure(13.0, max(4.5, 2.6 + 0.42 * len(trackers)))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, column in zip(axes, ("seconds", "share"), strict=True):
        _draw_bars(ax, table, trackers, column)
    if trackers:
        longest = _write_totals(axes[0], table, trackers)
        axes[0].set_xlim(0, 1.18 * longest if longest > 0 else 1)
        shown = [name for name in (*STAGE_COLORS, REST) if name in set(table["stage"])]
        handles = [Patch(label=name, **_look(name)) for name in shown]
        lines = -(-len(handles) // 8)
        figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines))
    else:
        draw_note(axes[0], "no stage to show")
    axes[0].set_xlabel(f"Seconds per event, {CLOCKS[clock]}")
    axes[1].set_xlabel("Share of the total")
    axes[1].set_xlim(0, 1)
    axes[0].set_yticks(range(len(trackers)), trackers)
    axes[0].set_ylim(max(len(trackers), 1) - 0.4, -0.6)
    draw_header(axes[0], header, statement + "\nmean of events", right=axes[1], margin=3.0)
    return figure, table


def _draw_bars(ax: Axes, table: pd.DataFrame, trackers: list[str], column: str) -> None:
    """One bar per tracker; a remainder below zero, which is noise of the clock, has no length."""
    for row, tracker in enumerate(trackers):
        mine, left = table[table["tracker"] == tracker], 0.0
        for stage, value in zip(mine["stage"], np.nan_to_num(mine[column]).clip(min=0), strict=True):
            ax.barh(row, value, left=left, height=0.66, **_look(stage))
            left += value
    ax.tick_params(axis="y", which="both", left=False, right=False)
    ax.yaxis.set_minor_locator(NullLocator())


def _write_totals(ax: Axes, table: pd.DataFrame, trackers: list[str]) -> float:
    """Write the seconds behind each bar; return the longest."""
    totals = table.groupby("tracker")["seconds"].sum()
    for row, tracker in enumerate(trackers):
        text, place = f"{totals[tracker]:.3g} s", {"textcoords": "offset points", "va": "center", "fontsize": 11}
        ax.annotate(text, (max(totals[tracker], 0.0), row), (5, 0), color="0.25", **place)
    return float(totals.max())


def _look(stage: str) -> dict:
    if stage == REST:
        return {"facecolor": "white", "edgecolor": "0.6", "hatch": "///", "linewidth": 0.6}
    return {"facecolor": STAGE_COLORS[stage], "edgecolor": "white", "linewidth": 0.6}
