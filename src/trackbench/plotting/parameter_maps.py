"""Predicted against true track parameters of every hit: maps of 100 x 100 cells, and the widths of the residuals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.fit_quality import half_width
from trackbench.evaluation.markup import markdown_table
from trackbench.evaluation.trackformers import demo_note
from trackbench.plotting.style import (
    DAGGER,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    row_style,
    styled,
)

CELLS = 100
MAP_COLUMNS = ("parameter", "true_low", "true_high", "predicted_low", "predicted_high", "n")
WIDTH_COLUMNS = ("row", "parameter", "n", "mean", "half_width", "rms", "mse", "quoted", "source")
ALL = "all"  # pseudo-parameter of the mean squared error over all four


@dataclass(frozen=True)
class Parameter:
    """How a parameter is shown: symbol with unit, ends of its axis, and of that of its residual."""

    symbol: str
    low: float
    high: float
    reach: float


PARAMETERS = {
    "theta": Parameter(r"$\theta$ [rad]", -0.2, np.pi + 0.2, 0.4),
    "sin_phi": Parameter(r"$\sin\phi$", -1.2, 1.2, 0.4),
    "cos_phi": Parameter(r"$\cos\phi$", -1.2, 1.2, 0.4),
    "charge": Parameter("$q$ [e]", -1.5, 1.5, 1.5),
    "q_over_pt": Parameter(r"$q / (2.5\,p_\mathrm{T}/\mathrm{GeV})$", -2.5, 2.5, 1.5),
}


def parameters_of(predictions: pd.DataFrame) -> list[str]:
    """The four parameters of a predictions table (``trackbench.predictions``). Raises ConfigError without them."""
    fourth = [name for name in ("charge", "q_over_pt") if f"true_{name}" in predictions]
    if not fourth:
        what = "neither true_charge nor true_q_over_pt"
        raise ConfigError(describe("predictions table", what, "the file of one regression network"))
    names = ["theta", "sin_phi", "cos_phi", fourth[0]]
    check_columns("predictions table", predictions, [*names, *(f"true_{name}" for name in names)])
    return names


def map_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count hits in cells of true and predicted value.

    predictions: one row per hit; noise (true value NaN) is left out
    Returns ``MAP_COLUMNS``, only cells with hits; hits outside the axes are in no cell.
    """
    parts = []
    for name in parameters_of(predictions):
        edges = _edges(name)
        true, predicted = (predictions[column].to_numpy(np.float64) for column in (f"true_{name}", name))
        counts = np.histogram2d(true, predicted, bins=(edges, edges))[0]
        i, j = np.nonzero(counts)
        cells = (edges[i], edges[i + 1], edges[j], edges[j + 1], counts[i, j].astype(np.int64))
        parts.append(pd.DataFrame({"parameter": name, **dict(zip(MAP_COLUMNS[1:], cells, strict=True))}))
    return pd.concat(parts, ignore_index=True)


