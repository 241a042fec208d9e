"""The 18,728 modules of the TrackML detector from a few numbers per layer, without ACTS and without a data file.

A twin of the published ``detectors.csv`` to which the geometry of ACTS is compared. The numbers are radii, positions
along z and half lengths in mm; modules of a ring or row stand at equal angles. How modules are numbered and turned is
that of ``geometry.modules``, which other tests compare with the published table.
"""

from functools import cache

import numpy as np

from trackbench.geometry.detector import ALL_LAYERS, BARREL_VOLUMES
from trackbench.geometry.modules import disc_order

# volume: radius of the rows of layers 2, 4, ..., modules in a row, rows, distance of rows along z, and by how much
# radii of rows alternate: the first, outermost row lies further out
BARRELS = {
    8: ((32, 72, 116, 172), (16, 32, 52, 78), 14, 70.0, 0.25),
    13: ((260, 360, 500, 660), (40, 56, 78, 102), 21, 103.0, 1.5),
    17: ((820, 1020), (120, 152), 21, 103.0, 1.5),
}
# volume of the endcap at +z: |z| of its discs; then for each ring its radius, modules and how far these stand before
# or behind the disc, in turn
PIXEL_DISCS, STRIP_DISCS = (600, 700, 820, 960, 1100, 1300, 1500), (1220, 1500, 1800, 2150, 2550, 2950)
ENDCAPS = {
    9: (PIXEL_DISCS, ((66, 40, (2.5, -2.0, 2.0, -2.5)), (140, 68, (2.0, -2.0)))),
    14: (STRIP_DISCS, ((318, 54, (-1.5, -4.5)), (470, 56, (4.5, 1.5)), (622, 60, (-1.5, -4.5)))),
    18: (STRIP_DISCS, ((828, 48, (-2.5, -5.5)), (942, 50, (5.5, 2.5)))),
}
PLUS = {7: 9, 12: 14, 16: 18}  # endcap at -z: its twin at +z
# volume (of discs: and ring): half length in u at low v, at high v, half length in v
BARREL_SIZE = {8: (8.4, 8.4, 36.0), 13: (24.0, 24.0, 54.0), 17: (24.0, 24.0, 54.0)}
RING_SIZES = {
    9: ((8.4, 8.4, 36.0), (8.4, 8.4, 36.0)),
    14: ((16.4, 24.2, 78.0), (24.2, 32.2, 78.0), (32.2, 40.0, 78.0)),
    18: ((54.0, 64.2, 78.0), (66.0, 72.0, 78.0)),
}


@cache
def module_positions():
    """Return the module of each row of ``geometry.modules.module_table``, its centre and its size.

    ids: (18728, 3) volume, layer, module; centre: (18728, 3) [mm]; size: (18728, 3) half lengths [mm]
    """
    parts = [_barrel(*key) if key[0] in BARREL_VOLUMES else _disc(*key) for key in ALL_LAYERS]
    ids = [
        np.column_stack([np.tile(key, (len(part[0]), 1)), 1 + np.arange(len(part[0]))])
        for key, part in zip(ALL_LAYERS, parts, strict=True)
    ]
    centre, size = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.concatenate(ids), centre, size


def _angles(n):
    return -np.pi + (2 * np.arange(n) + 1) * np.pi / n


def _barrel(volume, layer):
    radii, counts, n_rows, step, stagger = BARRELS[volume]
    n = counts[layer // 2 - 1]
    row = np.repeat(np.arange(n_rows), n)
    r = radii[layer // 2 - 1] + np.where(row % 2, -stagger, stagger)
    azimuth = np.tile(_angles(n), n_rows)
    z = step * (row - (n_rows - 1) / 2)
    return np.column_stack([r * np.cos(azimuth), r * np.sin(azimuth), z]), np.tile(BARREL_SIZE[volume], (len(r), 1))


def _disc(volume, layer):
    plus = PLUS.get(volume, volume)
    discs, rings = ENDCAPS[plus]
    side = 1 if plus == volume else -1
    disc = (discs if side > 0 else discs[::-1])[layer // 2 - 1]
    centres, sizes = [], []
    for (radius, n, offsets), size in zip(rings, RING_SIZES[plus], strict=True):
        azimuth, z = _angles(n), side * (disc + np.resize(offsets, n))
        centres.append(np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z]))
        sizes.append(np.tile(size, (n, 1)))
    centre, size = np.concatenate(centres), np.concatenate(sizes)
    order = disc_order(centre[:, 0], centre[:, 1], volume)
    return centre[order], size[order]
