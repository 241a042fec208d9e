"""What a regression head learns for each hit: the parameters of the particle that made it.

Source: the four outputs of EncReg (trackformers.md: theta, sin phi, cos phi, q). Differs from its public loader,
which computes theta and phi from z-scored momentum components: here both are the physical angles of the momentum
at production.
"""

import numpy as np
import pandas as pd

from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe

KINDS = ("charge", "q_over_pt")
N_TARGETS = 4

PT_SCALE = 2.5  # the fourth target is q / (2.5 pT), so that pT = 0.4 GeV gives +-1, as far apart as the charges
CURVATURE_LIMIT = 2.0  # and is clipped here, at pT = 0.2 GeV, or the slowest particles rule the loss


def hit_targets(truth: Truth, kind: str) -> np.ndarray:
    """Targets of every hit of one event.

    kind: "charge" or "q_over_pt", see ``particle_targets``
    Returns (n, 4) float32 in the order of the hits; NaN for noise.
    Raises ConfigError for an unknown kind, InputError for a hit of a particle that is not in the table or has no
    charge or pT.
    """
    row = particle_rows(truth)
    used, place = np.unique(row[row >= 0], return_inverse=True)
    found = np.full((len(row), N_TARGETS), np.nan, dtype=np.float32)
    found[row >= 0] = particle_targets(truth.particles.iloc[used], kind)[place]
    return found


def particle_targets(particles: pd.DataFrame, kind: str) -> np.ndarray:
    """Targets of particles: theta, sin phi, cos phi and the charge or curvature, all at production.

    particles: rows of ``Truth.particles``
    kind: "charge" = q in units of e, the sign of positive charges being +; "q_over_pt" = q / (2.5 pT) with pT in
        GeV, clipped to +-2
    Returns (m, 4) float32: theta [rad] in [0, pi], measured from +z; sin and cos of phi = atan2(py, px).
    Raises ConfigError for an unknown kind, InputError for particles without charge or pT.
    """
    if kind not in KINDS:
        raise ConfigError(describe("network.targets", f"value {kind!r}", " or ".join(KINDS)))
    pt, phi, q = (particles[name].to_numpy(np.float64) for name in ("pt", "phi", "q"))
    _require(q != 0, particles, "no charge")
    _require((pt > 0) & np.isfinite(pt), particles, "no positive finite pt")
    fourth = q if kind == "charge" else np.clip(q / (PT_SCALE * pt), -CURVATURE_LIMIT, CURVATURE_LIMIT)
    return np.column_stack((polar_angle(particles), np.sin(phi), np.cos(phi), fourth)).astype(np.float32)


def polar_angle(particles: pd.DataFrame) -> np.ndarray:
    """Angle of the momentum to +z, 2 atan(exp(-eta)) [rad]. Returns (m,) float64."""
    # exp(-eta) overflows beyond |eta| = 700 only, where the angle is 0 or pi to any accuracy.
    return 2 * np.arctan(np.exp(np.clip(-particles["eta"].to_numpy(np.float64), -700, 700)))


def particle_rows(truth: Truth) -> np.ndarray:
    """Row of ``truth.particles`` of each hit, -1 = noise. Returns (n,) int64.

    Raises InputError for a hit of a particle that is not in the table.
    """
    known = truth.particles["particle_id"].to_numpy(np.int64)
    row = np.searchsorted(known, truth.particle_id)
    real = truth.particle_id > 0
    missing = real & (np.append(known, -1)[row] != truth.particle_id)
    if missing.any():
        example = truth.particle_id[missing][0]
        where = f"event {truth.event_id}"
        raise InputError(describe(where, f"hits of particle {example}", "particles of the table", "prepare it again"))
    return np.where(real, row, -1)


def _require(good: np.ndarray, particles: pd.DataFrame, what: str) -> None:
    if not good.all():
        example = particles["particle_id"].to_numpy()[~good][0]
        what = f"{what} for {np.count_nonzero(~good)} particles with hits (first {example})"
        raise InputError(describe("training targets", what, "charged particles with pt > 0 GeV"))
