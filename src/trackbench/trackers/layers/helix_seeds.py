"""Kernels that seed tracks: three hits on successive layers that lie on one helix from the beam line."""

import math
from typing import NamedTuple

import numpy as np

from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import longitudinal_sigma, pipe_variance, scattering_variance
from trackbench.fitting.helix import COT, Z0, K, from_two_hits, wrap
from trackbench.fitting.prediction import first_not_below
from trackbench.fitting.tables import PIPE_RADIUS
from trackbench.geometry.detector import CURVATURE


class SeedCuts(NamedTuple):
    """Which seeds are made.

    max_k: largest |q/pT| [1/GeV]; max_z0: largest |z0| [mm]; max_chi2: of the third hit, in each plane
    n_second: look for the second hit on so many of the next layers
    """

    max_k: float
    max_z0: float
    max_chi2: float
    n_second: int


@kernel
def next_layers(r, z, origin, own, layers, tolerance, found, n_wanted):
    """List layers that the straight line from (0, origin) through (r, z) crosses outside r, innermost first.

    own: layer of (r, z), left out; tolerance: by which the line may miss a layer in z [mm]
    found: (>= n_wanted + 1,) gets the layers. Returns their number, at most n_wanted.
    """
    slope = (z - origin) / r
    n = 0
    last = r
    while n < n_wanted:
        best, best_r = -1, 1e30
        for layer in range(layers.position.size):
            if layer == own:
                continue
            position = layers.position[layer]
            if layers.barrel[layer]:
                crossed = position
                at = origin + slope * crossed
                inside = layers.low[layer] - tolerance < at < layers.high[layer] + tolerance
                least = last + 2.0
            else:
                if abs(slope) < 0.3 or (position - z) * slope <= 0.0:
                    continue
                crossed = (position - origin) / slope
                margin = tolerance / abs(slope)
                inside = layers.low[layer] - margin < crossed < layers.high[layer] + margin
                least = last + 0.5
            if inside and least < crossed < best_r:
                best, best_r = layer, crossed
        if best < 0:
            break
        found[n] = best
        last = best_r
        n += 1
    return n


@kernel
def outer_reach(layer, r, z, layers, max_z0):
    """Return the largest radius at which a straight line through (r, z) and |z0| < max_z0 can meet a layer."""
    if layers.barrel[layer]:
        return layers.position[layer] + layers.half_depth[layer]
    return min((abs(layers.position[layer]) + max_z0) * r / max(abs(z), 1.0), layers.high[layer])


@kernel
def third_hit_variances(r1, r2, r3, layer1, layer2, layer3, layers, model, p, out):
    """Variances of a third hit around the extrapolation of two, across and along [mm^2], to first order in the turn.

    With f = (r3 - r2) / (r2 - r1), phi3 = (1 + f) phi2 - f phi1 and z3 likewise; sensors, d0, beam pipe and
    the first two layers contribute.
    """
    f = (r3 - r2) / (r2 - r1)
    u1, u2 = -f * r3 / r1, (1.0 + f) * r3 / r2  # weight of the first two hits' azimuth displacements
    t1, t2, t3 = layers.sigma_t[layer1], layers.sigma_t[layer2], layers.sigma_t[layer3]
    across = t3 * t3 + (u2 * t2) ** 2 + (u1 * t1) ** 2
    across += (model.sigma_d0 * (1.0 - u2 - u1)) ** 2
    pipe = pipe_variance(p, model)
    first, second = scattering_variance(layer1, layers, p), scattering_variance(layer2, layers, p)
    across += pipe * ((r3 - PIPE_RADIUS) - u2 * (r2 - PIPE_RADIUS) - u1 * (r1 - PIPE_RADIUS)) ** 2
    across += first * ((r3 - r1) - u2 * (r2 - r1)) ** 2 + second * (r3 - r2) ** 2
    l1, l2 = longitudinal_sigma(layer1, layers, p), longitudinal_sigma(layer2, layers, p)
    l3 = longitudinal_sigma(layer3, layers, p)
    along = l3 * l3 + ((1.0 + f) * l2) ** 2 + (f * l1) ** 2 + second * (r3 - r2) ** 2
    out[0], out[1] = across, along


