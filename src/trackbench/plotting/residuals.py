"""Pulls of fitted track parameters, and widths of their residuals against pT and eta."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trackbench.data.tracks import PARAMETERS
from trackbench.errors import ConfigError, describe
from trackbench.evaluation.definitions import PROMPT_RADIUS
from trackbench.plotting.binning import check_edges, default_edges
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

PULL_COLUMNS = ("tracker", "quantity", "bin", "low", "high", "n", "density", "mean", "width", "width_error")
WIDTH_COLUMNS = ("tracker", "quantity", "unit", "variable", "bin", "low", "high", "n", "value", "lo", "hi")
VARIABLES = ("pt", "eta")
CHI2 = "chi2_probability"
MIN_TRACKS = 10  # for a width

_PULL_EDGES = np.linspace(-5.0, 5.0, 51)
_CHI2_EDGES = np.linspace(0.0, 1.0, 21)
_TAIL = 0.15865525393145707  # probability of a Gaussian below -1
# sqrt(n) times the error of the half-width, for a Gaussian of width 1; see ``half_width``.
_ERROR = 0.9617
_TRACKS = f"matched prompt tracks (made within {PROMPT_RADIUS:g} mm of the beam line)"
_SYMBOLS = {
    "d0": "$d_0$",
    "z0": "$z_0$",
    "phi": r"$\phi$",
    "theta": r"$\theta$",
    "q_over_pt": r"$q/p_\mathrm{T}$",
}
# quantity -> (unit of its width, factor from mm, rad; q/pT is shown relative to its size, so times pT)
_UNITS = {"d0": ("µm", 1e3), "z0": ("µm", 1e3), "phi": ("mrad", 1e3), "theta": ("mrad", 1e3), "q_over_pt": ("%", 1e2)}


def half_width(values: np.ndarray) -> tuple[float, float]:
    """Half the length of the central 68.27 % interval of values, and its error.

    values: (n,) float; NaN is ignored
    Returns NaN, NaN for fewer than ``MIN_TRACKS`` values. The error is that of a Gaussian: quantiles q of
    probability p = 0.159 and 1 - p have variance p (1 - p) / (n f^2) and covariance p^2 / (n f^2), f = 0.242
    the density there (David and Nagaraja, Order Statistics, 3rd ed., section 10.2), hence
    (q2 - q1) / 2 has the error sqrt(p (1 - 2 p) / 2) / f = 0.962 times the width over sqrt(n).
    """
    values = values[~np.isnan(values)]
    if values.size < MIN_TRACKS:
        return np.nan, np.nan
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    width = (high - low) / 2
    return width, _ERROR * width / np.sqrt(values.size)


def pull_table(residuals: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Histograms of the pulls and of the chi2 probability of prompt tracks, and their widths.

    residuals: tracker -> ``evaluation.residuals.RESIDUAL_COLUMNS``
    Returns ``PULL_COLUMNS``: per tracker and quantity (``data.tracks.PARAMETERS`` and ``CHI2``) a row "all"
    with the mean of what lies inside the axis, the half-width of everything and its error; rows "under",
    "0", "1", ..., "over" and "undefined" (no pull) with n and, inside, the density (1 / n of all defined).
    """
    parts = []
    for tracker, frame in residuals.items():
        check_columns(
            f"residuals of {tracker}", frame, (*(f"pull_{name}" for name in PARAMETERS), "vr", "chi2", "n_dof")
        )
        prompt = _prompt(frame)
        quantities = {name: (prompt[f"pull_{name}"].to_numpy(np.float64), _PULL_EDGES) for name in PARAMETERS}
        quantities[CHI2] = (chi2_probability(prompt), _CHI2_EDGES)
        for name, (values, edges) in quantities.items():
            parts.append(_histogram(values, edges).assign(tracker=tracker, quantity=name))
    empty = pd.DataFrame(columns=list(PULL_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(PULL_COLUMNS)] if parts else empty


def chi2_probability(residuals: pd.DataFrame) -> np.ndarray:
    """Probability of a larger chi2 for the degrees of freedom of each fit, (n,) float; NaN without any."""
    from scipy.special import chdtrc

    chi2, n_dof = (residuals[name].to_numpy(np.float64) for name in ("chi2", "n_dof"))
    known = (n_dof > 0) & (chi2 >= 0)
    return np.where(known, chdtrc(np.where(known, n_dof, 1.0), np.where(known, chi2, 0.0)), np.nan)


@styled
def pull_figure(residuals: dict[str, pd.DataFrame], header: Header | None = None) -> tuple[Figure, pd.DataFrame]:
    """Pulls of the five track parameters and the chi2 probability, prompt tracks of each tracker.

    residuals: tracker -> residuals of matched candidates (the files ``{tracker}-residuals.parquet``)
    Dashed: the unit Gaussian and the flat distribution that a fit with correct errors gives. Returns the
    figure and ``pull_table``.
    """
    table = pull_table(residuals)
    figure = new_figure(15.5, 9.0)
    panels = figure.subplots(2, 3)
    for ax, name in zip(panels.flat, (*PARAMETERS, CHI2), strict=True):
        _draw_histograms(ax, table[table["quantity"] == name], name)
    text = f"{_TRACKS}\nwidth: half of the central 68.27 %; mean: of what is inside the axis; dashed: expected"
    draw_header(panels[0, 0], header, text, right=panels[0, 2])
    return figure, table


def width_table(residuals: dict[str, pd.DataFrame], variable: str, edges: np.ndarray | None = None) -> pd.DataFrame:
    """Half-widths of the residuals of prompt tracks in bins of a true quantity.

    variable: "pt" [GeV] or "eta"; edges: default ``binning.default_edges``, halved in number for few tracks
    Returns ``WIDTH_COLUMNS``: per tracker and parameter a row "all" and one per bin; value in ``unit`` (of
    q/pT: the residual times the true pT, in per cent) and lo, hi = value -+ error; NaN for fewer than
    ``MIN_TRACKS`` tracks. Raises ConfigError for another variable or a missing column.
    """
    if variable not in VARIABLES:
        raise ConfigError(describe("figure variable", f"'{variable}' is not known", "one of " + ", ".join(VARIABLES)))
    for name, frame in residuals.items():
        check_columns(f"residuals of {name}", frame, (*(f"residual_{p}" for p in PARAMETERS), "pt", "eta", "vr"))
    prompt = {name: _prompt(frame) for name, frame in residuals.items()}
    if edges is None:
        values = [frame[variable].to_numpy(np.float64) for frame in prompt.values()]
        edges = default_edges(variable, np.concatenate(values) if values else np.empty(0))
        most = max((len(sample) for sample in values), default=0)
        while (edges.size - 1) % 2 == 0 and most < 2 * MIN_TRACKS * (edges.size - 1):
            edges = edges[::2]  # of few tracks, no bin would have enough
    edges = check_edges(edges)
    rows = [
        {"tracker": tracker, "quantity": name, "unit": unit, "variable": variable, **row}
        for tracker, frame in prompt.items()
        for name, (unit, factor) in _UNITS.items()
        for row in _binned_widths(_scaled(frame, name, factor), frame[variable].to_numpy(np.float64), edges)
    ]
    return pd.DataFrame(rows, columns=list(WIDTH_COLUMNS))


@styled
def width_figure(
    residuals: dict[str, pd.DataFrame], variable: str, header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Resolution of the five track parameters against pT or eta, prompt tracks of each tracker.

    Arguments, errors and the table returned with the figure as for ``width_table``.
    """
    table = width_table(residuals, variable)
    figure = new_figure(15.5, 9.0)
    panels = figure.subplots(2, 3)
    for ax, name in zip(panels.flat, PARAMETERS, strict=False):
        _draw_widths(ax, table[table["quantity"] == name], variable)
        relative = "relative " if name == "q_over_pt" else ""
        ax.set_ylabel(f"{relative}{_SYMBOLS[name]} resolution [{_UNITS[name][0]}]")
    _draw_key(panels[1, 2], table)
    meaning = "resolution: half of the central 68.27 % of fitted minus true"
    text = f"{_TRACKS}\n{meaning}; fewer than {MIN_TRACKS} tracks: no point"
    draw_header(panels[0, 0], header, text, right=panels[0, 2])
    return figure, table


def _prompt(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["vr"].to_numpy(np.float64) <= PROMPT_RADIUS]


def _histogram(values: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    known = values[~np.isnan(values)]
    inside = known[(known >= edges[0]) & (known <= edges[-1])]
    counts = np.histogram(inside, edges)[0]
    width, error = half_width(known)
    mean = inside.mean() if inside.size else np.nan
    outside = {"under": (known < edges[0]).sum(), "over": (known > edges[-1]).sum()}
    rows = [("all", -np.inf, np.inf, known.size, np.nan, mean, width, error)]
    rows += [("under", -np.inf, edges[0], outside["under"], *[np.nan] * 4)]
    density = counts / (max(known.size, 1) * np.diff(edges))
    bins = zip(map(str, range(counts.size)), edges[:-1], edges[1:], counts, density, strict=True)
    rows += [(*row, *[np.nan] * 3) for row in bins]
    rows += [("over", edges[-1], np.inf, outside["over"], *[np.nan] * 4)]
    rows += [("undefined", np.nan, np.nan, values.size - known.size, *[np.nan] * 4)]
    return pd.DataFrame(rows, columns=list(PULL_COLUMNS[2:]))


def _draw_histograms(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """One panel: a line per tracker, the expectation dashed, the numbers in the legend."""
    trackers = list(dict.fromkeys(table["tracker"]))
    top = 1.0
    if name == CHI2:
        ax.plot([0, 1], [1, 1], color="black", linestyle="--", linewidth=1.2)
        ax.set(xlabel=r"$P(\chi^2)$", ylabel="density", xlim=(0, 1), xticks=np.arange(1, 6) / 5)
    else:
        x = np.linspace(-5, 5, 201)
        gauss = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
        ax.plot(x, gauss, color="black", linestyle="--", linewidth=1.2)
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


def _scaled(frame: pd.DataFrame, name: str, factor: float) -> np.ndarray:
    values = frame[f"residual_{name}"].to_numpy(np.float64) * factor
    return values * frame["pt"].to_numpy(np.float64) if name == "q_over_pt" else values


def _binned_widths(residual: np.ndarray, values: np.ndarray, edges: np.ndarray) -> list[dict]:
    rows = []
    bins = [("all", -np.inf, np.inf), *zip(map(str, range(edges.size - 1)), edges[:-1], edges[1:], strict=True)]
    for name, low, high in bins:
        # The last bin includes its upper edge, as in numpy.histogram.
        inside = (values >= low) & ((values < high) | (high == edges[-1]) & (values == high))
        chosen = residual[np.ones(len(values), dtype=bool) if name == "all" else inside]
        width, error = half_width(chosen)
        numbers = {"n": int((~np.isnan(chosen)).sum()), "value": width, "lo": width - error, "hi": width + error}
        rows.append({"bin": name, "low": low, "high": high, **numbers})
    return rows


def _draw_widths(ax: Axes, table: pd.DataFrame, variable: str) -> None:
    trackers = list(dict.fromkeys(table["tracker"]))
    ax.set_xlabel(AXIS_LABELS[variable])
    bins = table[(table["bin"] != "all") & table["value"].notna()]
    if bins.empty:
        draw_note(ax, f"no bin of {MIN_TRACKS} tracks" if len(table) else "no fitted tracks")
        ax.set(xticks=[], yticks=[])
        return
    # Series are shifted inside the bin so that error bars do not hide each other.
    shifts = np.linspace(-0.2, 0.2, len(trackers)) if len(trackers) > 1 else [0.0]
    for tracker, shift in zip(trackers, shifts, strict=True):
        rows, at, style = bins[bins["tracker"] == tracker], 0.5 + shift, tracker_style(tracker)
        low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
        x = low ** (1 - at) * high**at if variable == "pt" else low + (high - low) * at
        value = rows["value"].to_numpy()
        error = rows["hi"].to_numpy() - value
        ax.errorbar(x, value, yerr=error, color=style.color, marker=style.marker, linestyle="-", linewidth=0.8)
    ax.set_yscale("log")
    low, high = bins["lo"].clip(lower=1e-12).min(), bins["hi"].max()
    ax.set_ylim(0.8 * low, 1.3 * high)
    labelled = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
    ax.yaxis.set_major_locator(LogLocator(subs=labelled, numticks=30))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(bins["low"].min(), bins["high"].max())
    if variable == "pt":
        log_pt_axis(ax)


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
