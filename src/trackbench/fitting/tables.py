"""What the kernels work on: sorted hits, layers, the model's constants, and scratch space."""

from typing import NamedTuple

import numpy as np

MAX_HITS = 24  # of a candidate
NO_GAP_LIMIT = 99
PIPE_RADIUS = 22.0  # radius where the beam pipe scatters [mm]


class SortedHits(NamedTuple):
    """Hits sorted by layer and, within a layer, by azimuth.

    r, phi, z: (n,) float64 [mm, rad, mm]; layer: (n,) int64, index into ``Layers``
    first: (n_layers + 1,) int64, the hits of layer l are first[l] .. first[l + 1] - 1
    by_v: (n,) int64, the same hits sorted within a layer by v = z (cylinder) or r (disk) [mm]; v: (n,) float64,
    that coordinate in this order
    """

    r: np.ndarray
    phi: np.ndarray
    z: np.ndarray
    layer: np.ndarray
    first: np.ndarray
    by_v: np.ndarray
    v: np.ndarray


class Layers(NamedTuple):
    """Layers for the kernels; see ``geometry.layers.LayerTable``.

    thickness: (n,) material of a layer in radiation lengths, at normal incidence
    sigma_t, sigma_l: (n,) resolution along azimuth and along z (cylinder) or radius (disk) [mm]
    sharing: (n,) cells a track of slope 1 crosses in that direction, 0 = resolution independent of the slope
    """

    barrel: np.ndarray
    position: np.ndarray
    half_depth: np.ndarray
    low: np.ndarray
    high: np.ndarray
    thickness: np.ndarray
    sigma_t: np.ndarray
    sigma_l: np.ndarray
    sharing: np.ndarray


class Model(NamedTuple):
    """Constants of the fit.

    sigma_d0, sigma_k: widths of the priors, mean 0 [mm, 1/GeV]; pipe: radiation lengths of the beam pipe
    prune_chi2: largest contribution of a hit to chi2; attach_chi2: largest chi2 of a hit that is added on a
    new layer; overlap_chi2: the same on a layer that has one; max_window: half-width of a search [mm]
    max_gap: crossed layers without a hit after which outer hits are not believed
    """

    sigma_d0: float
    sigma_k: float
    pipe: float
    prune_chi2: float
    attach_chi2: float
    overlap_chi2: float
    max_window: float
    max_gap: int = NO_GAP_LIMIT


class Work(NamedTuple):
    """Scratch space and result of a fit of n hits; T = transverse, L = longitudinal. One per thread.

    weight_t, weight_l: (n, n) inverse covariance; jac_t: (n, 3) derivatives of the prediction by (phi0, k, d0)
    jac_l: (n, 2) by (z0, cot); res_t, res_l: (n,) residuals after the fit, then weight @ residual
    path: (n,) transverse path of each hit; sum0, sum1, sum2: (n + 1,) scattering sums, see ``gls``
    contribution: (n,) chi2 of each hit; cov_t: (3, 3), cov_l: (2, 2) covariance of the parameters
    """

    weight_t: np.ndarray
    weight_l: np.ndarray
    lower: np.ndarray
    jac_t: np.ndarray
    jac_l: np.ndarray
    res_t: np.ndarray
    res_l: np.ndarray
    path: np.ndarray
    sum0: np.ndarray
    sum1: np.ndarray
    sum2: np.ndarray
    contribution: np.ndarray
    cov_t: np.ndarray
    cov_l: np.ndarray
    scratch: np.ndarray
    point: np.ndarray


def new_work() -> Work:
    """Return scratch space for candidates of up to ``MAX_HITS`` hits, and those being added."""
    n = 2 * MAX_HITS
    square = [np.zeros((n, n)) for _ in range(3)]
    vectors = [np.zeros(n + 1) for _ in range(7)]
    return Work(
        *square, np.zeros((n, 3)), np.zeros((n, 2)), *vectors, np.zeros((3, 3)), np.zeros((2, 2)), np.zeros((4, n)),
        np.zeros(4),
    )  # fmt: skip
