"""Shape of the 48 detector layers: cylinders and disks, with the pitch of their sensors.

Facts of the published ``detectors.csv`` of the Kaggle "TrackML Particle Tracking Challenge", rounded to
0.1 mm; tests compare them with the modules of the simulated and of the real detector table.
"""

from dataclasses import dataclass

import numpy as np

from trackbench.geometry.detector import ALL_LAYERS, BARREL_VOLUMES

# volume -> (positions of layers 2, 4, ...: middle radius of a cylinder or z of a disk, half the range of it
# that the overlapping modules cover, lowest and highest z or radius, pitch in u = azimuth, pitch in v) [mm]
_PIXEL_DISKS = (600.0, 700.0, 820.0, 960.0, 1100.0, 1300.0, 1500.0)
_STRIP_DISKS = (1220.0, 1500.0, 1800.0, 2150.0, 2550.0, 2950.0)
_VOLUMES = {
    7: (tuple(-z for z in reversed(_PIXEL_DISKS)), 2.6, 30.0, 176.3, 0.05, 0.05625),
    8: ((33.0, 72.5, 116.3, 172.2), 1.5, -491.0, 491.0, 0.05, 0.05625),
    9: (_PIXEL_DISKS, 2.6, 30.0, 176.3, 0.05, 0.05625),
    12: (tuple(-z for z in reversed(_STRIP_DISKS)), 5.6, 240.0, 701.1, 0.08, 1.2),
    13: ((261.0, 360.8, 500.6, 660.4), 5.2, -1084.0, 1084.0, 0.08, 1.2),
    14: (_STRIP_DISKS, 5.6, 240.0, 701.1, 0.08, 1.2),
    16: (tuple(-z for z in reversed(_STRIP_DISKS)), 5.6, 750.0, 1022.5, 0.12, 10.4),
    17: ((820.3, 1020.3), 5.2, -1084.0, 1084.0, 0.12, 10.8),
    18: (_STRIP_DISKS, 5.6, 750.0, 1022.5, 0.12, 10.4),
}


@dataclass(frozen=True)
class LayerTable:
    """Layers as arrays, in the order of ``detector.layer_index``.

    barrel: (n,) bool, cylinder (True) or disk
    position: (n,) float64, radius of a cylinder or z of a disk [mm]
    half_depth: (n,) float64, hits lie within position +- half_depth [mm]
    low, high: (n,) float64, range of z (cylinder) or radius (disk) [mm]
    pitch_u, pitch_v: (n,) float64, sensor pitch along azimuth and along z or radius [mm]
    """

    barrel: np.ndarray
    position: np.ndarray
    half_depth: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pitch_u: np.ndarray
    pitch_v: np.ndarray


def layer_table() -> LayerTable:
    """Return the table of all 48 layers; the first 18 are the pixel layers."""
    rows = []
    for volume, layer in ALL_LAYERS:
        positions, *rest = _VOLUMES[volume]
        rows.append((volume in BARREL_VOLUMES, positions[layer // 2 - 1], *rest))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return LayerTable(*columns)
