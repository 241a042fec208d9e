"""Kernels that predict where a fitted track crosses a layer, and look for hits there.

The best linear prediction at a new point given correlated measurements is universal kriging (or, the same,
the last step of a Kalman smoother): with a = derivatives at the new point, c_i = covariance of the scattering
at the new point and at hit i, W, A and r of the fit,

    correction = c' W r,    variance = v - c' W c + b' (A' W A + prior)^-1 b,    b = a - A' W c,

v = variance of the scattering at the new point plus that of the measurement. N. Cressie, "Statistics for
spatial data" (1993), section 3.4.
"""

import math

from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import longitudinal_sigma
from trackbench.fitting.helix import (
    COT,
    PHI0,
    Z0,
    azimuth_per_radius,
    azimuth_slopes,
    clipped,
    crossing,
    path_length,
    turn_sine,
    wrap,
)


@kernel
def predict(n, layer, layers, p, work, out):
    """Predict the crossing ``work.point`` of a layer; call after ``gls.fit`` of the n hits.

    out: (4,) gets the corrections across and along [mm] and the two variances, measurement included [mm^2]
    """
    s, r = work.point[0], work.point[1]
    below = 0  # hits before the crossing
    while below < n and work.path[below] < s:
        below += 1
    s0, s1, s2 = work.sum0[below], work.sum1[below], work.sum2[below]
    scattering = s0 * s * s - 2.0 * s1 * s + s2
    c = work.scratch[0]
    correction_t = correction_l = 0.0
    for i in range(n):
        m = min(i, below)
        c[i] = work.sum0[m] * s * work.path[i] - work.sum1[m] * (s + work.path[i]) + work.sum2[m]
        correction_t += c[i] * work.res_t[i]
        correction_l += c[i] * work.res_l[i]
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    b0 = r
    b1, b2 = azimuth_slopes(r, clipped(turn_sine(r, p)), p)
    d0, d1 = sine, s * sine
    known_t = known_l = 0.0
    for i in range(n):
        q_t = q_l = 0.0
        for j in range(n):
            q_t += work.weight_t[i, j] * c[j]
            q_l += work.weight_l[i, j] * c[j]
        known_t += c[i] * q_t
        known_l += c[i] * q_l
        b0 -= work.jac_t[i, 0] * q_t
        b1 -= work.jac_t[i, 1] * q_t
        b2 -= work.jac_t[i, 2] * q_t
        d0 -= work.jac_l[i, 0] * q_l
        d1 -= work.jac_l[i, 1] * q_l
    cov_t, cov_l = work.cov_t, work.cov_l
    sigma_t, sigma_l = layers.sigma_t[layer], longitudinal_sigma(layer, layers, p)
    variance_t = max(scattering - known_t, 0.0) + sigma_t * sigma_t
    variance_t += cov_t[0, 0] * b0 * b0 + cov_t[1, 1] * b1 * b1 + cov_t[2, 2] * b2 * b2
    variance_t += 2.0 * (cov_t[0, 1] * b0 * b1 + cov_t[0, 2] * b0 * b2 + cov_t[1, 2] * b1 * b2)
    variance_l = max(scattering - known_l, 0.0) + sigma_l * sigma_l
    variance_l += cov_l[0, 0] * d0 * d0 + cov_l[1, 1] * d1 * d1 + 2.0 * cov_l[0, 1] * d0 * d1
    out[0], out[1], out[2], out[3] = correction_t, correction_l, variance_t, variance_l


@kernel
def first_not_below(values, low, high, limit):
    """Return the first index in low .. high - 1 whose value is >= limit (high if none); values ascend."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def nearest_hit(index, n, layer, hits, layers, p, work, used, max_chi2, max_window, out):
    """Find the best unused hit of a layer near the predicted crossing ``work.point``.

    index: (>= n,) hits of the candidate, never returned again; used: (n_hits,) bool
    out: scratch of ``predict``; out[0] gets chi2 of the hit. Returns the hit, -1 if none is below ``max_chi2``.
    """
    predict(n, layer, layers, p, work, out)
    correction_t, correction_l, variance_t, variance_l = out[0], out[1], out[2], out[3]
    window_t = min(math.sqrt(max_chi2 * variance_t), max_window)
    window_l = min(math.sqrt(max_chi2 * variance_l), max(max_window, 3.0 * layers.sigma_l[layer]))
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    # Hits lie off the nominal surface, so at another radius, where the track has turned a little further.
    off = layers.half_depth[layer]
    if not layers.barrel[layer]:
        off = (window_l / sine + off) / abs(p[COT])
    radius = work.point[1]
    width = window_t / radius + abs(azimuth_per_radius(radius, clipped(turn_sine(radius, p)), p)) * off
    centre = work.point[2] + correction_t / radius
    start, end = hits.first[layer], hits.first[layer + 1]
    best, best_chi2 = -1, max_chi2
    for turn in range(-1, 2):
        low, high = centre - width + 2.0 * math.pi * turn, centre + width + 2.0 * math.pi * turn
        if high < -math.pi or low > math.pi:
            continue
        j = first_not_below(hits.phi, start, end, low)
        while j < end and hits.phi[j] <= high:
            if not used[j]:
                r = hits.r[j]
                along = (hits.z[j] - p[Z0] - p[COT] * path_length(r, p)) * sine - correction_l
                if abs(along) <= window_l:
                    across = r * wrap(hits.phi[j] - p[PHI0] - math.asin(clipped(turn_sine(r, p)))) - correction_t
                    chi2 = across * across / variance_t + along * along / variance_l
                    if chi2 < best_chi2 and not contains(index, n, j):
                        best, best_chi2 = j, chi2
            j += 1
    out[0] = best_chi2
    return best


@kernel
def contains(index, n, hit):
    """Tell whether ``hit`` is among the first n entries of ``index``."""
    found = False
    for i in range(n):
        found = found or index[i] == hit
    return found


@kernel
def layer_bits(index, n, hits):
    """Return the layers of n hits as bits of one integer."""
    bits = 0
    for i in range(n):
        bits |= 1 << hits.layer[index[i]]
    return bits


@kernel
def count_bits(bits):
    """Return the number of bits set."""
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@kernel
def count_missing(bits, n, layers, p, work):
    """Count layers that the track crosses without a hit; call after ``gls.fit`` of the n hits.

    bits: layers with a hit. Returns the number of such layers between the first and the last hit (holes), before
    the first and beyond the last.
    """
    first, last = work.path[0], work.path[n - 1]
    holes = before = beyond = 0
    for layer in range(layers.position.size):
        if not (bits >> layer) & 1 and crossing(layer, layers, p, work.point):
            if work.point[0] > last:
                beyond += 1
            elif work.point[0] < first:
                before += 1
            else:
                holes += 1
    return holes, before, beyond
