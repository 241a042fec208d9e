"""Kernel that follows seeds through the detector, layer by layer, and refines what it finds."""

from typing import NamedTuple

import numpy as np

from trackbench.fitting.candidate import FAILED, refine, sort_by_radius
from trackbench.fitting.competition import record
from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import crossing, from_three_hits, from_two_hits
from trackbench.fitting.prediction import count_bits, layer_bits, nearest_hit
from trackbench.fitting.tables import MAX_HITS
from trackbench.trackers.layers.helix_displaced import displaced_seeds_from
from trackbench.trackers.layers.helix_seeds import seeds_from
from trackbench.trackers.layers.helix_strip_seeds import strip_seeds_from

# Room for candidates; no hit has more seeds than that (the first ones count).
STORE_SIZE = 4096
MAX_SEEDS = 512  # that start with one hit; only pathological events have more, whose cost it bounds


class Following(NamedTuple):
    """How seeds are followed.

    max_seed_chi2: of the fit of the three seed hits; max_missing: layers without a hit; min_layers: with one
    free_d0: the fit starts from the circle through the three hits, not from one through the beam line
    """

    max_seed_chi2: float
    max_missing: int
    min_layers: int
    free_d0: bool


@kernel
def nearest_layer(tried, n, hits, layers, p, work):
    """Return the crossed layer, not in the bits ``tried``, nearest to the candidate along the path, -1 if none."""
    best, best_distance = -1, 1e30
    for layer in range(layers.position.size):
        if (tried >> layer) & 1 or hits.first[layer] == hits.first[layer + 1]:
            continue
        if not crossing(layer, layers, p, work.point):
            continue
        distance = work.point[0] - work.path[n - 1]
        if distance < 0.0:
            distance = max(work.path[0] - work.point[0], 0.0)
        if distance < best_distance:
            best, best_distance = layer, distance
    return best


@kernel
def follow(index, n, hits, layers, model, p, work, used, max_missing, out):
    """Extend a fitted candidate by the best hit of each layer it crosses, refitting after each.

    Stops after more than ``max_missing`` layers without a hit. Returns the number of hits, sorted.
    """
    tried = layer_bits(index, n, hits)
    missing = 0
    while n < MAX_HITS:
        layer = nearest_layer(tried, n, hits, layers, p, work)
        if layer < 0:
            break
        tried |= 1 << layer
        crossing(layer, layers, p, work.point)
        hit = nearest_hit(index, n, layer, hits, layers, p, work, used, model.attach_chi2, model.max_window, out)
        if hit < 0:
            missing += 1
            if missing > max_missing:
                break
            continue
        index[n] = hit
        n += 1
        sort_by_radius(index, n, hits)
        fit(index, n, hits, layers, model, p, work, np.int64(1))
    return n


@kernel
def follow_seeds(seeds, n_seeds, hits, layers, model, following, used, owner, work, store, first):
    """Follow seeds (n_seeds, 3) and write the candidates to ``store`` from row ``first``, which has room for all.

    owner: (n_hits,) candidate a hit belongs to already, -1 = none; seeds inside one candidate are skipped
    Returns the next free row.
    """
    row = first
    out = work.scratch[2]
    for seed in range(n_seeds):
        i, j, m = seeds[seed, 0], seeds[seed, 1], seeds[seed, 2]
        if owner[i] >= 0 and owner[i] == owner[j] and owner[i] == owner[m]:
            continue
        index, p = store.hits[row], store.tracks[row]
        index[0], index[1], index[2] = i, j, m
        phi1, r1, z1, phi3, r3, z3 = hits.phi[i], hits.r[i], hits.z[i], hits.phi[m], hits.r[m], hits.z[m]
        if following.free_d0:
            from_three_hits(phi1, r1, z1, hits.phi[j], hits.r[j], hits.z[j], phi3, r3, z3, p)
        else:
            from_two_hits(phi1, r1, z1, phi3, r3, z3, p)
        if not fit(index, 3, hits, layers, model, p, work, np.int64(2)) <= following.max_seed_chi2:  # also if NaN
            continue
        n = follow(index, np.int64(3), hits, layers, model, p, work, used, following.max_missing, out)
        if count_bits(layer_bits(index, n, hits)) < following.min_layers:
            continue
        n, chi2 = refine(index, n, hits, layers, model, p, work, used, following.min_layers, out)
        if chi2 < FAILED:
            record(row, store, n, chi2, hits, layers, work)
            row += 1
    return row


@kernel
def follow_prompt(hit, end, hits, layers, seed_layers, model, cuts, following, used, owner, work, store):
    """Follow the seeds that start with the hits from ``hit`` to ``end``, until the store might overflow.

    Returns the first hit not done, and the number of candidates.
    """
    seeds, near = np.empty((min(MAX_SEEDS, store.n_hits.size), 3), np.int64), np.zeros(4, np.int64)
    p, out = np.zeros(5), np.zeros(4)
    row = np.int64(0)
    for i in range(hit, end):
        if used[i]:
            continue
        n = seeds_from(i, hits, seed_layers, model, cuts, used, p, out, near, seeds)
        if row + n > store.n_hits.size:
            return i, row
        row = follow_seeds(seeds, n, hits, layers, model, following, used, owner, work, store, row)
    return end, row


@kernel
def follow_displaced(hit, end, hits, layers, seed_layers, model, cuts, following, used, owner, work, store):
    """As ``follow_prompt``, with the seeds of displaced tracks."""
    seeds, near = np.empty((min(MAX_SEEDS, store.n_hits.size), 3), np.int64), np.zeros(4, np.int64)
    row = np.int64(0)
    for i in range(hit, end):
        if used[i]:
            continue
        n = displaced_seeds_from(i, hits, seed_layers, cuts, used, near, seeds)
        if row + n > store.n_hits.size:
            return i, row
        row = follow_seeds(seeds, n, hits, layers, model, following, used, owner, work, store, row)
    return end, row


@kernel
def follow_strips(hit, end, hits, layers, seed_layers, model, cuts, following, used, owner, work, store):
    """As ``follow_prompt``, with the seeds of tracks that are mostly in the strips."""
    seeds, near = np.empty((min(MAX_SEEDS, store.n_hits.size), 3), np.int64), np.zeros(4, np.int64)
    p, row = np.zeros(5), np.int64(0)
    for i in range(hit, end):
        if used[i]:
            continue
        n = strip_seeds_from(i, hits, seed_layers, cuts, used, p, near, seeds)
        if row + n > store.n_hits.size:
            return i, row
        row = follow_seeds(seeds, n, hits, layers, model, following, used, owner, work, store, row)
    return end, row


@kernel
def mark_owners(store, first, owner, min_layers):
    """Note for each hit the candidate of at least ``min_layers`` layers it is in; candidates count from ``first``."""
    for row in range(store.n_hits.size):
        if store.n_layers[row] >= min_layers:
            for i in range(store.n_hits[row]):
                owner[store.hits[row, i]] = first + row
