"""Job counts read from a dry run, and the projected time of a simulation, against numbers worked out by hand."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError, InputError
from trackbench.plan import (
    LOCAL_RULES,
    Campaign,
    Costs,
    columns,
    costs_of,
    duration,
    project,
    projection_table,
    read_dry_run,
    samples_of,
)

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("bench_slurm", ROOT / "benchmarks/bench_slurm.py")
bench_slurm = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_slurm)
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
    """100 events in shards of 10, 2 per job: 5 jobs of 2 x (4 + 1 + 10 x 2) = 50 s on a core."""
    campaign, costs = Campaign(100, shard_events=10, shards_per_job=2), Costs(1.5, 0.5, start_s=1.0, job_s=4.0)
    plan = project(campaign, costs, cores=2)
    assert (plan.jobs, plan.waves, plan.wall_s, plan.core_s, plan.share) == (5, 3, 150.0, 250.0, 0.8)
    assert project(campaign, costs, cores=1000).wall_s == 50.0
    few = Campaign(100, shard_events=10, shards_per_job=2, jobs_at_once=1)
    assert project(few, costs, cores=1000).waves == 5
    with pytest.raises(ConfigError, match="cores"):
        project(campaign, costs, cores=0)


def test_a_started_shard_counts_whole():
    assert project(Campaign(101, 10, 1), Costs(1.0, 0.0, 0.0, 0.0), cores=1).waves == 11


@pytest.mark.parametrize("name", ["events", "shard_events", "shards_per_job", "jobs_at_once"])
def test_a_campaign_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        Campaign(**{"events": 1, name: 0})


def test_costs_lie_on_the_line_between_measured_pile_ups():
    """Of both steps; starts are the slowest measured."""
    simulation = [{"pileup": p, "cpu_s_per_event": c, "init_cpu_s": i} for p, c, i in ((0, 1.0, 0.5), (100, 3.0, 0.2))]
    prepare = [{"pileup": p, "cpu_s_per_event": c, "start_cpu_s": i} for p, c, i in ((0, 0.1, 0.3), (200, 0.5, 0.4))]
    records = {"rows": simulation}, {"rows": prepare}, {"shard_overhead_s": {"median": 9.0}}
    assert costs_of(*records, 50) == Costs(2.0, pytest.approx(0.2), pytest.approx(0.9), 9.0)
    assert costs_of(*records, 0).event_s == 1.1
    assert costs_of(*records, 100).event_s == pytest.approx(3.3)
    with pytest.raises(ConfigError, match="0 to 100"):
        costs_of(*records, 101)


def test_the_table_of_projections_names_what_it_is_made_from():
    table = projection_table(Campaign(100, 10, 2), Costs(1.5, 0.5, 1.0, 4.0), [2, 1000])
    first, second, _, head, *rows = table.splitlines()
    assert first == "1.50 s per event to simulate and 0.50 s to prepare,"
    assert second == "4 s per shard for SLURM and Snakemake:"
    assert head.split() == ["cores", "jobs", "waves", "wall", "time", "core", "hours", "of", "that", "work"]
    assert [row.split() for row in rows] == [
        ["2", "5", "3", "2", "min", "30", "s", "0.1", "80", "%"],
        ["1000", "5", "1", "50", "s", "0.1", "80", "%"],
    ]


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
def test_the_paper_is_hundreds_of_jobs_as_the_page_says():
    """What `make plan` prints; the page rounds the numbers of jobs to tens and quotes the projection."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/plan_campaign.py"], capture_output=True, text=True, check=True
    ).stdout
    of_workflow, of_cluster = map(int, re.search(r"(\d+) jobs of the workflow are (\d+) jobs of the", done).groups())
    shards = sum(sample.shards for sample in samples_of(config_of("paper")))
    assert re.search(rf"^prepare +{shards} +events$", done, re.MULTILINE)
    assert f"{-(-shards // 4)} jobs of group events (up to 4)" in done
    assert 100 < of_cluster < 1000 < of_workflow
    page = (ROOT / "docs/slurm.md").read_text(encoding="utf-8")
    assert f"{round(of_workflow, -1):,} jobs of the workflow and {round(of_cluster, -1)} of the cluster" in flat(page)
    projection = done[done.index("40,000 events") :].strip()
    assert f"```\n{projection}\n```" in page


