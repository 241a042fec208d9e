"""Run any tracker sector by sector in azimuth and join the labels."""

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.sectors import merge_labels, phi_sectors
from trackbench.trackers.base import Timer, TrackerBase, build_tracker


class SectoredTracker:
    """A tracker with the interface of ``TrackerBase.reconstruct`` that sees one phi sector at a time.

    tracker: the tracker to run in each sector
    n_sectors: number of sectors of equal angle
    overlap: each sector is enlarged on both sides by this fraction of its width
    A hit takes its label from the sector it belongs to; tracks across a border stay cut, and metrics
    still count the particle's hits in the full event.
    """

    def __init__(self, tracker: TrackerBase, n_sectors: int, overlap: float = 0.0):
        self.tracker = tracker
        self.config = tracker.config
        self.seed = tracker.seed
        self.n_sectors = n_sectors
        self.overlap = overlap

    def reconstruct(self, hits: Hits, timer: Timer | None = None) -> np.ndarray:
        """Labels as ``TrackerBase.reconstruct`` gives them: (n,) int64, -1 = unassigned or padding."""
        sectors = phi_sectors(hits, self.n_sectors, "angle", self.overlap)
        labels = [self.tracker.reconstruct(sector.hits, timer) for sector in sectors]
        return merge_labels(sectors, labels, len(hits))


def build_sectored(
    name: str, settings: dict | None, seed: int = 0, count: int = 1, overlap: float = 0.0
) -> TrackerBase | SectoredTracker:
    """Build tracker ``name`` as ``build_tracker`` does; with ``count`` > 1 it sees one phi sector at a time."""
    tracker = build_tracker(name, settings, seed)
    return SectoredTracker(tracker, count, overlap) if count > 1 else tracker
