"""Clustering in a latent space: each method against a slow twin, by hand, and on input that is no sample."""

import numpy as np
import pytest

from trackbench.errors import ConfigError, InputError
from trackbench.trackers.layers.latent_clustering import (
    METHODS,
    cluster_points,
    cluster_within,
    nearest_centre,
)


def partition(labels):
    """The clusters as a set of sets of rows."""
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels[labels >= 0])}


def directions(degrees):
    """Unit vectors in the plane at the given angles."""
    phi = np.radians(degrees)
    return np.column_stack([np.cos(phi), np.sin(phi)])


def blobs(seed, n_clusters=12, d=4, spread=0.25):
    """Noisy clusters of 2 to 12 points about random directions, in random order, lengths 0.5 to 2."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, d))
    points = np.repeat(centres, rng.integers(2, 13, n_clusters), axis=0)
    points += rng.normal(0, spread, points.shape)
    points *= rng.uniform(0.5, 2, (len(points), 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    return rng.permutation(points)


def cosines(points):
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit @ unit.T


def slow_dbscan(points, eps, min_cluster_size, min_samples):
    """DBSCAN by its definition: core points within eps are connected, others join the first core point's cluster."""
    near = 1 - cosines(points) <= eps
    core = near.sum(axis=1) >= min_samples
    labels = np.full(len(points), -1)
    for seed in np.flatnonzero(core):
        if labels[seed] >= 0:
            continue
        labels[seed], todo = seed, [seed]
        while todo:
            for j in np.flatnonzero(near[todo.pop()] & (labels < 0)):
                labels[j] = seed
                if core[j]:
                    todo.append(j)
    return {cluster for cluster in partition(labels) if len(cluster) >= min_cluster_size}


def slow_greedy(points, similarity, min_cluster_size, max_size):
    """The hit with most free neighbours takes the most similar ones, until no hit has enough."""
    cosine, free, found = cosines(points), set(range(len(points))), set()
    while free:
        near = {i: [j for j in sorted(free) if j == i or cosine[i, j] >= similarity] for i in sorted(free)}
        seed = max(sorted(free), key=lambda i: len(near[i]))
        if len(near[seed]) < min_cluster_size:
            break
        members = sorted(near[seed], key=lambda j: -cosine[seed, j])[: max_size or None]
        found.add(frozenset(members))
        free -= set(members)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("eps", "min_samples", "size"), [(0.02, 1, 2), (0.05, 2, 3), (0.1, 3, 5)])
def test_dbscan_is_that_of_cosine_distances(seed, eps, min_samples, size):
    points = blobs(seed)
    labels = cluster_points(points, "dbscan_cosine", eps=eps, min_samples=min_samples, min_cluster_size=size)
    assert partition(labels) == slow_dbscan(points, eps, size, min_samples)
    assert len(partition(labels)) > 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("similarity", "size", "most"), [(0.9, 2, 0), (0.8, 5, 0), (0.7, 3, 6), (-0.5, 2, 0)])
def test_greedy_against_its_definition(seed, similarity, size, most):
    points = blobs(seed)
    labels = cluster_points(points, "greedy_cosine", similarity=similarity, min_cluster_size=size, max_size=most)
    assert partition(labels) == slow_greedy(points, similarity, size, most)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [3, 5])
def test_hdbscan_against_another_implementation(seed, size):
    from sklearn.cluster import HDBSCAN

    points = blobs(seed)
    labels = cluster_points(points, "hdbscan", min_cluster_size=size, min_samples=1)
    # That of scikit-learn counts the point itself as its first neighbour. With more neighbours many distances are
    # equal, and which of them is merged first is nowhere defined.
    twin = HDBSCAN(min_cluster_size=size, min_samples=2, copy=True).fit(points)
    assert partition(labels) == partition(twin.labels_)


