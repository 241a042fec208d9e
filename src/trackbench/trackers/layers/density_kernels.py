"""Numba kernels of ``density``: neighbour searches on a cell grid. Import inside functions only.

All kernels take the arrays of a ``SurfaceGrid`` first: points (n, 3), cell (n, 2), order (n,), start
(n_u * n_w + 1,), n_u, n_w, wraps. They visit the cell of a point and its eight neighbours.
"""

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _distance2(points, i, j):
    total = 0.0
    for axis in range(3):
        step = points[i, axis] - points[j, axis]
        total += step * step
    return total


@njit(cache=True)
def _neighbour_runs(cell, start, n_u, n_w, wraps, i, runs):
    """Write the (first, last) positions in ``order`` of the cells around point i; return their number.

    The up to three cells of one row (fixed u) are consecutive, hence one run.
    """
    low, high = max(cell[i, 1] - 1, 0), min(cell[i, 1] + 1, n_w - 1)
    n_runs = 0
    for step in range(-1, 2):
        u = cell[i, 0] + step
        if u < 0 or u >= n_u:
            if not wraps:
                continue
            u = u % n_u
        runs[n_runs, 0] = start[u * n_w + low]
        runs[n_runs, 1] = start[u * n_w + high + 1]
        n_runs += 1
    return n_runs


@njit(cache=True)
def count_within(points, cell, order, start, n_u, n_w, wraps, reach):
    """Number of points within ``reach`` of each point, itself included. Returns (n,) int64."""
    count = np.zeros(len(points), dtype=np.int64)
    runs = np.empty((3, 2), dtype=np.int64)
    for i in range(len(points)):
        for run in range(_neighbour_runs(cell, start, n_u, n_w, wraps, i, runs)):
            for position in range(runs[run, 0], runs[run, 1]):
                count[i] += _distance2(points, i, order[position]) <= reach * reach
    return count


@njit(cache=True)
def _find(root, i):
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


@njit(cache=True)
def connect_core_points(points, cell, order, start, n_u, n_w, wraps, eps, core):
    """First core point (lowest index) of the chain each core point belongs to. Returns (n,) int64."""
    root = np.arange(len(points))
    runs = np.empty((3, 2), dtype=np.int64)
    for i in range(len(points)):
        if not core[i]:
            continue
        for run in range(_neighbour_runs(cell, start, n_u, n_w, wraps, i, runs)):
            for position in range(runs[run, 0], runs[run, 1]):
                j = order[position]
                if j < i and core[j] and _distance2(points, i, j) <= eps * eps:
                    a, b = _find(root, i), _find(root, j)
                    root[max(a, b)] = min(a, b)
    for i in range(len(points)):
        root[i] = _find(root, i)
    return root


@njit(cache=True)
def attach_border_points(points, cell, order, start, n_u, n_w, wraps, eps, core, labels):
    """Give each other point the lowest label of the core points within eps. Returns (n,) int64."""
    attached = labels.copy()
    runs = np.empty((3, 2), dtype=np.int64)
    for i in range(len(points)):
        if core[i]:
            continue
        for run in range(_neighbour_runs(cell, start, n_u, n_w, wraps, i, runs)):
            for position in range(runs[run, 0], runs[run, 1]):
                j = order[position]
                better = core[j] and (attached[i] < 0 or labels[j] < attached[i])
                if better and _distance2(points, i, j) <= eps * eps:
                    attached[i] = labels[j]
    return attached


@njit(cache=True)
def nearest_denser(points, cell, order, start, n_u, n_w, wraps, delta, rank):
    """Nearest point of smaller rank within delta, -1 if there is none; ties go to the smallest rank.

    rank: (n,) int64, 0 = densest. Returns (n,) int64.
    """
    parent = np.full(len(points), -1, dtype=np.int64)
    runs = np.empty((3, 2), dtype=np.int64)
    for i in range(len(points)):
        best = delta * delta
        for run in range(_neighbour_runs(cell, start, n_u, n_w, wraps, i, runs)):
            for position in range(runs[run, 0], runs[run, 1]):
                j = order[position]
                if rank[j] >= rank[i]:
                    continue
                distance2 = _distance2(points, i, j)
                tie = distance2 == best and (parent[i] < 0 or rank[j] < rank[parent[i]])
                if distance2 < best or tie:
                    best = distance2
                    parent[i] = j
    return parent


@njit(cache=True)
def follow_parents(by_density, parent, dense_enough):
    """Label each point with its peak, densest first; peaks that are not dense enough are noise (-1)."""
    labels = np.full(len(parent), -1, dtype=np.int64)
    n_peaks = 0
    for i in by_density:
        if parent[i] >= 0:
            labels[i] = labels[parent[i]]
        elif dense_enough[i]:
            labels[i] = n_peaks
            n_peaks += 1
    return labels
