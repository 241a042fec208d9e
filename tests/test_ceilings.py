"""Ceilings of EncReg and EncCla and the label-noise study."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from trackbench.ceilings import (
    ALL_PARTICLES,
    CEILINGS,
    MEASURED,
    NOISE_COLUMNS,
    ceiling_labels,
    class_counts,
    fit_class_bins,
    label_noise_table,
    write_ceilings,
)
from trackbench.data.hits import Hits
from trackbench.data.shard_file import shard_writer
from trackbench.data.shards import add_event, read_events, write_index
from trackbench.data.tracks import PARAMETER_COLUMNS
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks
from trackbench.trackers.base import build_tracker
from trackbench.training.bins import QuantileBins

CLASSES = ("true_classes_30x30x3", "true_classes_15x15x3", "true_classes_15x5x3", "true_classes_7x4x1")
NAMES = (*CEILINGS[:2], *CLASSES)


def event(n_particles, n_noise, seed, fewest=1):
    """An event of particles in random directions, ``fewest`` to 12 hits each; where the hits are does not matter."""
    rng = np.random.default_rng(seed)
    n_hits = rng.integers(fewest, 13, n_particles)
    ids = np.arange(n_particles) + 1
    q = rng.choice([-1, 1], n_particles)
    angles = {"eta": rng.uniform(-3, 3, n_particles), "phi": rng.uniform(-np.pi, np.pi, n_particles)}
    counts = dict.fromkeys(("n_hits", "n_layers", "n_layer_ids", "n_hits_all"), n_hits)
    fixed = dict.fromkeys(("vx", "vy", "vz", "generation"), 0)
    columns = {"particle_id": ids, "pt": 0.2 + rng.exponential(0.6, n_particles), "q": q, **angles, **counts, **fixed}
    pid = rng.permutation(np.repeat(np.append(ids, 0), np.append(n_hits, n_noise)))
    n = len(pid)
    one = np.ones(n, dtype=np.int64)
    hits = Hits(np.arange(n) + 1, rng.normal(0, 100, (n, 3)), one, one, one, np.ones(n, dtype=bool), {}, seed + 1)
    particles = pd.DataFrame(columns)[list(PARTICLE_COLUMNS)]
    return hits, Truth(hits.hit_id, pid, (pid > 0) * rng.uniform(0.5, 1.0, n), particles, seed + 1)


def events(n=6, n_particles=20, n_noise=3):
    return [event(n_particles, n_noise, seed) for seed in range(n)]


def sample(folder, n=6, sizes=("train", "train", "train", "val", "test", "test")):
    """A prepared sample of toy events. Returns its index."""
    hits_path = folder / "shard-0000-hits.parquet"
    with shard_writer(hits_path, folder / "shard-0000-particles.parquet") as writer:
        records = [add_event(writer, hits, truth) for hits, truth in events(n)]
        selection = {"detector": "full", "hit_eta_max": None, "truth_filter": False}
        writer.set_metadata({"events": records, "selection": selection, "raw": {}})
    index = folder / "index.csv"
    splits = dict(enumerate(sizes))
    write_index([hits_path], index, folder / "manifest.json", splits, {}, ALL_PARTICLES.selected)
    return index


def score(labels, truth):
    return evaluate_event(labels, truth, ALL_PARTICLES).value("trackml_score")


# --- labels


def test_noise_stays_unassigned():
    bins = fit_class_bins((truth for _, truth in events()), CLASSES)
    _, truth = events(1, n_noise=30)[0]
    for name in NAMES:
        labels = ceiling_labels(name, truth, bins)
        assert labels.dtype == np.int64
        assert (labels[truth.particle_id == 0] == -1).all()


@pytest.mark.parametrize("name", ["true_targets", "true_targets_q_over_pt"])
def test_true_targets_give_exact_tracks(name):
    """All hits of a particle are one point: a cluster of its own if there are five of them."""
    for seed in range(4):
        _, truth = event(40, 10, seed, fewest=5)
        result = evaluate_event(ceiling_labels(name, truth, {}), truth, ALL_PARTICLES)
        assert result.counts["perfect"] == (40, 40)
        assert result.counts["n_clusters"] == (40, 1)


def test_true_targets_lose_particles_of_few_hits():
    """The source of the loss below 1: fewer hits than a cluster must have."""
    _, truth = event(40, 0, 0)
    found = evaluate_event(ceiling_labels("true_targets", truth, {}), truth, ALL_PARTICLES).particles
    few = found["n_hits"] < 5
    assert few.any() and not found.loc[few, "perfect"].any()
    assert found.loc[~few, "dm"].mean() > 0.9


def test_classes_merge_what_shares_a_bin():
    """Two particles at nearly the same angle and momentum merge if they have the same charge."""
    _, truth = event(20, 0, seed=1)
    bins = fit_class_bins([truth], CLASSES)
    first, second = truth.particles.index[truth.particles["n_hits"] > 2][:2]
    for charge, same in ((1, True), (-1, False)):
        table = truth.particles.copy()
        for column in ("pt", "eta", "phi"):
            table.loc[second, column] = table.loc[first, column]
        table.loc[[first, second], "q"] = [1, charge]
        changed = replace(truth, particles=table)
        for name in CLASSES:
            labels = ceiling_labels(name, changed, bins)
            one, two = (labels[truth.particle_id == table.loc[row, "particle_id"]] for row in (first, second))
            assert len(set(one)) == len(set(two)) == 1
            assert (one[0] == two[0]) == same


def test_class_bins_are_those_of_a_fit_of_their_own():
    truths = [truth for _, truth in events()]
    bins = fit_class_bins(iter(truths), CLASSES)
    assert list(bins) == list(CLASSES)
    numbers = {"30x30x3": 5400, "15x15x3": 1350, "15x5x3": 450, "7x4x1": 56}
    for name, (binning, n_classes) in zip(CLASSES, numbers.items(), strict=True):
        counts = tuple(map(int, binning.split("x")))
        assert name == f"true_classes_{binning}" and class_counts(name) == counts == bins[name].shape
        assert bins[name] == QuantileBins.fit(truths, *counts)
        assert bins[name].n_classes == n_classes


def test_fewer_classes_give_a_lower_ceiling():
    train, test = events(6, 60)[:4], events(6, 60)[4:]
    bins = fit_class_bins((truth for _, truth in train), CLASSES)
    scores = [np.mean([score(ceiling_labels(name, truth, bins), truth) for _, truth in test]) for name in bins]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95 and scores[0] > scores[-1] + 0.01


# --- files


def test_files_are_those_of_a_tracker(tmp_path):
    index = sample(tmp_path)
    out = {name: (tmp_path / f"{name}.parquet", tmp_path / f"{name}-parameters.parquet") for name in NAMES}
    write_ceilings(index, out)
    bins = fit_class_bins((truth for _, truth in read_events(index, "train")), CLASSES)
    for name, (tracks, parameters) in out.items():
        frame = pd.read_parquet(tracks)
        assert list(frame.columns) == ["event_id", "hit_id", "track_id"]
        assert (frame.dtypes == "int64").all()
        fits = pd.read_parquet(parameters)
        assert list(fits.columns) == list(PARAMETER_COLUMNS) and len(fits) == 0
        for hits, truth in read_events(index, "test"):
            rows = frame[frame["event_id"] == hits.event_id]
            np.testing.assert_array_equal(rows["hit_id"], hits.hit_id)
            np.testing.assert_array_equal(rows["track_id"], ceiling_labels(name, truth, bins))
        files = EvaluationFiles(*(tmp_path / f"{name}.{kind}" for kind in EvaluationFiles._fields))
        evaluate_tracks(tracks, read_events(index, "test"), ALL_PARTICLES, files, parameters)
        counts = pd.read_csv(files.counts).query("metric == 'trackml_score'")
        assert counts["event_id"].tolist() == [5, 6]
        assert counts["num"].sum() / counts["den"].sum() > 0.8


def test_same_bytes_twice_and_one_alone(tmp_path):
    index = sample(tmp_path)
    for folder, names in (("a", NAMES), ("b", NAMES), ("c", NAMES[3:4])):
        write_ceilings(index, {name: (tmp_path / folder / name, tmp_path / folder / f"{name}-p") for name in names})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    for path in (tmp_path / "c").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_bins_see_training_events_only(tmp_path):
    """Other test events, same classes: exchange of the splits changes the labels of the test events."""
    (tmp_path / "b").mkdir()
    first = sample(tmp_path)
    second = sample(tmp_path / "b", sizes=("val", "val", "val", "train", "test", "test"))
    paths = [tmp_path / name for name in ("x", "y", "p")]
    write_ceilings(first, {"true_classes_30x30x3": (paths[0], paths[2])})
    write_ceilings(second, {"true_classes_30x30x3": (paths[1], paths[2])})
    one, two = (pd.read_parquet(path) for path in paths[:2])
    assert one["hit_id"].tolist() == two["hit_id"].tolist()
    assert (one["track_id"] != two["track_id"]).any()


def test_wrong_requests_are_refused(tmp_path):
    index = sample(tmp_path)
    path = tmp_path / "x"
    for name in ("true_classes_5400", "true_classes_0x5x3", "true_classes_015x5x3", "true_classes_5x3", "encreg"):
        with pytest.raises(ConfigError, match=f"ceilings: name '{name}', expected true_targets, .* or true_classes_<n"):
            write_ceilings(index, {name: (path, path)})
    (tmp_path / "a").mkdir()
    index = sample(tmp_path / "a", sizes=("val",) * 6)
    with pytest.raises(InputError, match="no test events"):
        write_ceilings(index, {"true_targets": (path, tmp_path / "y")})
    with pytest.raises(InputError, match="training events with tracks"):
        write_ceilings(index, {"true_classes_15x5x3": (path, tmp_path / "y")})
    assert not path.exists() and not (tmp_path / "y").exists()


# --- label noise


def test_label_noise_lowers_the_score():
    table = label_noise_table(events(6, 40), (0, 0.05, 0.15), seed=3)
    assert tuple(table.columns) == NOISE_COLUMNS
    assert table["targets"].tolist() == ["charge"] * 3 + ["q_over_pt"] * 3 + ["hit angles"]
    assert table["scale"].tolist()[:-1] == [0, 0.05, 0.15] * 2 and np.isnan(table["scale"].iloc[-1])
    assert (table["n_events"] == 6).all() and (table["source"] == MEASURED).all()
    for _, rows in table.dropna(subset="scale").groupby("targets"):
        assert (np.diff(rows["score"]) < -0.05).all()
        assert (np.diff(rows["dm"]) < 0).all()
    assert (table["score_lo"] <= table["score"]).all() and (table["score"] <= table["score_hi"]).all()


def test_label_noise_by_hand():
    """Without noise the rows are the ceilings: mean over events, plus and minus its standard error."""
    chosen = events(4, 30)
    table = label_noise_table(chosen, (0.0,), ("charge",))
    results = [evaluate_event(ceiling_labels("true_targets", t, {}), t, ALL_PARTICLES) for _, t in chosen]
    scores = [result.value("trackml_score") for result in results]
    error = np.std(scores, ddof=1) / math.sqrt(4)
    row = table.iloc[0]
    assert row["score"] == pytest.approx(np.mean(scores))
    assert row["dm"] == pytest.approx(np.mean([result.value("dm") for result in results]))
    assert [row["score_lo"], row["score_hi"]] == pytest.approx([np.mean(scores) - error, np.mean(scores) + error])
    seen = [np.count_nonzero(truth.particles["n_hits"]) for _, truth in chosen]
    assert [result.counts["dm"][1] for result in results] == seen


def test_label_noise_floor_is_the_tracker_of_hit_angles():
    chosen = events(3, 30)
    table = label_noise_table(chosen, (0.1,), source="measured here (simulated)")
    found = [
        evaluate_event(build_tracker("hit_angles").reconstruct(hits), truth, ALL_PARTICLES) for hits, truth in chosen
    ]
    row = table.iloc[-1]
    assert row["score"] == pytest.approx(np.mean([result.value("trackml_score") for result in found]))
    assert row["dm"] == pytest.approx(np.mean([result.value("dm") for result in found]))
    assert (table["source"] == "measured here (simulated)").all()


def test_label_noise_is_seeded_and_the_same_for_every_scale():
    chosen = events(3)
    first = label_noise_table(chosen, (0.05, 0.1), seed=1)
    pd.testing.assert_frame_equal(first, label_noise_table(chosen, (0.05, 0.1), seed=1))
    assert not first.equals(label_noise_table(chosen, (0.05, 0.1), seed=2))
    alone = label_noise_table(chosen, (0.1,), ("q_over_pt",), seed=1)
    expected = first.query("targets == 'q_over_pt' and scale == 0.1 or scale != scale").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected)


def test_label_noise_of_one_event_has_no_error():
    row = label_noise_table(events(1), (0.05,), ("charge",)).iloc[0]
    assert np.isnan([row["score_lo"], row["score_hi"]]).all() and row["n_events"] == 1


def test_label_noise_refuses_bad_input():
    for scale in (-0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"subevents\.label_noise: value"):
            label_noise_table(events(1), (scale,))
    with pytest.raises(ConfigError, match="charge or q_over_pt"):
        label_noise_table(events(1), (0.1,), ("momentum",))
    with pytest.raises(InputError, match="label noise: no events"):
        label_noise_table([], (0.1,))
