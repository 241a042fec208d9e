"""What the trackers of whole events share: hits out of acceptance are not seen and stay unassigned."""

from dataclasses import dataclass

import numpy as np

from trackbench.data.hits import Hits
from trackbench.geometry.coordinates import pseudorapidity
from trackbench.trackers.layers.learned import CheckpointConfig, NetworkTracker


@dataclass(frozen=True)
class HeptTrackerConfig(CheckpointConfig):
    """Options of HEPT and HEPTv2, besides those of ``CheckpointConfig``.

    eta_max: hits with a larger |eta| are not seen and stay unassigned, > 0
    """

    eta_max: float = 4.0

    def __post_init__(self):
        super().__post_init__()
        self.require("eta_max", self.eta_max > 0, "> 0")


class HeptTracker(NetworkTracker):
    """Base class of HEPT and HEPTv2; their ``Config`` is a ``HeptTrackerConfig``."""

    @property
    def needs_features(self) -> bool:
        """Whether the network was trained with features of cells."""
        return self.network.config.inputs == "published"

    def seen(self, hits: Hits) -> np.ndarray:
        """Positions of the hits the network may see, (m,) int64."""
        return np.flatnonzero(np.abs(pseudorapidity(hits.xyz)) <= self.config.eta_max)

    @staticmethod
    def unassigned(hits: Hits) -> np.ndarray:
        """A label of -1 for each hit, (n,) int64."""
        return np.full(len(hits), -1, dtype=np.int64)
