"""EncReg: a transformer encoder regresses the track parameters of each hit; HDBSCAN of these finds the tracks.

Source: the encoder-only regressor of "Trackformers", EPJC 85, 460 (2025), arXiv:2407.07179, and Dobreva, MSc thesis
"Translating Hits to Tracks". The refiner follows the thesis; with ``refiner_checkpoint`` it is a network of its own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, describe
from trackbench.trackers.base import Timer
from trackbench.trackers.layers.learned import LearnedConfig, LearnedTracker

if TYPE_CHECKING:
    from trackbench.trackers.layers.network import HitNetwork

MIN_KEPT = 4  # hits that the refiner leaves in a cluster
MAX_REFINED = 50  # hits; larger clusters are left as they are


@dataclass(frozen=True)
class Config(LearnedConfig):
    """Options of EncReg, besides those of ``LearnedConfig``.

    min_cluster_size: hits of the smallest cluster of HDBSCAN, >= 2; min_samples: larger = more hits stay unassigned
    parameter_weight: multiplies the fourth output (charge or q/pT) before clustering, >= 0
    refine: drop hits from a cluster whose outputs are far from the others'; clusters of more than ``MAX_REFINED`` hits
        are left as they are
    refine_margin: hits of which the mean squared distance to the cluster's median exceeds the smallest one by more
        are dropped, >= 0
    refiner_checkpoint: weights of a second EncReg, applied to the hits of one cluster at a time, whose outputs decide
        which hits are dropped; empty = the outputs that were clustered
    """

    min_cluster_size: int = 5
    min_samples: int = 2
    parameter_weight: float = 1.0
    refine: bool = False
    refine_margin: float = 0.005
    refiner_checkpoint: str = ""

    def __post_init__(self):
        super().__post_init__()
        self.require("min_cluster_size", self.min_cluster_size >= 2, ">= 2")
        self.require("min_samples", self.min_samples >= 1, ">= 1")
        for name in ("parameter_weight", "refine_margin"):
            self.require(name, bool(0 <= getattr(self, name) < np.inf), "a number >= 0")
        self.require("refiner_checkpoint", self.refine or not self.refiner_checkpoint, "none without refine")


class Tracker(LearnedTracker):
    """HDBSCAN of the four outputs of the regression head."""

    kinds: ClassVar = ("encreg", "joint")
    search_space: ClassVar[dict[str, tuple]] = {"min_cluster_size": (3, 5, 7, 9), "min_samples": (2, 3, 5)}

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Cluster the hits, and refine the clusters if asked to. Returns (n,) int64."""
        from trackbench.trackers.layers.latent_clustering import cluster_points

        config = self.config
        points = self.apply_network(hits, timer).parameters.astype(np.float64)
        points[:, 3] *= config.parameter_weight
        with timer.stage("clustering"):
            sizes = {"min_cluster_size": config.min_cluster_size, "min_samples": config.min_samples}
            labels = cluster_points(points, "hdbscan", **sizes)
        if not config.refine:
            return labels
        if config.refiner_checkpoint:
            return self._refine_again(hits, labels, timer)
        with timer.stage("postprocess"):
            for rows in clusters_to_refine(labels):
                labels[rows[~near_median(points[rows], config.refine_margin)]] = -1
        return labels

    @cached_property
    def refiner(self) -> "HitNetwork":
        """The second network, loaded at the first use."""
        network = self.load_network(self.config.refiner_checkpoint, ("encreg",))
        if network.config.mask == "cluster":
            what = f"{self.config.refiner_checkpoint} needs projection clusters, which parts of an event lack"
            raise ConfigError(describe("trackers.encreg.refiner_checkpoint", what, "a network with another mask"))
        return network

    def _refine_again(self, hits: Hits, labels: np.ndarray, timer: Timer) -> np.ndarray:
        """Refine by the outputs of the second network, which sees one cluster per event, all at once."""
        clusters = clusters_to_refine(labels)
        if not clusters:
            return labels
        found = self.run_network(self.refiner, [hits.take(rows) for rows in clusters], timer)
        outputs = found.parameters.double().cpu().numpy()
        with timer.stage("postprocess"):
            for rows, points in zip(clusters, outputs, strict=True):
                labels[rows[~near_median(points[: rows.size], self.config.refine_margin)]] = -1
        return labels


def hits_of_clusters(labels: np.ndarray) -> list[np.ndarray]:
    """Rows of each cluster, by label. labels: (n,) int, negative = unassigned."""
    order = np.argsort(labels, kind="stable")
    order = order[np.count_nonzero(labels < 0) :]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if order.size else []


def clusters_to_refine(labels: np.ndarray) -> list[np.ndarray]:
    """Rows of each cluster that is neither too small to lose a hit nor too large for the refiner."""
    return [rows for rows in hits_of_clusters(labels) if MIN_KEPT < rows.size <= MAX_REFINED]


def near_median(points: np.ndarray, margin: float, min_kept: int = MIN_KEPT) -> np.ndarray:
    """Which hits of a cluster the refiner keeps.

    points: (m, 4) outputs; margin: of the mean squared distance to the median, above that of the nearest hit
    Returns (m,) bool, at least ``min_kept`` True (the nearest hits) if there are as many hits.
    """
    distance = ((points - np.median(points, axis=0)) ** 2).mean(axis=1)
    keep = distance <= distance.min() + margin
    if keep.sum() < min_kept:
        keep[np.argsort(distance, kind="stable")[:min_kept]] = True
    return keep
