"""Cluster hits in the latent space of a network: HDBSCAN, DBSCAN in cosine distance, greedy cosine clustering.

Sources: HDBSCAN on the regressed parameters: Dobreva, MSc thesis "Translating Hits to Tracks", ch. 5; the greedy
clustering: SlavPsh/transformer, where a hit takes its k - 1 nearest for a fixed k. Tracks of the whole detector have
8 to 20 hits, so here a threshold on the similarity decides instead of k. The last step, each hit to the nearest
centre, is one iteration of spherical k-means (Dhillon and Modha, Machine Learning 42 (2001) 143).
"""

from dataclasses import dataclass

import numpy as np

from trackbench.errors import ConfigError, InputError, describe

METHODS = ("hdbscan", "dbscan_cosine", "greedy_cosine")
OUTSIDE = ("together", "unassigned")
_CHUNK = 4096  # hits compared with all centres at once


@dataclass(frozen=True)
class Clustering:
    """How ``cluster_points`` clusters.

    method: "hdbscan" in Euclidean distance of the vectors as they are; "dbscan_cosine" and "greedy_cosine" in the
        angle between vectors, where one of length 0 has none and stays unassigned
    min_cluster_size: hits a cluster must have, >= 2, for all methods
    min_samples: hits that make a core point, itself counted (DBSCAN); neighbours that the density at a hit is
        measured by, itself not counted (HDBSCAN), >= 1
    eps: largest cosine distance 1 - cos of neighbours (DBSCAN), in (0, 2)
    similarity: smallest cosine of a hit with the seed of its cluster (greedy), in (-1, 1)
    max_size: most hits of a cluster, the most similar ones (greedy), 0 = no limit
    centre: below 1, each hit goes to the cluster with the most similar centre in the end, if the cosine is at least
        this, in [-1, 1] (DBSCAN and greedy); clusters may then be smaller than ``min_cluster_size``
    """

    method: str
    min_cluster_size: int = 5
    min_samples: int = 2
    eps: float = 0.05
    similarity: float = 0.9
    max_size: int = 0
    centre: float = 1.0

    def __post_init__(self):
        check_settings("clustering", vars(self))


def cluster_points(points: np.ndarray, method: str, **settings) -> np.ndarray:
    """Cluster the hits of one event.

    points: (n, d) float, latent vector of each hit, sorted by hit_id: of equal choices the first hit is taken
    method, settings: of ``Clustering``
    Returns (n,) int64, 0, 1, ..., -1 = unassigned.
    Raises ConfigError for a wrong setting, InputError for points that are not finite.
    Cost: HDBSCAN and DBSCAN about O(n log n) in few dimensions, greedy O(n^2 d).
    """
    how = Clustering(method, **settings)
    points = np.ascontiguousarray(points, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(describe("latent vectors", f"shape {points.shape}, or not finite", "(n, d) finite numbers"))
    if len(points) < how.min_cluster_size:
        return np.full(len(points), -1, dtype=np.int64)
    if how.method == "hdbscan":
        return _hdbscan(points, how.min_cluster_size, how.min_samples)
    labels = np.full(len(points), -1, dtype=np.int64)
    length = np.linalg.norm(points, axis=1)
    pointing = length > 0
    unit = np.ascontiguousarray(points[pointing] / length[pointing, None])
    if how.method == "dbscan_cosine":
        found = _dbscan(unit, how.eps, how.min_cluster_size, how.min_samples)
    else:
        from trackbench.trackers.layers.latent_kernels import greedy

        found = greedy(unit, float(how.similarity), how.min_cluster_size, how.max_size)
    labels[pointing] = nearest_centre(unit, found, how.centre) if how.centre < 1 else found
    return labels


def nearest_centre(unit: np.ndarray, labels: np.ndarray, similarity: float) -> np.ndarray:
    """Give each hit to the cluster whose centre is the most similar one: takes back hits that a neighbour took first.

    unit: (n, d) float64, rows of length 1; labels: (n,) int, 0, 1, ..., negative = unassigned
    similarity: smallest cosine of a hit with its centre; a centre is the direction of the sum of the cluster's hits
    Returns (n,) int64, 0, 1, ..., -1 = unassigned. Cost O(n k d) for k clusters.
    """
    assigned = labels >= 0
    if not assigned.any():
        return labels
    centres = np.zeros((labels.max() + 1, unit.shape[1]))
    np.add.at(centres, labels[assigned], unit[assigned])
    length = np.linalg.norm(centres, axis=1)
    centres[length > 0] /= length[length > 0, None]
    moved = np.full(len(unit), -1, dtype=np.int64)
    for first in range(0, len(unit), _CHUNK):
        rows = slice(first, first + _CHUNK)
        cosine = unit[rows] @ centres.T
        best = cosine.argmax(axis=1)
        near = cosine[np.arange(len(best)), best] >= similarity
        moved[rows][near] = best[near]
    kept = moved >= 0
    moved[kept] = np.unique(moved[kept], return_inverse=True)[1]
    return moved


def cluster_within(
    points: np.ndarray, groups: np.ndarray, method: str, *, outside: str = "together", **settings
) -> np.ndarray:
    """Cluster inside each group of hits, such as a projection cluster, on its own.

    points, method, settings: as for ``cluster_points``
    groups: (n,) int, group of each hit, negative = in none
    outside: hits in no group are clustered among themselves ("together") or stay "unassigned"
    Returns (n,) int64, labels of different groups made different, -1 = unassigned.
    """
    if outside not in OUTSIDE:
        raise ConfigError(describe("clustering.outside", f"value {outside!r}", " or ".join(OUTSIDE)))
    points, groups = np.asarray(points), np.asarray(groups)
    if groups.shape != (len(points),):
        raise InputError(describe("groups", f"shape {groups.shape}", f"({len(points)},)"))
    groups = np.maximum(groups, -1)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-2))
    labels = np.full(len(points), -1, dtype=np.int64)
    n_found = 0
    for rows in np.split(order, starts[1:]):
        if rows.size and (groups[rows[0]] >= 0 or outside == "together"):
            found = cluster_points(points[rows], method, **settings)
            labels[rows] = np.where(found >= 0, found + n_found, -1)
            n_found += int(found.max(initial=-1)) + 1
    return labels


