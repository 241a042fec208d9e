"""Checks of raw event tables: every way a TrackML file is known to be wrong, one clear error each.

``where`` is the file the table came from, so that messages name it.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from trackbench.data.schema import COLUMNS, OPTIONAL
from trackbench.errors import ConfigError, InputError, describe
from trackbench.geometry.detector import is_known_module

log = logging.getLogger(__name__)

DOWNLOAD = "download or simulate the event again"

# Cell values are <= 1 in good files: pixels carry the path length in the cell [mm] (about 0.4 at most),
# strips carry 1. Simulated tracks that graze a module edge reach a few mm in the last cell (a segment
# is capped at 5 mm per axis, hence 7.1 mm). The corrupt pixels of some Kaggle events reach 7e5.
MAX_CHARGE = 10.0
CLIP_CHARGE = 1.0
BAD_CHARGE_MODES = ("error", "clip", "repair")


def check_columns(part: str, names: Sequence[str], where: str) -> None:
    """Raise InputError if a column of table ``part`` is missing, unknown or there twice.

    names: the column names found; their order does not matter
    """
    expected, optional = COLUMNS[part], OPTIONAL.get(part, ())
    wanted = "columns " + ", ".join(expected)
    for name in expected:
        if name not in names and name not in optional:
            raise InputError(describe(where, f"no column {name}", wanted, DOWNLOAD))
    for name in names:
        if name not in expected:
            raise InputError(describe(where, f"unknown column {name!r}", wanted, "remove it"))
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InputError(describe(where, f"column {twice} appears twice", wanted, DOWNLOAD))


def check_event(frames: Mapping[str, pd.DataFrame], where: Mapping[str, str]) -> None:
    """Check the tables of one event, each alone and against each other, as far as they are there.

    frames: part ("hits", "cells", "particles", "truth") -> table with the columns of ``schema.COLUMNS``
    where: part -> file name for messages
    Raises InputError on the first problem. Cell values are the business of ``check_charges``.
    """
    for part, frame in frames.items():
        _check_finite(frame, where[part])
        if part in _PART_CHECKS:
            _PART_CHECKS[part](frame, where[part])
    if "hits" in frames and "truth" in frames:
        _check_same_hits(frames["hits"], frames["truth"], where)
    if "hits" in frames and "cells" in frames:
        _check_cells_have_hits(frames["hits"], frames["cells"], where["cells"])
    if "particles" in frames and "truth" in frames:
        _check_particles_known(frames["particles"], frames["truth"], where)


def check_charges(cells: pd.DataFrame, where: str, on_bad_charge: str = "error") -> pd.DataFrame:
    """Check the cell values, or repair them.

    cells: table of the cells; on_bad_charge: "error"; or "clip" to limit all values to [0, 1] as the
        two-stage MaskFormer reproduction does for the six Kaggle events with a pixel of up to 7e5; or "repair" to
        do so to values outside 0 to ``MAX_CHARGE`` only
    Returns the cells, a changed copy if something was clipped (and then logs one warning).
    Raises InputError for a value that is not finite (always), negative or above ``MAX_CHARGE``.
    """
    if on_bad_charge not in BAD_CHARGE_MODES:
        raise ConfigError(describe("on_bad_charge", f"value {on_bad_charge!r}", " or ".join(BAD_CHARGE_MODES)))
    value = cells["value"].to_numpy()
    upper = CLIP_CHARGE if on_bad_charge == "clip" else MAX_CHARGE
    bad = np.flatnonzero((value < 0) | (value > upper))
    if not bad.size:
        return cells
    first = f"hit_id {cells['hit_id'].iloc[bad[0]]} has {value[bad[0]]:g}"
    if on_bad_charge == "error":
        what = f"{bad.size} corrupt cell values (first: {first})"
        remedy = "set on_bad_charge to 'clip' to limit charges to [0, 1]"
        raise InputError(describe(where, what, f"0 to {MAX_CHARGE:g}", remedy))
    log.warning("%s: clipped %d cell values to [0, 1] (first: %s)", where, bad.size, first)
    repaired = value.copy()
    repaired[bad] = np.clip(value[bad], 0, CLIP_CHARGE)
    return cells.assign(value=repaired)


def _check_finite(frame: pd.DataFrame, where: str) -> None:
    key = frame.columns[0]
    for name in frame.columns[frame.dtypes == np.float32]:
        values = frame[name].to_numpy()
        # A sum is finite unless a value is not (or it overflows): one pass for the usual case.
        if np.isfinite(np.sum(values, dtype=np.float64)):
            continue
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            value, row = values[bad[0]], frame[key].iloc[bad[0]]
            what = f"{bad.size} non-finite values in column {name} (first: {key} {row} has {value})"
            raise InputError(describe(where, what, "finite numbers", DOWNLOAD))


def _check_hits(hits: pd.DataFrame, where: str) -> None:
    _check_unique(hits["hit_id"].to_numpy(), "hit_id", where)
    volume, layer, module = (hits[name].to_numpy() for name in ("volume_id", "layer_id", "module_id"))
    # Hits of one module stand together: most files need one look-up per module.
    is_new = np.ones(len(hits), dtype=bool)
    is_new[1:] = (volume[1:] != volume[:-1]) | (layer[1:] != layer[:-1]) | (module[1:] != module[:-1])
    if not is_known_module(volume[is_new], layer[is_new], module[is_new]).all():
        bad = np.flatnonzero(~is_known_module(volume, layer, module))
        i = bad[0]
        place = f"volume {volume[i]} layer {layer[i]} module {module[i]}"
        what = f"{bad.size} hits on an unknown module (first: hit_id {hits['hit_id'].iloc[i]} on {place})"
        raise InputError(describe(where, what, "a module of the TrackML detector", DOWNLOAD))


def _check_truth(truth: pd.DataFrame, where: str) -> None:
    _check_unique(truth["hit_id"].to_numpy(), "hit_id", where)
    for name in ("particle_id", "weight"):
        values = truth[name].to_numpy()
        bad = np.flatnonzero(values < 0)
        if bad.size:
            first = f"hit_id {truth['hit_id'].iloc[bad[0]]} has {values[bad[0]]}"
            raise InputError(describe(where, f"{bad.size} negative {name} (first: {first})", "0 or more", DOWNLOAD))


def _check_particles(particles: pd.DataFrame, where: str) -> None:
    ids = particles["particle_id"].to_numpy()
    _check_unique(ids, "particle_id", where)
    bad = np.flatnonzero(ids <= 0)
    if bad.size:
        raise InputError(describe(where, f"particle_id {ids[bad[0]]}", "positive (0 means noise)", DOWNLOAD))
    momentum = np.hypot(particles["px"].to_numpy(np.float64), particles["py"].to_numpy(np.float64))
    bad = np.flatnonzero(momentum == 0)
    if bad.size:
        raise InputError(describe(where, f"particle_id {ids[bad[0]]} has pT 0", "pT > 0", DOWNLOAD))


_PART_CHECKS = {"hits": _check_hits, "truth": _check_truth, "particles": _check_particles}


def _check_unique(ids: np.ndarray, name: str, where: str) -> None:
    if np.all(ids[1:] > ids[:-1]):
        return
    ordered = np.sort(ids)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise InputError(describe(where, f"{repeated.size} duplicate {name} (first {repeated[0]})", "unique", DOWNLOAD))


def _check_same_hits(hits: pd.DataFrame, truth: pd.DataFrame, where: Mapping[str, str]) -> None:
    hit_ids, truth_ids = hits["hit_id"].to_numpy(), truth["hit_id"].to_numpy()
    if np.array_equal(hit_ids, truth_ids):
        return
    extra = np.setdiff1d(truth_ids, hit_ids)
    if extra.size:
        what = f"truth for {extra.size} hits that do not exist (first hit_id {extra[0]})"
        raise InputError(describe(where["truth"], what, f"the hit_id of {where['hits']}", DOWNLOAD))
    missing = np.setdiff1d(hit_ids, truth_ids)
    if missing.size:
        what = f"{missing.size} hits without truth (first hit_id {missing[0]})"
        raise InputError(describe(where["truth"], what, f"one row per hit_id of {where['hits']}", DOWNLOAD))


def _check_cells_have_hits(hits: pd.DataFrame, cells: pd.DataFrame, where: str) -> None:
    hit_ids, ids = hits["hit_id"].to_numpy(), cells["hit_id"].to_numpy()
    starts = ids[np.flatnonzero(ids[1:] != ids[:-1]) + 1]  # cells of one hit stand together
    starts = np.concatenate([ids[:1], starts])
    if np.array_equal(starts, hit_ids):
        return
    unknown = np.setdiff1d(starts, hit_ids)
    if unknown.size:
        what = f"cells of {unknown.size} hits that do not exist (first hit_id {unknown[0]})"
        raise InputError(describe(where, what, "the hit_id of the hits file", DOWNLOAD))


def _check_particles_known(particles: pd.DataFrame, truth: pd.DataFrame, where: Mapping[str, str]) -> None:
    ids = truth["particle_id"].to_numpy()
    # pandas looks up in a hash table, four times faster here than numpy's sorting.
    is_known = truth["particle_id"].isin(particles["particle_id"]).to_numpy()
    unknown = np.flatnonzero((ids != 0) & ~is_known)
    if unknown.size:
        i = unknown[0]
        what = (
            f"{unknown.size} hits of unknown particles (first: hit_id {truth['hit_id'].iloc[i]}, particle_id {ids[i]})"
        )
        raise InputError(describe(where["truth"], what, f"0 or a particle_id of {where['particles']}", DOWNLOAD))
