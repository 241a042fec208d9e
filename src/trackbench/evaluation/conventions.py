"""Efficiency and fake rate by the conventions of acorn and of the two-stage MaskFormer.

Each function returns ``name -> (numerator, denominator)``; names as in ``definitions.METRICS``.
"""

from dataclasses import replace

import numpy as np

from trackbench.data.truth import Truth
from trackbench.evaluation.definitions import ACORN_LENGTHS
from trackbench.evaluation.matching import Matching, match_clusters
from trackbench.evaluation.selection import TruthSelection

Counts = dict[str, tuple[float, float]]

ACORN_FRACTION = 0.5 + 1e-6  # compared with >=
# |eta| as in the published comparison; its papers and configs use other cuts too
MASKFORMER_SELECTION = TruthSelection(pt_min=1.0, pt_operator=">", eta_max=4.0, min_layers=3, layer_rule="hits")


def acorn_counts(match: Matching, target: np.ndarray) -> Counts:
    """Count the ATLAS, one_way and two_way conventions for each minimum length.

    match: clusters of one event
    target: (n_particles,) bool, particles in the efficiency
    A candidate led by noise or by a soft particle counts as matched, as in acorn.
    Source: acorn/stages/track_building/utils.py (matching of every candidate-particle pair).
    """
    n_targets = int(target.sum())
    is_target = np.append(target, False)[match.pair_row]  # row -1 = noise is never a target
    size = match.size[match.pair_cluster]
    pure = match.pair_shared / size >= ACORN_FRACTION
    complete = match.pair_shared / match.pair_hits >= ACORN_FRACTION
    # style -> (pair matches the candidate, pair reconstructs the particle)
    styles = {"atlas": (pure, pure), "one_way": (pure, complete), "two_way": (pure & complete,) * 2}
    counts: Counts = {}
    for length in ACORN_LENGTHS:
        n_candidates = int((match.size >= length).sum())
        long_enough = size >= length
        for style, (matched, reconstructed) in styles.items():
            n_matched = np.unique(match.pair_cluster[matched & long_enough]).size
            found = match.pair_row[reconstructed & long_enough & is_target]
            distinct = np.unique(found).size
            counts[f"acorn_{style}_eff_{length}"] = (distinct, n_targets)
            counts[f"acorn_{style}_fake_{length}"] = (n_candidates - n_matched, n_candidates)
            counts[f"acorn_{style}_dup_{length}"] = (found.size - distinct, distinct)
    return counts


def maskformer_counts(match: Matching, target: np.ndarray, suffix: str = "") -> Counts:
    """Count the one-to-one convention: each candidate takes its best target if that is still free.

    match: clusters of one event
    target: (n_particles,) bool, particles that pass ``MASKFORMER_SELECTION``
    Candidates go in decreasing number of shared hits. A candidate led by noise or by a soft particle is a
    fake. Duplicates (exact copies of another mask) cannot occur with one label per hit.
    Source: hepattn experiments/trackml/eval/track_evaluate.py. Differs from it in: equal numbers of
    shared hits go to the smaller candidate, not to the lower index, so labels may be renumbered freely.
    """
    candidate = match.size >= 3
    usable = np.flatnonzero(np.append(target, False)[match.pair_row] & candidate[match.pair_cluster])
    cluster, row = match.pair_cluster[usable], match.pair_row[usable]
    shared, hits, size = match.pair_shared[usable], match.pair_hits[usable], match.size[cluster]
    # Best target of each candidate (ties: smallest particle_id, the table is sorted by it) ...
    order = np.lexsort((row, -shared, cluster))
    order = order[np.unique(cluster[order], return_index=True)[1]]
    # ... and of those the best candidate of each target.
    order = order[np.lexsort((size[order], -shared[order], row[order]))]
    order = order[np.unique(row[order], return_index=True)[1]]
    shared, hits, size = shared[order], hits[order], size[order]
    double_majority = int(((2 * shared > size) & (2 * shared > hits)).sum())
    n_targets, n_candidates = int(target.sum()), int(candidate.sum())
    return {
        f"maskformer_dm{suffix}": (double_majority, n_targets),
        f"maskformer_perfect{suffix}": (int(((shared == size) & (shared == hits)).sum()), n_targets),
        f"maskformer_lhc{suffix}": (int((4 * shared > 3 * size).sum()), n_targets),
        f"maskformer_fake{suffix}": (n_candidates - double_majority, n_candidates),
        f"maskformer_dup{suffix}": (0, n_candidates),
    }


def maskformer_postfilter_counts(labels: np.ndarray, truth: Truth, kept: np.ndarray) -> Counts:
    """Count the one-to-one convention on truth after a hit filter, as its authors do.

    labels: (n,) int; kept: (n,) bool, hits that survived the tracker's own hit filter
    Particles with fewer than 3 kept hits leave the denominator and hits are counted after the filter, so
    losses of the filter do not show; compare with the numbers without ``_postfilter``.
    """
    known = truth.particles["particle_id"].to_numpy()
    particle_id = truth.particle_id[kept]
    rows = np.searchsorted(known, particle_id[particle_id != 0])
    particles = truth.particles.assign(n_hits=np.bincount(rows, minlength=len(known)))
    filtered = replace(
        truth, hit_id=truth.hit_id[kept], particle_id=particle_id, weight=truth.weight[kept], particles=particles
    )
    target = MASKFORMER_SELECTION.selected(particles)
    return maskformer_counts(match_clusters(labels[kept], filtered), target, "_postfilter")
