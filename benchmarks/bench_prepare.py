"""CPU seconds that the rule prepare takes per event, and its process before the first, at pile-up 2, 20 and 200.

Run: OMP_NUM_THREADS=1 python benchmarks/bench_prepare.py [--events N]
Events are simulated with the cells of their clusters and selected as config/paper.yaml says. Each pile-up is one shard
in a process of its own, as in the workflow. Writes benchmarks/results/prepare.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from trackbench.config import check_config, read_schema
from trackbench.files import write_json
from trackbench.machine import machine_facts
from trackbench.simulation.config import SimulationConfig
from trackbench.simulation.simulate import prepare_generator, simulate

ROOT = Path(__file__).resolve().parents[1]
PILEUPS = (2, 20, 200)
PREPARE = """
import json, sys, time
from pathlib import Path
from trackbench.data.prepare import DataSelection
from trackbench.data.shards import prepare_shard
raw, events, selection = sys.argv[1], int(sys.argv[2]), DataSelection(**json.loads(sys.argv[3]))
begun = time.process_time()
prepare_shard([raw], 0, events, events, selection, "hits.parquet", "particles.parquet")
print(time.process_time() - begun)
"""


def selection_of_the_paper():
    """DataSelection values of config/paper.yaml."""
    given = yaml.safe_load((ROOT / "config/paper.yaml").read_text(encoding="utf-8"))
    data = check_config(given, read_schema(ROOT / "workflow/schemas/config.schema.yaml"))["data"]
    return {key: data[key] for key in ("detector", "hit_eta_max", "truth_filter", "cells")}


def children_cpu_s():
    """CPU time of all processes that have been waited for [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(pileup, n_events, cache, folder, selection):
    """Simulate a shard, then prepare it in a process of its own."""
    raw = folder / "shard-0000"
    simulate(SimulationConfig(pileup=pileup, cells=True), list(range(1, n_events + 1)), raw, cache_dir=cache)
    command = [sys.executable, "-c", PREPARE, str(raw), str(n_events), json.dumps(selection)]
    before = children_cpu_s()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    total, work = children_cpu_s() - before, float(done.stdout)
    return {
        "pileup": pileup,
        "n_events": n_events,
        "cpu_s_per_event": round(work / n_events, 4),
        "start_cpu_s": round(total - work, 2),
    }


def main():
    """Measure all, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=12, help="events at pile-up 200; four times as many below")
    options = parser.parse_args()
    load, selection, rows = os.getloadavg()[0], selection_of_the_paper(), []
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name) / "generator"
        prepare_generator(SimulationConfig(), cache)
        for pileup in PILEUPS:
            folder = Path(name) / f"{pileup}"
            folder.mkdir()
            n_events = options.events * (1 if pileup == max(PILEUPS) else 4)
            rows.append(measure(pileup, n_events, cache, folder, selection))
            print(rows[-1])
    record = {
        "what": "CPU seconds of the rule prepare per event, and of its process beside that",
        "machine": machine_facts(),
        "load_before": round(load, 2),
        "selection": selection,
        "rows": rows,
    }
    write_json(ROOT / "benchmarks/results/prepare.json", record)


if __name__ == "__main__":
    main()
