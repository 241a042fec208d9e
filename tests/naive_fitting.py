"""The helix fit in plain NumPy, from the formulas and slow: root finding, double sums, joint covariances.

Tracks are p = (phi0, q/pT, d0, z0, cot(theta)) as in ``trackbench.fitting.helix``; nothing here is taken from the
kernels but their constants.
"""

from typing import NamedTuple

import numpy as np

from trackbench.geometry.detector import CURVATURE

FLAT = (1.0, 1000.0, 10.0)  # widths of the priors of phi0 [rad], z0 [mm] and cot(theta): none, in effect


class Measured(NamedTuple):
    """Hits of one candidate by increasing radius: r, phi, z (n,) [mm, rad, mm] and layer (n,)."""

    r: np.ndarray
    phi: np.ndarray
    z: np.ndarray
    layer: np.ndarray

    def without(self, i):
        """Return the hits but the i-th."""
        return Measured(*(np.delete(column, i) for column in self))


def points(p, s):
    """Points (n, 3) [mm] of a track after the transverse paths s (n,), with no cancellation for stiff tracks."""
    phi0, k, d0, z0, cot = p
    half = -CURVATURE * k * s  # half the angle turned
    chord = s * np.sinc(half / np.pi)
    azimuth = phi0 + half  # of the chord
    x = -d0 * np.sin(phi0) + chord * np.cos(azimuth)
    y = d0 * np.cos(phi0) + chord * np.sin(azimuth)
    return np.column_stack([x, y, z0 + cot * s])


def path_at_radius(p, r):
    """Transverse path (n,) [mm] at which the track reaches the radii r (n,), by bisection from the perigee on."""
    low = np.zeros(len(r))
    high = np.full(len(r), min(1e4, 0.5 * np.pi / max(CURVATURE * abs(p[1]), 1e-12)))  # half a turn
    for _ in range(54):
        middle = 0.5 * (low + high)
        inside = np.hypot(*points(p, middle)[:, :2].T) < r
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return 0.5 * (low + high)


def at_radius(p, r):
    """Azimuth, z and path, each (n,), of the track at the radii r (n,)."""
    s = path_at_radius(p, np.asarray(r, float))
    x, y, z = points(p, s).T
    return np.arctan2(y, x), z, s


def wrapped(angle):
    """Bring angles into [-pi, pi)."""
    return np.mod(np.asarray(angle) + np.pi, 2 * np.pi) - np.pi


def sine_theta(p):
    """Return sin(theta) of a track."""
    return np.sin(np.arctan2(1.0, p[4]))


def residuals(hits, p):
    """Residuals across and along (n,) [mm]: r dphi and dz sin(theta) at the radius of each hit."""
    phi, z, _ = at_radius(p, hits.r)
    return hits.r * wrapped(hits.phi - phi), (hits.z - z) * sine_theta(p)


def jacobian_across(p, r):
    """Derivatives (n, 3) of r phi(r) by (phi0, k, d0), by central differences."""
    columns = []
    for i, step in ((0, 1e-5), (1, 1e-4), (2, 1e-3)):
        up, down = (at_radius(np.array(p) + sign * step * np.eye(5)[i], r)[0] for sign in (1, -1))
        columns.append(r * wrapped(up - down) / (2 * step))
    return np.column_stack(columns)


def jacobian_along(p, r):
    """Derivatives (n, 2) of z(r) sin(theta) by (z0, cot), sin(theta) held."""
    return sine_theta(p) * np.column_stack([np.ones(len(r)), path_at_radius(p, r)])


def scattering_angle2(layer, layers, p):
    """Variance of the scattering angle of one layer [rad^2]: Highland without logarithm, per transverse path."""
    theta = np.arctan2(1.0, p[4])
    cosine = np.sin(theta) if layers.barrel[layer] else max(abs(np.cos(theta)), 0.2)
    return (0.0136 * max(abs(p[1]), 0.05)) ** 2 * layers.thickness[layer] / cosine


