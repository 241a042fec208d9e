"""CPU time of the TrackML score against plain writings of it, and of all metrics of one event.

    python benchmarks/bench_metrics.py [EVENT_PREFIX] [--rounds 9] [--out FILE]

EVENT_PREFIX: start of the names of one raw event with truth, e.g. DIR/event000000002. Without it, the
full pile-up event kept beside the repository is used if it is there, else an artificial one is made.
The scorers run in turn (interleaved), so that a busy machine slows all alike; ratios are plain / ours per
round. All must agree to 1e-12. Times are CPU seconds of one thread.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
import pandas as pd

from trackbench.data.prepare import DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.evaluation import evaluate_event, trackml_score
from trackbench.runner import machine_facts

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "metrics.json"
STORED_EVENT = ROOT.parent / "shared" / "data" / "simulated-mu200" / "event000000002"


def python_score(truth, submission):
    """TrackML score by the definition with dictionaries, one hit at a time."""
    track_of = dict(zip(submission["hit_id"], submission["track_id"], strict=True))
    n_particle, tracks = {}, {}
    for row in truth.itertuples(index=False):
        n_particle[row.particle_id] = n_particle.get(row.particle_id, 0) + 1
        tracks.setdefault(track_of[row.hit_id], []).append((row.particle_id, row.weight))
    score = 0.0
    for hits in tracks.values():
        shared, weights = {}, {}
        for particle, weight in hits:
            shared[particle] = shared.get(particle, 0) + 1
            weights[particle] = weights.get(particle, 0.0) + weight
        best = min(shared, key=lambda particle: (-shared[particle], particle))
        if 2 * shared[best] > len(hits) and 2 * shared[best] > n_particle[best]:
            score += weights[best]
    return score / truth["weight"].sum()


def pandas_score(truth, submission):
    """TrackML score with pandas: merge, group by track and particle, take the largest group."""
    event = truth.merge(submission, on="hit_id", validate="one_to_one")
    groups = event.groupby(["track_id", "particle_id"])["weight"].agg(["size", "sum"]).reset_index()
    groups = groups.sort_values(["track_id", "size", "particle_id"], ascending=[True, False, True])
    best = groups.drop_duplicates("track_id").set_index("track_id")
    n_track = event.groupby("track_id").size()
    n_particle = event.groupby("particle_id").size()
    purity = best["size"] / n_track.loc[best.index]
    completeness = best["size"] / n_particle.loc[best["particle_id"]].to_numpy()
    return best["sum"][(purity > 0.5) & (completeness > 0.5)].sum() / event["weight"].sum()


def artificial_event(n_particles=9000, n_noise=9000, seed=0):
    """Truth of a made-up event of about 60,000 hits, for machines without a simulated one."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 11, n_particles)
    ids = np.arange(1, n_particles + 1, dtype=np.int64) << 40
    particle_id = rng.permutation(np.concatenate([np.repeat(ids, sizes), np.zeros(n_noise, dtype=np.int64)]))
    table = pd.DataFrame(0.0, index=range(n_particles), columns=list(PARTICLE_COLUMNS))
    table = table.assign(particle_id=ids, pt=0.2 / rng.random(n_particles), eta=rng.uniform(-4.5, 4.5, n_particles))
    counts = dict.fromkeys(("n_hits", "n_layers", "n_layer_ids", "n_hits_all"), sizes)
    weight = rng.random(len(particle_id)) * (particle_id > 0)
    hit_id = np.arange(1, len(particle_id) + 1)
    return Truth(hit_id, particle_id, weight / weight.sum(), table.assign(**counts), 0)


def load_truth(prefix):
    """Truth of the pixel hits of one raw event, or of the artificial one; and what it is."""
    if prefix is None and not STORED_EVENT.with_name(STORED_EVENT.name + "-hits.csv.gz").exists():
        return artificial_event(), "artificial event"
    prefix = prefix or STORED_EVENT
    hits, particles, truth = read_event(prefix, ("hits", "particles", "truth"))
    return build_event((hits, particles, truth), DataSelection())[1], f"pixel hits of {Path(prefix).name}"


def damaged_labels(truth, share=0.2, seed=0):
    """True tracks of which a share of the hits is mislabelled or unassigned: good, bad and tiny clusters."""
    rng = np.random.default_rng(seed)
    labels = np.unique(truth.particle_id, return_inverse=True)[1]
    wrong = rng.random(len(labels)) < share
    labels[wrong] = rng.integers(-1, labels.max(), wrong.sum())
    return labels


def frames(labels, truth):
    """Tables of the scorers; each unassigned hit gets a track of its own."""
    table = pd.DataFrame({"hit_id": truth.hit_id, "particle_id": truth.particle_id, "weight": truth.weight})
    own = labels.max() + 1 + np.arange(len(labels))
    return table, pd.DataFrame({"hit_id": truth.hit_id, "track_id": np.where(labels < 0, own, labels)})


def cpu_seconds(function):
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def spread(values):
    """Minimum, median and maximum."""
    return {"min": float(np.min(values)), "median": float(np.median(values)), "max": float(np.max(values))}


def main():
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("event", nargs="?", help="start of the file names of a raw event with truth")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    truth, description = load_truth(args.event)
    labels = damaged_labels(truth)
    tables = frames(labels, truth)
    shuffled = tables[1].sample(frac=1.0, random_state=0)
    scorers = {
        "ours": trackml_score,
        "ours, shuffled submission": lambda truth, _: trackml_score(truth, shuffled),
        "plain Python": python_score,
        "pandas": pandas_score,
    }
    scores = {name: scorer(*tables) for name, scorer in scorers.items()}  # also warms up
    if max(abs(score - scores["ours"]) for score in scores.values()) > 1e-12:
        raise SystemExit(f"scorers disagree: {scores}")
    evaluate_event(labels, truth)
    seconds = {name: [] for name in [*scorers, "all metrics"]}
    for _ in range(args.rounds):
        for name, scorer in scorers.items():
            seconds[name].append(cpu_seconds(lambda scorer=scorer: scorer(*tables)))
        seconds["all metrics"].append(cpu_seconds(lambda: evaluate_event(labels, truth)))
    ratios = {name: np.array(seconds[name]) / np.array(seconds["ours"]) for name in ("plain Python", "pandas")}
    result = {
        "event": description,
        "hits": len(truth),
        "rounds": args.rounds,
        "score": scores["ours"],
        "cpu_s": {name: spread(values) for name, values in seconds.items()},
        "ratio_to_ours": {name: spread(values) for name, values in ratios.items()},
        "machine": machine_facts(),
        "versions": {name: version(name) for name in ("numpy", "pandas")} | {"python": platform.python_version()},
    }
    print(f"{description}: {len(truth)} hits, {args.rounds} rounds, score {scores['ours']:.4f} in all")
    for name, values in result["cpu_s"].items():
        low, middle, high = (1e3 * values[key] for key in ("min", "median", "max"))
        print(f"  {name:<26} {middle:8.1f} ms CPU  ({low:.1f} to {high:.1f})")
    for name, values in result["ratio_to_ours"].items():
        print(f"  {name} / ours: {values['median']:.1f}  ({values['min']:.1f} to {values['max']:.1f})")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
