"""Maps of the pixel hits projected on the three surfaces: barrel cylinder and the two endcap discs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.geometry.projection import BARREL_RADIUS, DISC_Z, REGIONS, Region, project
from trackbench.plotting.event_tracks import TRACK_COLORS, truth_tracks
from trackbench.plotting.style import Header, draw_header, draw_note, new_figure, styled

MAP_COLUMNS = ("surface", "kind", "u", "w", "count", "hit_id", "particle_id")
_N_BINS = 100


@styled
def projection_figure(
    hits: Hits,
    truth: Truth | None = None,
    pt_min: float = 0.9,
    z0: float = 0.0,
    barrel_radius: float = BARREL_RADIUS,
    disc_z: float = DISC_Z,
    header: Header | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Project the pixel hits of one event along lines to (0, 0, z0) and map them.

    hits: one event; only valid hits in volumes 7, 8, 9 are used
    truth: row by row beside the hits, or None: adds a row of panels with the hits of the particles of
        pT >= pt_min [GeV] (at least 3 hits), coloured by particle
    z0, barrel_radius, disc_z: [mm], see ``trackbench.geometry.projection``
    Returns the figure and a table ``MAP_COLUMNS``: non-empty cells of the density maps (kind "density",
    u and w at the centre of the cell) and the projected hits of the tracks (kind "track hit"). u is phi
    [rad] in the barrel, else x [mm]; w is z [mm] in the barrel, else y [mm].
    """
    tracks = None if truth is None else truth_tracks(hits, truth, pt_min, len(hits))
    figure = new_figure(16.0, 6.6 if truth is None else 11.4)
    axes = figure.subplots(1 if truth is None else 2, 3, squeeze=False, sharex="col", sharey="col")
    tables = []
    for column, region in enumerate(REGIONS):
        rows = np.flatnonzero(hits.valid & (hits.volume_id == region.volume))
        uw = project(hits.xyz[rows], region, barrel_radius, disc_z, z0)
        if region.barrel:
            uw = uw / [barrel_radius, 1.0]
        tables.append(_draw_density(axes[0, column], uw, region))
        if tracks is not None:
            place = np.full(len(hits), -1)
            place[rows] = np.arange(rows.size)
            here = place[tracks.rows] >= 0
            chosen = place[tracks.rows[here]]
            _draw_tracks(axes[1, column], uw[chosen], tracks.color[here])
            ids = {"hit_id": hits.hit_id[tracks.rows[here]], "particle_id": tracks.label[here]}
            tables.append(_rows(region, "track hit", uw[chosen], 1, ids))
        _label(axes[:, column], region, barrel_radius, disc_z)
    note = f"event {hits.event_id}; projected to (0, 0, {z0:g} mm)"
    if tracks is not None:
        note += f"; below: hits of {tracks.n_tracks} particles, pT >= {pt_min:g} GeV, one colour each"
    draw_header(axes[0, 0], header, note, right=axes[0, 2])
    return figure, pd.concat(tables, ignore_index=True)


def _rows(region: Region, kind: str, uw: np.ndarray, count, ids: dict) -> pd.DataFrame:
    columns = {"surface": region.name, "kind": kind, "u": uw[:, 0], "w": uw[:, 1], "count": count}
    return pd.DataFrame({**columns, "hit_id": 0, "particle_id": 0, **ids})[list(MAP_COLUMNS)]


def _draw_density(ax: Axes, uw: np.ndarray, region: Region) -> pd.DataFrame:
    """Draw and return the number of hits in each of 100 x 100 cells."""
    if len(uw) == 0:
        draw_note(ax, "no hit here")
        return _rows(region, "density", np.empty((0, 2)), 0, {})
    reach = float(np.abs(uw[:, 1] if region.barrel else uw).max()) * 1.02
    half_u = np.pi if region.barrel else reach
    edges_u, edges_w = np.linspace(-half_u, half_u, _N_BINS + 1), np.linspace(-reach, reach, _N_BINS + 1)
    counts = np.histogram2d(uw[:, 0], uw[:, 1], [edges_u, edges_w])[0]
    norm = LogNorm(1, max(counts.max(), 10))
    shown = np.where(counts > 0, counts, np.nan).T
    mesh = ax.pcolormesh(edges_u, edges_w, shown, cmap="viridis", norm=norm, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, location="bottom", pad=0.02, aspect=40, label="hits per cell")
    i, j = np.nonzero(counts)
    centres = np.column_stack(((edges_u[:-1] + edges_u[1:])[i] / 2, (edges_w[:-1] + edges_w[1:])[j] / 2))
    return _rows(region, "density", centres, counts[i, j].astype(np.int64), {})


def _draw_tracks(ax: Axes, uw: np.ndarray, color: np.ndarray) -> None:
    if len(uw) == 0:
        draw_note(ax, "no track here")
        return
    size = float(np.clip(1e4 / len(uw), 2.5, 16.0))
    shades = np.array(TRACK_COLORS)[color]
    ax.scatter(uw[:, 0], uw[:, 1], s=size, c=shades, linewidths=0, rasterized=True)


def _label(axes: np.ndarray, region: Region, barrel_radius: float, disc_z: float) -> None:
    for ax in axes:
        if region.barrel:
            title = f"Barrel cylinder, R = {barrel_radius:g} mm"
            ax.set_ylabel("w = R z / r [mm]")
        else:
            z = disc_z if region.name.endswith("+") else -disc_z
            title = f"Disc, z = {z:+g} mm".replace("-", "\N{MINUS SIGN}")
            ax.set_ylabel("y at the disc [mm]")
        ax.set_xlabel(r"$\phi$ [rad]" if region.barrel else "x at the disc [mm]")
        ax.tick_params(labelbottom=True)
        ax.set_box_aspect(1)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
        ax.text(0.02, 0.98, title, transform=ax.transAxes, va="top", fontsize=12, bbox=box)
