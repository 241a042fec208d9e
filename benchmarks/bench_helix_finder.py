"""Helix finder: efficiency, fakes and CPU time on simulated events, beside the helix hash.

    python benchmarks/bench_helix_finder.py FOLDER [--repeats 7] [--timed 3] [--out FILE]

FOLDER holds a folder of events for each of ``SAMPLES``, made by ``trackbench simulate`` (``make bench`` does it) with
a seed no setting was tuned on. Hits are pixel hits, noise included, and all hits for the full detector. Efficiency
and fakes are those of all events of a sample together; CPU seconds are of one call from hits to labels and
parameters, on the first events, both trackers in turn in one process after a call that compiles. The first call of
a new process is given apart, with an empty and with a filled cache of compiled code.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported

import numpy as np

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import list_events, read_event
from trackbench.evaluation.intervals import clopper_pearson
from trackbench.evaluation.metrics import evaluate_event
from trackbench.runner import machine_facts
from trackbench.trackers.base import build_tracker

RESULT = Path(__file__).resolve().parent / "results" / "helix_finder.json"
METRICS = ("dm", "fake_rate", "fake_all_pt", "perfect")


class Sample(NamedTuple):
    """A row of the table.

    folder: of its events; settings: of the finder; hash_settings: of the helix hash, None = not run
    detector: see ``DataSelection``; lost: share of the hits dropped beside those the simulation drops
    """

    name: str
    folder: str
    settings: dict
    hash_settings: dict | None = None
    detector: str = "pixel"
    lost: float = 0.0


SAMPLES = (
    Sample("200 pile-up", "mu200", {}, {}),
    Sample("20 pile-up", "mu20", {}, {}),
    Sample("200 pile-up, sigma_z 55 mm", "sigma_z55", {"max_z0": 180.0}),
    Sample("200 pile-up, 1 % of hits lost besides", "mu200", {}, lost=0.01),
    Sample("200 pile-up, 4 % of hits lost besides", "mu200", {}, lost=0.04),
    Sample("200 pile-up, full detector", "mu200", {}, detector="full"),
)


def load(prefix, event_id, sample):
    """Hits and truth of one event; particles are counted in the hits that are left."""
    hits, particles, truth = read_event(prefix, RAW_PARTS)
    if sample.lost:
        kept = np.random.default_rng([77, event_id]).random(len(hits)) >= sample.lost
        hits = hits[kept].reset_index(drop=True)
        truth = truth[truth["hit_id"].isin(hits["hit_id"])].reset_index(drop=True)
    return build_event((hits, particles, truth), DataSelection(sample.detector), event_id)


def seconds(function, clock):
    """Result of function() and the seconds it took."""
    start = clock()
    result = function()
    return result, clock() - start


def spread(values):
    """Return min, median and max of the values, rounded."""
    low, middle, high = np.quantile(values, [0.0, 0.5, 1.0])
    return {"min": round(float(low), 3), "median": round(float(middle), 3), "max": round(float(high), 3)}


def pooled(counts):
    """Metric name -> value over all events with its 68.27 % interval."""
    found = {}
    for name in METRICS:
        if name in counts[0]:
            num, den = np.sum([event[name] for event in counts], axis=0)
            low, high = clopper_pearson(num, den)
            found[name] = {"value": num / den, "lo": float(low), "hi": float(high), "num": int(num), "den": int(den)}
    return found


def run_sample(folder, sample, args):
    """Measure both trackers on the events of a sample. Returns its entry of the report."""
    trackers = {"helix_finder": build_tracker("helix_finder", sample.settings)}
    if sample.hash_settings is not None:
        trackers["helix_hash"] = build_tracker("helix_hash", sample.hash_settings)
    counts, times, n_hits = {name: [] for name in trackers}, {name: [] for name in trackers}, []
    events = list_events(folder / sample.folder)
    for number, (event_id, prefix) in enumerate(events):
        hits, truth = load(prefix, event_id, sample)
        n_hits.append(len(hits))
        for name, tracker in trackers.items():
            tracks = tracker.reconstruct_tracks(hits)
            counts[name].append(evaluate_event(tracks.labels, truth, parameters=tracks.parameters).counts)
        if number < args.timed:
            calls = {name: [] for name in trackers}
            for _ in range(args.repeats):
                for name, tracker in trackers.items():
                    calls[name].append(
                        seconds(lambda call=tracker, hits=hits: call.reconstruct(hits), time.process_time)[1]
                    )
            for name, values in calls.items():
                times[name].append({"event": event_id, "n_hits": len(hits), **spread(values)})
    entry = {"sample": sample.name, "settings": sample.settings, "events": len(events)}
    entry["mean_hits"] = round(float(np.mean(n_hits)))
    return entry | {name: {**pooled(counts[name]), "cpu_s": times[name]} for name in trackers}


def two_threads(folder, repeats):
    """Wall seconds of one thread / of two, in turn on the first event of the first sample."""
    event_id, prefix = list_events(folder / SAMPLES[0].folder)[0]
    hits, _ = load(prefix, event_id, SAMPLES[0])
    one, two = (build_tracker("helix_finder", {"threads": n}) for n in (1, 2))
    two.reconstruct(hits)
    pairs = [
        [seconds(lambda t=t: t.reconstruct(hits), time.perf_counter)[1] for t in (one, two)] for _ in range(repeats)
    ]
    single, double = np.array(pairs).T
    return {"wall_s_one": spread(single), "wall_s_two": spread(double), "one_over_two": spread(single / double)}


def first_call():
    """CPU seconds of the first call on ten hits in a new process, compiling and with the code cached."""
    code = (
        "import time, numpy as np\n"
        "from trackbench.data.hits import Hits\n"
        "from trackbench.trackers.helix_finder import Config, Tracker\n"
        "n = np.arange(10)\n"
        "hits = Hits(n, np.full((10, 3), 33.0) * [1, 0, 0], 0 * n + 8, 0 * n + 2, n, n >= 0)\n"
        "start = time.process_time()\n"
        "Tracker(Config()).reconstruct_tracks(hits)\n"
        "print(time.process_time() - start)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        runs = [subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True) for _ in "ab"]
    return dict(zip(("compiling", "cached"), (round(float(run.stdout), 2) for run in runs), strict=True))


def cost(times):
    """Median CPU seconds of the timed events: ``1.42 to 1.61``."""
    medians = sorted(entry["median"] for entry in times)
    return f"{medians[0]:.2f} to {medians[-1]:.2f}"


def table(entries):
    """The report in lines of text."""
    head = ("sample", "events", "hits", "DM", "purity fakes", "all fakes", "perfect", "CPU s", "hash: DM, CPU s")
    yield "{:40s} {:>6s} {:>7s} {:>16s} {:>12s} {:>10s} {:>8s} {:>14s}  {}".format(*head)
    for entry in entries:
        ours, other = entry["helix_finder"], entry.get("helix_hash")
        dm, fakes, every, perfect = (ours[name] for name in METRICS)
        error = f"{dm['value']:.4f} +- {(dm['hi'] - dm['lo']) / 2:.4f}"
        beside = f"{other['dm']['value']:.4f}, {cost(other['cpu_s'])}" if other else "-"
        yield (
            f"{entry['sample']:40s} {entry['events']:6d} {entry['mean_hits']:7d} {error:>16s} {fakes['value']:12.4f} "
            f"{every['value']:10.4f} {perfect['value']:8.4f} {cost(ours['cpu_s']):>14s}  {beside}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the folders " + ", ".join({s.folder: 0 for s in SAMPLES}))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--timed", type=int, default=3, help="events of each sample that are timed")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    compile_time = first_call()
    entries = [run_sample(args.folder, sample, args) for sample in SAMPLES]
    report = {
        "machine": machine_facts(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "numba", "llvmlite")},
        "selection": "pT >= 0.9 GeV, |eta| < 4, >= 3 layers; noise kept; all fakes: fitted pT > 0.9 GeV",
        "unit": "CPU s per call, one thread, hits to labels and parameters",
        "interval": "68.27 % Clopper-Pearson",
        "repeats": args.repeats,
        "first_call_cpu_s": compile_time,
        "two_threads": two_threads(args.folder, args.repeats),
        "samples": entries,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"first call, CPU s: {compile_time}")
    print(f"wall time of one thread / of two: {report['two_threads']['one_over_two']}")
    print("\n".join(table(entries)))
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