def flat(text):
    """A text with its line breaks as spaces."""
    return " ".join(text.split())


def test_records_of_costs_name_their_machine_and_lack_nothing():
    records = {
        name: json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
        for name in ("simulation", "prepare", "slurm")
    }
    assert all(record["machine"]["cpu"] for record in records.values())
    costs = costs_of(*records.values(), 200)
    assert 0 < costs.prepare_s < costs.simulate_s < 60 and 0 < costs.job_s < 120
    slurm = records["slurm"]
    assert {job["job"] for job in slurm["jobs"]} == set(bench_slurm.ALONE.values())
    assert sum(group["shards"] for group in slurm["groups"]) == bench_slurm.SHARDS
    assert slurm["profile"]["group-components"]["events"] in {group["shards"] for group in slurm["groups"]}
    for name, jobs in (("job_overhead_s", slurm["jobs"]), ("shard_overhead_s", slurm["groups"])):
        assert slurm[name] == bench_slurm.spread(jobs)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (12, "12 s"), (302, "5 min 2 s"), (3600, "1 h"), (6000, "1 h 40 min"), (183600, "2 d 3 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_columns_are_aligned():
    assert columns([("a", 1), ("long", 22)]) == "a      1\nlong  22"


def test_the_page_quotes_the_record_of_the_whole_run_through_slurm():
    record = json.loads((ROOT / "benchmarks/results/slurm_smoke.json").read_text())
    assert set(record["jobs"]) == {"COMPLETED"} and not record["different"] and not record["missing"]
    counts = record["kinds"]["all"]
    assert counts["equal"] == sum(counts.values())
    jobs, minutes = record["jobs"]["COMPLETED"], round(record["wall_s"]["slurm"] / 60)
    page = flat((ROOT / "docs/slurm.md").read_text(encoding="utf-8"))
    assert f"{jobs} jobs of the cluster in {minutes} minutes" in page
    assert f"all {counts['equal']:,} tables, tracks, weights" in page


def test_the_page_quotes_the_record_of_costs():
    record = json.loads((ROOT / "benchmarks/results/slurm.json").read_text())
    alone, shard = (round(record[f"{name}_overhead_s"]["median"]) for name in ("job", "shard"))
    page = flat((ROOT / "docs/slurm.md").read_text(encoding="utf-8"))
    assert f"{alone} s beside its work, a group {shard} s per shard" in page


def test_shards_in_groups_are_read_from_what_snakemake_says(tmp_path):
    """The parts of a group run one after another."""
    said = """Group job events (jobs in lexicogr. order):

    [Sun Nov 22 16:08:32 2026]
    Job 3: Check and select the raw events of main shard 0000
    [Sun Nov 22 16:08:32 2026]
    Job 4: Simulate main shard 0000
    [Sun Nov 22 16:08:32 2026]
    Job 5: Simulate pileup-2 shard 0001
Job 9: Simulate main shard 0007
"""
    times = {"simulate/main-0000": 5, "prepare/main-0000": 2, "simulate/pileup-2-0001": 3, "prepare/pileup-2-0001": 1}
    for name, seconds in times.items():
        path = tmp_path / f"results/smoke/benchmarks/{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:0{seconds}\n")
    jobs = [("rule_generator_wildcards_smoke", 9.0), ("rule_events_prepare_simulate", 30.0)]
    groups = bench_slurm.group_jobs(tmp_path, jobs, said)
    assert groups == [{"shards": 2, "slurm_s": 30.0, "work_s": 11.0}]
    assert bench_slurm.spread(groups) == {"min": 9.5, "median": 9.5, "max": 9.5}
