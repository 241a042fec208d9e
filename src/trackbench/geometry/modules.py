"""Orientation, thickness and cell size of the 18,728 modules of the TrackML detector, without any data file.

The modules of a ring or of a row around the beam stand at equal distances in azimuth, so a few numbers per volume
give the columns ``rot_*``, ``module_t``, ``pitch_u`` and ``pitch_v`` of the published ``detectors.csv`` (Kaggle
"TrackML Particle Tracking Challenge") to the six digits it has. Tests compare them with that table and with the one
built from the ACTS geometry (``geometry.acts_detector``), which has centres and sizes too.
"""

import functools
from typing import NamedTuple

import numpy as np

from trackbench.geometry.detector import (
    ALL_LAYERS,
    BARREL_VOLUMES,
    LONG_STRIP_VOLUMES,
    MODULES_PER_LAYER,
    PIXEL_VOLUMES,
    SHORT_STRIP_VOLUMES,
    is_known_module,
    layer_index,
)

# Barrels: modules around the beam of layers 2, 4, ..., repeated along z; how far they are turned about their own axis
# out of the direction from the beam line [rad].
_AROUND = {8: (16, 32, 52, 78), 13: (40, 56, 78, 102), 17: (120, 152)}
_TILT = {8: 0.14, 13: -0.15, 17: -0.15}
# Endcaps: modules of the rings of each disc, from the inner one outwards; the two endcaps are alike.
_RINGS = {7: (40, 68), 12: (54, 56, 60), 16: (48, 50)}
_SAME_AS = {9: 7, 14: 12, 18: 16}
_MINUS_ENDCAPS = (7, 12, 16)

_THICKNESS = {PIXEL_VOLUMES: 0.15, SHORT_STRIP_VOLUMES: 0.25, LONG_STRIP_VOLUMES: 0.35}  # module_t [mm]

# TrackML numbers the modules of a disc by azimuth in bins of equal width, and inside a bin outwards.
# Neither bin number nor offset is documented: these reproduce the published numbering of every disc
# (other pairs do so too; these keep the bin edges farthest from any module).
# (bins in 2 pi, offset of the first edge from -pi in bins)
_PIXEL_BINS, _SHORT_STRIP_BINS, _LONG_STRIP_BINS = (40, 0.0), (390, 0.15), (193, 0.83)


class Modules(NamedTuple):
    """One row per module, sorted by volume, layer, module.

    rotation: (18728, 3, 3) float64; columns u, v (in the module's plane) and w (normal) in global coordinates, so that
        global = rotation @ (u, v, w) + centre
    thickness: (18728,) float64, ``module_t`` [mm]
    pitch: (18728, 2) float64, size of a cell along u and v [mm]
    """

    rotation: np.ndarray
    thickness: np.ndarray
    pitch: np.ndarray


@functools.cache
def module_table() -> Modules:
    """Build the table, once per process (10 ms); its arrays are read-only."""
    parts = [_layer(volume, layer) for volume, layer in ALL_LAYERS]
    table = Modules(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    for array in table:
        array.flags.writeable = False
    return table


def module_row(volume_id: np.ndarray, layer_id: np.ndarray, module_id: np.ndarray) -> np.ndarray:
    """Return the row of ``module_table`` of each module, -1 where there is no such module.

    volume_id, layer_id, module_id: (n,) int
    Returns (n,) int64.
    """
    first = np.cumsum([0, *(MODULES_PER_LAYER[key] for key in ALL_LAYERS[:-1])])
    row = first[np.maximum(layer_index(volume_id, layer_id), 0)] + np.asarray(module_id, np.int64) - 1
    return np.where(is_known_module(volume_id, layer_id, module_id), row, -1)


def cell_pitch(volume_id: int) -> tuple[float, float]:
    """Size of a cell along u and v in a volume [mm]."""
    if volume_id in PIXEL_VOLUMES:
        return 0.05, 0.05625
    if volume_id in SHORT_STRIP_VOLUMES:
        return 0.08, 1.2
    return 0.12, 10.8 if volume_id in BARREL_VOLUMES else 10.4


def disc_order(x: np.ndarray, y: np.ndarray, volume_id: int) -> np.ndarray:
    """Return the order in which TrackML numbers the modules of one endcap disc.

    x, y: (n,) centres of the modules of one disc [mm]; of the distance from the beam only its order counts
    Returns (n,) int: positions, sorted by azimuth bin, then ring (outwards), then azimuth.
    """
    if volume_id in PIXEL_VOLUMES:
        bins, offset = _PIXEL_BINS
    elif volume_id in SHORT_STRIP_VOLUMES:
        bins, offset = _SHORT_STRIP_BINS
    else:
        bins, offset = _LONG_STRIP_BINS
    azimuth, ring = np.arctan2(y, x), np.round(np.hypot(x, y))
    # Four pixel modules lie exactly on a bin edge (odd multiples of 45 degrees): in the published table
    # those with x y > 0 belong to the bin above, the other two to the bin below.
    nudged = azimuth + 1e-5 * np.sin(2 * azimuth)
    return np.lexsort((azimuth, ring, np.floor((nudged / (2 * np.pi) + 0.5) * bins - offset)))


def _layer(volume: int, layer: int) -> Modules:
    rotation = _barrel_rotations(volume, layer) if volume in BARREL_VOLUMES else _disc_rotations(volume)
    n = len(rotation)
    thickness = next(value for volumes, value in _THICKNESS.items() if volume in volumes)
    return Modules(rotation, np.full(n, thickness), np.tile(cell_pitch(volume), (n, 1)))


def _barrel_rotations(volume: int, layer: int) -> np.ndarray:
    """u along the azimuth, v along z, w outwards. Returns (n, 3, 3)."""
    n_around = _AROUND[volume][layer // 2 - 1]
    azimuth = _equal_angles(n_around) + _TILT[volume]
    once = _frames(azimuth)[:, :, [1, 2, 0]]
    return np.tile(once, (MODULES_PER_LAYER[volume, layer] // n_around, 1, 1))


def _disc_rotations(volume: int) -> np.ndarray:
    """v outwards, w away from the collision, u so that the frame is right-handed. Returns (n, 3, 3)."""
    rings = _RINGS[_SAME_AS.get(volume, volume)]
    azimuth = np.concatenate([_equal_angles(n) for n in rings])
    ring = np.repeat(np.arange(1, len(rings) + 1), rings)
    azimuth = azimuth[disc_order(ring * np.cos(azimuth), ring * np.sin(azimuth), volume)]
    frames = _frames(azimuth)[:, :, [1, 0, 2]]
    away = np.array([1.0, 1.0, -1.0] if volume in _MINUS_ENDCAPS else [-1.0, 1.0, 1.0])
    return frames * away


def _equal_angles(n: int) -> np.ndarray:
    """Azimuth of n modules around the beam [rad], ascending from -pi, the first half a step above it. Returns (n,)."""
    return -np.pi + (2 * np.arange(n) + 1) * np.pi / n


def _frames(azimuth: np.ndarray) -> np.ndarray:
    """Columns: unit vectors outwards, along the azimuth, along z. azimuth: (n,) [rad]. Returns (n, 3, 3)."""
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    zero = np.zeros_like(azimuth)
    rows = ((cosine, -sine, zero), (sine, cosine, zero), (zero, zero, zero + 1))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
