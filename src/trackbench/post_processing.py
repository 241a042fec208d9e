"""What each step after the network of HEPTv2 gains and costs, one after the other on the same events.

Truth scores the labels of each step and nothing else. The steps: hits to the best query; fragments merged by their
embedding; spherical k-means; the physics clean-up of ``fitting.cleanup``, step by step.
"""

import itertools
import logging
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.intervals import event_bootstrap, paired_bootstrap
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.fitting.cleanup import CleanUp, CleanUpReport, clean_up
from trackbench.trackers.base import Timer
from trackbench.trackers.heptv2 import Tracker

log = logging.getLogger(__name__)

# step -> what it does; each goes on with the labels of the one before
STEPS = {
    "network": "features and network; no labels yet",
    "argmax": "hits to the best query (or seed, or cluster)",
    "merge": "fragments join what they resemble",
    "kmeans": "spherical k-means",
    "drop_outliers": "clean-up: hits that do not fit are left out, or split off if they are a track",
    "join": "clean-up: fragments of one track become one",
    "pick_up": "clean-up: compatible hits are added",
    "compete": "clean-up: candidates compete for hits, what is no track is rejected",
    "fit": "clean-up: final fits; the same labels",
}
METRICS = ("dm", "perfect", "fake_rate", "fake_all")  # of ``evaluation.definitions.METRICS``; and CPU
GAINS = {"dm": "dm_gain", "fake_all": "fake_all_gain"}  # metric -> its change by a step
CPU = "cpu_s"
COLUMNS = (
    "step",  # of STEPS
    "metric",  # of METRICS, of the values of GAINS, or CPU
    "n_events",
    "value",  # of METRICS: pooled over events after this step; CPU: CPU seconds of this step alone, mean over events
    "lo",  # 16 and 84 % of the bootstrap over events, paired by event for gains
    "hi",
)
_CLEAN_UP = ("drop_outliers", "join", "pick_up", "compete")


