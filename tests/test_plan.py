"""Job counts read from a dry run, and the projected time of a simulation, against numbers worked out by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError, InputError
from trackbench.plan import LOCAL_RULES, Campaign, Costs, columns, costs_of, duration, project, read_dry_run, samples_of

ROOT = Path(__file__).resolve().parents[1]
DRY_RUN = """Building DAG of jobs...
Job stats:
job          count
---------  -------
all              1
download         5
generator        1
simulate         6
prepare          6
total           19

Execute 2 jobs...
[Sun Nov 22 12:50:27 2026] Group job events (jobs in lexicogr. order):
Job 4: Simulate main shard 0001
[Sun Nov 22 12:50:28 2026] Group job events (jobs in lexicogr. order):
Job stats:
job          count
---------  -------
total           19
"""
GROUPS = {"simulate": "events", "prepare": "events"}


def test_jobs_of_the_cluster_are_groups_and_what_is_in_none():
    counts = read_dry_run(DRY_RUN)
    assert counts.rules == {"all": 1, "download": 5, "generator": 1, "simulate": 6, "prepare": 6}
    assert counts.groups == {"events": 2}
    assert counts.submitted(GROUPS) == 3
    assert counts.submitted({}) == 13 + 2  # without the profile's groups nothing may be lost


def test_a_dry_run_that_failed_is_an_error_with_its_last_line():
    with pytest.raises(InputError, match="MissingInputException"):
        read_dry_run("Building DAG of jobs...\nMissingInputException\n")


def test_rules_that_are_no_jobs_of_the_cluster_are_those_of_the_workflow():
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")])
    local = re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)
    named = {name for block in local for name in re.findall(r"\w+", block)}
    bodies = re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    empty = {name for name, body in bodies if not re.search(r"^    (script|shell|run):", body, re.MULTILINE)}
    assert set(LOCAL_RULES) == named | empty


def test_projection_by_hand():
    """100 events in shards of 10, 2 per job: 5 jobs of 4 + 1 + 10 x 2 = 25 s on 2 cores each."""
    campaign, costs = Campaign(100, shard_events=10, shards_per_job=2), Costs(event_s=2.0, start_s=1.0, job_s=4.0)
    plan = project(campaign, costs, cores=5)
    assert (plan.jobs, plan.waves, plan.wall_s, plan.core_s, plan.share) == (5, 3, 75.0, 250.0, 0.8)
    assert project(campaign, costs, cores=1000).wall_s == 25.0
    few = Campaign(100, shard_events=10, shards_per_job=2, jobs_at_once=1)
    assert project(few, costs, cores=1000).waves == 5
    with pytest.raises(ConfigError, match="cores"):
        project(campaign, costs, cores=1)


def test_a_started_shard_counts_whole():
    assert project(Campaign(101, 10, 1), Costs(1.0, 0.0, 0.0), cores=1).waves == 11


@pytest.mark.parametrize("name", ["events", "shard_events", "shards_per_job", "jobs_at_once"])
def test_a_campaign_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        Campaign(**{"events": 1, name: 0})


def test_costs_lie_on_the_line_between_measured_pile_ups():
    rows = [{"pileup": p, "cpu_s_per_event": c, "init_cpu_s": i} for p, c, i in ((0, 1.0, 0.5), (100, 3.0, 0.25))]
    slurm = {"job_overhead_s": {"median": 9.0}}
    assert costs_of({"rows": rows}, slurm, 50) == Costs(2.0, 0.5, 9.0)
    assert costs_of({"rows": rows}, slurm, 0).event_s == 1.0
    assert costs_of({"rows": rows}, slurm, 100).event_s == 3.0
    with pytest.raises(ConfigError, match="0 to 100"):
        costs_of({"rows": rows}, slurm, 101)


def config_of(name):
    """A configuration of the repository with all defaults."""
    given = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    return check_config(given, read_schema(ROOT / "workflow/schemas/config.schema.yaml"))


def test_samples_of_the_paper():
    shards = {sample.name: (sample.events, sample.shards) for sample in samples_of(config_of("paper"))}
    assert shards["main"] == shards["trackml"] == shards["trackml-filtered"] == (1900, 38)
    assert shards["parents"] == (8745, 175)
    assert shards["effects"] == (160, 8)


@pytest.mark.slow
def test_the_paper_is_hundreds_of_jobs_of_the_cluster():
    command = [
        "snakemake",
        "--dry-run",
        "--forceall",
        "--profile",
        "profiles/slurm",
        "--configfile",
        "config/paper.yaml",
    ]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    counts = read_dry_run(done.stdout + done.stderr)
    groups = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["groups"]
    shards = sum(sample.shards for sample in samples_of(config_of("paper")))
    assert counts.rules["prepare"] == shards
    assert counts.groups["events"] == -(-shards // 4)
    assert 100 < counts.submitted(groups) < 1000 < sum(counts.rules.values())


def test_records_of_costs_are_there_and_name_their_machine():
    simulation, slurm = (
        json.loads((ROOT / f"benchmarks/results/{n}.json").read_text()) for n in ("simulation", "slurm")
    )
    assert simulation["machine"]["cpu"] and slurm["machine"]["cpu"]
    costs = costs_of(simulation, slurm, 200)
    assert 0 < costs.event_s < 60 and 0 < costs.job_s < 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (12, "12 s"), (302, "5 min 2 s"), (3600, "1 h"), (6000, "1 h 40 min"), (183600, "2 d 3 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_columns_are_aligned():
    assert columns([("a", 1), ("long", 22)]) == "a      1\nlong  22"
