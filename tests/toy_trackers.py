"""A tracker with known track parameters, to test what passes parameters on."""

import numpy as np

from trackbench.data.tracks import TrackParameters, Tracks
from trackbench.geometry.coordinates import azimuth
from trackbench.trackers.base import TrackerBase

N_BINS = 40
ERRORS = np.array([0.05, 0.1, 0.001, 0.002, 0.01])


def bin_of(hits):
    """Bin of azimuth of each hit, (n,) int."""
    return np.minimum(((azimuth(hits.xyz) + np.pi) / (2 * np.pi) * N_BINS).astype(int), N_BINS - 1)


class ToyFitter(TrackerBase):
    """One candidate per bin of azimuth with at least two hits, numbered downwards with gaps.

    phi is the middle of the bin, q_over_pt = 1 / number of hits, chi2 = lowest hit_id; z0 is 0, 10 or 20 mm
    by bin modulo 3, so there are three vertices. All parameters are correlated by 0.5.
    """

    def __init__(self, config=None, seed=0):
        super().__init__(config, seed)

    def find_tracks(self, hits, timer):
        with timer.stage("clustering"):
            number = bin_of(hits)
            count = np.bincount(number, minlength=N_BINS)
            labels = np.where(count[number] >= 2, 2 * (N_BINS - 1 - number), -1)
        with timer.stage("postprocess"):
            bins = N_BINS - 1 - np.arange(2 * N_BINS) // 2  # every second row belongs to nobody
            first = np.full(N_BINS, 1 << 40)
            np.minimum.at(first, number, hits.hit_id)
            phi = (bins + 0.5) / N_BINS * 2 * np.pi - np.pi
            zero = np.zeros(bins.size)
            values = np.column_stack((zero, 10.0 * (bins % 3), phi, zero + 1.0, 1 / np.maximum(count[bins], 1)))
            covariance = np.tile(0.5 * np.diag(ERRORS**2) + 0.5 * np.outer(ERRORS, ERRORS), (bins.size, 1, 1))
            integers = np.full(bins.size, 3), np.arange(bins.size) % 2
            return Tracks(labels, TrackParameters(values, covariance, first[bins].astype(float), *integers))
