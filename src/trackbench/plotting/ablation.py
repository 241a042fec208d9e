"""Ablations: rows that differ in a setting or two, as a list or against a number, paired to the first of them."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from trackbench.evaluation.ablation import COLUMNS, CPU, NETWORK
from trackbench.plotting.ablation_blocks import LINE_MARKERS, draw_quoted, number_axis
from trackbench.plotting.style import (
    PALETTE,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    styled,
    tracker_style,
)

ROW_COLUMNS = ("row", "label", "tracker", "model", "trained", "x", "line")  # of ``ablations.AblationRow``
# panel -> metric, title, whether the difference to the first row is shown
PANELS = {
    "dm": ("dm", "DM efficiency", False),
    "fake_rate": ("fake_rate", "Fake rate (purity)", False),
    "difference": ("dm", "DM: difference to the first row", True),
    "cost": (CPU, "CPU time per event [s]", False),
}
_NAME_WIDTH = 30  # characters
_BASE, _REST = "black", "#1845fb"


@dataclass(frozen=True)
class Words:
    """What a figure says: title of the ablation, how networks were trained (``training_statement``), setting on x."""

    title: str = ""
    statement: str = ""
    axis: str = ""


def training_statement(facts: Mapping[str, Mapping]) -> str:
    """Say how the networks of an ablation were trained: steps, events, seeds, labels.

    facts: model -> content of the facts file of its training; without any the text is empty
    """
    if not facts:
        return ""
    steps, events = (_span(found[name] for found in facts.values()) for name in ("steps", "training_events"))
    seeds = sorted({found["seed"] for found in facts.values()})
    labels = list(dict.fromkeys(found["label"] for found in facts.values() if found["label"]))
    text = f"networks trained for {steps} steps on {events} events, "
    text += f"one seed ({seeds[0]})" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    quoted = " and ".join(f"\N{LEFT DOUBLE QUOTATION MARK}{label}\N{RIGHT DOUBLE QUOTATION MARK}" for label in labels)
    return text + (f", labelled {quoted}: not trained to the end" if labels else "")


def _span(values: Iterable[int]) -> str:
    known = sorted(set(values))
    return f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"


@styled
def ablation_figure(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    words: Words,
    header: Header | None = None,
    quoted: pd.DataFrame | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """DM, its paired difference to the first row, fakes and CPU seconds of each row.

    table: of ``evaluation.ablation.ablation_table``
    rows: ``ROW_COLUMNS``, a row each, the base first; if any has x, the figure has a line per ``line`` against x, and
        rows without x as levels
    words: written in the figure; header: of the sample
    quoted: of ``ablation_blocks.quoted_blocks``, for a figure against x: panels of their own, in grey
    Returns the figure and the table with the columns of ``rows``, quoted values appended with row "quoted".
    Raises ConfigError for a missing column.
    """
    check_columns("ablation table", table, COLUMNS)
    check_columns("ablation rows", rows, ROW_COLUMNS)
    rows = rows.assign(name=_names(rows))
    table = rows.merge(table, on="row", how="left", sort=False)
    header = header or Header()
    header = replace(header, sample=": ".join(part for part in (words.title, header.sample) if part))
    extra = f"\n{words.statement}\n" if words.statement else "\n"
    extra += "bars: bootstrap over test events, 16-84 %, rates at least as wide as Clopper-Pearson; "
    extra += "differences paired by event"
    if rows["x"].notna().any():
        figure = _line_figure(table, rows, (header, extra, words.axis), quoted)
    else:
        figure, quoted = _list_figure(table, rows, header, extra), None
    if quoted is None or quoted.empty:
        return figure, table
    shown = quoted.rename(columns={"quantity": "metric"}).assign(row="quoted")
    return figure, pd.DataFrame([*table.to_dict("records"), *shown.to_dict("records")], columns=list(table.columns))


def _names(rows: pd.DataFrame) -> list[str]:
    """What rows are called: with the labels of their models unless all are the same, which the statement says."""
    shared = _shared(rows)
    named = zip(rows["label"], rows["trained"], strict=True)
    return [label if shared or not trained else f"{label} ({trained})" for label, trained in named]


def _list_figure(table: pd.DataFrame, rows: pd.DataFrame, header: Header, extra: str) -> Figure:
    # Lines are broken between settings only.
    names = [
        textwrap.fill(re.sub("(?<![,:]) (?!\\()", "\N{NO-BREAK SPACE}", name), _NAME_WIDTH) for name in rows["name"]
    ]
    per_row = 0.12 + 0.19 * max([2, *(name.count("\n") + 1 for name in names)])
    figure = new_figure(15.5, 2.2 + per_row * max(len(rows), 3))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    base = rows["tracker"].iloc[0] if len(rows) else ""
    colors = [_color(tracker, base, i) for i, tracker in enumerate(rows["tracker"])]
    for ax, (metric, label, paired) in zip(axes, PANELS.values(), strict=True):
        mine = table[table["metric"] == metric].set_index("row").reindex(rows["row"])
        for i, entry in enumerate(mine.itertuples()):
            _draw_point(ax, i, _numbers(entry, paired), colors[i], "o" if i else "D", paired)
        if metric == CPU:
            _draw_network(ax, table, rows, colors)
        _finish_list(ax, mine, label, paired)
    axes[0].set_yticks(range(len(rows)), names, fontsize=12)
    axes[0].set_ylim(max(len(rows), 1) - 0.4, -0.7)
    if rows.empty:
        draw_note(axes[0], "no row to show")
    draw_header(axes[0], header, extra, right=axes[-1], margin=3.2)
    return figure


def _color(tracker: str, base: str, place: int) -> str:
    if place == 0:
        return _BASE
    return _REST if tracker == base else tracker_style(tracker).color


def _numbers(entry, paired: bool) -> tuple[float, float, float]:
    if paired:
        return entry.minus_first, entry.minus_first_lo, entry.minus_first_hi
    return entry.value, entry.lo, entry.hi


def _bars(value: float, lo: float, hi: float) -> np.ndarray:
    return np.nan_to_num(np.clip([[value - lo], [hi - value]], 0, None))


def _draw_point(ax: Axes, y: int, numbers: tuple, color: str, marker: str, paired: bool) -> None:
    value, lo, hi = numbers
    if not np.isfinite(value) or (paired and y == 0):
        return
    ax.errorbar([value], [y], xerr=_bars(value, lo, hi), color=color, marker=marker, linestyle="", markersize=7)
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") if paired else f"{value:.3f}"
    text += f" \N{PLUS-MINUS SIGN} {(hi - lo) / 2:.3f}" if paired and np.isfinite(hi - lo) else ""
    place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 10, "color": "0.25"}
    box = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"}
    ax.annotate(text, (value, y), bbox=box, **place)


def _draw_network(ax: Axes, table: pd.DataFrame, rows: pd.DataFrame, colors: list[str]) -> None:
    mine = table[table["metric"] == NETWORK].set_index("row")["value"].reindex(rows["row"])
    for i, value in enumerate(mine):
        ax.plot([value], [i], marker="|", color=colors[i], markersize=11, markeredgewidth=2, linestyle="")
    if mine.notna().any():
        handles = [
            Line2D([], [], color="0.35", marker="o", linestyle="", label="total"),
            Line2D([], [], color="0.35", marker="|", markeredgewidth=2, linestyle="", label="network alone"),
        ]
        ax.legend(handles=handles, fontsize=10, loc="best", frameon=True)


def _finish_list(ax: Axes, mine: pd.DataFrame, label: str, paired: bool) -> None:
    columns = ["minus_first", "minus_first_lo", "minus_first_hi"] if paired else ["value", "lo", "hi"]
    values = mine[columns].to_numpy(np.float64)
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    room = (0.26 if paired else 0.14) * max(high - low, 0.01)
    ax.set_xlim(low - room, high + room)
    first = 0.0 if paired else mine["value"].iloc[0] if len(mine) else np.nan
    if np.isfinite(first):
        ax.axvline(first, color="0.6", linewidth=0.9, linestyle="--")
    ax.tick_params(axis="y", which="both", right=False, left=False)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x", color="0.93", linewidth=0.8)
    ax.set_xlabel(label, fontsize=13)


def _line_figure(
    table: pd.DataFrame, rows: pd.DataFrame, text: tuple[Header, str, str], quoted: pd.DataFrame | None
) -> Figure:
    header, extra, axis = text
    with_quoted = quoted is not None and len(quoted) > 0
    figure = new_figure(15.0 if with_quoted else 11.0, 9.6)
    grid = figure.subplots(2, 3 if with_quoted else 2)
    lines = list(dict.fromkeys(rows.loc[rows["x"].notna(), "line"]))
    for ax, (metric, label, paired) in zip(grid[:, :2].T.flat, PANELS.values(), strict=True):
        ax.set_ylabel(label)
        if not paired:  # far from zero, where the others differ by little
            _draw_levels(ax, table[(table["metric"] == metric) & table["x"].isna()], rows)
        _draw_lines(ax, table[(table["metric"] == metric) & table["x"].notna()], lines, paired)
        if metric == CPU:
            _draw_lines(ax, table[(table["metric"] == NETWORK) & table["x"].notna()], lines, paired, alone=True)
        ax.margins(y=0.12)
        number_axis(ax, rows["x"].dropna(), axis)
    if with_quoted:
        draw_quoted(*grid[:, 2], quoted)
    handles = _line_key(rows, lines, table)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    draw_header(grid[0, 0], header, extra, right=grid[0, -1], margin=1.6)
    return figure


def _draw_lines(ax: Axes, mine: pd.DataFrame, lines: list[str], paired: bool, alone: bool = False) -> None:
    if paired:
        ax.axhline(0.0, color="0.6", linewidth=0.9, linestyle="--")
    for k, line in enumerate(lines):
        points = mine[mine["line"] == line].sort_values("x")
        if points.empty:
            continue
        names = ("minus_first", "minus_first_lo", "minus_first_hi") if paired else ("value", "lo", "hi")
        value, lo, hi = (points[name].to_numpy(np.float64) for name in names)
        place = points["x"].to_numpy(np.float64) * 1.05 ** (k - (len(lines) - 1) / 2)  # so that bars do not hide others
        look = {"color": PALETTE[k], "marker": LINE_MARKERS[k % len(LINE_MARKERS)]}
        look |= {"linestyle": ":", "markerfacecolor": "white"} if alone else {}
        ax.errorbar(place, value, yerr=np.nan_to_num(np.clip([value - lo, hi - value], 0, None)), **look)


def _draw_levels(ax: Axes, mine: pd.DataFrame, rows: pd.DataFrame) -> None:
    for k, name in enumerate(rows.loc[rows["x"].isna(), "row"]):
        for entry in mine[mine["row"] == name].itertuples():
            value, lo, hi = entry.value, entry.lo, entry.hi
            color = tracker_style(entry.tracker).color
            ax.axhline(value, color=color, linestyle=("--", "-.")[k % 2], linewidth=1.2)
            if np.isfinite(lo) and np.isfinite(hi):
                ax.axhspan(lo, hi, color=color, alpha=0.15, linewidth=0)


def _line_key(rows: pd.DataFrame, lines: list[str], table: pd.DataFrame) -> list[Line2D]:
    handles = []
    for k, line in enumerate(lines):
        names = rows.loc[(rows["line"] == line) & rows["x"].notna(), "trained"].unique()
        label = line or "rows"
        if not _shared(rows) and any(names):
            label += f" ({', '.join(filter(None, names))})"
        handles.append(Line2D([], [], color=PALETTE[k], marker=LINE_MARKERS[k % len(LINE_MARKERS)], label=label))
    for k, entry in enumerate(rows[rows["x"].isna()].itertuples()):
        style = {"color": tracker_style(entry.tracker).color, "linestyle": ("--", "-.")[k % 2]}
        handles.append(Line2D([], [], **style, label=entry.name))
    if (table["metric"] == NETWORK).any():
        look = {"color": "0.35", "marker": "o", "markerfacecolor": "white", "linestyle": ":"}
        handles.append(Line2D([], [], **look, label="CPU time: network alone"))
    return handles


def _shared(rows: pd.DataFrame) -> bool:
    """Whether one label stands for all networks."""
    return len(set(rows.loc[rows["model"] != "", "trained"])) == 1
