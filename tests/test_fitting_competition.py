"""Competition of candidates for hits, and what a candidate is worth."""

import fitting_toys as toys
import numpy as np
import pytest
from fitting_toys import FORWARD, OTHER, true_hits

from trackbench.fitting import candidate, competition, gls
from trackbench.fitting.tables import MAX_HITS, new_work
from trackbench.fitting.vertex_prior import no_prior, vertex_prior

LAYERS = toys.pixel_layers()
MODEL = toys.model()
DISKS = toys.DISKS_PLUS
RULES = competition.Rules(
    layer_score=16.0, hole_score=6.0, min_score=10.0, min_layers=4, max_chi2_3=14.0, max_chi2_4=10.0,
    hole_chi2=9.0, edge_chi2=7.5, extra_chi2=4.0,
)  # fmt: skip


def store_of(event, groups, tracks, model=MODEL):
    """Return a store with one fitted candidate per group of hits."""
    store, work = competition.new_store(len(groups)), new_work()
    for row, (rows, track) in enumerate(zip(groups, tracks, strict=True)):
        store.hits[row], store.tracks[row] = toys.candidate(rows), track
        candidate.sort_by_radius(store.hits[row], len(rows), event)
        chi2 = gls.fit(store.hits[row], len(rows), event, LAYERS, model, store.tracks[row], work, 2)
        competition.record(row, store, len(rows), chi2, event, LAYERS, work)
    return store


def run_competition(store, event, rules=RULES, next_label=0):
    """Return the accepted rows and the labels of all hits."""
    used, label = np.zeros(len(event.r), bool), np.full(len(event.r), -1)
    rows = competition.compete(store, event, LAYERS, MODEL, rules, no_prior(), new_work(), used, label, next_label)
    assert np.array_equal(used, label >= 0)
    return rows, label


def test_record_notes_what_the_candidate_misses():
    event, (rows,) = toys.together(true_hits(on=[DISKS[1], DISKS[2], DISKS[4]]))
    store = store_of(event, [rows], [FORWARD])
    assert (store.n_hits[0], store.n_layers[0], store.holes[0]) == (3, 3, 1)
    assert (store.before[0], store.beyond[0]) == (1, 2)
    assert 0.01 < store.sigma_z0[0] < 10.0


def crossing_tracks(on=DISKS[1:]):
    """Return an event of two tracks that share the hit on the first disk, and the hits of either without it."""
    bent = toys.shifted(true_hits(OTHER, on, seed=3), 1, across=0.05)  # worse, but good enough
    event, (own, others, _) = toys.together(true_hits(), bent, toys.noise_hits(np.random.default_rng(5), LAYERS, 20))
    return event, own, others


def test_shared_hits_go_to_the_better_candidate_and_the_other_is_fitted_again():
    event, own, others = crossing_tracks()
    store = store_of(event, [np.append(others, own[0]), own], [OTHER, FORWARD])
    assert store.n_hits.tolist() == [7, 7] and store.chi2[0] > store.chi2[1] + 5
    accepted, label = run_competition(store, event, next_label=5)
    assert accepted == [1, 0]
    assert np.all(label[own] == 5) and np.all(label[others] == 6) and np.sum(label >= 0) == 13
    alone = store_of(event, [others], [OTHER])
    assert (store.n_hits[0], store.n_layers[0], store.before[0]) == (6, 6, 1)
    assert store.chi2[0] == pytest.approx(alone.chi2[0], abs=0.05)
    np.testing.assert_allclose(store.tracks[0], alone.tracks[0], rtol=1e-3, atol=1e-3)


