"""Simulation against real data: spectra, hit shares, and one ratio per quantity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trackbench.errors import ConfigError, describe
from trackbench.plotting.style import PALETTE, Header, check_columns, draw_header, draw_note, new_figure, styled

SAMPLE_NAME = "TrackML-like simulation"
SUMMARY_COLUMNS = ("quantity", "unit", "mean", "spread", "n_events", "reference", "ratio", "by_construction", "source")
DISTRIBUTION_COLUMNS = ("distribution", "lo", "hi", "mean", "spread", "n_events")
_HIT_SHARE, _NOISE_SHARE = "hit share of volume ", "noise share in volume "
_SIMULATED, _REAL = PALETTE[0], "black"
_SECONDARIES = PALETTE[1]
_RATIO_RANGE = (0.55, 1.45)


@styled
def plot_validation(
    summary: pd.DataFrame, distributions: pd.DataFrame, header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Draw the validation figure of the simulation.

    summary, distributions: from ``simulation.validation.summarise`` and ``distributions``
    header: text above the figure; default says "TrackML-like simulation" and the number of events
    Left: hit shares per volume beside the real ones, spectra of transverse momentum, eta and hits per
    particle. Right: simulated mean / reference for every quantity, bars = spread over events; open markers
    agree by construction. Returns the figure and the numbers behind it, columns ``panel label lo hi mean
    spread reference``. Raises ConfigError for a missing column or an empty table.
    """
    check_columns("simulation summary", summary, SUMMARY_COLUMNS)
    check_columns("simulation distributions", distributions, DISTRIBUTION_COLUMNS)
    if summary.empty or distributions.empty:
        raise ConfigError(describe("simulation validation", "no events", "at least one simulated event"))
    figure = new_figure(15.5, 8.6)
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.05))
    panels = [figure.add_subplot(grid[i, j]) for i in (0, 1) for j in (0, 1)]
    ratio = figure.add_subplot(grid[:, 2])
    _draw_shares(panels[0], summary)
    _draw_pt(panels[1], distributions, summary)
    _draw_eta(panels[2], distributions)
    _draw_hits(panels[3], distributions, summary)
    _draw_ratios(ratio, summary)
    header = header or Header(n_events=int(summary["n_events"].iloc[0]), sample=SAMPLE_NAME)
    draw_header(panels[0], header, "bars and bands: spread over events; grey: within 15 %", right=ratio)
    return figure, _numbers(summary, distributions)


def _draw_shares(ax: Axes, summary: pd.DataFrame) -> None:
    rows = summary[summary["quantity"].str.startswith(_HIT_SHARE)]
    volume = [name.removeprefix(_HIT_SHARE) for name in rows["quantity"]]
    place = np.arange(len(rows))
    spread = np.nan_to_num(rows["spread"].to_numpy(np.float64))
    ax.bar(place, rows["mean"], 0.72, yerr=spread, color=_SIMULATED, alpha=0.75, label="simulated")
    ax.plot(place, rows["reference"], "o", color=_REAL, label="real event (thinned)")
    ax.set_xticks(place, volume)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="volume", ylabel="share of hits")
    ax.set_ylim(0, 1.35 * rows[["mean", "reference"]].max(axis=None))
    ax.legend(loc="upper right")


def _draw_pt(ax: Axes, distributions: pd.DataFrame, summary: pd.DataFrame) -> None:
    _draw_steps(ax, distributions, "pt", _SIMULATED, "all particles")
    real = summary.set_index("quantity")["reference"]
    for name, line in (("median pT", "--"), ("90 % quantile of pT", ":")):
        if np.isfinite(real[name]):
            label = f"event 1000: {name.replace(' of pT', '').replace(' pT', '')}"
            ax.axvline(real[name], 0.26, 1, color=_REAL, linestyle=line, linewidth=1.2, label=label)
    ax.set(xscale="log", yscale="log", xlabel=r"$p_\mathrm{T}$ [GeV]", ylabel="particles / bin and event")
    mean = distributions.loc[distributions["distribution"] == "pt", "mean"]
    ax.set_ylim(0.3 * mean[mean > 0].min(), 4 * mean.max())
    ax.legend(loc="lower left", fontsize=11)


