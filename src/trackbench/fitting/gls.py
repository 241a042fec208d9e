"""Kernel of the track fit: generalised least squares with multiple scattering in the covariance.

Residuals of hit i are y_T = r_i (phi_i - phi(r_i)) across and y_L = (z_i - z(r_i)) sin(theta) along the
beam, both perpendicular to the track, for cylinders and disks alike. A scatterer at path s_m turns the track by
theta_m (rms, in each of the two planes), which moves all later points by theta_m (s - s_m), so

    V_ij = delta_ij sigma_i^2 + sum_{m: s_m < min(s_i, s_j)} theta_m^2 (s_i - s_m)(s_j - s_m),
    theta_m = 13.6 MeV sqrt(x / X0) q/pT,

the Highland formula without its logarithm (Particle Data Group, "Passage of particles through matter");
theta_m is per transverse path, which is why pT stands there and not p. Scatterers are the candidate's own
hits and the beam pipe. With the sums S0, S1, S2 of theta_m^2 s_m^0,1,2 over m below hit j <= i,
V_ij = S0 s_i s_j - S1 (s_i + s_j) + S2, so V costs n^2 operations.

The planes do not mix: (phi0, k, d0) follow from y_T, (z0, cot) from y_L, by Gauss-Newton steps
dp = (A' W A + prior)^-1 (A' W y + prior), W = V^-1. The contribution of hit i to chi2, as if it alone were left
out, is e_i^2 / Q_ii with e = W r and Q = W - W A (A' W A + prior)^-1 A' W, r the residuals after the fit.
"""

import math

from trackbench.fitting.compiled import kernel
from trackbench.fitting.helix import COT, D0, MAX_K, PHI0, Z0, K, azimuth_slopes, clipped, path_length, turn_sine, wrap
from trackbench.fitting.tables import PIPE_RADIUS

HIGHLAND = 0.0136  # [GeV]
_MIN_K = 0.05  # scattering of stiffer tracks is taken at 20 GeV: their k is not known better
_MIN_COSINE = 0.2
_MIN_SIGMA = 0.002  # along z or radius [mm]


@kernel
def scattering_variance(layer, layers, p):
    """Return theta^2 of the layer [rad^2 per plane]: material along the track, not at normal incidence."""
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    if layers.barrel[layer]:
        crossed = layers.thickness[layer] / sine
    else:
        crossed = layers.thickness[layer] / max(abs(p[COT]) * sine, _MIN_COSINE)
    angle = HIGHLAND * max(abs(p[K]), _MIN_K)
    return angle * angle * crossed


@kernel
def pipe_variance(p, model):
    """Return theta^2 of the beam pipe."""
    angle = HIGHLAND * max(abs(p[K]), _MIN_K)
    return angle * angle * model.pipe * math.sqrt(1.0 + p[COT] * p[COT])


@kernel
def longitudinal_sigma(layer, layers, p):
    """Return the resolution across the track in the r-z plane [mm]: a sensor's own one times sin or cos(theta).

    A cluster of n cells is located better than one cell, in proportion to 1/n^2 in the simulation.
    """
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    slope, projection = abs(p[COT]), sine
    if not layers.barrel[layer]:
        slope, projection = 1.0 / max(slope, 0.1), slope * sine
    cells = 1.0 + slope * layers.sharing[layer]
    return max(layers.sigma_l[layer] / (cells * cells), _MIN_SIGMA) * projection


@kernel
def _linearise(index, n, hits, p, work):
    """Fill paths, residuals and derivatives at the track p."""
    sine_theta = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    for i in range(n):
        j = index[i]
        r = hits.r[j]
        x = clipped(turn_sine(r, p))
        s = path_length(r, p)
        work.path[i] = s
        work.res_t[i] = r * wrap(hits.phi[j] - p[PHI0] - math.asin(x))
        work.jac_t[i, 0] = r
        work.jac_t[i, 1], work.jac_t[i, 2] = azimuth_slopes(r, x, p)
        work.res_l[i] = (hits.z[j] - p[Z0] - p[COT] * s) * sine_theta
        work.jac_l[i, 0] = sine_theta
        work.jac_l[i, 1] = s * sine_theta


