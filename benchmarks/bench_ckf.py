"""Combinatorial Kalman filter of ACTS: efficiency, fakes, pulls and CPU time, beside the helix finder.

    python benchmarks/bench_ckf.py FOLDER [--repeats 2] [--timed 3] [--events N] [--out FILE]

FOLDER holds a folder of events for each of ``SAMPLES``, made by ``trackbench simulate`` (``make bench`` does it) with
a seed no setting was tuned on. Hits are pixel hits or all hits, noise included. Efficiency and fakes are those of all
events of a sample together. CPU seconds are of one call from hits to labels and parameters, all trackers in turn on
each event in one process, after a call on ten hits that imports, compiles and builds the geometry; the first events
are timed several times. The first call in a new process is given apart.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported

import numpy as np
import pandas as pd
from bench_helix_finder import spread

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import list_events, read_event
from trackbench.evaluation.fit_quality import fit_numbers
from trackbench.evaluation.intervals import clopper_pearson
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.tables import REGIONS
from trackbench.machine import machine_facts, versions
from trackbench.trackers.base import Timer, build_tracker
from trackbench.trackers.ckf import Config
from trackbench.trackers.layers import acts_event, acts_finding, acts_passes
from trackbench.trackers.layers.acts_passes import passes

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/ckf.json"
METRICS = ("dm", "technical", "perfect", "fake_rate", "fake_all", "fake_all_pt")
SHOWN_REGIONS = ("prompt", "secondary", "central", "forward")
STAGES = ("read", "seeding", "finding", "ambiguity", "postprocess")
STOPPED = {"ckf_no_ambiguity": {"stop_after": "finding"}, "ckf_seeds": {"stop_after": "seeding"}}
LONG = {"max_z0": 180.0}  # for a beam spot of 55 mm


class Sample(NamedTuple):
    """A row of the table.

    folder: of its events; settings: of both trackers; detector: see ``DataSelection``; stopped: rows of ``STOPPED`` too
    """

    name: str
    folder: str
    settings: dict
    detector: str = "pixel"
    stopped: bool = False


SAMPLES = (
    Sample("200 pile-up", "mu200", {}, stopped=True),
    Sample("20 pile-up", "mu20", {}),
    Sample("200 pile-up, sigma_z 55 mm", "sigma_z55", LONG),
    Sample("200 pile-up, full detector", "mu200", {}, "full"),
    Sample("20 pile-up, full detector", "mu20", {}, "full"),
    Sample("200 pile-up, sigma_z 55 mm, full detector", "sigma_z55", LONG, "full"),
)
# sample -> what was asked for: (quantity, limit), a lower one of "dm", else an upper one
TARGETS = {
    "200 pile-up": (("dm", 0.975), ("fake_rate", 0.01), ("fake_all", 0.05), ("fake_all_pt", 0.05), ("cpu_s", 7.0)),
    "200 pile-up, full detector": (("dm", 0.95),),
}


def rows_of(sample):
    """Row -> (tracker, its settings)."""
    rows = {"ckf": ("ckf", sample.settings)}
    if sample.stopped:
        rows |= {name: ("ckf", {**sample.settings, **stop}) for name, stop in STOPPED.items()}
    return {**rows, "helix_finder": ("helix_finder", sample.settings)}


def timed_call(tracker, hits):
    """Tracks of one call, and its CPU seconds by stage and in total."""
    timer, start = Timer(), time.process_time()
    tracks = tracker.reconstruct_tracks(hits, timer)
    return tracks, {**timer.cpu, "total": time.process_time() - start}


def share(num, den):
    """A ratio with its 68.27 % interval; None where there is nothing to count."""
    if not den:
        return None
    low, high = clopper_pearson(num, den)
    return {"value": num / den, "lo": float(low), "hi": float(high), "num": int(num), "den": int(den)}


def by_region(results):
    """DM efficiency and perfect by region of the particle, fakes of all candidates by the eta of their fit."""
    particles = pd.concat([result.particles for result in results])
    candidates = pd.concat([result.candidates for result in results])
    found = {}
    for region in SHOWN_REGIONS:
        inside = particles[REGIONS[region](particles)]
        found[region] = {name: share(inside[name].sum(), len(inside)) for name in ("dm", "perfect")}
    fits = candidates.assign(eta=candidates["fit_eta"]).dropna(subset="eta")
    for region in ("central", "forward"):
        inside = fits[REGIONS[region](fits)]
        found[region]["fake_all"] = share(inside["fake_dm"].sum(), len(inside))
    return found


def fit_summary(results):
    """Resolution and width of the pull of each parameter of prompt tracks, with errors."""
    numbers = fit_numbers(pd.concat([result.residuals for result in results]))
    chosen = numbers[(numbers["origin"] == "prompt") & numbers["statistic"].isin(["resolution", "pull_width"])]
    found = {}
    for row in chosen.itertuples():
        entry = {"value": round(row.value, 4), "error": round((row.hi - row.lo) / 2, 4), "n": row.n}
        found.setdefault(row.quantity, {})[row.statistic] = {**entry, **({"unit": row.unit} if row.unit else {})}
    return found


def summary(results, times):
    """Entry of one row: pooled counts, regions, fits and CPU seconds.

    results: of each event; times: of each event, a list of calls
    """
    pooled = {name: [result.counts[name] for result in results] for name in METRICS if name in results[0].counts}
    entry = {name: share(*np.sum(counts, axis=0)) for name, counts in pooled.items()}
    entry["regions"] = by_region(results)
    if results[0].residuals is not None:
        entry["prompt_fits"] = fit_summary(results)
    medians = pd.DataFrame([pd.DataFrame(calls).median() for calls in times])
    entry["cpu_s"] = {"mean": round(float(medians["total"].mean()), 3), **spread(medians["total"])}
    stages = [stage for stage in STAGES if stage in medians]
    return entry | {"stages_cpu_s": {stage: round(float(medians[stage].mean()), 3) for stage in stages}}


def run_sample(folder, sample, args):
    """Measure all rows on the events of a sample. Returns its entry of the report."""
    trackers = {row: build_tracker(*tracker) for row, tracker in rows_of(sample).items()}
    results, times = {row: [] for row in trackers}, {row: [] for row in trackers}
    ratios, n_hits = [], []
    for number, (event_id, prefix) in enumerate(list_events(folder / sample.folder)[: args.events]):
        hits, truth = build_event(read_event(prefix, RAW_PARTS), DataSelection(sample.detector), event_id)
        n_hits.append(len(hits))
        if number == 0:
            ten = hits.take(np.linspace(0, len(hits) - 1, 10).astype(int))
            for tracker in trackers.values():
                tracker.reconstruct_tracks(ten)
        for row, tracker in trackers.items():
            tracks, cost = timed_call(tracker, hits)
            results[row].append(evaluate_event(tracks.labels, truth, parameters=tracks.parameters))
            times[row].append([cost])
        for _ in range(args.repeats - 1 if number < args.timed else 0):
            for row in ("ckf", "helix_finder"):
                times[row][-1].append(timed_call(trackers[row], hits)[1])
        pairs = zip(times["ckf"][-1], times["helix_finder"][-1], strict=True)
        ratios += [ours["total"] / peer["total"] for ours, peer in pairs]
    entry = {"sample": sample.name, "folder": sample.folder, "detector": sample.detector, "settings": sample.settings}
    entry |= {"events": len(n_hits), "mean_hits": round(float(np.mean(n_hits)))}
    entry["rows"] = {row: summary(results[row], times[row]) for row in trackers}
    return entry | {"ckf_over_helix_finder": spread(ratios)}


def first_call(folder):
    """CPU seconds of the first call on ten pixel hits in a new process: pyacts imported, geometry built."""
    event_id, prefix = list_events(folder / "mu20")[0]
    code = (
        "import sys, time\n"
        "from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event\n"
        "from trackbench.data.reader import read_event\n"
        "from trackbench.trackers.ckf import Config, Tracker\n"
        "raw = read_event(sys.argv[1], RAW_PARTS)\n"
        "hits, _ = build_event(raw, DataSelection('pixel'), int(sys.argv[2]))\n"
        "hits = hits.take(slice(0, 10))\n"
        "start = time.process_time()\n"
        "Tracker(Config()).reconstruct_tracks(hits)\n"
        "print(time.process_time() - start)\n"
    )
    command = [sys.executable, "-c", code, str(prefix), str(event_id)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout), 2)


def passes_used():
    """Passes of the default settings as plain values, as a test compares them; infinite limits are None."""

    def plain(value):
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            items = [plain(item) for item in value]
            return dict(zip(fields, items, strict=True)) if fields else items
        return None if isinstance(value, float) and math.isinf(value) else value

    default = Config()
    chosen = (default.min_pt, default.max_z0, default.max_d0)
    return {name: [plain(one) for one in passes(*chosen, name == "pixel")] for name in ("pixel", "full")}


def constants_used():
    """Numbers that all passes share, by name, and the resolutions of each volume."""
    modules = (acts_event, acts_finding, acts_passes)
    found = {name: value for module in modules for name, value in vars(module).items()}
    numbers = {name: value for name, value in found.items() if name.isupper() and type(value) in (int, float)}
    return numbers | {"SIGMA": {str(volume): list(pair) for volume, pair in sorted(acts_event.SIGMA.items())}}


def verdicts(entries):
    """What was asked for and what was measured: (sample, quantity, limit, measured, met)."""
    for entry in entries:
        ours = entry["rows"]["ckf"]
        for name, limit in TARGETS.get(entry["sample"], ()):
            measured = ours["cpu_s"]["mean"] if name == "cpu_s" else ours[name]["value"]
            met = bool(measured >= limit if name == "dm" else measured <= limit)
            yield {"sample": entry["sample"], "quantity": name, "limit": limit, "measured": measured, "met": met}


def lines(entry):
    """An entry of the report in lines of text."""
    yield f"\n{entry['sample']}: {entry['events']} events, {entry['mean_hits']:,} hits"
    for row, ours in entry["rows"].items():
        shares = "  ".join(f"{name} {ours[name]['value']:.4f}" for name in METRICS if name in ours)
        stages = " ".join(f"{name} {value:.2f}" for name, value in ours["stages_cpu_s"].items())
        regions = ", ".join(f"{name} {part['dm']['value']:.4f}" for name, part in ours["regions"].items())
        yield f"{row:18s} {shares}  CPU s {ours['cpu_s']['mean']:.2f} ({stages})"
        yield f"{'':18s} DM: {regions}"
        if "prompt_fits" in ours:
            fits = {name: fit["pull_width"]["value"] for name, fit in ours["prompt_fits"].items()}
            yield f"{'':18s} pull widths: {fits}"
    yield f"ckf / helix_finder, CPU s: {entry['ckf_over_helix_finder']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the folders " + ", ".join({s.folder: 0 for s in SAMPLES}))
    parser.add_argument("--repeats", type=int, default=2, help="calls on each of the timed events")
    parser.add_argument("--timed", type=int, default=3, help="events of each sample that are timed more than once")
    parser.add_argument("--events", type=int, help="only the first events of each sample")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    report = {
        "machine": machine_facts(),
        "commit": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
        "selection": "pT >= 0.9 GeV, |eta| < 4, >= 3 layers; noise kept; fake_all_pt: fitted pT > 0.9 GeV",
        "seed": "77 (simulation)",
        "unit": "CPU s per call, one thread, hits to labels and parameters; median of the calls on an event",
        "interval": "68.27 % Clopper-Pearson",
        "repeats": args.repeats,
        "first_call_cpu_s": first_call(args.folder),
        "settings": dataclasses.asdict(Config()),
        "passes": passes_used(),
        "constants": constants_used(),
        "samples": [],
    }
    for sample in SAMPLES:
        report["samples"].append(run_sample(args.folder, sample, args))
        print("\n".join(lines(report["samples"][-1])), flush=True)
    report["versions"] = versions()  # of packages that are loaded by now
    report["targets"] = list(verdicts(report["samples"]))
    print(f"\nfirst call: {report['first_call_cpu_s']} CPU s")
    for one in report["targets"]:
        word = "met" if one["met"] else "MISSED"
        print(f"{one['sample']}: {one['quantity']} {one['measured']:.4f}, asked for {one['limit']:g}: {word}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
