"""Time, memory and physics of a tracker against the number of hits: one event tiled, and events of several pile-ups.

The tiled protocol is that of HEPTv2 (arXiv:2606.20437), see ``tiling``: computing cost, no physics. The pile-up scan is
of whole simulated events, with truth, so it shows too what becomes of the tracks at pile-ups a network has not seen.
"""

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe, require
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.machine import device_name
from trackbench.memory import free_mb, memory_limit, peak_mb, ran_out, reset_peak, resident_mb, return_free_memory
from trackbench.tiling import tile_event
from trackbench.trackers.base import STAGES, Timer, TrackerBase

TILED, PILEUP = "tiled", "pile-up"
OK = "ok"
METRICS = ("dm", "fake_rate", "fake_all")  # of ``evaluation.definitions.METRICS``
COLUMNS = (
    "protocol",  # TILED or PILEUP
    "pileup",  # mean number of soft collisions, NaN of tiled events
    "event_id",
    "n_hits",
    "call",  # number within its size or pile-up
    "status",  # OK, or why there is no measurement
    "device",  # "cpu" or "cuda"
    "device_name",
    "wall_s",  # host arrays to host labels
    "cpu_s",  # CPU process time of the same
    *(f"cpu_s/{stage}" for stage in STAGES),  # NaN of stages the tracker does not have
    "peak_mb",  # largest memory of the process during the call, less that before [MB = 10^6 bytes]
    "device_mb",  # largest memory torch had allocated on a CUDA device, weights included; NaN on a CPU
    "n_candidates",
    *(f"{metric}/{part}" for metric in METRICS for part in ("num", "den")),  # NaN of tiled events: no truth
)
_SCAN_STEP = 100_000  # between the numbers of events of one pile-up and the next
_FACTS = ("protocol", "pileup", "event_id", "n_hits", "call")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScalingPlan:
    """What is measured.

    tiling: numbers of hits the first event is tiled to, ascending, may be empty
    calls: per number, each on another event of that size
    limit_s: larger events are left out if one is expected to take longer [s of wall clock], 0 = no limit
    memory_mb: most memory a call may need, and larger events are left out if one is expected to need more; 0 = what is
        free [MB]
    seed: of the tiling
    """

    tiling: tuple[int, ...] = ()
    calls: int = 2
    limit_s: float = 0.0
    memory_mb: float = 0.0
    seed: int = 0

    def __post_init__(self):
        ascending = not self.tiling or (min(self.tiling) >= 1 and bool((np.diff(self.tiling) > 0).all()))
        require("scaling study tiling", self.tiling, ascending, "ascending numbers >= 1")
        require("scaling study calls", self.calls, self.calls >= 1, ">= 1")
        require("scaling study limit_s", self.limit_s, self.limit_s >= 0, ">= 0")
        require("scaling study memory_mb", self.memory_mb, self.memory_mb >= 0, ">= 0")


@dataclass(frozen=True)
class _Event:
    """One event to reconstruct and what its row says about it."""

    facts: dict
    hits: Hits
    truth: Truth | None = None


