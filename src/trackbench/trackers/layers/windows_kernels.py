"""Numba kernels of ``windows``. Import inside functions only."""

import numpy as np
from numba import njit


@njit(cache=True)
def _window_counts(count, block_u, block_w, wraps):
    """Hits in every window position: (n_u or n_u - block_u + 1, n_w - block_w + 1) int32."""
    n_u, n_w = count.shape
    rows = n_u if wraps else n_u - block_u + 1
    columns = n_w - block_w + 1
    inside = np.zeros((rows, columns), dtype=np.int32)
    for u in range(n_u):
        for w in range(n_w):
            if count[u, w]:
                _add_to_windows(inside, u, w, block_u, block_w, n_u, count[u, w], wraps)
    return inside


@njit(cache=True)
def _add_to_windows(inside, u, w, block_u, block_w, n_u, change, wraps):
    """Add ``change`` to all window positions that contain cell (u, w)."""
    rows, columns = inside.shape
    for row in range(u - block_u + 1, u + 1):
        if wraps:
            row = row % n_u
        elif row < 0 or row >= rows:
            continue
        for column in range(max(w - block_w + 1, 0), min(w + 1, columns)):
            inside[row, column] += change


@njit(cache=True)
def take_fullest_windows(count, block_u, block_w, wraps, min_hits):
    """Choose windows greedily by the number of free hits; ties: first in row order.

    count: (n_u, n_w) int32 hits per cell, emptied on the way; block_u, block_w: cells of a window
    Returns owner (n_u, n_w) int64, the number of the window that took a cell or -1, and (k, 2) int64 corners.

    Counts never rise, so one pass in row order per number of hits, from the highest down, meets the windows
    in exactly the order of a search for the maximum after each step.
    """
    n_u, n_w = count.shape
    inside = _window_counts(count, block_u, block_w, wraps)
    columns = inside.shape[1]
    owner = np.full((n_u, n_w), -1, dtype=np.int64)
    corners = []
    waiting = np.flatnonzero(inside.ravel() >= min_hits)
    level = inside.max() if inside.size else 0
    while level >= max(min_hits, 1):
        for position in waiting:
            row, column = position // columns, position % columns
            if inside[row, column] != level:
                continue
            for step in range(block_u):
                u = (row + step) % n_u
                for w in range(column, column + block_w):
                    if count[u, w]:
                        owner[u, w] = len(corners)
                        _add_to_windows(inside, u, w, block_u, block_w, n_u, -count[u, w], wraps)
                        count[u, w] = 0
            corners.append((row, column))
        left = inside.ravel()[waiting]
        waiting = waiting[left >= min_hits]
        level = left.max() if left.size else 0
    found = np.empty((len(corners), 2), dtype=np.int64)
    for i in range(len(corners)):
        found[i, 0], found[i, 1] = corners[i]
    return owner, found


@njit(cache=True)
def hits_in_boxes(place, order, start, n_u, n_w, size, box_low, box_high, wraps):
    """Hits with box_low <= position < box_high, box by box, sorted by hit.

    place: (n, 2) from the corner of cell (0, 0); order, start: hits sorted by cell; size: (2,) of a cell
    box_low, box_high: (k, 2); along u a box may reach around the circle if ``wraps``
    Returns offsets (k + 1,) and members, int64.
    """
    turn = n_u * size[0]
    offsets = np.zeros(len(box_low) + 1, dtype=np.int64)
    members = []
    for box in range(len(box_low)):
        width_u = box_high[box, 0] - box_low[box, 0]
        first_u, last_u = int(np.floor(box_low[box, 0] / size[0])), int(np.floor(box_high[box, 0] / size[0]))
        if wraps:
            last_u = min(last_u, first_u + n_u - 1)
        else:
            first_u, last_u = max(first_u, 0), min(last_u, n_u - 1)
        first_w = max(int(np.floor(box_low[box, 1] / size[1])), 0)
        last_w = min(int(np.floor(box_high[box, 1] / size[1])), n_w - 1)
        found = []
        for u in range(first_u, last_u + 1):
            row = (u % n_u) * n_w
            for position in range(start[row + first_w], start[row + last_w + 1]):
                hit = order[position]
                from_low = place[hit, 0] - box_low[box, 0]
                if wraps:
                    from_low = from_low % turn
                inside_w = box_low[box, 1] <= place[hit, 1] < box_high[box, 1]
                if inside_w and 0 <= from_low < width_u:
                    found.append(hit)
        found.sort()
        members.extend(found)
        offsets[box + 1] = len(members)
    return offsets, np.array(members, dtype=np.int64)
