"""Kernels of the helix: a track in a uniform field along +z, as a function of the transverse radius.

A track is p = (phi0, k, d0, z0, c): azimuth of the momentum at the perigee (the point closest to the beam
line) [rad], q/pT [1/GeV], signed distance of the perigee [mm], its z [mm], and cot(theta). With the unit
vectors t = (cos phi0, sin phi0) along and n = (-sin phi0, cos phi0) left of the track, the perigee is d0 n and
the track, after the transverse path s, is at

    X(s) = d0 n + n (1 - cos(rho s)) / rho + t sin(rho s) / rho,    z(s) = z0 + c s,

with the curvature rho = -2 C k, C = ``detector.CURVATURE`` (a positive particle turns to smaller azimuth).
The point at radius r = |X| follows from |X - centre|^2 = 1/rho^2, centre = n (d0 + 1/rho):

    h = X . n = (d0 + rho (r^2 + d0^2) / 2) / (1 + rho d0),    phi = phi0 + asin(h / r)
    L = |X - d0 n| = sqrt((r^2 - d0^2) / (1 + rho d0)),        s = asin(rho L / 2) / (rho / 2)

No approximation is made; for d0 = 0 it is phi = phi0 - asin(C k r). Same as the circle of V. Karimaki, NIM A
305 (1991) 187, in other words.
"""

import math

import numpy as np

from trackbench.fitting.compiled import kernel
from trackbench.geometry.detector import CURVATURE

PHI0, K, D0, Z0, COT = range(5)
MAX_SINE = 0.99  # beyond, a track has nearly turned back and is no candidate
MAX_K = 10.0  # [1/GeV]; pT of 100 MeV


@kernel
def wrap(angle):
    """Bring an angle from (-3 pi, 3 pi) into [-pi, pi]."""
    if angle > math.pi:
        return angle - 2.0 * math.pi
    if angle < -math.pi:
        return angle + 2.0 * math.pi
    return angle


@kernel
def clipped(sine):
    """Limit a sine to +-MAX_SINE, so that what follows stays finite."""
    return min(max(sine, -MAX_SINE), MAX_SINE)


@kernel
def turn_sine(r, p):
    """Return h / r = sin(phi - phi0) of the track at radius r, not limited to [-1, 1]."""
    rho = -2.0 * CURVATURE * p[K]
    d0 = p[D0]
    return (d0 + 0.5 * rho * (r * r + d0 * d0)) / (r * (1.0 + rho * d0))


@kernel
def azimuth_slopes(r, sine, p):
    """Return the derivatives of r phi(r) by k and by d0, where h / r is ``sine`` (see ``turn_sine``, ``clipped``)."""
    rho = -2.0 * CURVATURE * p[K]
    d0 = p[D0]
    scale = 1.0 + rho * d0
    cosine = math.sqrt(1.0 - sine * sine)
    return -CURVATURE * (r * r - d0 * d0) / (scale * scale * cosine), (1.0 - rho * r * sine / scale) / cosine


@kernel
def azimuth_per_radius(r, sine, p):
    """Return the derivative of phi(r) by r [rad/mm], where h / r is ``sine``."""
    rho = -2.0 * CURVATURE * p[K]
    return (rho / (1.0 + rho * p[D0]) - sine / r) / math.sqrt(1.0 - sine * sine)


@kernel
def path_length(r, p):
    """Return the transverse path from the perigee to radius r [mm]; 0 inside |d0|."""
    rho = -2.0 * CURVATURE * p[K]
    chord2 = (r * r - p[D0] * p[D0]) / (1.0 + rho * p[D0])
    chord = math.sqrt(chord2) if chord2 > 0.0 else 0.0
    x = clipped(0.5 * rho * chord)
    if abs(x) < 1e-4:  # asin(x) / x = 1 + x^2 / 6 + ...
        return chord * (1.0 + x * x / 6.0)
    return chord * math.asin(x) / x


@kernel
def radius_at(path, p):
    """Return the radius of the track after the transverse path ``path`` from the perigee [mm]."""
    rho = -2.0 * CURVATURE * p[K]
    half = 0.5 * rho * path
    # The chord is path * sin(half) / half, and r^2 = L^2 (1 + rho d0) + d0^2.
    chord = path * (1.0 - half * half / 6.0) if abs(half) < 1e-4 else path * math.sin(half) / half
    return math.sqrt(chord * chord * (1.0 + rho * p[D0]) + p[D0] * p[D0])


