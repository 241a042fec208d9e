"""Where trackers lose: efficiency and fakes under varied conditions, one panel per region."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from trackbench.evaluation.definitions import METRICS
from trackbench.evaluation.effects import ALL, COLUMNS, FAKES, REGIONS
from trackbench.evaluation.intervals import interval_text
from trackbench.plotting.style import (
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    pretty,
    styled,
    tracker_style,
)

_N_COLUMNS = 5
_TITLES = {
    "fake_rate": "Fakes by purity\nled by a selected particle",
    "fake_all": "Fakes, all candidates\nof any momentum",
    "fake_all_pt": "Fakes, all candidates\nof fitted pT above the cut",
}


@styled
def effects_figure(
    table: pd.DataFrame, header: Header | None = None, interval: str = "", nominal: str | None = None
) -> tuple[Figure, pd.DataFrame]:
    """One row per variation, one panel per region and kind of fakes: value of every tracker with its interval.

    table: from ``evaluation.effects.effects_table``
    interval: name of the binomial interval in the table, written in the figure
    nominal: variation whose values are drawn as vertical lines through the rows, None = no lines
    Returns the figure and the rows shown. An empty table gives a figure that says so. Raises ConfigError
    for a missing column.
    """
    check_columns("table of effects", table, COLUMNS)
    shown = [("dm", region) for region in REGIONS]
    shown += [(metric, ALL) for metric in FAKES if (table["metric"] == metric).any()]
    keys = pd.MultiIndex.from_frame(table[["metric", "region"]])
    rows = table[keys.isin(shown)]
    effects, trackers = list(dict.fromkeys(rows["effect"])), list(dict.fromkeys(rows["tracker"]))
    height = 0.22 * max(len(effects), 2) * (1 + 0.35 * max(len(trackers) - 1, 0))
    figure = new_figure(15.5, 3.6 + 2 * height)
    axes = figure.subplots(2, _N_COLUMNS, sharey=True)
    for ax, (metric, region) in zip(_places(axes, shown), shown, strict=True):
        panel = rows[(rows["metric"] == metric) & (rows["region"] == region)]
        _draw_panel(ax, panel, effects, trackers, nominal)
        title = _TITLES.get(metric) or f"{METRICS[metric].title}\n{_in_words(region)}"
        ax.set_xlabel(pretty(title), fontsize=12, loc="center")
    for ax in axes.flat:
        ax.set_visible(ax.has_data() or (rows.empty and ax is axes[0, 0]))
    _finish_rows(axes, effects)
    if trackers:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    extra = [f"bars: {interval_text(interval)}"] if interval else []
    extra += [f"line: {nominal}"] if nominal in effects else []
    draw_header(axes[0, 0], header, ";  ".join(extra), right=axes[0, -1], margin=4.0)
    return figure, rows.reset_index(drop=True)


def _places(axes: np.ndarray, shown: Sequence[tuple[str, str]]) -> list[Axes]:
    """Axes of each panel: efficiency of all and by origin above, by direction below, fakes to the right."""
    origin, direction = axes[0, :4], axes[1, :3]
    fakes = [axes[0, 4], axes[1, 4], axes[1, 3]]
    n_fakes = sum(metric != "dm" for metric, _ in shown)
    return [*origin, *direction, *fakes[:n_fakes]]


def _in_words(region: str) -> str:
    return {ALL: "all selected particles", "prompt": "prompt particles"}.get(region, region)


def _draw_panel(
    ax: Axes, rows: pd.DataFrame, effects: Sequence[str], trackers: Sequence[str], nominal: str | None
) -> None:
    values = rows.set_index(["tracker", "effect"])[["value", "lo", "hi"]]
    for i, tracker in enumerate(trackers):
        mine = values.loc[tracker].reindex(effects) if tracker in values.index else None
        if mine is None:
            continue
        style = tracker_style(tracker)
        shift = 0.7 * ((i + 0.5) / len(trackers) - 0.5)
        value, low, high = mine.to_numpy(np.float64).T
        bars = np.nan_to_num(np.clip([value - low, high - value], 0, None))
        options = {"color": style.color, "marker": style.marker, "markersize": 6, "linestyle": "", "label": tracker}
        ax.errorbar(value, np.arange(len(effects)) + shift, xerr=bars, **options)
        if nominal in effects and np.isfinite(mine.loc[nominal, "value"]):
            ax.axvline(mine.loc[nominal, "value"], color=style.color, linewidth=1, alpha=0.5, zorder=0)
        if len(trackers) == 1:
            _write_values(ax, value, high)
    edges = rows[["value", "lo", "hi"]].to_numpy(np.float64)
    edges = edges[np.isfinite(edges)]
    if not edges.size:
        ax.set_xticks([])
        draw_note(ax, "none in these events" if effects else "no effect to show")
        return
    low, high = edges.min(), edges.max()
    room = max(high - low, 0.004)
    # The numbers of a single tracker stand to the right of its points.
    ax.set_xlim(low - 0.12 * room, high + (0.6 if len(trackers) == 1 else 0.12) * room)
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(*ax.get_xlim())
    ax.set_xticks(ticks[(ticks >= max(ax.get_xlim()[0], 0)) & (ticks <= min(ax.get_xlim()[1], 1))])


def _write_values(ax: Axes, value: np.ndarray, high: np.ndarray) -> None:
    for i, (number, end) in enumerate(zip(value, high, strict=True)):
        if np.isfinite(number):
            place = {"textcoords": "offset points", "va": "center", "fontsize": 9, "color": "0.25"}
            ax.annotate(f"{number:.3f}", (max(number, end), i), (6, 0), **place)


def _finish_rows(axes: np.ndarray, effects: list[str]) -> None:
    for ax in axes.flat:
        ax.tick_params(axis="y", which="both", right=False, left=False)
        ax.tick_params(axis="x", labelsize=11)
        ax.grid(axis="x", color="0.9", linewidth=0.8)
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_yticks(range(len(effects)), effects, fontsize=12)
    axes[1, 0].tick_params(axis="y", labelsize=12)
    axes[0, 0].yaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylim(max(len(effects), 1) - 0.4, -0.6)
