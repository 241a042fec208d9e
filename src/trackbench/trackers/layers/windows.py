"""Rectangular windows on a surface: a fixed grid of them, and the iterative choice of the fullest one."""

from dataclasses import dataclass

import numpy as np

from trackbench.errors import ConfigError, describe
from trackbench.trackers.layers.surfaces import HitSets

MAX_CELLS = 50_000_000


def grid_windows(
    uw: np.ndarray, window: tuple[float, float], stride: float, period: float, min_hits: int
) -> tuple[HitSets, np.ndarray]:
    """Hit sets of fixed windows whose corners lie on a lattice.

    uw: (n, 2) positions on the surface [mm]
    window: lengths along u and w [mm]
    stride: distance of neighbouring windows over their length, in (0, 1]; 1 = disjoint, smaller = overlapping
    period: circumference along u, 0 = not periodic [mm]; windows are then stretched along u so that a whole
        number of strides fits around
    min_hits: windows with fewer hits are dropped
    Returns (offsets, members), windows in row order (u first), and labels (n,) int64: the fullest window of
    each hit (the first of equal ones), -1 = in none.
    """
    step_u, step_w = window[0] * stride, window[1] * stride
    n_around = max(round(period / step_u), 1) if period else 0
    first_u, copies_u = _lattice(uw[:, 0], period / n_around if n_around else step_u, 1 / stride)
    first_w, copies_w = _lattice(uw[:, 1], step_w, 1 / stride)
    hit, row, column = [], [], []
    # The u-th and w-th window below the one that starts last before the hit.
    for u in range(copies_u.max(initial=0)):
        for w in range(copies_w.max(initial=0)):
            inside = np.flatnonzero((u < copies_u) & (w < copies_w))
            hit.append(inside)
            row.append((first_u[inside] - u) % n_around if n_around else first_u[inside] - u)
            column.append(first_w[inside] - w)
    return _collect(np.concatenate(hit), np.concatenate(row), np.concatenate(column), len(uw), min_hits)


def _lattice(values: np.ndarray, step: float, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Last window that starts at or before each value, and in how many windows the value is."""
    place = values / step
    first = np.floor(place).astype(np.int64)
    return first, np.ceil(ratio - (place - first)).astype(np.int64)


def _collect(hit, row, column, n_hits: int, min_hits: int) -> tuple[HitSets, np.ndarray]:
    order = np.lexsort((hit, column, row))
    hit, row, column = hit[order], row[order], column[order]
    new = np.ones(len(hit), dtype=bool)
    new[1:] = (np.diff(row) != 0) | (np.diff(column) != 0)
    # A window that overlaps itself around a tiny circumference holds a hit once.
    repeated = np.zeros(len(hit), dtype=bool)
    repeated[1:] = ~new[1:] & (np.diff(hit) == 0)
    hit, window = hit[~repeated], (np.cumsum(new) - 1)[~repeated]
    size = np.bincount(window)
    kept = size >= min_hits
    hit, window = hit[kept[window]], (np.cumsum(kept) - 1)[window[kept[window]]]
    size = size[kept]
    labels = np.full(n_hits, -1, dtype=np.int64)
    # Written from the least to the most wanted: the last one stays.
    wanted = np.lexsort((-window, size[window]))
    labels[hit[wanted]] = window[wanted]
    return (np.concatenate(([0], np.cumsum(size))).astype(np.int64), hit), labels


@dataclass(frozen=True)
class CellGrid:
    """Fine cells of one surface; windows are blocks of n_u x n_w of them.

    cell: (n, 2) int64, cell of each hit
    shape: number of cells along u and w
    size: lengths of a cell [mm]
    low: corner of cell (0, 0) [mm]
    block: cells of a window along u and w
    wraps: True if the last cell along u touches the first
    """

    cell: np.ndarray
    shape: tuple[int, int]
    size: tuple[float, float]
    low: tuple[float, float]
    block: tuple[int, int]
    wraps: bool


def cell_grid(uw: np.ndarray, window: tuple[float, float], cell: tuple[float, float], period: float) -> CellGrid:
    """Sort hits into fine cells. Arguments as for ``iterative_windows``."""
    block = tuple(round(a / b) for a, b in zip(window, cell, strict=True))
    n_around = max(round(period / cell[0]), block[0]) if period else 0
    size = (period / n_around if n_around else cell[0], cell[1])
    index = np.floor(uw / size).astype(np.int64)
    low = index.min(axis=0)
    shape = [max(int(extent), b) for extent, b in zip(np.ptp(index, axis=0) + 1, block, strict=True)]
    if n_around:
        low[0] = -(n_around // 2)
        shape[0] = n_around
    if shape[0] * shape[1] > MAX_CELLS:
        what = f"{shape[0]} x {shape[1]} cells of {size[0]:g} x {cell[1]:g} mm"
        raise ConfigError(describe("windows", what, f"at most {MAX_CELLS} cells", "use larger cells"))
    index -= low
    if n_around:
        index[:, 0] %= n_around
    return CellGrid(index, tuple(shape), size, (low[0] * size[0], low[1] * size[1]), block, bool(n_around))


def iterative_windows(
    uw: np.ndarray, window: tuple[float, float], cell: tuple[float, float], period: float, min_hits: int
) -> tuple[np.ndarray, np.ndarray, CellGrid]:
    """Take the window with most hits that are not taken yet, again and again.

    uw: (n, 2) positions on the surface [mm]
    window, cell: lengths along u and w [mm]; windows start on multiples of the cell
    period: circumference along u, 0 = not periodic [mm]; cells are stretched along u to close the circle
    min_hits: stop when no window has as many free hits
    Returns labels (n,) int64 in the order in which windows were taken, -1 = never taken; the first cells
    (k, 2) of the windows; and the cells. Among equally full windows the first in row order (u first) wins.
    """
    from trackbench.trackers.layers.windows_kernels import take_fullest_windows

    grid = cell_grid(uw, window, cell, period)
    count = np.zeros(grid.shape, dtype=np.int32)
    np.add.at(count, (grid.cell[:, 0], grid.cell[:, 1]), 1)
    owner, corner = take_fullest_windows(count, *grid.block, grid.wraps, min_hits)
    return owner[grid.cell[:, 0], grid.cell[:, 1]], corner, grid


def widen_windows(uw: np.ndarray, corner: np.ndarray, grid: CellGrid, margin: tuple[float, float]) -> HitSets:
    """All hits in windows enlarged by a margin on every side, whether another window took them or not.

    uw: (n, 2) positions on the surface [mm]; corner: (k, 2) first cells; margin: along u and w [mm]
    Returns (offsets, members), one set per window.
    """
    from trackbench.trackers.layers.windows_kernels import hits_in_boxes

    n_u, n_w = grid.shape
    key = grid.cell[:, 0] * n_w + grid.cell[:, 1]
    order = np.argsort(key, kind="stable")
    start = np.searchsorted(key[order], np.arange(n_u * n_w + 1))
    size, low = np.array(grid.size), np.array(grid.low)
    # Positions from the corner of cell (0, 0), u within one turn.
    place = uw - low
    if grid.wraps:
        place[:, 0] %= n_u * size[0]
    box_low = corner * size - margin
    box_high = (corner + grid.block) * size + margin
    return hits_in_boxes(place, order, start, n_u, n_w, size, box_low, box_high, grid.wraps)
