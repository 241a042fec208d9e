"""CPU time and efficiency of the helix-hash scan against the same scan in plain NumPy.

    python benchmarks/bench_helix_hash.py EVENT... [--repeats 7] [--naive-repeats 3] [--out FILE]

EVENT is a prefix such as ``data/event000000002`` (hits, particles, truth; csv, csv.gz or parquet); all
pixel hits are used, noise included. Printed per event: double-majority efficiency (DM) for several seeds,
CPU seconds of one call from hits to labels (min, median, max), and for the first event the ratio NumPy /
compiled with both in turn in one process. The first call of a new process is given apart, with an empty
and with a filled cache of compiled code.
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

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from naive_helix_hash import NaiveTracker

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.evaluation.metrics import evaluate_event
from trackbench.runner import machine_facts
from trackbench.trackers.helix_hash import Config, Tracker

RESULT = Path(__file__).resolve().parent / "results" / "helix_hash.json"
METRICS = ("dm", "fake_rate", "fake_dm")
SEEDS = (0, 1, 2)


def cpu_seconds(function):
    """Return the result of function() and the CPU seconds it took."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def spread(values):
    """Return min, median and max of the values, rounded."""
    low, middle, high = np.quantile(values, [0.0, 0.5, 1.0])
    return {"min": round(float(low), 3), "median": round(float(middle), 3), "max": round(float(high), 3)}


def efficiency(hits, truth):
    """Metric name -> value for each of SEEDS, with the number of targets."""
    found = {}
    for seed in SEEDS:
        counts = evaluate_event(Tracker(Config(), seed).reconstruct(hits), truth).counts
        found["targets"] = int(counts["dm"][1])
        for name in METRICS:
            found.setdefault(name, []).append(round(counts[name][0] / counts[name][1], 4))
    return found


def compare(hits, repeats):
    """Run NumPy and compiled scan in turn; return their CPU seconds, the ratio and whether labels agree."""
    fast, slow = [], []
    for _ in range(repeats):
        labels, seconds = cpu_seconds(lambda: Tracker(Config()).reconstruct(hits))
        fast.append(seconds)
        expected, seconds = cpu_seconds(lambda: NaiveTracker(Config()).reconstruct(hits))
        slow.append(seconds)
    ratio = spread(np.array(slow) / np.array(fast))
    return {
        "numpy_cpu_s": spread(slow),
        "cpu_s": spread(fast),
        "numpy_over_compiled": ratio,
        "labels_that_differ": int(np.count_nonzero(labels != expected)),
        "repeats": repeats,
    }


def first_call():
    """CPU seconds of the first call on ten hits in a new process, compiling and with the code cached."""
    code = (
        "import time, numpy as np\n"
        "from trackbench.data.hits import Hits\n"
        "from trackbench.trackers.helix_hash import Config, Tracker\n"
        "n = np.arange(10)\n"
        "hits = Hits(n, np.ones((10, 3)) * 40, 0 * n + 8, 0 * n + 2, n, n >= 0)\n"
        "start = time.process_time()\n"
        "Tracker(Config(passes=1)).reconstruct(hits)\n"
        "print(time.process_time() - start)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        runs = [subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True) for _ in "ab"]
    return dict(zip(("compiling", "cached"), (round(float(run.stdout), 2) for run in runs), strict=True))


def run_event(prefix, repeats):
    """Measure one event; print and return its entry, and the hits."""
    hits, truth = build_event(read_event(prefix, RAW_PARTS), DataSelection("pixel"))
    Tracker(Config()).reconstruct(hits)
    seconds = [cpu_seconds(lambda: Tracker(Config()).reconstruct(hits))[1] for _ in range(repeats)]
    name = f"{prefix.parent.name}/{prefix.name}"
    entry = {"event": name, "n_hits": len(hits), "cpu_s": spread(seconds), **efficiency(hits, truth)}
    print(json.dumps(entry))
    return entry, hits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", nargs="+", type=Path, help="prefixes of events with truth")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--naive-repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    measured = [run_event(prefix, args.repeats) for prefix in args.events]
    comparison = compare(measured[0][1], args.naive_repeats)
    print(json.dumps(comparison))
    report = {
        "machine": machine_facts(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "numba", "llvmlite")},
        "selection": "pT >= 0.9 GeV, |eta| < 4, >= 3 layers; pixel hits, noise kept",
        "unit": "CPU s per call, hits to labels",
        "seeds": SEEDS,
        "repeats": args.repeats,
        "first_call_cpu_s": first_call(),
        "events": [entry for entry, _ in measured],
        "comparison_on_first_event": comparison,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
