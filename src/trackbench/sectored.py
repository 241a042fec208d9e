"""Run any tracker sector by sector in azimuth and join what it finds."""

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.sectors import phi_sectors, stitch_labels
from trackbench.data.tracks import TrackParameters, Tracks
from trackbench.trackers.base import Timer, TrackerBase, build_tracker


class SectoredTracker:
    """A tracker that sees one phi sector at a time, with ``reconstruct`` and ``reconstruct_tracks`` of any other.

    tracker: the tracker to run in each sector
    n_sectors: number of sectors of equal angle
    overlap: each sector is enlarged on both sides by this fraction of its width
    A hit takes its label from the sector it belongs to. Candidates of two sectors that are mostly the same hits of
    their overlap are one (``data.sectors.stitch_labels``); without overlap tracks across a border stay cut. Metrics
    count the particle's hits in the full event. The parameters of a candidate are those fitted to all hits that a
    sector saw of it, overlap included; a united one has those of its part with most hits.
    """

    def __init__(self, tracker: TrackerBase, n_sectors: int, overlap: float = 0.0):
        self.tracker = tracker
        self.config = tracker.config
        self.seed = tracker.seed
        self.n_sectors = n_sectors
        self.overlap = overlap

    @property
    def device(self) -> str:
        """Device of the tracker in each sector."""
        return getattr(self.tracker, "device", "cpu")

    @property
    def precision(self) -> str:
        """Precision of the tracker in each sector."""
        return getattr(self.tracker, "precision", "float64")

    def reconstruct(self, hits: Hits, timer: Timer | None = None) -> np.ndarray:
        """Labels as ``TrackerBase.reconstruct`` gives them: (n,) int64, -1 = unassigned or padding."""
        return self.reconstruct_tracks(hits, timer).labels

    def reconstruct_tracks(self, hits: Hits, timer: Timer | None = None) -> Tracks:
        """Labels and parameters as ``TrackerBase.reconstruct_tracks`` gives them."""
        sectors = phi_sectors(hits, self.n_sectors, "angle", self.overlap)
        found = [self.tracker.reconstruct_tracks(sector.hits, timer) for sector in sectors]
        labels, rows = stitch_labels(sectors, [tracks.labels for tracks in found], len(hits))
        fitted = [tracks.parameters for tracks in found if tracks.parameters is not None]
        # A sector without hits has no parameters, and neither candidates that would need them.
        return Tracks(labels, TrackParameters.concatenate(fitted).take(rows) if fitted else None)


def build_sectored(
    name: str, settings: dict | None, seed: int = 0, count: int = 1, overlap: float = 0.0
) -> TrackerBase | SectoredTracker:
    """Build tracker ``name`` as ``build_tracker`` does; with ``count`` > 1 it sees one phi sector at a time."""
    tracker = build_tracker(name, settings, seed)
    return SectoredTracker(tracker, count, overlap) if count > 1 else tracker
