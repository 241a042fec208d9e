"""Clusterers on the projection surfaces against naive implementations, and what the trackers must keep."""

import functools
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from toys import toy_event

from trackbench.errors import ConfigError
from trackbench.geometry.projection import embed_cylinder, embed_disc
from trackbench.trackers.base import build_config, build_tracker
from trackbench.trackers.layers.density import dbscan, density_peaks, surface_grid
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.windows import cell_grid, grid_windows, iterative_windows, widen_windows

RADIUS = 91.0
PERIOD = 2 * np.pi * RADIUS
METHODS = ("dbscan", "density_peaks", "grid_window", "hdbscan", "iterative_window")


@functools.cache
def toy():
    return toy_event(n_tracks=120, n_noise=150, seed=2)


def random_surface(barrel, n=300, seed=0):
    """Clumped (u, w) points; in the barrel some lie on either side of phi = pi."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-1, 1, (25, 2)) * ([PERIOD / 2, 60] if barrel else [60, 60])
    uw = centres[rng.integers(25, size=n)] + rng.normal(0, 2.0, (n, 2))
    if barrel:
        uw[:, 0] = (uw[:, 0] + PERIOD / 2) % PERIOD - PERIOD / 2
    return uw


def embedded(uw, barrel):
    return embed_cylinder(uw, RADIUS, 2.0) if barrel else embed_disc(uw, 0.5)


def as_sets(offsets, members):
    return [set(members[a:b].tolist()) for a, b in pairwise(offsets)]


# --- density clusterers ------------------------------------------------------------------------------


@pytest.mark.parametrize("barrel", [True, False])
@pytest.mark.parametrize(("eps", "min_samples"), [(0.3, 2), (1.0, 3), (2.0, 5), (500.0, 3)])
def test_dbscan_has_the_labels_of_scikit_learn(barrel, eps, min_samples):
    from sklearn.cluster import DBSCAN

    points = embedded(random_surface(barrel), barrel)
    expected = DBSCAN(eps=eps, min_samples=min_samples, algorithm="brute").fit(points).labels_
    found = dbscan(surface_grid(points, barrel, eps), eps, min_samples)
    np.testing.assert_array_equal(found, expected)


def test_dbscan_does_not_depend_on_the_cells():
    points = embedded(random_surface(True), True)
    expected = dbscan(surface_grid(points, True, 1.0), 1.0, 3)
    for reach in (1.7, 60.0, 150.0, np.inf):
        np.testing.assert_array_equal(dbscan(surface_grid(points, True, reach), 1.0, 3), expected)


def naive_density_peaks(points, d_c, delta, min_density):
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    density = (distance <= d_c).sum(axis=1)
    order = sorted(range(len(points)), key=lambda i: (-density[i], i))
    labels, n_peaks = [-1] * len(points), 0
    for rank, i in enumerate(order):
        near = [j for j in order[:rank] if distance[i, j] <= delta]
        if near:
            labels[i] = labels[min(near, key=lambda j: (distance[i, j], order.index(j)))]
        elif density[i] >= min_density:
            labels[i] = n_peaks
            n_peaks += 1
    return np.array(labels)


@pytest.mark.parametrize("barrel", [True, False])
@pytest.mark.parametrize(("d_c", "delta", "min_density"), [(1.0, 2.0, 1), (2.0, 1.0, 3), (0.5, 6.0, 2)])
def test_density_peaks_against_the_naive_form(barrel, d_c, delta, min_density):
    points = embedded(random_surface(barrel, n=150), barrel)
    found = density_peaks(surface_grid(points, barrel, max(d_c, delta)), d_c, delta, min_density)
    np.testing.assert_array_equal(found, naive_density_peaks(points, d_c, delta, min_density))


def test_density_peaks_with_equal_distances():
    """On a lattice nearly every neighbour is equally far: the densest of them is followed."""
    rng = np.random.default_rng(7)
    points = embed_disc(rng.integers(0, 9, (60, 2)).astype(float), 1.0)
    found = density_peaks(surface_grid(points, False, 1.5), 1.0, 1.5, 1)
    np.testing.assert_array_equal(found, naive_density_peaks(points, 1.0, 1.5, 1))


def test_density_peaks_with_endless_delta_is_one_cluster():
    for barrel in (True, False):
        points = embedded(random_surface(barrel), barrel)
        assert (density_peaks(surface_grid(points, barrel, np.inf), 1.0, np.inf) == 0).all()


# --- windows -----------------------------------------------------------------------------------------


def naive_iterative_windows(uw, window, cell, min_hits, period):
    """Search the fullest window again after every step, over all positions in row order."""
    block = [round(a / b) for a, b in zip(window, cell, strict=True)]
    n_around = round(period / cell[0]) if period else 0
    size = np.array([period / n_around if n_around else cell[0], cell[1]])
    index = np.floor(uw / size).astype(int)
    low, high = index.min(axis=0), index.max(axis=0)
    first = -(n_around // 2) if n_around else low[0]
    rows = range(first, first + n_around) if n_around else range(low[0], max(high[0] - block[0] + 1, low[0]) + 1)
    columns = range(low[1], max(high[1] - block[1] + 1, low[1]) + 1)
    labels = np.full(len(uw), -1)
    for number in range(len(uw)):
        best, chosen = min_hits - 1, None
        for row in rows:
            from_row = (index[:, 0] - row) % n_around if n_around else index[:, 0] - row
            in_row = (from_row >= 0) & (from_row < block[0]) & (labels < 0)
            for column in columns:
                inside = in_row & (index[:, 1] >= column) & (index[:, 1] < column + block[1])
                if inside.sum() > best:
                    best, chosen = inside.sum(), inside
        if chosen is None:
            break
        labels[chosen] = number
    return labels


@pytest.mark.parametrize("barrel", [True, False])
def test_iterative_window_against_the_naive_form(barrel):
    uw = random_surface(barrel, n=120, seed=4)
    window, cell, period = (24.0, 20.0), (8.0, 5.0), PERIOD if barrel else 0.0
    labels, corner, _ = iterative_windows(uw, window, cell, period, 3)
    np.testing.assert_array_equal(labels, naive_iterative_windows(uw, window, cell, 3, period))
    assert len(corner) == labels.max() + 1
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all() and sizes[-1] >= 3


@pytest.mark.parametrize("barrel", [True, False])
def test_margin_against_the_naive_form(barrel):
    uw = random_surface(barrel, n=200, seed=5)
    period, margin = PERIOD if barrel else 0.0, np.array([3.0, 7.0])
    labels, corner, grid = iterative_windows(uw, (24.0, 20.0), (8.0, 5.0), period, 3)
    sets = as_sets(*widen_windows(uw, corner, grid, tuple(margin)))
    for number, start in enumerate(corner):
        low = np.array(grid.low) + start * grid.size - margin
        width = np.array(grid.block) * grid.size + 2 * margin
        step = uw - low
        if barrel:
            step[:, 0] %= PERIOD
        assert sets[number] == set(np.flatnonzero(((step >= 0) & (step < width)).all(axis=1)).tolist())
        assert sets[number] >= set(np.flatnonzero(labels == number).tolist())


def test_iterative_window_by_hand():
    # Cells of 1 mm, window 2 x 1: first the four hits at u = 0..2, then the pair at 5; the last hit is alone.
    uw = np.array([[0.1, 0.5], [0.9, 0.5], [1.5, 0.5], [1.6, 0.5], [5.5, 0.5], [6.5, 0.5], [9.5, 0.5]])
    labels, corner, _ = iterative_windows(uw, (2.0, 1.0), (1.0, 1.0), 0.0, 2)
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 1, 1, -1])
    np.testing.assert_array_equal(corner, [[0, 0], [5, 0]])


@pytest.mark.parametrize("barrel", [True, False])
@pytest.mark.parametrize("stride", [1.0, 0.5, 1 / 3, 0.4])
def test_grid_window_against_the_naive_form(barrel, stride):
    uw = random_surface(barrel, n=200, seed=6)
    window = (24.0, 20.0)
    step = np.array(window) * stride
    if barrel:
        n_around = round(PERIOD / step[0])
        step[0] = PERIOD / n_around
    length = step / stride
    rows = range(n_around) if barrel else range(-20, 20)
    expected = []
    for row in rows:
        for column in range(-30, 30):
            offset = uw - step * [row, column]
            if barrel:
                offset[:, 0] %= PERIOD
            inside = np.flatnonzero(((offset >= 0) & (offset < length)).all(axis=1))
            if inside.size >= 3:
                expected.append(set(inside.tolist()))
    (offsets, members), labels = grid_windows(uw, window, stride, PERIOD if barrel else 0.0, 3)
    sets = as_sets(offsets, members)
    assert sets == expected
    sizes = np.diff(offsets)
    for hit in range(len(uw)):
        holders = [number for number, found in enumerate(sets) if hit in found]
        fullest = max(holders, key=lambda number: (sizes[number], -number)) if holders else -1
        assert labels[hit] == fullest


def test_windows_close_around_the_barrel():
    # Two hits at phi = -pi and two just below +pi: one window of 4, wherever its edges are.
    uw = np.array(
        [[-PERIOD / 2 + 0.1, 0.0], [-PERIOD / 2 + 0.2, 0.0], [PERIOD / 2 - 0.1, 0.0], [PERIOD / 2 - 0.2, 0.0]]
    )
    labels, corner, grid = iterative_windows(uw, (8.0, 4.0), (2.0, 1.0), PERIOD, 3)
    np.testing.assert_array_equal(labels, 0)
    assert as_sets(*widen_windows(uw, corner, grid, (1.0, 1.0))) == [{0, 1, 2, 3}]
    sets, _ = grid_windows(uw, (8.0, 4.0), 0.5, PERIOD, 4)
    assert {0, 1, 2, 3} in as_sets(*sets)


def test_too_many_cells_is_a_clear_error():
    uw = np.array([[0.0, 0.0], [100.0, 100.0]])
    with pytest.raises(ConfigError, match=r"windows: 10001 x 10001 cells of 0.01 x 0.01 mm.*use larger cells"):
        cell_grid(uw, (1.0, 1.0), (0.01, 0.01), 0.0)


# --- trackers ----------------------------------------------------------------------------------------

# Options that are lengths on the surface, per tracker; everything else is a pure number.
LENGTHS = {
    "dbscan": ("barrel_eps", "endcap_eps"),
    "hdbscan": (),
    "density_peaks": ("barrel_d_c", "barrel_delta", "endcap_d_c", "endcap_delta"),
    "grid_window": ("barrel_window_u", "barrel_window_w", "endcap_window"),
    "iterative_window": tuple(
        f"{part}_{kind}{axis}"
        for kind in ("window", "cell", "margin")
        for part, axis in (("barrel", "_u"), ("barrel", "_w"), ("endcap", ""))
    ),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("mask", [False, True])
def test_projection_invariance(name, mask):
    """Twice the radius and twice the plane with all lengths doubled: the very same labels and hit sets."""
    hits, _ = toy()
    settings = MASK_SETTINGS.get(name, {}) if mask else {}
    config = build_config(name, settings)
    doubled = {option: 2 * getattr(config, option) for option in LENGTHS[name]}
    larger = {**settings, **doubled, "barrel_radius": 2 * config.barrel_radius, "disc_z": 2 * config.disc_z}
    one, two = build_tracker(name, settings), build_tracker(name, larger)
    np.testing.assert_array_equal(one.reconstruct(hits), two.reconstruct(hits))
    for region, sets in one.clusters(hits).items():
        for found, expected in zip(two.clusters(hits)[region], sets, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", METHODS)
def test_track_across_phi_pi_is_one_cluster(name):
    """Four hits, two on either side of phi = pi, among scattered noise."""
    noise, _ = toy_event(n_tracks=0, n_noise=30, seed=8)
    r = np.array([32.0, 72.0, 116.0, 172.0])
    phi = np.pi + np.array([-2e-3, -1e-3, 1e-3, 2e-3])
    xyz = np.vstack((np.column_stack((r * np.cos(phi), r * np.sin(phi), 0.5 * r)), noise.xyz[4:]))
    labels = build_tracker(name).reconstruct(replace(noise, xyz=xyz))
    assert labels[0] >= 0
    assert (labels[:4] == labels[0]).all()


def test_strip_hits_stay_unassigned_and_surfaces_do_not_mix():
    hits, _ = toy()
    volume_id = np.where(hits.hit_id % 3 == 0, 13, hits.volume_id)
    labels = build_tracker("dbscan").reconstruct(replace(hits, volume_id=volume_id))
    assert (labels[volume_id == 13] == -1).all()
    pairs = np.unique(np.column_stack((labels, volume_id))[labels >= 0], axis=0)
    assert np.unique(pairs[:, 0]).size == len(pairs) > 20


@pytest.mark.parametrize("name", METHODS)
def test_clusters_do_not_depend_on_order_or_padding(name):
    hits, _ = toy()
    tracker = build_tracker(name, MASK_SETTINGS.get(name))
    order = np.random.default_rng(1).permutation(np.concatenate((np.arange(len(hits)), np.zeros(9, int))))
    shuffled = hits.take(order)
    # Of the copies of hit 0, the first is real.
    valid = np.ones(len(order), dtype=bool)
    valid[np.flatnonzero(order == 0)[1:]] = False
    shuffled = replace(shuffled, valid=valid)
    for region, sets in tracker.clusters(hits).items():
        offsets, members = tracker.clusters(shuffled)[region]
        np.testing.assert_array_equal(offsets, sets[0])
        np.testing.assert_array_equal(shuffled.hit_id[members], hits.hit_id[sets[1]])
        assert valid[members].all()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dbscan", {"barrel_eps": 0.0}, r"trackers.dbscan.barrel_eps: value 0.0, expected a number > 0"),
        ("dbscan", {"endcap_radial_scale": 1.5}, r"endcap_radial_scale: value 1.5, expected in \(0, 1\]"),
        ("dbscan", {"barrel_radius": -1.0}, "barrel_radius: value -1.0"),
        ("dbscan", {"z0": 920.0}, r"disc_z: value 920.0, expected > \|z0\| mm"),
        ("density_peaks", {"min_density": 0}, "trackers.density_peaks.min_density"),
        ("hdbscan", {"barrel_selection": "best"}, "barrel_selection: value 'best', expected 'leaf' or 'eom'"),
        ("hdbscan", {"endcap_min_cluster_size": 1}, "endcap_min_cluster_size: value 1, expected >= 2"),
        ("grid_window", {"stride": 1.2}, r"trackers.grid_window.stride: value 1.2, expected in \(0, 1\]"),
        (
            "iterative_window",
            {"endcap_window": 2.2},
            "endcap_window: value 2.2, expected a multiple of endcap_cell = 0.5",
        ),
        ("iterative_window", {"barrel_margin_w": -1.0}, "barrel_margin_w: value -1.0, expected >= 0 mm"),
        ("iterative_window", {"barrel_cell_u": float("nan")}, "barrel_cell_u: value nan"),
    ],
)
def test_settings_are_checked(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_config(name, settings)
