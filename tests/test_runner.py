"""Running a tracker and evaluating its tracks: files, measurements, errors."""

import dataclasses
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from toy_trackers import ToyFitter
from toys import toy_event

from trackbench.data.hits import Hits
from trackbench.data.tracks import PARAMETER_COLUMNS, TrackParameters, Tracks
from trackbench.errors import InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks, match_labels, read_tracks
from trackbench.runner import run_tracker
from trackbench.sectored import SectoredTracker
from trackbench.trackers.base import TrackerBase


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the tracker below."""

    bins: int = 40


class AzimuthTracker(TrackerBase):
    """Labels hits by bins in azimuth; keeps what it was given and how often."""

    def __init__(self, config=None, seed=0):
        super().__init__(config or Config(), seed)
        self.calls = []

    def find_tracks(self, hits, timer):
        self.calls.append(hits)
        with timer.stage("clustering"):
            phi = np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
            labels = np.floor((phi + np.pi) / (2 * np.pi) * self.config.bins).astype(int)
        with timer.stage("postprocess"):
            labels[np.bincount(labels, minlength=self.config.bins + 1)[labels] < 3] = -1
        return labels


class MemoryTracker(AzimuthTracker):
    """Keeps 150 MB from its first call on; touches 80 MB in the third call and 40 MB in every other."""

    def find_tracks(self, hits, timer):
        if not self.calls:
            self.kept = np.ones(150 * 125_000)
        np.ones((80 if len(self.calls) == 2 else 40) * 125_000).sum()
        return super().find_tracks(hits, timer)


class SmallBlocksTracker(AzimuthTracker):
    """Holds 20 MB in small blocks during each call."""

    def find_tracks(self, hits, timer):
        blocks = [bytes(50_000) for _ in range(400)]
        return super().find_tracks(hits, timer) if blocks else None


class ChangingTracker(AzimuthTracker):
    """Gives other tracks in every call."""

    def find_tracks(self, hits, timer):
        return np.full(len(hits), -1) if self.calls else super().find_tracks(hits, timer)


class ChangingFit(ToyFitter):
    """Gives the same tracks in every call, but another covariance."""

    calls = 0

    def find_tracks(self, hits, timer):
        self.calls += 1
        tracks = super().find_tracks(hits, timer)
        covariance = tracks.parameters.covariance * self.calls
        return Tracks(tracks.labels, dataclasses.replace(tracks.parameters, covariance=covariance))


class FailingTracker(AzimuthTracker):
    """Fails on the second event."""

    def find_tracks(self, hits, timer):
        if hits.event_id == 2:
            raise RuntimeError("no more")
        return super().find_tracks(hits, timer)


@pytest.fixture
def events():
    return [toy_event(seed=i, event_id=i) for i in (1, 2, 3)]


@pytest.fixture
def paths(tmp_path):
    names = {"out_tracks": "t.parquet", "out_parameters": "t-parameters.parquet"}
    names |= {"out_timing": "t-timing.csv", "out_run": "t-run.json"}
    return {key: tmp_path / name for key, name in names.items()}


@pytest.fixture
def tables(tmp_path):
    names = ("counts.csv", "particles.parquet", "candidates.parquet", "residuals.parquet", "vertices.parquet")
    return EvaluationFiles(*(tmp_path / "metrics" / name for name in names))


def test_files_of_a_run(events, paths):
    tracker = AzimuthTracker(seed=4)
    run_tracker(tracker, events, **paths, warmup=2, facts={"threads": 1, "tracker": "azimuth", "sectors": {"count": 2}})
    tracks = pd.read_parquet(paths["out_tracks"])
    assert list(tracks.columns) == ["event_id", "hit_id", "track_id"]
    assert (tracks.dtypes == "int64").all()
    assert tracks["event_id"].unique().tolist() == [1, 2, 3]
    for hits, _ in events:
        part = tracks[tracks["event_id"] == hits.event_id]
        np.testing.assert_array_equal(part["hit_id"], hits.hit_id)
        np.testing.assert_array_equal(part["track_id"], AzimuthTracker().reconstruct(hits))
    assert (tracks["track_id"] == -1).any()
    run = json.loads(paths["out_run"].read_text())
    assert run["settings"] == {"bins": 40}
    assert run["tracker"] == "azimuth"
    assert (run["seed"], run["threads"], run["warmup"], run["events"]) == (4, 1, 2, 3)
    assert run["first_call_s"] > 0
    assert run["repeatable"] is True
    assert run["versions"]["numpy"] == np.__version__
    assert run["machine"]["cpus"] >= 1


def assert_types(frame):
    integers = {"event_id", "track_id", "n_dof", "n_holes"}
    assert tuple(frame.columns) == PARAMETER_COLUMNS
    for name, dtype in frame.dtypes.items():
        assert dtype == ("int64" if name in integers else "float64"), name


def test_parameters_file(events, paths):
    run_tracker(ToyFitter(), events, **paths)
    table = pd.read_parquet(paths["out_parameters"])
    assert_types(table)
    assert table["event_id"].unique().tolist() == [1, 2, 3]
    tracks = pd.read_parquet(paths["out_tracks"])
    for hits, _ in events:
        expected = ToyFitter().reconstruct_tracks(hits).parameters
        part = table[table["event_id"] == hits.event_id]
        assert TrackParameters.from_frame(part).equals(expected)
        labels = tracks.loc[tracks["event_id"] == hits.event_id, "track_id"]
        assert set(part["track_id"]) == set(labels) - {-1}
    assert json.loads(paths["out_run"].read_text())["repeatable"] is True


def test_parameters_file_of_a_tracker_that_does_not_fit(events, paths):
    run_tracker(AzimuthTracker(), events, **paths)
    table = pd.read_parquet(paths["out_parameters"])
    assert_types(table)
    assert len(table) == 0


def test_events_without_hits_have_no_parameters(events, paths):
    hits, truth = events[1]
    empty = (hits.take(np.zeros(0, dtype=int)), truth)
    run_tracker(ToyFitter(), [events[0], empty, events[2]], **paths)
    assert pd.read_parquet(paths["out_parameters"])["event_id"].unique().tolist() == [1, 3]
    assert pd.read_csv(paths["out_timing"]).query("event_id == 2")["n_hits"].tolist() == [0]


def test_changing_parameters_are_reported(events, paths, caplog):
    run_tracker(ChangingFit(), events, **paths)
    assert json.loads(paths["out_run"].read_text())["repeatable"] is False
    assert "two calls with the same seed gave different tracks" in caplog.text


def test_timing_file(events, paths):
    tracker = AzimuthTracker()
    run_tracker(tracker, events, **paths, warmup=2)
    assert len(tracker.calls) == 5  # two warm-up calls, then every event once
    timing = pd.read_csv(paths["out_timing"])
    assert list(timing.columns) == ["event_id", "n_hits", "stage", "wall_s", "cpu_s"]
    assert timing["stage"].tolist() == ["clustering", "postprocess", "total"] * 3
    assert timing["n_hits"].tolist() == [len(hits) for hits, _ in events for _ in range(3)]
    wall = timing.pivot_table(index="event_id", columns="stage", values="wall_s")
    assert (wall["total"] >= wall["clustering"] + wall["postprocess"]).all()
    assert (timing[["wall_s", "cpu_s"]] >= 0).all(axis=None)


def test_only_hits_reach_the_tracker(events, paths):
    tracker = AzimuthTracker()
    run_tracker(tracker, events, **paths)
    assert all(type(given) is Hits for given in tracker.calls)


def test_same_run_same_bytes(events, paths):
    names = ("out_tracks", "out_parameters")
    run_tracker(ToyFitter(), events, **paths)
    first = [paths[name].read_bytes() for name in names]
    run_tracker(ToyFitter(), events, **paths)
    assert [paths[name].read_bytes() for name in names] == first


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory cannot be reset here")
def test_peak_memory(events, paths):
    np.ones(500 * 125_000).sum()  # 500 MB before the run do not count
    run_tracker(MemoryTracker(), events, **paths)
    run = json.loads(paths["out_run"].read_text())
    assert 185 < run["first_call_memory_mb"] < 230
    assert 78 < run["peak_memory_mb"] < 110


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory cannot be reset here")
def test_memory_freed_before_the_run_is_not_reused(events, paths):
    """Many small blocks stay with the process when freed; the tracker's own 20 MB must still show."""
    blocks = [bytes(50_000) for _ in range(2000)]
    del blocks
    run_tracker(SmallBlocksTracker(), events, **paths)
    assert 18 < json.loads(paths["out_run"].read_text())["peak_memory_mb"] < 60