def width_table(predictions: dict[str, pd.DataFrame], quoted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Widths of predicted minus true, over all hits of particles.

    predictions: row -> predictions table
    quoted: published ``sigma_*`` and ``mse`` of the set (rows of ``trackformers_published``), columns
        ``metric value source``
    Returns ``WIDTH_COLUMNS``: per row and parameter the number of hits, mean, half the central 68.27 % interval, root
    mean square and mean square; and a row ``ALL`` with the mean square over all four. ``quoted`` is the
    published sigma, for ``ALL`` the published MSE; it is NaN where the parameter is another one.
    """
    known = {} if quoted is None else {entry.metric: (entry.value, entry.source) for entry in quoted.itertuples()}
    rows = []
    for name, frame in predictions.items():
        parameters = parameters_of(frame)
        squares = []
        for parameter in parameters:
            values = residuals(frame, parameter)
            value, source = known.get(f"sigma_{parameter}", (np.nan, ""))
            rows.append({"row": name, "parameter": parameter, **_widths(values), "quoted": value, "source": source})
            squares.append(rows[-1]["mse"])
        same = "charge" in parameters
        value, source = known.get("mse", (np.nan, "")) if same else (np.nan, "")
        n_hits = rows[-1]["n"]
        total = {"row": name, "parameter": ALL, "n": n_hits, "mse": float(np.mean(squares)), "quoted": value}
        rows.append({**total, "source": source})
    return pd.DataFrame(rows, columns=list(WIDTH_COLUMNS))


def residuals(predictions: pd.DataFrame, parameter: str) -> np.ndarray:
    """Predicted minus true value of the hits of particles. Returns (m,) float64."""
    values = predictions[parameter].to_numpy(np.float64) - predictions[f"true_{parameter}"].to_numpy(np.float64)
    return values[~np.isnan(values)]


def _widths(values: np.ndarray) -> dict:
    width, _ = half_width(values)  # its error is one of independent values, and hits of one track are not
    mse = float(np.mean(values**2)) if values.size else np.nan
    mean = float(values.mean()) if values.size else np.nan
    rms = np.sqrt(mse) if values.size else np.nan
    return {"n": values.size, "mean": mean, "half_width": width, "rms": rms, "mse": mse}


@styled
def map_figure(
    predictions: pd.DataFrame, row: str, label: str = "", header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Four panels of predicted against true value, number of hits per cell as logarithmic colour.

    predictions: of one row; row, label: its name and the label of its model
    Returns the figure and ``map_table``.
    """
    table = map_table(predictions)
    names = parameters_of(predictions)
    figure = new_figure(12.5, 11.0)
    figure.get_layout_engine().set(w_pad=0.15)  # labels at the ends of the axes reach beyond what it reserves
    panels = figure.subplots(2, 2)
    top = max(int(table["n"].max()), 2) if len(table) else 2
    mesh = None
    for ax, name in zip(panels.flat, names, strict=True):
        mesh = _draw_map(ax, table[table["parameter"] == name], name, LogNorm(1, top)) or mesh
    if mesh is not None:
        figure.colorbar(mesh, ax=list(panels.flat), label="Hits per cell", shrink=0.9, aspect=40)
    title = f"{row} ({label})" if label else row
    text = f"{title}: output of the network for each hit; particles at production"
    text = "\n".join(filter(None, (text, _outside_text(predictions, table))))
    draw_header(panels[0, 0], header, text, right=panels[0, 1])
    return figure, table


@styled
def width_figure(
    predictions: dict[str, pd.DataFrame],
    labels: dict[str, str] | None = None,
    quoted: pd.DataFrame | None = None,
    header: Header | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Distribution of predicted minus true for each parameter, with the widths of every row.

    Arguments and table returned with the figure as for ``width_table``; labels: row -> label of its model. Published
    sigmas, whose definition is not stated, are dashed lines at +- sigma.
    """
    table = width_table(predictions, quoted)
    shown = [name for name in PARAMETERS if name in set(table["parameter"])]
    figure = new_figure(13.0, 10.0 if len(shown) < 5 else 14.0)
    panels = figure.subplots(2 if len(shown) < 5 else 3, 2)
    for ax in list(panels.flat)[len(shown) :]:
        ax.set_axis_off()
    for ax, name in zip(panels.flat, shown, strict=False):
        _draw_residuals(ax, predictions, table[table["parameter"] == name], name, labels or {})
    if not shown:
        draw_note(panels[0, 0], "no predictions to show")
    text = "predicted minus true, all hits of particles; width: half of the central 68.27 %"
    if table["quoted"].notna().any():
        text += f"\n{DAGGER} dashed: quoted sigma, its definition is not stated"
    draw_header(panels[0, 0], header, text, right=panels[0, 1])
    return figure, table


def width_markdown(table: pd.DataFrame, note: str, labels: dict[str, str] | None = None) -> str:
    """Write a table of ``width_table`` as Markdown.

    note: description of the sample; labels: row -> label of its model
    """
    lines = []
    for entry in table.itertuples():
        name = f"{entry.row} ({labels[entry.row]})" if (labels or {}).get(entry.row) else entry.row
        numbers = (entry.half_width, entry.rms, entry.mse)
        cells = ["\N{EN DASH}" if np.isnan(value) else f"{value:.4f}" for value in numbers]
        quoted = "\N{EN DASH}" if np.isnan(entry.quoted) else f"{entry.quoted:g} {DAGGER}"
        lines.append([name, entry.parameter, *cells, quoted])
    head = ["Row", "Parameter", "Half of central 68.27 %", "rms", "Mean square", f"Sigma (all: MSE) {DAGGER}"]
    sources = "; ".join(source for source in dict.fromkeys(table["source"]) if source)
    shown = [(labels or {}).get(row, "") for row in dict.fromkeys(table["row"])]
    text = [
        f"{note}. Predicted minus true of every hit of a particle; theta in rad, q_over_pt = q / (2.5 pT / GeV) clipped"
        " to +-2.",
        *demo_note(shown),
        *([f"{DAGGER} quoted, other events; definition not stated: {sources}."] if sources else []),
    ]
    return f"{markdown_table(head, lines)}\n\n{' '.join(text)}\n"


def _outside_text(predictions: pd.DataFrame, table: pd.DataFrame) -> str:
    """Say how many hits each map leaves out; "" if none."""
    names = parameters_of(predictions)
    known = {name: int(predictions[f"true_{name}"].notna().sum()) for name in names}
    outside = {name: known[name] - int(table.loc[table["parameter"] == name, "n"].sum()) for name in names}
    parts = [f"{n} of {known[name]} in {name}" for name, n in outside.items() if n]
    return f"hits outside the axes, not shown: {', '.join(parts)}" if parts else ""


def _edges(name: str) -> np.ndarray:
    return np.linspace(PARAMETERS[name].low, PARAMETERS[name].high, CELLS + 1)


def _draw_map(ax: Axes, table: pd.DataFrame, name: str, norm: LogNorm):
    parameter, edges = PARAMETERS[name], _edges(name)
    ax.set(xlabel=f"True {parameter.symbol}", ylabel=f"Predicted {parameter.symbol}", aspect="equal")
    ax.set(xlim=(edges[0], edges[-1]), ylim=(edges[0], edges[-1]))
    ax.plot(edges[[0, -1]], edges[[0, -1]], color="0.4", linewidth=0.8, linestyle=":")
    if table.empty:
        draw_note(ax, "no hits to show")
        return None
    counts = np.full((CELLS, CELLS), np.nan)
    i, j = (np.searchsorted(edges, table[column]) for column in ("true_low", "predicted_low"))
    counts[j, i] = table["n"]
    return ax.pcolormesh(edges, edges, counts, norm=norm, cmap="viridis", rasterized=True)


def _draw_residuals(ax: Axes, predictions: dict, table: pd.DataFrame, name: str, labels: dict[str, str]) -> None:
    parameter = PARAMETERS[name]
    edges = np.linspace(-parameter.reach, parameter.reach, 81)
    top = 0.0
    for entry in table.itertuples():
        values = residuals(predictions[entry.row], name)
        density = np.histogram(values, edges)[0] / (max(values.size, 1) * np.diff(edges))
        outside = np.mean(np.abs(values) > parameter.reach) if values.size else 0.0
        text = f"{entry.row} ({labels[entry.row]})" if labels.get(entry.row) else entry.row
        numbers = f"width {entry.half_width:.3f}, rms {entry.rms:.3f}, {100 * outside:.1f} % outside"
        ax.stairs(density, edges, color=row_style(entry.row).color, linewidth=1.8, label=f"{text}\n{numbers}")
        top = max(top, density.max(initial=0.0))
    sigma = table["quoted"].dropna()
    if len(sigma):
        at = np.array([-1, 1]) * sigma.iloc[0]
        label = f"{DAGGER} quoted $\\sigma$ = {sigma.iloc[0]:g}"
        ax.vlines(at, 0, 1.1 * top, color="black", linestyle="--", linewidth=1.0, label=label)
    ax.set(xlabel=f"Predicted $-$ true {parameter.symbol}", ylabel="Density", xlim=(edges[0], edges[-1]))
    ax.set_ylim(0, (top or 1.0) * (1.25 + 0.17 * len(table)))
    ax.legend(loc="upper left", fontsize=11, handlelength=1.2)
