"""The helix: definition against the Lorentz force, kernels against root finding."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest

from trackbench.fitting import helix

LAYERS = toys.pixel_layers()


def tracks(n, seed, **limits):
    """Return n random tracks."""
    rng = np.random.default_rng(seed)
    return [toys.random_track(rng, **limits) for _ in range(n)]


# Prompt, displaced, straight; of both charges and on both sides of the beam line.
ASSORTED = [
    *tracks(30, 1),
    *tracks(30, 2, max_d0=20.0),
    *tracks(10, 3, pt=(50.0, 100.0), max_d0=20.0),
    np.array([3.1, 0.0, 0.0, 1.0, 0.5]),
    np.array([-3.1, 0.0, 12.0, -40.0, -4.0]),
    np.array([1.0, 1e-6, -12.0, 0.0, 4.0]),
]


@pytest.mark.parametrize("charge", [1, -1])
def test_definition_follows_the_lorentz_force(charge):
    # Steps of dp/dt = q v x B in 2 T along +z: pT [GeV] = 0.3 B [T] R [m], a positive particle turns clockwise.
    pt, cot, n, step = 0.5, 1.3, 100_000, 2e-3
    p = np.array([0.4, charge / pt, 3.0, -2.0, cot])
    turn = -charge * 0.299792458 * 2.0 / (1000.0 * pt) * step  # in one step [rad]
    azimuth = 0.4 + turn * (np.arange(n) + 0.5)
    start = 3.0 * np.array([-np.sin(0.4), np.cos(0.4)])
    x, y = start[0] + step * np.cos(azimuth).sum(), start[1] + step * np.sin(azimuth).sum()
    end = helix.helix_points(p, np.array([n * step]))[0]
    np.testing.assert_allclose(end, [x, y, -2.0 + cot * n * step], atol=1e-6)


@pytest.mark.parametrize("p", ASSORTED)
def test_definition_agrees_with_the_naive_points(p):
    s = np.linspace(0.0, 200.0, 9)
    np.testing.assert_allclose(
        helix.helix_points(p, s), naive.points(p, s), atol=2e-7 if 0 < abs(p[1]) < 1e-3 else 1e-9
    )


@pytest.mark.parametrize("p", ASSORTED)
def test_azimuth_and_path_at_a_radius(p):
    radii = np.linspace(abs(p[2]) + 5.0, 180.0, 25)
    phi, _, s = naive.at_radius(p, radii)
    sine = np.array([helix.turn_sine(r, p) for r in radii])
    assert np.abs(sine).max() < 1
    np.testing.assert_allclose(naive.wrapped(p[0] + np.arcsin(sine) - phi), 0.0, atol=1e-11)
    np.testing.assert_allclose([helix.path_length(r, p) for r in radii], s, atol=1e-9)
    np.testing.assert_allclose([helix.radius_at(path, p) for path in s], radii, atol=1e-9)


def test_inside_the_impact_parameter_the_path_is_zero():
    assert helix.path_length(4.0, np.array([0.0, 0.5, 5.0, 0.0, 1.0])) == 0.0
    assert helix.radius_at(0.0, np.array([0.0, 0.5, -5.0, 0.0, 1.0])) == 5.0


@pytest.mark.parametrize("max_d0", [0.05, 20.0])
def test_crossings_agree_with_root_finding(max_d0):
    point, seen = np.zeros(4), set()
    for p in tracks(60, 4, max_d0=max_d0):
        for layer in range(toys.N_PIXEL):
            expected = naive.crossing(layer, LAYERS, p)
            assert helix.crossing(layer, LAYERS, p, point) == (expected is not None), (layer, p)
            if expected is not None:
                difference = point - expected
                difference[2] = naive.wrapped(difference[2])
                np.testing.assert_allclose(difference, 0.0, atol=1e-8)
                seen.add(layer)
    assert seen == set(range(toys.N_PIXEL))


def test_a_track_crosses_a_layer_up_to_its_very_edge():
    layers, point = LAYERS, np.zeros(4)
    straight = np.array([0.2, 0.0, 0.0, 0.0, 0.0])
    barrel, disk = 7, 11
    for cot, inside in ((1.0, True), (1.0 + 1e-9, False), (1.0 - 1e-9, True)):
        straight[4] = cot * layers.high[barrel] / layers.position[barrel]
        assert helix.crossing(barrel, layers, straight, point) == inside
        straight[4] = -straight[4]
        assert helix.crossing(barrel, layers, straight, point) == inside
        assert point[2] == pytest.approx(0.2)
    for edge in (layers.low[disk], layers.high[disk]):
        for change, inside in ((0.0, True), (1e-9, edge == layers.low[disk]), (-1e-9, edge == layers.high[disk])):
            straight[4] = layers.position[disk] / (edge * (1.0 + change))
            assert helix.crossing(disk, layers, straight, point) == inside
    straight[4] = -4.0
    assert not helix.crossing(disk, layers, straight, point)  # the other side


def test_a_track_that_turns_back_crosses_nothing():
    p, point = np.array([0.0, 12.0, 0.0, 0.0, 0.1]), np.zeros(4)  # a circle of diameter 278 mm
    assert [helix.crossing(layer, LAYERS, p, point) for layer in toys.BARREL] == [True, True, True, True]
    p[1] = 40.0  # of 83 mm
    assert [helix.crossing(layer, LAYERS, p, point) for layer in toys.BARREL] == [True, True, False, False]
    p[4] = 20.0  # turns by 0.84 rad up to 600 mm: 42 mm of path, 40 mm in radius
    p[1] = 0.7 / (helix.CURVATURE * 30.0)
    assert not helix.crossing(11, LAYERS, p, point)


def test_wrap_and_limits():
    assert helix.wrap(np.pi) == np.pi and helix.wrap(-np.pi) == -np.pi
    assert helix.wrap(np.pi + 0.1) == pytest.approx(-np.pi + 0.1)
    assert helix.wrap(-2.5 * np.pi) == pytest.approx(-0.5 * np.pi)
    assert [helix.clipped(value) for value in (-3.0, 0.5, 1.0)] == [-0.99, 0.5, 0.99]


@pytest.mark.parametrize("phi0", [0.3, np.pi, -np.pi])
@pytest.mark.parametrize("k", [0.0, 1.2, -1.2])
def test_track_from_two_hits(phi0, k):
    true = np.array([phi0, k, 0.0, -4.0, 0.7])
    radii = np.array([33.0, 72.5])
    phi, z, _ = naive.at_radius(true, radii)
    p = np.full(5, np.nan)
    helix.from_two_hits(phi[0], radii[0], z[0], phi[1], radii[1], z[1], p)
    assert abs(naive.wrapped(p[0] - phi0)) < 1e-4 and p[2] == 0.0
    # Neglected are the third order of x = C k r in the azimuth, and that of the path.
    turn2 = (helix.CURVATURE * k * 72.5) ** 2 + 1e-12
    assert abs(p[1] - k) <= turn2 * max(abs(k), 1.0) and abs(p[4] - 0.7) <= turn2
    assert abs(p[3] + 4.0) < 0.01
