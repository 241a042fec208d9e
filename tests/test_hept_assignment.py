"""Labels from the masks of a decoder: the fused arg max against the explicit one, overlapping windows against a slow
twin written with sets."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch

from trackbench.trackers.layers.assignment import assign, best_queries, window_labels
from trackbench.trackers.layers.hept_sectors import sector_places


class Level(NamedTuple):
    classes: torch.Tensor
    queries: torch.Tensor


class Decoded(NamedTuple):
    levels: tuple
    hits: torch.Tensor
    offset: torch.Tensor
    valid: torch.Tensor
    places: torch.Tensor
    event: torch.Tensor
    seeds: torch.Tensor


def one_window(classes, queries, hits, offset=0.0, valid=None):
    """A batch of one event in one window, its hits in order."""
    classes, queries, hits = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (classes, queries, hits))
    valid = torch.ones(queries.shape[:2], dtype=torch.bool) if valid is None else torch.as_tensor(valid)[None]
    places = torch.arange(hits.shape[1])[None]
    seeds = torch.full(queries.shape[:2], -1)
    level = Level(classes, queries)
    return Decoded((level,), hits, torch.tensor(offset), valid, places, torch.zeros(1, dtype=torch.int64), seeds)


def random_decoded(lengths=(37, 20), sectors=2, overlap=False, n_queries=11, width=5, seed=0):
    """Random masks of a batch; its windows are those of random azimuths."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    valid = torch.arange(max(lengths) + 3) < torch.tensor(lengths)[:, None]
    places = sector_places(3 * draw(len(lengths), max(lengths) + 3, 2).tanh(), valid, sectors, overlap)
    event = torch.arange(len(lengths)).repeat_interleave(places.shape[1])
    places = places.flatten(0, 1)
    n_windows = len(places)
    levels = tuple(Level(draw(n_windows, n_queries, 2), draw(n_windows, n_queries, width)) for _ in range(2))
    good = torch.rand(n_windows, n_queries, generator=generator) < 0.8
    hits = draw(n_windows, places.shape[1], width)
    return Decoded(levels, hits, torch.tensor(-0.3), good, places, event, torch.full(good.shape, -1))


def slow_scores(decoded):
    """(G, M, T) float64: the full matrix, from the formula."""
    level = decoded.levels[-1]
    scores = np.full((*decoded.valid.shape, decoded.hits.shape[1]), -np.inf)
    for group, query, hit in np.ndindex(*scores.shape):
        if not decoded.valid[group, query]:
            continue
        logit = float(level.queries[group, query].double() @ decoded.hits[group, hit].double()) + float(decoded.offset)
        track, empty = level.classes[group, query].double().tolist()
        scores[group, query, hit] = min(logit, 0.0) + 0.5 * np.log(1 / (1 + np.exp(empty - track)))
    return scores


def slow_labels(decoded, n_hits, cut):
    """Labels per event without overlap, hit by hit."""
    scores, n_queries = slow_scores(decoded), decoded.valid.shape[1]
    labels = [np.full(n, -1) for n in n_hits]
    window = dict.fromkeys(range(len(n_hits)), 0)
    for group, event in enumerate(decoded.event.tolist()):
        for column, place in enumerate(decoded.places[group].tolist()):
            best = scores[group, :, column].argmax()
            if place >= 0 and scores[group, best, column] >= cut:
                labels[event][place] = window[event] * n_queries + best
        window[event] += 1
    return labels


@pytest.mark.parametrize("chunk", [1, 4, 11, 256])
@pytest.mark.parametrize("cut", [-5.4, -0.3, -0.1])
def test_fused_is_explicit(chunk, cut):
    decoded = random_decoded()
    found, expected = assign(decoded, (37, 20), cut, chunk), slow_labels(decoded, (37, 20), cut)
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == np.int64
        np.testing.assert_array_equal(mine, other)
    if cut == -0.1:
        assert 0 < np.mean(found[0] >= 0) < 1


@pytest.mark.parametrize("cut", [-5.4, -1e30, -np.inf])
def test_hits_of_a_window_without_queries_stay_unassigned(cut):
    decoded = random_decoded(lengths=(30,))
    decoded.valid[1] = False
    (found,) = assign(decoded, (30,), cut)
    without = decoded.places[1][decoded.places[1] >= 0].numpy()
    assert len(without) == 15 and (found[without] == -1).all()
    assert (np.delete(found, without) >= 0).all()