def test_greedy_by_hand():
    # Within 10 degrees: 0 has 4 8; 4 has 0 8 12; 8 has 0 4 12; 12 has 4 8 -> seed is 4, the first with three.
    points = directions([0, 4, 8, 12, 100, 104, 200])
    settings = {"similarity": np.cos(np.radians(10.1)), "min_cluster_size": 2}
    assert cluster_points(points, "greedy_cosine", **settings).tolist() == [0, 0, 0, 0, 1, 1, -1]
    # With two hits per cluster 4 takes 0, as near as 8 but before it; 8 is left to 12.
    assert cluster_points(points, "greedy_cosine", max_size=2, **settings).tolist() == [0, 0, 1, 1, 2, 2, -1]


def test_nearest_centre_by_hand():
    # Centres at 5 and 30 degrees: 18 is nearer to 30, 17 to 5, -60 and 100 too far from both.
    points = directions([0, 10, 18, 17, 25, 35, -60, 100])
    labels = np.array([0, 0, -1, -1, 1, 1, 1, -1])[[0, 1, 2, 3, 4, 5, 7, 7]]
    assert nearest_centre(points, labels, 0.9).tolist() == [0, 0, 1, 0, 1, 1, -1, -1]
    assert nearest_centre(points, labels, 0.3).tolist() == [0, 0, 1, 0, 1, 1, 0, 1]
    # A cluster that loses all its hits is gone; nothing to do without clusters.
    assert nearest_centre(directions([0, 80, 50, 50]), np.array([0, 0, 1, 1]), 0.9).tolist() == [-1, -1, 0, 0]
    assert nearest_centre(points, np.full(8, -1), 0.5).tolist() == [-1] * 8


@pytest.mark.parametrize("method", ["dbscan_cosine", "greedy_cosine"])
def test_centres_are_the_last_step(method):
    points = blobs(11, spread=0.3)
    before = cluster_points(points, method, min_cluster_size=3)
    after = cluster_points(points, method, min_cluster_size=3, centre=0.5)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    expected = nearest_centre(unit, before, 0.5)
    assert np.array_equal(after, expected) and not np.array_equal(after, before)
    centres = [unit[before == k].sum(axis=0) for k in range(before.max() + 1)]
    for row, label in zip(unit, after, strict=True):
        cosine = [row @ centre / np.linalg.norm(centre) for centre in centres]
        assert (label >= 0) == (max(cosine) >= 0.5)
    assert np.array_equal(np.unique(after[after >= 0]), np.arange(after.max() + 1))


def test_dbscan_by_hand():
    # cos 10 degrees = 0.9848: a chain of neighbours is one cluster, however long.
    points = directions([0, 9, 18, 27, 90, 99, 180])
    labels = cluster_points(points, "dbscan_cosine", eps=0.0152, min_samples=2, min_cluster_size=2)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, -1]
    labels = cluster_points(points, "dbscan_cosine", eps=0.0152, min_samples=2, min_cluster_size=3)
    assert labels.tolist() == [0, 0, 0, 0, -1, -1, -1]


def test_hdbscan_by_hand():
    points = np.array([0, 1, 2, 3, 4, 100, 101, 102, 103, 104, 900.0])[:, None]
    labels = cluster_points(points, "hdbscan", min_cluster_size=5, min_samples=2)
    assert partition(labels) == {frozenset(range(5)), frozenset(range(5, 10))}
    assert labels[10] == -1


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_consecutive_and_repeatable(method):
    points = blobs(7)
    labels = cluster_points(points, method, min_cluster_size=3)
    assert labels.dtype == np.int64 and labels.shape == (len(points),)
    assert np.array_equal(np.unique(labels[labels >= 0]), np.arange(labels.max() + 1))
    assert np.array_equal(labels, cluster_points(points.copy(), method, min_cluster_size=3))
    before = points.copy()
    cluster_points(points, method)
    assert np.array_equal(points, before)


