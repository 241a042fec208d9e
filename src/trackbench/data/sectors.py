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
    Tracks that cross a border stay cut; with an overlap ``stitch_labels`` joins them.
    """
    merged = np.full(n_hits, -1, dtype=np.int64)
    offset = 0
    for sector, found in zip(sectors, labels, strict=True):
        found = np.asarray(found, dtype=np.int64)
        shifted = np.where(found >= 0, found + offset, -1)
        merged[sector.index[sector.core]] = shifted[sector.core]
        offset += int(found.max(initial=-1)) + 1
    return merged


def stitch_labels(
    sectors: Sequence[Sector], labels: Sequence[np.ndarray], n_hits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Join labels found in overlapping sectors: clusters of two sectors that are mostly the same hits become one.

    labels: per sector (m,) int, negative = unassigned; n_hits: number of hits of the event
    Two clusters must share more than half of the hits of the smaller one, all hits its sector saw counted, overlap
    included. Whatever is linked this way, also through a third cluster, is united. Each hit then takes the label
    from the sector it is core in, which is the one with the nearest centre.
    Returns (n_hits,) int64, 0, 1, ..., -1 = unassigned or padding, and (k,) int64: for each of these labels its
    largest part (of equal ones that of the first sector), a number in the labels of all sectors one after the
    other, each shifted by the largest label + 1 of those before.
    Without overlap nothing is united. Cost O(n_sectors^2 + n log n) for n hits seen by the sectors.
    """
    found = [np.asarray(part, dtype=np.int64) for part in labels]
    sizes = [np.bincount(part[part >= 0], minlength=part.max(initial=-1) + 1) for part in found]
    offsets = np.concatenate([[0], np.cumsum([len(size) for size in sizes])]).astype(np.int64)
    root = np.arange(offsets[-1])
    for i, j in itertools.combinations(range(len(sectors)), 2):
        shared = _shared_hits(sectors[i], found[i], sectors[j], found[j])
        smaller = np.minimum(sizes[i][shared[0]], sizes[j][shared[1]])
        # Counting only hits that both saw as the smaller one's would let a single stray hit unite two tracks.
        for a, b in shared[:2, 2 * shared[2] > smaller].T:
            first, second = _find(root, a + offsets[i]), _find(root, b + offsets[j])
            root[max(first, second)] = min(first, second)
    root = np.array([_find(root, number) for number in range(len(root))], dtype=np.int64)
    size = np.concatenate(sizes)
    ascending = np.lexsort((-np.arange(len(size)), size))  # of equal ones the first comes last
    largest = np.empty(len(root), dtype=np.int64)
    largest[root[ascending]] = ascending
    merged = merge_labels(sectors, found, n_hits)
    assigned = merged >= 0
    kept, merged[assigned] = np.unique(root[merged[assigned]], return_inverse=True)
    return merged, largest[kept]


def _shared_hits(first: Sector, labels: np.ndarray, second: Sector, others: np.ndarray) -> np.ndarray:
    """Clusters of two sectors that share hits: (3, k) int64, label in the first, in the second, hits shared."""
    _, at_first, at_second = np.intersect1d(first.index, second.index, assume_unique=True, return_indices=True)
    a, b = labels[at_first], others[at_second]
    both = (a >= 0) & (b >= 0)
    width = b.max(initial=0) + 1
    pairs, shared = np.unique(a[both] * width + b[both], return_counts=True)
    return np.stack([*np.divmod(pairs, width), shared])


def _find(root: np.ndarray, number: int) -> int:
    """Follow the links of the union-find forest to the root, halving the path on the way."""
    while root[number] != number:
        root[number] = root[root[number]]
        number = int(root[number])
    return int(number)


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