def _draw_eta(ax: Axes, distributions: pd.DataFrame) -> None:
    _draw_steps(ax, distributions, "eta", _SIMULATED, "all particles")
    ax.set(xlabel=r"$\eta$", ylabel="particles / bin and event", xlim=(-4, 4))
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.legend(loc="upper right")


def _draw_hits(ax: Axes, distributions: pd.DataFrame, summary: pd.DataFrame) -> None:
    real = summary.set_index("quantity")["reference"]
    for name, color in (("primaries", _SIMULATED), ("secondaries", _SECONDARIES)):
        _draw_steps(ax, distributions, f"hits of {name}", color, name)
        mean = real["hits per primary" if name == "primaries" else "hits per secondary"]
        if np.isfinite(mean):
            ax.axvline(mean, 0, 0.75, color=color, linestyle="--", linewidth=1.2, label="event 1000: mean")
    ax.set(xlabel="hits per particle", ylabel="particles / bin and event", xlim=(-0.5, 20.5))
    ax.set_ylim(0, 1.5 * ax.get_ylim()[1])
    ax.legend(loc="upper center", ncols=2, fontsize=10, columnspacing=1.0)


def _draw_steps(ax: Axes, distributions: pd.DataFrame, name: str, color: str, label: str) -> None:
    """Histogram as a line with the spread over events as a band."""
    rows = distributions[distributions["distribution"] == name]
    edges = np.append(rows["lo"], rows["hi"].iloc[-1])
    mean, spread = rows["mean"].to_numpy(np.float64), np.nan_to_num(rows["spread"].to_numpy(np.float64))
    ax.stairs(mean, edges, color=color, linewidth=1.8, label=label)
    low = np.maximum(mean - spread, 1e-3)  # positive, for a logarithmic axis
    ax.stairs(mean + spread, edges, baseline=low, fill=True, color=color, alpha=0.25)
    ax.set_xlim(edges[0], edges[-1])


def _draw_ratios(ax: Axes, summary: pd.DataFrame) -> None:
    """One row per quantity with a reference; the noise shares, an input of the simulation, are left out."""
    noise = summary["quantity"].str.startswith(_NOISE_SHARE)
    rows = summary[~noise & np.isfinite(summary["ratio"].to_numpy(np.float64))].reset_index(drop=True)
    ax.axvspan(0.85, 1.15, color="0.93", zorder=0)
    ax.axvline(1.0, color="0.4", linewidth=1.0)
    error = np.nan_to_num((rows["spread"] / rows["reference"]).to_numpy(np.float64))
    for tuned, face, label in ((False, _SIMULATED, "independent"), (True, "white", "agrees by construction")):
        at = (rows["by_construction"] == tuned).to_numpy(bool)
        options = {"marker": "o", "linestyle": "", "color": _SIMULATED, "markerfacecolor": face, "label": label}
        ax.errorbar(rows["ratio"][at], rows.index[at], xerr=error[at], **options)
    low, high = _RATIO_RANGE
    for i, value in enumerate(rows["ratio"]):
        if not low < value < high:
            edge = low if value <= low else high
            ax.annotate(f"{value:.2f}", (edge, i), ha="left" if edge == low else "right", va="center", fontsize=10)
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) + 1.1, -0.7)
    ax.set_yticks(rows.index, [_with_symbols(name) for name in rows["quantity"]], fontsize=10)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="y", which="both", left=False, right=False)
    ax.set_xlabel("simulated / real")
    if rows.empty:
        draw_note(ax, "no reference for these settings")
    else:
        ax.legend(loc="lower right", ncols=2, fontsize=11)


def _with_symbols(name: str) -> str:
    for plain, symbol in (("pT", r"$p_\mathrm{T}$"), ("|eta|", r"$|\eta|$"), (">= ", "\u2265 ")):
        name = name.replace(plain, symbol)
    return name


def _numbers(summary: pd.DataFrame, distributions: pd.DataFrame) -> pd.DataFrame:
    first = summary.assign(panel="summary", lo=np.nan, hi=np.nan).rename(columns={"quantity": "label"})
    second = distributions.assign(panel="distribution", reference=np.nan).rename(columns={"distribution": "label"})
    columns = ["panel", "label", "lo", "hi", "mean", "spread", "reference"]
    return pd.concat([first[columns], second[columns]], ignore_index=True)