class FakeCuda:
    """Notes what is asked of ``torch.cuda``; 3 MB at most in the third call, 2 MB in the others."""

    def __init__(self):
        self.asked = []

    def synchronize(self):
        self.asked.append("synchronize")

    def reset_peak_memory_stats(self):
        self.asked.append("reset")

    def get_device_name(self):
        return "A device"

    def max_memory_allocated(self):
        calls = self.asked.count("call")
        return {1: 9_000_000, 3: 3_000_000}.get(calls, 2_000_000)


class CudaTracker(AzimuthTracker):
    """Pretends to run on a device."""

    device, precision, cuda = "cuda", "float32", None

    def find_tracks(self, hits, timer):
        self.cuda.asked.append("call")
        return super().find_tracks(hits, timer)


@pytest.mark.parametrize("sectors", [1, 2])
def test_calls_on_a_device_end_when_it_has_finished(events, paths, monkeypatch, sectors):
    tracker = CudaTracker()
    tracker.cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=tracker.cuda))
    run_tracker(tracker if sectors == 1 else SectoredTracker(tracker, 2), events, **paths)
    # One warm-up call and three events, each between two synchronisations.
    one = ["reset", "synchronize", *["call"] * sectors, "synchronize"]
    assert tracker.cuda.asked == one * 4
    run = json.loads(paths["out_run"].read_text())
    assert (run["device"], run["device_name"], run["precision"]) == ("cuda", "A device", "float32")
    if sectors == 1:
        assert run["peak_device_memory_mb"] == 3.0  # not the 9 of the first call


