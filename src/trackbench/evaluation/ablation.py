"""Rows of an ablation on the same test events: efficiency, fakes and CPU time, each paired to the first row."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation import intervals
from trackbench.evaluation.tables import Measured, counts_by_event

METRICS = ("dm", "fake_rate")  # of ``definitions.METRICS``
CPU, NETWORK = "cpu_s", "network_cpu_s"  # CPU seconds per event: everything, and the stage "network"
COLUMNS = (
    "row",
    "metric",  # of METRICS, CPU or NETWORK
    "n_events",
    "value",  # METRICS: pooled over events; CPU, NETWORK: mean over events [s]
    "lo",  # METRICS: the wider of binomial interval and bootstrap over events; CPU, NETWORK: the bootstrap; 16 and 84 %
    "hi",
    "minus_first",  # value minus that of the first row
    "minus_first_lo",  # 16 and 84 % of the bootstrap that draws the same events for both rows
    "minus_first_hi",
)


def ablation_table(
    measured: Mapping[str, Measured],
    interval: str = "clopper-pearson",
    replicas: int = intervals.REPLICAS,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare rows with the first one.

    measured: row -> its counts and timing, all of the same events; the stage "network" may be absent
    interval: binomial interval of the metrics, of ``intervals.INTERVALS``; replicas, seed: of the bootstraps
    Returns ``COLUMNS``, row by row. A bootstrap alone would give a rate of 0 no error, a binomial interval alone would
    take the particles of an event for independent: the wider edge of both is shown. Of a single event there is no
    bootstrap, so its differences have no interval. CPU seconds of a network on a GPU are not the GPU's time.
    Raises InputError without rows, without timing, for other events than those of the first row or an unknown interval.
    """
    if not measured:
        raise InputError(describe("ablation", "no rows", "at least one"))
    binomial = intervals.interval_named(interval)
    sums = {row: _by_event(row, found) for row, found in measured.items()}
    first = next(iter(sums.values()))
    rows = []
    for row, (num, den) in sums.items():
        if set(num.index) != set(first[0].index):
            what = f"{len(num)} events, not those of the first row"
            raise InputError(describe(f"ablation, row {row}", what, "all rows on the same events"))
        num, den = num.loc[first[0].index], den.loc[first[0].index]
        for metric in (name for name in (*METRICS, CPU, NETWORK) if name in num):
            pair = num[metric].to_numpy(np.float64), den[metric].to_numpy(np.float64)
            entry = {"row": row, "metric": metric, "n_events": len(num)}
            entry |= _value(*pair, binomial if metric in METRICS else None, replicas, seed)
            if metric in first[0]:
                other = first[0][metric].to_numpy(np.float64), first[1][metric].to_numpy(np.float64)
                entry |= _difference(pair, other, replicas, seed)
            rows.append(entry)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _by_event(row: str, found: Measured) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numerators and denominators of one row, an event a line, a metric a column."""
    if found.timing is None or found.timing.empty:
        raise InputError(describe(f"ablation, row {row}", "no timing", "that of its test events"))
    num, den = counts_by_event(row, found.counts)
    num, den = num[list(METRICS)].copy(), den[list(METRICS)].copy()
    times = found.timing.pivot_table(index="event_id", columns="stage", values="cpu_s", aggfunc="sum")
    for stage, name in (("total", CPU), ("network", NETWORK)):
        if stage in times:
            num[name], den[name] = times[stage].reindex(num.index).fillna(0.0), 1.0
    return num, den


def _value(num: np.ndarray, den: np.ndarray, binomial, replicas: int, seed: int) -> dict[str, float]:
    lo = hi = np.nan
    if len(num) > 1:
        lo, hi = intervals.event_bootstrap(num, den, replicas, seed)
    if binomial is not None:
        edges = binomial(num.sum(), den.sum())
        lo, hi = np.fmin(lo, edges[0]), np.fmax(hi, edges[1])
    return {"value": _ratio(num, den), "lo": lo, "hi": hi}


def _difference(pair: tuple, other: tuple, replicas: int, seed: int) -> dict[str, float]:
    _, lo, hi = intervals.paired_bootstrap(*pair, *other, replicas, seed)
    value = _ratio(*pair) - _ratio(*other)
    if len(pair[0]) < 2:
        lo = hi = np.nan
    return {"minus_first": value, "minus_first_lo": lo, "minus_first_hi": hi}


def _ratio(num: np.ndarray, den: np.ndarray) -> float:
    return num.sum() / den.sum() if den.sum() else np.nan
