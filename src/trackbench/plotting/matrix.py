"""Scores of models trained on one set and tested on another, as a heat map with its numbers."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trackbench.evaluation.trackformers_matrix import COLUMNS, cell, matrix_lines, set_size
from trackbench.plotting.style import DAGGER, Header, check_columns, draw_header, draw_note, new_figure, styled

_TITLES = {"trackml_score": "TrackML score", "fit_accuracy": "FitAccuracy", "dm": "DM efficiency"}
_DARK = 0.55  # white text on cells of a lower score


@styled
def matrix_figure(table: pd.DataFrame, header: Header | None = None) -> tuple[Figure, pd.DataFrame]:
    """One heat map per trained row: training sets, floor and ceilings as lines, test sets as columns.

    table: of ``evaluation.trackformers_matrix.matrix_table``; published numbers stand in brackets
    Returns the figure and the table. Raises ConfigError for a missing column.
    """
    check_columns("matrix table", table, COLUMNS)
    rows = list(dict.fromkeys(table.loc[table["kind"] == "trained", "row"]))
    lines = _common_lines([matrix_lines(table, row) for row in rows], rows)
    n_lines = max((len(found) for found, _ in lines), default=2)
    width = sum(1.75 * len(sets) for _, sets in lines) + 4.0
    figure = new_figure(max(width, 10.5), 2.4 + 0.62 * n_lines)
    ratios = [max(len(sets), 1) for _, sets in lines] or [1]
    axes = np.atleast_1d(figure.subplots(1, max(len(rows), 1), sharey=True, width_ratios=ratios))
    for ax, row, (found, sets) in zip(axes, rows, lines, strict=False):
        _draw(ax, table, row, found, sets)
    if not rows:
        draw_note(axes[0], "no trained row to show")
        axes[0].set(xticks=[], yticks=[])
    metric = table["metric"].iloc[0] if len(table) else ""
    text = f"{_TITLES.get(metric, metric)}: mean over events \N{PLUS-MINUS SIGN} standard error"
    if table["quoted"].notna().any():
        text += f"\nin brackets {DAGGER} quoted: published, other events"
    draw_header(axes[0], header, text, right=axes[-1], margin=3.2)
    return figure, table


def _common_lines(lines: list[tuple[list, list]], rows: list[str]) -> list[tuple[list, list]]:
    """Give every panel the same lines, which share an axis: all training sets of any row, then floor and ceilings."""
    trained = {on: text for found, _ in lines for _, on, text in found if on}
    trained = dict(sorted(trained.items(), key=lambda item: set_size(item[0])))
    others = list(dict.fromkeys(line for found, _ in lines for line in found if not line[1]))
    return [
        ([(row, on, text) for on, text in trained.items()] + others, sets)
        for row, (_, sets) in zip(rows, lines, strict=True)
    ]


def _draw(ax: Axes, table: pd.DataFrame, row: str, lines: list[tuple[str, str, str]], sets: list[str]) -> None:
    found = [[cell(table, name, on, set_name) for set_name in sets] for name, on, _ in lines]
    values = np.array([[np.nan if entry is None else entry["value"] for entry in line] for line in found], dtype=float)
    ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for i, line in enumerate(found):
        for j, entry in enumerate(line):
            if entry is not None:
                _write(ax, i, j, entry)
    n_trained = sum(on != "" for _, on, _ in lines)
    for i in range(1, len(lines)):
        ax.axhline(i - 0.5, color="black" if i == n_trained else "white", linewidth=2)
    for j in range(1, len(sets)):
        ax.axvline(j - 0.5, color="white", linewidth=2)
    labels = [label for label in dict.fromkeys(table.loc[table["row"] == row, "label"]) if label]
    ax.set_xticks(range(len(sets)), sets)
    ax.set_yticks(range(len(lines)), [text for _, _, text in lines])
    name = f"{row} ({', '.join(labels)})" if labels else row
    ax.set_xlabel(f"{name}, tested on set of tracks")  # below: the header stands above
    ax.tick_params(which="both", length=0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())


def _write(ax: Axes, i: int, j: int, entry: pd.Series) -> None:
    measured = not np.isnan(entry["value"])
    color = "white" if measured and entry["value"] < _DARK else "black"
    texts = []
    if measured:
        error = entry["hi"] - entry["value"]
        texts.append(f"{entry['value']:.3f}" + ("" if np.isnan(error) else f" \N{PLUS-MINUS SIGN} {error:.3f}"))
    if not np.isnan(entry["quoted"]):
        texts.append(f"({entry['quoted']:g} {DAGGER})")
    ax.text(j, i, "\n".join(texts), ha="center", va="center", color=color, fontsize=11, linespacing=1.3)