def test_no_device_no_device_memory(events, paths, monkeypatch):
    tracker = AzimuthTracker()
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    run_tracker(tracker, events, **paths)
    assert cuda.asked == []
    run = json.loads(paths["out_run"].read_text())
    assert (run["device"], run["device_name"]) == ("cpu", None)
    assert run["peak_device_memory_mb"] is None


def test_changing_tracks_are_reported(events, paths, caplog):
    run_tracker(ChangingTracker(), events, **paths)
    assert json.loads(paths["out_run"].read_text())["repeatable"] is False
    assert "two calls with the same seed gave different tracks" in caplog.text


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory cannot be reset here")
def test_an_event_without_hits_warms_nothing_up(events, paths):
    hits, truth = events[0]
    empty = hits.take(np.zeros(len(hits), bool))
    empty = dataclasses.replace(empty, event_id=99)
    tracker = MemoryTracker()
    run_tracker(tracker, [(empty, None), (hits, truth), *events[1:]], **paths)
    assert len(tracker.calls) == 1 + len(events)  # the warm-up is a call with hits
    run = json.loads(paths["out_run"].read_text())
    timing = pd.read_csv(paths["out_timing"])
    assert run["events"] == len(events) + 1 and timing["event_id"].iloc[0] == 99
    assert run["first_call_memory_mb"] > 150 > run["peak_memory_mb"]  # and so is the first call
    assert run["repeatable"]


def test_without_warmup_the_first_event_is_the_first_call(events, paths):
    tracker = AzimuthTracker()
    run_tracker(tracker, events, **paths, warmup=0)
    assert len(tracker.calls) == 3
    run = json.loads(paths["out_run"].read_text())
    assert run["repeatable"] is None
    total = pd.read_csv(paths["out_timing"]).query("stage == 'total'")["wall_s"].iloc[0]
    assert run["first_call_s"] == pytest.approx(total, rel=1e-4)


def test_nothing_is_left_of_a_failed_run(events, paths, tmp_path):
    with pytest.raises(RuntimeError, match="no more"):
        run_tracker(FailingTracker(), events, **paths)
    assert list(tmp_path.iterdir()) == []


def test_events_that_cannot_be_run(events, paths):
    with pytest.raises(InputError, match="events: there are none"):
        run_tracker(AzimuthTracker(), [], **paths)
    with pytest.raises(InputError, match="event 1 appears twice"):
        run_tracker(AzimuthTracker(), [events[0], events[0]], **paths)


def test_padding_is_not_written(paths, tables):
    hits, truth = toy_event(event_id=5)
    padded_hits, padded_truth = pad(hits, truth, 7)
    run_tracker(AzimuthTracker(), [(padded_hits, padded_truth)], **paths)
    assert len(pd.read_parquet(paths["out_tracks"])) == len(hits)
    evaluate_tracks(paths["out_tracks"], [(padded_hits, padded_truth)], TruthSelection(), tables)
    counts = pd.read_csv(tables.counts).set_index("metric")
    assert counts.loc["n_hits", "num"] == len(hits)


def pad(hits, truth, n):
    """Append ``n`` padding rows to an event."""
    index = np.concatenate([np.arange(len(hits)), np.zeros(n, dtype=int)])
    valid = np.arange(len(index)) < len(hits)
    parts = (truth.hit_id[index], truth.particle_id[index], truth.weight[index])
    padded_truth = type(truth)(*parts, truth.particles, truth.event_id)
    return dataclasses.replace(hits.take(index), valid=valid), padded_truth


