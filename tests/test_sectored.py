"""A tracker run sector by sector gives labels, and parameters, of the whole event."""

import numpy as np
import pytest
from toy_trackers import N_BINS, ToyFitter, bin_of
from toys import toy_event
from track_checks import assert_valid, rows_by_track

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
    # Sectors that share less than half of their hits are not joined.
    assert len(set(labels)) == 3


def test_stages_add_up_over_sectors_and_empty_events_pass():
    hits, _ = toy_event()
    timer = Timer()
    SectoredTracker(SameSector(), 5).reconstruct(hits, timer)
    assert timer.wall["clustering"] > 0
    empty = hits.take(np.zeros(0, dtype=int))
    assert SectoredTracker(SameSector(), 5).reconstruct(empty).shape == (0,)


def test_parameters_stay_with_their_candidates():
    """Sectors that end where bins do: the same candidates as in the whole event, with the same parameters."""
    hits, _ = toy_event(n_tracks=60)
    tracks = SectoredTracker(ToyFitter(), 4).reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    expected = ToyFitter().reconstruct_tracks(hits)
    assert rows_by_track(tracks, hits.hit_id) == rows_by_track(expected, hits.hit_id)
    assert len(tracks.parameters) > 20


def test_candidates_left_to_the_neighbour_lose_their_parameters_too():
    hits, _ = toy_event(n_tracks=60)
    # Half a sector of overlap: each sector sees 20 of 40 bins and keeps those of its own 10.
    sectored = SectoredTracker(ToyFitter(), 4, overlap=0.5)
    tracks = sectored.reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    np.testing.assert_array_equal(sectored.reconstruct(hits), tracks.labels)
    expected = ToyFitter().reconstruct_tracks(hits)
    assert rows_by_track(tracks, hits.hit_id) == rows_by_track(expected, hits.hit_id)


def test_candidates_across_a_border_are_united_and_keep_the_parameters_of_the_largest_part():
    hits, _ = toy_event(n_tracks=60)
    sectored = SectoredTracker(ToyFitter(), 3, overlap=0.25)  # borders inside bins, which are seen whole
    tracks = sectored.reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    # The overlap ends inside bins too, so parts of a bin exist: the whole one is larger and is kept.
    expected = ToyFitter().reconstruct_tracks(hits)
    assert rows_by_track(tracks, hits.hit_id) == rows_by_track(expected, hits.hit_id)
    number = bin_of(hits)
    for label, row in enumerate(tracks.parameters.values):
        own = number[tracks.labels == label][0]
        assert row[2] == (own + 0.5) / N_BINS * 2 * np.pi - np.pi
        assert row[4] == 1 / (number == own).sum()


def test_without_overlap_candidates_stay_cut_and_parameters_are_those_of_the_hits_seen():
    hits, _ = toy_event(n_tracks=60)
    tracks = SectoredTracker(ToyFitter(), 3).reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    number, sector = bin_of(hits), ((phi_of(hits) + np.pi) / (2 * np.pi) * 3).astype(int)
    pieces, count = np.unique(np.stack([number, sector]), axis=1, return_counts=True)
    assert len(tracks.parameters) == np.count_nonzero(count >= 2)
    for label, row in enumerate(tracks.parameters.values):
        assert np.unique(sector[tracks.labels == label]).size == 1
        assert row[4] == 1 / (tracks.labels == label).sum()
    assert pieces.shape[1] > np.unique(number).size


def test_sectors_without_hits_and_events_without_hits():
    hits, _ = toy_event(n_tracks=60)
    half = hits.take(hits.xyz[:, 1] > 0)
    tracks = SectoredTracker(ToyFitter(), 4).reconstruct_tracks(half)
    assert_valid(tracks, len(half))
    expected = ToyFitter().reconstruct_tracks(half)
    assert rows_by_track(tracks, half.hit_id) == rows_by_track(expected, half.hit_id)
    assert SectoredTracker(ToyFitter(), 4).reconstruct_tracks(hits.take(np.arange(0))).parameters is None


def test_trackers_that_do_not_fit_have_no_parameters():
    hits, _ = toy_event()
    assert SectoredTracker(SameSector(), 4).reconstruct_tracks(hits).parameters is None


@pytest.mark.parametrize("n_sectors", [1, 2])
def test_padding_stays_unassigned(n_sectors):
    from trackbench.data.padding import pad_hits

    hits, _ = toy_event()
    labels = SectoredTracker(SameSector(), n_sectors).reconstruct(pad_hits(hits, len(hits) + 10))
    assert (labels[-10:] == -1).all()
    assert (labels[:-10] >= 0).all()
