"""Search for hits, pruning, picking up and competition, on events whose tracks are known."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest

from trackbench.fitting import candidate, competition, gls, prediction
from trackbench.fitting.tables import MAX_HITS, new_work
from trackbench.fitting.vertex_prior import no_prior, vertex_prior
from trackbench.geometry.detector import CURVATURE

LAYERS = toys.pixel_layers()
MODEL = toys.model()
# These cross the seven disks at z > 0 and nothing else, and each other on the first disk.
FORWARD = np.array([0.4, 0.5, 0.0, 2.0, np.sinh(3.45)])
_MEETING = naive.crossing(11, LAYERS, FORWARD)[1]
OTHER = np.array([0.4 - CURVATURE * 0.8 * _MEETING, -0.3, 0.0, 2.0, np.sinh(3.45)])
DISKS = toys.DISKS_PLUS
RULES = competition.Rules(
    layer_score=16.0, hole_score=6.0, min_score=10.0, min_layers=4, max_chi2_3=14.0, max_chi2_4=10.0,
    hole_chi2=9.0, edge_chi2=7.5, extra_chi2=4.0,
)  # fmt: skip


def true_hits(p=FORWARD, on=None, seed=0):
    """Return hits of a track with the resolution of the layers."""
    return toys.track_hits(p, LAYERS, on, np.random.default_rng(seed), smear=0.012)


class Candidate:
    """One candidate in an event, with the arguments all kernels want."""

    def __init__(self, hits, rows, start=FORWARD, model=MODEL):
        self.hits, self.model, self.n = hits, model, len(rows)
        self.index, self.p, self.work = toys.candidate(rows), start.copy(), new_work()
        self.used, self.out = np.zeros(len(hits.r), bool), np.zeros(4)
        candidate.sort_by_radius(self.index, self.n, hits)
        self.fit()

    def fit(self, n_iterations=2):
        return gls.fit(self.index, self.n, self.hits, LAYERS, self.model, self.p, self.work, n_iterations)

    def rows(self):
        return set(self.index[: self.n].tolist())

    def prune(self, min_layers=3):
        self.n, chi2 = candidate.prune(self.index, self.n, self.hits, LAYERS, self.model, self.p, self.work, min_layers)
        return chi2

    def pick_up(self):
        self.n = candidate.pick_up(
            self.index, self.n, self.hits, LAYERS, self.model, self.p, self.work, self.used, self.out
        )

    def refine(self, min_layers=3):
        self.n, chi2 = candidate.refine(
            self.index, self.n, self.hits, LAYERS, self.model, self.p, self.work, self.used, min_layers, self.out
        )
        return chi2


def nearest_of_all(found, layer, max_chi2):
    """Return (hit, chi2) of the best unused hit of a layer, looking at every one; chi2 from root finding."""
    hits, p = found.hits, found.p
    rows = np.arange(hits.first[layer], hits.first[layer + 1])
    measured = naive.Measured(hits.r[rows], hits.phi[rows], hits.z[rows], hits.layer[rows])
    prediction.predict(found.n, layer, LAYERS, p, found.work, found.out)
    across, along = naive.residuals(measured, p)
    chi2 = (across - found.out[0]) ** 2 / found.out[2] + (along - found.out[1]) ** 2 / found.out[3]
    chi2[found.used[rows] | np.isin(rows, found.index[: found.n])] = np.inf
    best = np.argmin(chi2)
    return (rows[best], chi2[best]) if chi2[best] < max_chi2 else (-1, max_chi2)


@pytest.mark.parametrize(("max_d0", "sigma_d0"), [(0.05, 0.02), (10.0, 3.0)])
def test_nearest_hit_is_the_best_of_all(max_d0, sigma_d0):
    rng, found_any = np.random.default_rng(1), 0
    model = toys.model(sigma_d0=sigma_d0)
    for _ in range(60):
        p = toys.random_track(rng, pt=(0.5, 50.0), eta=(-3.2, 3.2), max_d0=max_d0)
        on = toys.crossed_layers(p, LAYERS)
        if len(on) < 4:
            continue
        gone = rng.choice(on)
        hits, (rows, *_) = toys.together(
            toys.track_hits(p, LAYERS, [layer for layer in on if layer != gone], rng, smear=0.012),
            *(toys.track_hits(p, LAYERS, [gone], rng, smear=scale) for scale in (0.1, 0.3, 0.3, 1.0, 3.0)),
            toys.noise_hits(rng, LAYERS, 500),
        )
        found = Candidate(hits, rows, p, model)
        found.used[:] = rng.random(len(hits.r)) < 0.1
        if not prediction.crossing(gone, LAYERS, found.p, found.work.point):
            continue
        expected, chi2 = nearest_of_all(found, gone, 16.0)
        if 14.0 < chi2 < 16.0:
            continue  # the window in azimuth is that at the layer's nominal radius, 4 % off at most
        hit = prediction.nearest_hit(
            found.index, found.n, gone, hits, LAYERS, found.p, found.work, found.used, 16.0, 1e3, found.out
        )
        assert hit == expected
        assert found.out[0] == pytest.approx(chi2, rel=1e-4, abs=1e-6)
        found_any += hit >= 0
    assert found_any > 20


@pytest.mark.parametrize("phi0", [np.pi, -np.pi, np.pi - 0.001, 0.0])
def test_search_goes_on_across_the_branch_cut(phi0):
    p = np.array([phi0, 0.4, 0.0, 0.0, 0.5])
    for side in (-1, 1):  # the hit lies a little off the prediction, on either side of the cut
        hits, (rows, target) = toys.together(
            true_hits(p, [7, 8, 10]), toys.shifted(toys.track_hits(p, LAYERS, [9]), 0, across=0.03 * side)
        )
        hits = hits._replace(phi=naive.wrapped(hits.phi))
        found = Candidate(hits, rows, p)
        assert prediction.crossing(9, LAYERS, found.p, found.work.point)
        state = (hits, LAYERS, found.p, found.work, found.used, 16.0, 8.0, found.out)
        assert prediction.nearest_hit(found.index, found.n, 9, *state) == target[0]


def test_search_is_limited_by_chi2_and_window():
    p = np.array([0.5, 0.4, 0.0, 0.0, 0.5])
    hits, (rows, target) = toys.together(
        toys.track_hits(p, LAYERS, [7, 8, 10]), toys.shifted(toys.track_hits(p, LAYERS, [9]), 0, across=0.06)
    )
    found = Candidate(hits, rows, p)

    def search(max_chi2, max_window):
        assert prediction.crossing(9, LAYERS, found.p, found.work.point)
        state = (hits, LAYERS, found.p, found.work, found.used, max_chi2, max_window, found.out)
        return prediction.nearest_hit(found.index, found.n, 9, *state)

    assert search(100.0, 8.0) == target[0]
    chi2 = found.out[0]
    assert 1.0 < chi2 < 100.0
    assert search(chi2 * 1.01, 8.0) == target[0]
    assert search(chi2 * 0.99, 8.0) == -1
    assert search(100.0, 0.03) == -1
    found.used[target] = True
    assert search(100.0, 8.0) == -1


def naive_prune(hits, start, model, min_layers):
    """Fit, drop the hit whose absence helps most, and so on. Returns the positions left and chi2 (None: too few)."""
    left, p = np.arange(len(hits.r)), start
    while True:
        now = naive.Measured(*(column[left] for column in hits))
        if len(set(now.layer)) < min_layers:
            return left, None
        fitted = naive.fit(now, LAYERS, model, p, 2)
        p = fitted.p
        contribution = naive.contributions(fitted, model)
        if contribution.max() <= model.prune_chi2:
            return left, fitted.chi2
        left = np.delete(left, np.argmax(contribution))


def test_prune_agrees_with_the_naive_one():
    rng, dropped = np.random.default_rng(2), []
    while len(dropped) < 25:
        p = toys.random_track(rng, pt=(0.5, 50.0))
        on = toys.crossed_layers(p, LAYERS)
        if len(on) < 5:
            continue
        hits = toys.track_hits(p, LAYERS, on, rng, smear=0.012)
        for i in rng.permutation(len(on))[: rng.integers(0, 4)]:
            hits = toys.shifted(hits, i, *(rng.normal(0, 1.0, 2)))
        event, (rows,) = toys.together(hits)
        found = Candidate(event, rows, p)
        found.p[:] = p
        left, expected = naive_prune(hits, p, MODEL, 3)
        chi2 = found.prune()
        if expected is None:
            assert chi2 == candidate.FAILED
        else:
            assert found.index[: found.n].tolist() == rows[left].tolist()
            assert chi2 == pytest.approx(expected, rel=1e-5)
        dropped.append(len(on) - len(left))
    assert {0, 1, 2} <= set(dropped)


@pytest.mark.parametrize("outlier", range(7))
def test_prune_drops_a_planted_outlier(outlier):
    event, (rows,) = toys.together(toys.shifted(true_hits(), outlier, across=1.0))
    found = Candidate(event, rows)
    chi2 = found.prune()
    assert found.rows() == set(rows.tolist()) - {rows[outlier]}
    assert 0 < chi2 < 30
    assert np.all(np.diff(event.r[found.index[: found.n]]) > 0)  # still sorted


def test_prune_fails_on_too_few_layers():
    hits = toys.shifted(true_hits(on=DISKS[:3]), 1, across=3.0)
    event, (rows,) = toys.together(hits)
    assert Candidate(event, rows).prune(min_layers=3) == candidate.FAILED
    event, (rows,) = toys.together(true_hits(on=DISKS[:3]))
    assert Candidate(event, rows).prune(min_layers=3) < 30


def test_two_hits_of_one_layer_count_as_one_layer():
    hits = naive.Measured(*map(np.concatenate, zip(true_hits(), true_hits(on=[DISKS[2]], seed=9), strict=True)))
    event, (rows,) = toys.together(hits)
    bits = prediction.layer_bits(toys.candidate(rows), 8, event)
    assert bits == sum(1 << layer for layer in DISKS) and prediction.count_bits(bits) == 7
    assert prediction.count_bits(0) == 0


def test_pick_up_adds_hits_of_new_layers_and_overlaps_but_no_used_ones():
    event, (rows, missing, overlap, taken, noise) = toys.together(
        true_hits(on=DISKS[:4]),
        true_hits(on=DISKS[4:6], seed=1),
        true_hits(on=[DISKS[1]], seed=2),
        true_hits(on=[DISKS[6]], seed=3),
        toys.noise_hits(np.random.default_rng(0), LAYERS, 300),
    )
    found = Candidate(event, rows)
    found.used[taken] = True
    found.pick_up()
    assert found.rows() == {*rows.tolist(), *missing.tolist(), *overlap.tolist()}
    assert not found.rows() & set(noise.tolist())
    before = found.rows()
    candidate.sort_by_radius(found.index, found.n, event)
    found.fit()
    found.pick_up()  # nothing is left
    assert found.rows() == before


def test_overlaps_have_a_limit_of_their_own():
    event, (rows, new, overlap) = toys.together(
        true_hits(on=DISKS[:4]), true_hits(on=[DISKS[4]], seed=1), true_hits(on=[DISKS[1]], seed=2)
    )
    for limits, expected in (
        (dict(attach_chi2=1e-9), overlap),
        (dict(overlap_chi2=1e-9), new),
        (dict(attach_chi2=1e-9, overlap_chi2=1e-9), rows[:0]),
    ):
        found = Candidate(event, rows, model=toys.model(**limits))
        found.pick_up()
        assert found.rows() == {*rows.tolist(), *expected.tolist()}


def test_pick_up_stops_at_the_largest_candidate():
    many = [true_hits(on=DISKS[:5], seed=i) for i in range(4)] + [true_hits(on=DISKS[:3], seed=7)]
    event, groups = toys.together(*many, true_hits(on=DISKS[5:], seed=8))
    rows = np.concatenate(groups[:-1])
    assert len(rows) == MAX_HITS - 1
    found = Candidate(event, rows)
    found.pick_up()
    assert found.n == MAX_HITS
    found.pick_up()
    assert found.n == MAX_HITS


def test_an_event_with_nothing_else_adds_nothing():
    event, (rows,) = toys.together(true_hits(on=DISKS[:3]))
    found = Candidate(event, rows)
    found.pick_up()
    assert found.n == 3


def test_refine_finds_the_track_from_a_part_with_an_outlier():
    bad = toys.shifted(true_hits(on=[DISKS[3]], seed=4), 0, across=0.5)
    event, (rows, wrong, rest, _) = toys.together(
        true_hits(on=DISKS[:3]),
        bad,
        true_hits(on=DISKS[3:], seed=5),
        toys.noise_hits(np.random.default_rng(1), LAYERS, 300),
    )
    found = Candidate(event, np.append(rows, wrong))
    chi2 = found.refine()
    assert found.rows() == {*rows.tolist(), *rest.tolist()}
    assert np.all(np.diff(event.r[found.index[: found.n]]) > 0)
    assert chi2 == pytest.approx(found.fit(1), abs=0.01)  # converged: another step changes nothing
    assert chi2 < 30
    again = found.rows()
    assert found.refine() == pytest.approx(chi2, abs=0.01) and found.rows() == again


def test_refine_reports_a_failed_candidate():
    hits = toys.noise_hits(np.random.default_rng(3), LAYERS, 4)
    event, (rows,) = toys.together(hits)
    assert Candidate(event, rows).refine() == candidate.FAILED


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