@kernel
def third_hits(i, j, layer, hits, layers, model, cuts, used, p, out, seeds, n_seeds):
    """Append the hits of ``layer`` on the helix through hits i, j and the beam line to ``seeds`` (m, 3)."""
    r1, r2 = hits.r[i], hits.r[j]
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    if layers.barrel[layer]:
        middle, spread = layers.position[layer], layers.half_depth[layer]
    else:
        middle = (layers.position[layer] - p[Z0]) / p[COT]
        spread = (layers.half_depth[layer] + 3.0 / sine) / abs(p[COT])
    if middle < r2 + 0.5:
        return n_seeds
    third_hit_variances(r1, r2, middle, hits.layer[i], hits.layer[j], layer, layers, model, p, out)
    var_t, var_l = out[0], out[1]
    slope = wrap(hits.phi[j] - hits.phi[i]) / (r2 - r1)
    centre = hits.phi[j] + slope * (middle - r2)
    # Azimuth grows faster than the radius: by C^3 k^3 (r3^3 - ...) / 6, below 1 mrad inside 200 mm at 0.5 GeV.
    bend = abs(CURVATURE * p[K]) ** 3 * middle**3 / 6.0
    width = math.sqrt(cuts.max_chi2 * var_t) / middle + abs(slope) * spread + bend
    start, end = hits.first[layer], hits.first[layer + 1]
    for turn in range(-1, 2):
        low, high = centre - width + 2.0 * math.pi * turn, centre + width + 2.0 * math.pi * turn
        if high < -math.pi or low > math.pi:
            continue
        m = first_not_below(hits.phi, start, end, low)
        while m < end and hits.phi[m] <= high:
            r3 = hits.r[m]
            along = (hits.z[m] - p[Z0] - p[COT] * r3) * sine
            if not used[m] and along * along < cuts.max_chi2 * var_l and r3 > r2 + 0.5 and n_seeds < seeds.shape[0]:
                across = r3 * abs(wrap(hits.phi[m] - hits.phi[j] - slope * (r3 - r2))) - r3 * bend
                if across * abs(across) < cuts.max_chi2 * var_t:
                    seeds[n_seeds, 0], seeds[n_seeds, 1], seeds[n_seeds, 2] = i, j, m
                    n_seeds += 1
            m += 1
    return n_seeds


@kernel
def _seeds_on(i, second, hits, layers, model, cuts, used, p, out, near, seeds, n_seeds):
    """Append the seeds with hit i and any second hit on layer ``second``."""
    r1, z1, phi1 = hits.r[i], hits.z[i], hits.phi[i]
    reach = outer_reach(second, r1, z1, layers, cuts.max_z0)
    width = CURVATURE * cuts.max_k * max(reach - r1, 1.0) * 1.05 + 0.001
    start, end = hits.first[second], hits.first[second + 1]
    for turn in range(-1, 2):
        low, high = phi1 - width + 2.0 * math.pi * turn, phi1 + width + 2.0 * math.pi * turn
        if high < -math.pi or low > math.pi:
            continue
        j = first_not_below(hits.phi, start, end, low)
        while j < end and hits.phi[j] <= high:
            dr = hits.r[j] - r1
            if not used[j] and dr > 0.5 and abs(z1 - (hits.z[j] - z1) / dr * r1) < cuts.max_z0:
                from_two_hits(phi1, r1, z1, hits.phi[j], hits.r[j], hits.z[j], p)
                if abs(p[K]) < cuts.max_k:
                    n = next_layers(hits.r[j], hits.z[j], p[Z0], second, layers, 2.0, near, np.int64(2))
                    for q in range(n):
                        before = n_seeds
                        n_seeds = third_hits(i, j, near[q], hits, layers, model, cuts, used, p, out, seeds, n_seeds)
                        if n_seeds > before:
                            break
            j += 1
    return n_seeds


@kernel
def seeds_from(i, hits, layers, model, cuts, used, p, out, near, seeds):
    """Write the seeds that start with hit i to ``seeds`` (m, 3). Returns their number.

    The second hit lies on one of the next ``cuts.n_second`` layers on the line from the origin; the third on
    the next, or the one after it if there is none (a hit may be lost).
    """
    n_seeds = np.int64(0)
    n = next_layers(hits.r[i], hits.z[i], 0.0, hits.layer[i], layers, cuts.max_z0, near, cuts.n_second)
    second, other = near[0], near[1]
    if n > 0:
        n_seeds = _seeds_on(i, second, hits, layers, model, cuts, used, p, out, near, seeds, n_seeds)
    if n > 1:
        n_seeds = _seeds_on(i, other, hits, layers, model, cuts, used, p, out, near, seeds, n_seeds)
    return n_seeds
