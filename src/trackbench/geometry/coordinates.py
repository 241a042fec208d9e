"""Coordinates of hits and particles. Lengths in mm, momenta in GeV, angles in rad."""

import numpy as np


def radius(xyz: np.ndarray) -> np.ndarray:
    """Transverse radius r = sqrt(x^2 + y^2). xyz: (n, 3). Returns (n,)."""
    return np.hypot(xyz[:, 0], xyz[:, 1])


def azimuth(xyz: np.ndarray) -> np.ndarray:
    """Azimuth phi in (-pi, pi]. xyz: (n, 3). Returns (n,)."""
    return np.arctan2(xyz[:, 1], xyz[:, 0])


def pseudorapidity(xyz: np.ndarray) -> np.ndarray:
    """Pseudorapidity eta = arcsinh(z / r); +-inf on the beam line, 0 at the origin.

    xyz: (n, 3) position [mm] or momentum [GeV]. Returns (n,).
    """
    r, z = radius(xyz), xyz[:, 2]
    on_axis = np.where(z > 0, np.inf, np.where(z < 0, -np.inf, 0.0))
    return np.where(r > 0, np.arcsinh(z / np.where(r > 0, r, 1.0)), on_axis)


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """Map an angle to (-pi, pi]."""
    return np.pi - np.mod(np.pi - np.asarray(angle), 2 * np.pi)
