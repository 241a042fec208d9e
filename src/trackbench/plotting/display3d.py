"""Interactive 3D event display: one HTML file that needs no network.

The page holds plotly.js (4.8 MB) and the event. To stay below 6 MB, and drawable, the number of points is
bounded; the legend says what is left out. One trace per group keeps the page fast.
"""

import os

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.files import write_text
from trackbench.plotting.event_tracks import TRACK_COLORS, DrawnTracks, candidate_tracks, truth_tracks, with_gaps
from trackbench.plotting.style import GREY, Header

MAX_POINTS = 18_000  # of all groups together; tracks of 3 hits cost about 60 bytes per point


def display_page(
    hits: Hits,
    truth: Truth | None = None,
    tracks: dict[str, np.ndarray] | None = None,
    pt_min: float = 0.9,
    max_points: int = MAX_POINTS,
    header: Header | None = None,
) -> str:
    """Build the page: hits as points, particles and candidates as lines, one legend entry per group.

    hits: the event; invalid rows are left out
    truth: row by row beside the hits, or None: the particles of pT >= pt_min [GeV], highest pT first
    tracks: tracker -> (n,) int label per hit, negative = unassigned. With truth, the candidates of the
        drawn particles have the particle's colour, and all other candidates are a group of their own
        that a click in the legend shows.
    max_points: upper limit of all points together; whole tracks are left out first, then hits
    Returns the HTML, the same for the same event. Hovering shows hit_id, volume and layer, and the
    particle (numbered by pT) or the candidate's label. Raises InputError if truth or labels do not fit
    the hits.
    """
    import plotly.graph_objects as go

    groups = _track_groups(hits, truth, tracks or {}, pt_min, int(0.8 * max_points))
    rest = _sample_rest(hits, max_points - sum(drawn.rows.size for _, drawn, _ in groups))
    n_valid = int(hits.valid.sum())
    name = f"hits ({rest.size})" if rest.size == n_valid else f"hits ({rest.size} of {n_valid})"
    figure = go.Figure([_hit_trace(go, hits, rest, name)])
    for title, drawn, is_shown in groups:
        figure.add_trace(_track_trace(go, hits, drawn, f"{title} ({_amount(drawn)})", is_shown))
    figure.update_layout(**_layout(header or Header(), hits.event_id))
    config = {"displaylogo": False, "responsive": True}
    page = figure.to_html(include_plotlyjs=True, div_id="event", default_height="100vh", config=config)
    head = f"<head><title>trackbench: event {hits.event_id}</title><style>body {{ margin: 0; }}</style>"
    return page.replace("<head>", head, 1)


def write_display3d(path: str | os.PathLike, hits: Hits, *args, **kwargs) -> None:
    """Write the page of ``display_page(hits, ...)`` to ``path``, atomically."""
    write_text(path, display_page(hits, *args, **kwargs))


