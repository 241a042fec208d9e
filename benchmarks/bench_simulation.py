"""CPU seconds per simulated event and stage, at pile-up 2, 20 and 200.

Run with one thread: ``OMP_NUM_THREADS=1 python benchmarks/bench_simulation.py [--events N]``.
Prints a table and writes ``benchmarks/results/simulation.json``. Initialisation (once per process) is apart.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from trackbench.files import write_json
from trackbench.runner import machine_facts
from trackbench.simulation import simulate as chain
from trackbench.simulation.config import SimulationConfig
from trackbench.simulation.output import write_event

RESULT = Path(__file__).with_name("results") / "simulation.json"
TARGETS = {200: 5.0, 2: 0.3}  # CPU s per event
# Functions of the chain that are timed; what is left of an event is "other".
STAGES = {"propagate": "fatras", "interact": "interactions", "noise_hits": "noise", "digitise": "digitisation"}
STAGES["hit_weights"] = "weights"


class StageTimer:
    """Adds up CPU seconds per stage by wrapping the functions that ``simulate`` calls."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def wrap(self, stage, function):
        """Return ``function`` with its CPU time added to ``stage``."""

        def timed(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[stage] += time.process_time() - start

        return timed


def machine() -> dict:
    """What the numbers depend on."""
    packages = ("trackbench", "pyacts", "pythia8mc", "numpy", "pandas", "pyarrow")
    facts = {**machine_facts(), "threads": os.environ.get("OMP_NUM_THREADS", "default")}
    return {**facts, "python": platform.python_version(), "versions": {name: version(name) for name in packages}}


def measure(pileup: float, n_events: int, cache: Path, timer: StageTimer) -> dict:
    """Simulate and write ``n_events``; returns CPU s per event by stage, the spread and the hits."""
    start = time.process_time()
    simulator = chain.Simulator(SimulationConfig(pileup=pileup), cache)
    simulator.generator.generate = timer.wrap("pythia", simulator.generator.generate)
    init = time.process_time() - start
    with tempfile.TemporaryDirectory() as out:
        write_event(simulator.event(0), out, "parquet")  # first call imports and warms up: not counted
        timer.seconds.clear()
        totals, hits = [], []
        for event_id in range(1, n_events + 1):
            start = time.process_time()
            event = simulator.event(event_id)
            timer.wrap("output", write_event)(event, out, "parquet")
            totals.append(time.process_time() - start)
            hits.append(len(event.hits))
    stages = {name: seconds / n_events for name, seconds in sorted(timer.seconds.items())}
    stages["other"] = sum(totals) / n_events - sum(stages.values())
    return {
        "pileup": pileup,
        "n_events": n_events,
        "init_cpu_s": init,
        "cpu_s_per_event": statistics.mean(totals),
        "cpu_s_min": min(totals),
        "cpu_s_max": max(totals),
        "hits_per_event": statistics.mean(hits),
        "stages_cpu_s": stages,
        "target_cpu_s": TARGETS.get(pileup),
    }


def main() -> None:
    """Measure all pile-up levels, print them, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=8, help="events at pile-up 200; four times as many below")
    parser.add_argument(
        "--cache", type=Path, help="folder of the generator's initialisation, kept (default: temporary)"
    )
    args = parser.parse_args()
    timer = StageTimer()
    for name, stage in STAGES.items():
        setattr(chain, name, timer.wrap(stage, getattr(chain, name)))
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or Path(folder)
        chain.prepare_generator(SimulationConfig(), cache)
        rows = [measure(mu, args.events * (1 if mu == 200 else 4), cache, timer) for mu in (2, 20, 200)]
    for row in rows:
        stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in row["stages_cpu_s"].items())
        target = f" (target {row['target_cpu_s']})" if row["target_cpu_s"] else ""
        print(
            f"mu={row['pileup']:<4} {row['cpu_s_per_event']:.3f} CPU s/event{target}, "
            f"{row['cpu_s_min']:.3f}-{row['cpu_s_max']:.3f} over {row['n_events']} events, "
            f"{row['hits_per_event']:.0f} hits, init {row['init_cpu_s']:.2f} s: {stages}"
        )
    write_json(RESULT, {"machine": machine(), "rows": rows})
    print(f"wrote {RESULT.relative_to(Path.cwd()) if RESULT.is_relative_to(Path.cwd()) else RESULT.name}")


if __name__ == "__main__":
    main()
