"""What a job of SLURM costs beside its work: a part of the smoke workflow through profiles/slurm on one node.

Run as root: python benchmarks/bench_slurm.py
Starts and stops a SLURM of one node on this machine (tests/slurm/cluster.sh). Overhead of a job = its time in SLURM
(full seconds) less the time Snakemake's benchmark file gives for its script: mainly two starts of Snakemake. Time to
the next look at the queue is not in it. Writes benchmarks/results/slurm.json.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml

from trackbench.files import write_json
from trackbench.machine import machine_facts

ROOT = Path(__file__).resolve().parents[1]
TREE = ("Snakefile", "workflow", "config", "src", "profiles", "envs")
SAMPLES = ("main", "scan", "effects")
TARGETS = [f"results/smoke/prepared/{name}/index.csv" for name in SAMPLES]
TARGETS += ["results/smoke/tables/detectors.csv", "results/smoke/figures/simulation.png"]
ALONE = {
    **{f"rule_{rule}_wildcards_smoke": rule for rule in ("generator", "detectors", "validate_simulation")},
    **{f"rule_index_wildcards_smoke_{name}": f"index/{name}" for name in SAMPLES},
}  # what the job is for -> its benchmark file


def run(folder):
    """Run the targets in a copy of the tree, one job at a time."""
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile", "config/smoke.yaml"]
    command += ["--jobs", "1", "--slurm-init-seconds-before-status-checks", "8", "--", *TARGETS]
    subprocess.run(command, cwd=folder, check=True)


def overheads(folder):
    """Seconds of the jobs beside their work."""
    form = "--format=%k|%T|%S|%e"
    listed = subprocess.run(
        ["squeue", "--states=all", "--noheader", form], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for what, state, begun, ended in (line.split("|") for line in listed.splitlines()):
        if what not in ALONE or state != "COMPLETED":
            continue
        elapsed = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
        benchmark = pd.read_csv(folder / f"results/smoke/benchmarks/{ALONE[what]}.tsv", sep="\t")
        found.append({"job": ALONE[what], "slurm_s": elapsed, "work_s": round(float(benchmark["s"].iloc[0]), 2)})
    return found


def main():
    """Measure and write the record."""
    cluster = [str(ROOT / "tests/slurm/cluster.sh")]
    load = os.getloadavg()[0]
    node = {"TRACKBENCH_SLURM_CPUS": "8", "TRACKBENCH_SLURM_MB": "64000"}  # groups ask for more than this machine has
    subprocess.run([*cluster, "start"], check=True, env={**os.environ, **node})
    try:
        with tempfile.TemporaryDirectory() as name:
            run(Path(name))
            jobs = overheads(Path(name))
    finally:
        subprocess.run([*cluster, "stop"], check=True)
    spread = [job["slurm_s"] - job["work_s"] for job in jobs]
    record = {
        "what": "seconds of a job in SLURM less those of its script, one job at a time on one node",
        "machine": machine_facts(),
        "load_before": round(load, 2),
        "profile": yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8")),
        "jobs": jobs,
        "job_overhead_s": {
            "min": round(min(spread), 1),
            "median": round(statistics.median(spread), 1),
            "max": round(max(spread), 1),
        },
    }
    write_json(ROOT / "benchmarks/results/slurm.json", record)
    print(record["job_overhead_s"])


if __name__ == "__main__":
    main()
