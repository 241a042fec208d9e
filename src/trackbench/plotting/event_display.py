"""Static event display: transverse and longitudinal view, truth above track candidates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.geometry.coordinates import radius
from trackbench.plotting.event_tracks import TRACK_COLORS, DrawnTracks, candidate_tracks, truth_tracks, with_gaps
from trackbench.plotting.style import AXIS_LABELS, GREY, Header, draw_header, new_figure, pretty, styled

_WIDER = 1.25  # width of the r-z panel over that of the x-y panel


@styled
def event_display(
    hits: Hits,
    truth: Truth | None = None,
    labels: np.ndarray | None = None,
    tracker: str = "candidates",
    pt_min: float = 0.9,
    max_tracks: int = 150,
    header: Header | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw one event in x-y and r-z.

    hits: the event; invalid rows are not drawn
    truth: row by row beside the hits, or None: adds a row with the particles of pT >= pt_min [GeV]
    labels: (n,) int, candidate per hit, negative = unassigned, or None: adds a row with the candidates
    tracker: name of the tracker that made the labels
    max_tracks: at most so many particles (highest pT) are coloured, or candidates (longest) when there
        is no truth; the panel says how many of how many. The rest is grey.
    With truth, the candidates drawn are those of the particles drawn, in the particle's colour, so the
    two rows compare (see ``event_tracks.candidate_tracks``).
    Returns the figure and a table of the coloured hits: ``shown hit_id x y z r track label``. Raises
    InputError if truth or labels do not fit the hits.
    """
    drawn: list[tuple[str, str, DrawnTracks | None]] = []
    particles = None
    if truth is not None:
        particles = truth_tracks(hits, truth, pt_min, max_tracks)
        text = f"Truth: {_amount(particles, 'highest pT')} particles, pT >= {pt_min:g} GeV"
        drawn.append(("truth", pretty(text), particles))
    if labels is not None:
        limit = max_tracks if particles is None else len(hits)  # all candidates of the particles drawn
        candidates = candidate_tracks(hits, labels, particles, limit)
        text = f"{_amount(candidates, 'longest')} candidates" + (" of these particles" if particles else "")
        drawn.append((tracker, f"{tracker}: {text}", candidates))
    if not drawn:
        drawn.append(("hits", "Hits", None))
    figure = new_figure(13.0, 1.1 + 5.1 * len(drawn))
    axes = figure.subplots(len(drawn), 2, squeeze=False, width_ratios=(1, _WIDER), sharex="col", sharey="col")
    for (left, right), (_, title, tracks) in zip(axes, drawn, strict=True):
        _draw_view(left, hits, tracks, hits.xyz[:, 0], hits.xyz[:, 1])
        _draw_view(right, hits, tracks, hits.xyz[:, 2], radius(hits.xyz))
        left.set_ylabel(AXIS_LABELS["y"])
        right.set_ylabel(AXIS_LABELS["r"])
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
        left.text(0.02, 0.98, title, transform=left.transAxes, va="top", fontsize=12, bbox=box)
    _finish(axes, hits)
    extra = f"event {hits.event_id}, {int(hits.valid.sum())} hits; grey: hits of no track shown"
    draw_header(axes[0, 0], header, extra, right=axes[0, 1])
    tables = [_table(name, hits, tracks) for name, _, tracks in drawn if tracks is not None]
    return figure, pd.concat(tables, ignore_index=True) if tables else _table("hits", hits, None)


def _amount(tracks: DrawnTracks, which: str) -> str:
    if tracks.n_tracks == tracks.n_total:
        return f"{tracks.n_tracks}"
    return f"{tracks.n_tracks} of {tracks.n_total} ({which})"


def _draw_view(ax: Axes, hits: Hits, tracks: DrawnTracks | None, x: np.ndarray, y: np.ndarray) -> None:
    rest = hits.valid.copy()
    if tracks is not None:
        rest[tracks.rows] = False
    size = float(np.clip(3e4 / max(len(hits), 1), 0.4, 6.0))
    ax.scatter(x[rest], y[rest], s=size, color=GREY, linewidths=0, rasterized=True)
    if tracks is None:
        return
    marker = 3.5 if tracks.rows.size < 3000 else 2.0
    for shade, color in enumerate(TRACK_COLORS):
        mine = tracks.color == shade
        rows, track = tracks.rows[mine], tracks.track[mine]
        options = {"color": color, "marker": "o", "markersize": marker, "linewidth": 0.8, "markeredgewidth": 0}
        ax.plot(with_gaps(x[rows], track), with_gaps(y[rows], track), **options)


def _finish(axes: np.ndarray, hits: Hits) -> None:
    """Equal scale in x-y, the same ranges in every row, axis names at the bottom only."""
    xyz = hits.xyz[hits.valid]
    reach = 1.06 * radius(xyz).max(initial=1.0)
    across = 1.12 * reach  # room for the title
    half_length = 1.06 * np.abs(xyz[:, 2]).max(initial=1.0)
    for left, right in axes:
        left.set_xlim(-across, across)
        left.set_ylim(-across, across)
        left.set_box_aspect(1)
        right.set_xlim(-half_length, half_length)
        right.set_ylim(0, reach)
        right.set_box_aspect(1 / _WIDER)
    axes[-1, 0].set_xlabel(AXIS_LABELS["x"])
    axes[-1, 1].set_xlabel(AXIS_LABELS["z"])


def _table(name: str, hits: Hits, tracks: DrawnTracks | None) -> pd.DataFrame:
    rows = tracks.rows if tracks is not None else np.flatnonzero(hits.valid)
    xyz = hits.xyz[rows]
    columns = {"shown": name, "hit_id": hits.hit_id[rows], "x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2]}
    table = pd.DataFrame({**columns, "r": radius(xyz)})
    table["track"] = tracks.track if tracks is not None else -1
    table["label"] = tracks.label if tracks is not None else -1
    return table
