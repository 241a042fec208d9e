"""Kernels that join fragments: candidates whose fitted tracks agree and whose hits fit one track.

Two tracks agree if d' (C1 + C2)^-1 d is small for the difference d of their five parameters with covariances C1
and C2. The covariances lack the scattering in layers without hits of the fragment, so this only proposes pairs;
the growth of chi2 from two fits to one decides, which tests the same five parameters with all scattering.
"""

import math

import numpy as np

from trackbench.fitting.candidate import copy_first, prune, sort_by_radius
from trackbench.fitting.compiled import kernel
from trackbench.fitting.helix import COT, PHI0
from trackbench.fitting.prediction import contains
from trackbench.fitting.robust import refit, start_track
from trackbench.fitting.tables import MAX_HITS

_PHI_WINDOW = 0.1  # between the directions of fragments that are compared [rad]


@kernel
def squared_distance(difference, first, second, n):
    """Return d' (first + second)^-1 d for a difference of n <= 3 parameters and their covariances (Cholesky)."""
    lower, y = np.zeros((3, 3)), np.zeros(3)
    total = 0.0
    for i in range(n):
        for j in range(i + 1):
            value = first[i, j] + second[i, j]
            for m in range(j):
                value -= lower[i, m] * lower[j, m]
            lower[i, j] = value / lower[j, j] if j < i else math.sqrt(max(value, 1e-18))
        y[i] = difference[i]
        for m in range(i):
            y[i] -= lower[i, m] * y[m]
        y[i] /= lower[i, i]
        total += y[i] * y[i]
    return total


@kernel
def similar_pairs(order, fits, max_distance, pairs, distances):
    """Find pairs of candidates whose five parameters agree within their errors.

    order: (m,) rows by phi0; max_distance: of the squared distance. Fills pairs (:, 2) and distances as far as
    there is room. Returns the number of pairs there are.
    """
    tracks, m, found = fits.store.tracks, order.size, 0
    for a in range(m):
        for step in range(1, m):
            first, second = order[a], order[(a + step) % m]
            ahead = tracks[second, PHI0] - tracks[first, PHI0]
            if ahead < 0.0:
                ahead += 2.0 * math.pi
            if ahead > _PHI_WINDOW:
                break
            p, q = tracks[first], tracks[second]
            limit_l = max_distance * (fits.cov_l[first, 1, 1] + fits.cov_l[second, 1, 1])
            if (q[COT] - p[COT]) ** 2 > limit_l:
                continue
            along = squared_distance(q[3:5] - p[3:5], fits.cov_l[first], fits.cov_l[second], 2)
            if along > max_distance:
                continue
            difference = q[:3] - p[:3]
            difference[0] = ahead
            distance = along + squared_distance(difference, fits.cov_t[first], fits.cov_t[second], 3)
            if distance <= max_distance:
                if found < distances.size:
                    pairs[found, 0], pairs[found, 1] = min(first, second), max(first, second)
                    distances[found] = distance
                found += 1
    return found


@kernel
def united(first, second, fits, hits, module, index):
    """Write the hits of two candidates to ``index``, by radius.

    Returns their number, 0 if they are too many or if they have different hits on one module: a track crosses
    a module once.
    """
    store = fits.store
    n = store.n_hits[first]
    copy_first(store.hits[first], n, index)
    for i in range(store.n_hits[second]):
        hit = store.hits[second, i]
        if contains(index, n, hit):
            continue
        for j in range(store.n_hits[first]):
            if hits.layer[index[j]] == hits.layer[hit] and module[index[j]] == module[hit]:
                return 0
        if n == MAX_HITS:
            return 0
        index[n] = hit
        n += 1
    sort_by_radius(index, n, hits)
    return n


@kernel
def join_pairs(pairs, hits, module, layers, priors, work, max_chi2, fits):
    """Join pairs of candidates in the order given, if one track fits all their hits.

    max_chi2: by which chi2 may grow; it tests the agreement of five parameters
    The joined candidate takes the place of one of the two, the other gets n_layers 0. Returns how many were joined.
    """
    store = fits.store
    now_in = np.arange(store.n_hits.size)
    index, p = np.empty(2 * MAX_HITS, np.int64), np.empty(5)
    joined = 0
    for pair in range(pairs.shape[0]):
        first, second = pairs[pair, 0], pairs[pair, 1]
        while now_in[first] != first:
            first = now_in[first]
        while now_in[second] != second:
            second = now_in[second]
        if first == second:
            continue
        n = united(first, second, fits, hits, module, index)
        if n == 0:
            continue
        displaced = fits.displaced[first] and fits.displaced[second]
        model = priors.displaced if displaced else priors.prompt
        start_track(index, n, hits, p)
        left, chi2 = prune(index, n, hits, layers, model, p, work, np.int64(2))
        if left < n or chi2 > store.chi2[first] + store.chi2[second] + max_chi2:
            continue
        copy_first(index, n, store.hits[first])
        copy_first(p, p.size, store.tracks[first])
        refit(first, n, displaced, hits, layers, priors, work, fits)
        store.n_layers[second] = 0
        now_in[second] = first
        joined += 1
    return joined
