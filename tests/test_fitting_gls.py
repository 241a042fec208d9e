"""The fit and the prediction against the naive ones, hit by hit, on random tracks."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest

from trackbench.fitting import gls, prediction
from trackbench.fitting.helix import from_two_hits
from trackbench.fitting.tables import new_work

LAYERS = toys.pixel_layers()
UNSHARED = toys.pixel_layers(sharing=0.0)
PLANES = slice(0, 3), slice(3, 5)
# Ranges of pT [GeV] and |d0| [mm] with the width of the prior of d0 that is used for them.
KINDS = {
    "prompt": (dict(pt=(0.3, 100.0)), 0.02),
    "stiff": (dict(pt=(20.0, 100.0)), 0.02),
    "soft": (dict(pt=(0.3, 0.6), max_d0=1.0), 1.0),
    "displaced": (dict(pt=(0.3, 100.0), max_d0=20.0), 10.0),
}


def cases(kind, n=8, seed=0, layers=LAYERS):
    """Yield (true track, start values, measured hits, model) of n tracks with at least three hits."""
    limits, sigma_d0 = KINDS[kind]
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    while n:
        p = toys.random_track(rng, **limits)
        on = toys.crossed_layers(p, layers)
        if len(on) < 3:
            continue
        n -= 1
        hits = toys.track_hits(p, layers, on, rng, smear=0.02)
        start = p + rng.normal(0, 1, 5) * [1e-3, 0.02 * abs(p[1]) + 1e-3, 0.05, 0.1, 1e-3]
        yield p, start, hits, toys.model(sigma_d0=sigma_d0)


def kernel_fit(hits, layers, model, start, n_iterations):
    """Fit with the kernel. Returns the track, chi2 and the scratch space."""
    p, work = np.array(start), new_work()
    event, (rows,) = toys.together(hits)
    chi2 = gls.fit(toys.candidate(rows), len(rows), event, layers, model, p, work, n_iterations)
    return p, chi2, work


def errors(fitted):
    """Return the five errors of a naive fit."""
    return np.sqrt(np.concatenate([np.diag(fitted.cov_t), np.diag(fitted.cov_l)]))


@pytest.mark.parametrize("n_iterations", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_agrees_with_the_naive_one(kind, n_iterations):
    for _, start, hits, model in cases(kind):
        p, chi2, work = kernel_fit(hits, LAYERS, model, start, n_iterations)
        expected = naive.fit(hits, LAYERS, model, start, n_iterations)
        difference = p - expected.p
        difference[0] = naive.wrapped(difference[0])
        np.testing.assert_allclose(difference / errors(expected), 0.0, atol=1e-6)
        assert chi2 == pytest.approx(expected.chi2, rel=1e-7, abs=1e-7)
        np.testing.assert_allclose(work.cov_t, expected.cov_t, rtol=1e-6)
        np.testing.assert_allclose(work.cov_l, expected.cov_l, rtol=1e-6)


@pytest.mark.parametrize("layers", [LAYERS, UNSHARED], ids=["shared", "unshared"])
def test_weights_are_the_inverse_of_the_double_sum(layers):
    for true, _, hits, model in cases("prompt", layers=layers):
        n = len(hits.r)
        *_, work = kernel_fit(hits, layers, model, true, 1)  # weights are those of the start values
        for weight, v in zip((work.weight_t, work.weight_l), naive.covariances(hits, layers, model, true), strict=True):
            np.testing.assert_allclose(weight[:n, :n] @ v, np.eye(n), atol=1e-7)


def test_scattering_grows_as_highland_says():
    # Perpendicular through 2 % of a radiation length at 1 GeV: 13.6 MeV sqrt(0.02) = 1.92 mrad.
    p = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    barrel, disk = 7, 11
    assert gls.scattering_variance(barrel, LAYERS, p) == pytest.approx(0.001923**2, rel=1e-3)
    p[4] = np.sqrt(3.0)  # theta = 30 degrees: twice the material
    assert gls.scattering_variance(barrel, LAYERS, p) == pytest.approx(2 * 0.001923**2, rel=1e-3)
    assert gls.scattering_variance(disk, LAYERS, p) == pytest.approx(0.001923**2 / np.cos(np.pi / 6), rel=1e-3)
    assert gls.pipe_variance(p, toys.model(pipe=0.01)) == pytest.approx(0.001923**2, rel=1e-3)
    p[1] = -0.5  # 2 GeV, negative
    assert gls.scattering_variance(barrel, LAYERS, p) == pytest.approx(0.5 * 0.001923**2, rel=1e-3)
    p[1] = 1e-4  # 10 TeV counts as 20 GeV
    assert gls.scattering_variance(barrel, LAYERS, p) == pytest.approx(2 * (0.001923 / 20) ** 2, rel=1e-3)
    p[4] = 0.1  # a disk is never crossed so flat
    p[1] = 1.0
    assert gls.scattering_variance(disk, LAYERS, p) == pytest.approx(5 * 0.001923**2, rel=1e-3)


def test_resolution_along_is_perpendicular_to_the_track():
    layers = toys.pixel_layers(sharing=0.0)
    p = np.array([0.0, 1.0, 0.0, 0.0, np.sqrt(3.0)])  # theta = 30 degrees
    assert gls.longitudinal_sigma(7, layers, p) == pytest.approx(0.018 * 0.5)
    assert gls.longitudinal_sigma(11, layers, p) == pytest.approx(0.018 * np.sqrt(0.75))
    p[4] = -p[4]
    assert gls.longitudinal_sigma(1, layers, p) == pytest.approx(0.018 * np.sqrt(0.75))


def test_resolution_along_improves_with_the_cells_of_a_cluster():
    layers = toys.pixel_layers(sharing=0.5)
    p = np.array([0.0, 1.0, 0.0, 0.0, 2.0])
    sine, cosine = 1 / np.sqrt(5), 2 / np.sqrt(5)
    assert gls.longitudinal_sigma(7, layers, p) == pytest.approx(0.018 / (1 + 2 * 0.5) ** 2 * sine)
    assert gls.longitudinal_sigma(11, layers, p) == pytest.approx(0.018 / (1 + 0.5 * 0.5) ** 2 * cosine)
    p[4] = -20.0  # 11 cells: no better than 2 micrometres
    assert gls.longitudinal_sigma(7, layers, p) == pytest.approx(0.002 / np.sqrt(401))


@pytest.mark.parametrize("kind", KINDS)
def test_contribution_is_what_chi2_loses_without_the_hit(kind):
    for _, start, hits, model in cases(kind, seed=1):
        hits = toys.shifted(hits, 1, across=0.06, along=-0.05)
        *_, work = kernel_fit(hits, LAYERS, model, start, 3)
        expected = naive.contributions(naive.fit(hits, LAYERS, model, start, 3), model)
        np.testing.assert_allclose(work.contribution[: len(expected)], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "n_iterations"), [("prompt", 4), ("displaced", 6)])
def test_fit_converges_from_the_seed(kind, n_iterations):
    for _, _, hits, model in cases(kind, seed=2):
        start = np.zeros(5)
        from_two_hits(hits.phi[0], hits.r[0], hits.z[0], hits.phi[2], hits.r[2], hits.z[2], start)
        few, chi2, _ = kernel_fit(hits, LAYERS, model, start, n_iterations)
        many, chi2_many, work = kernel_fit(hits, LAYERS, model, start, 15)
        difference = few - many
        difference[0] = naive.wrapped(difference[0])
        sigma = np.sqrt(np.concatenate([np.diag(work.cov_t), np.diag(work.cov_l)]))
        np.testing.assert_allclose(difference / sigma, 0.0, atol=0.01)
        assert chi2 == pytest.approx(chi2_many, abs=0.01)


def test_a_track_at_the_branch_cut_is_fitted_like_any_other():
    *_, (true, start, hits, model) = cases("prompt", seed=3)
    p, chi2, _ = kernel_fit(hits, LAYERS, model, start, 3)
    for target in (np.pi, -np.pi, np.pi - 1e-3):
        turn = target - true[0]
        turned = hits._replace(phi=naive.wrapped(hits.phi + turn))
        q, chi2_turned, _ = kernel_fit(turned, LAYERS, model, start + turn * np.eye(5)[0], 3)
        assert abs(q[0]) <= np.pi
        assert naive.wrapped(q[0] - p[0] - turn) == pytest.approx(0.0, abs=1e-9)
        np.testing.assert_allclose(q[1:], p[1:], rtol=1e-7, atol=1e-9)
        assert chi2_turned == pytest.approx(chi2, rel=1e-6)


def test_reflected_hits_give_the_reflected_track():
    for _, start, hits, model in cases("displaced", seed=4):
        p, chi2, _ = kernel_fit(hits, LAYERS, model, start, 3)
        mirrored = hits._replace(phi=-hits.phi)
        q, chi2_mirrored, _ = kernel_fit(mirrored, LAYERS, model, start * [-1, -1, -1, 1, 1], 3)
        np.testing.assert_allclose(q, p * [-1, -1, -1, 1, 1], rtol=1e-7, atol=1e-9)
        assert chi2_mirrored == pytest.approx(chi2, rel=1e-6)


def test_three_exact_hits_of_a_prompt_track_have_no_chi2():
    p = np.array([0.5, 0.8, 0.0, 3.0, 0.6])
    hits = toys.track_hits(p, LAYERS, on=[7, 8, 9])
    fitted, chi2, work = kernel_fit(hits, LAYERS, toys.model(sigma_k=1e6), p * [1, 1.01, 1, 1, 1], 4)
    np.testing.assert_allclose(fitted, p, rtol=1e-6, atol=1e-6)
    assert chi2 == pytest.approx(0.0, abs=1e-8)
    assert np.all(work.contribution[:3] < 1e-8)


def test_two_hits_at_the_same_place_are_one_hit_measured_twice():
    # Both scatter, though, so there is no material here.
    p = np.array([0.5, 0.01, 0.0, 3.0, 0.6])
    hits = toys.shifted(toys.track_hits(p, LAYERS, on=[7, 8, 9, 10]), 2, across=0.03, along=0.02)
    twice = naive.Measured(*(np.insert(column, 2, column[2]) for column in hits))
    thin = toys.pixel_layers(thickness=0.0)
    better = np.where(np.arange(toys.N_PIXEL) == 9, np.sqrt(0.5), 1.0)
    single = thin._replace(sigma_t=thin.sigma_t * better, sigma_l=thin.sigma_l * better)
    a, chi2_a, _ = kernel_fit(twice, thin, toys.model(), p, 3)
    b, chi2_b, _ = kernel_fit(hits, single, toys.model(), p, 3)
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    assert chi2_a == pytest.approx(chi2_b, rel=1e-6)
    assert np.isfinite(chi2_a) and chi2_a > 0.5


def test_the_largest_candidate_and_hits_of_one_radius():
    # 24 hits on four layers, six at each radius: V is nearly singular without the resolution.
    p = np.array([-2.0, -0.7, 0.01, 3.0, 0.6])
    hits = toys.track_hits(p, LAYERS, on=[7, 8, 9, 10])
    rng = np.random.default_rng(0)
    many = naive.Measured(*(np.repeat(column, 6) for column in hits))
    many = many._replace(z=many.z + rng.normal(0, 0.02, 24), phi=many.phi + rng.normal(0, 0.015, 24) / many.r)
    fitted, chi2, _ = kernel_fit(many, LAYERS, toys.model(), p, 3)
    expected = naive.fit(many, LAYERS, toys.model(), p, 3)
    np.testing.assert_allclose((fitted - expected.p) / errors(expected), 0.0, atol=1e-3)
    assert chi2 == pytest.approx(expected.chi2, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_is_the_conditional_distribution(kind):
    seen, out = 0, np.zeros(4)
    for _, start, hits, model in cases(kind, n=7, seed=5):
        free = [layer for layer in hits.layer if len(hits.r) > 3]
        for gone in free:  # inside, between, and outside the hits that are left
            rest = hits.without(list(hits.layer).index(gone))
            p, _, work = kernel_fit(rest, LAYERS, model, start, 25)  # converged
            at = naive.crossing(gone, LAYERS, p)
            if at is None:
                continue
            work.point[:] = at
            prediction.predict(len(rest.r), gone, LAYERS, p, work, out)
            fitted = naive.fit(rest, LAYERS, model, p, 1)
            expected = naive.prediction(fitted, rest, gone, at, LAYERS, model)
            np.testing.assert_allclose(out[2:], expected[2:], rtol=1e-3)  # the naive priors are wide, not flat
            np.testing.assert_allclose((out[:2] - expected[:2]) / np.sqrt(expected[2:]), 0.0, atol=1e-3)
            seen += 1
    assert seen > 15


def test_missing_layers_are_those_crossed_without_a_hit():
    rng, totals = np.random.default_rng(6), np.zeros(3, int)
    for _ in range(40):
        p = toys.random_track(rng, pt=(0.5, 20.0), eta=(-3.0, 3.0))
        on = np.array(toys.crossed_layers(p, LAYERS))
        kept = on[np.sort(rng.permutation(len(on))[:3])]
        if len(kept) < 3:
            continue
        hits = toys.track_hits(p, LAYERS, kept)
        fitted, _, work = kernel_fit(hits, LAYERS, toys.model(), p, 2)
        event, (rows,) = toys.together(hits)
        bits = prediction.layer_bits(toys.candidate(rows), 3, event)
        assert prediction.count_bits(bits) == 3
        counted = prediction.count_missing(bits, 3, LAYERS, fitted, work)
        expected = naive.missing(set(kept), work.path[:3], LAYERS, fitted)
        assert counted == expected
        totals += expected
    assert totals.min() > 5
