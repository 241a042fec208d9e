"""The tracker of latent clusters: spaces, methods, projection clusters, and what is tuned."""

import math
from dataclasses import replace

import numpy as np
import pytest
from toy_weights import FOLDER
from toys import toy_event

from trackbench.errors import ConfigError, InputError
from trackbench.sectored import SectoredTracker
from trackbench.trackers.base import Timer, build_tracker
from trackbench.trackers.latent import Tracker
from trackbench.trackers.layers.latent_clustering import METHODS, cluster_points
from trackbench.trackers.layers.learned import NetworkOutput

HITS, TRUTH = toy_event(n_tracks=60, n_noise=40, seed=3, pt_min=2.0, sigma_z=1.0)


def tracker(**settings):
    return build_tracker("latent", {"checkpoint": str(FOLDER / "latent.pt"), "device": "cpu", **settings})


def stand_in(monkeypatch, **outputs):
    """Replace the network by given outputs per hit, ordered like the hits of ``HITS``."""
    seen = []

    def apply_network(self, hits, timer):
        seen.append(hits)
        rows = np.searchsorted(np.sort(HITS.hit_id), hits.hit_id)
        fields = {name: None for name in ("latents", "parameters", "logits", "embedding")} | outputs
        return NetworkOutput(**{name: None if value is None else value[rows] for name, value in fields.items()})

    monkeypatch.setattr(Tracker, "apply_network", apply_network)
    return seen


def same_partition(a, b):
    pairs = np.unique(np.stack([a, b]), axis=1)
    return np.unique(pairs[0]).size == np.unique(pairs[1]).size == pairs.shape[1]


def by_hit_id(values):
    """Values per hit in the order of hit_id, as trackers see hits."""
    return values[np.argsort(HITS.hit_id)]


