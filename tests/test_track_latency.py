"""Events of a wanted number of tracks, and the timing of trackers on them."""

import logging

import numpy as np
import pytest
from metric_events import make_truth
from toys import toy_event

from trackbench import track_latency
from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError
from trackbench.track_latency import COLUMNS, LatencyPlan, draw_tracks, time_on_devices, time_tracks
from trackbench.trackers.base import TrackerBase


def small_event(particle_id, event_id=1):
    """Hit i of event e lies at (i, e, 0)."""
    n = len(particle_id)
    ids = sorted(set(particle_id) - {0})
    truth = make_truth(particle_id, {pid: (1.0, 0.0) for pid in ids}, event_id=event_id)
    one = np.ones(n, dtype=np.int64)
    xyz = np.column_stack((np.arange(n), np.full(n, event_id), np.zeros(n))).astype(float)
    return Hits(truth.hit_id, xyz, one, one, one, np.ones(n, dtype=bool), event_id=event_id), truth


EVENTS = [small_event([1, 1, 0, 2, 2, 2], 1), small_event([0, 7, 7, 7, 7, 2], 2)]


class Fake(TrackerBase):
    """Remembers its events; a stage of its own."""

    def __init__(self):
        super().__init__(None)
        self.seen = []

    def find_tracks(self, hits, timer):
        self.seen.append((len(hits), hits.xyz.tobytes()))
        with timer.stage("network"):
            return np.zeros(len(hits), dtype=np.int64)


def test_all_hits_of_the_drawn_particles():
    hits, track = draw_tracks(EVENTS, 2, np.random.default_rng(0))
    assert sorted(map(tuple, hits.xyz.astype(int))) == [(i, 1, 0) for i in (0, 1, 3, 4, 5)]
    assert hits.hit_id.tolist() == [1, 2, 3, 4, 5] and hits.valid.all()
    of_hit = dict(zip(hits.xyz[:, 0].astype(int).tolist(), track.tolist(), strict=True))
    assert of_hit == {0: 1, 1: 1, 3: 2, 4: 2, 5: 2}


def test_one_track_is_one_particle_with_all_its_hits():
    sizes = set()
    for seed in range(20):
        hits, track = draw_tracks(EVENTS, 1, np.random.default_rng(seed))
        assert (track == 1).all() and (hits.xyz[:, 1] == 1).all()
        sizes.add(len(hits))
    assert sizes == {2, 3}


def test_events_are_overlaid_with_tracks_of_their_own():
    hits, track = draw_tracks(EVENTS, 4, np.random.default_rng(1))
    assert len(hits) == 10 and sorted(np.unique(track)) == [1, 2, 3, 4]
    same_id = {tuple(np.unique(track[hits.xyz[:, 1] == event])) for event in (1, 2)}
    assert same_id == {(1, 2), (3, 4)}  # particle 2 exists in both events
    three, _ = draw_tracks(EVENTS, 3, np.random.default_rng(1), first=1)
    assert set(three.xyz[:, 1]) <= {1.0, 2.0}
    only_second, _ = draw_tracks(EVENTS, 2, np.random.default_rng(1), first=1)
    assert set(only_second.xyz[:, 1]) == {2.0}


def test_padding_and_noise_stay_out():
    hits, truth = EVENTS[0]
    valid = np.array([False, True, True, True, True, True])
    padded = Hits(hits.hit_id, hits.xyz, hits.volume_id, hits.layer_id, hits.module_id, valid, event_id=1)
    found, _ = draw_tracks([(padded, truth)], 2, np.random.default_rng(0))
    assert sorted(found.xyz[:, 0]) == [1, 3, 4, 5]