def scaling_study(
    tracker: TrackerBase,
    hits: Hits | None,
    plan: ScalingPlan,
    scan: Iterable[tuple[float, Hits, Truth]] = (),
    selection: TruthSelection | None = None,
) -> pd.DataFrame:
    """Measure a tracker on one event tiled to several sizes and on events of several pile-ups.

    tracker: only hits reach it; to measure its memory, nothing else should run in this process
    hits: event to tile, None with an empty ``plan.tiling``
    scan: pile-up, hits and truth, by rising pile-up
    selection: particles asked for
    Returns ``COLUMNS``, a row per call, tiled events first, in the order given. Before the first call, and on a CUDA
    device before each size, there is one more that is not recorded: it imports, compiles or fills pools of memory.
    An event that does not fit in memory is a row with the reason as its ``status`` and NaN for what is not known; so is
    one that is left out because it would need more time or memory than the plan allows (see ``expected``), or because
    a smaller one did not fit.
    Raises InputError if there is neither a size nor an event of the scan.
    """
    selection = selection or TruthSelection()
    measurement = _Measurement(tracker, plan, selection)
    rows = [row for size in plan.tiling for row in measurement.rows(_tiled(hits, size, plan))]
    measurement = dataclasses.replace(measurement, known=[], failed=math.inf)  # tiled events may be cheaper or dearer
    for mean, events in _by_pileup(scan):
        rows += measurement.rows(_scanned(mean, events))
    if not rows:
        raise InputError(describe("scaling study", "no size and no event", "at least one of them"))
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def scan_events(
    events: Iterable[tuple[Hits, Truth]], pileups: Sequence[float], most: int
) -> Iterator[tuple[float, Hits, Truth]]:
    """Give the events of the workflow's pile-up scan their pile-up.

    events: in the order of the sample; those of the first of ``pileups`` are numbered from 100,000, of the second from
        200,000 and so on
    most: events of a pile-up at most, the first ones
    Yields mean number of soft collisions, hits, truth. Raises InputError for an event that is none of the scan.
    """
    taken = [0] * len(pileups)
    for hits, truth in events:
        place = hits.event_id // _SCAN_STEP - 1
        if not 0 <= place < len(pileups):
            known = f"{_SCAN_STEP} to {_SCAN_STEP * (len(pileups) + 1) - 1}"
            raise InputError(describe("pile-up scan", f"event {hits.event_id}", f"numbers from {known}"))
        taken[place] += 1
        if taken[place] <= most:
            yield pileups[place], hits, truth


def expected(n_hits: int, known: Sequence[tuple[int, float]]) -> float:
    """Extrapolate a cost to more hits, so that what cannot be had is not tried.

    known: numbers of hits and costs, any order
    Returns the cost at ``n_hits``: that of the largest event known times a power of the ratio of hits. The power is
    that between this event and the largest one with at most two thirds of its hits, at least 1, and 1 without one.
    Returns 0 if nothing is known or an event of so many hits is.
    """
    known = [one for one in known if one[0] > 0]
    largest = max(known, default=(n_hits, 0.0))
    if n_hits <= largest[0]:
        return 0.0
    smaller = max((one for one in known if 3 * one[0] <= 2 * largest[0] and one[1] > 0), default=None)
    power = 1.0
    if smaller is not None and largest[1] > smaller[1]:
        power = max(math.log(largest[1] / smaller[1]) / math.log(largest[0] / smaller[0]), 1.0)
    return largest[1] * (n_hits / largest[0]) ** power


def _tiled(hits: Hits, size: int, plan: ScalingPlan) -> Iterator[_Event]:
    for call in range(plan.calls):
        event = tile_event(hits, size, plan.seed + call)
        yield _Event(dict(zip(_FACTS, (TILED, math.nan, hits.event_id, size, call), strict=True)), event)


def _scanned(mean: float, events: Sequence[tuple[Hits, Truth]]) -> Iterator[_Event]:
    for call, (hits, truth) in enumerate(events):
        yield _Event(
            dict(zip(_FACTS, (PILEUP, mean, hits.event_id, int(hits.valid.sum()), call), strict=True)), hits, truth
        )


def _by_pileup(scan: Iterable[tuple[float, Hits, Truth]]) -> Iterator[tuple[float, list[tuple[Hits, Truth]]]]:
    """Events of one pile-up at a time, so that not all are in memory."""
    mean, events = None, []
    for pileup, hits, truth in scan:
        if events and pileup != mean:
            yield mean, events
            events = []
        mean = pileup
        events.append((hits, truth))
    if events:
        yield mean, events


