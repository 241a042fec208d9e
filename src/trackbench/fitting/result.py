"""From fitted candidates to the track parameters that trackers return."""

import numpy as np

from trackbench.data.tracks import TrackParameters
from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import COT, D0, PHI0, Z0, K

# d0 of the returned parameters is not pulled to the beam line: it is what tells displaced tracks. The prior keeps
# the fit regular and adds less than 0.1 to chi2 for |d0| < 60 mm.
FREE_D0 = 200.0  # [mm]


@kernel
def final_fits(rows, store, hits, layers, model, work, tracks, cov_t, cov_l, chi2):
    """Fit candidates of ``store`` once more with the constants ``model``, and keep the covariances."""
    for i in range(rows.size):
        row = rows[i]
        for a in range(5):  # element by element: rows assigned as a whole take seconds longer to compile
            tracks[i, a] = store.tracks[row, a]
        chi2[i] = fit(store.hits[row], store.n_hits[row], hits, layers, model, tracks[i], work, np.int64(3))
        for a in range(3):
            for b in range(3):
                cov_t[i, a, b] = work.cov_t[a, b]
        for a in range(2):
            for b in range(2):
                cov_l[i, a, b] = work.cov_l[a, b]


def track_parameters(rows: np.ndarray, store, hits, layers, model, work) -> TrackParameters:
    """Return the parameters of the candidates ``rows`` (m,) of a ``competition.Store``, d0 left free.

    n_dof is 2 hits - 5; theta has the variance sin^4(theta) var(cot theta).
    """
    m = len(rows)
    tracks, chi2 = np.empty((m, 5)), np.empty(m)
    cov_t, cov_l = np.empty((m, 3, 3)), np.empty((m, 2, 2))
    final_fits(rows, store, hits, layers, model._replace(sigma_d0=FREE_D0), work, tracks, cov_t, cov_l, chi2)
    theta = np.arctan2(1.0, tracks[:, COT])
    phi = np.where(tracks[:, PHI0] <= -np.pi, np.pi, tracks[:, PHI0])
    values = np.column_stack([tracks[:, D0], tracks[:, Z0], phi, theta, tracks[:, K]])
    covariance = np.zeros((m, 5, 5))
    place = (2, 4, 0)  # of (phi0, k, d0) among the parameters
    for i, a in enumerate(place):
        for j, b in enumerate(place):
            covariance[:, a, b] = cov_t[:, i, j]
    slope = -(np.sin(theta) ** 2)  # d theta / d cot(theta)
    covariance[:, 1, 1] = cov_l[:, 0, 0]
    covariance[:, 1, 3] = covariance[:, 3, 1] = cov_l[:, 0, 1] * slope
    covariance[:, 3, 3] = cov_l[:, 1, 1] * slope**2
    n_dof = 2 * store.n_hits[rows] - 5
    return TrackParameters(values, covariance, chi2, n_dof, store.holes[rows])
