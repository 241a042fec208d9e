"""The helix finder on planted tracks: what it finds, what it refuses, and that nothing else changes the result."""

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
from toys import BARREL, toy_event
from track_checks import assert_valid

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.geometry.detector import ALL_LAYERS, PIXEL_LAYERS
from trackbench.geometry.layers import layer_table
from trackbench.trackers import helix_finder
from trackbench.trackers.helix_finder import Config, Tracker
from trackbench.trackers.layers import helix_following

# Few hits loosen the limit of chi2 of tracks on three layers, by 4 ln 20 at most (see Config.max_chi2_short).
FEW_HITS = 4.0 * np.log(20.0)


def planted(tracks, smear=0.0, seed=0):
    """Hits of helices (phi0, q/pT, d0, z0, cot theta) on the pixel layers, and the number of the helix of each.

    smear: noise along azimuth and along z (cylinder) or radius (disk) [mm]
    """
    from trackbench.fitting.helix import helix_points

    table, rng, rows = layer_table(), np.random.default_rng(seed), []
    path = np.arange(0.0, 400.0, 0.01)
    for number, p in enumerate(tracks):
        points = helix_points(np.asarray(p, dtype=float), path)
        r = np.hypot(points[:, 0], points[:, 1])
        for layer, (volume, layer_id) in enumerate(PIXEL_LAYERS):
            position, barrel = table.position[layer], table.barrel[layer]
            s = np.interp(position, r, path) if barrel else (position - p[3]) / p[4] if p[4] else -1.0
            if not 0.0 < s < path[-1]:
                continue
            x, y, z = helix_points(np.asarray(p, dtype=float), np.array([s]))[0]
            if not table.low[layer] < (z if barrel else np.hypot(x, y)) < table.high[layer]:
                continue
            phi, across, along = np.arctan2(y, x), *rng.normal(0.0, 1.0, 2) * smear
            x, y = x - across * np.sin(phi), y + across * np.cos(phi)
            x, y, z = (x, y, z + along) if barrel else (x + along * np.cos(phi), y + along * np.sin(phi), z)
            rows.append((x, y, z, volume, layer_id, number))
    x, y, z, volume, layer, number = np.array(rows).T
    order = rng.permutation(len(rows))
    index = np.arange(len(rows))
    place = (volume.astype(np.int64)[order], layer.astype(np.int64)[order])
    hits = Hits(index, np.column_stack([x, y, z])[order], *place, index, index >= 0)
    return hits, number.astype(np.int64)[order]


def helices(n, seed, max_d0=0.0, max_cot=8.0, sigma_z=5.5):
    """Draw n helices of 0.9 to 10 GeV."""
    rng = np.random.default_rng(seed)
    phi, k = rng.uniform(-np.pi, np.pi, n), rng.choice([-1, 1], n) / np.exp(rng.uniform(np.log(0.9), np.log(10.0), n))
    d0 = rng.uniform(-1.0, 1.0, n) * max_d0
    return np.column_stack([phi, k, d0, rng.normal(0.0, sigma_z, n), rng.uniform(-max_cot, max_cot, n)])


def found_as_a_whole(tracks, number):
    """Helices whose hits, all and no others, are one candidate -> its label."""
    found = {}
    for helix in np.unique(number):
        labels = np.unique(tracks.labels[number == helix])
        if labels.size == 1 and labels[0] >= 0 and set(number[tracks.labels == labels[0]]) == {helix}:
            found[int(helix)] = int(labels[0])
    return found


def as_bytes(tracks):
    """Labels and parameters as one string of bytes."""
    p = tracks.parameters
    return b"".join(a.tobytes() for a in (tracks.labels, p.values, p.covariance, p.chi2, p.n_dof, p.n_holes))


