"""The TrackML hit weights: how much each hit counts in the TrackML score.

Source: the TrackML challenge, Amrouche et al., arXiv:1904.06778, and the semantics of its public
reference library (LAL/trackml-library, ``trackml/weights.py``), checked value by value in the tests.
"""

import numpy as np
import pandas as pd

from trackbench.data.particle_id import generation_number
from trackbench.errors import InputError, describe

ORDER_PROFILE = (10.0, 8.0, 6.0, 5.0, 3.0, 3.0, 3.0, 5.0, 6.0)  # innermost to outermost hit
MIN_HITS, MAX_HITS = 4, 20
PT_FLOOR, PT_LOW, PT_HIGH = 0.05, 0.5, 3.0  # [GeV]


def order_weights() -> np.ndarray:
    """Return the (21, 20) table of order weights: row = hits of the particle, column = rank of the hit.

    Rows 4..20 sum to 1, rows below 4 are 0: ``ORDER_PROFILE`` stretched linearly over the hits.
    """
    table = np.zeros((MAX_HITS + 1, MAX_HITS))
    for n_hits in range(MIN_HITS, MAX_HITS + 1):
        support = np.arange(len(ORDER_PROFILE)) * (n_hits - 1) / (len(ORDER_PROFILE) - 1)
        row = np.interp(np.arange(n_hits), support, ORDER_PROFILE)
        table[n_hits, :n_hits] = row / row.sum()
    return table


def pt_weights(pt: np.ndarray) -> np.ndarray:
    """Return 0 below 0.05 GeV, 0.2 up to 0.5 GeV, then linear to 1 at 3 GeV. pt: (n,) [GeV]."""
    return np.interp(pt, [PT_FLOOR, PT_LOW, PT_HIGH], [0.2, 0.2, 1.0], left=0.0, right=1.0)


def hit_ranks(group: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank hits by distance within their group.

    group: (n,) int, distance: (n,) float, not NaN
    Returns (n,) rank from 0 (tied hits share their mean rank, rounded down) and (n,) size of the group.
    Cost O(n log n).
    """
    n = len(group)
    if n == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.lexsort((distance, group))
    new_group = np.r_[True, np.diff(group[order]) != 0]
    new_value = new_group | np.r_[True, np.diff(distance[order]) != 0]
    first, sizes = _runs(new_group)
    tie_first, tie_size = _runs(new_value)
    rank, size = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    rank[order] = (2 * (tie_first - first) + tie_size - 1) // 2
    size[order] = sizes
    return rank, size


def _runs(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start position and length of the run each row is in. starts: (n,) bool, True opens a run."""
    begin = np.flatnonzero(starts)
    length = np.diff(np.r_[begin, len(starts)])
    return np.repeat(begin, length), np.repeat(length, length)


def hit_weights(truth: pd.DataFrame, particles: pd.DataFrame, phase2: bool = False) -> np.ndarray:
    """Compute the weight of every hit of one event, normalised to sum 1.

    truth: one row per hit with ``particle_id`` and ``tz`` [mm]
    particles: one row per particle with ``particle_id``, ``vz`` [mm], ``px``, ``py`` [GeV]
    phase2: give weight 0 to particles made in the material (generation > 0), as in the second phase
        of the challenge
    Returns (n,) float64: order weight (hits ranked by ``|tz - vz|``) x pT weight. Hits with particle_id 0,
    or of a particle that is not in ``particles`` or has fewer than 4 hits, weigh 0; all are 0 if no hit counts.
    Raises InputError if a particle_id appears twice in ``particles``.
    """
    particle_id = truth["particle_id"].to_numpy(np.int64)
    table_id = particles["particle_id"].to_numpy(np.int64)
    index = pd.Index(table_id)
    if not index.is_unique:
        first = table_id[index.duplicated()][0]
        raise InputError(describe("particles table", f"particle_id {first} appears twice", "unique particle_id"))
    row = index.get_indexer(particle_id)
    used = np.flatnonzero((row >= 0) & (particle_id != 0))
    if phase2:
        used = used[generation_number(particle_id[used]) == 0]
    row = row[used]
    distance = np.abs(truth["tz"].to_numpy(np.float64)[used] - particles["vz"].to_numpy(np.float64)[row])
    rank, size = hit_ranks(row, distance)
    order = np.where(rank < MAX_HITS, order_weights()[np.minimum(size, MAX_HITS), np.minimum(rank, MAX_HITS - 1)], 0.0)
    pt = np.hypot(particles["px"].to_numpy(np.float64), particles["py"].to_numpy(np.float64))
    weight = np.zeros(len(particle_id))
    weight[used] = order * pt_weights(pt)[row]
    total = weight.sum()
    return weight / total if total > 0 else weight
