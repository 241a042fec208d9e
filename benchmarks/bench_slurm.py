"""What a job of SLURM costs beside its work: a part of the smoke workflow through profiles/slurm on one node.

Run as root: python benchmarks/bench_slurm.py
Starts and stops a SLURM of one node on this machine (tests/slurm/cluster.sh). Overhead of a job = its time in SLURM
(full seconds) less the time Snakemake's benchmark file gives for its script: mainly two starts of Snakemake. The work
of a group is that of all its parts, which run one after another. Time to the next look at the queue is not in it.
Writes benchmarks/results/slurm.json, and nothing if a job is missing.
"""

import contextlib
import os
import re
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
SAMPLES = ("main", "scan", "effects", "parents", "pileup-2")
TARGETS = [f"results/smoke/prepared/{name}/index.csv" for name in SAMPLES]
TARGETS += ["results/smoke/tables/detectors.csv", "results/smoke/figures/simulation.png"]
ALONE = {
    **{f"rule_{rule}_wildcards_smoke": rule for rule in ("generator", "detectors", "validate_simulation")},
    **{f"rule_index_wildcards_smoke_{name}": f"index/{name}" for name in SAMPLES},
}  # what the job is for -> its benchmark file
SHARDS = 10  # of these samples


def run(folder):
    """Run the targets in a copy of the tree, one job at a time; what Snakemake said."""
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile", "config/smoke.yaml"]
    command += ["--jobs", "1", "--slurm-init-seconds-before-status-checks", "5", "--", *TARGETS]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-6000:]}\nerror: the run failed, see above")
    return done.stdout


def seconds_in_slurm():
    """What each completed job was for and its seconds, in the order of submission."""
    listed = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--format=%i|%k|%T|%S|%e"], capture_output=True, text=True, check=True
    ).stdout
    jobs = []
    for job, what, state, begun, ended in (line.split("|") for line in listed.splitlines()):
        if state == "COMPLETED":
            elapsed = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
            jobs.append((int(job), what, elapsed))
    return [(what, elapsed) for _, what, elapsed in sorted(jobs)]


def work_s(folder, name):
    """Seconds of a script by its benchmark file."""
    table = pd.read_csv(folder / f"results/smoke/benchmarks/{name}.tsv", sep="\t")
    return float(table["s"].iloc[0])


def jobs_alone(folder, jobs):
    """Seconds of the jobs of one rule each, in SLURM and in their scripts."""
    return [
        {"job": ALONE[what], "slurm_s": elapsed, "work_s": round(work_s(folder, ALONE[what]), 2)}
        for what, elapsed in jobs
        if what in ALONE
    ]


def group_jobs(folder, jobs, said):
    """The same of groups of shards, which one job simulates and prepares one after another."""
    blocks = re.findall(r"Group job events .*\n((?:\n|    .*\n)+)", said)
    shards = [sorted(set(re.findall(r"Simulate (\S+) shard (\d{4})", block))) for block in blocks]
    seconds = [elapsed for what, elapsed in jobs if what.startswith("rule_events")]
    found = []
    for members, elapsed in zip(shards, seconds, strict=True):
        work = sum(work_s(folder, f"{rule}/{s}-{k}") for rule in ("simulate", "prepare") for s, k in members)
        found.append({"shards": len(members), "slurm_s": elapsed, "work_s": round(work, 2)})
    return found


def spread(jobs):
    """Seconds of jobs beside their work; of groups per shard."""
    seconds = [(job["slurm_s"] - job["work_s"]) / job.get("shards", 1) for job in jobs]
    middle = statistics.median(seconds)
    return {"min": round(min(seconds), 1), "median": round(middle, 1), "max": round(max(seconds), 1)}


@contextlib.contextmanager
def node(cpus):
    """A SLURM of one node on this machine, which may pretend to have more than there is."""
    cluster = [str(ROOT / "tests/slurm/cluster.sh")]
    size = {"TRACKBENCH_SLURM_CPUS": str(cpus), "TRACKBENCH_SLURM_MB": "64000"}
    subprocess.run([*cluster, "start", "--for", str(os.getpid())], check=True, env={**os.environ, **size})
    try:
        yield
    finally:
        subprocess.run([*cluster, "stop"], check=True)


def main():
    """Measure and write the record."""
    load = os.getloadavg()[0]
    with node(cpus=2), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = run(folder)
        jobs = seconds_in_slurm()
        alone, groups = jobs_alone(folder, jobs), group_jobs(folder, jobs, said)
    missing = set(ALONE.values()) - {job["job"] for job in alone}
    in_groups = sum(group["shards"] for group in groups)
    if missing or in_groups != SHARDS:
        sys.exit(f"error: no times of {sorted(missing)}; {in_groups} of {SHARDS} shards in groups")
    record = {
        "what": "seconds of a job in SLURM less those of its script, one job at a time on one node",
        "machine": machine_facts(),
        "load_before": round(load, 2),
        "profile": yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8")),
        "jobs": alone,
        "groups": groups,
        "job_overhead_s": spread(alone),
        "shard_overhead_s": spread(groups),
    }
    write_json(ROOT / "benchmarks/results/slurm.json", record)
    print(record["job_overhead_s"], record["shard_overhead_s"])


if __name__ == "__main__":
    main()
