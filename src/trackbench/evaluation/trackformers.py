"""The table of the Trackformers' first phase: floor, ceilings, trained and other trackers on sets of few tracks.

The source quotes unweighted means over events of per-event ratios, all particles with hits in the denominator, so
every row has three kinds of each metric, named as in ``evaluation.tables``:

``dm/event_mean``      mean of the per-event ratios +- its standard error: what the readable table shows
``dm``                 pooled over events, with the event-bootstrap interval (16 to 84 percentile)
``dm/minus:NAME``      mean over events of the per-event difference to the floor row NAME +- its standard error

Metrics: ``trackml_score``, ``fit_accuracy``; ``dm`` and ``perfect`` per particle, of candidates with at least 3 hits;
``lhc`` per candidate with at least 3 hits, ``lhc_all`` per cluster of any size; ``dm_fast`` = DM of particles with
pT > 0.9 GeV and at least 3 hits, the convention of HEPTv2. Costs: ``network_ms``, ``clustering_ms``, ``total_ms``
(wall clock), the same with ``_cpu_ms`` (CPU process time, not of networks on a GPU): median over events with the 16
to 84 percentile; ``n_weights``. Sizes: ``n_tracks``, ``n_hits``, means per event.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.intervals import event_bootstrap
from trackbench.evaluation.published import QUOTED
from trackbench.evaluation.tables import Measured, counts_by_event
from trackbench.evaluation.trackformers_published import headline_rows

COLUMNS = ("set", "row", "kind", "metric", "value", "lo", "hi", "n_num", "n_den", "n_events", "source", "label")
KINDS = ("floor", "ceiling", "trained", "untrained", QUOTED)  # in the order of the table
METRICS = ("trackml_score", "fit_accuracy", "perfect", "dm", "lhc", "lhc_all", "dm_fast")
FAST_PT = 0.9  # [GeV], exclusive
FAST_HITS = 3

_ENDINGS = {
    "counts": "-counts.csv",
    "particles": "-particles.parquet",
    "candidates": "-candidates.parquet",
    "timing": "-timing.csv",
    "run": "-run.json",
}


@dataclass(frozen=True)
class Entry:
    """What was measured of one row on one set.

    set_name: data set of the test, "10-50"; row: name of the row
    kind: "floor" (no machine learning), "ceiling" (truth behind it), "trained" or "untrained"
    measured: evaluated with all particles as targets (``TruthSelection(pt_min=0, eta_max=inf, min_layers=1)``)
    label: shown with the row, such as "demo"; trained_on: set of the training, "" = not trained
    n_weights: of the network, default what the run file says
    """

    set_name: str
    row: str
    kind: str
    measured: Measured
    label: str = ""
    trained_on: str = ""
    n_weights: int | None = None

    def __post_init__(self):
        if self.kind not in KINDS[:-1]:
            what = f"kind '{self.kind}'"
            raise ConfigError(describe(f"row {self.row} of {self.set_name}", what, "one of " + ", ".join(KINDS[:-1])))


@dataclass(frozen=True)
class FirstPhaseOptions:
    """How the numbers are made: replicas and seed of the bootstrap, source of measured rows."""

    replicas: int = 1000
    seed: int = 0
    source: str = "measured here (simulated)"


def read_entries(rows: Sequence[Mapping], paths: Iterable[str | Path]) -> list[Entry]:
    """Read the files of every row.

    rows: mappings with ``set row kind`` and, where they apply, ``label trained_on n_weights``; ``file`` is the name
        in the file names if that is not the row's
    paths: files of a run in any order: ``.../tracks-{set}/{file}-counts.csv`` and its like (``_ENDINGS``); all but
        the counts may be missing, others are ignored
    Raises ConfigError for a row without counts.
    """
    found = {(path.parent.name, path.name): path for path in map(Path, paths)}
    entries = []
    for row in rows:
        folder, stem = f"tracks-{row['set']}", row.get("file", row["row"])
        files = {kind: found.get((folder, stem + ending)) for kind, ending in _ENDINGS.items()}
        if files["counts"] is None:
            what = f"no {folder}/{stem}{_ENDINGS['counts']} among the files"
            raise ConfigError(describe(f"row {row['row']} of {row['set']}", what, "its counts"))
        options = {key: row[key] for key in ("label", "trained_on", "n_weights") if row.get(key)}
        entries.append(Entry(row["set"], row["row"], row["kind"], Measured.load(**files), **options))
    return entries


def first_phase_table(
    entries: Sequence[Entry], options: FirstPhaseOptions | None = None, published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Build the long table.

    entries: rows of all sets; those of one set on the same events
    published: of ``trackformers_published.read_published``; quoted rows of the sets in ``entries`` are appended
    Returns ``COLUMNS``, per set in the order of ``KINDS``; quoted rows have the source "quoted: ... [caveat]".
    Raises ConfigError if a set has no floor or no ceiling row or a row twice, InputError for rows of other events or
    of another truth selection.
    """
    options = options or FirstPhaseOptions()
    parts = []
    for set_name in dict.fromkeys(entry.set_name for entry in entries):
        mine = [entry for entry in entries if entry.set_name == set_name]
        floor = _check_set(set_name, mine)
        base = ratios_by_event(floor)
        for kind in KINDS[:-1]:
            for entry in (entry for entry in mine if entry.kind == kind):
                parts.append(_measured_rows(entry, floor, base, options))
        if published is not None:
            parts.append(_quoted(published, set_name))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)] if parts else pd.DataFrame(columns=list(COLUMNS))


