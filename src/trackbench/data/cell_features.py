"""Eight features of a hit from its cells: charge, size of the cluster, and the direction these sizes point in.

Source: the public HEPT code (Graph-COM/HEPT, ``data/tracking/raw/preprocessing``), inputs of HEPTv2. Differs from it
in: cells are joined to hits by hit_id, the source takes both tables to be in the same order.

A cell's value is the charge in the published TrackML events. Our simulated ones have the path length in the cell [mm]
in pixels and 1 in strips, which is the scale of the published values too (pixels: at most 0.4 in the public sample);
the spectra differ, so a network should be trained on what it is used on. Sizes are positive, so lphi and leta tell
how steeply a track crosses the module, not to which side.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from trackbench.data.hits import CELL_FEATURES
from trackbench.errors import InputError, describe
from trackbench.geometry.coordinates import azimuth, pseudorapidity, wrap_angle
from trackbench.geometry.modules import module_row, module_table

# What makes one number per hit of the numbers of its cells.
_REDUCE = {
    **{"count": np.add, "total": np.add},
    **{"low0": np.minimum, "low1": np.minimum, "high0": np.maximum, "high1": np.maximum},
}


def cell_features(hits: pd.DataFrame, cells: pd.DataFrame, where: str = "cells") -> dict[str, np.ndarray]:
    """Compute the features of each hit.

    hits: (n,) rows with hit_id (unique), volume_id, layer_id, module_id; cells: (m,) rows with hit_id, ch0, ch1, value,
        in any order; where: file of the cells for messages
    Returns, by the names ``CELL_FEATURES`` and in this order, (n,) float32 in the order of the hits:
        charge_frac: sum of the cell values / number of cells
        leta, lphi: pseudorapidity and azimuth [rad] of the vector (lx, ly, lz) in the frame of the module
        lx, ly, lz: size of the cluster along u and v (first to last cell, times the pitch) and 2 * module_t [mm]
        geta, gphi: pseudorapidity and azimuth of this vector in the global frame, phi in [-pi, pi]
    A hit without any cell has 0 in all eight; with cells, lx, ly and lz are above 0, so the two cannot be mixed up.
    Equal cells of a hit count as often as they are there.
    The order of hits and cells does not matter. Rounded to float32 last, so that files that keep float32 lose nothing.
    Raises InputError for a cell of an unknown hit, a value that is not finite, or a hit on an unknown module.
    Cost O(n log n + m), O(m log m) if the cells of a hit do not stand together.
    """
    row, clusters = _clusters(hits["hit_id"].to_numpy(np.int64), cells, where)
    module = _modules(hits)[row]
    table = module_table()
    size = np.empty((len(row), 3))
    size[:, 0] = (clusters["high0"] - clusters["low0"] + 1) * table.pitch[module, 0]
    size[:, 1] = (clusters["high1"] - clusters["low1"] + 1) * table.pitch[module, 1]
    size[:, 2] = 2 * table.thickness[module]
    turned = np.matmul(table.rotation[module], size[:, :, None])[:, :, 0]
    columns = {
        "charge_frac": clusters["total"] / clusters["count"],
        **{"leta": pseudorapidity(size), "lphi": azimuth(size)},
        **{"lx": size[:, 0], "ly": size[:, 1], "lz": size[:, 2]},
        **{"geta": pseudorapidity(turned), "gphi": azimuth(turned)},
    }
    features = {name: np.zeros(len(hits), np.float32) for name in CELL_FEATURES}
    for name, values in features.items():
        values[row] = columns[name]
    return features


def turn_features(features: Mapping[str, np.ndarray], angle: float | np.ndarray) -> dict[str, np.ndarray]:
    """Turn the cell features of hits together with their positions about the z axis.

    features: name -> (n,) float; names other than ``gphi`` stay as they are, and hits without cells (lx = 0) too
    angle: from x to y [rad], one number or (n,)
    Returns new features, ``gphi`` in (-pi, pi]. There is no such rule for a mirror: the axes of modules of the two
    endcaps, and of opposite ends of a barrel, are no mirror images of each other.
    """
    if "gphi" not in features:
        return dict(features)
    gphi = np.asarray(features["gphi"])
    has_cells = np.asarray(features["lx"]) > 0
    turned = np.where(has_cells, wrap_angle(gphi + angle), gphi).astype(gphi.dtype)
    return {**features, "gphi": turned}


def _clusters(hit_id: np.ndarray, cells: pd.DataFrame, where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rows of the hits that have cells, (k,) int64, and of each what ``_REDUCE`` names, (k,)."""
    ids = cells["hit_id"].to_numpy(np.int64)
    value = cells["value"].to_numpy(np.float64)
    finite = np.isfinite(value)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        what = f"{bad.size} non-finite cell values (first: hit_id {ids[bad[0]]} has {value[bad[0]]})"
        raise InputError(describe(where, what, "finite numbers", "read the event again"))
    first, second = cells["ch0"].to_numpy(np.int64), cells["ch1"].to_numpy(np.int64)
    one = np.ones(len(ids), np.int64)
    columns = {"count": one, "total": value, "low0": first, "low1": second, "high0": first, "high1": second}
    # Cells of a hit usually stand together: reduce each run first, then the few numbers that are left.
    runs, columns = _reduce(ids, columns)
    row = _rows(runs, hit_id, where)
    if np.any(row[1:] <= row[:-1]):
        order = np.argsort(row, kind="stable")
        row, columns = _reduce(row[order], {name: values[order] for name, values in columns.items()})
    return row, columns


def _reduce(key: np.ndarray, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reduce each run of equal keys. Returns its key and numbers; float32 values add up exactly in float64."""
    if not len(key):
        return key, dict(columns)
    start = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
    return key[start], {name: _REDUCE[name].reduceat(values, start) for name, values in columns.items()}


def _rows(ids: np.ndarray, hit_id: np.ndarray, where: str) -> np.ndarray:
    """Return the row of each id in ``hit_id``. Raises InputError for one that is not there."""
    order = np.argsort(hit_id, kind="stable")
    known = hit_id[order]
    at = np.searchsorted(known, ids)
    inside = np.minimum(at, max(len(known) - 1, 0))
    unknown = ids[known[inside] != ids] if len(known) else ids
    if unknown.size:
        what = f"cells of hits that do not exist (first hit_id {unknown[0]})"
        raise InputError(describe(where, what, "the hit_id of the hits file", "read the event again"))
    return order[inside]


def _modules(hits: pd.DataFrame) -> np.ndarray:
    """Return the row of each hit's module in ``module_table``, (n,) int64. Raises InputError if there is none."""
    module = module_row(*(hits[name].to_numpy(np.int64) for name in ("volume_id", "layer_id", "module_id")))
    bad = np.flatnonzero(module < 0)
    if bad.size:
        volume, layer, number, hit = (
            hits[name].iloc[bad[0]] for name in ("volume_id", "layer_id", "module_id", "hit_id")
        )
        what = f"hit_id {hit} is on volume {volume} layer {layer} module {number}"
        raise InputError(describe("hits table", what, "a module of the TrackML detector", "read the event again"))
    return module
