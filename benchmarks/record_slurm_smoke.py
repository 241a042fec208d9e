"""The whole smoke workflow through profiles/slurm on a SLURM of one node, compared with a run without SLURM.

Run as root: python benchmarks/record_slurm_smoke.py, or make slurm-smoke
Both runs are made in build/slurm-smoke. The node is this machine (tests/slurm/cluster.sh), which pretends to have 8
CPUs; at most AT_ONCE jobs are in its queue. Exit code 1 if a table, track or weight differs. Writes
benchmarks/results/slurm_smoke.json.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench_slurm import ROOT, node

from trackbench.files import write_json
from trackbench.machine import machine_facts, versions
from trackbench.reproduce import compare_results, counts_by_kind, report

FOLDER = ROOT / "build/slurm-smoke"
CONFIG = "config/smoke.yaml"
AT_ONCE = 6
# Between two looks at the queue [s]; 10 in the profile.
LOOK = 5


def run(name, *options):
    """Run the workflow in a folder of its own; its wall time [s]."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "config", folder / "config")
    command = [sys.executable, "-m", "snakemake", "--directory", str(folder), "--configfile", CONFIG, *options]
    begun = time.monotonic()
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(f"error: the run {name} failed, see above")
    return time.monotonic() - begun


def states():
    """Jobs of the cluster by state."""
    command = ["squeue", "--states=all", "--noheader", "--format=%T"]
    return Counter(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def main():
    """Run both, compare, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/slurm_smoke.json")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    load = os.getloadavg()[0]
    looks = ("--slurm-init-seconds-before-status-checks", str(LOOK))
    with node(cpus=8):
        there_s = run("slurm", "--profile", "profiles/slurm", "--jobs", str(AT_ONCE), *looks)
        jobs = states()
    here_s = run("local", "--cores", "all")
    folders = [FOLDER / name / "results/smoke" for name in ("slurm", "local")]
    found = compare_results(*folders)
    print(report(found, *folders))
    record = {
        "command": "make slurm-smoke",
        "machine": machine_facts(),
        "versions": versions(),
        "load_before": round(load, 2),
        "jobs_at_once": AT_ONCE,
        "jobs": dict(jobs),
        "wall_s": {"slurm": round(there_s), "local": round(here_s)},
        "kinds": counts_by_kind(found),
        "different": found.different,
        "missing": found.missing,
    }
    write_json(options.out, record)
    sys.exit(0 if found.is_equal else 1)


if __name__ == "__main__":
    main()
