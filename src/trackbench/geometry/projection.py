"""Project pixel hits along the line to the origin onto three surfaces: a barrel cylinder and two discs.

All hits of a straight track from (0, 0, z0) fall on one point of a surface, so tracks become compact
spots: about 1 mm wide in the barrel (curvature limits u, the vertex limits w) and 0.1 x 0.4 mm on the
discs for pT > 0.9 GeV. Radius and plane only rescale the whole pattern: clusters stay the same when
every length of the clusterer scales with them.

Source: surface projection of TrackFormers Part 2 (arXiv:2509.26411), R = 91 mm and z = +-920 mm.
"""

from dataclasses import dataclass

import numpy as np

from trackbench.errors import InputError, describe
from trackbench.geometry.coordinates import azimuth, radius
from trackbench.geometry.detector import PIXEL_BARREL, PIXEL_MINUS, PIXEL_PLUS

BARREL_RADIUS = 91.0  # [mm]
DISC_Z = 920.0  # [mm]


@dataclass(frozen=True)
class Region:
    """A part of the pixel detector with a surface of its own.

    name: as written in tables; volume: TrackML volume_id; barrel: True = cylinder, False = disc
    """

    name: str
    volume: int
    barrel: bool


REGIONS = (
    Region("barrel", PIXEL_BARREL, True),
    Region("endcap-", PIXEL_MINUS, False),
    Region("endcap+", PIXEL_PLUS, False),
)


def project_to_cylinder(xyz: np.ndarray, barrel_radius: float = BARREL_RADIUS, z0: float = 0.0) -> np.ndarray:
    """Project hits along the line to (0, 0, z0) onto a cylinder around the beam line.

    xyz: (n, 3) global position [mm]; barrel_radius: [mm], > 0; z0: [mm]
    Returns (n, 2): u = R * phi in (-pi R, pi R], periodic, and w = R * (z - z0) / r [mm].
    Raises InputError if a hit lies on the beam line (r = 0).
    """
    r = radius(xyz)
    _require(r > 0, "the beam line (r = 0)", "r > 0 in the barrel")
    return np.column_stack((barrel_radius * azimuth(xyz), barrel_radius * (xyz[:, 2] - z0) / r))


def project_to_disc(xyz: np.ndarray, disc_z: float = DISC_Z, z0: float = 0.0) -> np.ndarray:
    """Project hits along the line to (0, 0, z0) onto the plane z = +-disc_z of the hit's own side.

    xyz: (n, 3) global position [mm]; disc_z: [mm], > |z0|; z0: [mm]
    Returns (n, 2): (x, y) * (Z - z0) / (z - z0) [mm].
    Raises InputError if a hit does not lie on its own side of z0.
    """
    side = np.where(xyz[:, 2] < 0, -1.0, 1.0)
    lever = xyz[:, 2] - z0
    _require(lever * side > 0, f"the wrong side of z0 = {z0:g} mm", "|z| > |z0| in the endcaps")
    return xyz[:, :2] * ((side * disc_z - z0) / lever)[:, None]


def _require(good: np.ndarray, where: str, expected: str) -> None:
    if not good.all():
        bad = np.flatnonzero(~good)
        raise InputError(describe("surface projection", f"{bad.size} hits on {where} (first row {bad[0]})", expected))


def project(
    xyz: np.ndarray,
    region: Region,
    barrel_radius: float = BARREL_RADIUS,
    disc_z: float = DISC_Z,
    z0: float = 0.0,
) -> np.ndarray:
    """Project the hits of one region onto its surface. Returns (n, 2): (u, w) [mm]; see the two above."""
    if region.barrel:
        return project_to_cylinder(xyz, barrel_radius, z0)
    return project_to_disc(xyz, disc_z, z0)


def embed_cylinder(uw: np.ndarray, barrel_radius: float = BARREL_RADIUS, w_scale: float = 1.0) -> np.ndarray:
    """Coordinates in which distances on the cylinder are Euclidean and need no care at phi = pi.

    uw: (n, 2) from ``project_to_cylinder`` [mm]; w_scale: divides w, dimensionless, > 0
    Returns (n, 3): (R cos phi, R sin phi, w / w_scale) [mm]. Distances in phi are chords: 0.005 % shorter
    than arcs at 3 mm.
    """
    phi = uw[:, 0] / barrel_radius
    return np.column_stack((barrel_radius * np.cos(phi), barrel_radius * np.sin(phi), uw[:, 1] / w_scale))


def embed_disc(uw: np.ndarray, radial_scale: float = 1.0) -> np.ndarray:
    """Coordinates in which radial distances on a disc count 1 / radial_scale times.

    Tracks are about five times narrower radially than tangentially (curvature). For small distances,
    the third coordinate rho * sqrt(1 / s^2 - 1) turns a radial step d into a distance d / s.

    uw: (n, 2) from ``project_to_disc`` [mm]; radial_scale: s in (0, 1], 1 = plain (u, w)
    Returns (n, 3) [mm].
    """
    rho = np.hypot(uw[:, 0], uw[:, 1])
    return np.column_stack((uw, rho * np.sqrt(1.0 / radial_scale**2 - 1.0)))