def test_scores_are_those_of_the_formula_and_chunks_change_nothing():
    decoded = random_decoded(seed=3)
    score, query = best_queries(decoded, 3)
    np.testing.assert_allclose(score, slow_scores(decoded).max(axis=1), atol=1e-6)
    again = best_queries(decoded, 256)
    assert torch.equal(again[1], query)
    torch.testing.assert_close(again[0], score, rtol=0, atol=1e-6)


def test_many_hits_are_tiled():
    """More hits than a tile holds, against one matrix."""
    generator = torch.Generator().manual_seed(1)
    hits, queries = torch.randn(5000, 8, generator=generator), torch.randn(300, 8, generator=generator)
    classes = torch.randn(300, 2, generator=generator)
    score, query = best_queries(one_window(classes, queries, hits))
    full = (queries @ hits.T).clamp(max=0) + 0.5 * classes.log_softmax(1)[:, :1]
    torch.testing.assert_close(score[0], full.max(0).values, rtol=0, atol=1e-5)
    assert (query[0] == full.argmax(0)).float().mean() > 0.999


def test_memory_is_a_chunk_not_a_matrix():
    """No tensor of queries times hits comes into being."""
    sizes = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(x))
            return out

    decoded = one_window(torch.zeros(400, 2), torch.randn(400, 4), torch.randn(3000, 4))
    with Spy():
        assign(decoded, (3000,), -5.4, chunk=16)
    assert max(sizes) <= max(16 * 3000, 400 * 4, 3000 * 4)


