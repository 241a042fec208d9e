"""Time, memory and physics against the number of hits: what is measured, what is left out, and why."""

import logging
import math

import numpy as np
import pytest
from toys import toy_event

from trackbench import scaling
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.selection import TruthSelection
from trackbench.memory import memory_limit
from trackbench.scaling import COLUMNS, OK, PILEUP, TILED, ScalingPlan, expected, scaling_study, scan_events
from trackbench.trackers.base import TrackerBase


class Fake(TrackerBase):
    """Remembers the events it sees; gives all hits to tracks of four hits in the order of their numbers."""

    def __init__(self):
        super().__init__(None)
        self.seen = []

    def find_tracks(self, hits, timer):
        self.seen.append((len(hits), hits.xyz.tobytes()))
        with timer.stage("network"):
            return np.arange(len(hits)) // 4


def scan(pileups=(2, 5), n_events=2):
    """Events of more particles at a higher pile-up."""
    for number, mean in enumerate(pileups):
        for k in range(n_events):
            yield (mean, *toy_event(10 * mean, seed=k, event_id=100_000 * (number + 1) + k))


def test_rows_of_tiled_events_and_of_the_scan():
    tracker = Fake()
    hits, _ = toy_event(10)
    table = scaling_study(tracker, hits, ScalingPlan((50, 200), calls=2), scan())
    assert tuple(table.columns) == COLUMNS
    tiled, real = (table[table["protocol"] == name] for name in (TILED, PILEUP))
    assert tiled[["n_hits", "call"]].values.tolist() == [[50, 0], [50, 1], [200, 0], [200, 1]]
    assert tiled["pileup"].isna().all() and tiled[[f"{m}/num" for m in scaling.METRICS]].isna().all(axis=None)
    assert real[["pileup", "event_id", "call"]].values.tolist() == [
        [2, 100_000, 0],
        [2, 100_001, 1],
        [5, 200_000, 0],
        [5, 200_001, 1],
    ]
    assert (table["status"] == OK).all() and set(table["device"]) == {"cpu"}
    assert (table["cpu_s/network"] >= 0).all() and table["cpu_s/clustering"].isna().all()
    assert (table["wall_s"] > 0).all() and (table["peak_mb"] >= 0).all() and table["device_mb"].isna().all()
    assert tiled["n_candidates"].tolist() == [12, 12, 50, 50]  # 50 hits: the last track has two, too few
    # one warm-up at all; the recorded events of a size differ
    assert [n for n, _ in tracker.seen] == [50, 50, 50, 200, 200, *real["n_hits"]]
    assert tracker.seen[0] == tracker.seen[1] != tracker.seen[2]


@pytest.mark.parametrize("drop", [False, True])
def test_physics_of_the_scan_by_hand(drop):
    """Truth itself as the tracker finds all targets; without every second particle, the others."""
    _, hits, truth = next(scan((3,), 1))
    ids = truth.particles["particle_id"].to_numpy()
    second = np.isin(truth.particle_id, ids[1::2])

    class Knows(Fake):
        def find_tracks(self, hits, timer):
            return np.where(drop & second, -1, truth.particle_id)

    selection = TruthSelection(pt_min=0.0)
    table = scaling_study(Knows(), None, ScalingPlan(), [(3, hits, truth)], selection)
    target = selection.selected(truth.particles)
    found = target[::2].sum() if drop else target.sum()
    assert 0 < found <= target.sum()
    assert table.loc[0, ["dm/num", "dm/den"]].tolist() == [found, target.sum()]
    assert table.loc[0, ["fake_rate/num", "fake_rate/den"]].tolist() == [0, found]


def test_memory_is_that_of_the_call_only():
    class Hungry(Fake):
        def find_tracks(self, hits, timer):
            needed = np.ones(len(hits) * 5000)  # 0.04 MB per hit
            return np.zeros(len(hits), int) + int(needed[-1])

    before = np.ones(10_000_000)  # 80 MB that are there already
    table = scaling_study(Hungry(), toy_event(10)[0], ScalingPlan((500, 2000), calls=1))
    assert table["peak_mb"].to_numpy() == pytest.approx([20, 80], rel=0.2)
    assert before[0] == 1


