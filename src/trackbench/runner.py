"""Run one tracker over events and measure it: tracks, time per stage, memory, first call apart.

Memory is that of the calling process, so run one tracker per process (the workflow does). For a tracker on a CUDA
device each timed call ends when the device has finished, and the device memory torch allocated is measured too.
"""

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import TrackParameters, Tracks
from trackbench.errors import InputError, describe
from trackbench.files import atomic_path, write_json
from trackbench.machine import machine_facts, usable_cpus, versions
from trackbench.memory import peak_mb, reset_peak, resident_mb, return_free_memory
from trackbench.parquet import parquet_writer
from trackbench.trackers.base import Timer, TrackerBase

logger = logging.getLogger(__name__)

SLOW_EVENT_S = 0.1  # quicker events are not worth a line each
TIMING_COLUMNS = ("event_id", "n_hits", "stage", "wall_s", "cpu_s")


def run_tracker(
    tracker: TrackerBase,
    events: Iterable[tuple[Hits, object]],
    out_tracks: str | os.PathLike,
    out_parameters: str | os.PathLike,
    out_timing: str | os.PathLike,
    out_run: str | os.PathLike,
    warmup: int = 1,
    facts: dict | None = None,
) -> None:
    """Reconstruct every event and write the tracks and parameters (parquet), timing (csv) and run (json) files.

    tracker: from ``build_tracker``
    events: tuples that start with the hits of an event; only the hits reach the tracker
    warmup: untimed calls on the first event with hits, before it is timed like all others. The very first call,
        which may import packages, compile kernels or load weights, is reported apart as
        ``first_call_s`` and ``first_call_memory_mb``. An event without hits, which reaches no tracker, is no call.
    facts: entries of the run file besides or instead of the default ones, such as tracker (its name),
        threads (default: CPUs of this process), sectors and pad_to
    The parameters file has ``PARAMETER_COLUMNS``, and no rows if the tracker does not fit its candidates.
    ``total`` is the time around ``reconstruct_tracks`` from host arrays to host labels and parameters; what
    the stages do not account for is its difference to their sum. Nothing is written if a call fails.
    Raises InputError if there are no events or an event_id appears twice.
    """
    measurement = _Measurement(tracker)
    with atomic_path(out_tracks) as tracks_file, atomic_path(out_parameters) as parameters_file:
        with TracksWriter(tracks_file, parameters_file) as writer:
            for hits in _hits_of(events):
                if hits.valid.any() and not measurement.is_warm:
                    measurement.warm_up(hits, warmup)
                writer.write(hits, measurement.time(hits))
        if not measurement.timed_events:
            raise InputError(describe("events", "there are none", "at least one event to reconstruct"))
        _write_timing(out_timing, measurement.rows)
        logger.info("%d events", len(measurement.timed_events))
        write_json(out_run, {**_describe_run(tracker), **(facts or {}), "warmup": warmup, **measurement.summary()})


class TracksWriter:
    """Append the tracks and the parameters of one event after the other to two parquet files."""

    def __init__(self, tracks: Path, parameters: Path):
        import pyarrow as pa

        self._table = pa.table
        label_schema = pa.schema([(name, pa.int64()) for name in ("event_id", "hit_id", "track_id")])
        parameter_schema = pa.Schema.from_pandas(TrackParameters.empty().to_frame(0)).remove_metadata()
        self._files = ((tracks, label_schema), (parameters, parameter_schema))
        self._stack = ExitStack()

    def __enter__(self):
        with ExitStack() as stack:
            self._tracks, self._parameters = (stack.enter_context(parquet_writer(*file)) for file in self._files)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def write(self, hits: Hits, tracks: Tracks) -> None:
        real = hits.valid
        event_id = np.full(int(real.sum()), hits.event_id, dtype=np.int64)
        columns = [event_id, hits.hit_id[real], tracks.labels[real]]
        self._tracks.write(self._table(columns, schema=self._tracks.schema))
        if tracks.parameters is not None:
            frame = tracks.parameters.to_frame(hits.event_id)
            columns = [frame[name].to_numpy() for name in frame]
            self._parameters.write(self._table(columns, schema=self._parameters.schema))


