"""Events of any number of hits made from one event, to measure how latency scales.

This is the tiling protocol of HEPTv2 (arXiv:2606.20437): one real event repeated to size. It measures
computing cost, not physics: a figure made with it must say "tiled". Differs from it in: copies are
rotated about the beam line instead of repeated in place, because hits on top of each other are a
degenerate input for every clusterer; smaller sizes are random subsets of the hits.
"""

import time

import numpy as np
import pandas as pd

from trackbench.data.cell_features import turn_features
from trackbench.data.hits import Hits
from trackbench.errors import InputError, describe
from trackbench.trackers.base import Timer, TrackerBase

_STAGE = 7301  # random stream of this module in default_rng([seed, event, stage])


def tile_event(hits: Hits, n_hits: int, seed: int = 0) -> Hits:
    """Return an event of exactly ``n_hits`` hits made of copies of the valid hits of ``hits``.

    hits: one event with at least one valid hit
    n_hits: number of hits to make, >= 1
    seed: with the event number decides the rotation angles and which hits the last, partial copy has
    Copy 0 is the event itself; each further copy is rotated about z by a random angle, and the last one
    is a random subset of its hits (so below the size of the event, hits are thinned). Volumes, layers
    and modules are kept as they are, so module positions do not match the rotated hits; directions of cells
    turn along. hit_id runs from 1 in order of the copies. Same arguments, same result.
    Raises InputError if the event has no valid hit or n_hits < 1. Cost O(n_hits).
    """
    real = np.flatnonzero(hits.valid)
    if real.size == 0:
        raise InputError(describe(f"event {hits.event_id}", "no hit to tile", "at least one valid hit"))
    if n_hits < 1:
        raise InputError(describe("tile_event n_hits", f"{n_hits}", "a number >= 1"))
    rng = np.random.default_rng([seed, hits.event_id, _STAGE])
    n_full, n_rest = divmod(n_hits, real.size)
    rest = np.sort(rng.choice(real, n_rest, replace=False))
    index = np.concatenate([np.tile(real, n_full), rest])
    copy = np.arange(n_hits) // real.size
    angles = rng.uniform(-np.pi, np.pi, n_full + 1)
    angles[0] = 0.0
    tiled = hits.take(index)
    cos, sin = np.cos(angles)[copy], np.sin(angles)[copy]
    x, y, z = tiled.xyz.T
    xyz = np.column_stack((x * cos - y * sin, x * sin + y * cos, z))
    return Hits(
        hit_id=np.arange(1, n_hits + 1, dtype=np.int64),
        xyz=xyz,
        volume_id=tiled.volume_id,
        layer_id=tiled.layer_id,
        module_id=tiled.module_id,
        valid=tiled.valid,
        features=turn_features(tiled.features, angles[copy]),
        event_id=hits.event_id,
    )


def time_tiled(
    tracker: TrackerBase, hits: Hits, sizes: tuple[int, ...], seed: int = 0, n_warmup: int = 1, n_calls: int = 5
) -> pd.DataFrame:
    """Time a tracker on tiled events of several sizes.

    tracker: anything with ``reconstruct(hits, timer)``; sizes: numbers of hits
    n_warmup: calls per size that are not recorded; n_calls: recorded calls per size, each on a differently
        tiled event of that size
    Returns the columns of ``*-timing.csv``: ``event_id n_hits stage wall_s cpu_s`` (one row per stage used
    and one "total" per call); ``event_id`` is the number of the call within its size. Making the tiled
    event is not timed.
    """
    rows = []
    for size in sizes:
        for call in range(-n_warmup, n_calls):
            # The warm-up gets an event of its own, so that no recorded event was seen before.
            event = tile_event(hits, size, seed + call + n_warmup)
            timer = Timer()
            wall, cpu = time.perf_counter(), time.process_time()
            tracker.reconstruct(event, timer)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if call < 0:
                continue
            rows += [(call, size, stage, timer.wall[stage], timer.cpu[stage]) for stage in timer.wall]
            rows.append((call, size, "total", wall, cpu))
    return pd.DataFrame(rows, columns=["event_id", "n_hits", "stage", "wall_s", "cpu_s"])
