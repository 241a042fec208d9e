"""DBSCAN and density peaks on a surface: hits sorted into cells, neighbours found in adjacent cells.

The cells only speed up the search: results depend on the points and on their order alone.
"""

from dataclasses import dataclass

import numpy as np

MAX_CELLS_PER_AXIS = 2048


@dataclass(frozen=True)
class SurfaceGrid:
    """Points of one surface, sorted into cells that are at least as wide as the search radius.

    points: (n, 3) float64, Euclidean coordinates [mm]
    cell: (n, 2) int64, cell of each point along the two directions of the surface
    order: (n,) int64, points sorted by cell (stable)
    start: (n_u * n_w + 1,) int64, first position in ``order`` of each cell
    n_u, n_w: number of cells
    wraps: True if the first and the last cell along u are neighbours
    """

    points: np.ndarray
    cell: np.ndarray
    order: np.ndarray
    start: np.ndarray
    n_u: int
    n_w: int
    wraps: bool

    def arrays(self) -> tuple:
        """The fields in the order in which the kernels take them."""
        return self.points, self.cell, self.order, self.start, self.n_u, self.n_w, self.wraps


def surface_grid(points: np.ndarray, barrel: bool, reach: float) -> SurfaceGrid:
    """Sort points of a surface into cells for searches up to distance ``reach``.

    points: (n, 3) from ``embed_cylinder`` (barrel) or ``embed_disc`` (first two = position on the disc) [mm]
    reach: largest search radius [mm], > 0, may be infinite
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    if barrel:
        along_u, n_u = _cells_around(points, reach)
        along_w, n_w = _cells_along(points[:, 2], reach)
    else:
        along_u, n_u = _cells_along(points[:, 0], reach)
        along_w, n_w = _cells_along(points[:, 1], reach)
    key = along_u * n_w + along_w
    order = np.argsort(key, kind="stable")
    start = np.searchsorted(key[order], np.arange(n_u * n_w + 1))
    cell = np.column_stack((along_u, along_w))
    return SurfaceGrid(points, cell, order, start, n_u, n_w, wraps=barrel and n_u > 2)


def _cells_along(values: np.ndarray, reach: float) -> tuple[np.ndarray, int]:
    low, extent = values.min(), np.ptp(values)
    n = int(np.clip(extent // reach, 1, MAX_CELLS_PER_AXIS))
    width = extent / n if extent > 0 else 1.0
    return np.minimum(((values - low) / width).astype(np.int64), n - 1), n


def _cells_around(points: np.ndarray, reach: float) -> tuple[np.ndarray, int]:
    # A chord of length reach spans this angle; within it a neighbour is at most one cell away.
    radius = np.hypot(points[:, 0], points[:, 1])
    angle = 2 * np.arcsin(min(reach / (2 * radius.min()), 1.0))
    n = int(np.clip(2 * np.pi // angle, 1, MAX_CELLS_PER_AXIS))
    n = n if n > 2 else 1  # with two cells each would be both neighbours of the other
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5
    return np.minimum((turn * n).astype(np.int64), n - 1), n


def dbscan(grid: SurfaceGrid, eps: float, min_samples: int) -> np.ndarray:
    """DBSCAN (Ester et al., KDD 1996) with the labels of scikit-learn.

    grid: points sorted for a reach >= eps; eps: neighbourhood radius, inclusive [mm]
    min_samples: points within eps, the point itself included, that make it a core point
    Returns (n,) int64: clusters numbered by their first core point; a border point joins the first of the
    clusters that reach it; -1 = noise.
    """
    from trackbench.trackers.layers import density_kernels as kernels

    core = kernels.count_within(*grid.arrays(), eps) >= min_samples
    root = kernels.connect_core_points(*grid.arrays(), eps, core)
    labels = np.full(len(root), -1, dtype=np.int64)
    # The root of a cluster is its first core point, so that sorted roots number clusters in order.
    labels[core] = np.unique(root[core], return_inverse=True)[1]
    return kernels.attach_border_points(*grid.arrays(), eps, core, labels)


def density_peaks(grid: SurfaceGrid, d_c: float, delta: float, min_density: int = 1) -> np.ndarray:
    """Density-peak clustering (Rodriguez and Laio, Science 344 (2014) 1492) with a cut-off delta.

    grid: points sorted for a reach >= max(d_c, delta)
    d_c: the density of a point is the number of points within d_c, itself included [mm]
    delta: a point follows the nearest denser point within delta, else it is a peak [mm]
    min_density: a peak below it is noise, with its followers
    Returns (n,) int64: label of each point's peak, numbered by falling density; -1 = noise. Among points of
    equal density the first is denser; among equally near denser points the densest is followed.
    """
    from trackbench.trackers.layers import density_kernels as kernels

    density = kernels.count_within(*grid.arrays(), d_c)
    by_density = np.argsort(-density, kind="stable")
    rank = np.empty_like(by_density)
    rank[by_density] = np.arange(len(rank))
    parent = kernels.nearest_denser(*grid.arrays(), delta, rank)
    return kernels.follow_parents(by_density, parent, density >= min_density)
