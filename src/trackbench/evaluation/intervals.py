"""Uncertainties: binomial intervals of k of n, and the bootstrap over events.

Particles of one event are correlated and some ratios are not k of n; for those resample events.
"""

from collections.abc import Callable

import numpy as np

from trackbench.errors import InputError, describe

LEVEL = 0.6827  # probability of +-1 sigma of a Gaussian
PERCENTILES = (16.0, 84.0)
REPLICAS = 1000


def clopper_pearson(k: np.ndarray, n: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact central interval of a binomial proportion; it over-covers.

    k, n: successes and trials, any matching shapes, 0 <= k <= n
    level: coverage
    Returns lower and upper edge, float; NaN where n = 0.
    Raises InputError if k or n is out of range.
    Source: Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    from scipy.special import betaincinv

    k, n = _check_counts(k, n, level)
    tail = (1 - level) / 2
    filled, empty = k == n, k == 0
    lo = np.where(empty, 0.0, betaincinv(np.where(empty, 1.0, k), n - k + 1, tail))
    hi = np.where(filled, 1.0, betaincinv(k + 1, np.where(filled, 1.0, n - k), 1 - tail))
    return _blank(lo, n), _blank(hi, n)


def jeffreys(k: np.ndarray, n: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the central Bayesian interval with the prior Beta(1/2, 1/2), for binned plots.

    The lower edge is 0 at k = 0 and the upper edge 1 at k = n. Arguments as in ``clopper_pearson``.
    Source: Brown, Cai and DasGupta, Statistical Science 16 (2001) 101, section 3.1.
    """
    from scipy.special import betaincinv

    k, n = _check_counts(k, n, level)
    tail = (1 - level) / 2
    lo = np.where(k == 0, 0.0, betaincinv(k + 0.5, n - k + 0.5, tail))
    hi = np.where(k == n, 1.0, betaincinv(k + 0.5, n - k + 0.5, 1 - tail))
    return _blank(lo, n), _blank(hi, n)


def wilson(k: np.ndarray, n: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the score interval; covers close to ``level`` on average. Arguments as in ``clopper_pearson``.

    Source: Wilson, Journal of the American Statistical Association 22 (1927) 209.
    """
    from scipy.special import ndtri

    k, n = _check_counts(k, n, level)
    z = ndtri((1 + level) / 2)
    trials = np.where(n == 0, 1.0, n)
    p = k / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    lo = np.where(k == 0, 0.0, np.maximum(centre - half, 0.0))
    hi = np.where(k == n, 1.0, np.minimum(centre + half, 1.0))
    return _blank(lo, n), _blank(hi, n)


INTERVALS: dict[str, Callable] = {"clopper-pearson": clopper_pearson, "wilson": wilson, "jeffreys": jeffreys}


def interval_named(name: str) -> Callable:
    """Return the binomial interval ``name`` of ``INTERVALS``, a function of k and n. Raises InputError."""
    if name not in INTERVALS:
        raise InputError(describe("interval", repr(name), "one of " + ", ".join(INTERVALS)))
    return INTERVALS[name]


def interval_text(name: str) -> str:
    """Name an interval in captions, e.g. ``68.27 % Clopper-Pearson``."""
    return f"{100 * LEVEL:g} % {name.title()}"


def event_bootstrap(num: np.ndarray, den: np.ndarray, replicas: int = REPLICAS, seed: int = 0):
    """Bootstrap pooled ratios over events.

    num, den: (n_events,) or (n_events, n_metrics), numerator and denominator of each event
    replicas: number of resamplings of the events, with replacement
    Returns the 16 and 84 percentile of sum(num) / sum(den), each a scalar or (n_metrics,); NaN without
    events. Replicas with an empty denominator are left out. Same seed, same result.
    """
    ratios = _replica_ratios(num, den, _draws(len(num), replicas, seed))
    return _percentiles(ratios)


def paired_bootstrap(num_a, den_a, num_b, den_b, replicas: int = REPLICAS, seed: int = 0):
    """Bootstrap the difference a - b of the pooled ratios of two trackers on the same events.

    num_a, den_a, num_b, den_b: as in ``event_bootstrap``; row i is the same event in all four
    Returns difference, 16 and 84 percentile. Both trackers see the same resampled events, so what they
    share cancels.
    Raises InputError if the number of events differs.
    """
    if len(num_a) != len(num_b):
        what = f"{len(num_a)} and {len(num_b)} events"
        raise InputError(describe("paired bootstrap", what, "both trackers evaluated on the same events"))
    draws = _draws(len(num_a), replicas, seed)
    once = np.ones((1, len(num_a)))
    value = _replica_ratios(num_a, den_a, once)[0] - _replica_ratios(num_b, den_b, once)[0]
    differences = _replica_ratios(num_a, den_a, draws) - _replica_ratios(num_b, den_b, draws)
    return (value, *_percentiles(differences))


def _draws(n_events: int, replicas: int, seed: int) -> np.ndarray:
    """How often each event is drawn in each replica, (replicas, n_events) float."""
    if replicas < 1:
        raise InputError(describe("bootstrap", f"{replicas} replicas", "at least 1"))
    if n_events == 0:
        return np.zeros((replicas, 0))
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_events, np.full(n_events, 1 / n_events), size=replicas).astype(np.float64)


def _replica_ratios(num, den, draws: np.ndarray) -> np.ndarray:
    """Pooled ratio of each replica, (replicas,) or (replicas, n_metrics); NaN for an empty denominator."""
    total = draws @ np.asarray(den, dtype=np.float64)
    return np.where(total > 0, draws @ np.asarray(num, dtype=np.float64) / np.where(total > 0, total, 1.0), np.nan)


def _percentiles(values: np.ndarray):
    known = ~np.isnan(values).all(axis=0)
    # Constant stand-in where all is NaN: nanpercentile would warn.
    edges = np.nanpercentile(np.where(known, values, 0.0), PERCENTILES, axis=0)
    lo, hi = np.where(known, edges, np.nan)
    return (lo[()], hi[()])


def _check_counts(k, n, level: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < level < 1:
        raise InputError(describe("interval", f"level {level}", "a number between 0 and 1"))
    k, n = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    bad = ~((k >= 0) & (k <= n))
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        raise InputError(describe("interval", f"k = {k[first]:g} of n = {n[first]:g}", "0 <= k <= n"))
    return k, n


def _blank(edge: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.where(n > 0, edge, np.nan)[()]
