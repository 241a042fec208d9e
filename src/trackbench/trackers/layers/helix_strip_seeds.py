"""Kernels that seed tracks with few or no pixel hits: three hits with a strip among them, impact parameter free.

Secondaries born in or beyond the outer pixel layers leave most of their hits in the strips. As in
``helix_displaced`` three hits on successive layers must lie on a line in s-z, s the transverse path, and on a
circle. Strips measure z or the radius to 0.3 mm at best, so how far off the line a hit may be follows from the
resolutions. What limits chance is the direction: particles made in the material fly outwards, so d0, which may be
centimetres, is small beside the radius of their first hit.
"""

import math
from typing import NamedTuple

import numpy as np

from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import longitudinal_sigma
from trackbench.fitting.helix import COT, circle, wrap
from trackbench.fitting.prediction import first_not_below
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.helix_seeds import next_layers, outer_reach

_TOLERANCE = 10.0  # by which the line through two hits may miss the edge of the next layer [mm]
_MIN_STEP = 5.0  # least distance of two hits in radius [mm]


class StripCuts(NamedTuple):
    """Which seeds are made.

    max_k: largest |q/pT| [1/GeV]; max_angle: largest |d0| / radius of the first hit, the sine of the angle
    between a straight track and the radial direction there; max_z0: largest |z0| [mm]
    max_kink: largest distance of the third hit from the line in s-z per distance [rad], beside the resolution;
    max_chi2: of that distance by the resolution
    n_pixel: layers from this number on are strips; the third hit is on one of them
    """

    max_k: float
    max_angle: float
    max_z0: float
    max_kink: float
    max_chi2: float
    n_pixel: int


@kernel
def line_tolerance(r1, r2, r3, layer1, layer2, layer3, layers, cuts, p):
    """Return how far a third hit may lie from the line through two, perpendicular to it in r-z [mm]."""
    f = (r3 - r2) / (r2 - r1)
    l1, l2 = longitudinal_sigma(layer1, layers, p), longitudinal_sigma(layer2, layers, p)
    l3 = longitudinal_sigma(layer3, layers, p)
    variance = l3 * l3 + ((1.0 + f) * l2) ** 2 + (f * l1) ** 2
    return math.sqrt(cuts.max_chi2 * variance) + cuts.max_kink * (r3 - r2)


@kernel
def _on_track(i, j, m, hits, cuts, sine, tolerance):
    """Tell whether three hits are on one helix of the wanted curvature and direction."""
    r1, r2, r3 = hits.r[i], hits.r[j], hits.r[m]
    k, d0 = circle(r1, hits.phi[i], r2, hits.phi[j], r3, hits.phi[m])
    if abs(k) > cuts.max_k or abs(d0) > cuts.max_angle * r1:
        return False
    s1, s2, s3 = math.sqrt(r1 * r1 - d0 * d0), math.sqrt(r2 * r2 - d0 * d0), math.sqrt(r3 * r3 - d0 * d0)
    expected = hits.z[j] + (hits.z[j] - hits.z[i]) / (s2 - s1) * (s3 - s2)
    return abs(hits.z[m] - expected) * sine < tolerance


@kernel
def _third_hits(i, j, layer, hits, layers, cuts, used, p, seeds, n_seeds):
    """Append the hits of ``layer`` compatible with hits i, j to ``seeds`` (m, 3). Returns the number of seeds."""
    r1, r2 = hits.r[i], hits.r[j]
    slope = (hits.z[j] - hits.z[i]) / (r2 - r1)
    z0 = hits.z[i] - slope * r1
    sine = 1.0 / math.sqrt(1.0 + slope * slope)
    p[COT] = slope
    depth = layers.half_depth[layer]
    barrel = layers.barrel[layer]
    middle = layers.position[layer] if barrel else (layers.position[layer] - z0) / slope
    if layer < cuts.n_pixel or middle < r2 + _MIN_STEP:
        return n_seeds
    tolerance = line_tolerance(r1, r2, middle, hits.layer[i], hits.layer[j], layer, layers, cuts, p)
    if barrel:
        centre, width = middle * slope + z0, tolerance / sine + depth * abs(slope)
    else:
        centre, width = middle, (tolerance / sine + depth) / abs(slope)
    start, end = hits.first[layer], hits.first[layer + 1]
    m = first_not_below(hits.v, start, end, centre - width)
    while m < end and hits.v[m] <= centre + width:
        hit = hits.by_v[m]
        m += 1
        if used[hit] or hits.r[hit] < r2 + _MIN_STEP or n_seeds >= seeds.shape[0]:
            continue
        if _on_track(i, j, hit, hits, cuts, sine, tolerance):
            seeds[n_seeds, 0], seeds[n_seeds, 1], seeds[n_seeds, 2] = i, j, hit
            n_seeds += 1
    return n_seeds


