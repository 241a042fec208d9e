"""Figures of fitted track parameters: pulls, and resolution, bias and pulls against pT and eta."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from trackbench.data.tracks import PARAMETERS
from trackbench.evaluation.definitions import PROMPT_RADIUS
from trackbench.evaluation.fit_quality import MIN_TRACKS, PROMPT, PULL_RANGE, SECONDARY, UNITS
from trackbench.plotting.residual_tables import CHI2, profile_table, pull_table
from trackbench.plotting.style import (
    AXIS_LABELS,
    Header,
    draw_header,
    draw_note,
    log_pt_axis,
    new_figure,
    styled,
    tracker_style,
)

_TRACKS = {
    PROMPT: f"matched prompt tracks (made within {PROMPT_RADIUS:g} mm of the beam line)",
    SECONDARY: f"matched secondary tracks (made farther than {PROMPT_RADIUS:g} mm from the beam line)",
}
_SYMBOLS = {
    "d0": "$d_0$",
    "z0": "$z_0$",
    "phi": r"$\phi$",
    "theta": r"$\theta$",
    "q_over_pt": r"$q/p_\mathrm{T}$",
}
_NAN_TEXT = f"fewer than {MIN_TRACKS} tracks: no point"


@styled
def pull_figure(
    residuals: dict[str, pd.DataFrame], header: Header | None = None, origin: str = PROMPT
) -> tuple[Figure, pd.DataFrame]:
    """Pulls of the five track parameters and the chi2 probability of each tracker.

    residuals: tracker -> residuals of matched candidates (the files ``{tracker}-residuals.parquet``)
    origin: prompt or secondary tracks, one of ``fit_quality.ORIGINS``
    Dashed: the unit Gaussian and the flat distribution that a fit with correct errors gives. Returns the
    figure and ``residual_tables.pull_table``.
    """
    table = pull_table(residuals, origin)
    figure = new_figure(15.5, 9.0)
    panels = figure.subplots(2, 3)
    for ax, name in zip(panels.flat, (*PARAMETERS, CHI2), strict=True):
        _draw_histograms(ax, table[table["quantity"] == name], name)
    meaning = "width: half of the central 68.27 %; mean: of what is inside the axis; dashed: expected"
    draw_header(panels[0, 0], header, f"{_TRACKS[origin]}\n{meaning}", right=panels[0, 2])
    return figure, table


@styled
def resolution_figure(
    residuals: dict[str, pd.DataFrame], variable: str, header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Resolution and bias of the five track parameters against pT or eta, prompt tracks of each tracker.

    Arguments, errors and the table returned with the figure as for ``residual_tables.profile_table`` of residuals.
    """
    meaning = "resolution: half of the central 68.27 % of fitted minus true; bias: its median"
    return _profile_figure(residuals, variable, "residual", header, meaning)