def test_half_precision_is_not_used_on_a_cpu():
    decoded = random_decoded(seed=5)
    level = decoded.levels[-1]
    half = decoded._replace(
        levels=(Level(level.classes.bfloat16(), level.queries.bfloat16()),), hits=decoded.hits.bfloat16()
    )
    single = half._replace(
        levels=(Level(level.classes.bfloat16().float(), level.queries.bfloat16().float()),),
        hits=half.hits.float(),
    )
    expected = best_queries(single)
    for context in (torch.autocast("cpu", dtype=torch.bfloat16, enabled=on) for on in (False, True)):
        with context:
            for decoded in (half, single):
                found = best_queries(decoded)
                assert found[0].dtype == torch.float32
                assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_saturated_masks_are_decided_by_the_class():
    """Two masks that both have the hit: the one that is more surely a track; of equal ones the first."""
    decoded = one_window([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [[9.0], [1.0], [5.0]], [[1.0]])
    assert assign(decoded, (1,), -5.4)[0].tolist() == [1]


def test_invalid_queries_and_none_at_all():
    decoded = one_window([[5.0, 0.0], [0.0, 0.0]], [[5.0], [1.0]], [[1.0], [2.0]], valid=[False, True])
    assert assign(decoded, (2,), -5.4)[0].tolist() == [1, 1]
    none = decoded._replace(valid=torch.zeros(1, 2, dtype=torch.bool))
    assert assign(none, (2,), -5.4)[0].tolist() == [-1, -1]
    empty = one_window(torch.zeros(0, 2), torch.zeros(0, 1), [[1.0], [2.0]])
    assert assign(empty, (2,), -5.4)[0].tolist() == [-1, -1]


def test_events_of_a_batch_do_not_matter_to_each_other():
    decoded = random_decoded(seed=9)
    rows = decoded.event == 1
    alone = decoded._replace(
        levels=tuple(Level(level.classes[rows], level.queries[rows]) for level in decoded.levels),
        hits=decoded.hits[rows],
        valid=decoded.valid[rows],
        places=decoded.places[rows],
        event=decoded.event[rows] - 1,
    )
    np.testing.assert_array_equal(assign(alone, (20,), -5.4)[0], assign(decoded, (37, 20), -5.4)[1])


# Overlapping windows


def slow_windows(places, query, n_queries, n_hits):
    """Labels of overlapping windows with sets of hits and loops."""
    windows = [[(hit, q) for hit, q in zip(*row, strict=True) if hit >= 0] for row in zip(places, query, strict=True)]
    clusters = {}
    for number, window in enumerate(windows):
        for hit, q in window:
            if q >= 0:
                clusters.setdefault(number * n_queries + q, set()).add(hit)
    united = slow_union(clusters, n_queries)
    labels = np.full(n_hits, -1)
    for hit in range(n_hits):
        seen = []
        for number, window in enumerate(windows):
            places_of_hit = [(place, q) for place, (other, q) in enumerate(window) if other == hit]
            seen += [(abs(place + 0.5 - len(window) / 2) / len(window), number, q) for place, q in places_of_hit]
        _, number, q = min(seen)
        labels[hit] = united[number * n_queries + q] if q >= 0 else -1
    return labels


def slow_union(clusters, n_queries):
    """Label -> smallest label it is united with. clusters: label -> set of hits."""
    parts = [{label} for label in clusters]
    for a, b in itertools.combinations(clusters, 2):
        mostly_same = 2 * len(clusters[a] & clusters[b]) > min(len(clusters[a]), len(clusters[b]))
        if a // n_queries != b // n_queries and mostly_same:
            one, other = (next(part for part in parts if label in part) for label in (a, b))
            if one is not other:
                parts.remove(other)
                one |= other
    return {label: min(part) for part in parts for label in part}


@pytest.mark.parametrize("sectors", [1, 2, 3])
@pytest.mark.parametrize("n_queries", [3, 8, 20])
def test_windows_against_a_slow_twin(sectors, n_queries):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 60))
        angles = torch.from_numpy(rng.uniform(-3, 3, (1, n, 2)))
        places = sector_places(angles, torch.ones(1, n, dtype=torch.bool), sectors, True)[0].numpy()
        # Mostly the same track in both windows: a query a run of neighbours, with some hits at random.
        truth = rng.integers(-1, n_queries, n)
        truth = np.where(rng.random(n) < 0.7, np.argsort(np.argsort(angles[0, :, 1].numpy())) * n_queries // n, truth)
        query = truth[np.maximum(places, 0)]
        query = np.where(rng.random(places.shape) < 0.15, rng.integers(-1, n_queries, places.shape), query)
        shuffled = np.array([rng.permutation(n_queries) for _ in places])
        query = np.where(query >= 0, np.take_along_axis(shuffled, np.maximum(query, 0), 1), -1)
        found = window_labels(places, query, n_queries, n)
        np.testing.assert_array_equal(found, slow_windows(places, query, n_queries, n))


def test_a_track_across_a_border_and_across_plus_minus_pi_is_one():
    phi = torch.tensor([-3.1, -3.05, 0.05, 0.1, -0.05, 3.1, 3.12, -0.1, -1.5, 1.5])
    tracks = np.array([0, 0, 1, 1, 1, 0, 0, 1, 2, 2])
    angles = torch.stack((torch.zeros(10), phi), 1)[None]
    valid = torch.ones(1, 10, dtype=torch.bool)
    for overlap, n_expected in ((False, 6), (True, 4)):
        places = sector_places(angles, valid, 2, overlap)[0].numpy()
        query = np.where(places >= 0, tracks[np.maximum(places, 0)], -1)
        labels = window_labels(places, query, 3, 10)
        assert len(np.unique(labels)) == n_expected
        assert len(np.unique(labels[tracks == 0])) == len(np.unique(labels[tracks == 1])) == (1 if overlap else 2)


def test_the_middle_decides_and_half_is_not_enough():
    """Window 0 has hits 0-3, window 1 hits 2, 3, 0, 1: of hits 1 and 2 the first window is right."""
    places = np.array([[0, 1, 2, 3], [2, 3, 0, 1]])
    query = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])
    assert window_labels(places, query, 2, 4).tolist() == [0, 0, 0, 0]  # all of the smaller ones are shared
    query = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])  # each pair shares one of two
    assert window_labels(places, query, 2, 4).tolist() == [2, 0, 1, 3]
    query = np.array([[0, -1, 1, 1], [0, 1, 0, 1]])  # unassigned in the middle window stays so; 0 and 2 share hit 0
    assert window_labels(places, query, 2, 4).tolist() == [0, -1, 1, 3]


def test_no_hits():
    assert window_labels(np.full((3, 2), -1), np.full((3, 2), -1), 4, 0).tolist() == []