def post_processing_study(
    tracker: Tracker,
    events: Iterable[tuple[Hits, Truth]],
    selection: TruthSelection | None = None,
    kmeans: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Reconstruct each event, one step after the other.

    tracker: its method, cut and weights are used; its merge, kmeans and clean_up are not
    events: hits and truth, row by row; only hits reach the tracker
    selection: particles asked for; kmeans: turns of it, 0 = without this step; seed: of the bootstrap
    Returns ``COLUMNS``, rows step by step: four metrics, the CPU seconds, and the change of two metrics since the step
    before; "network" and "fit" have CPU seconds only, "argmax" no changes.
    The sum of all CPU seconds is what the tracker with all steps takes. The first event is seen once before, untimed.
    Values are NaN where no event has a denominator.
    Raises InputError without events, ConfigError for a negative ``kmeans``.
    """
    if kmeans < 0:
        raise ConfigError(describe("post-processing study: kmeans", f"value {kmeans}", ">= 0"))
    counts: dict[tuple[str, str], list[tuple[float, float]]] = {}
    n_events = 0
    for hits, truth in events:
        if not n_events:
            list(_steps(tracker, hits, kmeans))
        n_events += 1
        for step, labels, seconds in _steps(tracker, hits, kmeans):
            if labels is not None:
                found = evaluate_event(labels, truth, selection or TruthSelection()).counts
                for metric in METRICS:
                    counts.setdefault((step, metric), []).append(found[metric])
            counts.setdefault((step, CPU), []).append((seconds, 1.0))
        log.info("event %d: %d hits", hits.event_id, len(hits))
    if not n_events:
        raise InputError(describe("post-processing study", "no events", "at least one"))
    rows = [{"step": step, "metric": metric, **_pooled(pairs, seed)} for (step, metric), pairs in counts.items()]
    table = pd.DataFrame(rows + _gains(counts, seed), columns=list(COLUMNS))
    return table.sort_values("step", key=lambda step: step.map(list(STEPS).index), kind="stable", ignore_index=True)


def _steps(tracker: Tracker, hits: Hits, kmeans: int) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """Yield step, labels after it (n,) int64 or None, and its CPU seconds."""
    index = np.flatnonzero(hits.valid)
    index = index[np.argsort(hits.hit_id[index], kind="stable")]
    index = index[tracker.seen(hits.take(index))]
    inside = hits.take(index)

    def spread(labels: np.ndarray) -> np.ndarray:
        every = np.full(len(hits), -1, dtype=np.int64)
        every[index] = labels
        return every

    found = np.empty(0, dtype=np.int64)
    for step, labels, seconds in _of_network(tracker, inside, kmeans) if index.size else _nothing(kmeans):
        found = found if labels is None else labels
        yield step, None if labels is None else spread(labels), seconds
    for step, labels, seconds in _of_clean_up(inside, found):
        yield step, None if labels is None else spread(labels), seconds


def _of_network(tracker: Tracker, hits: Hits, kmeans: int) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """Yield the steps before the clean-up. hits: what the tracker sees, sorted by hit_id, at least one."""
    from trackbench.trackers.layers.merging import merge_fragments, spherical_kmeans

    timer = Timer()
    labels, embedding = tracker.assign(hits, timer)
    yield "network", None, timer.cpu["features"] + timer.cpu["network"]
    yield "argmax", labels.cpu().numpy(), timer.cpu["clustering"]
    turns = {"merge": (merge_fragments,), "kmeans": (spherical_kmeans, kmeans)}
    for step, (change, *arguments) in turns.items():
        if step == "merge" or kmeans:
            start = time.process_time()
            labels = change(embedding, labels, *arguments)
            given = labels.cpu().numpy()
            yield step, given, time.process_time() - start


def _nothing(kmeans: int) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """Yield the same steps of an event without hits."""
    yield "network", None, 0.0
    for step in ("argmax", "merge", "kmeans")[: 3 if kmeans else 2]:
        yield step, np.empty(0, dtype=np.int64), 0.0


def _of_clean_up(hits: Hits, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray | None, float]]:
    """Yield the steps of the clean-up; its seconds are those of the one call with all steps."""
    report = CleanUpReport()
    start = time.process_time()
    clean_up(hits, labels, CleanUp(), report)
    total = time.process_time() - start
    # What belongs to no step, such as sorting the hits, is there for the first one as for all.
    seconds = {**report.cpu_s, "drop_outliers": total - sum(report.cpu_s.values()) + report.cpu_s["drop_outliers"]}
    for number, step in enumerate(_CLEAN_UP):
        settings = CleanUp(**{later: False for later in _CLEAN_UP[number + 1 :]})
        yield step, clean_up(hits, labels, settings).labels, seconds[step]
    yield "fit", None, seconds["fit"]


def _pooled(pairs: list[tuple[float, float]], seed: int) -> dict[str, float]:
    """Pooled ratio and its bootstrap. pairs: numerator and denominator of each event."""
    num, den = np.array(pairs, dtype=np.float64).T
    lo, hi = event_bootstrap(num, den, seed=seed)
    return {"n_events": len(pairs), "value": num.sum() / den.sum() if den.sum() else np.nan, "lo": lo, "hi": hi}


def _gains(counts: dict[tuple[str, str], list[tuple[float, float]]], seed: int) -> list[dict]:
    """Rows of what each step changes; counts: (step, metric) -> numerator and denominator of each event, in order."""
    rows = []
    for metric, name in GAINS.items():
        steps = [step for step, found in counts if found == metric]
        for before, step in itertools.pairwise(steps):
            (num_a, den_a), (num_b, den_b) = (np.array(counts[s, metric], np.float64).T for s in (step, before))
            value, lo, hi = paired_bootstrap(num_a, den_a, num_b, den_b, seed=seed)
            rows.append({"step": step, "metric": name, "n_events": len(num_a), "value": value, "lo": lo, "hi": hi})
    return rows


def post_processing_markdown(table: pd.DataFrame, note: str) -> str:
    """Write the study for people, a row per step. table: from ``post_processing_study``; note: which events."""
    titles = {
        "dm": "DM",
        GAINS["dm"]: "its change",
        "perfect": "perfect",
        "fake_rate": "fakes (purity)",
        "fake_all": "fakes (all candidates)",
        GAINS["fake_all"]: "their change",
        CPU: "CPU [s]",
    }
    lines = [["step", *titles.values()], ["---", *["---:"] * len(titles)]]
    found = table.set_index(["step", "metric"])
    for step in dict.fromkeys(table["step"]):
        lines.append([STEPS[step], *(_cell(found, step, metric) for metric in titles)])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    how = (
        "Each step goes on from the one before; changes are those by the step, with 16 and 84 % of the bootstrap paired"
    )
    return f"{text}\n\n{note}. {how} by event in brackets; CPU seconds are of the step alone, per event.\n"


def _cell(found: pd.DataFrame, step: str, metric: str) -> str:
    """Value of a step; a change with its sign and interval. found: the study by step and metric."""
    if (step, metric) not in found.index or np.isnan(found.loc[(step, metric), "value"]):
        return "\N{EN DASH}"
    value, lo, hi = found.loc[(step, metric), ["value", "lo", "hi"]].astype(float)
    text = f"{value:+.3f} ({lo:+.3f}, {hi:+.3f})" if metric in GAINS.values() else f"{value:.3f}"
    return text.replace("-", "\N{MINUS SIGN}")
