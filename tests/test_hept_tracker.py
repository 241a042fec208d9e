"""The tracker heptv2 with a stand-in network and with random weights; its contract is in test_tracker_contract."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_hept import N_BINS, bin_tracker
from toys import toy_event
from track_checks import assert_valid

from trackbench.data.tracks import Tracks
from trackbench.errors import ConfigError, InputError
from trackbench.fitting.cleanup import clean_up
from trackbench.geometry.coordinates import azimuth, pseudorapidity
from trackbench.trackers.base import Timer, build_config, build_tracker, load_module
from trackbench.trackers.layers.hept_batch import collate
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.hept_queries import choose_seeds
from trackbench.trackers.layers.latent_clustering import cluster_points
from trackbench.trackers.layers.merging import merge_fragments, spherical_kmeans
from trackbench.trackers.layers.weights import save_weights

SMALL = {
    **{"inputs": "geometry", "width": 16, "heads": 2, "ffn": 16, "layers": 1, "position_hidden": 16, "embedding": 8},
    **{"embedding_hidden": 16, "embedding_layers": 1, "rounds": 1, "block": 64, "regions": 0, "decoder_layers": 1},
}


@pytest.fixture(scope="module")
def hits():
    hits = toy_event(n_tracks=30, n_noise=20, seed=4)[0]
    return hits.take(np.argsort(hits.hit_id))


def true_bins(hits):
    return np.clip((azimuth(hits.xyz) + np.pi) / (2 * np.pi) * N_BINS, 0, N_BINS - 1).astype(int)


def same_partition(found, expected):
    pairs = {(a, b) for a, b in zip(found.tolist(), expected.tolist(), strict=True)}
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected))
    assert {pair for pair in pairs if min(pair) < 0} <= {(-1, -1)}


def write(path, seed=0, **settings):
    """Write random weights. Returns the network."""
    torch.manual_seed(seed)
    network = HeptNetwork(HeptConfig(**{**SMALL, **settings})).eval()
    save_weights(path, "heptv2", network, {})
    return network


# With the stand-in


@pytest.mark.parametrize(("cut", "doubtful_too"), [(-5.4, True), (-4.1, True), (-3.9, False), (-0.7, False)])
def test_the_cut_decides_about_doubtful_queries(hits, cut, doubtful_too):
    found = bin_tracker(cut=cut, merge=False, eta_max=9.0).reconstruct(hits)
    number = true_bins(hits)
    same_partition(found, number if doubtful_too else np.where(number % 2 == 0, number, -1))


def test_hits_beyond_eta_max_are_not_seen(hits):
    tracker = bin_tracker(eta_max=1.5)
    inside = np.abs(pseudorapidity(hits.xyz)) <= 1.5
    assert 0 < inside.sum() < len(hits)
    labels = tracker.reconstruct(hits)
    assert (labels[~inside] == -1).all()
    np.testing.assert_array_equal(labels[inside], tracker.reconstruct(hits.take(inside)))
    assert_valid(tracker.reconstruct_tracks(hits.take(~inside)), (~inside).sum())


def test_a_hit_on_the_beam_line_is_no_error(hits):
    xyz = hits.xyz.copy()
    xyz[3] = [0.0, 0.0, 500.0]
    assert bin_tracker().reconstruct(replace(hits, xyz=xyz))[3] == -1


@pytest.mark.parametrize(("merge", "kmeans"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_what_follows_the_masks(hits, merge, kmeans):
    tracker = bin_tracker(merge=merge, kmeans=kmeans, noise=1.5, eta_max=9.0)
    labels, embedding = tracker.assign(hits, Timer())
    same_partition(labels.numpy(), true_bins(hits))
    if merge:
        labels = merge_fragments(embedding, labels)
    if kmeans:
        labels = spherical_kmeans(embedding, labels, kmeans)
    found = tracker.reconstruct(hits)
    same_partition(found, labels.numpy())
    assert (len(np.unique(found)) < N_BINS) or not (merge or kmeans)


def slow_seeds(network, hits, cut, scale=10.0, threshold=0.8):
    """Labels of the method seeds of one event in one sector, hit by hit."""
    batch = collate([hits], "geometry")
    with torch.inference_mode():
        points = network(batch, decode=False)[0].embedding[0]
    order = np.lexsort((pseudorapidity(hits.xyz).astype(np.float32), azimuth(hits.xyz).astype(np.float32)))
    config = network.config
    settings = config.seed_similarity, config.seed_neighbours, config.n_queries
    seeds = choose_seeds(points[order][None], torch.ones(1, len(hits), dtype=torch.bool), *settings)[0]
    points = points.double().numpy()
    labels = []
    for point in points:
        cosine = [float(point @ points[order[seed]]) for seed in seeds.tolist()]
        best = int(np.argmax(cosine))
        labels.append(best if scale * (cosine[best] - threshold) >= cut else -1)
    return np.array(labels)


@pytest.mark.parametrize("queries", ["seeded", "none"])
def test_method_seeds(hits, queries):
    for cut, noise in [(-1.2, 0.4), (-5.4, 0.4), (-0.7, 0.1)]:
        tracker = bin_tracker(queries, noise, method="seeds", cut=cut, merge=False, eta_max=9.0)
        same_partition(tracker.reconstruct(hits), slow_seeds(tracker.network, hits, cut))
    assert N_BINS / 2 < len(np.unique(tracker.reconstruct(hits))) <= N_BINS + 1


def test_method_seeds_uses_the_trained_residual(hits, tmp_path):
    """In a random network, with s and t as trained ones would be."""
    network = write(tmp_path / "a.pt", sectors=1, queries="seeded")
    with torch.no_grad():
        network.decoder.residual.scale.fill_(7.0)
        network.decoder.residual.cut.fill_(0.97)
    save_weights(tmp_path / "a.pt", "heptv2", network, {})
    settings = {"checkpoint": str(tmp_path / "a.pt"), "device": "cpu", "merge": False, "eta_max": 9.0, "cut": -0.05}
    found = build_tracker("heptv2", {**settings, "method": "seeds"}).reconstruct(hits)
    assert 0 < (found < 0).mean() < 1
    same_partition(found, slow_seeds(network, hits, -0.05, 7.0, 0.97))


def test_method_dbscan(hits):
    tracker = bin_tracker("none", 0.4, method="dbscan", eps=0.2, merge=False, eta_max=9.0)
    points = tracker.network(collate([hits], "geometry"), decode=False)[0].embedding[0].numpy()
    expected = cluster_points(points, "dbscan_cosine", eps=0.2, min_cluster_size=3, min_samples=2)
    assert expected.max() > 5
    same_partition(tracker.reconstruct(hits), expected)


def test_masks_need_a_decoder(hits):
    message = r"trackers\.heptv2\.method: value 'masks', and toy has no decoder, expected seeds or dbscan"
    with pytest.raises(ConfigError, match=message):
        bin_tracker("none").reconstruct(hits)


@pytest.mark.parametrize("eta_max", [9.0, 1.5])
def test_clean_up_is_that_of_the_library(eta_max):
    hits, _ = toy_event(n_tracks=40, n_noise=20, seed=4, pt_min=2.0)
    hits = hits.take(np.argsort(hits.hit_id))
    plain, cleaned = (bin_tracker(clean_up=on, eta_max=eta_max).reconstruct_tracks(hits) for on in (False, True))
    assert plain.parameters is None
    assert_valid(cleaned, len(hits))
    inside = np.abs(pseudorapidity(hits.xyz)) <= eta_max
    expected = clean_up(hits.take(inside), plain.labels[inside])
    assert cleaned.labels.max() > 5
    labels = np.full(len(hits), -1)
    labels[inside] = expected.labels
    assert cleaned.equals(Tracks(labels, expected.parameters))


@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize("method", ["masks", "seeds", "dbscan"])
def test_nothing_to_find(hits, method, clean_up):
    tracker = bin_tracker(method=method, clean_up=clean_up, cut=-0.7)
    for n in (0, 1, 2):
        assert_valid(tracker.reconstruct_tracks(hits.take(np.arange(n))), n)
    beyond = bin_tracker(method=method, clean_up=clean_up, eta_max=1e-6).reconstruct_tracks(hits)
    assert_valid(beyond, len(hits))
    assert (beyond.labels == -1).all()


def test_no_candidate(hits):
    """Seeds that need more neighbours than there are, and a cut nobody passes."""
    tracker = bin_tracker(method="seeds")
    tracker.network.config = dataclasses.replace(tracker.network.config, seed_neighbours=1000)
    assert (tracker.reconstruct(hits) == -1).all()
    assert (bin_tracker(cut=0.0, clean_up=True).reconstruct(hits) == -1).all()


def test_stages(hits):
    timer = Timer()
    bin_tracker().reconstruct(hits, timer)
    assert set(timer.wall) == {"features", "network", "clustering", "postprocess"}


# Settings and weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "best"}, "method: value 'best', expected one of masks, seeds, dbscan"),
        ({"cut": 0.1}, "cut: value 0.1, expected a number <= 0"),
        ({"cut": -np.inf}, "cut: value -inf, expected a number <= 0"),
        ({"cut": np.nan}, "cut: value nan, expected a number <= 0"),
        ({"eps": 2.0}, r"eps: value 2.0, expected in \(0, 2\)"),
        ({"eta_max": 0.0}, "eta_max: value 0.0, expected > 0"),
        ({"kmeans": -1}, "kmeans: value -1, expected >= 0"),
        ({"device": "tpu"}, "device: value 'tpu', expected one of auto, cpu, cuda"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigError, match=f"trackers.heptv2.{message}"):
        build_config("heptv2", settings)


def test_what_is_tuned():
    space = load_module("heptv2").Tracker.space_to_tune
    assert set(space({})) == set(space({"method": "seeds"})) == {"cut"}
    assert set(space({"method": "dbscan"})) == {"eps"}


@pytest.mark.parametrize(
    "settings",
    [
        {"queries": "seeded", "sectors": 1},
        {"queries": "seeded", "sectors": 2, "overlap": True},
        {"queries": "learned", "n_queries": 20, "sectors": 3},
    ],
)
def test_random_weights(hits, tmp_path, settings):
    write(tmp_path / "a.pt", **settings)
    tracker = build_tracker("heptv2", {"checkpoint": str(tmp_path / "a.pt"), "device": "cpu"})
    assert not tracker.needs_features and tracker.n_weights > 1000
    labels = tracker.reconstruct(hits)
    assert labels.max() >= 0
    order = np.random.default_rng(1).permutation(len(hits))
    np.testing.assert_array_equal(tracker.reconstruct(hits.take(order)), labels[order])
    for n in (1, 2, 3):
        assert_valid(tracker.reconstruct_tracks(hits.take(np.arange(n))), n)


def test_cell_features_that_are_missing(hits, tmp_path):
    write(tmp_path / "a.pt", inputs="published", sectors=1, n_queries=10)
    tracker = build_tracker("heptv2", {"checkpoint": str(tmp_path / "a.pt"), "device": "cpu"})
    assert tracker.needs_features
    with pytest.raises(InputError, match="charge_frac"):
        tracker.reconstruct(hits)