def test_an_event_that_does_not_fit_is_a_row_with_the_reason(caplog):
    class Greedy(Fake):
        def find_tracks(self, hits, timer):
            if len(hits) > 100:
                np.empty(len(hits) * 10**6)  # 8 MB per hit: an error of the real allocator
            return super().find_tracks(hits, timer)

    with caplog.at_level(logging.WARNING, logger="trackbench"):
        table = scaling_study(Greedy(), toy_event(10)[0], ScalingPlan((50, 200, 400), calls=2, memory_mb=1000))
    assert table["status"].tolist()[:2] == [OK, OK]
    assert table["status"][2].startswith("not enough memory (Unable to allocate 1.49 GiB")
    assert table["status"].tolist()[3:] == ["left out: 200 hits did not fit in memory"] * 3
    assert table.loc[2:, ["wall_s", "peak_mb", "n_candidates"]].isna().all(axis=None)
    assert "tiled, 200 hits: not enough memory" in caplog.text
    np.empty(200_000_000)  # 1.6 GB: the limit is gone


def test_the_scan_goes_on_after_tiled_events_did_not_fit():
    class Greedy(Fake):
        def find_tracks(self, hits, timer):
            if len(hits) == 200:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
            return super().find_tracks(hits, timer)

    table = scaling_study(Greedy(), toy_event(10)[0], ScalingPlan((50, 200), calls=1), scan((2,), 1))
    assert (table["status"] == OK).tolist() == [True, False, True]


def test_other_errors_are_not_taken_for_memory():
    class Broken(Fake):
        def find_tracks(self, hits, timer):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        scaling_study(Broken(), toy_event(10)[0], ScalingPlan((50,)))


def test_time_is_foreseen(monkeypatch):
    """2, 8 and 32 s would follow each other: a square law."""
    now = [0.0]

    class Slow(Fake):
        def find_tracks(self, hits, timer):
            now[0] += 2.0 * (len(hits) / 50) ** 2
            return super().find_tracks(hits, timer)

    monkeypatch.setattr(scaling.time, "perf_counter", lambda: now[0])
    table = scaling_study(Slow(), toy_event(10)[0], ScalingPlan((50, 100, 200, 400), calls=1, limit_s=20.0))
    assert table["wall_s"].tolist()[:2] == [2.0, 8.0]
    left_out = [f"left out: about {seconds} s expected, limit 20 s" for seconds in (32, 128)]
    assert table["status"].tolist() == [OK, OK, *left_out]


def test_memory_is_foreseen(monkeypatch):
    monkeypatch.setattr(scaling, "resident_mb", lambda: 100.0)
    monkeypatch.setattr(scaling, "peak_mb", lambda: 150.0)
    plan = ScalingPlan((50, 100, 150), calls=1, memory_mb=120.0)
    monkeypatch.setattr(scaling, "memory_limit", lambda mb: memory_limit(math.inf))
    table = scaling_study(Fake(), toy_event(10)[0], plan)
    assert table["status"].tolist() == [OK, OK, OK]  # equal memory for 50 and 100 hits: linear from the largest
    monkeypatch.setattr(scaling, "peak_mb", lambda: 190.0)
    table = scaling_study(Fake(), toy_event(10)[0], plan)
    left_out = [f"left out: about {mb} MB expected, 120 MB can be had" for mb in (180, 270)]
    assert table["status"].tolist() == [OK, *left_out]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7, 2.0])
def test_power_law_of_costs(power):
    known = [(n, 3e-6 * n**power) for n in (1000, 300, 3000)]
    scaled = 3e-6 * (3000**power) * 10 ** max(power, 1.0)  # costs rise at least with the hits
    assert expected(30_000, known) == pytest.approx(scaled)


