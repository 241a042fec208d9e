"""Intervals against published and hand-computed values, coverage, and the bootstrap against a plain loop."""

import numpy as np
import pytest

from trackbench.errors import InputError
from trackbench.evaluation.intervals import clopper_pearson, event_bootstrap, jeffreys, paired_bootstrap, wilson


@pytest.mark.parametrize(
    ("method", "k", "n", "lo", "hi"),
    [
        (clopper_pearson, 2, 2, 0.3983, 1.0),
        (clopper_pearson, 986, 1000, 0.9812, 0.9897),
        (clopper_pearson, 109, 779, 0.1273, 0.1535),
        (clopper_pearson, 20, 20, 0.912, 1.0),
        (clopper_pearson, 0, 2, 0.0, 1 - 0.3983),
        (jeffreys, 2, 2, 0.6458, 1.0),
        (jeffreys, 0, 2, 0.0, 1 - 0.6458),
        (wilson, 20, 20, 0.952, 1.0),
        (wilson, 0, 20, 0.0, 0.048),
        (wilson, 986, 1000, 0.986 - 0.004, 0.986 + 0.0035),
    ],
)
def test_published_values(method, k, n, lo, hi):
    found = method(k, n)
    tolerance = 6e-4 if method is wilson or n == 20 else 6e-5
    assert found == pytest.approx((lo, hi), abs=tolerance)


def test_clopper_pearson_edges_solve_the_binomial_tails():
    """By definition P(X >= k | lo) = P(X <= k | hi) = (1 - level) / 2."""
    from scipy.stats import binom

    k, n, level = 7, 12, 0.9
    lo, hi = clopper_pearson(k, n, level)
    assert binom.sf(k - 1, n, lo) == pytest.approx(0.05)
    assert binom.cdf(k, n, hi) == pytest.approx(0.05)


@pytest.mark.parametrize("method", [clopper_pearson, jeffreys, wilson])
def test_arrays_and_empty_bins(method):
    k, n = np.array([0, 1, 5, 0]), np.array([4, 4, 5, 0])
    lo, hi = method(k, n)
    assert lo.shape == hi.shape == (4,)
    assert lo[0] == 0.0 and hi[2] == 1.0
    assert np.isnan([lo[3], hi[3]]).all()
    assert ((lo <= k / np.maximum(n, 1)) & (k / np.maximum(n, 1) <= hi))[:3].all()
    assert (lo[1], hi[1]) == pytest.approx(method(1, 4))


@pytest.mark.parametrize("method", [clopper_pearson, jeffreys, wilson])
@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (np.nan, 2)])
def test_impossible_counts(method, k, n):
    with pytest.raises(InputError, match="expected 0 <= k <= n"):
        method(k, n)


def test_impossible_level():
    with pytest.raises(InputError, match=r"level 1\.5, expected a number between 0 and 1"):
        clopper_pearson(1, 2, 1.5)


def test_clopper_pearson_covers():
    """Exact coverage over all outcomes is at least the level, for several true values."""
    from scipy.stats import binom

    n = 30
    lo, hi = clopper_pearson(np.arange(n + 1), n)
    for p in (0.03, 0.3, 0.5, 0.97):
        inside = (lo <= p) & (p <= hi)
        assert binom.pmf(np.arange(n + 1), n, p)[inside].sum() >= 0.6827


def test_bootstrap_matches_the_standard_error():
    """100 events of equal size: the half width is the standard error of the mean."""
    rng = np.random.default_rng(5)
    den = np.full(100, 1000.0)
    num = rng.binomial(1000, 0.9, 100) + rng.normal(0, 20, 100)
    lo, hi = event_bootstrap(num, den, 4000, seed=1)
    expected = (num / den).std(ddof=1) / 10
    assert (hi - lo) / 2 == pytest.approx(expected, rel=0.08)
    assert (hi + lo) / 2 == pytest.approx(num.sum() / den.sum(), abs=0.3 * expected)


def test_bootstrap_equals_plain_loop():
    """Same draws, resampled event by event."""
    num, den = np.array([1.0, 4.0, 0.0]), np.array([2.0, 5.0, 9.0])
    draws = np.random.default_rng(7).multinomial(3, [1 / 3] * 3, size=1000)
    ratios = []
    for counts in draws:
        events = [i for i, times in enumerate(counts) for _ in range(times)]
        ratios.append(sum(num[i] for i in events) / sum(den[i] for i in events))
    assert event_bootstrap(num, den, 1000, seed=7) == pytest.approx(tuple(np.percentile(ratios, [16, 84])))


def test_bootstrap_of_several_metrics_and_empty_ones():
    num, den = np.array([[1, 0], [2, 0]]), np.array([[2, 0], [2, 0]])
    lo, hi = event_bootstrap(num, den)
    assert (lo[0], hi[0]) == (0.5, 1.0)
    assert np.isnan([lo[1], hi[1]]).all()
    assert np.isnan(event_bootstrap([], [])).all()


def test_bootstrap_repeats_with_its_seed():
    rng = np.random.default_rng(0)
    num, den = rng.integers(0, 50, 40), np.full(40, 50)
    assert event_bootstrap(num, den, seed=3) == event_bootstrap(num, den, seed=3)
    assert event_bootstrap(num, den, seed=3) != event_bootstrap(num, den, seed=4)


def test_paired_difference_is_sharper_than_two_bootstraps():
    """Two trackers share the difficulty of each event and differ by exactly 1 in 100 everywhere."""
    rng = np.random.default_rng(2)
    den = np.full(50, 100.0)
    num = rng.integers(60, 95, 50).astype(float)
    value, lo, hi = paired_bootstrap(num + 1, den, num, den, seed=1)
    assert value == pytest.approx(0.01)
    assert (lo, hi) == pytest.approx((0.01, 0.01))
    single = event_bootstrap(num, den, seed=1)
    assert single[1] - single[0] > 0.01


def test_paired_needs_the_same_events():
    with pytest.raises(InputError, match="3 and 2 events, expected both trackers evaluated on the same events"):
        paired_bootstrap([1, 1, 1], [1, 1, 1], [1, 1], [1, 1])


def test_bootstrap_needs_replicas():
    with pytest.raises(InputError, match="0 replicas"):
        event_bootstrap([1], [1], replicas=0)
