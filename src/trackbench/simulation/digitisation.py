"""Turn true hits into cells and measured positions, with TrackML's conventions.

Each hit is a straight segment through its module; the cells it crosses carry the path length (pixels) or
1 (strips), and the measured position is their mean. One particle per hit, no merging. Not modelled: the
Lorentz drift of real barrel modules. Checked by digitising the true hits of a real event again.
"""

from dataclasses import dataclass

import numpy as np

from trackbench.geometry.acts_detector import ROTATION_COLUMNS, Detector
from trackbench.geometry.detector import BARREL_VOLUMES, is_pixel

VALUE_SPREAD = 0.05  # relative noise of a pixel's value
MAX_LENGTH = 5.0  # longest segment along one axis [mm]
MIN_CELL = 1e-9  # cells shorter than this part of the segment are rounding


@dataclass(frozen=True)
class Clusters:
    """Measured hits and their cells.

    xyz: (n, 3) measured global position [mm]
    hit: (n_cells,) int64 index of the hit, ascending
    ch0, ch1: (n_cells,) int64 cell numbers along u and v
    value: (n_cells,) float64, path length [mm] in pixels, 1 in strips
    """

    xyz: np.ndarray
    hit: np.ndarray
    ch0: np.ndarray
    ch1: np.ndarray
    value: np.ndarray


class Modules:
    """The columns of the detector table as arrays, one row per module."""

    def __init__(self, detector: Detector):
        table = detector.table
        self.volume_id = table["volume_id"].to_numpy()
        self.layer_id = table["layer_id"].to_numpy()
        self.module_id = table["module_id"].to_numpy()
        self.rotation = table[ROTATION_COLUMNS].to_numpy().reshape(-1, 3, 3)
        self.centre = table[["cx", "cy", "cz"]].to_numpy()
        self.pitch = table[["pitch_u", "pitch_v"]].to_numpy()
        self.half = table[["module_maxhu", "module_hv"]].to_numpy()
        self.min_half_u = table["module_minhu"].to_numpy()
        self.cells = np.rint(2 * self.half / self.pitch).astype(np.int64)
        self.pixel = is_pixel(self.volume_id)
        # module_t is half of the path seen in the cells of real endcap modules, all of it in barrels.
        in_barrel = np.isin(self.volume_id, BARREL_VOLUMES)
        self.thickness = table["module_t"].to_numpy() * np.where(in_barrel, 1.0, 2.0)

    def to_global(self, module: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Turn points in module planes (n, 2) [mm] into global ones (n, 3)."""
        plane = self.rotation[module][:, :, :2]  # (n, 3, 2)
        return np.matmul(plane, local[:, :, None])[:, :, 0] + self.centre[module]

    def to_local(self, module: np.ndarray, vectors: np.ndarray, are_points: bool) -> np.ndarray:
        """Turn global points or directions (n, 3) into local ones (n, 3)."""
        if are_points:
            vectors = vectors - self.centre[module]
        return np.matmul(vectors[:, None, :], self.rotation[module])[:, 0, :]


def digitise(
    modules: Modules, module: np.ndarray, position: np.ndarray, momentum: np.ndarray, rng: np.random.Generator
) -> Clusters:
    """Digitise hits.

    module: (n,) int row of the detector table; position: (n, 3) true position [mm];
    momentum: (n, 3), only its direction counts
    Cost O(n_cells log n_cells).
    """
    point = modules.to_local(module, position, are_points=True)
    direction = modules.to_local(module, momentum, are_points=False)
    thickness = modules.thickness[module]
    slope = direction[:, :2] / np.maximum(np.abs(direction[:, 2:]), 1e-9)
    length = np.clip(thickness[:, None] * slope, -MAX_LENGTH, MAX_LENGTH)  # (n, 2)
    path = np.sqrt(thickness**2 + (length**2).sum(axis=1))
    # In units of cells from the module's corner: entry point and extent of the segment.
    extent = length / modules.pitch[module]
    entry = (point[:, :2] + modules.half[module]) / modules.pitch[module] - extent / 2
    hit, fraction, cell = _crossed_cells(entry, extent, modules.cells[module])
    value = fraction * path[hit]
    pixel = modules.pixel[module][hit]
    value = np.where(pixel, np.maximum(value * rng.normal(1.0, VALUE_SPREAD, len(value)), 1e-4), 1.0)
    total = np.bincount(hit, value, len(module))
    mean = np.stack([np.bincount(hit, value * cell[:, axis], len(module)) for axis in (0, 1)], axis=1)
    local = (mean / np.maximum(total, 1e-12)[:, None] + 0.5) * modules.pitch[module] - modules.half[module]
    return Clusters(modules.to_global(module, local), hit, cell[:, 0], cell[:, 1], value)


def _crossed_cells(
    entry: np.ndarray, extent: np.ndarray, n_cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the cells that segments cross.

    entry, extent: (n, 2) start and length in cells; n_cells: (n, 2) int, cells of the module
    Returns per crossed cell, in the order of the hits and along the segment: hit index (m,), part of the
    segment inside (m,), cell numbers (m, 2). What lies outside a module counts for its edge cells.
    """
    n = len(entry)
    # Where segment h crosses a cell boundary, at part s of its length, the number h + s is a key; its start
    # is the key h. Sorted, consecutive keys enclose one cell each: a single sort for all hits.
    keys = [np.arange(n, dtype=np.float64)]
    for axis in (0, 1):
        low = np.minimum(entry[:, axis], entry[:, axis] + extent[:, axis])
        high = np.maximum(entry[:, axis], entry[:, axis] + extent[:, axis])
        first = np.floor(low) + 1.0
        count = np.maximum(np.ceil(high) - first, 0.0).astype(np.int64)
        hit = np.repeat(np.arange(n), count)
        step = np.arange(len(hit)) - np.repeat(np.cumsum(count) - count, count)
        keys.append(hit + np.clip((first[hit] + step - entry[hit, axis]) / extent[hit, axis], 0.0, 1.0 - 1e-9))
    key = np.sort(np.concatenate(keys))
    fraction = np.diff(key, append=float(n))
    long_enough = fraction > MIN_CELL
    key, fraction = key[long_enough], fraction[long_enough]
    hit = np.floor(key).astype(np.int64)
    middle = (key - hit + fraction / 2)[:, None]
    cell = np.floor(entry[hit] + middle * extent[hit]).astype(np.int64)
    cell = np.clip(cell, 0, n_cells[hit] - 1)
    return _merge_equal(hit, fraction, cell)


def _merge_equal(hit: np.ndarray, fraction: np.ndarray, cell: np.ndarray):
    """Add up neighbours in the same cell of the same hit (after clipping at the module's edge)."""
    new = np.r_[True, (np.diff(hit) != 0) | (np.diff(cell, axis=0) != 0).any(axis=1)][: len(hit)]
    start = np.flatnonzero(new)
    if len(start) == len(hit):
        return hit, fraction, cell
    return hit[start], np.add.reduceat(fraction, start), cell[start]
