"""The one long table of a comparison: every metric of every tracker, with interval and counts.

Variants of a metric carry a suffix after a slash:

``dm``                 pooled over events: sum of numerators / sum of denominators, with the binomial
                       interval for k of n and the event bootstrap for everything else
``dm/bootstrap``       same value with the event-bootstrap interval, from ``BOOTSTRAP_EVENTS`` events on
``dm/event_mean``      mean of the per-event ratios (NaN skipped) +- its standard error, as HEPTv2 publishes
``dm/minus:NAME``      pooled difference to tracker NAME on the same events, paired bootstrap

and the costs (``costs.cost_rows``): ``latency_ms``, ``cpu_ms``, ``first_call_s``, ``peak_memory_mb``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation import intervals
from trackbench.evaluation.complete import check_events, read_rows, read_run
from trackbench.evaluation.conventions import MASKFORMER_SELECTION
from trackbench.evaluation.costs import cost_rows
from trackbench.evaluation.definitions import DEFINITION_VERSION, METRICS, PROMPT_RADIUS
from trackbench.evaluation.published import quoted_rows
from trackbench.evaluation.sample import TRUTH_FILTER
from trackbench.parquet import read_frame

COLUMNS = (
    "tracker",
    "metric",
    "region",
    "value",
    "lo",
    "hi",
    "n_num",
    "n_den",
    "n_events",
    "selection",
    "definition_version",
    "source",
)
MEASURED = "measured here (simulated)"
BOOTSTRAP_EVENTS = 20
BARREL_ETA = 1.5
FORWARD_ETA = 3.0

# region -> mask over a particles or candidates frame; a region whose columns are lacking is left out
REGIONS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "barrel": lambda frame: frame["eta"].abs() < BARREL_ETA,
    "endcap": lambda frame: frame["eta"].abs() >= BARREL_ETA,
    "central": lambda frame: frame["eta"].abs() < FORWARD_ETA,  # barrel and part of the endcap
    "forward": lambda frame: frame["eta"].abs() >= FORWARD_ETA,  # the rest of the endcap
    "prompt": lambda frame: frame["vr"] <= PROMPT_RADIUS,
    "secondary": lambda frame: frame["vr"] > PROMPT_RADIUS,
}
_PARTICLE_METRICS = {"dm": "dm", "technical": "technical", "perfect": "perfect"}
_CANDIDATE_METRICS = {"fake_rate": "fake_purity", "fake_dm": "fake_dm"}


@dataclass(frozen=True)
class Measured:
    """What was measured of one tracker; everything but the counts is optional.

    counts: ``event_id metric num den``; particles, candidates: the frames of ``EventResult``, all events
    timing: ``event_id n_hits stage wall_s cpu_s``; run: content of the run file
    """

    counts: pd.DataFrame
    particles: pd.DataFrame | None = None
    candidates: pd.DataFrame | None = None
    timing: pd.DataFrame | None = None
    run: dict | None = None

    @classmethod
    def load(cls, counts, particles=None, candidates=None, timing=None, run=None) -> "Measured":
        """Read the files of one tracker; arguments are paths. Raises InputError for a damaged or incomplete file."""
        loaded = cls(
            read_rows(counts),
            None if particles is None else read_frame(particles),
            None if candidates is None else read_frame(candidates),
            None if timing is None else read_rows(timing),
            None if run is None else read_run(run),
        )
        check_events((counts, loaded.counts), (timing, loaded.timing), loaded.run)
        return loaded


@dataclass(frozen=True)
class TableOptions:
    """How the table is made.

    selection: text of the truth selection (``TruthSelection.label()``)
    reference: tracker of the paired differences, None = no differences
    interval: name of a binomial interval, see ``intervals.INTERVALS``; replicas, seed: of the bootstraps
    truth_filter: the events were prepared with it; said in every row
    source: of the measured rows
    hits: hits used, in words (``DataSelection.label()``)
    reconstruction: departures from whole, unpadded events, in words
    hits and reconstruction are said in every row; costs have the conditions of the machine instead of hits.
    """

    selection: str
    reference: str | None = None
    interval: str = "clopper-pearson"
    replicas: int = intervals.REPLICAS
    seed: int = 0
    truth_filter: bool = False
    source: str = MEASURED
    hits: str = ""
    reconstruction: str = ""

    def __post_init__(self):
        intervals.interval_named(self.interval)

    def selection_of(self, metric: str) -> str:
        """Return the selection behind ``metric``: some conventions bring their own particles, never their own hits."""
        text = self.selection
        if metric.startswith("maskformer"):
            text = MASKFORMER_SELECTION.label()
        elif metric.startswith("trackml_score"):
            text = "all particles, clusters of any size, weights renormalised to these hits"
        elif metric.startswith("fit_accuracy"):
            text = "all particles, clusters of any size"
        return self._joined(text, self.hits)

    def conditions_of_cost(self, conditions: str) -> str:
        """Return the conditions behind a row of ``cost_rows``."""
        return self._joined(conditions)

    def _joined(self, *parts: str) -> str:
        return "; ".join(part for part in (*parts, self.reconstruction, self.truth_filter * TRUTH_FILTER) if part)


def metrics_table(
    measured: dict[str, Measured], options: TableOptions, published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Build the long table.

    measured: tracker -> what was measured; all trackers on the same events
    published: from ``published.read_published``, appended as quoted rows
    Returns a table with ``COLUMNS``, trackers in the given order; see the module for the metric names.
    Raises InputError if trackers were evaluated on different events or the reference is not among them.
    """
    pooled = {name: counts_by_event(name, item.counts) for name, item in measured.items()}
    _check_same_events(pooled)
    if options.reference is not None and options.reference not in measured:
        raise InputError(describe("reference tracker", repr(options.reference), "one of " + ", ".join(measured)))
    rows: list[dict] = []
    for name, item in measured.items():
        num, den = pooled[name]
        block = [*_pooled_rows(num, den, options), *_mean_rows(num, den)]
        block += _region_rows(item, num.index, options)
        if options.reference not in (None, name):
            block += _difference_rows(pooled[name], pooled[options.reference], options)
        costs = cost_rows(item.timing, item.run)
        block += [{**row, "selection": options.conditions_of_cost(row["selection"])} for row in costs]
        defaults = {"tracker": name, "region": "all", "n_num": np.nan, "n_den": np.nan, "n_events": len(num)}
        rows += [{**defaults, "selection": options.selection_of(row["metric"]), **row} for row in block]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.assign(definition_version=DEFINITION_VERSION, source=options.source)
    if published is None or published.empty:
        return table
    return pd.concat([table, quoted_rows(published)[list(COLUMNS)]], ignore_index=True)


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Take the paired differences out of a long table.

    Returns ``tracker reference metric value lo hi n_events``, in the table's order.
    """
    parts = table["metric"].str.split("/minus:", n=1, expand=True).reindex(columns=[0, 1])
    chosen = parts[1].notna()
    frame = table[chosen].assign(metric=parts.loc[chosen, 0], reference=parts.loc[chosen, 1])
    columns = ["tracker", "reference", "metric", "value", "lo", "hi", "n_events"]
    return frame[columns].reset_index(drop=True)


def counts_by_event(tracker: str, counts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numerators and denominators, one row per event, one column per metric in catalogue order.

    tracker: to name in an error; counts: ``event_id metric num den``
    Raises InputError for no rows, a metric twice in an event or an unknown one.
    """
    if counts.empty:
        raise InputError(describe(f"counts of {tracker}", "no rows", "at least one event"))
    if counts.duplicated(["event_id", "metric"]).any():
        raise InputError(describe(f"counts of {tracker}", "a metric appears twice in one event", "one row each"))
    found = set(counts["metric"])
    unknown = sorted(found - METRICS.keys())
    if unknown:
        what = f"unknown metric {unknown[0]}"
        raise InputError(describe(f"counts of {tracker}", what, "metrics of this version", "evaluate again"))
    names = [name for name in METRICS if name in found]
    wide = counts.pivot_table(index="event_id", columns="metric", values=["num", "den"], aggfunc="first")
    return wide["num"][names].astype(float), wide["den"][names].astype(float)


