"""Vertices from z0: hand-made tracks, valleys of a density, toys with known vertices."""

import numpy as np
import pytest

from trackbench.data.tracks import TrackParameters
from trackbench.errors import ConfigError
from trackbench.fitting import vertices
from trackbench.fitting.vertices import VertexSettings, find_vertices


def tracks(z0, sigma_z=0.05, d0=0.0, sigma_d0=0.02):
    """Track parameters with the given z0, d0 and errors [mm]; everything else is of no importance."""
    z0 = np.asarray(z0, dtype=np.float64)
    values, covariance = np.zeros((z0.size, 5)), np.zeros((z0.size, 5, 5))
    values[:, 0], values[:, 1] = d0, z0
    covariance[:, 0, 0], covariance[:, 1, 1] = np.square(sigma_d0), np.square(sigma_z)
    count = np.zeros(z0.size, dtype=np.int64)
    return TrackParameters(values, covariance, np.zeros(z0.size), count, count)


def test_two_separate_vertices_by_hand():
    found = find_vertices(tracks([5.02, -3.0, 5.0, -3.1, 9.0], [0.01, 0.05, 0.02, 0.05, 0.05]))
    np.testing.assert_array_equal(found.label, [1, 0, 1, 0, -1])  # the lone track makes no vertex
    np.testing.assert_array_equal(found.n_tracks, [2, 2])
    # weights 1 / 0.01^2 = 10000 and 1 / 0.02^2 = 2500
    np.testing.assert_allclose(found.z, [-3.05, (5.02 * 10000 + 5.0 * 2500) / 12500], rtol=1e-12)
    np.testing.assert_allclose(found.sigma_z, [0.05 / np.sqrt(2), 12500**-0.5], rtol=1e-12)


def test_order_of_tracks_does_not_matter():
    rng = np.random.default_rng(3)
    z0 = np.repeat(rng.normal(0, 20, 10), 6) + rng.normal(0, 0.05, 60)
    shuffle = rng.permutation(60)
    first, second = find_vertices(tracks(z0)), find_vertices(tracks(z0[shuffle]))
    np.testing.assert_allclose(first.z, second.z, rtol=1e-12)
    np.testing.assert_array_equal(first.label[shuffle], second.label)


def test_displaced_imprecise_and_undefined_tracks_are_left_out():
    z0 = [1.0, 1.01, 1.02, 1.0, np.nan, 1.0]
    sigma_z, d0 = [0.05, 0.05, 0.05, 1.5, 0.05, 0.05], [0.0, 0.02, 0.5, 0.0, 0.0, np.nan]
    found = find_vertices(tracks(z0, sigma_z, d0))
    np.testing.assert_array_equal(found.label, [0, 0, -1, -1, -1, -1])
    # 4 x sqrt(0.02^2 + 0.015^2) = 0.1 is the largest |d0|
    d0 = [0.0, 0.0999, 0.1001]
    np.testing.assert_array_equal(find_vertices(tracks([1.0] * 3, d0=d0)).label, [0, 0, -1])


def test_an_outlier_leaves_its_vertex():
    found = find_vertices(tracks([0.0, 0.01, -0.01, 0.4], [0.02, 0.02, 0.02, 0.09]))
    np.testing.assert_array_equal(found.label, [0, 0, 0, -1])
    assert found.z[0] == pytest.approx(0.0, abs=1e-12)


def test_min_tracks():
    z0 = [0.0, 0.0, 0.0, 10.0, 10.0]
    assert find_vertices(tracks(z0), VertexSettings(min_tracks=3)).n_tracks.tolist() == [3]
    assert find_vertices(tracks(z0), VertexSettings(min_tracks=1)).n_tracks.tolist() == [3, 2]


@pytest.mark.parametrize(("distance", "n_vertices"), [(0.5, 2), (0.25, 2), (0.10, 1), (0.0, 1)])
def test_neighbours_are_told_apart_beyond_a_few_errors(distance, n_vertices):
    """Two equal Gaussians of width s have two maxima beyond 2 s = 0.1 mm only."""
    z0 = [0.0] * 5 + [distance] * 5
    assert len(find_vertices(tracks(z0))) == n_vertices


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        ([1, 2, 3], []),
        ([3, 1, 3], [1]),
        ([3, 1, 2, 1.5, 4], [1]),  # 1.5 is not below 0.5 x 2
        ([4, 0, 1, 0.4, 4], [1, 3]),
        ([4, 0, 0, 4], [1]),
        ([1, 4, 1, 1.5], []),  # no second maximum of at least 2
        ([2], []),
    ],
)
def test_valleys(density, expected):
    assert vertices._valleys(np.array(density, dtype=float), 0.5) == expected


def test_density_against_the_plain_sum(monkeypatch):
    monkeypatch.setattr(vertices, "_CHUNK", 50)
    rng = np.random.default_rng(0)
    z, sigma = np.sort(rng.normal(0, 1, 40)), rng.uniform(0.05, 0.5, 40)
    points = np.sort(rng.normal(0, 1, 60))
    pull = (points[:, None] - z) / sigma
    inside = np.abs(pull) <= 4
    expected = (np.exp(-0.5 * pull**2) / np.sqrt(2 * np.pi) / sigma * inside).sum(axis=1)
    np.testing.assert_allclose(vertices._density(points, z, sigma), expected, rtol=1e-12)


def test_vertices_of_a_long_beam_spot_are_found():
    """20 vertices over +-110 mm, 10 tracks each with an error of 0.1 mm: every one, where it is."""
    rng = np.random.default_rng(7)
    true = np.linspace(-110, 110, 20) + rng.uniform(-4, 4, 20)
    z0 = np.repeat(true, 10) + rng.normal(0, 0.1, 200)
    found = find_vertices(tracks(z0, 0.1))
    assert len(found) == 20
    np.testing.assert_array_less(np.abs(found.z - true) / found.sigma_z, 4.0)
    np.testing.assert_allclose(found.sigma_z, 0.1 / np.sqrt(found.n_tracks), rtol=1e-12)
    assert (found.label >= 0).mean() > 0.99


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_tracks_give_no_vertex(n):
    found = find_vertices(tracks(np.zeros(n)))
    assert len(found) == 0
    np.testing.assert_array_equal(found.label, np.full(n, -1))
    frame = found.to_frame(3)
    assert list(frame) == ["event_id", "z", "sigma_z", "n_tracks"]
    assert frame.empty


def test_frame_names_the_event():
    frame = find_vertices(tracks([1.0, 1.0, 8.0, 8.0])).to_frame(12)
    assert frame["event_id"].tolist() == [12, 12]
    assert frame["n_tracks"].tolist() == [2, 2]
    assert frame["z"].tolist() == [1.0, 8.0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"min_tracks": 0}, "vertices.min_tracks: value 0 is not allowed, expected an integer >= 1"),
        ({"max_d0_pull": 0.0}, "vertices.max_d0_pull"),
        ({"beam_width": -1.0}, "vertices.beam_width"),
        ({"valley": 1.5}, r"vertices.valley: value 1.5 is not allowed, expected a number in \(0, 1\]"),
        ({"max_z_pull": float("nan")}, "vertices.max_z_pull"),
    ],
)
def test_settings_out_of_range(setting, words):
    with pytest.raises(ConfigError, match=words):
        VertexSettings(**setting)