def timing_statement(entries: Sequence[Entry]) -> str:
    """Say on what the times were taken, from the run files; "" without any."""
    runs = [entry.measured.run for entry in entries if entry.measured.run and entry.measured.timing is not None]
    texts = []
    for run in runs:
        threads = run.get("threads")
        parts = [run.get("machine", {}).get("cpu"), f"device {run['device']}" if run.get("device") else None]
        texts.append(", ".join([*filter(None, parts), *([f"{threads} CPU threads"] if threads else [])]))
    return "; ".join(dict.fromkeys(texts)).replace(" 1 CPU threads", " 1 CPU thread")


def demo_note(names: Iterable[str]) -> list[str]:
    """A sentence on undertrained models if a label, or a name with its label, says "demo"; else nothing."""
    if any(re.search(r"\bdemo\b", name) for name in names):
        return ["A demo is trained for minutes and reproduces no published model."]
    return []


def ratios_by_event(entry: Entry) -> dict[str, pd.DataFrame]:
    """Numerator and denominator of each metric of ``METRICS`` in every event.

    Returns metric -> table with ``num den``, one row per event (index event_id, ascending); ``dm_fast`` only with
    the particles, which must be all particles with hits. Raises InputError if they are not.
    """
    name = f"{entry.row} of {entry.set_name}"
    num, den = counts_by_event(name, entry.measured.counts)
    plain = [metric for metric in METRICS if metric in num]
    ratios = {metric: pd.DataFrame({"num": num[metric], "den": den[metric]}) for metric in plain}
    ratios["lhc_all"] = pd.DataFrame({"num": num["lhc"], "den": num["n_clusters"]})
    particles = entry.measured.particles
    if particles is not None:
        _check_particles(name, particles, den["fit_accuracy"])
        fast = particles[(particles["pt"] > FAST_PT) & (particles["n_hits"] >= FAST_HITS)]
        found = fast.groupby("event_id")["dm"].agg(["sum", "count"]).reindex(num.index, fill_value=0)
        ratios["dm_fast"] = found.rename(columns={"sum": "num", "count": "den"}).astype(float)
    return ratios


def event_mean(ratios: pd.DataFrame) -> tuple[float, float, int]:
    """Unweighted mean over events of num / den, its standard error and the number of events with a ratio."""
    return _mean(_per_event(ratios))


def _mean(values: np.ndarray) -> tuple[float, float, int]:
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if known.size else np.nan
    error = float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else np.nan
    return mean, error, known.size


def _per_event(ratios: pd.DataFrame) -> np.ndarray:
    num, den = ratios["num"].to_numpy(np.float64), ratios["den"].to_numpy(np.float64)
    return np.divide(num, den, out=np.full(len(num), np.nan), where=den > 0)