@styled
def pull_profile_figure(
    residuals: dict[str, pd.DataFrame], variable: str, header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Width and mean of the pulls of the five track parameters against pT or eta, prompt tracks of each tracker.

    Dashed: 1 and 0, which a fit with correct errors gives. Arguments, errors and the table returned with the
    figure as for ``residual_tables.profile_table`` of pulls.
    """
    inside = f"\N{MINUS SIGN}{PULL_RANGE:g} to {PULL_RANGE:g}"
    meaning = f"width: half of the central 68.27 % of the pulls; mean: of those in {inside}; dashed: expected"
    return _profile_figure(residuals, variable, "pull", header, meaning)


def _profile_figure(residuals, variable: str, kind: str, header: Header | None, meaning: str):
    table = profile_table(residuals, variable, kind)
    prompt = table[table["origin"] == PROMPT]
    upper, lower = ("resolution", "bias") if kind == "residual" else ("pull_width", "pull_mean")
    figure = new_figure(15.5, 12.5)
    grid = figure.add_gridspec(2, 3)
    corners = []
    for i, name in enumerate(PARAMETERS):
        pair = grid[divmod(i, 3)].subgridspec(2, 1, height_ratios=(3, 2)).subplots(sharex=True)
        for ax, statistic in zip(pair, (upper, lower), strict=True):
            chosen = prompt[(prompt["quantity"] == name) & (prompt["statistic"] == statistic)]
            _draw_profile(ax, chosen, variable, statistic, _label(name, statistic))
        pair[1].set_xlabel(AXIS_LABELS[variable])
        corners.append(pair[0])
    _draw_key(figure.add_subplot(grid[1, 2]), prompt[prompt["statistic"] == upper])
    draw_header(corners[0], header, f"{_TRACKS[PROMPT]}\n{meaning}; {_NAN_TEXT}", right=corners[2])
    return figure, table


def _label(name: str, statistic: str) -> str:
    if statistic.startswith("pull_"):
        return f"{statistic.removeprefix('pull_')} of {_SYMBOLS[name]} pull"
    relative = "rel. " if name == "q_over_pt" else ""
    return f"{relative}{_SYMBOLS[name]} {statistic} [{UNITS[name][0]}]"


def _draw_histograms(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """One panel: a line per tracker, the expectation dashed, the numbers in the legend."""
    trackers = list(dict.fromkeys(table["tracker"]))
    top = 1.0
    if name == CHI2:
        ax.plot([0, 1], [1, 1], color="0.55", linestyle="--", linewidth=1.2)
        ax.set(xlabel=r"$P(\chi^2)$", ylabel="density", xlim=(0, 1), xticks=np.arange(1, 6) / 5)
    else:
        x = np.linspace(-5, 5, 201)
        gauss = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
        ax.plot(x, gauss, color="0.55", linestyle="--", linewidth=1.2)
        ax.set(xlabel=f"pull of {_SYMBOLS[name]}", ylabel="density", xlim=(-5, 5))
        top = gauss.max()
    for tracker in trackers:
        mine = table[table["tracker"] == tracker]
        total, bins = mine.iloc[0], mine[mine["density"].notna()]
        edges = np.append(bins["low"], bins["high"].iloc[-1])
        label = f"{tracker}: {_numbers(total, bins, name)}"
        ax.stairs(bins["density"], edges, color=tracker_style(tracker).color, linewidth=1.8, label=label)
        top = max(top, bins["density"].max())
    ax.set_ylim(0, top * (1.2 + 0.1 * len(trackers)))
    if not trackers:
        draw_note(ax, "no fitted tracks")
        ax.set(xticks=[], yticks=[])
    else:
        title = "share of the lowest bin" if name == CHI2 else "width and mean"
        ax.legend(loc="upper left", fontsize=11.5, handlelength=1.2, title=title, alignment="left")


def _numbers(total: pd.Series, bins: pd.DataFrame, name: str) -> str:
    """Numbers of one tracker for the legend."""
    if total["n"] == 0:
        return "no tracks"
    if name == CHI2:
        first = bins.iloc[0]
        return f"{100 * first['n'] / total['n']:.1f} % below {first['high']:g}"
    if np.isnan(total["width"]):
        return f"{total['n']} tracks"
    return f"{total['width']:.3f} ± {total['width_error']:.3f}, {total['mean']:+.3f}".replace("-", "\u2212")


def _draw_profile(ax: Axes, table: pd.DataFrame, variable: str, statistic: str, label: str) -> None:
    """One panel: points with errors per tracker, the expectation dashed."""
    trackers = list(dict.fromkeys(table["tracker"]))
    bins = table[(table["bin"] != "all") & table["value"].notna()]
    if bins.empty:
        draw_note(ax, f"no bin of {MIN_TRACKS} tracks" if len(table) else "no fitted tracks")
        ax.set(xticks=[], yticks=[])
        return
    ax.set_ylabel(label)
    if statistic != "resolution":
        ax.axhline(float(statistic == "pull_width"), color="black", linestyle="--", linewidth=1.2)
    # Series are shifted inside the bin so that error bars do not hide each other.
    shifts = np.linspace(-0.2, 0.2, len(trackers)) if len(trackers) > 1 else [0.0]
    for tracker, shift in zip(trackers, shifts, strict=True):
        rows, at, style = bins[bins["tracker"] == tracker], 0.5 + shift, tracker_style(tracker)
        low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
        x = low ** (1 - at) * high**at if variable == "pt" else low + (high - low) * at
        value = rows["value"].to_numpy()
        error = rows["hi"].to_numpy() - value
        ax.errorbar(x, value, yerr=error, color=style.color, marker=style.marker, linestyle="-", linewidth=0.8)
    _set_range(ax, bins, statistic)
    ax.set_xlim(bins["low"].min(), bins["high"].max())
    if variable == "pt":
        log_pt_axis(ax)


def _set_range(ax: Axes, bins: pd.DataFrame, statistic: str) -> None:
    """Limits and ticks of the y axis: resolutions logarithmic, the others linear around what is expected."""
    low, high = bins["lo"].min(), bins["hi"].max()
    if statistic == "resolution":
        ax.set_yscale("log")
        low = bins["lo"].clip(lower=1e-12).min()
        ax.set_ylim(0.8 * low, 1.3 * high)
        labelled = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
        ax.yaxis.set_major_locator(LogLocator(subs=labelled, numticks=30))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        return
    centre = float(statistic == "pull_width")
    reach = 1.15 * max(high - centre, centre - low, 0.1 if statistic.startswith("pull") else 1e-12)
    if statistic == "pull_width":
        ax.set_ylim(min(0.85, low - 0.1 * (high - low)), max(1.15, high + 0.1 * (high - low)))
    else:
        ax.set_ylim(centre - reach, centre + reach)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_key(ax: Axes, table: pd.DataFrame) -> None:
    """Panel with colour, marker and number of tracks of each tracker."""
    ax.set_axis_off()
    totals = table[(table["bin"] == "all") & (table["quantity"] == PARAMETERS[0])]
    for tracker, n in zip(totals["tracker"], totals["n"], strict=True):
        style = tracker_style(tracker)
        ax.errorbar(
            [], [], yerr=[], color=style.color, marker=style.marker, linewidth=0.8, label=f"{tracker} ({n} tracks)"
        )
    if len(totals):
        ax.legend(loc="center", fontsize=14)
