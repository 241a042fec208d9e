"""Cut an event into sectors of azimuth, with an optional overlap.

Only the hits are cut. ``Truth.particles`` keeps the counts of the full event, so an efficiency
computed inside a sector still asks for the whole track (gnn_tracking issue 426).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, describe
from trackbench.geometry.coordinates import azimuth

MODES = ("angle", "count")


@dataclass(frozen=True)
class Sector:
    """Hits of one sector.

    hits: the m hits of the sector, by position in the event
    index: (m,) int64, their positions in the event
    core: (m,) bool, True = in the sector itself, False = in the overlap with a neighbour. Each valid
        hit of the event is core in exactly one sector.
    """

    hits: Hits
    index: np.ndarray
    core: np.ndarray


def phi_sectors(hits: Hits, n_sectors: int, mode: str = "angle", overlap: float = 0.0) -> list[Sector]:
    """Cut an event into ``n_sectors`` sectors of azimuth, from phi = -pi on.

    hits: the event; padding is left out
    mode: "angle" = equal widths, "count" = equal numbers of hits after sorting by phi (the first
        n mod n_sectors sectors get one more), as HEPTv2 does for balanced batches
    overlap: each sector is enlarged on both sides by this fraction of its width (angle) or of its
        number of hits (count), 0 <= overlap < 1, across phi = +-pi too
    Returns the sectors; a sector may be empty. Raises ConfigError for a wrong argument.
    """
    if isinstance(n_sectors, bool) or not isinstance(n_sectors, int | np.integer) or n_sectors < 1:
        raise ConfigError(describe("data.sectors.count", f"value {n_sectors!r}", "an integer >= 1"))
    if mode not in MODES:
        raise ConfigError(describe("data.sectors.mode", f"value {mode!r}", " or ".join(MODES)))
    if not 0 <= overlap < 1:
        raise ConfigError(describe("data.sectors.overlap", f"value {overlap!r}", "0 <= overlap < 1"))
    valid = np.flatnonzero(hits.valid)
    phi = azimuth(hits.xyz[valid])
    cut = _by_angle if mode == "angle" else _by_count
    sectors = []
    for core, extended in cut(phi, n_sectors, overlap):
        chosen = np.flatnonzero(core | extended)
        index = valid[chosen]
        sectors.append(Sector(hits.take(index), index, core[chosen]))
    return sectors


def take_truth(truth: Truth, index: np.ndarray) -> Truth:
    """Return the truth of the hits at ``index``: (m,) int positions. The particle table stays whole."""
    rows = {name: getattr(truth, name)[index] for name in ("hit_id", "particle_id", "weight")}
    return replace(truth, **rows)


def merge_labels(sectors: Sequence[Sector], labels: Sequence[np.ndarray], n_hits: int) -> np.ndarray:
    """Join labels found sector by sector: each hit takes the label from the sector it is core in.

    labels: per sector (m,) int, negative = unassigned; n_hits: number of hits of the event
    Returns (n_hits,) int64, labels of different sectors made different, -1 = unassigned or padding.
    Tracks that cross a border stay cut.
    """
    merged = np.full(n_hits, -1, dtype=np.int64)
    offset = 0
    for sector, found in zip(sectors, labels, strict=True):
        found = np.asarray(found, dtype=np.int64)
        shifted = np.where(found >= 0, found + offset, -1)
        merged[sector.index[sector.core]] = shifted[sector.core]
        offset += int(found.max(initial=-1)) + 1
    return merged


def _by_angle(phi: np.ndarray, n_sectors: int, overlap: float):
    """Yield per sector (core, extended): (n,) bool each."""
    position = (phi + np.pi) / (2 * np.pi) * n_sectors  # in units of the sector width, [0, n_sectors]
    number = np.minimum(position.astype(np.int64), n_sectors - 1)  # phi = pi belongs to the last sector
    for k in range(n_sectors):
        # Distance to the sector's middle along the shorter way round.
        distance = np.abs(np.mod(position - (k + 0.5) + n_sectors / 2, n_sectors) - n_sectors / 2)
        yield number == k, distance < 0.5 + overlap


def _by_count(phi: np.ndarray, n_sectors: int, overlap: float):
    """Yield per sector (core, extended): (n,) bool each."""
    n = len(phi)
    order = np.argsort(phi, kind="stable")
    edges = np.concatenate([[0], np.cumsum([len(run) for run in np.array_split(order, n_sectors)])])
    for first, last in itertools.pairwise(edges):
        margin = round(overlap * (last - first))
        core, extended = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        core[order[first:last]] = True
        extended[order[np.arange(first - margin, last + margin) % max(n, 1)]] = True
        yield core, extended
