"""CPU time of the surface clusterers against scikit-learn and the hdbscan package, on the same hits.

    python benchmarks/bench_clustering.py EVENT-hits.parquet|csv|csv.gz [--repeats 7] [--out FILE]

Every surface of one event is clustered by our trackers and by the packages, in turn (interleaved), so that a
busy machine slows all alike. Printed: CPU seconds of one call (min, median, max) and ratios package / ours
per round. The first call of each (compilation, imports) is not counted.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread each; before numpy is imported

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.geometry.projection import REGIONS, project
from trackbench.runner import machine_facts
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS

RESULT = Path(__file__).resolve().parent / "results" / "clustering.json"
OURS = ("dbscan", "density_peaks", "iterative_window", "grid_window", "hdbscan")
# package -> our tracker with the same task
PARTNER = {"sklearn DBSCAN": "dbscan", "hdbscan package": "hdbscan", "sklearn HDBSCAN": "hdbscan"}


def read_hits(path):
    """Read the pixel hits of one event. path: parquet or csv."""
    frame = pd.read_parquet(path) if str(path).endswith("parquet") else pd.read_csv(path)
    hits = Hits.from_frame(frame)
    return hits.take(np.flatnonzero(np.isin(hits.volume_id, [region.volume for region in REGIONS])))


def contenders(region, hits, settings):
    """Name -> function without arguments that clusters the hits of one region, from x, y, z to labels."""
    trackers = {name: build_tracker(name, settings.get(name)) for name in OURS if name in settings}
    found = {name: (lambda tracker=tracker: tracker.reconstruct(hits)) for name, tracker in trackers.items()}
    found["sklearn DBSCAN"] = lambda: sklearn_dbscan(region, hits, trackers["dbscan"])
    if "hdbscan" in trackers:
        found["hdbscan package"] = lambda: hdbscan_package(region, hits, trackers["hdbscan"])
        found["sklearn HDBSCAN"] = lambda: sklearn_hdbscan(region, hits, trackers["hdbscan"])
    return found


def _points(region, hits, tracker):
    return tracker.embed(project(hits.xyz, region), region)


def sklearn_dbscan(region, hits, tracker):
    """scikit-learn's DBSCAN with a kd-tree, on the same points with the same settings."""
    from sklearn.cluster import DBSCAN

    eps = tracker.config.barrel_eps if region.barrel else tracker.config.endcap_eps
    model = DBSCAN(eps=eps, min_samples=tracker.config.min_samples, algorithm="kd_tree")
    return model.fit(_points(region, hits, tracker)).labels_


def _hdbscan_options(region, config):
    part = "barrel" if region.barrel else "endcap"
    return {
        "min_cluster_size": getattr(config, f"{part}_min_cluster_size"),
        "min_samples": getattr(config, f"{part}_min_samples"),
        "cluster_selection_method": getattr(config, f"{part}_selection"),
    }


def hdbscan_package(region, hits, tracker):
    """The hdbscan package with one thread and its own choice of algorithm."""
    from hdbscan import HDBSCAN

    model = HDBSCAN(core_dist_n_jobs=1, **_hdbscan_options(region, tracker.config))
    return model.fit(_points(region, hits, tracker)).labels_


def sklearn_hdbscan(region, hits, tracker):
    """scikit-learn's HDBSCAN."""
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(copy=True, **_hdbscan_options(region, tracker.config))
    return model.fit(_points(region, hits, tracker)).labels_


def measure(functions, repeats):
    """CPU seconds per call, name -> (repeats,), after one call each that is not counted."""
    seconds = {name: [] for name in functions}
    for round_number in range(repeats + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if round_number:
                seconds[name].append(time.process_time() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def spread(values):
    return {
        "min": round(float(values.min()), 5),
        "median": round(float(np.median(values)), 5),
        "max": round(float(values.max()), 5),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hits", type=Path, help="hits of one event, parquet or csv")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    hits = read_hits(args.hits)
    results = []
    for label, settings in (("default", dict.fromkeys(OURS)), ("mask", MASK_SETTINGS)):
        for region in REGIONS:
            results += run_region(region, hits.take(hits.volume_id == region.volume), settings, label, args.repeats)
    report = {
        "machine": machine_facts(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "numba", "scikit-learn", "hdbscan", "scipy")},
        "repeats": args.repeats,
        "n_hits": len(hits),
        "unit": "CPU s per call, x y z to labels",
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {args.out}")


def run_region(region, hits, settings, label, repeats):
    """Measure one region; print and return one entry per contender."""
    functions = contenders(region, hits, settings)
    same = np.array_equal(functions["dbscan"](), functions["sklearn DBSCAN"]())
    print(f"\n{region.name}, {len(hits)} hits, settings: {label}; DBSCAN labels equal to scikit-learn's: {same}")
    seconds = measure(functions, repeats)
    entries = []
    for name, values in seconds.items():
        entry = {"region": region.name, "n_hits": len(hits), "settings": label, "name": name, "cpu_s": spread(values)}
        line = "  {:18s} {min:.4f} {median:.4f} {max:.4f} s".format(name, **entry["cpu_s"])
        if name in PARTNER:
            entry["ratio_to_ours"] = spread(values / seconds[PARTNER[name]])
            line += "   = {min:.1f} {median:.1f} {max:.1f} x {}".format(PARTNER[name], **entry["ratio_to_ours"])
        if name == "sklearn DBSCAN":
            entry["labels_equal_ours"] = bool(same)
        entries.append(entry)
        print(line)
    return entries


if __name__ == "__main__":
    main()
