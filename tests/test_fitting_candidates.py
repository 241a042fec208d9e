"""Search for hits, pruning and picking up, on events whose tracks are known."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest
from fitting_toys import FORWARD, true_hits

from trackbench.fitting import candidate, gls, prediction
from trackbench.fitting.tables import MAX_HITS, new_work

LAYERS = toys.pixel_layers()
MODEL = toys.model()
DISKS = toys.DISKS_PLUS


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
            toys.noise_hits(rng, LAYERS, 100),
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
    while len(dropped) < 15:
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
