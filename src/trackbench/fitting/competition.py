"""Candidates compete for hits: the best takes its hits, the others go on with what is left."""

import heapq
import math
from typing import NamedTuple

import numpy as np

from trackbench.fitting.candidate import FAILED, prune
from trackbench.fitting.compiled import kernel
from trackbench.fitting.helix import Z0
from trackbench.fitting.prediction import count_bits, count_missing, layer_bits
from trackbench.fitting.tables import MAX_HITS
from trackbench.fitting.vertex_prior import vertex_penalty

_STOP = 4  # layers crossed without a hit after the last one, after which a track has stopped


class Store(NamedTuple):
    """Candidates as arrays.

    hits: (m, 2 MAX_HITS) int64, the first n_hits of each row, by radius; tracks: (m, 5) fitted tracks
    n_hits, n_layers: (m,) int64; chi2: (m,)
    holes, before, beyond: (m,) int64, crossed layers without a hit, see ``count_missing``
    """

    hits: np.ndarray
    tracks: np.ndarray
    n_hits: np.ndarray
    n_layers: np.ndarray
    chi2: np.ndarray
    holes: np.ndarray
    before: np.ndarray
    beyond: np.ndarray
    sigma_z0: np.ndarray


def new_store(m: int) -> Store:
    """Return room for m candidates."""
    hits, tracks = np.zeros((m, 2 * MAX_HITS), np.int64), np.zeros((m, 5))
    n_hits, n_layers, holes, before, beyond = (np.zeros(m, dtype=np.int64) for _ in range(5))
    return Store(hits, tracks, n_hits, n_layers, np.zeros(m), holes, before, beyond, np.zeros(m))


@kernel
def record(row, store, n, chi2, hits, layers, work):
    """Note the result of a fit of the first n hits of a row; call right after the fit."""
    bits = layer_bits(store.hits[row], n, hits)
    store.n_hits[row], store.n_layers[row], store.chi2[row] = n, count_bits(bits), chi2
    holes, before, beyond = count_missing(bits, n, layers, store.tracks[row], work)
    store.holes[row], store.before[row], store.beyond[row] = holes, before, beyond
    store.sigma_z0[row] = math.sqrt(work.cov_l[0, 0])


def select(store: Store, rows: np.ndarray | slice) -> Store:
    """Return the candidates ``rows``, copied."""
    return Store(*(column[rows].copy() for column in store))


def joined(stores: list[Store]) -> Store:
    """Concatenate stores; there must be one at least."""
    return Store(*(np.concatenate(columns) for columns in zip(*stores, strict=True)))


class Rules(NamedTuple):
    """What a candidate is worth and which are accepted.

    layer_score: per layer with a hit, half of it per further hit; hole_score: subtracted per hole
    min_score, min_layers: least
    max_chi2_3, max_chi2_4: largest chi2 on 3 and 4 layers, on 3 layers including hole_chi2 per hole and
    edge_chi2 for a layer crossed just outside (chance triplets rarely lie where a track would end), less
    extra_chi2 per further hit on the same layers
    hole_chi2_4, stop_chi2: added to chi2 on 4 layers per hole, and if four or more further layers are crossed
    without a hit; what counts where many layers lie beyond the fourth
    """

    layer_score: float
    hole_score: float
    min_score: float
    min_layers: int
    max_chi2_3: float
    max_chi2_4: float
    hole_chi2: float
    edge_chi2: float
    extra_chi2: float
    hole_chi2_4: float = 0.0
    stop_chi2: float = 0.0


@kernel
def penalised_chi2(row, store, rules, prior):
    """Return chi2 of a candidate on three layers with the penalties of ``Rules`` and of the vertex prior added."""
    chi2 = store.chi2[row] + rules.hole_chi2 * store.holes[row]
    if store.before[row] > 0 or store.beyond[row] == 1:
        chi2 += rules.edge_chi2
    chi2 += vertex_penalty(store.tracks[row, Z0], store.sigma_z0[row], prior)
    return chi2 - rules.extra_chi2 * (store.n_hits[row] - 3)


@kernel
def score(row, store, rules, prior):
    """Return what a candidate is worth: layers and hits count for it, chi2 and what is missing against it."""
    extra = store.n_hits[row] - store.n_layers[row]
    found = rules.layer_score * (store.n_layers[row] + 0.5 * extra)
    if store.n_layers[row] == 3:
        return found - penalised_chi2(row, store, rules, prior)
    return found - store.chi2[row] - rules.hole_score * store.holes[row]


@kernel
def acceptable(row, store, rules, prior):
    """Tell whether a candidate with all its hits is good enough."""
    if store.n_layers[row] == 3:
        return penalised_chi2(row, store, rules, prior) <= rules.max_chi2_3
    if store.n_layers[row] > 4:
        return True
    chi2 = store.chi2[row] + rules.hole_chi2_4 * store.holes[row]
    if store.beyond[row] >= _STOP:
        chi2 += rules.stop_chi2
    return chi2 <= rules.max_chi2_4


@kernel
def keep_unused(index, n, used):
    """Remove the used ones of the first n hits in ``index``. Returns the number of hits left."""
    left = 0
    for i in range(n):
        if not used[index[i]]:
            index[left] = index[i]
            left += 1
    return left


@kernel
def compete(store, hits, layers, model, rules, prior, work, used, label, next_label):
    """Accept candidates, best score first; one that lost hits to a better one is fitted again and waits its turn.

    used, label: (n_hits,) bool and int64, get the hits of accepted candidates
    Returns the rows of the accepted candidates, in the order of their labels, next_label upwards.
    """
    heap = [(0.0, 0)]
    heap.pop()
    for row in range(store.n_hits.size):
        if store.n_layers[row] >= rules.min_layers:
            heapq.heappush(heap, (-score(row, store, rules, prior), row))
    accepted = [0]
    accepted.pop()
    while len(heap):
        value, row = heapq.heappop(heap)
        if -value < rules.min_score:
            break
        index = store.hits[row]
        n = keep_unused(index, store.n_hits[row], used)
        if n < store.n_hits[row]:
            if n < 3 or count_bits(layer_bits(index, n, hits)) < rules.min_layers:
                continue
            n, chi2 = prune(index, n, hits, layers, model, store.tracks[row], work, rules.min_layers)
            if not chi2 < FAILED:  # also if NaN
                continue
            record(row, store, n, chi2, hits, layers, work)
            heapq.heappush(heap, (-score(row, store, rules, prior), row))
        elif acceptable(row, store, rules, prior):
            for i in range(n):
                used[index[i]] = True
                label[index[i]] = next_label + len(accepted)
            accepted.append(row)
    return accepted