@kernel
def crossing(layer, layers, p, point):
    """Find where a track crosses a layer's nominal cylinder or plane.

    layer: index; layers: ``tables.Layers``; p: (5,) track
    point: (4,) gets path s, radius, azimuth, z. Returns False if the track misses the layer.
    """
    position = layers.position[layer]
    if layers.barrel[layer]:
        r = position
        if r <= abs(p[D0]):
            return False
        sine = turn_sine(r, p)
        if abs(sine) > 0.95:
            return False
        s = path_length(r, p)
        z = p[Z0] + p[COT] * s
        if z < layers.low[layer] or z > layers.high[layer]:
            return False
    else:
        z = position
        if abs(p[COT]) < 0.3 or (z - p[Z0]) * p[COT] < 0.0:
            return False
        s = (z - p[Z0]) / p[COT]
        if abs(CURVATURE * p[K] * s) > 1.4:  # turned by 160 degrees
            return False
        r = radius_at(s, p)
        if r < layers.low[layer] or r > layers.high[layer]:
            return False
        sine = turn_sine(r, p)
        if abs(sine) > MAX_SINE:
            return False
    point[0], point[1], point[2], point[3] = s, r, wrap(p[PHI0] + math.asin(sine)), z
    return True


@kernel
def from_two_hits(phi1, r1, z1, phi2, r2, z2, p):
    """Set p to the track through the beam line and two hits, exact for d0 = 0 and small turning angles."""
    k = -wrap(phi2 - phi1) / (CURVATURE * (r2 - r1))
    p[K] = k
    p[PHI0] = wrap(phi1 + math.asin(clipped(CURVATURE * k * r1)))
    p[D0] = 0.0
    p[COT] = (z2 - z1) / (r2 - r1)
    p[Z0] = z1 - p[COT] * r1


@kernel
def circle(r1, phi1, r2, phi2, r3, phi3):
    """Return (k, d0) of the circle through three points, to first order: phi(r) = phi0 - C k r + d0 / r."""
    a1, b1, y1 = -CURVATURE * (r2 - r1), 1.0 / r2 - 1.0 / r1, wrap(phi2 - phi1)
    a2, b2, y2 = -CURVATURE * (r3 - r2), 1.0 / r3 - 1.0 / r2, wrap(phi3 - phi2)
    det = a1 * b2 - a2 * b1
    if abs(det) < 1e-12:
        return 1e9, 1e9
    return (y1 * b2 - y2 * b1) / det, (a1 * y2 - a2 * y1) / det


@kernel
def from_three_hits(phi1, r1, z1, phi2, r2, z2, phi3, r3, z3, p):
    """Set p to the track through three hits by increasing radius, to first order in the curvature; d0 is free."""
    k, d0 = circle(r1, phi1, r2, phi2, r3, phi3)
    limit = 0.9 * r1
    p[K], p[D0] = min(max(k, -MAX_K), MAX_K), min(max(d0, -limit), limit)
    p[PHI0] = 0.0
    p[PHI0] = wrap(phi1 - math.asin(clipped(turn_sine(r1, p))))
    s1, s3 = path_length(r1, p), path_length(r3, p)
    p[COT] = (z3 - z1) / (s3 - s1)
    p[Z0] = z1 - p[COT] * s1


def helix_points(p: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return points of a track, (n, 3) [mm], after the transverse paths s (n,): the definition, in NumPy."""
    phi0, k, d0, z0, cot = p
    t, n = np.array([np.cos(phi0), np.sin(phi0)]), np.array([-np.sin(phi0), np.cos(phi0)])
    rho = -2.0 * CURVATURE * k
    if abs(rho) < 1e-12:
        along, across = s, np.zeros_like(s)
    else:
        along, across = np.sin(rho * s) / rho, (1.0 - np.cos(rho * s)) / rho
    xy = n * (d0 + across)[:, None] + t * along[:, None]
    return np.column_stack([xy, z0 + cot * s])
