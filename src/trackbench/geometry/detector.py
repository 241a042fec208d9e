"""The TrackML detector (the ACTS generic detector): volumes, layers and module counts.

Numbers are facts of the published ``detectors.csv`` of the Kaggle "TrackML Particle Tracking
Challenge": 18,728 modules in nine volumes, numbered 1..n within each layer.
"""

import numpy as np

FIELD_T = 2.0  # solenoid field along +z [T]
# A particle of transverse momentum pT moves on a circle of radius R = pT / (0.299792458 B) m; the sine of half
# the angle it turns on the way from the beam line to radius r is r / (2 R) = CURVATURE * |q/pT| * r.
CURVATURE = 0.299792458 * FIELD_T / 2000.0  # [1/mm per 1/GeV]

PIXEL_BARREL, PIXEL_MINUS, PIXEL_PLUS = 8, 7, 9
PIXEL_VOLUMES = (7, 8, 9)
SHORT_STRIP_VOLUMES = (12, 13, 14)
LONG_STRIP_VOLUMES = (16, 17, 18)
VOLUMES = PIXEL_VOLUMES + SHORT_STRIP_VOLUMES + LONG_STRIP_VOLUMES
BARREL_VOLUMES = (8, 13, 17)

# volume_id -> number of modules of layers 2, 4, 6, ...
_MODULES = {
    7: (108,) * 7,
    8: (224, 448, 728, 1092),
    9: (108,) * 7,
    12: (170,) * 6,
    13: (840, 1176, 1638, 2142),
    14: (170,) * 6,
    16: (98,) * 6,
    17: (2520, 3192),
    18: (98,) * 6,
}

# (volume_id, layer_id) -> number of modules; module_id runs from 1 to this number.
MODULES_PER_LAYER: dict[tuple[int, int], int] = {
    (volume, 2 * (i + 1)): n for volume, counts in _MODULES.items() for i, n in enumerate(counts)
}
N_MODULES = sum(MODULES_PER_LAYER.values())  # 18,728

# Layers in (volume, layer) order: pixel layers are 0..17 when only pixel volumes are used.
PIXEL_LAYERS = tuple(key for key in sorted(MODULES_PER_LAYER) if key[0] in PIXEL_VOLUMES)
ALL_LAYERS = tuple(sorted(MODULES_PER_LAYER))

_LAYER_TABLE = np.full((32, 32), -1, dtype=np.int64)
for _index, (_volume, _layer) in enumerate(ALL_LAYERS):
    _LAYER_TABLE[_volume, _layer] = _index


def layer_index(volume_id: np.ndarray, layer_id: np.ndarray) -> np.ndarray:
    """Number each (volume, layer) pair 0..47, in (volume, layer) order; -1 if there is no such layer.

    volume_id, layer_id: (n,) int
    Returns (n,) int64. The pixel layers are 0..17.
    """
    volume, layer = np.asarray(volume_id, np.int64), np.asarray(layer_id, np.int64)
    inside = (volume >= 0) & (volume < 32) & (layer >= 0) & (layer < 32)
    return np.where(inside, _LAYER_TABLE[np.where(inside, volume, 0), np.where(inside, layer, 0)], -1)


def mirrored_layers(volume_id: np.ndarray, layer_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where layers come to lie in a mirror at z = 0: endcaps change places, barrels and unknown volumes stay.

    volume_id, layer_id: (n,) int
    Returns both, (n,) int64. Layers of an endcap are numbered along z, so that the first one becomes the last.
    """
    volume, layer = np.asarray(volume_id, np.int64).copy(), np.asarray(layer_id, np.int64).copy()
    for minus, plus in ((7, 9), (12, 14), (16, 18)):
        here = (volume_id == minus) | (volume_id == plus)
        layer[here] = 2 * (len(_MODULES[plus]) + 1) - layer[here]
        volume[here] = minus + plus - volume[here]
    return volume, layer


def is_known_module(volume_id: np.ndarray, layer_id: np.ndarray, module_id: np.ndarray) -> np.ndarray:
    """Tell which (volume, layer, module) triples exist in the detector. Returns (n,) bool."""
    index = layer_index(volume_id, layer_id)
    count = np.array([MODULES_PER_LAYER[key] for key in ALL_LAYERS])[np.maximum(index, 0)]
    module = np.asarray(module_id, np.int64)
    return (index >= 0) & (module >= 1) & (module <= count)


def is_pixel(volume_id: np.ndarray) -> np.ndarray:
    """Tell which hits are in the pixel volumes 7, 8, 9. Returns (n,) bool."""
    return np.isin(volume_id, PIXEL_VOLUMES)
