"""FitAccuracy and efficiency against pT and eta, several rows of one set of few tracks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trackbench.evaluation.intervals import REPLICAS, event_bootstrap
from trackbench.plotting.binning import check_edges, default_edges
from trackbench.plotting.style import (
    AXIS_LABELS,
    Header,
    check_columns,
    draw_header,
    draw_note,
    log_pt_axis,
    new_figure,
    row_style,
    styled,
)

COLUMNS = (
    "row",
    "metric",
    "variable",
    "bin",
    "low",
    "high",
    "n_num",
    "n_den",
    "value",
    "lo",
    "hi",
    "n_particles",
    "n_events",
)
TITLES = {"fit_accuracy": "FitAccuracy", "dm": "DM efficiency"}
VARIABLES = ("pt", "eta")
MIN_PARTICLES = 10  # for a point in the figure; the table has every bin
# The default pT bins are for particles above 0.9 GeV and end at 50: most of these sets would lie in two of them.
EDGES = {
    "pt": np.array([0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]),
    "eta": default_edges("eta", np.empty(0)),
}
# metric -> columns of the particles frame that are summed in numerator and denominator, None = number of particles
_PARTS = {"fit_accuracy": ("n_matched", "n_hits"), "dm": ("dm", None)}
_NEEDED = ("event_id", "pt", "eta", "n_hits", "n_matched", "dm")


def binned_table(
    particles: dict[str, pd.DataFrame],
    edges: dict[str, np.ndarray] | None = None,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> pd.DataFrame:
    """FitAccuracy and DM efficiency of particles in bins of pT and eta.

    particles: row -> all particles with hits of every event (``EventResult.particles``)
    edges: variable -> bin edges, default ``EDGES``
    replicas, seed: of the event bootstrap, whose 16 to 84 percentile is ``lo hi`` (NaN on one event)
    Returns ``COLUMNS``: per row, metric and variable "all", "under", "0", "1", ..., "over" (NaN too).
    FitAccuracy = hits in the double-majority cluster of their particle / hits; DM = particles with such a cluster of at
    least 3 hits / particles.
    Raises ConfigError for a missing column.
    """
    for name, frame in particles.items():
        check_columns(f"particles of {name}", frame, _NEEDED)
    chosen = {variable: check_edges({**EDGES, **(edges or {})}[variable]) for variable in VARIABLES}
    parts = [
        _binned(frame, metric, variable, chosen[variable], replicas, seed).assign(row=name)
        for name, frame in particles.items()
        for metric in TITLES
        for variable in VARIABLES
    ]
    empty = pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)] if parts else empty


def _binned(frame: pd.DataFrame, metric: str, variable: str, edges: np.ndarray, replicas: int, seed: int):
    top, bottom = _PARTS[metric]
    values = frame[variable].to_numpy(np.float64)
    m = edges.size - 1
    index = np.searchsorted(edges, values, side="right")  # 0 below, m + 1 above
    index[values == edges[-1]] = m
    index[np.isnan(values)] = m + 1
    events, event = np.unique(frame["event_id"].to_numpy(), return_inverse=True)
    num, den = (np.zeros((len(events), m + 2)) for _ in range(2))
    np.add.at(num, (event, index), frame[top].to_numpy(np.float64))
    np.add.at(den, (event, index), 1.0 if bottom is None else frame[bottom].to_numpy(np.float64))
    num, den = (np.column_stack((part.sum(axis=1), part)) for part in (num, den))
    lo, hi = (np.full(m + 3, np.nan) for _ in range(2))
    if len(events) > 1:
        lo, hi = event_bootstrap(num, den, replicas, seed)
    total, among = num.sum(axis=0), den.sum(axis=0)
    return pd.DataFrame(
        {
            "metric": metric,
            "variable": variable,
            "bin": ["all", "under", *map(str, range(m)), "over"],
            "low": [-np.inf, -np.inf, *edges],
            "high": [np.inf, *edges, np.inf],
            "n_num": total,
            "n_den": among,
            "value": np.divide(total, among, out=np.full(m + 3, np.nan), where=among > 0),
            "lo": lo,
            "hi": hi,
            "n_particles": np.concatenate(([len(frame)], np.bincount(index, minlength=m + 2))),
            "n_events": len(events),
        }
    )


@styled
def fit_accuracy_figure(
    particles: dict[str, pd.DataFrame],
    labels: dict[str, str] | None = None,
    edges: dict[str, np.ndarray] | None = None,
    header: Header | None = None,
    seed: int = 0,
) -> tuple[Figure, pd.DataFrame]:
    """Four panels: FitAccuracy above, DM efficiency below, against pT and against eta.

    particles, edges, seed: as for ``binned_table``; labels: row -> label of its model, such as "demo"
    Returns the figure and its table.
    """
    table = binned_table(particles, edges, seed=seed)
    figure = new_figure(13.0, 9.0)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for line, metric in zip(panels, TITLES, strict=True):
        for ax, variable in zip(line, VARIABLES, strict=True):
            mine = table[(table["metric"] == metric) & (table["variable"] == variable)]
            _draw(ax, mine, variable, labels or {})
        line[0].set_ylabel(TITLES[metric])
        _legend(line[0], line[1], metric)
    for ax, variable in zip(panels[1], VARIABLES, strict=True):
        ax.set_xlabel(AXIS_LABELS[variable])
    if table.empty:
        draw_note(panels[0, 0], "no row to show")
    text = f"all particles with hits; bars: bootstrap over events, 16-84 %; fewer than {MIN_PARTICLES}: no point"
    draw_header(panels[0, 0], header, "\n".join(filter(None, (text, outside_text(table)))), right=panels[0, 1])
    return figure, table


def outside_text(table: pd.DataFrame) -> str:
    """Say how many particles lie outside the axes; "" if none do."""
    rows = table[(table["metric"] == "dm") & table["bin"].isin(["under", "over"])]
    counts = rows.groupby(["variable", "row"], sort=False)["n_den"].sum().groupby("variable", sort=False).max()
    among = table[(table["metric"] == "dm") & (table["bin"] == "all")].groupby("variable")["n_den"].max()
    symbols = {"pt": "pT", "eta": "eta"}
    parts = [f"{int(n)} of {int(among[v])} in {symbols[v]}" for v, n in counts.items() if n > 0]
    return f"particles outside the axes, not shown: {', '.join(parts)}" if parts else ""


def _draw(ax: Axes, table: pd.DataFrame, variable: str, labels: dict[str, str]) -> None:
    names = list(dict.fromkeys(table["row"]))
    # Series are shifted inside the bin so that error bars do not hide each other.
    shifts = np.linspace(-0.28, 0.28, len(names)) if len(names) > 1 else np.zeros(len(names))
    for name, shift in zip(names, shifts, strict=True):
        mine = table[table["row"] == name]
        total = mine[mine["bin"] == "all"].iloc[0]
        rows = mine[mine["bin"].str.isdigit() & (mine["n_particles"] >= MIN_PARTICLES)]
        low, high, at = rows["low"].to_numpy(), rows["high"].to_numpy(), 0.5 + shift
        x = low ** (1 - at) * high**at if variable == "pt" else low + (high - low) * at
        value = rows["value"].to_numpy(np.float64)
        bars = np.nan_to_num(np.clip([value - rows["lo"], rows["hi"] - value], 0, None))
        style = row_style(name)
        text = f"{name} ({labels[name]})" if labels.get(name) else name
        label = f"{text}: {total['value']:.3f}"
        line = {"linestyle": style.line, "linewidth": 0.8, "elinewidth": 1.2}
        ax.errorbar(x, value, yerr=bars, color=style.color, marker=style.marker, markersize=6, label=label, **line)
    inside = table[table["bin"].str.isdigit()]
    if variable == "pt":
        log_pt_axis(ax)
    if len(inside):
        ax.set_xlim(inside["low"].min(), inside["high"].max())
    ax.set_ylim(-0.03, 1.06)


def _legend(left: Axes, right: Axes, metric: str) -> None:
    """Legend beside the panels of a metric: it would hide points in them."""
    handles, texts = left.get_legend_handles_labels()
    if handles:
        title = f"{TITLES[metric]}, pooled over particles"  # tables have the mean over events
        look = {"fontsize": 10, "title_fontsize": 10, "labelspacing": 0.3, "alignment": "left"}
        right.legend(handles, texts, loc="center left", bbox_to_anchor=(1.02, 0.5), title=title, **look)
