"""Projection onto the barrel cylinder and the endcap discs, against hand-computed points."""

import numpy as np
import pytest

from trackbench.errors import InputError
from trackbench.geometry.projection import (
    REGIONS,
    embed_cylinder,
    embed_disc,
    project,
    project_to_cylinder,
    project_to_disc,
)

BARREL, MINUS, PLUS = REGIONS


def test_cylinder_by_hand():
    # r = 50, phi = atan2(4, 3); z scaled by 91 / 50
    xyz = np.array([[30.0, 40.0, 100.0], [0.0, -10.0, -5.0]])
    expected = [[91 * np.arctan2(4, 3), 182.0], [-91 * np.pi / 2, -45.5]]
    np.testing.assert_allclose(project_to_cylinder(xyz), expected)


def test_disc_by_hand():
    # scale 920 / 460 = 2, on both sides
    xyz = np.array([[10.0, -20.0, 460.0], [10.0, -20.0, -460.0]])
    np.testing.assert_allclose(project_to_disc(xyz), [[20.0, -40.0], [20.0, -40.0]])


def test_vertex_offset_by_hand():
    # z0 = 20: barrel w = 91 * (100 - 20) / 50; disc scale (920 - 20) / (470 - 20) = 2, other side 940 / 470 = 2
    np.testing.assert_allclose(project_to_cylinder(np.array([[30.0, 40.0, 100.0]]), z0=20.0)[:, 1], [145.6])
    xyz = np.array([[1.0, 2.0, 470.0], [1.0, 2.0, -450.0]])
    np.testing.assert_allclose(project_to_disc(xyz, z0=20.0), [[2.0, 4.0], [2.0, 4.0]])


@pytest.mark.parametrize("z0", [0.0, 3.0])
def test_straight_track_is_one_point(z0):
    direction = np.array([0.3, -0.4, 2.0])
    barrel = np.array([0, 0, z0]) + np.array([[60.0], [140.0], [300.0]]) * direction
    np.testing.assert_allclose(np.ptp(project(barrel, BARREL, z0=z0), axis=0), 0, atol=1e-12)
    for region, sign in ((PLUS, 1), (MINUS, -1)):
        disc = np.array([0, 0, z0]) + np.array([[300.0], [400.0], [700.0]]) * direction * sign
        np.testing.assert_allclose(np.ptp(project(disc, region, z0=z0), axis=0), 0, atol=1e-11)


def test_hit_on_the_surface_stays():
    on_cylinder = np.array([[91.0, 0.0, 12.0]])
    np.testing.assert_allclose(project(on_cylinder, BARREL), [[0.0, 12.0]])
    on_disc = np.array([[50.0, 60.0, -920.0]])
    np.testing.assert_allclose(project(on_disc, MINUS), [[50.0, 60.0]])


def test_surfaces_only_rescale():
    xyz = np.random.default_rng(0).normal(size=(50, 3)) * [60, 60, 200] + [0, 0, 900]
    np.testing.assert_array_equal(project(xyz, BARREL, barrel_radius=182.0), 2 * project(xyz, BARREL))
    np.testing.assert_array_equal(project(xyz, PLUS, disc_z=1840.0), 2 * project(xyz, PLUS))


def test_distance_across_phi_pi():
    # Half a mrad on either side of phi = pi: one mrad times R apart, although u jumps by a whole turn
    phi = np.array([np.pi - 5e-4, -np.pi + 5e-4])
    xyz = np.column_stack((32 * np.cos(phi), 32 * np.sin(phi), [1.0, 1.0]))
    uw = project(xyz, BARREL)
    assert abs(uw[0, 0] - uw[1, 0]) > 500
    points = embed_cylinder(uw)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(0.091, rel=1e-6)


def test_w_scale_divides_w():
    uw = np.array([[0.0, 0.0], [0.0, 6.0], [2.0, 0.0]])
    points = embed_cylinder(uw, w_scale=3.0)
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(2.0)
    assert np.linalg.norm(points[2] - points[0]) == pytest.approx(2.0, rel=1e-4)  # a chord


def test_radial_scale_stretches_radially_only():
    uw = np.array([[30.0, 40.0], [30.03, 40.04], [29.96, 40.03]])  # 0.05 mm radially, 0.05 mm tangentially
    points = embed_disc(uw, radial_scale=0.25)
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(0.2, rel=1e-6)
    assert np.linalg.norm(points[2] - points[0]) == pytest.approx(0.05, rel=1e-3)
    np.testing.assert_array_equal(embed_disc(uw, 1.0)[:, 2], 0)


def test_hits_that_cannot_be_projected():
    with pytest.raises(InputError, match=r"surface projection: 1 hits on the beam line .*first row 1.*expected r > 0"):
        project_to_cylinder(np.array([[1.0, 0, 0], [0, 0, 5.0]]))
    with pytest.raises(InputError, match="2 hits on the wrong side of z0 = 10 mm"):
        project_to_disc(np.array([[1.0, 0, 5.0], [1.0, 0, 10.0], [1.0, 0, 700.0]]), z0=10.0)


def test_no_hits():
    for region in REGIONS:
        assert project(np.empty((0, 3)), region).shape == (0, 2)
