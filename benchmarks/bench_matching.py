"""Share of the matching in a training step of HEPTv2 with new weights, where it is dearest.

    python benchmarks/bench_matching.py [--events 2] [--repeats 2] [--out FILE]

Events of 2 and 20 pile-up are simulated, noise kept. A step is losses and gradients of one event, of the network of
``config/cpu.yaml`` and of one of the published size (3,000 learned queries in 3 sectors, published losses), both with
random weights, decoder on. Besides, one assignment of 550 tracks to 3,000 queries each of which costs nearly the same
for every track, as at the first steps, beside SciPy on the whole matrix. CPU seconds of one thread; the first of each
is not counted.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported

import numpy as np
import yaml

from trackbench.machine import machine_facts

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "matching.json"
PILEUPS = (2, 20)
CPU, PUBLISHED = "network of config/cpu.yaml", "published size"
TRACKS, QUERIES = 550, 3000


def networks():
    """Task of each network: settings from the configuration, and the defaults, which are the published ones."""
    from trackbench.training.run import build_settings
    from trackbench.training.tasks import make_task

    model = yaml.safe_load((ROOT / "config/cpu.yaml").read_text(encoding="utf-8"))["models"]["heptv2"]
    blocks = {CPU: {name: model[name] for name in ("network", "loss")}, PUBLISHED: {}}
    settings = {name: build_settings("heptv2", values) for name, values in blocks.items()}
    return {name: make_task("heptv2", values["network"], values["loss"]) for name, values in settings.items()}


def simulated(pileup, n_events, folder):
    """Hits with cell features and truth of simulated events, a generator."""
    from trackbench.data.prepare import DataSelection, build_event
    from trackbench.data.reader import list_events, read_event
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.generator import prepare_generator
    from trackbench.simulation.simulate import simulate

    config = SimulationConfig(pileup=pileup, cells=True, seed=77)
    prepare_generator(config, folder / "generator")
    simulate(config, range(1, n_events + 1), folder / f"{pileup}", cache_dir=folder / "generator")
    selection = DataSelection(cells=True)
    for event_id, prefix in list_events(folder / f"{pileup}"):
        yield build_event(read_event(prefix, selection.parts), selection, event_id)


def run_steps(tasks, events, repeats):
    """Seconds of a step and of the matching in it, of each network on each event."""
    import torch

    from trackbench.training.hept_task import matching_share

    rows = []
    for pileup, event in events:
        for name, task in tasks.items():
            torch.manual_seed(0)
            network, batch = task.build(), task.collate([event], None)
            found = matching_share(task, network, batch, repeats, time.process_time)
            tracks = len(np.unique(batch.particle[batch.track].numpy()))
            row = {"network": name, "pileup": pileup, "n_hits": len(event[0]), "n_tracks": tracks}
            rows.append(row | {key: round(value, 4) for key, value in found.items()})
            print("{network}, {pileup} pile-up: {n_hits} hits, {n_tracks} tracks, share {share:.3f}".format(**rows[-1]))
    return rows


def run_assignment(repeats=5):
    """CPU seconds of one assignment with queries of nearly constant cost, by ``matching.solve`` and by SciPy alone."""
    from scipy.optimize import linear_sum_assignment

    from trackbench.training.matching import solve

    rng, seconds, totals = np.random.default_rng(77), {"solve": [], "scipy": []}, []
    for _ in range(repeats + 1):
        cost = rng.normal(size=(1, QUERIES)) + 1e-3 * rng.normal(size=(TRACKS, QUERIES))
        for name, function in (("solve", solve), ("scipy", linear_sum_assignment)):
            begin = time.process_time()
            pairs = function(cost)
            seconds[name].append(time.process_time() - begin)
            totals.append(cost[pairs].sum())
    assert np.allclose(totals[::2], totals[1::2])
    middle = {f"{name}_cpu_s": round(float(np.median(values[1:])), 4) for name, values in seconds.items()}
    return {"tracks": TRACKS, "queries": QUERIES, "repeats": repeats, **middle}


def table(record):
    """The table of docs/heptv2.md, Markdown: mean over the events of each network and pile-up."""
    lines = [
        "| network, new weights | pile-up | hits | tracks | step | matching | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pileup in dict.fromkeys((row["network"], row["pileup"]) for row in record["steps"]):
        rows = [row for row in record["steps"] if (row["network"], row["pileup"]) == (name, pileup)]
        hits, tracks, step, matching = (
            np.mean([row[key] for row in rows]) for key in ("n_hits", "n_tracks", "step_s", "matching_s")
        )
        cost = f"{step:.2f} s | {1e3 * matching:.0f} ms | {100 * matching / step:.1f} %"
        lines.append(f"| {name} | {pileup} | {hits:,.0f} | {tracks:.0f} | {cost} |")
    one = record["assignment"]
    words = (
        f"One assignment of {one['tracks']} tracks to {one['queries']:,} queries that cost nearly the same for every "
    )
    words += f"track takes {one['solve_cpu_s']:.2f} CPU s, of the whole matrix by SciPy {one['scipy_cpu_s']:.2f}."
    return "\n".join([*lines, "", words])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    tasks = networks()
    with tempfile.TemporaryDirectory() as folder:
        events = [(pileup, event) for pileup in PILEUPS for event in simulated(pileup, args.events, Path(folder))]
    report = {
        "machine": machine_facts(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy")},
        "repeats": args.repeats,
        "unit": "CPU s of losses and gradients of one simulated event, noise kept",
        "steps": sorted(run_steps(tasks, events, args.repeats), key=lambda row: row["network"] != CPU),
        "assignment": run_assignment(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
