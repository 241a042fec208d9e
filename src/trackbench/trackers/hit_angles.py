"""HDBSCAN on the angles of the hits seen from the origin: what needs no learning, the floor of learned trackers.

A straight track from the origin is one point in these angles; curved tracks and displaced vertices smear it out.
Source: the clustering of EncReg (Dobreva, MSc thesis "Translating Hits to Tracks", table B.2), applied to the polar
angle theta, sin phi and cos phi of each hit instead of the regressed ones.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, describe
from trackbench.geometry.coordinates import azimuth, radius
from trackbench.trackers.base import Timer, TrackerBase


@dataclass(frozen=True)
class Config:
    """Options of HDBSCAN; the defaults are those of EncReg on 10-50 and 200-500 tracks.

    min_cluster_size: hits a cluster must have, >= 2
    min_samples: hits that make a point dense, itself counted, >= 1; larger = more hits stay unassigned
    """

    min_cluster_size: int = 5
    min_samples: int = 2

    def __post_init__(self):
        for name, smallest in (("min_cluster_size", 2), ("min_samples", 1)):
            value = getattr(self, name)
            if value < smallest:
                raise ConfigError(describe(f"trackers.hit_angles.{name}", f"value {value}", f">= {smallest}"))


def hit_angles(xyz: np.ndarray) -> np.ndarray:
    """Return the angles of hits seen from the origin.

    xyz: (n, 3) [mm]; Returns (n, 3) float64: theta [rad] in [0, pi], sin phi, cos phi
    """
    phi = azimuth(xyz)
    return np.stack([np.arctan2(radius(xyz), xyz[:, 2]), np.sin(phi), np.cos(phi)], axis=1)


class Tracker(TrackerBase):
    """HDBSCAN of the hit angles.

    Not tuned, so that the floor is the same in every table; over settings 3..7 and 1..4 on simulated sets of 10 to 500
    tracks the default was within 0.006 of the best score.
    """

    environment: ClassVar[str] = "cluster"

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Cluster the angles of all hits. Returns (n,) int64. Cost about O(n log n)."""
        from trackbench.trackers.layers.latent_clustering import cluster_points

        with timer.stage("features"):
            angles = hit_angles(hits.xyz)
        with timer.stage("clustering"):
            size, samples = self.config.min_cluster_size, self.config.min_samples
            return cluster_points(angles, "hdbscan", min_cluster_size=size, min_samples=samples)
