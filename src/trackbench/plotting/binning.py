"""Binned rates k/n with binomial intervals: the numbers behind efficiency and fake rate figures."""

import numpy as np
import pandas as pd

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.intervals import interval_named
from trackbench.plotting.style import check_columns

RATE_COLUMNS = ("tracker", "metric", "variable", "bin", "low", "high", "n_num", "n_den", "value", "lo", "hi")


def default_edges(variable: str, values: np.ndarray) -> np.ndarray:
    """Bin edges of a variable when the caller gives none.

    variable: "pt" (9 logarithmic bins to 50 GeV, from 0.9 GeV or the lowest value if that is lower),
        "eta" (20 bins in [-4, 4]), "phi" (16 bins in [-pi, pi]), or another: 12 bins in +-1, 2 or
        5 x 10^k, the smallest such range that holds 99 % of ``values``
    values: (n,) float, all values to be shown; NaN is ignored
    Returns increasing edges. The pt and eta ranges are those of HEPTv2 (arXiv:2606.20437).
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if variable == "pt":
        lowest = values[values > 0].min(initial=0.9)
        low = 0.9 if lowest >= 0.9 else max(np.floor(lowest * 10) / 10, 0.05)
        return np.geomspace(low, 50.0, 10)
    if variable == "eta":
        return np.linspace(-4.0, 4.0, 21)
    if variable == "phi":
        return np.linspace(-np.pi, np.pi, 17)
    reach = float(np.quantile(np.abs(values), 0.99)) if values.size else 1.0
    power = 10.0 ** np.floor(np.log10(max(reach, 1e-3)))
    reach = power * next(step for step in (1, 2, 3, 5, 10) if step * power >= reach * (1 - 1e-12))
    return np.linspace(-reach, reach, 13)


def check_edges(edges: np.ndarray) -> np.ndarray:
    """Return ``edges`` as float64; raises ConfigError unless they are at least two, finite and increasing."""
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ConfigError(describe("bin edges", f"{edges.tolist()}", "at least two finite, increasing numbers"))
    return edges


def binned_rate(
    values: np.ndarray, passed: np.ndarray, edges: np.ndarray, interval: str = "clopper-pearson"
) -> pd.DataFrame:
    """Count trials and successes per bin, and outside the bins, and give intervals.

    values: (n,) float, variable of each trial; passed: (n,) bool, success
    edges: (m + 1,) increasing
    interval: name of a binomial interval, see ``evaluation.intervals.INTERVALS``
    Returns m + 4 rows with columns ``bin low high n_num n_den value lo hi``: ``bin`` is "all", "under",
    "0" ... "m-1", "over" (last bin includes its upper edge, as in numpy.histogram) and "undefined" (NaN).
    Trials outside are never added to an edge bin. ``value lo hi`` are NaN where n_den = 0; the interval
    is at 68.27 %.
    """
    values, passed, edges = np.asarray(values, np.float64), np.asarray(passed, bool), check_edges(edges)
    m = edges.size - 1
    index = np.searchsorted(edges, values, side="right") - 1  # -1 below, m above
    index[values == edges[-1]] = m - 1
    index[np.isnan(values)] = m + 1
    n_den = np.bincount(index + 1, minlength=m + 3)
    n_num = np.bincount(index[passed] + 1, minlength=m + 3)
    table = pd.DataFrame(
        {
            "bin": ["under", *map(str, range(m)), "over", "undefined"],
            "low": [-np.inf, *edges, np.nan],
            "high": [*edges, np.inf, np.nan],
            "n_num": n_num,
            "n_den": n_den,
        }
    )
    total = {"bin": "all", "low": -np.inf, "high": np.inf, "n_num": n_num.sum(), "n_den": n_den.sum()}
    table = pd.concat([pd.DataFrame([total]), table], ignore_index=True)
    return add_interval(table, interval)


def add_interval(table: pd.DataFrame, interval: str = "clopper-pearson") -> pd.DataFrame:
    """Return ``table`` with ``value lo hi`` computed from its ``n_num n_den`` (NaN where n_den = 0)."""
    n_num, n_den = table["n_num"].to_numpy(np.int64), table["n_den"].to_numpy(np.int64)
    value = np.divide(n_num, n_den, out=np.full(len(table), np.nan), where=n_den > 0)
    lo, hi = interval_named(interval)(n_num, n_den)
    return table.assign(value=value, lo=lo, hi=hi)


def rate_table(
    frames: dict[str, pd.DataFrame],
    variable: str,
    metric: str,
    edges: np.ndarray | None = None,
    interval: str = "clopper-pearson",
) -> pd.DataFrame:
    """Binned rate of a boolean column for several trackers, one below the other.

    frames: tracker -> table with a column ``variable`` (float) and a boolean column ``metric``
    edges: bin edges, or None for ``default_edges`` of all trackers' values together
    interval: name of a binomial interval
    Returns the columns ``RATE_COLUMNS``, rows of ``binned_rate`` per tracker. Raises ConfigError for a
    missing column.
    """
    for name, frame in frames.items():
        check_columns(f"table of {name}", frame, (variable, metric))
    if edges is None:
        values = [frame[variable].to_numpy(np.float64) for frame in frames.values()]
        edges = default_edges(variable, np.concatenate(values) if values else np.empty(0))
    tables = []
    for name, frame in frames.items():
        rates = binned_rate(frame[variable].to_numpy(np.float64), frame[metric].to_numpy(bool), edges, interval)
        tables.append(rates.assign(tracker=name, metric=metric, variable=variable))
    empty = pd.DataFrame(columns=list(RATE_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(RATE_COLUMNS)] if tables else empty


def outside_text(table: pd.DataFrame) -> str:
    """Say how many trials lie outside the bins, as a range over trackers; "" if none do."""
    outside = table[table["bin"].isin(["under", "over", "undefined"])]
    counts = outside.groupby("tracker", sort=False)["n_den"].sum()
    if not len(counts) or counts.max() == 0:
        return ""
    low, high = int(counts.min()), int(counts.max())
    return f"{low if low == high else f'{low} to {high}'} outside the axis range"
