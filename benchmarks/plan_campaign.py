"""Jobs of a configuration on a cluster, and how long a large simulation would take, from measured costs.

Run: python benchmarks/plan_campaign.py [--configfile FILE] [--events N] [--pileup MU] [--shard-events N] [--cores N..]
The configuration is planned by a dry run with profiles/slurm. Costs, in benchmarks/results: simulation.json and
prepare.json (seconds per event) and slurm.json (seconds that a job takes beside its work).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

from trackbench.config import check_config, read_schema
from trackbench.errors import InputError, TrackbenchError, describe
from trackbench.plan import Campaign, columns, costs_of, projection_table, read_dry_run, samples_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
PROFILE = ROOT / "profiles/slurm"


def job_table(configfile, profile):
    """Jobs of a configuration: per rule, and how many jobs of the cluster they are."""
    command = ["snakemake", "--dry-run", "--forceall", "--profile", str(PROFILE), "--configfile", str(configfile)]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        counts = read_dry_run(done.stdout + done.stderr)
    except InputError as error:
        raise InputError(f"{error}\n{done.stderr.strip()[-1500:]}") from None
    groups, sizes = profile["groups"], profile["group-components"]
    rows = [("rule", "jobs", "shared with")]
    rows += [(rule, n, groups.get(rule, "-")) for rule, n in sorted(counts.rules.items(), key=lambda item: -item[1])]
    shared = ", ".join(
        f"{n} jobs of group {group} (up to {sizes[group]})" for group, n in sorted(counts.groups.items())
    )
    total = f"{sum(counts.rules.values())} jobs of the workflow are {counts.submitted(groups)} jobs of the cluster"
    return columns(rows) + f"\n{total}" + (f", among them {shared}" if shared else "")


def sample_table(config):
    """Events and shards of the samples of a configuration."""
    rows = [("sample", "events", "events per shard", "shards")]
    rows += [(s.name, f"{s.events:,}", s.shard_events, s.shards) for s in samples_of(config)]
    return columns(rows)


def main():
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", type=Path, default=ROOT / "config/paper.yaml")
    parser.add_argument("--events", type=int, default=40000, help="of the simulation (default %(default)s)")
    parser.add_argument("--pileup", type=float, default=200, help="of the simulation (default %(default)s)")
    parser.add_argument("--shard-events", type=int, default=50, help="events per shard (default %(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[16, 128, 1000])
    options = parser.parse_args()
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))
    records = [json.loads((RESULTS / f"{name}.json").read_text()) for name in ("simulation", "prepare", "slurm")]
    try:
        if not options.configfile.is_file():
            raise InputError(describe(options.configfile, "no such file", "", "see config/"))
        given = yaml.safe_load(options.configfile.read_text(encoding="utf-8"))
        config = check_config(given, read_schema(ROOT / "workflow/schemas/config.schema.yaml"))
        costs = costs_of(*records, options.pileup)
        together, at_once = profile["group-components"]["events"], profile["jobs"]
        campaign = Campaign(options.events, options.shard_events, together, at_once)
        projected = projection_table(campaign, costs, options.cores)
        jobs = job_table(options.configfile.resolve(), profile)
    except TrackbenchError as error:
        sys.exit(f"error: {error}")
    print(f"{options.configfile.name} with profiles/slurm:\n\n{jobs}\n\n{sample_table(config)}\n")
    size = f"{options.events:,} events at {options.pileup:g} pile-up, {options.shard_events} per shard"
    print(f"{size}, simulated and prepared;\nfrom times on one core, {records[0]['machine']['cpu']}: {projected}")


if __name__ == "__main__":
    main()