class _Measurement:
    """Call a tracker, keeping time, memory and whether repeated calls agree."""

    def __init__(self, tracker: TrackerBase):
        self.tracker = tracker
        self.rows: list[tuple] = []
        self.timed_events: set[int] = set()
        self.first_call_s: float | None = None
        self.calls = 0
        self.is_warm = False
        self.loaded_mb = self.first_call_mb = self.peak_mb = 0.0
        self.peak_device_mb: float | None = None
        self.warm_tracks: Tracks | None = None
        self.repeatable: bool | None = None

    def warm_up(self, hits: Hits, calls: int) -> None:
        """Call the tracker without recording stages."""
        self.is_warm = True
        for _ in range(calls):
            self.warm_tracks = self._call(hits, Timer())[0]

    def time(self, hits: Hits) -> Tracks:
        """Reconstruct one event and record its time."""
        if hits.event_id in self.timed_events:
            raise InputError(describe("events", f"event {hits.event_id} appears twice", "unique event_id"))
        self.timed_events.add(hits.event_id)
        timer = Timer()
        tracks, wall, cpu = self._call(hits, timer)
        n_hits = int(hits.valid.sum())
        self.rows += [(hits.event_id, n_hits, stage, timer.wall[stage], timer.cpu[stage]) for stage in timer.wall]
        # Last, so that a file that was cut short lacks it.
        self.rows.append((hits.event_id, n_hits, "total", wall, cpu))
        if self.warm_tracks is not None:
            self.repeatable = tracks.equals(self.warm_tracks)
            self.warm_tracks = None
            if not self.repeatable:
                logger.warning("event %d: two calls with the same seed gave different tracks", hits.event_id)
        level = logging.INFO if wall > SLOW_EVENT_S else logging.DEBUG
        logger.log(level, "event %d: %d hits, %.3f s", hits.event_id, n_hits, wall)
        return tracks

    def summary(self) -> dict:
        """Return what belongs into the run file."""
        return {
            "events": len(self.timed_events),
            "first_call_s": self.first_call_s,
            "first_call_memory_mb": round(self.first_call_mb, 2),
            "peak_memory_mb": round(self.peak_mb, 2),
            "peak_device_memory_mb": None if self.peak_device_mb is None else round(self.peak_device_mb, 2),
            "repeatable": self.repeatable,
        }

    def _call(self, hits: Hits, timer: Timer) -> tuple[Tracks, float, float]:
        if self.calls < 2:  # before and after the call that imports and compiles
            return_free_memory()
            self.loaded_mb = resident_mb()
            self.peak_mb, self.peak_device_mb = 0.0, None
        reset_peak()
        if cuda := _cuda_of(self.tracker):
            cuda.reset_peak_memory_stats()
            cuda.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        tracks = self.tracker.reconstruct_tracks(hits, timer)
        if cuda := _cuda_of(self.tracker):  # again: the first call loads torch
            cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.peak_mb = max(self.peak_mb, peak_mb() - self.loaded_mb)
        has_hits = bool(hits.valid.any())
        if self.calls == 0 and has_hits:
            self.first_call_s, self.first_call_mb = wall, self.peak_mb
        if cuda:
            # With the weights, which stay on the device: it is all memory that the tracker needs there.
            self.peak_device_mb = max(self.peak_device_mb or 0.0, cuda.max_memory_allocated() / 1e6)
        self.calls += has_hits
        return tracks, wall, cpu


def _cuda_of(tracker: TrackerBase):
    """The module ``torch.cuda`` if the tracker runs on a CUDA device, else None; never loads torch by itself."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and str(getattr(tracker, "device", "cpu")).startswith("cuda") else None


def _hits_of(events: Iterable[tuple[Hits, object]]):
    """Take the hits out of the event tuples, with a progress bar on a terminal."""
    from tqdm import tqdm

    for event in tqdm(events, unit="event", disable=not sys.stderr.isatty()):
        yield event[0]


def _write_timing(path: str | os.PathLike, rows: list[tuple]) -> None:
    import pandas as pd

    with atomic_path(path) as temporary:
        pd.DataFrame(rows, columns=list(TIMING_COLUMNS)).to_csv(temporary, index=False, float_format="%.6g")


def _describe_run(tracker: TrackerBase) -> dict:
    config, cuda = tracker.config, _cuda_of(tracker)
    return {
        "tracker": type(tracker).__module__.rpartition(".")[2],
        "settings": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {},
        "seed": tracker.seed,
        "threads": usable_cpus(),
        "device": str(getattr(tracker, "device", "cpu")),
        "device_name": cuda.get_device_name() if cuda else None,
        "precision": str(getattr(tracker, "precision", "float64")),
        "n_weights": getattr(tracker, "n_weights", None),
        "machine": machine_facts(),
        "versions": versions(),
    }
