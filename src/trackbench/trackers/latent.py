"""Latent clustering: tracks are clusters of hits in the outputs, latents or embedding of a trained network.

Sources: HDBSCAN of the outputs, "Trackformers", EPJC 85, 460 (2025), arXiv:2407.07179; clustering of embeddings trained
with a contrastive loss, also inside the clusters of a surface projection, "Trackformers Part 2", arXiv:2509.26411.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, describe
from trackbench.trackers.base import Timer, build_tracker, load_module
from trackbench.trackers.layers.latent_clustering import check_settings, cluster_points, cluster_within
from trackbench.trackers.layers.learned import LearnedConfig, LearnedTracker
from trackbench.trackers.layers.surfaces import SurfaceTracker

# space -> field of the network's output
SPACES = {"outputs": "parameters", "latents": "latents", "embedding": "embedding"}
_SETTINGS = ("method", "min_cluster_size", "min_samples", "eps", "similarity", "centre")


@dataclass(frozen=True)
class Config(LearnedConfig):
    """Options of the latent clustering, besides those of ``LearnedConfig``.

    space: "outputs" = regressed parameters, "latents" = last output of the encoder, "embedding" = unit vectors of a
        network trained with the contrastive loss
    method: "hdbscan" in Euclidean distance, "dbscan_cosine" or "greedy_cosine" in the angle between vectors
    min_cluster_size: hits of the smallest cluster, >= 2
    min_samples: hits that make a core point (hdbscan, dbscan_cosine): larger = more hits stay unassigned
    eps: cosine distance of neighbours (dbscan_cosine), in (0, 2)
    similarity: smallest cosine of a hit with the seed of its cluster (greedy_cosine), in (-1, 1)
    centre: in the end each hit goes to the cluster with the most similar centre if the cosine is at least this (not
        hdbscan), in [-1, 1]; 1 = no such step
    inside: surface clusterer, such as "density_peaks", in the clusters of which it clusters, on their own; hits in
        none, with them all outside the pixel volumes, are clustered together; empty = the whole event
    """

    space: str = "embedding"
    method: str = "hdbscan"
    min_cluster_size: int = 5
    min_samples: int = 2
    eps: float = 0.05
    similarity: float = 0.92
    centre: float = 0.7
    inside: str = ""

    def __post_init__(self):
        super().__post_init__()
        self.require("space", self.space in SPACES, "one of " + ", ".join(SPACES))
        check_settings("trackers.latent", self.clustering)
        if self.inside:
            surface = issubclass(load_module(self.inside).Tracker, SurfaceTracker)
            self.require("inside", surface, "a tracker that clusters on projection surfaces")

    @property
    def clustering(self) -> dict:
        """Settings of ``latent_clustering.Clustering``."""
        return {name: getattr(self, name) for name in _SETTINGS}


class Tracker(LearnedTracker):
    """Clusters in a latent space."""

    kinds: ClassVar = ("encreg", "enccla", "joint", "contrastive")
    search_space: ClassVar[dict[str, tuple]] = {
        "min_cluster_size": (2, 3, 5, 7),
        "min_samples": (1, 2, 3, 5),
        "eps": (0.01, 0.02, 0.03, 0.05, 0.1),
        "similarity": (0.8, 0.88, 0.92, 0.95, 0.97),
    }

    @classmethod
    def space_to_tune(cls, settings: dict) -> dict[str, tuple]:
        """Options of the method that is used."""
        options = {
            "hdbscan": ("min_cluster_size", "min_samples"),
            "dbscan_cosine": ("eps", "min_cluster_size"),
            "greedy_cosine": ("similarity", "min_cluster_size"),
        }[settings.get("method", Config.method)]
        return {option: cls.search_space[option] for option in options}

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Cluster the hits in the latent space. Returns (n,) int64."""
        points = getattr(self.apply_network(hits, timer), SPACES[self.config.space])
        if points is None:
            where, what = "trackers.latent.space", f"{self.config.checkpoint} has no {self.config.space}"
            raise ConfigError(describe(where, what, "what the network gives, or other weights"))
        if not self.config.inside:
            with timer.stage("clustering"):
                return cluster_points(points, **self.config.clustering)
        with timer.stage("filter"):
            groups = build_tracker(self.config.inside, {}, self.seed).reconstruct(hits)
        with timer.stage("clustering"):
            return cluster_within(points, groups, **self.config.clustering)
