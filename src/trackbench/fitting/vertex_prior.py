"""Where along the beam line tracks come from, learned from the tracks found so far.

Chance triplets point anywhere, tracks point to where other tracks come from. The density f of the z0 of
good tracks, smoothed by the resolution sigma of a candidate, turns this into a number on the scale of chi2,

    penalty = 2 ln(f_typical / f(z0)),   f_typical = median of f over the good tracks,

between 0 and ``MAX_PENALTY``; where collisions lie closer together than z0 is resolved it is the shape of the
beam spot that counts, else single vertices.
"""

from typing import NamedTuple

import numpy as np

from trackbench.fitting.compiled import kernel

MAX_PENALTY = 12.0
_STEP = 0.1  # of the table [mm]
_WIDTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # [mm]
_MAX_Z = 1000.0  # [mm]
_MARGIN = 4.0  # beyond the outermost track [mm]


class VertexPrior(NamedTuple):
    """Penalty as a table.

    penalty: (n_widths, n) by smoothing width and z; widths: (n_widths,) [mm]; start, step: of the z axis [mm]
    """

    penalty: np.ndarray
    widths: np.ndarray
    start: float
    step: float


def no_prior() -> VertexPrior:
    """Return a prior that never penalises."""
    return VertexPrior(np.zeros((1, 1)), np.array([1.0]), -1e9, 2e9)


def vertex_prior(z0: np.ndarray) -> VertexPrior:
    """Build the prior from the z0 of good tracks, (n,) [mm], those within ``_MAX_Z``; below 20 there is no penalty."""
    z0 = z0[np.abs(z0) < _MAX_Z]
    if z0.size < 20:
        return no_prior()
    start = np.floor(z0.min() - _MARGIN)
    n = int(np.ceil((z0.max() + _MARGIN - start) / _STEP))
    at = np.clip(((z0 - start) / _STEP).astype(np.int64), 0, n - 1)
    count = np.bincount(at, minlength=n).astype(np.float64)
    rows = []
    for width in _WIDTHS:
        reach = int(np.ceil(4.0 * width / _STEP))
        offset = np.arange(-reach, reach + 1) * _STEP
        shape = np.exp(-0.5 * (offset / width) ** 2)
        density = np.convolve(count, shape / shape.sum())[reach:-reach]
        typical = np.median(density[at])
        rows.append(np.clip(2.0 * np.log(typical / np.maximum(density, 1e-9)), 0.0, MAX_PENALTY))
    return VertexPrior(np.array(rows), np.array(_WIDTHS), start, _STEP)


@kernel
def vertex_penalty(z0, sigma, prior):
    """Return the penalty of a candidate with z0 +- sigma [mm]."""
    row = 0
    while row < prior.widths.size - 1 and prior.widths[row] < sigma:
        row += 1
    column = int((z0 - prior.start) / prior.step)
    return prior.penalty[row, min(max(column, 0), prior.penalty.shape[1] - 1)]