@functools.cache
def crowded(n_tracks=250, n_noise=400):
    """Planted tracks, some displaced, over noise: every step of the finder has something to do."""
    tracks = np.vstack([helices(n_tracks, seed=1), helices(n_tracks // 5, seed=2, max_d0=6.0, max_cot=2.0)])
    hits, _ = planted(tracks, smear=0.012)
    noise, _ = toy_event(0, n_noise, seed=3)
    xyz, volume, layer = (
        np.concatenate([getattr(hits, name), getattr(noise, name)]) for name in ("xyz", "volume_id", "layer_id")
    )
    index = np.arange(len(xyz))
    return Hits(index, xyz, volume, layer, index, index >= 0)


def test_exact_helices_give_exact_parameters():
    """Hits without error: each helix is one candidate with its own parameters, up to the prior of q/pT."""
    true = helices(120, seed=4, sigma_z=4.0)
    hits, number = planted(true)
    tracks = Tracker(Config()).reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    found = found_as_a_whole(tracks, number)
    n_targets = np.count_nonzero(np.bincount(number) >= 3)
    assert n_targets > 100
    assert len(found) >= 0.97 * n_targets
    rows = np.array(list(found.values()))
    d0, z0, phi, theta, k = tracks.parameters.values[rows].T
    p = true[list(found)]
    long = np.bincount(number)[list(found)] >= 4  # three hits determine no circle better than the priors
    for name, difference, limit in (
        ("d0", d0 - p[:, 2], 2e-3),
        ("z0", z0 - p[:, 3], 1e-3),
        ("phi", np.angle(np.exp(1j * (phi - p[:, 0]))), 1e-4),
        ("theta", theta - np.arctan2(1.0, p[:, 4]), 1e-5),
        ("q/pT", k - p[:, 1], 2e-3),
    ):
        assert np.abs(difference[long]).max() < limit, name
    assert tracks.parameters.chi2[rows].max() < 0.05
    assert (tracks.parameters.n_dof[rows] == 2 * np.bincount(number)[list(found)] - 5).all()


def test_toy_tracks_are_found():
    hits, truth = toy_event(300, 300, seed=5, pt_min=0.9)
    tracks = Tracker(Config()).reconstruct_tracks(hits)
    counts = evaluate_event(tracks.labels, truth, TruthSelection(), parameters=tracks.parameters).counts
    assert counts["dm"][1] > 200
    assert counts["dm"][0] >= 0.98 * counts["dm"][1]
    assert counts["fake_rate"][0] <= 0.01 * counts["fake_rate"][1]


def test_displaced_tracks_are_found_unless_switched_off():
    """|d0| of 1.5 to 8 mm: lost with max_d0 = 0; found with the right d0, to 0.2 mm, otherwise."""
    prompt, displaced = helices(60, seed=6), helices(40, seed=7, max_cot=2.0)
    displaced[:, 2] = np.random.default_rng(8).uniform(1.5, 8.0, 40) * np.tile([-1.0, 1.0], 20)
    hits, number = planted(np.vstack([prompt, displaced]), smear=0.01)
    for max_d0, least, most in ((0.0, 0, 2), (10.0, 36, 40)):
        tracks = Tracker(Config(max_d0=max_d0)).reconstruct_tracks(hits)
        found = {helix - 60: label for helix, label in found_as_a_whole(tracks, number).items() if helix >= 60}
        assert least <= len(found) <= most, max_d0
    d0 = tracks.parameters.values[list(found.values()), 0]
    np.testing.assert_allclose(d0, displaced[list(found), 2], atol=0.2)


def test_short_tracks_must_point_to_where_others_come_from():
    """Three layers: kept at the vertex of the other tracks, refused 14 mm away from it."""
    long, short = helices(80, seed=9, max_cot=2.0, sigma_z=0.3), helices(60, seed=10)
    short[:, 4] = np.random.default_rng(11).uniform(2.95, 3.25, 60)  # between the barrel and the first disk
    short[:, 3] = np.where(np.arange(60) < 30, 0.0, -14.0)
    hits, number = planted(np.vstack([long, short]), smear=0.005)
    assert set(np.bincount(number)[80:]) == {3}
    # The limit of chi2 that remains is 10.6, below the 12 which the prior takes at most.
    config = Config(max_chi2_short=0.0, max_z0=36.0)
    assert FEW_HITS - 2.0 * np.log(2.0) == pytest.approx(10.6, abs=0.01)
    found = np.array(list(found_as_a_whole(Tracker(config).reconstruct_tracks(hits), number)))
    assert np.count_nonzero((found >= 80) & (found < 110)) >= 25
    assert np.count_nonzero(found >= 110) == 0
    loose = Tracker(replace(config, max_chi2_short=18.0)).reconstruct_tracks(hits)
    without = np.array(list(found_as_a_whole(loose, number)))
    assert np.count_nonzero(without >= 110) >= 25, "the short tracks off the vertex cannot be found at all"


@functools.cache
def undivided():
    """Tracks of ``crowded()`` in one thread, with default sizes."""
    return Tracker(Config()).reconstruct_tracks(crowded())


@pytest.mark.parametrize("threads, chunk", [(1, 1), (1, 7), (1, 10**6), (2, 16), (3, 16)])
def test_threads_and_chunks_change_nothing(threads, chunk, monkeypatch):
    monkeypatch.setattr(helix_finder, "_CHUNK", chunk)
    assert as_bytes(Tracker(Config(threads=threads)).reconstruct_tracks(crowded())) == as_bytes(undivided())


def test_a_full_store_changes_nothing(monkeypatch):
    """Room for few candidates: the kernel stops, and goes on with an empty store."""
    calls = []

    def counted(*args):
        calls.append(args[0])
        return follow_prompt(*args)

    follow_prompt = helix_following.follow_prompt
    monkeypatch.setattr(helix_following, "follow_prompt", counted)
    Tracker(Config()).reconstruct_tracks(crowded())
    n_calls = len(calls)
    monkeypatch.setattr(helix_following, "STORE_SIZE", 24)
    assert as_bytes(Tracker(Config()).reconstruct_tracks(crowded())) == as_bytes(undivided())
    assert len(calls) - n_calls > n_calls, "the store was never full"


def test_every_step_finds_something_in_the_crowded_event():
    """What the tests of threads, chunks and stores compare holds prompt, displaced and short tracks."""
    parameters = undivided().parameters
    assert len(parameters) > 250
    assert np.count_nonzero(np.abs(parameters.values[:, 0]) > 1.5) > 10
    assert np.count_nonzero(parameters.n_dof == 1) > 10


@pytest.mark.parametrize("n_noise, layers", [(1, 4), (60, 4), (300, 2)])
def test_noise_gives_an_empty_result(n_noise, layers):
    """One hit, and scattered hits: no candidate, and no row of parameters."""
    hits, _ = toy_event(0, n_noise, seed=12)
    hits = hits.take(np.isin(hits.layer_id, list(BARREL)[:layers]))
    tracks = Tracker(Config()).reconstruct_tracks(hits)
    assert (tracks.labels == -1).all()
    assert len(tracks.parameters) == 0


def spoilt(**change):
    """Toy hits, the one with hit_id 5 changed."""
    hits, _ = toy_event(10, 10, seed=13)
    row = np.flatnonzero(hits.hit_id == 5)[0]
    arrays = {}
    for name, value in change.items():
        arrays[name] = getattr(hits, name).copy()
        arrays[name][row] = value
    return replace(hits, **arrays)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"volume_id": 11, "layer_id": 3},
            r"event 1: 1 hits on unknown layers \(first hit_id 5: volume 11, layer 3\), expected layers of the "
            "TrackML detector; this tracker knows the TrackML detector only.",
        ),
        (
            {"volume_id": 8, "layer_id": 2, "xyz": (0.0, 72.0, 10.0)},
            r"event 1: 1 hits are not on their layer \(first hit_id 5, 37.5 mm outside volume 8, layer 2\), "
            "expected within 5 mm; check the units; this tracker knows the TrackML detector only.",
        ),
        (
            {"volume_id": 9, "layer_id": 2, "xyz": (0.0, 200.0, 600.0)},
            r"first hit_id 5, 23.7 mm outside volume 9, layer 2",
        ),
        ({"volume_id": 8, "layer_id": 2, "xyz": (0.0, 0.0, 10.0)}, r"first hit_id 5, 31.5 mm outside volume 8"),
        ({"xyz": (np.nan, 1.0, 1.0)}, r"1 hits with a non-finite position \(first hit_id 5\), expected finite x, y, z"),
    ],
)
def test_hits_of_another_detector_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Tracker(Config()).reconstruct(spoilt(**change))