def truth_vectors(seed, d=6, spread=0.02):
    """A direction per particle, noise anywhere: (n, d), in the order of hit_id."""
    rng = np.random.default_rng(seed)
    _, particle = np.unique(TRUTH.particle_id, return_inverse=True)
    centres = rng.normal(size=(particle.max() + 1, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = np.where(TRUTH.particle_id[:, None] > 0, centres[particle], rng.normal(size=(len(particle), d)))
    return by_hit_id(vectors + rng.normal(0, spread, vectors.shape)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_clusters_are_those_of_the_vectors(monkeypatch, method):
    vectors = truth_vectors(0)
    stand_in(monkeypatch, embedding=vectors)
    labels = tracker(method=method, min_cluster_size=3).reconstruct(HITS)
    centre = {} if method == "hdbscan" else {"centre": 0.7}
    expected = cluster_points(vectors, method, min_cluster_size=3, similarity=0.92, **centre)
    assert same_partition(by_hit_id(labels), expected)
    found = 0
    for pid in np.unique(TRUTH.particle_id[TRUTH.particle_id > 0]):
        own = TRUTH.particle_id == pid
        found += own.sum() >= 3 and np.unique(labels[own]).size == 1 and labels[own][0] >= 0
    assert found > 40


def test_spaces_are_the_outputs_of_the_network(monkeypatch):
    values = {"latents": truth_vectors(1), "parameters": truth_vectors(2, 4), "embedding": truth_vectors(3)}
    stand_in(monkeypatch, **values)
    for space, name in (("latents", "latents"), ("outputs", "parameters"), ("embedding", "embedding")):
        labels = tracker(space=space, method="greedy_cosine").reconstruct(HITS)
        expected = cluster_points(values[name], "greedy_cosine", similarity=0.92, centre=0.7)
        assert same_partition(by_hit_id(labels), expected)


def test_inside_projection_clusters(monkeypatch):
    vectors = truth_vectors(4, spread=0.0)
    stand_in(monkeypatch, embedding=vectors)
    groups = build_tracker("grid_window").reconstruct(HITS)
    inside = tracker(method="greedy_cosine", min_cluster_size=2, inside="grid_window", centre=1.0)
    timer = Timer()
    labels = inside.reconstruct(HITS, timer)
    assert set(timer.wall) == {"filter", "clustering"}
    assert np.unique(groups[groups >= 0]).size > 20
    for label in range(labels.max() + 1):
        assert np.unique(groups[labels == label]).size == 1  # all in one projection cluster, or all in none
    # Cut by the projection, so more and smaller clusters than in the whole event.
    whole = tracker(method="greedy_cosine", min_cluster_size=2, centre=1.0).reconstruct(HITS)
    cut = np.unique(np.stack([whole, np.maximum(groups, -1)])[:, whole >= 0], axis=1, return_counts=True)[1]
    assert labels.max() + 1 == np.count_nonzero(cut >= 2) > whole.max() + 1


@pytest.mark.parametrize("method", METHODS)
def test_toy_weights_find_tracks_with_every_method(method):
    found = tracker(method=method, min_cluster_size=3)
    labels = found.reconstruct(HITS)
    good = 0
    for label in range(labels.max() + 1):
        pids, counts = np.unique(TRUTH.particle_id[labels == label], return_counts=True)
        best = counts.argmax()
        own = np.count_nonzero(TRUTH.particle_id == pids[best])
        good += pids[best] > 0 and counts.sum() >= 3 and 2 * counts[best] > max(own, counts.sum())
    assert good >= 15
    order = np.random.default_rng(0).permutation(len(HITS))
    assert same_partition(found.reconstruct(HITS.take(order)), labels[order])


def test_in_sectors_of_azimuth():
    found = SectoredTracker(tracker(method="greedy_cosine", min_cluster_size=3), 4, overlap=0.2)
    labels = found.reconstruct(HITS)
    assert labels.max() > 15
    empty = HITS.take(np.arange(0))
    assert found.reconstruct(empty).shape == (0,)


def test_missing_outputs_and_wrong_settings_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"trackers\.latent\.space: .*latent\.pt has no outputs"):
        tracker(space="outputs").reconstruct(HITS)
    with pytest.raises(ConfigError, match=r"trackers\.latent\.checkpoint: no trained weights"):
        build_tracker("latent").reconstruct(HITS)
    with pytest.raises(InputError, match="no such file"):
        tracker(checkpoint="nowhere.pt").reconstruct(HITS)
    for settings, words in (
        ({"space": "logits"}, "trackers.latent.space: value 'logits'"),
        ({"method": "kmeans"}, "trackers.latent.method: value 'kmeans'"),
        ({"eps": 2.0}, "trackers.latent.eps"),
        ({"min_cluster_size": 1}, "trackers.latent.min_cluster_size"),
        ({"centre": -2.0}, "trackers.latent.centre"),
        ({"inside": "helix_finder"}, "trackers.latent.inside: value 'helix_finder'"),
        ({"inside": "nobody"}, "tracker 'nobody': does not exist"),
    ):
        with pytest.raises(ConfigError, match=words):
            tracker(**settings)


@pytest.mark.parametrize("method", METHODS)
def test_only_options_of_the_method_are_tuned(method):
    space = Tracker.space_to_tune({"method": method})
    assert set(space) <= set(Tracker.search_space)
    assert ("eps" in space, "similarity" in space) == (method == "dbscan_cosine", method == "greedy_cosine")
    assert math.prod(len(values) for values in space.values()) <= 20
    assert Tracker.space_to_tune({}) == Tracker.space_to_tune({"method": "hdbscan"})


def test_tuning_uses_them():
    from trackbench.tuning import tune

    few = replace(HITS, event_id=1), TRUTH
    base = {"checkpoint": str(FOLDER / "latent.pt"), "device": "cpu", "method": "greedy_cosine", "min_cluster_size": 3}
    result = tune("latent", base, [few])
    assert [entry["settings"]["similarity"] for entry in result["scan"]] == list(Tracker.search_space["similarity"])
    assert result["settings"]["min_cluster_size"] == 3