def test_what_is_left_of_a_loser_must_be_a_track_still():
    event, own, others = crossing_tracks(on=DISKS[1:4])
    groups, tracks = [own, own[1:5], np.append(others, own[0])], [FORWARD, FORWARD, OTHER]
    accepted, label = run_competition(store_of(event, groups, tracks), event)
    assert accepted == [0]  # the copy has no hit left, the other only three layers
    assert np.all(label[own] == 0) and np.all(label[others] == -1)
    generous = RULES._replace(min_layers=3, max_chi2_3=1e3, min_score=-1e3)
    accepted, label = run_competition(store_of(event, groups, tracks), event, generous)
    assert accepted == [0, 2] and np.all(label[others] == 1)


def test_nothing_is_accepted_below_the_least_score_or_from_an_empty_store():
    event, (own,) = toys.together(true_hits())
    store = store_of(event, [own], [FORWARD])
    value = competition.score(0, store, RULES, no_prior())
    assert value == pytest.approx(16 * 7 - store.chi2[0] - 6 * store.holes[0])
    assert run_competition(store, event, RULES._replace(min_score=value + 1e-9))[0] == []
    assert run_competition(store, event, RULES._replace(min_score=value - 1e-9))[0] == [0]
    assert run_competition(competition.new_store(0), event)[0] == []


# n_hits, n_layers, chi2, holes, before, beyond -> score, acceptable; by hand from the rules above.
JUDGED = [
    (5, 5, 40.0, 1, 0, 0, 80 - 40 - 6, True),
    (4, 4, 10.0, 0, 0, 0, 64 - 10, True),
    (4, 4, 10.1, 0, 0, 0, 64 - 10.1, False),
    (6, 4, 10.0, 2, 0, 0, 64 + 16 - 10 - 12, True),
    (3, 3, 14.0, 0, 0, 0, 48 - 14, True),
    (3, 3, 14.1, 0, 0, 0, 48 - 14.1, False),
    (3, 3, 6.0, 1, 0, 0, 48 - 15, False),
    (3, 3, 6.5, 0, 0, 1, 48 - 14, True),
    (3, 3, 6.6, 0, 1, 0, 48 - 14.1, False),
    (3, 3, 6.6, 0, 0, 2, 48 - 6.6, True),  # two layers beyond: the track may have left the detector
    (4, 3, 18.0, 0, 0, 0, 48 + 8 - 14, True),
]


@pytest.mark.parametrize(("n_hits", "n_layers", "chi2", "holes", "before", "beyond", "score", "good"), JUDGED)
def test_score_and_acceptance_by_hand(n_hits, n_layers, chi2, holes, before, beyond, score, good):
    store = competition.new_store(1)
    for name, value in dict(
        n_hits=n_hits, n_layers=n_layers, chi2=chi2, holes=holes, before=before, beyond=beyond
    ).items():
        getattr(store, name)[0] = value
    assert competition.score(0, store, RULES, no_prior()) == pytest.approx(score)
    assert competition.acceptable(0, store, RULES, no_prior()) == good


def test_the_vertex_prior_counts_on_three_layers_only():
    prior = vertex_prior(np.full(50, 1.05))
    store = competition.new_store(1)
    store.n_hits[0], store.sigma_z0[0], store.tracks[0, 3] = 4, 0.3, 1.05 + 0.8  # two widths of 0.4 mm: 4
    store.n_layers[0] = 4
    assert competition.score(0, store, RULES, prior) == 64.0
    store.n_layers[0], store.n_hits[0] = 3, 3
    assert competition.score(0, store, RULES, prior) == pytest.approx(48.0 - 4.0)


def test_stores_are_joined_in_order_and_rows_are_copied():
    first, second = competition.new_store(2), competition.new_store(1)
    first.chi2[:], second.chi2[:] = [1.0, 2.0], 3.0
    both = competition.joined([first, second])
    assert both.chi2.tolist() == [1.0, 2.0, 3.0] and both.hits.shape == (3, 2 * MAX_HITS)
    chosen = competition.select(both, np.array([2, 0]))
    chosen.chi2[0] = 7.0
    assert chosen.chi2.tolist() == [7.0, 1.0] and both.chi2[2] == 3.0
