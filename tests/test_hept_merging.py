"""The embedding merge and spherical k-means against slow twins written from their description."""

import numpy as np
import pytest
import torch

from trackbench.trackers.layers.merging import Merging, merge_fragments, spherical_kmeans


def unit(points):
    points = np.asarray(points, dtype=np.float64)
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def random_event(seed, n_clusters=25, n_hits=120, width=4, spread=0.35):
    """Embedding and labels of hits around few directions, many clusters small, labels with gaps."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(n_clusters, 0.5))
    clusters = rng.choice(n_clusters, n_hits, p=share)
    directions = unit(rng.normal(size=(n_clusters // 4, width)))
    points = unit(directions[clusters % len(directions)] + rng.normal(0, spread, (n_hits, width)))
    labels = np.where(rng.random(n_hits) < 0.1, -1 - rng.integers(2, size=n_hits), 3 * clusters + 1)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(labels)


def centroids(points, labels):
    points = points.double().numpy()
    return {label: unit(points[labels == label].sum(axis=0)) for label in np.unique(labels[labels >= 0]).tolist()}


def slow_merge(points, labels, how):
    """Cluster by cluster, chains followed link by link."""
    labels = labels.numpy()
    centre = centroids(points, labels)
    size = {label: int((labels == label).sum()) for label in centre}
    parent = {}
    for a in centre:
        if size[a] > how.small:
            continue
        allowed = [b for b in centre if size[b] > size[a] or (size[b] == size[a] and b < a)]
        allowed = [b for b in allowed if size[b] <= how.target and size[a] + size[b] <= how.size]
        cosine = [float(centre[a] @ centre[b]) for b in allowed]
        if allowed and max(cosine) >= how.cosine:
            parent[a] = allowed[int(np.argmax(cosine))]

    def root(label):
        while label in parent:
            label = parent[label]
        return label

    total = {end: sum(size[a] for a in centre if root(a) == end) for end in map(root, centre)}
    kept = {a: root(a) if total[root(a)] <= how.size else a for a in centre}
    return np.array([kept.get(label, label) for label in labels.tolist()])


def slow_kmeans(points, labels, iterations):
    labels = labels.numpy().copy()
    rows = np.flatnonzero(labels >= 0)
    centre = centroids(points, labels)
    for _ in range(iterations):
        centre |= centroids(points, labels)
        names, matrix = list(centre), np.array(list(centre.values()))
        for row in rows:
            labels[row] = names[int(np.argmax(matrix @ points[row].double().numpy()))]
    return labels


@pytest.mark.parametrize("how", [Merging(), Merging(3, 5, 6, 0.5), Merging(2, 9, 4, -1.0)])
def test_merge_against_a_slow_twin(how):
    changed = 0
    for seed in range(12):
        points, labels = random_event(seed)
        found = merge_fragments(points, labels, how).numpy()
        np.testing.assert_array_equal(found, slow_merge(points, labels, how))
        changed += (found != labels.numpy()).sum()
    assert changed > 5


def test_defaults_are_the_published_ones():
    points, labels = random_event(3, spread=0.2)
    assert torch.equal(merge_fragments(points, labels), merge_fragments(points, labels, Merging(2, 9, 10, 0.68)))


def test_merge_changes_no_unassigned_hit_and_only_unites():
    for seed in range(5):
        points, labels = random_event(seed)
        found = merge_fragments(points, labels)
        assert torch.equal(found[labels < 0], labels[labels < 0])
        pairs = torch.stack((labels, found), 1)[labels >= 0].unique(dim=0)
        assert len(pairs) == len(labels[labels >= 0].unique())  # a candidate goes as a whole


def test_large_and_dissimilar_candidates_stay():
    points = torch.tensor([[1.0, 0.0]] * 3 + [[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2)
    labels = torch.tensor([5, 5, 5, 2, 2, 2, 7, 7])
    assert torch.equal(merge_fragments(points, labels), labels)
    near = points.clone()
    near[6:] = torch.tensor([0.7, (1 - 0.49) ** 0.5])  # cosine 0.7: joins the first of the most similar ones
    assert merge_fragments(near, labels).tolist() == [5, 5, 5, 2, 2, 2, 2, 2]


def test_chains_of_any_length_collapse():
    """20 hits, each a candidate of its own and most like the one before: one candidate, if it may be that large."""
    angle = torch.linspace(0.14, 0.10, 20).cumsum(0)
    points = torch.stack((angle.cos(), angle.sin()), 1)
    labels = torch.arange(20)
    assert merge_fragments(points, labels, Merging(size=20, cosine=0.9)).tolist() == [0] * 20
    assert merge_fragments(points, labels, Merging(size=19, cosine=0.9)).tolist() == list(range(20))  # undone


def test_too_large_ones_are_taken_apart_and_others_not():
    points = torch.tensor([[1.0, 0.0]] * 12 + [[0.0, 1.0]] * 3)
    labels = torch.tensor([0] * 7 + [1, 1, 2, 2, 3] + [4, 4, 5])
    assert merge_fragments(points, labels).tolist() == [0] * 7 + [1, 1, 2, 2, 3] + [4, 4, 4]


@pytest.mark.parametrize("iterations", [0, 1, 2, 5])
def test_kmeans_against_a_slow_twin(iterations):
    changed = 0
    for seed in range(8):
        points, labels = random_event(seed)
        found = spherical_kmeans(points, labels, iterations).numpy()
        np.testing.assert_array_equal(found, slow_kmeans(points, labels, iterations))
        changed += (found != labels.numpy()).sum()
    assert (changed > 0) == (iterations > 0)


def test_an_empty_candidate_keeps_its_centroid():
    """Candidate 9, at 30 degrees, loses its hits to 1 and 2; then 1 has moved away and 9 is the nearest of 24."""
    angle = torch.deg2rad(torch.tensor([16.0, 24.0, 0.0, 60.0, 58.0, 62.0]))
    points, labels = torch.stack((angle.cos(), angle.sin()), 1), torch.tensor([1, 1, 9, 9, 2, 2])
    assert spherical_kmeans(points, labels, 1).tolist() == [1, 1, 1, 2, 2, 2]
    assert spherical_kmeans(points, labels, 2).tolist() == [1, 9, 1, 2, 2, 2]


def test_chunks_change_nothing(monkeypatch):
    points, labels = random_event(2)
    expected = merge_fragments(points, labels), spherical_kmeans(points, labels, 3)
    monkeypatch.setattr("trackbench.trackers.layers.merging._CHUNK", 30)
    assert torch.equal(merge_fragments(points, labels), expected[0])
    assert torch.equal(spherical_kmeans(points, labels, 3), expected[1])


@pytest.mark.parametrize("labels", [[], [-1, -1], [4]])
def test_nothing_to_do(labels):
    labels = torch.tensor(labels, dtype=torch.int64)
    points = torch.ones(len(labels), 1)
    assert torch.equal(merge_fragments(points, labels), labels)
    assert torch.equal(spherical_kmeans(points, labels, 2), labels)