def test_draws_are_deterministic():
    events = [toy_event(20, seed=k, event_id=k + 1) for k in range(2)]
    first, again, other = (draw_tracks(events, 25, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first.xyz.tobytes() == again.xyz.tobytes() != other.xyz.tobytes()


def test_too_few_particles():
    message = "track latency: 2 events with 4 particles with hits together, expected at least 5; give more events"
    with pytest.raises(InputError, match=message):
        draw_tracks(EVENTS, 5, np.random.default_rng(0))
    with pytest.raises(InputError, match="0 events with 0 particles"):
        draw_tracks([], 1, np.random.default_rng(0))
    empty = Truth(*(np.zeros(0, kind) for kind in (int, int, float)), EVENTS[0][1].particles)
    hits = EVENTS[0][0].take(np.zeros(0, dtype=int))
    with pytest.raises(InputError, match="1 events with 0 particles"):
        time_tracks(Fake(), [(hits, empty)], LatencyPlan((1,)))


def test_timing_rows():
    tracker = Fake()
    events = [toy_event(20, seed=k, event_id=k + 1) for k in range(2)]
    table = time_tracks(tracker, events, LatencyPlan((5, 30), calls=3, warmup=2, seed=4))
    assert tuple(table.columns) == COLUMNS
    assert table.groupby(["n_tracks", "stage"]).size().to_dict() == {
        (5, "network"): 3,
        (5, "total"): 3,
        (30, "network"): 3,
        (30, "total"): 3,
    }
    assert len(tracker.seen) == 2 * (2 + 3) and len(set(tracker.seen)) == 10  # no event twice, warm-up included
    timed = [n for i, (n, _) in enumerate(tracker.seen) if i % 5 >= 2]
    assert table.loc[table["stage"] == "total", "n_hits"].tolist() == timed
    wide = table.pivot_table(index=["n_tracks", "call"], columns="stage", values="wall_s")
    assert (wide["total"] >= wide["network"]).all() and (wide["network"] > 0).all()


def test_limit_leaves_out_larger_numbers(monkeypatch, caplog):
    clock = iter(np.arange(0.0, 1000.0, 2.0))  # each look at the clock is 2 s later
    monkeypatch.setattr(track_latency.time, "perf_counter", lambda: next(clock))
    with caplog.at_level(logging.WARNING, logger="trackbench"):
        table = time_tracks(Fake(), [toy_event(20)], LatencyPlan((5, 10, 15), calls=1, limit_s=1.0))
    assert set(table["n_tracks"]) == {5}
    assert "10, 15 tracks left out" in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 4 GiB")])
def test_no_memory_leaves_out_larger_numbers(caplog, error):
    class Greedy(Fake):
        def find_tracks(self, hits, timer):
            if len(self.seen) >= 4:  # a warm-up and a call of 5 tracks and of 10
                raise error
            return super().find_tracks(hits, timer)

    with caplog.at_level(logging.WARNING, logger="trackbench"):
        table = time_tracks(Greedy(), [toy_event(20)], LatencyPlan((5, 10, 15, 20), calls=1))
    assert set(table["n_tracks"]) == {5, 10}
    assert "not enough memory: 15, 20 tracks left out" in caplog.text


def test_other_errors_are_not_taken_for_memory():
    class Broken(Fake):
        def find_tracks(self, hits, timer):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        time_tracks(Broken(), [toy_event(20)], LatencyPlan((5, 10), calls=1))


def test_memory_that_would_be_needed_is_foreseen(monkeypatch, caplog):
    monkeypatch.setattr(track_latency, "resident_mb", lambda: 100.0)
    monkeypatch.setattr(track_latency, "peak_mb", lambda: 150.0)
    with caplog.at_level(logging.WARNING, logger="trackbench"):
        table = time_tracks(Fake(), [toy_event(20)], LatencyPlan((5, 10, 20), calls=1, memory_mb=199.0))
    assert set(table["n_tracks"]) == {5}  # 50 MB for 5 tracks, so 200 for 10
    assert "200 MB may be needed, 199 MB can be had: 10, 20 tracks left out" in caplog.text


def test_devices(monkeypatch):
    events = [toy_event(20)]
    plan = LatencyPlan((10,), calls=1)
    table = time_on_devices("hit_angles", {}, events, plan)
    assert set(table["device"]) == {"cpu"} and table["device_name"].str.len().min() > 0
    assert {"clustering", "total"} <= set(table["stage"])
    with pytest.raises(ConfigError, match="track latency devices: cuda, expected cpu"):
        time_on_devices("hit_angles", {}, events, plan, ["cuda"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": ()}, r"tracks: value \(\), expected ascending numbers >= 1"),
        ({"tracks": (20, 10)}, r"tracks: value \(20, 10\)"),
        ({"tracks": (0, 10)}, r"tracks: value \(0, 10\)"),
        ({"calls": 0}, "calls: value 0, expected >= 1"),
        ({"warmup": 0}, "warmup: value 0, expected >= 1"),
        ({"limit_s": -1.0}, "limit_s: value -1.0, expected >= 0"),
    ],
)
def test_wrong_plans(changes, message):
    with pytest.raises(ConfigError, match=f"track latency {message}"):
        LatencyPlan(**{"tracks": (10, 20), **changes})
