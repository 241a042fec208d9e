"""The floor without learning: angles by hand, straight tracks found, errors."""

import numpy as np
import pytest

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError
from trackbench.trackers.base import Timer, build_tracker
from trackbench.trackers.hit_angles import hit_angles


def hits_at(xyz):
    """Hits of the barrel at positions (n, 3) [mm]."""
    n = len(xyz)
    one = np.ones(n, dtype=np.int64)
    return Hits(np.arange(n) + 1, np.asarray(xyz, dtype=float), 8 * one, 2 * one, one, np.ones(n, dtype=bool))


def test_angles_by_hand():
    xyz = np.array([[1.0, 0, 0], [0, 2, 0], [0, -3, 3], [-5, 0, -5], [0, 0, 7], [0, 0, -7], [3, 4, 0]])
    theta = np.pi * np.array([0.5, 0.5, 0.25, 0.75, 0, 1, 0.5])
    expected = np.column_stack([theta, [0, 1, -1, 0, 0, 0, 0.8], [1, 0, 0, -1, 1, 1, 0.6]])
    np.testing.assert_allclose(hit_angles(xyz), expected, atol=1e-15)


def straight_tracks():
    """Four straight lines from the origin, one across phi = +-pi, six hits each."""
    directions = [(1, 0, 0.1), (0, 1, 0.5), (-1, 1e-4, -0.5), (0, -1, -2)]
    radii = np.array([32.0, 72, 116, 172, 260, 360])
    lines = [np.outer(radii, direction) for direction in directions]
    for line in lines:
        line[:, 1] += np.resize([0.02, -0.02], 6)  # [mm], moves the third line across phi = pi
    return np.concatenate(lines)


def test_straight_tracks_are_found():
    timer = Timer()
    labels = build_tracker("hit_angles").reconstruct(hits_at(straight_tracks()), timer)
    tracks = labels.reshape(4, 6)
    assert (tracks == tracks[:, :1]).all()
    assert sorted(tracks[:, 0]) == [0, 1, 2, 3]
    assert set(timer.wall) == {"features", "clustering"}


def test_settings_matter():
    """Clusters of six hits are too small if seven are asked for."""
    labels = build_tracker("hit_angles", {"min_cluster_size": 7}).reconstruct(hits_at(straight_tracks()))
    assert len(set(labels)) < 4


def test_distance_along_a_track_does_not_count():
    """Only the directions are seen: scaled away from the origin by any factor per hit, the tracks stay the same."""
    xyz = straight_tracks()
    scale = np.random.default_rng(0).uniform(0.1, 10, (len(xyz), 1))
    labels = [build_tracker("hit_angles").reconstruct(hits_at(at)) for at in (xyz, xyz * scale)]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize(("name", "value", "least"), [("min_cluster_size", 1, 2), ("min_samples", 0, 1)])
def test_wrong_settings_are_refused(name, value, least):
    with pytest.raises(ConfigError, match=rf"trackers\.hit_angles\.{name}: value {value}, expected >= {least}"):
        build_tracker("hit_angles", {name: value})
