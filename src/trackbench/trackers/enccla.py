"""EncCla: a transformer encoder gives each hit a class of track parameters; hits of one class are one track.

Source: the encoder-only classifier of "Trackformers", EPJC 85, 460 (2025), arXiv:2407.07179, and the joint regressor
and classifier of its second part, arXiv:2509.26411. Classes are quantile bins of charge, azimuth, polar angle and
momentum. There is no clustering: particles of one event that share a class become one candidate.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.trackers.base import Timer
from trackbench.trackers.layers.learned import LearnedConfig, LearnedTracker


@dataclass(frozen=True)
class Config(LearnedConfig):
    """Options of EncCla, besides those of ``LearnedConfig``.

    min_hits: hits of classes with fewer hits stay unassigned, >= 1
    """

    min_hits: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.require("min_hits", self.min_hits >= 1, ">= 1")


class Tracker(LearnedTracker):
    """One track candidate per class."""

    kinds: ClassVar = ("enccla", "joint")

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """The most probable class of each hit; the first of equal ones. Returns (n,) int64."""
        logits = self.apply_network(hits, timer).logits
        with timer.stage("postprocess"):
            _, label, count = np.unique(logits.argmax(axis=1), return_inverse=True, return_counts=True)
            return np.where(count[label] >= self.config.min_hits, label, -1)
