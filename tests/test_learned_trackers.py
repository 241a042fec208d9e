"""Learned trackers: weights, batches, EncReg with its refiner, EncCla. Their contract is in test_tracker_contract."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from toy_weights import FOLDER, settings_of
from toys import toy_event

from trackbench.errors import ConfigError, InputError
from trackbench.trackers.base import Timer, build_config, build_tracker, load_module, tracker_names
from trackbench.trackers.encreg import MAX_REFINED, hits_of_clusters, near_median
from trackbench.trackers.layers import learned
from trackbench.trackers.layers.attention import BACKENDS
from trackbench.trackers.layers.latent_clustering import cluster_points
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.trackers.layers.weights import load_weights, save_weights

LEARNED = [name for name in tracker_names() if settings_of(load_module(name).Config)]
# Those with a ``HitNetwork``, whose attention has backends.
WITH_BACKENDS = [name for name in LEARNED if issubclass(load_module(name).Config, learned.LearnedConfig)]
SMALL = {"width": 8, "heads": 2, "ffn": 8, "layers": 1, "inputs": "helix"}


@pytest.fixture(scope="module")
def hits():
    return toy_event(n_tracks=20, n_noise=10, seed=4)[0]


def write(path, kind="encreg", seed=0, **settings):
    """Write random weights; returns the settings of a tracker that uses them."""
    torch.manual_seed(seed)
    network = HitNetwork(NetworkConfig(**{**SMALL, **settings}))
    network.set_normalisation(torch.zeros(3), torch.tensor([80.0, 80.0, 600.0]))
    save_weights(path, kind, network, {})
    return {"checkpoint": str(path), "device": "cpu"}


# All of them


def test_trackers_with_a_checkpoint_are_the_learned_ones():
    assert {"encreg", "enccla", "heptv2"} <= set(LEARNED)
    assert all(issubclass(load_module(name).Tracker, learned.NetworkTracker) for name in LEARNED)
    assert {"encreg", "enccla"} <= set(WITH_BACKENDS)
    assert all(issubclass(load_module(name).Tracker, learned.LearnedTracker) for name in WITH_BACKENDS)


@pytest.mark.parametrize("name", LEARNED)
def test_toy_weights_are_small_and_say_what_they_are(name):
    path = FOLDER / f"{name}.pt"
    assert path.stat().st_size < 500_000
    assert load_weights(path, load_module(name).Tracker.kinds)[1]["label"] == "toy"


@pytest.mark.parametrize("name", LEARNED)
def test_without_checkpoint(name, hits):
    with pytest.raises(ConfigError) as error:
        build_tracker(name, {"device": "cpu"}).reconstruct(hits)
    assert f"trackers.{name}.checkpoint: no trained weights, expected a file; train a model" in str(error.value)
    assert "--checkpoint FILE" in str(error.value)


@pytest.mark.parametrize("name", LEARNED)
def test_with_a_bad_checkpoint(name, hits, tmp_path):
    tracker = build_tracker(name, {"checkpoint": str(tmp_path / "none.pt"), "device": "cpu"})
    with pytest.raises(InputError, match=r"none\.pt: no such file, expected trained weights"):
        tracker.reconstruct(hits)
    (tmp_path / "none.pt").write_bytes(b"PK, or not")
    with pytest.raises(InputError, match="damaged, cut short or no weights file"):
        tracker.reconstruct(hits)


def test_with_the_weights_of_another_kind(hits):
    tracker = build_tracker("enccla", {"checkpoint": str(FOLDER / "encreg.pt")})
    with pytest.raises(InputError, match="weights of kind 'encreg', expected 'enccla' or 'joint'"):
        tracker.reconstruct(hits)


@pytest.mark.parametrize("name", LEARNED)
def test_bad_device(name):
    with pytest.raises(ConfigError, match=f"trackers.{name}.device: value 'cuda:7', expected one of auto, cpu, cuda"):
        build_config(name, {"device": "cuda:7"})


@pytest.mark.parametrize("name", WITH_BACKENDS)
def test_bad_backend(name):
    message = f"trackers.{name}.backend: value 'flash', expected one of auto, sdpa, varlen, flex"
    with pytest.raises(ConfigError, match=message):
        build_config(name, {"backend": "flash"})


def test_backends_are_those_of_the_attention():
    assert learned.BACKENDS == BACKENDS


def test_device(monkeypatch, hits):
    settings = settings_of(load_module("encreg").Config)
    tracker = build_tracker("encreg", settings)
    assert (tracker.device, tracker.precision) == ("cpu", "float32")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert build_tracker("encreg", {**settings, "device": "auto"}).device == "cpu"
    with pytest.raises(ConfigError, match=r"trackers\.encreg\.device: value 'cuda', and torch finds no CUDA device"):
        build_tracker("encreg", {**settings, "device": "cuda"}).reconstruct(hits)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert build_tracker("encreg", {**settings, "device": "auto"}).device == "cuda"


def test_weights_are_loaded_once(hits, monkeypatch):
    loaded = []
    original = load_weights
    monkeypatch.setattr(
        "trackbench.trackers.layers.weights.load_weights", lambda *args: loaded.append(args) or original(*args)
    )
    tracker = build_tracker("enccla", settings_of(load_module("enccla").Config))
    assert not loaded
    tracker.reconstruct(hits)
    tracker.reconstruct(hits)
    assert len(loaded) == 1
    assert not tracker.network.training


@pytest.mark.parametrize(("name", "stages"), [("encreg", {"clustering"}), ("enccla", {"postprocess"})])
def test_stages(name, stages, hits):
    timer = Timer()
    build_tracker(name, settings_of(load_module(name).Config)).reconstruct(hits, timer)
    assert set(timer.wall) == {"features", "network"} | stages


@pytest.mark.parametrize("name", WITH_BACKENDS)
def test_backends_give_the_same_tracks(name, hits):
    settings = settings_of(load_module(name).Config)
    expected = build_tracker(name, settings).reconstruct(hits)
    for backend in ("sdpa", "varlen"):
        found = build_tracker(name, {**settings, "backend": backend}).reconstruct(hits)
        np.testing.assert_array_equal(found, expected)


def test_output_is_that_of_the_network(hits):
    tracker = build_tracker("encreg", settings_of(load_module("encreg").Config))
    found = tracker.apply_network(hits, Timer())
    assert found.parameters.shape == (len(hits), 4)
    assert found.latents.shape == (len(hits), 32)
    assert found.logits is None and found.embedding is None
    single = tracker.apply_network(hits.take(np.arange(1)), Timer())
    assert single.parameters.shape == (1, 4)


def test_projection_clusters_reach_the_mask(hits, tmp_path):
    """With a cluster mask, moving a hit changes the outputs of its own cluster only."""
    settings = write(tmp_path / "cluster.pt", mask="cluster", mask_clusterer="density_peaks")
    tracker = build_tracker("encreg", settings)
    clusters = learned.projection_clusters(tracker.network.config, hits)
    expected = build_tracker("density_peaks", MASK_SETTINGS["density_peaks"]).reconstruct(hits)
    np.testing.assert_array_equal(clusters, expected)
    assert learned.projection_clusters(NetworkConfig(), hits) is None
    one = np.flatnonzero(clusters == np.bincount(clusters[clusters >= 0]).argmax())
    alone = tracker.run_network(tracker.network, [hits.take(one)], Timer(), [np.zeros(one.size, dtype=int)])
    expected = tracker.apply_network(hits, Timer())
    np.testing.assert_allclose(alone.parameters[0].numpy(), expected.parameters[one], atol=1e-5)


def test_import_needs_no_torch():
    code = "import sys, trackbench.trackers.layers.learned; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# EncReg


def fake_outputs(monkeypatch, parameters=None, logits=None):
    outputs = learned.NetworkOutput(np.zeros((1, 1)), parameters, logits, None)
    monkeypatch.setattr(learned.LearnedTracker, "apply_network", lambda *_: outputs)


def blobs(centres, sizes, spread, seed=0):
    rng = np.random.default_rng(seed)
    points = np.repeat(np.asarray(centres, dtype=np.float32), sizes, axis=0)
    return (points + rng.normal(0, spread, points.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size: value 1, expected >= 2"),
        ({"min_samples": 0}, "min_samples: value 0, expected >= 1"),
        ({"parameter_weight": -1}, "parameter_weight: value -1.0, expected a number >= 0"),
        ({"refine_margin": float("inf")}, "refine_margin: value inf, expected a number >= 0"),
        ({"refiner_checkpoint": "a.pt"}, "refiner_checkpoint: value 'a.pt', expected none without refine"),
    ],
)
def test_bad_settings_of_encreg(settings, message):
    with pytest.raises(ConfigError, match=f"trackers.encreg.{message}"):
        build_config("encreg", settings)


def test_encreg_clusters_the_raw_outputs(monkeypatch, hits):
    points = blobs(np.eye(4), [30, 20, 15, 12], 0.01)
    fake_outputs(monkeypatch, points)
    event = hits.take(np.arange(len(points)))
    labels = build_tracker("encreg").reconstruct(event)
    np.testing.assert_array_equal(labels, cluster_points(points.astype(float), "hdbscan"))
    np.testing.assert_array_equal(labels, np.repeat(labels[[0, 30, 50, 65]], [30, 20, 15, 12]))
    assert labels.max() == 3


def test_weight_of_the_fourth_parameter(monkeypatch, hits):
    """Two pairs of particles that differ by the charge only: 2 clusters without it, 4 with it."""
    centres = [[0, 0, 1, -1], [0, 0, 1, 1], [3, 1, 0, -1], [3, 1, 0, 1]]
    fake_outputs(monkeypatch, blobs(centres, 15, 0.01))
    event = hits.take(np.arange(60))
    found = [build_tracker("encreg", {"parameter_weight": w}).reconstruct(event).max() + 1 for w in (0.0, 1.0)]
    assert found == [2, 4]


def test_hits_of_clusters():
    found = hits_of_clusters(np.array([1, -1, 0, 1, -3, 0, 5]))
    assert [rows.tolist() for rows in found] == [[2, 5], [0, 3], [6]]
    assert hits_of_clusters(np.array([-1, -1])) == []


def test_near_median_by_hand():
    """Median 0 in each of four outputs; a distance d in one of them is a mean squared distance of d^2 / 4."""
    points = np.zeros((7, 4))
    points[4, 0], points[5, 1], points[6, 3] = 0.14, -0.15, 2.0  # 0.0049, 0.005625, 1.0
    assert near_median(points, 0.005).tolist() == [True] * 5 + [False, False]
    assert near_median(points, 0.006).tolist() == [True] * 6 + [False]
    assert near_median(points, 2.0).all()


def test_near_median_keeps_four_hits():
    points = np.zeros((6, 4))
    points[:, 0] = [0.0, 10.0, 1.0, 20.0, 2.0, 3.0]  # median 2.5: the nearest are 2, 3, then 1, then 0
    assert near_median(points, 0.001).tolist() == [True, False, True, False, True, True]
    assert near_median(points[:3], 0.0).all()


@pytest.mark.parametrize("margin", [0.005, 1e4])
def test_refiner_drops_outliers(monkeypatch, hits, margin):
    points = blobs(np.eye(4) * 3, 15, 0.01)
    points[7] += [0.25, 0, 0, 0]  # 0.25^2 / 4 = 0.016
    fake_outputs(monkeypatch, points)
    event = hits.take(np.arange(60))
    plain = build_tracker("encreg", {"min_samples": 1}).reconstruct(event)
    assert plain[7] == plain[0] >= 0
    found = build_tracker("encreg", {"min_samples": 1, "refine": True, "refine_margin": margin}).reconstruct(event)
    expected = plain.copy()
    if margin < 1:
        expected[7] = -1
    np.testing.assert_array_equal(found, expected)


def test_refiner_leaves_large_clusters_alone(monkeypatch, hits):
    """Clusters of 50 and 51 hits, each with one hit far off: only the smaller one is refined."""
    sizes = [MAX_REFINED, MAX_REFINED + 1]
    points = blobs(np.eye(4)[:2] * 3, sizes, 0.01)
    points[[7, MAX_REFINED + 7]] += [0.25, 0, 0, 0]
    fake_outputs(monkeypatch, points)
    event = hits.take(np.arange(sum(sizes)))
    plain = build_tracker("encreg", {"min_samples": 1}).reconstruct(event)
    assert sorted(np.bincount(plain)) == sizes
    expected = plain.copy()
    expected[7] = -1
    found = build_tracker("encreg", {"min_samples": 1, "refine": True}).reconstruct(event)
    np.testing.assert_array_equal(found, expected)


def test_second_network_refines_cluster_by_cluster(hits, tmp_path):
    """Against a slow twin: each cluster alone through the second network, larger ones left alone."""
    settings = settings_of(load_module("encreg").Config)
    write(tmp_path / "refiner.pt", seed=5, layers=3)
    plain = build_tracker("encreg", settings).reconstruct(hits)
    refining = {"refine": True, "refine_margin": 0.001, "refiner_checkpoint": str(tmp_path / "refiner.pt")}
    tracker = build_tracker("encreg", {**settings, **refining})
    found = tracker.reconstruct(hits)
    assert len(tracker.refiner.encoder.layers) == 3
    expected = plain.copy()
    for label in range(plain.max() + 1):
        rows = np.flatnonzero(plain == label)
        if rows.size <= 50:
            output = tracker.run_network(tracker.refiner, [hits.take(rows)], Timer())
            expected[rows[~near_median(output.parameters[0].double().numpy(), 0.001)]] = -1
    np.testing.assert_array_equal(found, expected)
    assert (found >= 0).sum() < (plain >= 0).sum()
    assert np.bincount(found[found >= 0]).min() >= 4


def test_refiner_without_anything_to_refine(hits, tmp_path):
    settings = settings_of(load_module("encreg").Config)
    write(tmp_path / "refiner.pt", layers=3)
    tracker = build_tracker("encreg", {**settings, "refine": True, "refiner_checkpoint": str(tmp_path / "refiner.pt")})
    assert tracker.reconstruct(hits.take(np.arange(2))).tolist() == [-1, -1]


def test_refiner_that_needs_projection_clusters(hits, tmp_path):
    settings = settings_of(load_module("encreg").Config)
    write(tmp_path / "refiner.pt", mask="cluster")
    tracker = build_tracker("encreg", {**settings, "refine": True, "refiner_checkpoint": str(tmp_path / "refiner.pt")})
    with pytest.raises(ConfigError, match="needs projection clusters, which parts of an event lack"):
        tracker.reconstruct(hits)


# EncCla


def test_enccla_takes_the_most_probable_class(monkeypatch, hits):
    logits = np.array([[0, 5, 1], [9, 0, 0], [1, 1, 0], [0, 3, 2]], dtype=np.float32)  # equal ones: the first
    fake_outputs(monkeypatch, logits=logits)
    event = hits.take(np.arange(4))
    assert build_tracker("enccla").reconstruct(event).tolist() == [1, 0, 0, 1]


def test_enccla_leaves_small_classes_unassigned(monkeypatch, hits):
    logits = np.eye(4, dtype=np.float32)[[0, 0, 0, 2, 2, 3]]
    fake_outputs(monkeypatch, logits=logits)
    event = hits.take(np.arange(6))
    assert build_tracker("enccla", {"min_hits": 3}).reconstruct(event).tolist() == [0, 0, 0, -1, -1, -1]
    with pytest.raises(ConfigError, match=r"trackers\.enccla\.min_hits: value 0, expected >= 1"):
        build_config("enccla", {"min_hits": 0})


def test_joint_model_serves_both(hits, tmp_path):
    settings = write(tmp_path / "joint.pt", "joint", classes=12, classifier_layers=1)
    logits = build_tracker("enccla", settings).apply_network(hits, Timer()).logits
    labels = build_tracker("enccla", settings).reconstruct(hits)
    _, expected = np.unique(logits.argmax(axis=1), return_inverse=True)
    np.testing.assert_array_equal(labels, expected)
    assert build_tracker("encreg", settings).reconstruct(hits).shape == (len(hits),)
