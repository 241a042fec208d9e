"""Modules that are not where reconstruction believes them to be.

Every module measures its hits displaced by one vector in its own plane, the same in all events. Shifts
along the normal, rotations and common movements of whole layers are not modelled.
"""

import numpy as np

from trackbench.simulation.digitisation import Modules

_EVENT, _STAGE = 0, 5  # a stream of its own: the stages of event 0 use [seed, 0, 0] to [seed, 0, 4]


def module_shifts(n_modules: int, width: float, seed: int) -> np.ndarray:
    """Draw the displacement of every module.

    width: standard deviation along each local axis [mm]
    Returns (n_modules, 2) float, displacement along u and v [mm]. The same seed with another width gives
    the same pattern, scaled.
    """
    return width * np.random.default_rng([seed, _EVENT, _STAGE]).standard_normal((n_modules, 2))


def displace(modules: Modules, module: np.ndarray, xyz: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Displace measured hits with their modules.

    module: (n,) int row of the detector table; xyz: (n, 3) global position [mm]; shifts: ``module_shifts``
    Returns (n, 3) global position [mm].
    """
    plane = modules.rotation[module][:, :, :2]  # (n, 3, 2): local axes u and v in global coordinates
    return xyz + np.matmul(plane, shifts[module][:, :, None])[:, :, 0]
