"""Kernels that seed tracks which do not come from the beam line: three hits, impact parameter free."""

import math
from typing import NamedTuple

import numpy as np

from trackbench.fitting.compiled import kernel
from trackbench.fitting.helix import circle, wrap
from trackbench.fitting.prediction import first_not_below
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.helix_seeds import next_layers, outer_reach


class DisplacedCuts(NamedTuple):
    """Which seeds are made.

    max_k: largest |q/pT| [1/GeV]; max_d0, max_z0: largest |d0| and |z0| [mm]
    max_kink: largest distance of the third hit from the line in r-z per distance [rad]
    """

    max_k: float
    max_d0: float
    max_z0: float
    max_kink: float


@kernel
def _third_hits(i, j, layer, hits, layers, cuts, used, seeds, n_seeds):
    """Append the hits of ``layer`` compatible with hits i, j: on their line in s-z, s^2 = r^2 - d0^2.

    Before the third hit is known, d0 is not: a line in r-z is off by d0^2 / 2 times the second difference of 1 / r.
    """
    r1, r2 = hits.r[i], hits.r[j]
    slope = (hits.z[j] - hits.z[i]) / (r2 - r1)
    z0 = hits.z[i] - slope * r1
    sine = 1.0 / math.sqrt(1.0 + slope * slope)
    depth = layers.half_depth[layer]
    if layers.barrel[layer]:
        r3 = layers.position[layer]
        centre, width = z0 + slope * r3, (cuts.max_kink * (r3 - r2) + 0.1) / sine + depth * abs(slope)
    else:
        r3 = (layers.position[layer] - z0) / slope
        centre, width = r3, ((cuts.max_kink * (r3 - r2) + 0.1) / sine + depth) / abs(slope)
    f = (r3 - r2) / (r2 - r1)
    bend = 0.5 * cuts.max_d0 * cuts.max_d0 * abs(1.0 / r3 - (1.0 + f) / r2 + f / r1)
    width += bend * abs(slope) if layers.barrel[layer] else bend
    start, end = hits.first[layer], hits.first[layer + 1]
    m = first_not_below(hits.v, start, end, centre - width)
    while m < end and hits.v[m] <= centre + width:
        hit = hits.by_v[m]
        r = hits.r[hit]
        m += 1
        if used[hit] or r < r2 + 0.5 or n_seeds >= seeds.shape[0]:
            continue
        k, d0 = circle(r1, hits.phi[i], r2, hits.phi[j], r, hits.phi[hit])
        if abs(k) < cuts.max_k and abs(d0) < min(cuts.max_d0, r1):
            s1, s2, s3 = math.sqrt(r1 * r1 - d0 * d0), math.sqrt(r2 * r2 - d0 * d0), math.sqrt(r * r - d0 * d0)
            expected = hits.z[j] + (hits.z[j] - hits.z[i]) / (s2 - s1) * (s3 - s2)
            if abs(hits.z[hit] - expected) * sine < cuts.max_kink * (r - r2) + 0.1:
                seeds[n_seeds, 0], seeds[n_seeds, 1], seeds[n_seeds, 2] = i, j, hit
                n_seeds += 1
    return n_seeds


@kernel
def displaced_seeds_from(i, hits, layers, cuts, used, near, seeds):
    """Write the seeds that start with hit i to ``seeds`` (m, 3). Returns their number."""
    n_seeds = np.int64(0)
    if next_layers(hits.r[i], hits.z[i], 0.0, hits.layer[i], layers, cuts.max_z0, near, np.int64(1)) == 0:
        return 0
    second = near[0]
    r1, z1, phi1 = hits.r[i], hits.z[i], hits.phi[i]
    reach = outer_reach(second, r1, z1, layers, cuts.max_z0)
    width = CURVATURE * cuts.max_k * max(reach - r1, 1.0) * 1.05 + cuts.max_d0 * max(1.0 / r1 - 1.0 / reach, 0.0)
    start, end = hits.first[second], hits.first[second + 1]
    for turn in range(-1, 2):
        low, high = phi1 - width + 2.0 * math.pi * turn, phi1 + width + 2.0 * math.pi * turn
        if high < -math.pi or low > math.pi:
            continue
        j = first_not_below(hits.phi, start, end, low)
        while j < end and hits.phi[j] <= high:
            dr = hits.r[j] - r1
            if not used[j] and dr > 0.5:
                z0 = z1 - (hits.z[j] - z1) / dr * r1
                turn12 = CURVATURE * cuts.max_k * dr + cuts.max_d0 * (1.0 / r1 - 1.0 / hits.r[j])
                if abs(z0) < cuts.max_z0 and abs(wrap(hits.phi[j] - phi1)) < turn12:
                    n = next_layers(hits.r[j], hits.z[j], z0, second, layers, 5.0, near, np.int64(2))
                    for q in range(n):
                        n_seeds = _third_hits(i, j, near[q], hits, layers, cuts, used, seeds, n_seeds)
            j += 1
    return n_seeds
