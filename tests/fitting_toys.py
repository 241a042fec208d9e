"""Layers, random tracks and their hits for the tests of the helix fit."""

from itertools import pairwise

import numpy as np
from naive_fitting import Measured, crossing, path_at_radius, points

from trackbench.fitting.tables import MAX_HITS, Layers, Model, SortedHits
from trackbench.geometry.detector import CURVATURE
from trackbench.geometry.layers import layer_table

N_PIXEL = 18
BARREL = (7, 8, 9, 10)  # indices of the pixel layers, volumes 7, 8, 9 in turn
DISKS_PLUS = tuple(range(11, 18))

# These cross the seven disks at z > 0 and nothing else, and each other on the first disk, at 38 mm.
FORWARD = np.array([0.4, 0.5, 0.0, 2.0, np.sinh(3.45)])
OTHER = np.array([0.4 - CURVATURE * 0.8 * (600.0 - 2.0) / np.sinh(3.45), -0.3, 0.0, 2.0, np.sinh(3.45)])


def pixel_layers(sigma_t=0.015, sigma_l=0.018, thickness=0.02, sharing=0.2) -> Layers:
    """Return the 18 pixel layers with equal material [radiation lengths] and resolutions [mm]."""
    table = layer_table()
    shape = (table.barrel, table.position, table.half_depth, table.low, table.high)
    columns = [column[:N_PIXEL].copy() for column in shape]
    return Layers(*columns, *(np.full(N_PIXEL, value) for value in (thickness, sigma_t, sigma_l, sharing)))


def model(**changes) -> Model:
    """Return the usual constants of the fit, some changed."""
    usual = dict(
        sigma_d0=0.02, sigma_k=3.0, pipe=0.006, prune_chi2=20.0, attach_chi2=16.0, overlap_chi2=12.0, max_window=8.0
    )
    return Model(**{**usual, **changes})


def random_track(rng, pt=(0.3, 100.0), eta=(-3.5, 3.5), max_d0=0.05) -> np.ndarray:
    """Draw a track of either charge, log-uniform in pT [GeV], uniform in the rest."""
    k = rng.choice([-1.0, 1.0]) / np.exp(rng.uniform(*np.log(pt)))
    phi0, d0, z0 = rng.uniform(-np.pi, np.pi), rng.uniform(-max_d0, max_d0), rng.uniform(-15, 15)
    return np.array([phi0, k, d0, z0, np.sinh(rng.uniform(*eta))])


def crossed_layers(p, layers) -> list[int]:
    """Return the layers that a track crosses, by increasing path."""
    found = {layer: crossing(layer, layers, p) for layer in range(len(layers.position))}
    return sorted((layer for layer in found if found[layer] is not None), key=lambda layer: found[layer][0])


def track_hits(p, layers, on=None, rng=None, smear=0.0) -> Measured:
    """Return hits of a track on the layers ``on`` (default: all it crosses), by increasing radius.

    With ``rng``, modules lie anywhere within the depth of their layer, and hits off the track by ``smear`` [mm].
    """
    index = np.array(crossed_layers(p, layers) if on is None else on, dtype=np.int64)
    rng = rng or np.random.default_rng(0)
    depth = rng.uniform(-0.9, 0.9, len(index)) * layers.half_depth[index]
    surface = layers.position[index] + depth
    barrel = layers.barrel[index]
    s = path_at_radius(p, np.where(barrel, surface, 1.0))
    s[~barrel] = (surface[~barrel] - p[3]) / p[4]
    x, y, z = points(p, s).T
    r = np.hypot(x, y)
    phi = np.arctan2(y, x) + rng.normal(0, smear, len(index)) / r
    z = z + rng.normal(0, smear, len(index))
    order = np.argsort(r)
    return Measured(*(column[order] for column in (r, np.arctan2(np.sin(phi), np.cos(phi)), z, index)))


def true_hits(p=FORWARD, on=None, seed=0) -> Measured:
    """Return hits of a track about as well measured as the layers are."""
    return track_hits(p, pixel_layers(), on, np.random.default_rng(seed), smear=0.012)


def shifted(hits, i, across=0.0, along=0.0) -> Measured:
    """Return the hits with one moved by so many mm in azimuth and z."""
    phi, z = hits.phi.copy(), hits.z.copy()
    phi[i] += across / hits.r[i]
    z[i] += along
    return hits._replace(phi=phi, z=z)


def noise_hits(rng, layers, n) -> Measured:
    """Return n hits anywhere on the layers."""
    on = rng.integers(len(layers.position), size=n)
    surface = layers.position[on] + rng.uniform(-0.9, 0.9, n) * layers.half_depth[on]
    other = rng.uniform(layers.low[on], layers.high[on])
    barrel = layers.barrel[on]
    r, z = np.where(barrel, surface, other), np.where(barrel, other, surface)
    return Measured(r, rng.uniform(-np.pi, np.pi, n), z, on)


def together(*groups) -> tuple[SortedHits, list[np.ndarray]]:
    """Sort the hits of several groups as the kernels want them; also return where each group's hits are now."""
    r, phi, z, layer = (np.concatenate(column) for column in zip(*groups, strict=True))
    order = np.lexsort((phi, layer))
    barrel = layer_table().barrel[layer[order]]
    v = np.where(barrel, z[order], r[order])
    by_v = np.lexsort((v, layer[order]))
    first = np.searchsorted(layer[order], np.arange(N_PIXEL + 1))
    hits = SortedHits(r[order], phi[order], z[order], layer[order].astype(np.int64), first, by_v, v[by_v])
    place = np.argsort(order)
    edges = np.cumsum([0] + [len(group.r) for group in groups])
    return hits, [place[low:high] for low, high in pairwise(edges)]


def candidate(*rows) -> np.ndarray:
    """Return an index array with room for what the kernels add, beginning with the hits given."""
    index = np.zeros(2 * MAX_HITS, np.int64)
    hits = np.concatenate([np.atleast_1d(row) for row in rows]).astype(np.int64)
    index[: len(hits)] = hits
    return index
