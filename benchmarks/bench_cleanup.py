"""What each step of the clean-up gains and costs, on candidates of two trackers and on damaged true ones.

    python benchmarks/bench_cleanup.py EVENT... [--repeats 3] [--out FILE]

EVENT is a prefix such as ``data/event000000002`` (hits, particles, truth; csv, csv.gz or parquet); all pixel hits
are used, noise included. Candidates: those of ``helix_hash`` and ``hdbscan``, and the true ones (particles with at
least three hits), whole and damaged in three ways: 10 % of the hits dropped, 10 % of the hits given to the
particle of the next hit in azimuth on the layer, and all cut at the borders of 32 sectors in azimuth. For each, the
metrics before, after the steps one by one, and with each step left out; sums over the events. CPU seconds are
the least of the repeats, per event; compilation is not counted.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported

import numpy as np

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.evaluation.metrics import evaluate_event
from trackbench.fitting.cleanup import CleanUp, CleanUpReport, clean_up
from trackbench.runner import machine_facts
from trackbench.trackers.base import build_tracker

RESULT = Path(__file__).resolve().parent / "results" / "cleanup.json"
METRICS = ("dm", "perfect", "fake_rate", "fake_all")
TRACKERS = ("helix_hash", "hdbscan")
SHARE, N_SECTORS, SEED = 0.1, 32, 5
COUNTS = ("n_candidates", "n_dropped", "n_split", "n_joined", "n_picked_up", "n_rejected", "n_tracks")
STEPS = ("drop_outliers", "split", "join", "pick_up", "compete")


def with_steps(*steps):
    """Return settings with these steps only."""
    return CleanUp(**{name: name in steps for name in STEPS})


SETTINGS = {
    "+ drop outliers": with_steps(*STEPS[:1]),
    "+ split": with_steps(*STEPS[:2]),
    "+ join": with_steps(*STEPS[:3]),
    "+ pick up": with_steps(*STEPS[:4]),
    "+ compete = all": CleanUp(),
    **{f"all but {name}": with_steps(*(step for step in STEPS if step != name)) for name in STEPS},
}


def true_labels(truth):
    """Label of each hit: the row of its particle, -1 for noise and for particles with fewer than three hits."""
    _, labels, counts = np.unique(truth.particle_id, return_inverse=True, return_counts=True)
    return np.where((truth.particle_id == 0) | (counts[labels] < 3), -1, labels)


def damaged(hits, truth, event):
    """Name -> labels of the true candidates, whole and damaged."""
    rng, labels = np.random.default_rng([SEED, event]), true_labels(truth)
    phi = np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
    along = np.lexsort((phi, hits.layer_id, hits.volume_id))
    neighbour = np.empty_like(labels)
    neighbour[along] = np.roll(labels[along], 1)
    sector = np.floor((phi + np.pi) / (2 * np.pi) * N_SECTORS).astype(np.int64) % N_SECTORS
    return {
        "truth": labels,
        "truth, hits dropped": np.where(rng.random(labels.size) < SHARE, -1, labels),
        "truth, foreign hits": np.where((rng.random(labels.size) < SHARE) & (labels >= 0), neighbour, labels),
        "truth, cut at sectors": np.where(labels >= 0, labels * N_SECTORS + sector, -1),
    }


def metrics(results):
    """Metric name -> value, pooled over events."""
    sums = {name: np.sum([result.counts[name] for result in results], axis=0) for name in METRICS}
    return {name: round(float(num / den), 4) for name, (num, den) in sums.items()}


def run(settings, events, candidates, repeats):
    """Clean up the candidates of all events; return the entry of these settings."""
    report, results, seconds = CleanUpReport(), [], 0.0
    for (hits, truth), labels in zip(events, candidates, strict=True):
        times = []
        for _ in range(repeats):
            once = CleanUpReport()
            start = time.process_time()
            tracks = clean_up(hits, labels, settings, once)
            times.append(time.process_time() - start)
        seconds += min(times)
        clean_up(hits, labels, settings, report)
        results.append(evaluate_event(tracks.labels, truth))
    cpu = {name: round(value / len(events), 4) for name, value in report.cpu_s.items()}
    counts = {name: getattr(report, name) for name in COUNTS}
    return {**metrics(results), "cpu_s": round(seconds / len(events), 3), "cpu_s_of_steps": cpu, **counts}


def idempotence(events, candidates):
    """Share of assigned hits whose company changes when the result is cleaned up again."""
    changed = assigned = 0
    for (hits, _), labels in zip(events, candidates, strict=True):
        once = clean_up(hits, labels).labels
        twice = clean_up(hits, once).labels
        before, after = ({frozenset(np.flatnonzero(x == i)) for i in range(x.max() + 1)} for x in (once, twice))
        changed += sum(len(candidate) for candidate in before - after)
        assigned += np.count_nonzero(once >= 0)
    return round(changed / assigned, 5)


def entry(name, events, candidates, repeats):
    """Measure one kind of candidates; print and return its entry."""
    before = metrics([evaluate_event(x, truth) for (_, truth), x in zip(events, candidates, strict=True)])
    rows = {"before": before}
    print(f"\n{name:24s} {' '.join(f'{metric:>9s}' for metric in METRICS)}   CPU s")
    print(f"  {'before':22s} {' '.join(f'{before[metric]:9.4f}' for metric in METRICS)}")
    for label, settings in SETTINGS.items():
        rows[label] = row = run(settings, events, candidates, repeats)
        print(f"  {label:22s} {' '.join(f'{row[metric]:9.4f}' for metric in METRICS)} {row['cpu_s']:7.3f}")
    return {"candidates": name, "rows": rows, "hits_changed_by_a_second_time": idempotence(events, candidates)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", nargs="+", type=Path, help="prefixes of events with truth")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    events = [build_event(read_event(prefix, RAW_PARTS), DataSelection("pixel")) for prefix in args.events]
    found = {name: [build_tracker(name).reconstruct(hits) for hits, _ in events] for name in TRACKERS}
    damage = [damaged(hits, truth, hits.event_id) for hits, truth in events]
    found |= {name: [labels[name] for labels in damage] for name in damage[0]}
    clean_up(events[0][0], found["hdbscan"][0])  # compiles
    report = {
        "machine": machine_facts(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "numba", "llvmlite")},
        "selection": "pT >= 0.9 GeV, |eta| < 4, >= 3 layers; pixel hits, noise kept",
        "unit": "CPU s per event, hits and labels to tracks with parameters",
        "events": [f"{prefix.parent.name}/{prefix.name}" for prefix in args.events],
        "n_hits": [len(hits) for hits, _ in events],
        "repeats": args.repeats,
        "settings": asdict(CleanUp()),
        "results": [entry(name, events, candidates, args.repeats) for name, candidates in found.items()],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