@kernel
def _scattering_sums(index, n, hits, layers, model, p, work):
    """Fill sum0, sum1, sum2: entry i sums over the beam pipe and the hits before hit i; entry n over all."""
    variance = pipe_variance(p, model)
    s0, s1, s2 = variance, variance * PIPE_RADIUS, variance * PIPE_RADIUS * PIPE_RADIUS
    for i in range(n + 1):
        work.sum0[i], work.sum1[i], work.sum2[i] = s0, s1, s2
        if i < n:
            variance = scattering_variance(hits.layer[index[i]], layers, p)
            s0 += variance
            s1 += variance * work.path[i]
            s2 += variance * work.path[i] * work.path[i]


@kernel
def _decompose(matrix, lower, n):
    """Fill lower[:n, :n] with the Cholesky factor of a symmetric positive matrix, its diagonal inverted already."""
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for m in range(j):
                total -= lower[i, m] * lower[j, m]
            if i == j:
                lower[i, i] = 1.0 / math.sqrt(max(total, 1e-12))
            else:
                lower[i, j] = total * lower[j, j]


@kernel
def _invert(matrix, lower, n):
    """Replace the symmetric positive matrix[:n, :n], given in its lower triangle, by its inverse (Cholesky)."""
    _decompose(matrix, lower, n)
    for i in range(n):  # lower becomes its inverse
        for j in range(i):
            total = 0.0
            for m in range(j, i):
                total -= lower[i, m] * lower[m, j]
            lower[i, j] = total * lower[i, i]
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for m in range(i, n):
                total += lower[m, i] * lower[m, j]
            matrix[i, j] = total
            matrix[j, i] = total


@kernel
def _weights(index, n, hits, layers, p, work):
    """Fill weight_t and weight_l, the inverse covariances of the two planes."""
    for i in range(n):
        layer = hits.layer[index[i]]
        sigma_l = longitudinal_sigma(layer, layers, p)
        for j in range(i + 1):
            si, sj = work.path[i], work.path[j]
            value = work.sum0[j] * si * sj - work.sum1[j] * (si + sj) + work.sum2[j]
            work.weight_t[i, j] = value
            work.weight_l[i, j] = value
        work.weight_t[i, i] += layers.sigma_t[layer] ** 2
        work.weight_l[i, i] += sigma_l**2
    _invert(work.weight_t, work.lower, n)
    _invert(work.weight_l, work.lower, n)


@kernel
def _step_t(n, model, p, work):
    """Improve (phi0, k, d0), fill cov_t, turn res_t into the residuals after the step."""
    a, cov = work.jac_t, work.cov_t
    m00 = m01 = m02 = m12 = 0.0
    m11 = 1.0 / (model.sigma_k * model.sigma_k)
    m22 = 1.0 / (model.sigma_d0 * model.sigma_d0)
    b0, b1, b2 = 0.0, -p[K] * m11, -p[D0] * m22
    for i in range(n):
        w0 = w1 = w2 = 0.0
        for j in range(n):
            w = work.weight_t[i, j]
            w0 += w * a[j, 0]
            w1 += w * a[j, 1]
            w2 += w * a[j, 2]
        y = work.res_t[i]
        b0 += w0 * y
        b1 += w1 * y
        b2 += w2 * y
        m00 += w0 * a[i, 0]
        m01 += w0 * a[i, 1]
        m02 += w0 * a[i, 2]
        m11 += w1 * a[i, 1]
        m12 += w1 * a[i, 2]
        m22 += w2 * a[i, 2]
    c00, c01, c02 = m11 * m22 - m12 * m12, m12 * m02 - m01 * m22, m01 * m12 - m11 * m02
    scale = 1.0 / max(m00 * c00 + m01 * c01 + m02 * c02, 1e-300)
    cov[0, 0], cov[1, 1], cov[2, 2] = c00 * scale, (m00 * m22 - m02 * m02) * scale, (m00 * m11 - m01 * m01) * scale
    cov[0, 1] = cov[1, 0] = c01 * scale
    cov[0, 2] = cov[2, 0] = c02 * scale
    cov[1, 2] = cov[2, 1] = (m01 * m02 - m00 * m12) * scale
    x0 = cov[0, 0] * b0 + cov[0, 1] * b1 + cov[0, 2] * b2
    x1 = cov[1, 0] * b0 + cov[1, 1] * b1 + cov[1, 2] * b2
    x2 = cov[2, 0] * b0 + cov[2, 1] * b1 + cov[2, 2] * b2
    for i in range(n):
        work.res_t[i] -= a[i, 0] * x0 + a[i, 1] * x1 + a[i, 2] * x2
    p[PHI0] = wrap(p[PHI0] + x0)
    p[K] = min(max(p[K] + x1, -MAX_K), MAX_K)
    p[D0] += x2