def scatterers(hits, layers, model, p):
    """Paths and variances of the scatterers: the beam pipe at 22 mm and the hits."""
    pipe = (0.0136 * max(abs(p[1]), 0.05)) ** 2 * model.pipe / sine_theta(p)
    paths = np.concatenate([[22.0], path_at_radius(p, hits.r)])
    return paths, np.array([pipe] + [scattering_angle2(layer, layers, p) for layer in hits.layer])


def scattering_covariance(at, paths, angle2):
    """Covariance (n, n) [mm^2] of the displacements at the paths ``at``: a double sum over scatterers below."""
    total = np.zeros((len(at), len(at)))
    for i, si in enumerate(at):
        for j, sj in enumerate(at):
            for sm, variance in zip(paths, angle2, strict=True):
                if sm < min(si, sj):
                    total[i, j] += variance * (si - sm) * (sj - sm)
    return total


def sensor_sigmas(layer, layers, p):
    """Resolutions across and along [mm], the latter perpendicular to the track: 1 / (cells crossed)^2."""
    theta = np.arctan2(1.0, p[4])
    normal = 0.5 * np.pi - theta if layers.barrel[layer] else theta  # angle between the track and the normal
    cells = 1.0 + min(abs(np.tan(normal)), np.inf if layers.barrel[layer] else 10.0) * layers.sharing[layer]
    return layers.sigma_t[layer], max(layers.sigma_l[layer] / cells**2, 0.002) * abs(np.cos(normal))


class Fit(NamedTuple):
    """Result of a fit, with what it was made of: covariances v, derivatives a, precision of the priors."""

    p: np.ndarray
    chi2: float
    cov_t: np.ndarray
    cov_l: np.ndarray
    v: tuple[np.ndarray, np.ndarray]
    a: tuple[np.ndarray, np.ndarray]
    y: tuple[np.ndarray, np.ndarray]  # residuals after the fit


def covariances(hits, layers, model, p):
    """Covariance of the residuals across and along, (n, n) each."""
    scattering = scattering_covariance(path_at_radius(p, hits.r), *scatterers(hits, layers, model, p))
    sigmas = np.array([sensor_sigmas(layer, layers, p) for layer in hits.layer]).reshape(-1, 2)
    return tuple(scattering + np.diag(sigmas[:, plane] ** 2) for plane in (0, 1))


def fit(hits, layers, model, p, n_iterations):
    """Fit by Gauss-Newton steps; chi2 includes the prior of d0 but not that of k."""
    p = np.array(p, float)
    precision = np.diag([0.0, model.sigma_k**-2.0, model.sigma_d0**-2.0])
    for _ in range(n_iterations):
        v = covariances(hits, layers, model, p)
        a = jacobian_across(p, hits.r), jacobian_along(p, hits.r)
        y = residuals(hits, p)
        weight = [np.linalg.inv(matrix) for matrix in v]
        cov_t = np.linalg.inv(a[0].T @ weight[0] @ a[0] + precision)
        cov_l = np.linalg.inv(a[1].T @ weight[1] @ a[1])
        step_t = cov_t @ (a[0].T @ weight[0] @ y[0] - precision @ p[:3])
        step_l = cov_l @ (a[1].T @ weight[1] @ y[1])
        p += np.concatenate([step_t, step_l])
        p[0] = wrapped(p[0])
        y = y[0] - a[0] @ step_t, y[1] - a[1] @ step_l
    chi2 = sum(y[i] @ weight[i] @ y[i] for i in (0, 1)) + (p[2] / model.sigma_d0) ** 2
    return Fit(p, chi2, cov_t, cov_l, v, a, y)


def _least(v, a, y, precision, mean):
    """Least value over x of (y - a x)' v^-1 (y - a x) + (mean - x)' precision (mean - x)."""
    weight = np.linalg.inv(v)
    x = np.linalg.solve(a.T @ weight @ a + precision, a.T @ weight @ y + precision @ mean)
    rest, shift = y - a @ x, mean - x
    return rest @ weight @ rest + shift @ precision @ shift


