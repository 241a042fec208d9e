"""The label-noise study: score of the true targets with noise on them, clustered, beside the published points."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trackbench.plotting.style import DAGGER, PALETTE, Header, check_columns, draw_header, draw_note, new_figure, styled

COLUMNS = ("targets", "scale", "score", "score_lo", "score_hi", "dm", "n_events", "source")
TARGETS = {  # targets of the clustering -> text, colour, marker
    "charge": (r"$\theta$, $\sin\phi$, $\cos\phi$, $q$", PALETTE[0], "o"),
    "q_over_pt": (r"$\theta$, $\sin\phi$, $\cos\phi$, $q / (2.5\,p_\mathrm{T})$", PALETTE[2], "s"),
}


@styled
def label_noise_figure(
    table: pd.DataFrame, quoted: pd.DataFrame | None = None, header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """TrackML score and DM against the scale of the Laplace noise on the true targets.

    table: ``COLUMNS``, one row per kind of targets and scale; score with its error, DM dashed; the row without a
        scale is the floor, horizontal lines
    quoted: published points with ``scale value source caveat`` (``trackformers_published.noise_rows``), targets with q;
        what is said of their noise stands above the figure
    Returns the figure and the table, quoted rows (``source`` starting with "quoted") appended. Raises ConfigError for a
    missing column.
    """
    check_columns("label-noise table", table, COLUMNS)
    figure = new_figure(11.5, 6.0)
    ax = figure.subplots()
    _draw_floor(ax, table[table["scale"].isna()])
    for name, rows in table.dropna(subset="scale").sort_values("scale").groupby("targets", sort=False):
        text, color, marker = TARGETS.get(name, (name, PALETTE[4], "^"))
        value = rows["score"].to_numpy(np.float64)
        bars = np.nan_to_num(np.clip([value - rows["score_lo"], rows["score_hi"] - value], 0, None))
        ax.errorbar(rows["scale"], value, yerr=bars, color=color, marker=marker, label=f"score, {text}")
        ax.plot(rows["scale"], rows["dm"], color=color, linestyle="--", linewidth=1.0, label=f"DM, {text}")
    shown = table
    if quoted is not None and len(quoted):
        check_columns("quoted label noise", quoted, ("scale", "value", "source", "caveat"))
        label = f"score {DAGGER} quoted, {TARGETS['charge'][0]}"
        style = {"color": "black", "marker": "X", "markersize": 9, "markerfacecolor": "white", "linestyle": ":"}
        ax.plot(quoted["scale"], quoted["value"], label=label, **style)
        rows = {"targets": "charge", "scale": quoted["scale"], "score": quoted["value"], "n_events": 0}
        source = "quoted: " + quoted["source"] + " [" + quoted["caveat"] + "]"
        extra = pd.DataFrame({**rows, "source": source}).reindex(columns=list(COLUMNS))
        shown = pd.DataFrame([*table[list(COLUMNS)].to_dict("records"), *extra.to_dict("records")])
    if len(shown):
        handles, texts = ax.get_legend_handles_labels()
        beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}  # the lines of a large set fill the axes
        order = sorted(range(len(texts)), key=lambda i: texts[i].startswith("DM"))  # scores first
        ax.legend([handles[i] for i in order], [texts[i] for i in order], **beside, fontsize=11)
        reach = float(np.nan_to_num(shown["scale"].max())) or 1.0
        ax.set_xlim(-0.03 * reach, 1.05 * reach)
    else:
        draw_note(ax, "no point to show")
    ax.set(xlabel="Scale of the Laplace noise on the true targets", ylabel="Mean over events", ylim=(0, 1.05))
    text = "true targets of every hit + noise, clustered by HDBSCAN: the network is not involved"
    if len(shown) > len(table):
        text += f"\n{DAGGER} quoted: published, TrackML events; {'; '.join(dict.fromkeys(quoted['caveat']))}"
    draw_header(ax, header, text, margin=4.5)
    return figure, shown


def _draw_floor(ax: Axes, rows: pd.DataFrame) -> None:
    """Hit angles instead of targets: no noise is put on them."""
    for name, score, dm in rows[["targets", "score", "dm"]].itertuples(index=False):
        style = {"color": PALETTE[3], "linewidth": 1.4, "zorder": 1}
        ax.axhline(score, label=f"score, floor: {name}", **style)
        ax.axhline(dm, linestyle="--", label=f"DM, floor: {name}", **{**style, "linewidth": 1.0})