def _track_groups(hits, truth, tracks, pt_min, max_points) -> list[tuple[str, DrawnTracks, bool]]:
    """(title, tracks, shown at first) of every group; each may use an equal share of the points left."""
    everything, left = len(hits), max_points
    n_groups = (truth is not None) + len(tracks) * (1 if truth is None else 2)
    groups, particles = [], None
    if truth is not None:
        particles = truth_tracks(hits, truth, pt_min, everything, left // n_groups)
        groups.append((f"truth, pT \N{GREATER-THAN OR EQUAL TO} {pt_min:g} GeV", particles, True))
        left -= particles.rows.size
    # Candidates of the particles drawn first: what they leave goes to the other candidates.
    for others in (False, True) if particles is not None else (False,):
        for i, (name, labels) in enumerate(tracks.items()):
            share = left // (n_groups - len(groups))
            drawn = candidate_tracks(hits, labels, particles, everything, share, others)
            left -= drawn.rows.size
            # One tracker at a time is enough to begin with.
            groups.append((f"{name}: other candidates" if others else name, drawn, i == 0 and not others))
    return groups


def _amount(drawn: DrawnTracks) -> str:
    return f"{drawn.n_tracks}" if drawn.n_tracks == drawn.n_total else f"{drawn.n_tracks} of {drawn.n_total}"


def _sample_rest(hits: Hits, limit: int) -> np.ndarray:
    """All hits, or a random subset of ``limit`` of them; sorted positions, the same for the same event."""
    rows = np.flatnonzero(hits.valid)
    if rows.size <= limit:
        return rows
    return np.sort(np.random.default_rng([hits.event_id, 3]).choice(rows, limit, replace=False))


def _hit_trace(go, hits: Hits, rows: np.ndarray, name: str):
    xyz = hits.xyz[rows].astype(np.float32)
    hover = np.column_stack((hits.hit_id[rows], hits.volume_id[rows], hits.layer_id[rows])).astype(np.int32)
    return go.Scatter3d(
        x=xyz[:, 2],
        y=xyz[:, 0],
        z=xyz[:, 1],
        mode="markers",
        name=name,
        marker={"size": 1.5, "color": GREY, "opacity": 0.7},
        customdata=hover,
        hovertemplate="hit %{customdata[0]}<br>volume %{customdata[1]}, layer %{customdata[2]}<extra></extra>",
    )


def _track_trace(go, hits: Hits, drawn: DrawnTracks, name: str, is_shown: bool):
    rows, track = drawn.rows, drawn.track
    xyz = [with_gaps(hits.xyz[rows, axis], track).astype(np.float32) for axis in range(3)]
    shown = drawn.label if drawn.label.max(initial=0) < 2**31 else track  # a particle_id needs 64 bits
    columns = (hits.hit_id[rows], hits.volume_id[rows], hits.layer_id[rows], shown)
    hover = np.column_stack([np.nan_to_num(with_gaps(column, track), nan=-1) for column in columns])
    shade = np.nan_to_num(with_gaps(drawn.color, track), nan=0).astype(np.uint8)
    n = len(TRACK_COLORS) - 1
    scale = [[i / n, color] for i, color in enumerate(TRACK_COLORS)]
    look = {"color": shade, "colorscale": scale, "cmin": 0, "cmax": n}
    word = "track" if shown is drawn.label else "particle, by pT:"
    where = "hit %{customdata[0]}<br>volume %{customdata[1]}, layer %{customdata[2]}"
    return go.Scatter3d(
        x=xyz[2],
        y=xyz[0],
        z=xyz[1],
        mode="lines+markers",
        name=name,
        visible=True if is_shown else "legendonly",
        line={"width": 3, **look},
        marker={"size": 2.5, **look},
        customdata=hover.astype(np.int32),
        hovertemplate=f"{where}<br>{word} %{{customdata[3]}}<extra></extra>",
    )


def _layout(header: Header, event_id: int) -> dict:
    """Beam line along the page, white background, header as title."""
    pileup = "" if header.pileup is None else f"\N{GREEK SMALL LETTER MU} = {header.pileup:g}"
    beam = "" if header.sigma_z is None else f"\N{GREEK SMALL LETTER SIGMA}<sub>z</sub> = {header.sigma_z:.3g} mm"
    parts = [f"event {event_id}", pileup, beam, header.selection, header.hits, header.note]
    title = (f"<b>{header.sample}</b>  " if header.sample else "") + "; ".join(part for part in parts if part)
    axis = {"backgroundcolor": "white", "gridcolor": "#e6e6e6", "zerolinecolor": "#d0d0d0"}
    return {
        "template": "plotly_white",
        "title": {"text": title, "font": {"size": 16}, "x": 0.01},
        "font": {"family": "sans-serif", "size": 13},
        "legend": {"itemsizing": "constant", "x": 0.01, "y": 0.97, "bgcolor": "rgba(255,255,255,0.8)"},
        "margin": {"l": 0, "r": 0, "t": 48, "b": 0},
        "scene": {
            "xaxis": {"title": "z [mm]", **axis},
            "yaxis": {"title": "x [mm]", **axis},
            "zaxis": {"title": "y [mm]", **axis},
            # Stretched across the beam: the pixel detector is ten times longer than wide.
            "aspectmode": "manual",
            "aspectratio": {"x": 2.0, "y": 1.0, "z": 1.0},
            "camera": {"eye": {"x": -1.0, "y": -1.8, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
    }
