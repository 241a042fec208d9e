"""Fitted track parameters against true ones: residuals and pulls of matched candidates."""

import numpy as np
import pandas as pd

from trackbench.data.tracks import PARAMETERS, TrackParameters
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.evaluation.matching import Matching
from trackbench.geometry.detector import CURVATURE

# Columns and types of the table of residuals.
RESIDUAL_COLUMNS = {
    **dict.fromkeys(("event_id", "track_id", "particle_id"), "int64"),
    **dict.fromkeys(("pt", "eta", "vr", "chi2"), "float64"),
    "n_dof": "int64",
    **{f"{kind}_{name}": "float64" for name in PARAMETERS for kind in ("residual", "pull")},
}


def true_perigee(particles: pd.DataFrame) -> np.ndarray:
    """Propagate particles from their production to the point closest to the beam line, the perigee.

    particles: ``pt eta phi vx vy vz q`` at production, as in ``Truth.particles``
    Returns (n_particles, 5) float64 in the order and convention of ``data.tracks.PARAMETERS``.
    Exact for a helix in a uniform field along +z, without energy loss and scattering; the perigee taken is
    the one within half a turn of the production vertex.

    With v the transverse position of the vertex, t = (cos phi, sin phi) along and n = (-sin phi, cos phi)
    left of the momentum there, and the signed curvature rho = -2 C q/pT (C = ``detector.CURVATURE``, a
    positive charge turns to smaller phi), the centre of the circle is v + n / rho. The perigee lies towards
    it, so that w = rho v + n = |w| (-sin phi0, cos phi0) gives its direction phi0, and

        d0 = (|w| - 1) / rho = (rho |v|^2 + 2 v.n) / (1 + |w|),
        z0 = vz - s sinh(eta),    s = atan2(rho v.t, 1 + rho v.n) / rho  [transverse path],

    which also hold, s = v.t, without curvature.
    """
    pt, eta, phi, vx, vy, vz, q = (
        particles[name].to_numpy(np.float64) for name in ("pt", "eta", "phi", "vx", "vy", "vz", "q")
    )
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # along the beam there is no perigee
        rho = -2.0 * CURVATURE * q / pt
        along = vx * np.cos(phi) + vy * np.sin(phi)
        left = vy * np.cos(phi) - vx * np.sin(phi)
        wx, wy = rho * vx - np.sin(phi), rho * vy + np.cos(phi)
        d0 = (rho * (vx**2 + vy**2) + 2.0 * left) / (1.0 + np.hypot(wx, wy))
        turned = np.arctan2(rho * along, 1.0 + rho * left)
        path = np.where(rho == 0, along, turned / np.where(rho == 0, 1.0, rho))
        z0 = vz - path * np.sinh(eta)
        return np.column_stack([d0, z0, np.arctan2(-wx, wy), 2.0 * np.arctan(np.exp(-eta)), q / pt])


def residual_frame(match: Matching, truth: Truth, clusters: np.ndarray, parameters: TrackParameters) -> pd.DataFrame:
    """Compare the fits of matched candidates with their majority particles.

    match: from ``match_clusters``; clusters: (c,) bool, those to compare, none led by noise
    parameters: row i belongs to label i
    Returns ``RESIDUAL_COLUMNS``: residual = fitted - true (phi in (-pi, pi]), pull = residual / its fitted
    error, NaN where the fit has no positive variance; pt [GeV], eta and the transverse distance vr [mm] of
    the vertex are those at production.
    """
    labels, rows = match.labels[clusters], match.majority[clusters]
    particles = truth.particles.iloc[rows]
    fits = parameters.take(labels)
    residual = fits.to_frame(truth.event_id)[list(PARAMETERS)].to_numpy(np.float64) - true_perigee(particles)
    phi = PARAMETERS.index("phi")
    residual[:, phi] = -np.remainder(np.pi - residual[:, phi], 2 * np.pi) + np.pi
    variance = np.diagonal(fits.covariance, axis1=1, axis2=2)
    pull = residual / np.sqrt(np.where(variance > 0, variance, np.nan))
    columns = {
        "event_id": np.full(labels.size, truth.event_id, dtype=np.int64),
        "track_id": labels,
        **{name: particles[name].to_numpy() for name in ("particle_id", "pt", "eta")},
        "vr": np.hypot(particles["vx"].to_numpy(np.float64), particles["vy"].to_numpy(np.float64)),
        "chi2": fits.chi2,
        "n_dof": fits.n_dof,
    }
    for i, name in enumerate(PARAMETERS):
        columns |= {f"residual_{name}": residual[:, i], f"pull_{name}": pull[:, i]}
    return pd.DataFrame(columns)[list(RESIDUAL_COLUMNS)].astype(RESIDUAL_COLUMNS)


def check_parameters(parameters: TrackParameters, labels: np.ndarray, event_id: int) -> None:
    """Raise InputError unless every label has a row of parameters. labels: (c,) int64, ascending, >= 0."""
    if labels.size and labels[-1] >= len(parameters):
        where, what = f"track parameters of event {event_id}", f"{len(parameters)} candidates but track_id {labels[-1]}"
        raise InputError(describe(where, what, "one row for each track_id", "reconstruct the event again"))