def _check_set(set_name: str, entries: list[Entry]) -> Entry:
    """Refuse sets that cannot be read without floor and ceilings. Returns the floor."""
    where = f"first-phase table of {set_name}"
    names = [entry.row for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(describe(where, f"row {twice} twice", "each row once"))
    for kind, example in (("floor", "hit_angles"), ("ceiling", "true_targets")):
        if not any(entry.kind == kind for entry in entries):
            raise ConfigError(describe(where, f"no {kind} row", f"a row such as {example}", "add it to the rows"))
    floor = next(entry for entry in entries if entry.kind == "floor")
    events = set(floor.measured.counts["event_id"])
    for entry in entries:
        found = set(entry.measured.counts["event_id"])
        if found != events:
            what = f"{len(found)} events for {entry.row} and {len(events)} for {floor.row}, not the same ones"
            raise InputError(describe(where, what, "all rows on the same events"))
    return floor


def _check_particles(name: str, particles: pd.DataFrame, hits: pd.Series) -> None:
    """All particles with hits hold all hits of particles; fewer means that a selection was made."""
    held = particles.groupby("event_id")["n_hits"].sum().reindex(hits.index, fill_value=0)
    wrong = held.to_numpy() != hits.to_numpy()
    if wrong.any():
        event = hits.index[wrong][0]
        what = f"its particles hold {held[event]} of {hits[event]:.0f} hits of event {event}"
        remedy = "evaluate with pt_min 0, eta_max .inf, min_layers 1"
        raise InputError(describe(f"particles of {name}", what, "all particles with hits", remedy))


def _measured_rows(entry: Entry, floor: Entry, base: dict, options: FirstPhaseOptions) -> pd.DataFrame:
    ratios = ratios_by_event(entry)
    rows = []
    for metric in METRICS:
        if metric not in ratios:
            continue
        found = ratios[metric]
        mean, error, n_known = event_mean(found)
        rows.append({"metric": f"{metric}/event_mean", **_around(mean, error), "n_events": n_known})
        rows.append({"metric": metric, **_pooled(found, options), "n_events": len(found)})
        if entry is not floor and metric in base:
            mean, error, n_known = _mean(_per_event(found) - _per_event(base[metric]))
            rows.append({"metric": f"{metric}/minus:{floor.row}", **_around(mean, error), "n_events": n_known})
    rows += _size_rows(entry.measured) + _cost_rows(entry)
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("set", "row", "kind")])
    facts = {"set": entry.set_name, "row": entry.row, "kind": entry.kind, "label": entry.label}
    return frame.assign(**facts, source=options.source)


def _around(mean: float, error: float) -> dict:
    return {"value": mean, "lo": mean - error, "hi": mean + error}


def _pooled(ratios: pd.DataFrame, options: FirstPhaseOptions) -> dict:
    num, den = ratios["num"].to_numpy(np.float64), ratios["den"].to_numpy(np.float64)
    lo, hi = np.nan, np.nan
    if len(num) > 1:
        lo, hi = event_bootstrap(num, den, options.replicas, options.seed)
    value = num.sum() / den.sum() if den.sum() else np.nan
    return {"value": value, "lo": lo, "hi": hi, "n_num": num.sum(), "n_den": den.sum()}


def _size_rows(measured: Measured) -> list[dict]:
    num, _ = counts_by_event("sizes", measured.counts)
    pairs = (("n_tracks", "n_targets"), ("n_hits", "n_hits"))
    return [{"metric": name, "value": float(num[count].mean()), "n_events": len(num)} for name, count in pairs]


def _cost_rows(entry: Entry) -> list[dict]:
    rows = []
    timing, run = entry.measured.timing, entry.measured.run or {}
    on_gpu = str(run.get("device") or "cpu") != "cpu"  # CPU time is then no time of the network
    if timing is not None and len(timing):
        for column, ending in (("wall_s", "ms"), ("cpu_s", "cpu_ms")):
            times = 1e3 * timing.pivot_table(index="event_id", columns="stage", values=column, aggfunc="sum")
            for stage in ("network", "clustering", "total"):
                if stage in times and not (stage == "network" and ending == "cpu_ms" and on_gpu):
                    lo, middle, hi = np.percentile(times[stage].fillna(0.0), [16, 50, 84])
                    row = {"metric": f"{stage}_{ending}", "value": middle, "lo": lo, "hi": hi}
                    rows.append({**row, "n_events": len(times)})
    n_weights = run.get("n_weights") if entry.n_weights is None else entry.n_weights
    if n_weights is not None:
        rows.append({"metric": "n_weights", "value": float(n_weights), "n_events": 0})
    return rows


def _quoted(published: pd.DataFrame, set_name: str) -> pd.DataFrame:
    rows = headline_rows(published)
    rows = rows[rows["set"] == set_name]
    # The source's ratios are means over events.
    ratio = rows["metric"].isin(METRICS)
    caveat = (" [" + rows["caveat"] + "]").where(rows["caveat"] != "", "")
    return pd.DataFrame(
        {
            "set": set_name,
            "row": rows["row"],
            "kind": QUOTED,
            "metric": rows["metric"] + np.where(ratio, "/event_mean", ""),
            "value": rows["value"],
            "n_events": 0,
            "source": QUOTED + ": " + rows["source"] + caveat,
            "label": "",
        }
    ).reindex(columns=list(COLUMNS))