def test_positions_in_another_unit_are_refused():
    """Centimetres instead of millimetres: one error that counts all hits."""
    hits, _ = toy_event(10, 10, seed=13)
    with pytest.raises(InputError, match=rf"{len(hits)} hits are not on their layer .*check the units"):
        Tracker(Config()).reconstruct(replace(hits, xyz=hits.xyz / 10.0))


def test_every_layer_of_the_detector_is_known():
    """A hit in the middle of each of the 48 layers, on one side: those of the barrel are a straight track."""
    table = layer_table()
    middle = 0.5 * (table.low + table.high)
    r, z = np.where(table.barrel, (table.position, middle), (middle, table.position))
    volume, layer = np.array(ALL_LAYERS).T
    index = np.arange(len(ALL_LAYERS))
    hits = Hits(index, np.column_stack([r, 0 * r, z]), volume, layer, index, index >= 0)
    np.testing.assert_array_equal(Tracker(Config()).reconstruct(hits), np.where(table.barrel, 0, -1))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"min_pt": 0.05}, "trackers.helix_finder.min_pt: value 0.05, expected 0.1 to 10.0"),
        ({"max_z0": 0.0}, "trackers.helix_finder.max_z0: value 0.0, expected 1.0 to 500.0"),
        ({"max_d0": -1.0}, "trackers.helix_finder.max_d0: value -1.0, expected 0.0 to 25.0"),
        ({"max_d0": float("nan")}, "trackers.helix_finder.max_d0: value nan, expected 0.0 to 25.0"),
        ({"max_chi2_short": 101.0}, "trackers.helix_finder.max_chi2_short: value 101.0, expected 0.0 to 100.0"),
        ({"threads": 0}, "trackers.helix_finder.threads: value 0, expected 1 to 256"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(**settings)


def test_hits_crowded_in_one_direction_come_to_an_end():
    """4000 hits within 1 mrad in azimuth, 500 times denser than an event at 200 pile-up: about a CPU second.

    It grows with the third power of the density and more: 4 s for 8000, 14 s for 12,000, 73 s for 20,000 such hits.
    """
    rng = np.random.default_rng(14)
    layer = rng.choice(list(BARREL), 4000)
    r, phi, z = np.array([BARREL[name] for name in layer]), rng.normal(1.0, 1e-3, 4000), rng.uniform(-490, 490, 4000)
    index = np.arange(4000)
    volume, xyz = np.full(4000, 8), np.column_stack([r * np.cos(phi), r * np.sin(phi), z])
    hits = Hits(index, xyz, volume, layer, index, index >= 0)
    Tracker(Config()).reconstruct(hits.take(index[:50]))  # compiled
    start = time.process_time()
    assert_valid(Tracker(Config()).reconstruct_tracks(hits), 4000)
    assert time.process_time() - start < 20.0