@kernel
def _seeds_with(i, j, hits, layers, cuts, used, p, near, seeds, n_seeds):
    """Append the seeds with hits i and j: the third hit on the next layer, or the one after it if there is none."""
    z0 = hits.z[i] - (hits.z[j] - hits.z[i]) / (hits.r[j] - hits.r[i]) * hits.r[i]
    if abs(z0) > cuts.max_z0:
        return n_seeds
    n = next_layers(hits.r[j], hits.z[j], z0, hits.layer[j], layers, _TOLERANCE, near, np.int64(2))
    before = n_seeds
    for q in range(n):
        n_seeds = _third_hits(i, j, near[q], hits, layers, cuts, used, p, seeds, n_seeds)
        if n_seeds > before:
            break
    return n_seeds


@kernel
def _seeds_on(i, second, hits, layers, cuts, used, p, near, seeds, n_seeds):
    """Append the seeds with hit i and any second hit on layer ``second``."""
    r1, z1, phi1 = hits.r[i], hits.z[i], hits.phi[i]
    reach = outer_reach(second, r1, z1, layers, cuts.max_z0)
    # Change of azimuth along the circle: curvature times distance (5 % more for its second order) and d0 (1/r1 - 1/r2).
    bend, tilt = 1.05 * CURVATURE * cuts.max_k, cuts.max_angle * r1
    width = bend * max(reach - r1, 1.0) + tilt * max(1.0 / r1 - 1.0 / reach, 0.0)
    start, end = hits.first[second], hits.first[second + 1]
    for turn in range(-1, 2):
        low, high = phi1 - width + 2.0 * math.pi * turn, phi1 + width + 2.0 * math.pi * turn
        if high < -math.pi or low > math.pi:
            continue
        j = first_not_below(hits.phi, start, end, low)
        while j < end and hits.phi[j] <= high:
            step = hits.r[j] - r1
            if not used[j] and step > _MIN_STEP:
                largest = bend * step + tilt * (1.0 / r1 - 1.0 / hits.r[j])
                if abs(wrap(hits.phi[j] - phi1)) < largest:
                    n_seeds = _seeds_with(i, j, hits, layers, cuts, used, p, near, seeds, n_seeds)
            j += 1
    return n_seeds


@kernel
def strip_seeds_from(i, hits, layers, cuts, used, p, near, seeds):
    """Write the seeds that start with hit i to ``seeds`` (m, 3). Returns their number.

    p: (5,) and near: (>= 3,) int64, scratch. The second hit is on the next layer on the line from the origin, or,
    if hit i is on a strip, also on the one after it: from pixels there would be too many.
    """
    n_seeds = np.int64(0)
    wanted = 1 if hits.layer[i] < cuts.n_pixel else 2
    n = next_layers(hits.r[i], hits.z[i], 0.0, hits.layer[i], layers, cuts.max_z0, near, wanted)
    second, other = near[0], near[1]
    if n > 0:
        n_seeds = _seeds_on(i, second, hits, layers, cuts, used, p, near, seeds, n_seeds)
    if n > 1:
        n_seeds = _seeds_on(i, other, hits, layers, cuts, used, p, near, seeds, n_seeds)
    return n_seeds