def contributions(fitted, model):
    """Decrease of chi2 when one hit alone is left out, (n,): each time another minimisation."""
    precisions = np.diag([0.0, model.sigma_k**-2.0, model.sigma_d0**-2.0]), np.zeros((2, 2))
    means = np.array([0.0, -fitted.p[1], -fitted.p[2]]), np.zeros(2)
    n = len(fitted.y[0])
    total = np.zeros(n)
    for plane in (0, 1):
        v, a, y = fitted.v[plane], fitted.a[plane], fitted.y[plane]
        full = _least(v, a, y, precisions[plane], means[plane])
        for i in range(n):
            keep = np.delete(np.arange(n), i)
            total[i] += full - _least(v[np.ix_(keep, keep)], a[keep], y[keep], precisions[plane], means[plane])
    return total


def prediction(fitted, hits, layer, crossing, layers, model):
    """Correction and variance across and along at a crossing (s, r, phi, z): the conditional normal distribution.

    Parameters, residuals and the new measurement have one joint covariance; conditioning is a Schur complement.
    """
    p, (s, r) = fitted.p, crossing[:2]
    at = np.append(path_at_radius(p, hits.r), s)
    scattering = scattering_covariance(at, *scatterers(hits, layers, model, p))
    own = sensor_sigmas(layer, layers, p)
    new = jacobian_across(p, np.array([r])), sine_theta(p) * np.array([[1.0, s]])
    widths = (FLAT[0], model.sigma_k, model.sigma_d0), FLAT[1:]
    means = np.array([0.0, -p[1], -p[2]]), np.zeros(2)
    results = []
    for plane in (0, 1):
        noise = np.append(np.diag(fitted.v[plane]) - np.diag(scattering)[:-1], own[plane] ** 2)
        a = np.vstack([fitted.a[plane], new[plane]])
        joint = a @ np.diag(np.square(widths[plane])) @ a.T + scattering + np.diag(noise)
        mean = a @ means[plane]
        gain = np.linalg.solve(joint[:-1, :-1], joint[:-1, -1])
        results.append((mean[-1] + gain @ (fitted.y[plane] - mean[:-1]), joint[-1, -1] - gain @ joint[:-1, -1]))
    (correction_t, variance_t), (correction_l, variance_l) = results
    return np.array([correction_t, correction_l, variance_t, variance_l])


def crossing(layer, layers, p):
    """Path, radius, azimuth and z where the track crosses a layer, None if it misses it or turns back too soon."""
    position = layers.position[layer]
    if layers.barrel[layer]:
        if position <= abs(p[2]):
            return None
        s = path_at_radius(p, np.array([position]))[0]
    else:
        if abs(p[4]) < 0.3 or (position - p[3]) / p[4] < 0:
            return None
        s = (position - p[3]) / p[4]
        if abs(CURVATURE * p[1] * s) > 1.4:
            return None
    x, y, z = points(p, np.array([s]))[0]
    if layers.barrel[layer] and abs(np.hypot(x, y) - position) > 1e-6:
        return None
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    turned = abs(wrapped(phi - p[0]))
    if turned > np.arcsin(0.95 if layers.barrel[layer] else 0.99):
        return None
    other = z if layers.barrel[layer] else r
    return (s, r, phi, z) if layers.low[layer] <= other <= layers.high[layer] else None


def missing(occupied, paths, layers, p):
    """Holes, layers crossed before the first hit, and beyond the last; occupied: set of layers with a hit."""
    crossed = {layer: crossing(layer, layers, p) for layer in range(len(layers.position))}
    free = [found[0] for layer, found in crossed.items() if found is not None and layer not in occupied]
    before, beyond = sum(s < paths[0] for s in free), sum(s > paths[-1] for s in free)
    return len(free) - before - beyond, before, beyond