@kernel
def _step_l(n, p, work):
    """Improve (z0, cot), fill cov_l, turn res_l into the residuals after the step."""
    a, cov = work.jac_l, work.cov_l
    m00 = m01 = m11 = b0 = b1 = 0.0
    for i in range(n):
        w0 = w1 = 0.0
        for j in range(n):
            w = work.weight_l[i, j]
            w0 += w * a[j, 0]
            w1 += w * a[j, 1]
        b0 += w0 * work.res_l[i]
        b1 += w1 * work.res_l[i]
        m00 += w0 * a[i, 0]
        m01 += w0 * a[i, 1]
        m11 += w1 * a[i, 1]
    scale = 1.0 / max(m00 * m11 - m01 * m01, 1e-300)
    cov[0, 0], cov[1, 1] = m11 * scale, m00 * scale
    cov[0, 1] = cov[1, 0] = -m01 * scale
    x0, x1 = cov[0, 0] * b0 + cov[0, 1] * b1, cov[1, 0] * b0 + cov[1, 1] * b1
    for i in range(n):
        work.res_l[i] -= a[i, 0] * x0 + a[i, 1] * x1
    p[Z0] += x0
    p[COT] += x1


@kernel
def _contributions(n, model, p, work):
    """Fill the contribution of each hit, turn residuals into weight @ residual; return chi2."""
    cov_t, cov_l = work.cov_t, work.cov_l
    chi2 = (p[D0] / model.sigma_d0) ** 2
    scaled = work.scratch
    for i in range(n):
        et = el = a0 = a1 = a2 = c0 = c1 = 0.0
        for j in range(n):
            wt, wl = work.weight_t[i, j], work.weight_l[i, j]
            et += wt * work.res_t[j]
            el += wl * work.res_l[j]
            a0 += wt * work.jac_t[j, 0]
            a1 += wt * work.jac_t[j, 1]
            a2 += wt * work.jac_t[j, 2]
            c0 += wl * work.jac_l[j, 0]
            c1 += wl * work.jac_l[j, 1]
        chi2 += et * work.res_t[i] + el * work.res_l[i]
        left_t = cov_t[0, 0] * a0 * a0 + cov_t[1, 1] * a1 * a1 + cov_t[2, 2] * a2 * a2
        left_t += 2.0 * (cov_t[0, 1] * a0 * a1 + cov_t[0, 2] * a0 * a2 + cov_t[1, 2] * a1 * a2)
        left_l = cov_l[0, 0] * c0 * c0 + cov_l[1, 1] * c1 * c1 + 2.0 * cov_l[0, 1] * c0 * c1
        q_t, q_l = work.weight_t[i, i] - left_t, work.weight_l[i, i] - left_l
        total = 0.0  # a hit the others do not constrain contributes nothing
        if q_t > 1e-6 * work.weight_t[i, i]:
            total += et * et / q_t
        if q_l > 1e-6 * work.weight_l[i, i]:
            total += el * el / q_l
        work.contribution[i] = total
        scaled[0, i], scaled[1, i] = et, el
    for i in range(n):
        work.res_t[i], work.res_l[i] = scaled[0, i], scaled[1, i]
    return chi2


@kernel
def fit(index, n, hits, layers, model, p, work, n_iterations):
    """Fit the track p to n hits.

    index: (>= n,) hits of the candidate, by increasing radius; p: (5,) start values, gets the result
    work: gets the covariances and what ``prediction`` needs. Returns chi2, the prior of d0 included.
    """
    for _ in range(n_iterations):
        _linearise(index, n, hits, p, work)
        _scattering_sums(index, n, hits, layers, model, p, work)
        _weights(index, n, hits, layers, p, work)
        _step_t(n, model, p, work)
        _step_l(n, p, work)
    return _contributions(n, model, p, work)
