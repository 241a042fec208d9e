"""Compiled loops of the greedy cosine clustering."""

import numpy as np

from trackbench.fitting.compiled import kernel


@kernel
def greedy(unit, similarity, min_size, max_size):
    """Take the hit with most free neighbours and its most similar free ones, again and again.

    unit: (n, d) float64, rows of length 1; neighbours: scalar product >= similarity
    min_size: stop when no hit has min_size - 1 free neighbours, >= 2; max_size: hits per cluster, 0 = no limit
    Returns (n,) int64, -1 = unassigned; of equal hits the first in order is taken. Time O(n^2 d), memory O(n).
    """
    n = unit.shape[0]
    labels = np.full(n, -1, dtype=np.int64)
    neighbours = _count_neighbours(unit, similarity)
    found = np.empty(n, dtype=np.int64)
    alike = np.empty(n)
    n_clusters = 0
    while n > 0:
        seed = np.argmax(neighbours)  # -1 for assigned hits
        if neighbours[seed] < min_size - 1:
            break
        size = 0
        for j in range(n):
            if labels[j] < 0:
                product = _dot(unit, seed, j)
                if product >= similarity or j == seed:
                    found[size], alike[size] = j, product
                    size += 1
        members = found[:size]
        if max_size > 0 and size > max_size:
            members = _most_alike(members, alike[:size], max_size)
        for j in members:
            labels[j] = n_clusters
            neighbours[j] = -1
        _remove_neighbours(unit, similarity, members, labels, neighbours)
        n_clusters += 1
    return labels


@kernel
def _most_alike(hits, alike, size):
    """The ``size`` hits with the largest similarity, of equal ones the first. alike: (m,), overwritten."""
    kept = np.empty(size, dtype=np.int64)
    for place in range(size):
        best = np.argmax(alike)
        kept[place] = hits[best]
        alike[best] = -np.inf
    return kept


@kernel
def _dot(unit, i, j):
    total = 0.0
    for k in range(unit.shape[1]):
        total += unit[i, k] * unit[j, k]
    return total


@kernel
def _count_neighbours(unit, similarity):
    """Neighbours of each hit, itself excluded. (n,) int64."""
    n = unit.shape[0]
    count = np.zeros(n, dtype=np.int64)
    for i in range(n):
        for j in range(i + 1, n):
            if _dot(unit, i, j) >= similarity:
                count[i] += 1
                count[j] += 1
    return count


@kernel
def _remove_neighbours(unit, similarity, members, labels, neighbours):
    """Take the members of a new cluster out of the counts of the hits that are still free, in place."""
    for j in range(unit.shape[0]):
        if labels[j] < 0:
            for i in members:
                if _dot(unit, i, j) >= similarity:
                    neighbours[j] -= 1
