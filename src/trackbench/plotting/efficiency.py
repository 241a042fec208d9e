"""Efficiency and fake rate against pT, eta, phi or z0, for several trackers in one figure."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.intervals import interval_text
from trackbench.plotting.binning import outside_text, rate_table
from trackbench.plotting.style import (
    AXIS_LABELS,
    Header,
    check_columns,
    draw_header,
    draw_note,
    log_pt_axis,
    new_figure,
    styled,
    tracker_style,
)

VARIABLES = ("pt", "eta", "phi", "z0")
EFFICIENCIES = {
    "dm": "Double majority efficiency",
    "technical": "Technical efficiency",
    "perfect": "Perfect efficiency",
}
FAKE_RATES = {"fake_purity": "Fake rate (purity)", "fake_dm": "Fake rate (double majority)"}


@styled
def efficiency_figure(
    particles: dict[str, pd.DataFrame],
    variable: str = "pt",
    metric: str = "dm",
    edges: np.ndarray | None = None,
    reference: str | None = None,
    header: Header | None = None,
    interval: str = "clopper-pearson",
) -> tuple[Figure, pd.DataFrame]:
    """Efficiency of each tracker against a property of the selected particles.

    particles: tracker -> selected particles with ``variable`` and a boolean column ``metric`` (the
        files ``metrics/{sample}/{tracker}-particles.parquet``)
    variable: "pt" [GeV], "eta", "phi" [rad] or "z0" [mm]
    metric: "dm", "technical" or "perfect"
    edges: bin edges, default ``binning.default_edges``
    reference: tracker all others are divided by in a second panel, None = no such panel
    interval: name of a binomial interval, see ``evaluation.intervals.INTERVALS``
    Returns the figure and its table (``binning.RATE_COLUMNS``; ``ratio ratio_lo ratio_hi`` with a
    reference). Errors are at 68.27 %; an empty bin is a gap; particles outside the
    axis stay outside and are counted in the table. Raises ConfigError for an unknown name.
    """
    _check_choice("efficiency", metric, EFFICIENCIES)
    table = _table(particles, variable, metric, edges, reference, interval)
    return _rate_figure(table, variable, EFFICIENCIES[metric], header, reference, interval), table


@styled
def fake_rate_figure(
    candidates: dict[str, pd.DataFrame],
    variable: str = "pt",
    metric: str = "fake_purity",
    edges: np.ndarray | None = None,
    reference: str | None = None,
    header: Header | None = None,
    interval: str = "clopper-pearson",
) -> tuple[Figure, pd.DataFrame]:
    """Fake rate of each tracker against a property of the majority particle of its candidates.

    candidates: tracker -> candidates with ``variable`` and boolean columns ``fiducial`` and ``metric``
        (the files ``metrics/{sample}/{tracker}-candidates.parquet``); only fiducial ones count, as in
        the HEPTv2 and gnn_tracking definitions
    metric: "fake_purity" or "fake_dm"
    Other arguments, return value and errors as ``efficiency_figure``.
    """
    _check_choice("fake rate", metric, FAKE_RATES)
    fiducial = {}
    for name, frame in candidates.items():
        check_columns(f"candidates of {name}", frame, ("fiducial",))
        fiducial[name] = frame[frame["fiducial"].to_numpy(bool)]
    table = _table(fiducial, variable, metric, edges, reference, interval)
    return _rate_figure(table, variable, FAKE_RATES[metric], header, reference, interval, is_fake=True), table


def _check_choice(where: str, value: str, choices) -> None:
    if value not in choices:
        raise ConfigError(describe(where, f"'{value}' is not known", "one of " + ", ".join(choices)))


def _table(frames, variable, metric, edges, reference, interval) -> pd.DataFrame:
    _check_choice("figure variable", variable, VARIABLES)
    table = rate_table(frames, variable, metric, edges, interval)
    if reference is None or not frames:
        return table
    _check_choice("ratio reference", reference, frames)
    return add_ratio(table, reference)


def add_ratio(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return ``table`` with ``ratio ratio_lo ratio_hi``: value and interval over the reference's value.

    The reference's own error is not propagated: its row keeps its relative interval, drawn as a band.
    NaN where the reference is empty or zero.
    """
    base = table.loc[table["tracker"] == reference, ["bin", "value"]].set_index("bin")["value"]
    divisor = table["bin"].map(base).to_numpy(np.float64)
    divisor = np.where(divisor > 0, divisor, np.nan)
    return table.assign(ratio=table["value"] / divisor, ratio_lo=table["lo"] / divisor, ratio_hi=table["hi"] / divisor)


