"""HEPT and DBSCAN: kernel attention in hashed blocks gives every hit a point, and points near each other are a track.

Source: HEPT, arXiv:2402.12535 and github.com/Graph-COM/HEPT, the predecessor of HEPTv2; own code. Differs from it in:
acceptance by the position of a hit and never by truth, padding that changes nothing. Its quoted rows are called
``hept_dbscan``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.trackers.base import Timer
from trackbench.trackers.layers.hept_tracker import HeptTracker, HeptTrackerConfig


@dataclass(frozen=True)
class Config(HeptTrackerConfig):
    """Options of HEPT, besides those of ``HeptTrackerConfig``.

    eps: Euclidean distance of neighbours in the output, > 0
    min_samples: hits within eps, the hit itself included, that make it a core hit, >= 1; 1 joins whatever is linked
    """

    eps: float = 0.5
    min_samples: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.require("eps", bool(0 < self.eps < np.inf), "a number > 0")
        self.require("min_samples", self.min_samples >= 1, ">= 1")


class Tracker(HeptTracker):
    """DBSCAN of the points a network gives to the hits; a hit alone is a candidate no metric counts."""

    kinds: ClassVar = ("hept",)
    search_space: ClassVar[dict[str, tuple]] = {
        "eps": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.85)
    }

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Find tracks among the hits with |eta| <= ``eta_max``. Returns (n,) int64."""
        seen, labels = self.seen(hits), self.unassigned(hits)
        if seen.size:
            points = self.points(hits.take(seen), timer)
            with timer.stage("clustering"):
                labels[seen] = self._clusters(points)
        return labels

    def points(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Apply the network. hits: all real, at least one. Returns its output, (n, d) float64."""
        import torch

        from trackbench.trackers.layers.hept_v1 import collate

        network = self.network
        with torch.inference_mode():
            with timer.stage("features"):
                batch = collate([hits], network.config.inputs).to(self.device)
                self.finish()
            with timer.stage("network"):
                found = network(batch)[0]
                self.finish()
            return found.double().cpu().numpy()

    def _clusters(self, points: np.ndarray) -> np.ndarray:
        from sklearn.cluster import DBSCAN

        return DBSCAN(eps=self.config.eps, min_samples=self.config.min_samples).fit(points).labels_
