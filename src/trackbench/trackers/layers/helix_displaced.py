"""Kernels that seed tracks which do not come from the beam line: three hits, impact parameter free."""

import math
from typing import NamedTuple

from trackbench.fitting.compiled import kernel
from trackbench.fitting.helix import wrap
from trackbench.fitting.prediction import first_not_below
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.helix_seeds import next_layers


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
def _circle(r1, phi1, r2, phi2, r3, phi3):
    """Return (k, d0) of the circle through three points, to first order: phi(r) = phi0 - C k r + d0 / r."""
    a1, b1, y1 = -CURVATURE * (r2 - r1), 1.0 / r2 - 1.0 / r1, wrap(phi2 - phi1)
    a2, b2, y2 = -CURVATURE * (r3 - r2), 1.0 / r3 - 1.0 / r2, wrap(phi3 - phi2)
    det = a1 * b2 - a2 * b1
    if abs(det) < 1e-12:
        return 1e9, 1e9
    return (y1 * b2 - y2 * b1) / det, (a1 * y2 - a2 * y1) / det


@kernel
def _third_hits(i, j, layer, hits, layers, cuts, used, seeds, n_seeds):
    """Append the hits of ``layer`` compatible with hits i, j: on their line in r-z, where k and d0 play no part."""
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
    start, end = hits.first[layer], hits.first[layer + 1]
    m = first_not_below(hits.v, start, end, centre - width)
    while m < end and hits.v[m] <= centre + width:
        hit = hits.by_v[m]
        r = hits.r[hit]
        m += 1
        if used[hit] or r < r2 + 0.5 or n_seeds >= seeds.shape[0]:
            continue
        if abs(hits.z[hit] - z0 - slope * r) * sine < cuts.max_kink * (r - r2) + 0.1:
            k, d0 = _circle(r1, hits.phi[i], r2, hits.phi[j], r, hits.phi[hit])
            if abs(k) < cuts.max_k and abs(d0) < cuts.max_d0:
                seeds[n_seeds, 0], seeds[n_seeds, 1], seeds[n_seeds, 2] = i, j, hit
                n_seeds += 1
    return n_seeds


@kernel
def displaced_seeds_from(i, hits, layers, cuts, used, near, seeds):
    """Write the seeds that start with hit i to ``seeds`` (m, 3). Returns their number."""
    n_seeds = 0
    if next_layers(hits.r[i], hits.z[i], 0.0, hits.layer[i], layers, cuts.max_z0, near, 1) == 0:
        return 0
    second = near[0]
    r1, z1, phi1 = hits.r[i], hits.z[i], hits.phi[i]
    if layers.barrel[second]:
        reach = layers.position[second] + layers.half_depth[second]
    else:
        reach = min((abs(layers.position[second]) + cuts.max_z0) * r1 / max(abs(z1), 1.0), layers.high[second])
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
                    n = next_layers(hits.r[j], hits.z[j], z0, second, layers, 5.0, near, 2)
                    for q in range(n):
                        n_seeds = _third_hits(i, j, near[q], hits, layers, cuts, used, seeds, n_seeds)
            j += 1
    return n_seeds
