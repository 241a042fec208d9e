"""The numbers behind the figures of fitted track parameters: histograms of pulls, and profiles against pT and eta."""

from itertools import pairwise

import numpy as np
import pandas as pd

from trackbench.data.tracks import PARAMETERS
from trackbench.errors import ConfigError, describe
from trackbench.evaluation.fit_quality import (
    MIN_TRACKS,
    ORIGINS,
    PROMPT,
    PULL_RANGE,
    STATISTICS,
    UNITS,
    half_width,
    of_origin,
    shown_values,
    statistic,
)
from trackbench.plotting.binning import check_edges, default_edges
from trackbench.plotting.style import check_columns

PULL_COLUMNS = ("tracker", "origin", "quantity", "bin", "low", "high", "n", "density", "mean", "width", "width_error")
PROFILE_COLUMNS = (
    *("tracker", "origin", "quantity", "statistic", "unit", "variable"),
    *("bin", "low", "high", "n", "value", "lo", "hi"),
)
VARIABLES = ("pt", "eta")
KINDS = ("residual", "pull")
CHI2 = "chi2_probability"

_PULL_EDGES = np.linspace(-PULL_RANGE, PULL_RANGE, 51)
_CHI2_EDGES = np.linspace(0.0, 1.0, 21)


def pull_table(residuals: dict[str, pd.DataFrame], origin: str = PROMPT) -> pd.DataFrame:
    """Histograms of the pulls and of the chi2 probability, and their widths.

    residuals: tracker -> ``evaluation.residuals.RESIDUAL_COLUMNS``
    origin: which tracks, one of ``fit_quality.ORIGINS``
    Returns ``PULL_COLUMNS``: per tracker and quantity (``data.tracks.PARAMETERS`` and ``CHI2``) a row "all"
    with the mean of what lies inside the axis, the half-width of everything and its error; rows "under",
    "0", "1", ..., "over" and "undefined" (no pull) with n and, inside, the density (1 / n of all defined).
    """
    parts = []
    for tracker, frame in residuals.items():
        check_columns(
            f"residuals of {tracker}", frame, (*(f"pull_{name}" for name in PARAMETERS), "vr", "chi2", "n_dof")
        )
        tracks = of_origin(frame, origin)
        quantities = {name: (tracks[f"pull_{name}"].to_numpy(np.float64), _PULL_EDGES) for name in PARAMETERS}
        quantities[CHI2] = (chi2_probability(tracks), _CHI2_EDGES)
        for name, (values, edges) in quantities.items():
            parts.append(_histogram(values, edges).assign(tracker=tracker, origin=origin, quantity=name))
    empty = pd.DataFrame(columns=list(PULL_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(PULL_COLUMNS)] if parts else empty


def chi2_probability(residuals: pd.DataFrame) -> np.ndarray:
    """Probability of a larger chi2 for the degrees of freedom of each fit, (n,) float; NaN without any."""
    from scipy.special import chdtrc

    chi2, n_dof = (residuals[name].to_numpy(np.float64) for name in ("chi2", "n_dof"))
    known = (n_dof > 0) & (chi2 >= 0)
    return np.where(known, chdtrc(np.where(known, n_dof, 1.0), np.where(known, chi2, 0.0)), np.nan)


def profile_table(
    residuals: dict[str, pd.DataFrame], variable: str, kind: str, edges: np.ndarray | None = None
) -> pd.DataFrame:
    """Width and centre of residuals or pulls in bins of a true quantity, prompt and secondary tracks apart.

    residuals: tracker -> ``evaluation.residuals.RESIDUAL_COLUMNS``
    variable: "pt" [GeV] or "eta"; kind: "residual" (resolution and bias) or "pull" (width and mean)
    edges: default ``binning.default_edges``, halved in number for few prompt tracks
    Returns ``PROFILE_COLUMNS``: per tracker, origin, parameter and statistic (``fit_quality.STATISTICS``) a row
    "all" and one per bin; value in ``unit`` and lo, hi = value -+ error; NaN for fewer than ``MIN_TRACKS`` tracks.
    Raises ConfigError for another variable or kind or a missing column.
    """
    for what, given, known in (("variable", variable, VARIABLES), ("kind", kind, KINDS)):
        if given not in known:
            raise ConfigError(describe(f"figure {what}", f"'{given}' is not known", "one of " + ", ".join(known)))
    for name, frame in residuals.items():
        check_columns(f"residuals of {name}", frame, (*(f"{kind}_{p}" for p in PARAMETERS), "pt", "eta", "vr"))
    edges = _edges(residuals, variable) if edges is None else check_edges(edges)
    rows = []
    for tracker, frame in residuals.items():
        for origin in ORIGINS:
            tracks = of_origin(frame, origin)
            inside = _bins(tracks[variable].to_numpy(np.float64), edges)
            for quantity in PARAMETERS:
                values = shown_values(tracks, quantity, kind)
                unit = UNITS[quantity][0] if kind == "residual" else ""
                head = {"tracker": tracker, "origin": origin, "quantity": quantity, "unit": unit, "variable": variable}
                rows += [{**head, **row} for row in _profile(values, inside, kind)]
    return pd.DataFrame(rows, columns=list(PROFILE_COLUMNS))


def _edges(residuals: dict[str, pd.DataFrame], variable: str) -> np.ndarray:
    values = [of_origin(frame, PROMPT)[variable].to_numpy(np.float64) for frame in residuals.values()]
    edges = default_edges(variable, np.concatenate(values) if values else np.empty(0))
    most = max((len(sample) for sample in values), default=0)
    while (edges.size - 1) % 2 == 0 and most < 2 * MIN_TRACKS * (edges.size - 1):
        edges = edges[::2]  # of few tracks, no bin would have enough
    return check_edges(edges)


def _bins(values: np.ndarray, edges: np.ndarray) -> list[tuple[str, float, float, np.ndarray]]:
    """Name, limits and mask of "all" and of each bin; the last includes its upper edge, as in numpy.histogram."""
    bins = [("all", -np.inf, np.inf, np.ones(values.size, dtype=bool))]
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = (values >= low) & ((values < high) | (high == edges[-1]) & (values == high))
        bins.append((str(i), low, high, inside))
    return bins


def _profile(values: np.ndarray, bins: list[tuple], kind: str) -> list[dict]:
    rows = []
    for name in (name for name, of in STATISTICS.items() if of == kind):
        for label, low, high, inside in bins:
            n, value, error = statistic(name, values[inside])
            numbers = {"n": n, "value": value, "lo": value - error, "hi": value + error}
            rows.append({"statistic": name, "bin": label, "low": low, "high": high, **numbers})
    return rows


def _histogram(values: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    known = values[~np.isnan(values)]
    inside = known[(known >= edges[0]) & (known <= edges[-1])]
    counts = np.histogram(inside, edges)[0]
    width, error = half_width(known)
    mean = inside.mean() if inside.size else np.nan
    outside = {"under": (known < edges[0]).sum(), "over": (known > edges[-1]).sum()}
    rows = [("all", -np.inf, np.inf, known.size, np.nan, mean, width, error)]
    rows += [("under", -np.inf, edges[0], outside["under"], *[np.nan] * 4)]
    density = counts / (max(known.size, 1) * np.diff(edges))
    bins = zip(map(str, range(counts.size)), edges[:-1], edges[1:], counts, density, strict=True)
    rows += [(*row, *[np.nan] * 3) for row in bins]
    rows += [("over", edges[-1], np.inf, outside["over"], *[np.nan] * 4)]
    rows += [("undefined", np.nan, np.nan, values.size - known.size, *[np.nan] * 4)]
    return pd.DataFrame(rows, columns=list(PULL_COLUMNS[3:]))