@dataclass
class _Measurement:
    """Calls a tracker on one size after the other and foresees what the next ones need.

    known: of each size measured: most hits, longest wall clock [s], largest memory [MB]
    failed: hits of the smallest event that did not fit in memory
    """

    tracker: TrackerBase
    plan: ScalingPlan
    selection: TruthSelection
    known: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)
    failed: float = math.inf
    warm: bool = False

    def rows(self, events: Iterable[_Event]) -> Iterator[dict]:
        """Rows of the events of one size."""
        calls = []
        for event in events:
            n_hits, found = event.facts["n_hits"], {}
            reason = self._reason(n_hits)
            if not reason:
                reason, found = self._try(event, warm=not self.warm or (not calls and self._on_cuda()))
            if reason:
                log.warning("%s, %d hits: %s", event.facts["protocol"], n_hits, reason)
            else:
                calls.append((n_hits, found["wall_s"], found["peak_mb"]))
            yield {**event.facts, "status": reason or OK, **self._device(), **found}
        if calls:
            self.known.append(tuple(max(column) for column in zip(*calls, strict=True)))

    def _reason(self, n_hits: int) -> str:
        """Why an event of this size is left out, "" if it is not."""
        if n_hits >= self.failed:
            return f"left out: {self.failed} hits did not fit in memory"
        seconds, needed = expected(n_hits, [(n, wall) for n, wall, _ in self.known]), 0.0
        if self.plan.limit_s and seconds > self.plan.limit_s:
            return f"left out: about {seconds:.3g} s expected, limit {self.plan.limit_s:g} s"
        if not self._on_cuda():
            needed = expected(n_hits, [(n, peak) for n, _, peak in self.known])
        if needed > (free := free_mb(self.plan.memory_mb)):
            return f"left out: about {needed:.0f} MB expected, {free:.0f} MB can be had"
        return ""

    def _try(self, event: _Event, warm: bool) -> tuple[str, dict]:
        """Measure one event. Returns the reason if it does not fit in memory, and what was found."""
        try:
            if warm:
                self.tracker.reconstruct(event.hits, Timer())
                self.warm = True
            # Addresses that a device needs are no memory; elsewhere what does not fit is an error, not the end.
            with memory_limit(math.inf if self._on_cuda() else free_mb(self.plan.memory_mb)):
                return "", self._call(event)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            self.failed = event.facts["n_hits"]
            text = str(error).partition("\n")[0]
            return f"not enough memory ({text})" if text else "not enough memory", {}

    def _call(self, event: _Event) -> dict:
        cuda, timer = self._cuda(), Timer()
        return_free_memory()
        before = resident_mb()
        reset_peak()
        if cuda:
            cuda.reset_peak_memory_stats()
            cuda.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        labels = self.tracker.reconstruct(event.hits, timer)
        if cuda:
            cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = max(peak_mb() - before, 0.0)
        device_mb = cuda.max_memory_allocated() / 1e6 if cuda else math.nan
        log.info("%s, %d hits: %.3f s, %.0f MB", event.facts["protocol"], event.facts["n_hits"], wall, peak)
        found = {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak, "device_mb": device_mb}
        found |= {f"cpu_s/{stage}": seconds for stage, seconds in timer.cpu.items()}
        return found | self._physics(labels, event.truth)

    def _physics(self, labels: np.ndarray, truth: Truth | None) -> dict:
        if truth is None:
            sizes = np.bincount(labels[labels >= 0])
            return {"n_candidates": int((sizes >= self.selection.min_cluster_size).sum())}
        counts = evaluate_event(labels, truth, self.selection).counts
        found = {f"{metric}/{part}": counts[metric][i] for metric in METRICS for i, part in enumerate(("num", "den"))}
        return {"n_candidates": int(counts["n_candidates"][0]), **found}

    def _on_cuda(self) -> bool:
        return str(getattr(self.tracker, "device", "cpu")).startswith("cuda")

    def _cuda(self):
        """The module ``torch.cuda`` if the tracker runs there, else None; never loads torch by itself."""
        return sys.modules["torch"].cuda if self._on_cuda() else None

    def _device(self) -> dict:
        device = "cuda" if self._on_cuda() else "cpu"
        return {"device": device, "device_name": device_name(device)}
