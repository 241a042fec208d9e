"""Kernel that follows seeds through the detector, layer by layer, and refines what it finds."""

from trackbench.fitting.candidate import FAILED, refine, sort_by_radius
from trackbench.fitting.compiled import kernel
from trackbench.fitting.competition import record
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import crossing, from_two_hits
from trackbench.fitting.prediction import count_bits, layer_bits, nearest_hit
from trackbench.fitting.tables import MAX_HITS


@kernel
def nearest_layer(tried, n, hits, layers, p, work):
    """Return the crossed layer, not in the bits ``tried``, next to the candidate: outside first, -1 if none."""
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
        fit(index, n, hits, layers, model, p, work, 1)
    return n


@kernel
def follow_seeds(seeds, n_seeds, hits, layers, model, work, used, owner, max_seed_chi2, max_missing, min_layers, store, first):
    """Follow seeds (n_seeds, 3) and append the candidates to ``store`` from row ``first``.

    owner: (n_hits,) candidate a hit belongs to already, -1 = none; seeds inside one candidate are skipped
    Returns the next free row.
    """
    row = first
    out = work.scratch[2]
    for seed in range(n_seeds):
        i, j, m = seeds[seed, 0], seeds[seed, 1], seeds[seed, 2]
        if owner[i] >= 0 and owner[i] == owner[j] and owner[i] == owner[m]:
            continue
        if row >= store.n_hits.size:
            break
        index, p = store.hits[row], store.tracks[row]
        index[0], index[1], index[2] = i, j, m
        from_two_hits(hits.phi[i], hits.r[i], hits.z[i], hits.phi[m], hits.r[m], hits.z[m], p)
        chi2 = fit(index, 3, hits, layers, model, p, work, 2)
        if chi2 > max_seed_chi2:
            continue
        n = follow(index, 3, hits, layers, model, p, work, used, max_missing, out)
        if count_bits(layer_bits(index, n, hits)) < min_layers:
            continue
        n, chi2 = refine(index, n, hits, layers, model, p, work, used, min_layers, out)
        if chi2 >= FAILED:
            continue
        record(row, store, n, chi2, hits, layers, work)
        row += 1
    return row
