"""What a regression head learns for each hit: the parameters of the particle that made it.

Source: the four outputs of EncReg (theta, sin phi, cos phi, q; "Trackformers", arXiv:2407.07179). Differs from its
public loader, which computes theta and phi from z-scored momentum components: here both are the physical angles of
the momentum at production.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.trackers.layers.network_config import PT_SCALE

KINDS = ("charge", "q_over_pt")
N_TARGETS = 4

CURVATURE_LIMIT = 2.0  # q / (PT_SCALE pT) is clipped here, at pT = 0.2 GeV, or the slowest particles rule the loss


class Momenta(NamedTuple):
    """Momenta at production of m particles: (m,) arrays. pt [GeV], phi [rad], q [e]; all that training needs."""

    particle_id: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    q: np.ndarray

    @classmethod
    def of(cls, particles: pd.DataFrame, rows: np.ndarray | slice = slice(None)) -> "Momenta":
        """Take them from some rows of ``Truth.particles``.

        Raises InputError for particles without charge or without positive pT, which have no helix.
        """
        found = cls(*(particles[name].to_numpy()[rows] for name in cls._fields))
        _require(found.q != 0, found, "no charge")
        _require((found.pt > 0) & np.isfinite(found.pt), found, "no positive finite pt")
        return found

    @property
    def theta(self) -> np.ndarray:
        """Angle to +z, 2 atan(exp(-eta)) [rad]."""
        # exp overflows beyond |eta| = 700 only, where the angle is 0 or pi to any accuracy.
        return 2 * np.arctan(np.exp(np.clip(-self.eta.astype(np.float64), -700, 700)))

    @property
    def p(self) -> np.ndarray:
        """Absolute momentum [GeV]."""
        return self.pt * np.cosh(self.eta)

    def targets(self, kind: str) -> np.ndarray:
        """Targets, see ``particle_targets``. Returns (m, 4) float32."""
        if kind not in KINDS:
            raise ConfigError(describe("network.targets", f"value {kind!r}", " or ".join(KINDS)))
        fourth = self.q if kind == "charge" else _scaled_curvature(self)
        return np.column_stack((self.theta, np.sin(self.phi), np.cos(self.phi), fourth)).astype(np.float32)


def hit_targets(truth: Truth, kind: str) -> np.ndarray:
    """Targets of every hit of one event.

    kind: "charge" or "q_over_pt", see ``particle_targets``
    Returns (n, 4) float32 in the order of the hits; NaN for noise.
    Raises ConfigError for an unknown kind, InputError for a hit of a particle that is not in the table or has no
    charge or pT.
    """
    momenta, number = hit_momenta(truth)
    return of_hits(momenta.targets(kind), number, np.nan)


def particle_targets(particles: pd.DataFrame, kind: str) -> np.ndarray:
    """Targets of particles: theta, sin phi, cos phi and the charge or curvature, all at production.

    particles: rows of ``Truth.particles``
    kind: "charge" = q in units of e, the sign of positive charges being +; "q_over_pt" = q / (2.5 pT) with pT in
        GeV, clipped to +-2
    Returns (m, 4) float32: theta [rad] in [0, pi], measured from +z; sin and cos of phi = atan2(py, px).
    Raises ConfigError for an unknown kind, InputError for particles without charge or pT.
    """
    return Momenta.of(particles).targets(kind)


def hit_momenta(truth: Truth) -> tuple[Momenta, np.ndarray]:
    """Momenta of the particles with hits, by particle_id, and for each hit the number of its particle among them.

    The numbers are (n,) int64, -1 = noise. Raises InputError as ``hit_targets`` does.
    """
    row = particle_rows(truth)
    has_hit = np.bincount(row + 1, minlength=len(truth.particles) + 1)[1:] > 0
    number = np.cumsum(has_hit) - 1
    return Momenta.of(truth.particles, np.flatnonzero(has_hit)), of_hits(number, row, -1)


def of_hits(values: np.ndarray, number: np.ndarray, noise: float) -> np.ndarray:
    """Copy values of particles to their hits.

    values: (m, ...); number: (n,) int, particle of each hit, -1 = noise; noise: what noise gets
    Returns (n, ...) of the type of ``values``.
    """
    blank = np.full((1, *values.shape[1:]), noise, dtype=values.dtype)
    return np.concatenate((values, blank))[number]  # -1 is the blank


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


def _scaled_curvature(momenta: Momenta) -> np.ndarray:
    return np.clip(momenta.q / (PT_SCALE * momenta.pt), -CURVATURE_LIMIT, CURVATURE_LIMIT)


def _require(good: np.ndarray, momenta: Momenta, what: str) -> None:
    if not good.all():
        example = momenta.particle_id[~good][0]
        what = f"{what} for {np.count_nonzero(~good)} particles (first {example})"
        raise InputError(describe("training truth", what, "charged particles with pt > 0 GeV"))