def _check_same_events(pooled: dict[str, tuple]) -> None:
    events = {name: set(num.index) for name, (num, _) in pooled.items()}
    first = next(iter(events), None)
    for name, found in events.items():
        if found != events[first]:
            what = f"{len(found)} events for {name} and {len(events[first])} for {first}, not the same ones"
            raise InputError(describe("metrics table", what, "all trackers on the same events"))


def _ratio(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    num, den = np.asarray(num, dtype=np.float64), np.asarray(den, dtype=np.float64)
    return np.where(den > 0, num / np.where(den > 0, den, 1.0), np.nan)


def _pooled_rows(num: pd.DataFrame, den: pd.DataFrame, options: TableOptions) -> list[dict]:
    n_events, names = len(num), list(num.columns)
    total_num, total_den = num.sum().to_numpy(), den.sum().to_numpy()
    value = _ratio(total_num, total_den)
    unknown = np.full(len(names), np.nan)
    boot_lo, boot_hi = unknown, unknown
    if n_events > 1:
        boot_lo, boot_hi = intervals.event_bootstrap(num.to_numpy(), den.to_numpy(), options.replicas, options.seed)
    rows = []
    for i, name in enumerate(names):
        row = {"metric": name, "value": value[i], "n_num": total_num[i], "n_den": total_den[i]}
        bootstrap = {"lo": boot_lo[i], "hi": boot_hi[i]}
        if METRICS[name].kind != "binomial":
            rows.append({**row, **bootstrap})
            continue
        lo, hi = intervals.interval_named(options.interval)(total_num[i], total_den[i])
        rows.append({**row, "lo": lo, "hi": hi})
        if n_events >= BOOTSTRAP_EVENTS:
            rows.append({**row, **bootstrap, "metric": f"{name}/bootstrap"})
    return rows


def _mean_rows(num: pd.DataFrame, den: pd.DataFrame) -> list[dict]:
    rows = []
    for name in num.columns:
        if METRICS[name].kind == "count":  # the pooled value is the mean already
            continue
        ratios = _ratio(num[name], den[name])
        known = ratios[~np.isnan(ratios)]
        mean = known.mean() if known.size else np.nan
        error = known.std(ddof=1) / np.sqrt(known.size) if known.size > 1 else np.nan
        row = {"metric": f"{name}/event_mean", "value": mean, "lo": mean - error, "hi": mean + error}
        rows.append({**row, "n_events": known.size})
    return rows


def _region_rows(item: Measured, events: pd.Index, options: TableOptions) -> list[dict]:
    """Efficiencies by region of the particle, fake rates by region of the majority particle."""
    rows = []
    fiducial = None if item.candidates is None else item.candidates[item.candidates["fiducial"]]
    for frame, metrics in ((item.particles, _PARTICLE_METRICS), (fiducial, _CANDIDATE_METRICS)):
        if frame is None:
            continue
        for region, mask in REGIONS.items():
            if region in ("prompt", "secondary") and "vr" not in frame:
                continue
            inside = frame[mask(frame)]
            den = inside.groupby("event_id").size().reindex(events, fill_value=0).to_numpy(float)
            for metric, column in metrics.items():
                num = inside.groupby("event_id")[column].sum().reindex(events, fill_value=0).to_numpy(float)
                rows += _region_pair(metric, region, num, den, options)
    return rows


def _region_pair(metric: str, region: str, num: np.ndarray, den: np.ndarray, options: TableOptions) -> list[dict]:
    k, n = num.sum(), den.sum()
    lo, hi = intervals.interval_named(options.interval)(k, n)
    row = {"metric": metric, "region": region, "value": float(_ratio(k, n)), "n_num": k, "n_den": n}
    rows = [{**row, "lo": lo, "hi": hi}]
    if len(num) >= BOOTSTRAP_EVENTS:
        lo, hi = intervals.event_bootstrap(num, den, options.replicas, options.seed)
        rows.append({**row, "metric": f"{metric}/bootstrap", "lo": lo, "hi": hi})
    return rows


def _difference_rows(tracker: tuple, reference: tuple, options: TableOptions) -> list[dict]:
    if len(tracker[0]) < 2:
        return []
    names = [name for name in tracker[0].columns if name in reference[0] and METRICS[name].kind != "count"]
    arrays = [frame.loc[tracker[0].index, names].to_numpy() for frame in (*tracker, *reference)]
    value, lo, hi = intervals.paired_bootstrap(*arrays, options.replicas, options.seed)
    suffix = f"/minus:{options.reference}"
    return [{"metric": name + suffix, "value": value[i], "lo": lo[i], "hi": hi[i]} for i, name in enumerate(names)]
