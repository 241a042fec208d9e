"""Time of network and clustering against the number of tracks: events of any number of tracks drawn from real ones.

Protocol of the source (Dobreva, MSc thesis, chapter 6): one event at a time, first calls excluded. Differs from it in:
host arrays to host arrays, copies to the device are stage "features"; several events are laid over each other when one
has too few tracks, so that the density of hits is that of a busier event.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe, require
from trackbench.machine import device_name
from trackbench.memory import free_mb, peak_mb, ran_out, reset_peak, resident_mb
from trackbench.trackers.base import Timer, TrackerBase, build_tracker, load_module

COLUMNS = ("n_tracks", "n_hits", "call", "stage", "wall_s", "cpu_s")

_STAGE = 7303  # random stream of this module in default_rng([seed, tracks, call, stage])
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatencyPlan:
    """What is timed.

    tracks: numbers of tracks, ascending; calls: recorded calls per number, each on another event
    warmup: calls per number that are not recorded, >= 1: the very first one loads weights and compiles
    limit_s: no larger numbers are tried after a call longer than this [s of wall clock], 0 = no limit
    memory_mb: no larger numbers are tried if more than this may be needed [MB], 0 = what is free
    seed: of the drawn tracks
    """

    tracks: tuple[int, ...]
    calls: int = 5
    warmup: int = 1
    limit_s: float = 0.0
    memory_mb: float = 0.0
    seed: int = 0

    def __post_init__(self):
        ascending = len(self.tracks) > 0 and min(self.tracks) >= 1 and (np.diff(self.tracks) > 0).all()
        require("track latency tracks", self.tracks, bool(ascending), "ascending numbers >= 1")
        require("track latency calls", self.calls, self.calls >= 1, ">= 1")
        require("track latency warmup", self.warmup, self.warmup >= 1, ">= 1")
        require("track latency limit_s", self.limit_s, self.limit_s >= 0, ">= 0")
        require("track latency memory_mb", self.memory_mb, self.memory_mb >= 0, ">= 0")


def draw_tracks(
    events: Sequence[tuple[Hits, Truth]], n_tracks: int, rng: np.random.Generator, first: int = 0
) -> tuple[Hits, np.ndarray]:
    """Make an event of all hits of ``n_tracks`` particles drawn at random.

    events: hits and truth, row by row; particles are drawn from ``events[first]`` and, if it has too few, from as many
        of the following ones (cyclic) as are needed, laid over each other
    Returns the hits, in random order, hit_id 1, 2, ..., no noise; and (n,) int64 track of each hit, 1 to n_tracks.
    Raises InputError if all events together have fewer particles with hits.
    """
    chosen, pool = [], 0
    for k in range(len(events)):
        if pool >= n_tracks:
            break
        chosen.append(events[(first + k) % len(events)])
        pool += len(_particles(chosen[-1][1]))
    if pool < n_tracks:
        what = f"{len(events)} events with {pool} particles with hits together"
        raise InputError(describe("track latency", what, f"at least {n_tracks}", "give more events"))
    picked = np.zeros(pool, dtype=bool)
    picked[rng.choice(pool, n_tracks, replace=False)] = True
    number = np.where(picked, np.cumsum(picked), 0)  # 1 to n_tracks over the particles of all events
    parts, tracks, start = [], [], 0
    for hits, truth in chosen:
        particles = _particles(truth)
        end = start + len(particles)
        track = _numbers_of_hits(truth, particles, number[start:end])
        kept = hits.valid & (track > 0)
        parts.append(hits.take(kept))
        tracks.append(track[kept])
        start = end
    return _overlay(parts, np.concatenate(tracks), rng)


def time_tracks(tracker: TrackerBase, events: Sequence[tuple[Hits, Truth]], plan: LatencyPlan) -> pd.DataFrame:
    """Time a tracker on events of several numbers of tracks.

    tracker: usually with the stages "network" and "clustering"; only hits reach it
    Returns ``COLUMNS``: a row per number of tracks, call and stage (``base.STAGES`` and "total"), wall clock and CPU
    process time [s]; n_hits differs from call to call. Making the event is not timed. Numbers of tracks after a call
    that took too long, needed more memory than there is, or will need it if memory grows with the square of the
    tracks, are left out with a warning.
    """
    rows = []
    for n_tracks in plan.tracks:
        left_out = ", ".join(str(n) for n in plan.tracks if n >= n_tracks)
        reset_peak()
        before = resident_mb()
        try:
            found = _time_calls(tracker, events, plan, n_tracks)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            log.warning("not enough memory: %s tracks left out (%s)", left_out, str(error).partition("\n")[0])
            break
        rows += found
        longest = max(wall for _, _, _, stage, wall, _ in found if stage == "total")
        log.info("%d tracks: longest call %.3f s", n_tracks, longest)
        larger = [n for n in plan.tracks if n > n_tracks]
        left_out = ", ".join(map(str, larger))
        if larger and plan.limit_s and longest > plan.limit_s:
            log.warning("a call took %.1f s > %g s: %s tracks left out", longest, plan.limit_s, left_out)
            break
        needed = (peak_mb() - before) * (larger[0] / n_tracks) ** 2 if larger else 0.0
        if needed > (free := free_mb(plan.memory_mb)):
            log.warning("%.0f MB may be needed, %.0f MB can be had: %s tracks left out", needed, free, left_out)
            break
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _time_calls(
    tracker: TrackerBase, events: Sequence[tuple[Hits, Truth]], plan: LatencyPlan, n_tracks: int
) -> list[tuple]:
    """Rows of ``COLUMNS`` of all recorded calls with one number of tracks."""
    rows = []
    for call in range(-plan.warmup, plan.calls):
        number = call + plan.warmup  # the warm-up gets events of its own
        rng = np.random.default_rng([plan.seed, n_tracks, number, _STAGE])
        hits, _ = draw_tracks(events, n_tracks, rng, number % len(events) if events else 0)
        timer = Timer()
        wall, cpu = time.perf_counter(), time.process_time()
        tracker.reconstruct(hits, timer)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if call >= 0:
            rows += [(n_tracks, len(hits), call, name, timer.wall[name], timer.cpu[name]) for name in timer.wall]
            rows.append((n_tracks, len(hits), call, "total", wall, cpu))
    return rows


def time_on_devices(
    name: str,
    settings: dict,
    events: Sequence[tuple[Hits, Truth]],
    plan: LatencyPlan,
    devices: Sequence[str] = ("cpu", "cuda"),
) -> pd.DataFrame:
    """Time tracker ``name`` on each device of ``devices`` that it can use and that exists here.

    settings: of the tracker; those of learned trackers have a ``device``, all others run on the CPU only
    Returns ``COLUMNS`` with ``device`` ("cpu", "cuda") and ``device_name`` added. Raises ConfigError without a device.
    """
    has_device = hasattr(load_module(name).Config, "device")
    usable = [device for device in devices if device == "cpu" or (has_device and _has_cuda())]
    for device in devices:
        if device not in usable:
            log.info("%s: not timed on %s, which it cannot use or is not here", name, device)
    if not usable:
        raise ConfigError(describe("track latency devices", ", ".join(devices) or "none", "cpu, or cuda where it is"))
    parts = []
    for device in usable:
        tracker = build_tracker(name, settings | ({"device": device} if has_device else {}), plan.seed)
        parts.append(time_tracks(tracker, events, plan).assign(device=device, device_name=device_name(device)))
    return pd.concat(parts, ignore_index=True)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _particles(truth: Truth) -> np.ndarray:
    """Particles with hits, ascending. Returns (p,) int64."""
    ids = np.unique(truth.particle_id)
    return ids[ids > 0]


def _numbers_of_hits(truth: Truth, particles: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Number of the particle of each hit, 0 = not drawn or noise. particles, number: (p,) each."""
    place = np.searchsorted(particles, truth.particle_id)
    known = np.append(particles, -1)[place] == truth.particle_id
    return np.where(known, np.append(number, 0)[place], 0)


def _overlay(parts: list[Hits], tracks: np.ndarray, rng: np.random.Generator) -> tuple[Hits, np.ndarray]:
    order = rng.permutation(len(tracks))
    names = ("xyz", "volume_id", "layer_id", "module_id", "valid")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return Hits(hit_id=np.arange(1, len(order) + 1, dtype=np.int64), event_id=parts[0].event_id, **arrays), tracks[
        order
    ]
