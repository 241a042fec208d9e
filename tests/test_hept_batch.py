"""Inputs of HEPTv2 by hand, events side by side, and the sectors of the decoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_event

from trackbench.data.hits import Hits
from trackbench.errors import InputError
from trackbench.geometry.detector import PIXEL_LAYERS
from trackbench.trackers.layers.hept_batch import collate
from trackbench.trackers.layers.hept_features import CELL_FEATURES, N_FEATURES, N_POSITIONS, hit_angles, hit_features
from trackbench.trackers.layers.hept_sectors import sector_places


def hits_at(*xyz, volume=8, layer=4, cells=False):
    n = len(xyz)
    number = np.arange(1, n + 1)
    features = {name: 100.0 * (i + 1) + number for i, name in enumerate(CELL_FEATURES)} if cells else {}
    same = np.ones(n, np.int64)
    return Hits(number, np.array(xyz, float).reshape(n, 3), volume * same, layer * same, same, same > 0, features, 7)


# Features


def test_geometry_by_hand():
    """A hit at r = 50 mm, phi = atan2(4, 3), z = 120 mm on the second barrel layer."""
    features, positions = hit_features(hits_at([30.0, 40.0, 120.0]), "geometry")
    phi, eta = np.arctan2(4, 3), np.arcsinh(2.4)
    plain = [0.5, 0.24, 0.6, 0.8, eta / 2, 40 * 30 / 2500, 40 * 40 / 2500, np.arctan2(50, 120)]
    turns = [2 * phi, 4 * phi, 8 * phi, 16 * phi, 32 * phi, 64 * phi]
    turns += [eta, 2 * eta, 4 * eta, 8 * eta, 16 * eta, 32 * eta]
    waves = [value for turn in turns for value in (np.sin(turn), np.cos(turn))]
    layer = np.zeros(18)
    layer[8] = 1.0  # after seven layers of volume 7, one of volume 8
    np.testing.assert_allclose(features, [np.concatenate([plain, waves, layer])], rtol=1e-12, atol=1e-12)
    assert features.shape[1] == N_FEATURES["geometry"] == N_POSITIONS["geometry"] == 50
    np.testing.assert_array_equal(positions, features)


def test_published_by_hand():
    """The same hit: lengths in m, u and v per m, the layer 8 of 18; eta twice among the coordinates."""
    features, positions = hit_features(hits_at([30.0, 40.0, 120.0], cells=True), "published")
    phi, eta = np.arctan2(4, 3), np.arcsinh(2.4)
    cells = [101, 201, 301, 401, 501, 601, 701, 801]
    expected = [0.05, phi / np.pi, 0.12, eta, 12.0, 16.0, *cells, 0.8]
    np.testing.assert_allclose(features, [expected], rtol=1e-12)
    np.testing.assert_allclose(positions, [[eta, phi, 0.05, phi / np.pi, 0.12, eta]], rtol=1e-12)
    assert (features.shape[1], positions.shape[1]) == (N_FEATURES["published"], N_POSITIONS["published"]) == (15, 6)


def test_layers_are_told_apart():
    one_hot = {
        key: hit_features(hits_at([30, 0, 0], volume=key[0], layer=key[1]), "geometry")[0][0, -18:].argmax()
        for key in PIXEL_LAYERS
    }
    assert list(one_hot.values()) == list(range(18))
    assert not hit_features(hits_at([300, 0, 0], volume=13, layer=2), "geometry")[0][0, -18:].any()


def test_hits_without_a_direction_are_finite():
    """The origin, the beam line, next to it, far out."""
    hits = hits_at([0, 0, 0], [0, 0, 3000], [1e-9, 0, -3000], [0, -1e4, 1e4], cells=True)
    for inputs in N_FEATURES:
        assert all(np.isfinite(values.astype(np.float32)).all() for values in hit_features(hits, inputs))
    assert np.isfinite(hit_angles(hits.xyz)).all()


def test_missing_cells_say_what_to_do():
    with pytest.raises(InputError, match=r"event 7: no feature charge_frac.*; .*set network.inputs to geometry"):
        hit_features(hits_at([30, 0, 0]), "published")
    hits = hits_at([30, 0, 0], cells=True)
    part = replace(hits, features={name: hits.features[name] for name in CELL_FEATURES[:-1]})
    with pytest.raises(InputError, match="no feature gphi"):
        hit_features(part, "published")


def test_unknown_inputs_are_refused():
    with pytest.raises(ValueError, match="unknown inputs 'polar'"):
        hit_features(hits_at([30, 0, 0]), "polar")


# Batches


def test_events_stand_side_by_side():
    events = [toy_event(n_tracks=n, seed=n)[0] for n in (6, 2)]
    empty = events[0].take(np.zeros(0, np.int64))
    batch = collate([*events, empty], "geometry", pad_to=90)
    assert batch.features.shape == (3, 90, 50)
    assert batch.lengths.tolist() == [len(events[0]), len(events[1]), 0]
    for row, hits in enumerate((*events, empty)):
        n = len(hits)
        expected = hit_features(hits, "geometry")[0].astype(np.float32)
        np.testing.assert_array_equal(batch.features[row, :n], expected)
        np.testing.assert_array_equal(batch.positions[row, :n], expected)
        np.testing.assert_array_equal(batch.angles[row, :n], hit_angles(hits.xyz).astype(np.float32))
        assert batch.valid[row].tolist() == [True] * n + [False] * (90 - n)
        for part in (batch.features, batch.positions, batch.angles):
            assert part.dtype == torch.float32
            assert not part[row, n:].any()
    assert batch.to("cpu").lengths is batch.lengths


def test_nothing_at_all_has_one_place():
    assert collate([hits_at()], "geometry").features.shape == (1, 1, 50)
    assert collate([], "geometry").features.shape == (0, 1, 50)


def test_events_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"event 7: 2 hits, expected at most 1; raise"):
        collate([hits_at([1, 2, 3], [4, 5, 6])], "geometry", pad_to=1)
    padded = replace(hits_at([1, 2, 3]), valid=np.array([False]))
    with pytest.raises(InputError, match="event 7: contains padding"):
        collate([padded], "geometry")


# Sectors


def angles_of(rng, *lengths, size):
    angles = torch.zeros(len(lengths), size, 2)
    for row, n in enumerate(lengths):
        angles[row, :n, 0] = torch.from_numpy(rng.normal(size=n))
        angles[row, :n, 1] = torch.from_numpy(rng.uniform(-np.pi, np.pi, n))
    return angles, torch.arange(size) < torch.tensor(lengths)[:, None]


def naive_sectors(angles, n, k, overlap):
    """Runs of the hits sorted by phi, the first of them longer; then runs of the list moved by half a sector."""
    order = sorted(range(n), key=lambda place: (angles[place, 1].item(), angles[place, 0].item()))
    moved = int(n / (2 * k) + 0.5)
    lists = [order, order[moved:] + order[:moved]] if overlap else [order]
    return [part.tolist() for one in lists for part in np.array_split(np.array(one, dtype=int), k)]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_sectors_equal_sorted_runs(k, overlap):
    lengths = (40, 37, 4, 1, 0)
    angles, valid = angles_of(np.random.default_rng(3), *lengths, size=43)
    places = sector_places(angles, valid, k, overlap)
    assert places.shape == (5, 2 * k if overlap else k, -(-43 // k))
    for row, n in enumerate(lengths):
        expected = naive_sectors(angles[row], n, k, overlap)
        assert [[place for place in group if place >= 0] for group in places[row].tolist()] == expected
        sizes = (places[row] >= 0).sum(1)
        assert sizes.max() - sizes.min() <= 1
        count = torch.bincount(places[row][places[row] >= 0], minlength=43)
        assert count.tolist() == [2 if overlap else 1] * n + [0] * (43 - n)
        assert ((places[row] >= 0).long().diff(dim=1) <= 0).all()  # padding comes last


@pytest.mark.parametrize(("overlap", "inside"), [(True, True), (False, False)])
def test_overlap_closes_the_seam(overlap, inside):
    """Any 9 neighbours in azimuth, also across phi = +-pi, are in one of the windows of 20 hits moved by 10."""
    angles, valid = angles_of(np.random.default_rng(4), 60, size=60)
    groups = [set(group.tolist()) for group in sector_places(angles, valid, 3, overlap)[0]]
    order = torch.argsort(angles[0, :, 1]).tolist()
    around = order + order
    runs = [set(around[start : start + 9]) for start in range(60)]
    assert all(any(run <= group for group in groups) for run in runs) == inside


def test_sectors_know_neither_padding_nor_order():
    rng = np.random.default_rng(5)
    angles, valid = angles_of(rng, 30, size=30)
    angles[0, ::3, 1] = angles[0, 0, 1]  # equal azimuths
    expected = sector_places(angles, valid, 3, True)
    order = torch.from_numpy(rng.permutation(30))
    found = sector_places(angles[:, order], valid, 3, True)
    assert torch.equal(order[found], expected)
    more = torch.nn.functional.pad(angles, (0, 0, 0, 9))
    found = sector_places(more, torch.arange(39)[None] < 30, 3, True)
    assert torch.equal(found[:, :, :10], expected)
    assert (found[:, :, 10:] == -1).all()