def check_settings(where: str, settings: dict) -> None:
    """Raise ConfigError for values that ``Clustering`` refuses. where: what they are settings of."""
    good = {
        "method": (lambda value: value in METHODS, "one of " + ", ".join(METHODS)),
        "min_cluster_size": (lambda value: value >= 2, ">= 2"),
        "min_samples": (lambda value: value >= 1, ">= 1"),
        "eps": (lambda value: 0 < value < 2, "in (0, 2)"),
        "similarity": (lambda value: -1 < value < 1, "in (-1, 1)"),
        "max_size": (lambda value: value == 0 or value >= 2, "0 or >= 2"),
        "centre": (lambda value: -1 <= value <= 1, "in [-1, 1]"),
    }
    for name, value in settings.items():
        accepted, expected = good[name]
        if not accepted(value):
            raise ConfigError(describe(f"{where}.{name}", f"value {value!r}", expected))


def _hdbscan(points: np.ndarray, min_cluster_size: int, min_samples: int) -> np.ndarray:
    if len(points) <= max(min_cluster_size, min_samples):
        # The package needs more points than either number; so few hits are no sample to cluster.
        return np.full(len(points), -1, dtype=np.int64)
    from hdbscan import HDBSCAN

    model = HDBSCAN(
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        algorithm="boruvka_kdtree",
        core_dist_n_jobs=1,  # one thread, so that times compare
    )
    return model.fit(points).labels_.astype(np.int64)


def _dbscan(unit: np.ndarray, eps: float, min_cluster_size: int, min_samples: int) -> np.ndarray:
    """DBSCAN in cosine distance of unit vectors; clusters that are too small are dissolved."""
    if not len(unit):
        return np.empty(0, dtype=np.int64)
    from sklearn.cluster import DBSCAN

    # |a - b|^2 = 2 - 2 a.b: the same neighbours, with a tree instead of all pairs.
    labels = DBSCAN(eps=np.sqrt(2 * eps), min_samples=min_samples, algorithm="kd_tree").fit(unit).labels_
    assigned = labels >= 0
    large = np.bincount(labels[assigned], minlength=1) >= min_cluster_size
    number = np.cumsum(large) - 1
    labels[assigned] = np.where(large, number, -1)[labels[assigned]]
    return labels.astype(np.int64)
