"""The vectorised metrics against the plain ones on random events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_events import make_truth
from naive_metrics import naive_counts
from toys import toy_event

from trackbench.data.tracks import TrackParameters
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.definitions import FITTED_METRICS

PER_EVENT = {
    "n_hits",
    "n_noise",
    "n_targets",
    "n_clusters",
    "n_candidates",
    "n_candidates_pt",
    "n_fiducial",
}  # plain counts


OF_VERTICES = {"vertex_efficiency", "vertex_fake_rate"}  # tested on their own


def random_fits(labels):
    """Parameters of every label, around the pT cut; some of them failed."""
    rng = np.random.default_rng(len(labels))
    n = labels.max(initial=-1) + 1
    values = np.zeros((n, 5))
    values[:, 4] = rng.choice([-1, 1], n) * rng.choice([0.4, 1.0, 1 / 0.9, 1.3, 2.5, np.nan], n)
    return TrackParameters(values, np.zeros((n, 5, 5)), np.zeros(n), *np.zeros((2, n), dtype=np.int64))


def assert_same(labels, truth, selection=None, **cuts):
    fits = random_fits(labels)
    found = evaluate_event(labels, truth, selection, parameters=fits).counts
    expected = naive_counts(labels, truth, fit_pt=dict(enumerate(fits.pt)), **cuts)
    assert set(found) - PER_EVENT - OF_VERTICES == set(expected)
    without = evaluate_event(labels, truth, selection).counts
    assert without == {name: count for name, count in found.items() if name not in FITTED_METRICS}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("seed", range(15))
def test_toy_events_with_damaged_tracks(seed):
    _, truth = toy_event(n_tracks=60, n_noise=60, seed=seed)
    rng = np.random.default_rng(seed)
    labels = np.unique(truth.particle_id, return_inverse=True)[1]
    damaged = rng.random(len(labels)) < 0.1 * (seed % 5)
    labels[damaged] = rng.integers(-1, labels.max() + 30, damaged.sum())
    labels[truth.particle_id == 0] = rng.integers(-1, labels.max() + 1, (truth.particle_id == 0).sum())
    assert_same(labels, truth)
    other = TruthSelection(pt_min=0.5, eta_max=2.0, min_layers=4, min_cluster_size=4)
    assert_same(labels, truth, other, pt_min=0.5, eta_max=2.0, min_layers=4, min_size=4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    hits=st.lists(st.tuples(st.integers(-2, 6), st.integers(0, 5)), max_size=40),
    extra=st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_small_random_events(hits, extra):
    """Few labels and few particles: ties, tiny clusters, noise majorities, hits outside the view (extra)."""
    labels = np.array([label for label, _ in hits], dtype=np.int64)
    particle_id = np.array([pid for _, pid in hits], dtype=np.int64)
    kinematics = {1: (2.0, 0.0), 2: (0.9, 3.0), 3: (0.2, 1.0), 4: (1.0, -1.0), 5: (5.0, 4.5)}
    n_hits = {pid: int((particle_id == pid).sum()) + extra[pid - 1] for pid in kinematics}
    rng = np.random.default_rng(len(hits))
    assert_same(labels, make_truth(particle_id, kinematics, rng.random(len(hits)), n_hits=n_hits))
