"""How good fitted track parameters are: width and centre of their residuals and pulls.

Robust numbers: half the length of the central 68.27 % for a width, the median for the bias of a residual, and for a
pull the mean of what lies within ``PULL_RANGE``, so that a few wrong fits do not decide.
"""

import numpy as np
import pandas as pd

from trackbench.data.tracks import PARAMETERS
from trackbench.evaluation.definitions import PROMPT_RADIUS

MIN_TRACKS = 10  # for a width, a median or a mean
PULL_RANGE = 5.0  # pulls beyond it do not enter their mean
PROMPT, SECONDARY = "prompt", "secondary"  # made within ``PROMPT_RADIUS`` of the beam line, or farther away
ORIGINS = (PROMPT, SECONDARY)
# quantity -> (unit of its residual, factor from mm, rad; q/pT is relative to its true size, so times pT)
UNITS = {"d0": ("µm", 1e3), "z0": ("µm", 1e3), "phi": ("mrad", 1e3), "theta": ("mrad", 1e3), "q_over_pt": ("%", 1e2)}
# statistic -> kind of its values
STATISTICS = {"resolution": "residual", "bias": "residual", "pull_width": "pull", "pull_mean": "pull"}
FIT_COLUMNS = ("origin", "quantity", "statistic", "unit", "n", "value", "lo", "hi")

_TAIL = 0.15865525393145707  # probability of a Gaussian below -1
# sqrt(n) times the errors of half-width and median, for a Gaussian of width 1.
_WIDTH_ERROR = 0.9617
_MEDIAN_ERROR = 1.2533


def half_width(values: np.ndarray) -> tuple[float, float]:
    """Half the length of the central 68.27 % interval of values, and its error.

    values: (n,) float; NaN is ignored
    Returns NaN, NaN for fewer than ``MIN_TRACKS`` values. The error is that of a Gaussian: quantiles q of
    probability p = 0.159 and 1 - p have variance p (1 - p) / (n f^2) and covariance p^2 / (n f^2), f = 0.242
    the density there (David and Nagaraja, Order Statistics, 3rd ed., section 10.2), hence
    (q2 - q1) / 2 has the error sqrt(p (1 - 2 p) / 2) / f = 0.962 times the width over sqrt(n).
    """
    values = values[~np.isnan(values)]
    if values.size < MIN_TRACKS:
        return np.nan, np.nan
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    width = (high - low) / 2
    return width, _WIDTH_ERROR * width / np.sqrt(values.size)


def median(values: np.ndarray) -> tuple[float, float]:
    """Median of values and its error, sqrt(pi / 2) times the half-width over sqrt(n) as for a Gaussian.

    values: (n,) float; NaN is ignored. Returns NaN, NaN for fewer than ``MIN_TRACKS`` values.
    """
    values = values[~np.isnan(values)]
    if values.size < MIN_TRACKS:
        return np.nan, np.nan
    return float(np.median(values)), _MEDIAN_ERROR * half_width(values)[0] / np.sqrt(values.size)


def pull_mean(pulls: np.ndarray) -> tuple[float, float]:
    """Mean of the pulls within ``PULL_RANGE`` and its standard error.

    pulls: (n,) float; NaN is ignored. Returns NaN, NaN for fewer than ``MIN_TRACKS`` such values.
    """
    inside = pulls[np.abs(pulls) <= PULL_RANGE]
    if inside.size < MIN_TRACKS:
        return np.nan, np.nan
    return inside.mean(), inside.std(ddof=1) / np.sqrt(inside.size)


def of_origin(residuals: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Take the prompt or the secondary tracks out of a table with a column ``vr``. origin: one of ``ORIGINS``."""
    prompt = residuals["vr"].to_numpy(np.float64) <= PROMPT_RADIUS
    return residuals[prompt if origin == PROMPT else ~prompt]


def shown_values(residuals: pd.DataFrame, quantity: str, kind: str) -> np.ndarray:
    """Residuals in the unit of ``UNITS``, or pulls, of one parameter, (n,) float.

    residuals: ``residuals.RESIDUAL_COLUMNS``; quantity: one of ``PARAMETERS``; kind: "residual" or "pull"
    """
    values = residuals[f"{kind}_{quantity}"].to_numpy(np.float64)
    if kind == "pull":
        return values
    values = values * UNITS[quantity][1]
    return values * residuals["pt"].to_numpy(np.float64) if quantity == "q_over_pt" else values


def statistic(name: str, values: np.ndarray) -> tuple[int, float, float]:
    """Number of values, value and error of one of ``STATISTICS``; of values as from ``shown_values``."""
    of = {"resolution": half_width, "bias": median, "pull_width": half_width, "pull_mean": pull_mean}
    return int((~np.isnan(values)).sum()), *of[name](values)


def fit_numbers(residuals: pd.DataFrame) -> pd.DataFrame:
    """Resolution, bias, width and mean of the pull of every parameter, prompt and secondary tracks apart.

    residuals: ``residuals.RESIDUAL_COLUMNS``, all events
    Returns ``FIT_COLUMNS``: one row per origin, parameter and statistic; n = values that are known, lo and
    hi = value -+ error, NaN for fewer than ``MIN_TRACKS``.
    """
    rows = []
    for origin in ORIGINS:
        tracks = of_origin(residuals, origin)
        for quantity in PARAMETERS:
            for name, kind in STATISTICS.items():
                n, value, error = statistic(name, shown_values(tracks, quantity, kind))
                unit = UNITS[quantity][0] if kind == "residual" else ""
                rows.append((origin, quantity, name, unit, n, value, value - error, value + error))
    return pd.DataFrame(rows, columns=list(FIT_COLUMNS))