def test_power_law_needs_distinct_sizes():
    assert expected(2000, [(1000, 1.0), (990, 0.5)]) == 2.0  # two events of nearly the same size give no power
    assert expected(2000, [(1000, 1.0)]) == 2.0
    assert expected(2000, []) == expected(1000, [(1000, 1.0)]) == 0.0


def test_an_event_without_hits_is_measured_and_tells_nothing_about_others():
    _, hits, truth = next(scan((3,), 1))
    nothing = np.zeros(0, dtype=int)
    empty = Truth(*(np.zeros(0, kind) for kind in (int, int, float)), truth.particles, event_id=99)
    table = scaling_study(Fake(), None, ScalingPlan(), [(0, hits.take(nothing), empty), (3, hits, truth)])
    assert table["status"].tolist() == [OK, OK] and table["n_hits"].tolist() == [0, len(hits)]
    assert table.loc[0, ["dm/den", "n_candidates"]].tolist() == [0, 0]
    assert expected(100, [(0, 1.0)]) == 0.0


def test_equal_sizes_of_a_pile_up_are_one_point_of_the_extrapolation(monkeypatch):
    now = [0.0]

    class Jumpy(Fake):
        def find_tracks(self, hits, timer):
            now[0] += 1.0 + len(self.seen)  # each event slower than the one before
            return super().find_tracks(hits, timer)

    monkeypatch.setattr(scaling.time, "perf_counter", lambda: now[0])
    table = scaling_study(Jumpy(), None, ScalingPlan(limit_s=1000.0), scan((2, 3, 4), 3))
    assert (table["status"] == OK).all() and len(table) == 9


def test_events_of_the_scan_have_the_pile_up_of_their_number():
    events = [(hits, truth) for _, hits, truth in scan((2, 5), 3)]
    found = list(scan_events(events, [20, 50.5], 2))
    assert [(mean, hits.event_id) for mean, hits, _ in found] == [
        (20, 100_000),
        (20, 100_001),
        (50.5, 200_000),
        (50.5, 200_001),
    ]
    assert found[0][2] is events[0][1]
    with pytest.raises(InputError, match="pile-up scan: event 200000, expected numbers from 100000 to 199999"):
        list(scan_events(events, [20], 2))
    with pytest.raises(InputError, match="event 7, expected"):
        list(scan_events([toy_event(3, event_id=7)], [20], 2))


def test_same_seed_same_events():
    seen = []
    for seed in (1, 1, 2):
        tracker = Fake()
        scaling_study(tracker, toy_event(10)[0], ScalingPlan((300,), calls=2, seed=seed))
        seen.append(tracker.seen)
    assert seen[0] == seen[1] != seen[2]


def test_nothing_to_measure():
    with pytest.raises(InputError, match="scaling study: no size and no event"):
        scaling_study(Fake(), None, ScalingPlan())
    with pytest.raises(InputError, match="no hit to tile"):
        scaling_study(Fake(), toy_event(5)[0].take(np.zeros(0, int)), ScalingPlan((10,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiling": (20, 10)}, r"tiling: value \(20, 10\), expected ascending numbers >= 1"),
        ({"tiling": (0, 10)}, r"tiling: value \(0, 10\)"),
        ({"calls": 0}, "calls: value 0, expected >= 1"),
        ({"limit_s": -1.0}, "limit_s: value -1.0, expected >= 0"),
        ({"memory_mb": -1.0}, "memory_mb: value -1.0, expected >= 0"),
    ],
)
def test_wrong_plans(changes, message):
    with pytest.raises(ConfigError, match=f"scaling study {message}"):
        ScalingPlan(**{"tiling": (10, 20), **changes})


def test_limit_of_memory_is_an_error_and_ends_with_the_block():
    with memory_limit(100.0):
        with pytest.raises(MemoryError):
            np.empty(100_000_000)
        np.empty(1_000_000)
    np.empty(20_000_000)
    with memory_limit(math.inf):
        np.empty(20_000_000)