@pytest.mark.parametrize("method", ["dbscan_cosine", "greedy_cosine"])
def test_partition_does_not_depend_on_the_order(method):
    points = blobs(3, spread=0.1)
    order = np.random.default_rng(0).permutation(len(points))
    expected = partition(cluster_points(points, method, min_cluster_size=3))
    turned = cluster_points(points[order], method, min_cluster_size=3)
    assert {frozenset(order[list(rows)].tolist()) for rows in partition(turned)} == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [1, 3])
def test_few_equal_and_zero_points(method, d):
    for n in range(12):
        for points in (np.zeros((n, d)), np.ones((n, d)), np.random.default_rng(n).normal(size=(n, d))):
            labels = cluster_points(points, method)
            assert labels.shape == (n,)
            sizes = np.bincount(labels[labels >= 0], minlength=1)
            assert n < 5 or sizes[sizes > 0].min(initial=5) >= 5
            assert n >= 5 or (labels == -1).all()


@pytest.mark.parametrize("method", ["dbscan_cosine", "greedy_cosine"])
def test_vectors_of_length_zero_have_no_direction(method):
    points = np.concatenate([np.zeros((4, 2)), 3 * directions([0, 1, 2]), np.zeros((4, 2)), directions([1, 2])])
    labels = cluster_points(points, method, min_cluster_size=3)
    assert labels.tolist() == [-1] * 4 + [0] * 3 + [-1] * 4 + [0] * 2


@pytest.mark.parametrize("method", METHODS)
def test_inside_groups(method):
    points = np.concatenate([blobs(1), blobs(1), blobs(2)])
    n = len(blobs(1))
    groups = np.repeat([4, 0, -1], [n, n, len(points) - 2 * n])
    labels = cluster_within(points, groups, method, min_cluster_size=3)
    assert partition(labels[:n]) == partition(cluster_points(blobs(1), method, min_cluster_size=3))
    assert partition(labels[n : 2 * n]) == partition(labels[:n])
    assert partition(labels[2 * n :]) == partition(cluster_points(blobs(2), method, min_cluster_size=3))
    assert len(partition(labels)) == sum(len(partition(labels[groups == group])) for group in (4, 0, -1))
    alone = cluster_within(points, groups, method, outside="unassigned", min_cluster_size=3)
    assert (alone[2 * n :] == -1).all()
    assert np.array_equal(alone[:n] >= 0, labels[:n] >= 0)


def test_inside_one_group_or_none_is_the_whole_event():
    points = blobs(5)
    whole = cluster_points(points, "greedy_cosine", min_cluster_size=3)
    for group in (-1, -7, 3):
        assert np.array_equal(
            cluster_within(points, np.full(len(points), group), "greedy_cosine", min_cluster_size=3), whole
        )
    assert cluster_within(points[:0], np.zeros(0, dtype=int), "hdbscan").shape == (0,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "kmeans"}, "clustering.method: value 'kmeans'"),
        ({"min_cluster_size": 1}, "clustering.min_cluster_size"),
        ({"min_samples": 0}, "clustering.min_samples"),
        ({"eps": 0.0}, "clustering.eps"),
        ({"similarity": 1.0}, "clustering.similarity"),
        ({"max_size": 1}, "clustering.max_size"),
        ({"centre": 1.5}, "clustering.centre"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        cluster_points(blobs(0), **{"method": "hdbscan", **settings})


def test_wrong_points_are_refused():
    for points in (np.ones(5), np.full((9, 2), np.nan), np.full((2, 2), np.inf)):
        with pytest.raises(InputError, match="latent vectors"):
            cluster_points(points, "hdbscan")
    with pytest.raises(InputError, match="groups: shape"):
        cluster_within(np.ones((5, 2)), np.zeros(4), "hdbscan")
    with pytest.raises(ConfigError, match="outside: value 'noise'"):
        cluster_within(np.ones((5, 2)), np.zeros(5), "hdbscan", outside="noise")
