"""Clusters found in overlapping sectors are joined where they are mostly the same hits."""

import itertools

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench.data.hits import Hits
from trackbench.data.padding import pad_hits
from trackbench.data.sectors import merge_labels, phi_sectors, stitch_labels


def ring(degrees):
    """Hits on a circle at the given azimuths."""
    phi = np.radians(degrees)
    n = len(phi)
    frame = pd.DataFrame({"hit_id": np.arange(n), "x": np.cos(phi), "y": np.sin(phi), "z": 0.0})
    return Hits.from_frame(frame.assign(volume_id=8, layer_id=2, module_id=1))


def stitched(degrees, tracks, n_sectors=4, overlap=1 / 9):
    """Stitch what a tracker finds that gives each hit the number in ``tracks``, -1 = unassigned."""
    hits = ring(degrees)
    sectors = phi_sectors(hits, n_sectors, "angle", overlap)
    tracks = np.asarray(tracks)
    return stitch_labels(sectors, [tracks[sector.index] for sector in sectors], len(hits))


def test_a_track_across_a_border_is_one():
    # Sectors of 90 degrees, border at 0, overlap 10 degrees: left sees -20, -5, 5, right sees -5, 5, 20.
    labels, largest = stitched([-20, -5, 5, 20], [0, 0, 0, 0])
    assert labels.tolist() == [0, 0, 0, 0]
    assert largest.tolist() == [0]  # three hits each: the part of the first sector


def test_a_track_across_plus_minus_pi_is_one():
    labels, largest = stitched([160, 175, -175, -160, -90 + 45], [0, 0, 0, 0, 1])
    assert labels[:4].tolist() == [0, 0, 0, 0]
    assert labels[4] == 1
    assert largest.tolist() == [0, 2]  # sector 0 knows one candidate, sector 1 two numbers, 0 of which unused


def test_more_than_half_of_the_smaller_one_must_be_shared():
    # Left: -20 -15 -12 -5 5; right: -5 5 12: 2 of 3 hits.
    assert stitched([-20, -15, -12, -5, 5, 12], [0] * 6)[0].tolist() == [0] * 6
    # Right: -5 5 12 15: 2 of 4 hits are not more than half.
    labels, largest = stitched([-20, -15, -12, -5, 5, 12, 15], [0] * 7)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert largest.tolist() == [0, 1]
    # All hits a sector saw of a cluster count: one stray hit in common unites nothing.
    assert stitched([-20, -15, 5, 12], [0] * 4)[0].tolist() == [0, 0, 1, 1]


def test_the_largest_part_stands_for_a_united_candidate():
    # Left: -5 5; right: -5 5 20 25 -> 2 of 2 shared, the right part is the larger one.
    labels, largest = stitched([-5, 5, 20, 25], [0] * 4)
    assert labels.tolist() == [0] * 4
    assert largest.tolist() == [1]


def test_parts_are_united_through_a_third_one():
    # Sectors of 45 degrees with 40 degrees of overlap: [-45, 0) sees to 40, [0, 45) from -40 to 85, [45, 90) from 5.
    degrees = [-30, -20, 10, 20, 30, 60, 70, 80]
    hits = ring(degrees)
    sectors = phi_sectors(hits, 8, "angle", 8 / 9)
    given = [np.full(len(sector.hits), -1) for sector in sectors]
    given[3][:] = 0  # sees -30 ... 30
    given[4][:] = 0  # sees all
    given[5][:] = 0  # sees 10 ... 80
    assert [len(given[k]) for k in (3, 4, 5)] == [5, 8, 6]
    labels, largest = stitch_labels(sectors, given, len(hits))
    assert labels.tolist() == [0] * 8
    assert largest.tolist() == [1]


def test_the_core_sector_decides_and_padding_stays_unassigned():
    hits = pad_hits(ring([-20, -5, 5, 20]), 6)
    sectors = phi_sectors(hits, 4, "angle", 1 / 9)
    given = [np.full(len(sector.hits), -1) for sector in sectors]
    given[1][:] = [0, 0, 0]
    given[2][:] = [-1, -1, 3]  # does not assign its core hit at 5 degrees
    labels, largest = stitch_labels(sectors, given, 6)
    assert labels.tolist() == [0, 0, -1, 1, -1, -1]
    assert largest.tolist() == [0, 4]


def test_nothing_to_stitch():
    hits = ring([])
    sectors = phi_sectors(hits, 3, "angle", 0.2)
    labels, largest = stitch_labels(sectors, [np.zeros(0, dtype=int)] * 3, 0)
    assert labels.shape == largest.shape == (0,)


def slow_twin(sectors, labels, n_hits):
    """Partition by sets of hits, joined until nothing changes; and the hits of the largest part of each."""
    parts = []
    for sector, found in zip(sectors, labels, strict=True):
        for number in np.unique(found[found >= 0]):
            parts.append({"hits": set(sector.index[found == number]), "core": sector, "label": number})
    groups = [{i} for i in range(len(parts))]
    changed = True
    while changed:
        changed = False
        for a, b in itertools.combinations(range(len(groups)), 2):
            pairs = itertools.product(groups[a], groups[b])
            if any(same_track(parts[i], parts[j]) for i, j in pairs):
                groups[a] |= groups.pop(b)
                changed = True
                break
    expected = {}
    for group in groups:
        hits = set()
        for i in group:
            core = set(parts[i]["core"].index[parts[i]["core"].core])
            hits |= parts[i]["hits"] & core
        if hits:
            expected[frozenset(hits)] = max(len(parts[i]["hits"]) for i in group)
    return expected


def same_track(first, second):
    if first["core"] is second["core"]:
        return False
    return 2 * len(first["hits"] & second["hits"]) > min(len(first["hits"]), len(second["hits"]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n_sectors", "overlap"), [(1, 0.0), (2, 0.6), (3, 0.0), (5, 0.3), (8, 0.9)])
def test_random_clusters_against_a_slow_twin(n_sectors, overlap, seed):
    rng = np.random.default_rng([seed, n_sectors])
    hits, _ = toy_event(10, 5, seed=seed)
    sectors = phi_sectors(hits, n_sectors, "angle", overlap)
    phi = np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
    # Tracks in azimuth, seen by each sector with some hits missed and some exchanged.
    truth = np.floor((phi + np.pi) / 0.25).astype(int)
    given = []
    for sector in sectors:
        found = truth[sector.index]
        change = rng.uniform(size=found.shape) < 0.15
        found[change] = rng.integers(-1, 26, change.sum())
        given.append(found)
    labels, largest = stitch_labels(sectors, given, len(hits))
    expected = slow_twin(sectors, given, len(hits))
    sizes = np.concatenate([np.bincount(found[found >= 0], minlength=found.max(initial=-1) + 1) for found in given])
    measured = {frozenset(np.flatnonzero(labels == k)): sizes[largest[k]] for k in range(labels.max() + 1)}
    assert measured == expected
    if overlap == 0:
        merged = merge_labels(sectors, given, len(hits))
        assert np.array_equal(labels >= 0, merged >= 0)
        assert np.array_equal(np.unique(merged[merged >= 0], return_inverse=True)[1], labels[labels >= 0])
    # Nothing depends on chance.
    again = stitch_labels(sectors, given, len(hits))
    assert np.array_equal(labels, again[0]) and np.array_equal(largest, again[1])