def test_evaluated_tables(events, paths, tables):
    run_tracker(AzimuthTracker(), events, **paths)
    evaluate_tracks(paths["out_tracks"], iter(events), TruthSelection(), tables)
    counts = pd.read_csv(tables.counts)
    assert list(counts.columns) == ["event_id", "metric", "num", "den"]
    particles, candidates = (pd.read_parquet(path) for path in (tables.particles, tables.candidates))
    for hits, truth in events:
        expected = evaluate_event(AzimuthTracker().reconstruct(hits), truth)
        found = counts[counts["event_id"] == hits.event_id].set_index("metric")
        assert set(found.index) == set(expected.counts)
        for name, value in expected.counts.items():
            assert tuple(found.loc[name, ["num", "den"]]) == pytest.approx(value, rel=1e-12)
        pd.testing.assert_frame_equal(
            particles[particles["event_id"] == hits.event_id].reset_index(drop=True), expected.particles
        )
        assert (candidates["event_id"] == hits.event_id).sum() == len(expected.candidates)


def write_tracks(path, events, change=lambda frame: frame):
    frames = [pd.DataFrame({"event_id": h.event_id, "hit_id": h.hit_id, "track_id": 0}) for h, _ in events]
    change(pd.concat(frames, ignore_index=True)).to_parquet(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[1:], "event 1: 1 hits of the event are missing and 0 are not in the event (first hit_id 1)"),
        (lambda f: pd.concat([f, f.iloc[:1].assign(hit_id=9999)]), "0 hits of the event are missing and 1 are not"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "1 duplicate hit_id (first 1 of event 1), expected unique"),
        (lambda f: f[f["event_id"] != 3], "event 3 is not there or was given twice"),
        (lambda f: pd.concat([f, f.iloc[:1].assign(event_id=8)]), "1 events without truth (first 8)"),
        (lambda f: f.drop(columns="track_id"), "no column track_id, expected columns event_id, hit_id, track_id"),
        (lambda f: f.astype({"track_id": float}), "column track_id is float64, expected integers"),
    ],
)
def test_tracks_that_do_not_fit(events, tables, tmp_path, change, message):
    path = tmp_path / "tracks.parquet"
    write_tracks(path, events, change)
    with pytest.raises(InputError) as error:
        evaluate_tracks(path, events, TruthSelection(), tables)
    assert message in str(error.value)
    assert not (tmp_path / "metrics").exists()


def test_unreadable_tracks(tmp_path):
    path = tmp_path / "tracks.parquet"
    with pytest.raises(InputError, match="cannot be read"):
        read_tracks(path)
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_tracks(path)


def test_evaluating_no_events(tmp_path, tables):
    write_tracks(tmp_path / "t.parquet", [toy_event()], lambda frame: frame.iloc[:0])
    with pytest.raises(InputError, match="holds no events"):
        evaluate_tracks(tmp_path / "t.parquet", [], TruthSelection(), tables)


def test_an_event_without_hits_needs_no_rows_in_the_tracks(events, tmp_path, tables):
    write_tracks(tmp_path / "t.parquet", events)
    hits, truth = events[0]
    keep = np.zeros(len(hits), dtype=bool)
    empty = dataclasses.replace(
        truth, hit_id=truth.hit_id[keep], particle_id=truth.particle_id[keep], weight=truth.weight[keep]
    )
    nothing = (dataclasses.replace(hits.take(keep), event_id=77), dataclasses.replace(empty, event_id=77))
    evaluate_tracks(tmp_path / "t.parquet", [*events, nothing], TruthSelection(), tables)
    counts = pd.read_csv(tables.counts)
    assert set(counts["event_id"]) == {*(h.event_id for h, _ in events), 77}
    assert counts[(counts["event_id"] == 77) & (counts["metric"] == "n_hits")]["num"].tolist() == [0]


def test_truth_of_another_event(events, tmp_path, tables):
    write_tracks(tmp_path / "t.parquet", events)
    with pytest.raises(InputError, match=r"event 1: hits and truth \(of event 2\) differ"):
        evaluate_tracks(tmp_path / "t.parquet", [(events[0][0], events[1][1])], TruthSelection(), tables)


def test_labels_in_the_order_of_the_event(tmp_path):
    tracks = pd.DataFrame({"event_id": 1, "hit_id": [3, 1, 2], "track_id": [30, 10, -1]})
    tracks.to_csv(tmp_path / "t.csv", index=False)
    table = read_tracks(tmp_path / "t.csv")[1]
    assert match_labels(table, np.array([2, 3, 1])).tolist() == [-1, 30, 10]