def _rate_figure(table, variable, y_label, header, reference, interval, is_fake=False) -> Figure:
    with_ratio = "ratio" in table
    figure = new_figure(8.0, 7.5 if with_ratio else 6.0)
    if with_ratio:
        main, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    else:
        main, lower = figure.subplots(), None
    trackers = list(dict.fromkeys(table["tracker"]))
    if not trackers:
        draw_note(main, "no tracker to show")
    _draw_points(main, table, trackers, ("value", "lo", "hi"), variable == "pt")
    main.set_ylabel(y_label)
    _set_rate_range(main, table, len(trackers), is_fake)
    if trackers:
        title = f"{'fiducial candidates' if is_fake else 'particles'}; integrated value in brackets"
        main.legend(loc="upper left", ncols=2, title=title, alignment="left", frameon=True)
    draw_header(main, header, interval_text(interval))
    if lower is not None:
        _draw_ratio(lower, table, trackers, reference, variable == "pt")
    _finish_x(lower or main, table, variable)
    return figure


def _draw_points(ax: Axes, table: pd.DataFrame, trackers: list[str], columns: tuple, is_log: bool, skip="") -> None:
    """Draw one series per tracker, shifted inside the bin so that error bars do not hide each other."""
    shifts = np.linspace(-0.25, 0.25, len(trackers)) if len(trackers) > 1 else np.zeros(len(trackers))
    for tracker, shift in zip(trackers, shifts, strict=True):
        if tracker == skip:
            continue
        mine = table[table["tracker"] == tracker]
        total = mine.loc[mine["bin"] == "all"].iloc[0]
        rows = _inside(mine)
        low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
        at = 0.5 + shift
        x = low ** (1 - at) * high**at if is_log else low + (high - low) * at
        value, lo, hi = (rows[name].to_numpy(np.float64) for name in columns)
        style = tracker_style(tracker)
        label = f"{tracker} ({'empty' if total['n_den'] == 0 else format(total['value'], '.3f')})"
        ax.plot(x, value, color=style.color, linewidth=0.8, alpha=0.5)
        errors = np.clip([value - lo, hi - value], 0, None)
        ax.errorbar(x, value, yerr=errors, color=style.color, marker=style.marker, linestyle="", label=label)


def _set_rate_range(ax: Axes, table: pd.DataFrame, n_trackers: int, is_fake: bool) -> None:
    """Leave room for the legend above the data; markers at 0 are whole, ticks start there."""
    values = _inside(table)["value"].to_numpy(np.float64)
    top = 1.0
    if is_fake:
        highest = np.nanmax(values, initial=0.0)
        top = min(1.0, max(1.15 * highest, 0.02))
    rows = (n_trackers + 1) // 2 + 1  # two columns and a title
    ax.set_ylim(-0.02 * top, top * (1.05 + 0.085 * rows))
    ticks = ax.yaxis.get_major_locator().tick_values(0.0, top)
    ticks = ticks[(ticks >= 0) & (ticks <= top * (1 + 1e-9))]
    ax.set_yticks(ticks)
    step = (ticks[1] - ticks[0]) / 5 if len(ticks) > 1 else top
    ax.yaxis.set_minor_locator(FixedLocator(np.arange(0.0, top + step / 2, step)))


def _draw_ratio(ax: Axes, table: pd.DataFrame, trackers: list[str], reference: str, is_log: bool) -> None:
    rows = _inside(table[table["tracker"] == reference])
    edges = np.append(rows["low"].to_numpy(), rows["high"].to_numpy()[-1:])
    lo, hi = (rows[name].to_numpy(np.float64) for name in ("ratio_lo", "ratio_hi"))
    ax.stairs(hi, edges, baseline=lo, fill=True, color=tracker_style(reference).color, alpha=0.25, linewidth=0)
    ax.axhline(1.0, color=tracker_style(reference).color, linewidth=1)
    _draw_points(ax, table, trackers, ("ratio", "ratio_lo", "ratio_hi"), is_log, skip=reference)
    ax.set_ylabel(f"Ratio to\n{reference}", loc="center", fontsize=12)


def _inside(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["bin"].astype(str).str.isdigit().to_numpy(bool)]


def _finish_x(ax: Axes, table: pd.DataFrame, variable: str) -> None:
    label = AXIS_LABELS[variable]
    outside = outside_text(table)
    if outside:
        ax.annotate(f"({outside})", (0, 0), (0, -34), xycoords="axes fraction", textcoords="offset points", fontsize=10)
    ax.set_xlabel(label)
    if variable == "pt":
        log_pt_axis(ax)
    inside = _inside(table)
    if len(inside):
        ax.set_xlim(inside["low"].min(), inside["high"].max())
