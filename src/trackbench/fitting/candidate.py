"""Kernels that change one candidate: sort, prune, pick up hits, until nothing changes."""

import numpy as np

from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import crossing
from trackbench.fitting.prediction import count_bits, layer_bits, nearest_hit
from trackbench.fitting.tables import MAX_HITS, NO_GAP_LIMIT

FAILED = 1e9  # chi2 of a candidate that lost too many hits


@kernel
def copy_first(source, n, target):
    """Copy n entries: a loop, as slices that are assigned as a whole take seconds longer to compile."""
    for i in range(n):
        target[i] = source[i]


@kernel
def sort_by_radius(index, n, hits):
    """Sort the first n entries of ``index`` by the radius of the hits (insertion sort: they nearly are)."""
    for i in range(1, n):
        hit = index[i]
        j = i - 1
        while j >= 0 and hits.r[index[j]] > hits.r[hit]:
            index[j + 1] = index[j]
            j -= 1
        index[j + 1] = hit


@kernel
def prune(index, n, hits, layers, model, p, work, min_layers):
    """Fit, and drop the worst hit as long as one contributes more than ``model.prune_chi2``.

    Returns the number of hits left and chi2, ``FAILED`` if they lie on fewer than min_layers layers.
    """
    chi2 = fit(index, n, hits, layers, model, p, work, np.int64(2))
    while True:
        worst, largest = -1, model.prune_chi2
        for i in range(n):
            if work.contribution[i] > largest:
                worst, largest = i, work.contribution[i]
        if worst < 0:
            return n, chi2
        n -= 1
        for i in range(worst, n):
            index[i] = index[i + 1]
        if count_bits(layer_bits(index, n, hits)) < min_layers:
            return n, FAILED
        chi2 = fit(index, n, hits, layers, model, p, work, np.int64(2))


@kernel
def pick_up(index, n, hits, layers, model, p, work, used, out):
    """Add the best compatible unused hit of every layer the track crosses, also where it has one (overlaps).

    Returns the new number of hits; they are not sorted and not fitted yet.
    """
    bits = layer_bits(index, n, hits)
    total = n
    for layer in range(layers.position.size):
        if total >= MAX_HITS:
            break
        limit = model.overlap_chi2 if (bits >> layer) & 1 else model.attach_chi2
        if hits.first[layer] == hits.first[layer + 1] or not crossing(layer, layers, p, work.point):
            continue
        hit = nearest_hit(index, n, layer, hits, layers, p, work, used, limit, model.max_window, out)
        if hit >= 0:
            index[total] = hit
            total += 1
    return total


@kernel
def _gap(last, bits, layers, p, work):
    """Count the layers without a hit that the track crosses between the last two hits, ``last`` and the one before."""
    gap = 0
    for layer in range(layers.position.size):
        if not (bits >> layer) & 1 and crossing(layer, layers, p, work.point):
            gap += work.path[last - 1] < work.point[0] < work.path[last]
    return gap


@kernel
def trim(index, n, chi2, hits, layers, model, p, work, min_layers):
    """Drop the outermost hit as long as more than ``model.max_gap`` layers without a hit lie before it; fit again.

    Particles end in the material, and a chance hit far outside is easily found where strips are long.
    chi2: of the fit of the n hits, just done. Returns the number of hits left and chi2 as ``prune`` does.
    """
    bits, left = layer_bits(index, n, hits), n
    while left > 3 and _gap(left - 1, bits, layers, p, work) > model.max_gap:
        left -= 1
    if left == n:
        return n, chi2
    if count_bits(layer_bits(index, left, hits)) < min_layers:
        return left, FAILED
    return left, fit(index, left, hits, layers, model, p, work, np.int64(2))


@kernel
def refine(index, n, hits, layers, model, p, work, used, min_layers, out):
    """Prune, then pick up and prune again until no hit is added, four times at most.

    Returns the number of hits and chi2 as ``prune`` does.
    """
    n, chi2 = prune(index, n, hits, layers, model, p, work, min_layers)
    for _ in range(4):
        if not chi2 < FAILED:  # also if NaN
            break
        before = n
        n = pick_up(index, n, hits, layers, model, p, work, used, out)
        if n == before:
            break
        sort_by_radius(index, n, hits)
        n, chi2 = prune(index, n, hits, layers, model, p, work, min_layers)
        if n <= before:
            break
    if chi2 < FAILED and model.max_gap < NO_GAP_LIMIT:
        n, chi2 = trim(index, n, chi2, hits, layers, model, p, work, min_layers)
    return n, chi2
