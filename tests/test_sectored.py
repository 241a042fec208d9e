"""A tracker run sector by sector gives labels of the whole event."""

import numpy as np
import pytest
from toys import toy_event

from trackbench.sectored import SectoredTracker
from trackbench.trackers.base import Timer, TrackerBase


class SameSector(TrackerBase):
    """Joins all hits it sees into one candidate and remembers how many there were."""

    def __init__(self):
        super().__init__(config=None)
        self.seen = []

    def find_tracks(self, hits, timer):
        self.seen.append(len(hits))
        with timer.stage("clustering"):
            return np.zeros(len(hits), dtype=np.int64)


def phi_of(hits):
    return np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])


def test_labels_are_those_of_the_sector_each_hit_is_in():
    hits, _ = toy_event()
    tracker = SameSector()
    labels = SectoredTracker(tracker, 4).reconstruct(hits)
    sector = np.minimum(((phi_of(hits) + np.pi) / (np.pi / 2)).astype(int), 3)
    assert sum(tracker.seen) == len(hits)
    assert {(a, b) for a, b in zip(labels, sector, strict=True)} == {(k, k) for k in range(4)}


def test_overlap_shows_the_tracker_more_hits_but_labels_each_once():
    hits, _ = toy_event(n_tracks=60)
    tracker = SameSector()
    labels = SectoredTracker(tracker, 3, overlap=0.25).reconstruct(hits)
    assert sum(tracker.seen) > 1.2 * len(hits)
    assert len(set(labels)) == 3


def test_stages_add_up_over_sectors_and_empty_events_pass():
    hits, _ = toy_event()
    timer = Timer()
    SectoredTracker(SameSector(), 5).reconstruct(hits, timer)
    assert timer.wall["clustering"] > 0
    empty = hits.take(np.zeros(0, dtype=int))
    assert SectoredTracker(SameSector(), 5).reconstruct(empty).shape == (0,)


@pytest.mark.parametrize("n_sectors", [1, 2])
def test_padding_stays_unassigned(n_sectors):
    from trackbench.data.padding import pad_hits

    hits, _ = toy_event()
    labels = SectoredTracker(SameSector(), n_sectors).reconstruct(pad_hits(hits, len(hits) + 10))
    assert (labels[-10:] == -1).all()
    assert (labels[:-10] >= 0).all()
