"""profiles/slurm on a real SLURM of one node, started and stopped by tests/slurm/cluster.sh.

One run of a part of the smoke workflow with a training that meets its time limit, one run with trainings that fail.
Overridden are the seconds between two looks at the queue and the time limit of the training; the node pretends to have
more cores and memory than the machine.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from trackbench.reproduce import compare_results

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "tests/slurm/cluster.sh"
NODE = {"TRACKBENCH_SLURM_CPUS": "8", "TRACKBENCH_SLURM_MB": "64000"}
TREE = ("Snakefile", "workflow", "config", "src", "profiles", "envs")
TARGETS = (
    "results/smoke/tables/metrics.csv",
    "results/smoke/figures/overview.png",
    "results/smoke/models/hept/pileup-2.pt",
)
ON_GPU = ("results/smoke/models/on_gpu/pileup-2.pt",)
WAITING = ("--slurm-init-seconds-before-status-checks", "14")


def load(name):
    """One of the profiles."""
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())


def test_the_profile_that_is_always_loaded_overrides_nothing_of_the_one_for_slurm():
    """Snakemake lets profiles/default win, whole keys at a time."""
    always, slurm = load("default"), load("slurm")
    assert {key: always[key] for key in always.keys() & slurm.keys()} == {
        key: slurm[key] for key in always.keys() & slurm.keys()
    }


def rules_text():
    """All rule files."""
    return "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))


def test_rules_that_want_a_whole_machine_at_home_take_one_core_of_a_cluster():
    widened = [rule for rule, threads in load("default")["set-threads"].items() if threads > 1]
    assert widened
    for rule in widened:
        body = rules_text().partition(f"\nrule {rule}:\n")[2].partition("\nrule ")[0]
        assert "\n        cpus_per_task=1,  #" in body.partition("    params:\n")[0], rule


def test_every_group_of_the_profile_has_its_size_and_consists_of_rules():
    slurm = load("slurm")
    rules = rules_text()
    assert set(slurm["groups"].values()) == set(slurm["group-components"])
    for rule in slurm["groups"]:
        assert f"rule {rule}:\n" in rules or f" as {rule} with:\n" in rules, rule


def runtimes():
    """Time limit of each rule that has one, as its file says [min]."""
    own, origin = {}, {}
    rule = r"^(?:use )?rule (?:(\w+) as )?(\w+)(?: with)?:\n(.*?)(?=^\S|\Z)"
    for base, name, body in re.findall(rule, rules_text(), re.MULTILINE | re.DOTALL):
        origin[name] = base
        if given := re.search(r"^ +runtime=(\d+),", body, re.MULTILINE):
            own[name] = int(given[1])
    return {name: own.get(name, own.get(base)) for name, base in origin.items() if {name, base} & own.keys()}


SHOW_RUNTIMES = """
import json, sys
from snakemake import cli, logging

found = {}


def note(record):
    if hasattr(record, "resources"):
        found[record.rule_name] = record.resources["runtime"]
    return True


logging.logger.addFilter(note)
try:
    cli.main(sys.argv[1:])
finally:
    print("RUNTIMES", json.dumps(found))
"""


@pytest.mark.slow
def test_a_job_that_starts_anew_after_its_time_limit_gets_more_time():
    """Of a dry run of second attempts; train goes on from its state, and groups have the time of all their parts."""
    options = ["--dry-run", "--forceall", "--attempt", "2", "--configfile", "config/smoke.yaml"]
    command = [sys.executable, "-c", SHOW_RUNTIMES, *options, "--profile", "profiles/slurm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    second = json.loads(done.stdout.partition("RUNTIMES ")[2].splitlines()[0])
    first = {rule: minutes for rule, minutes in runtimes().items() if rule in second}
    assert len(first) == len(second) - 1  # all but the rule all
    longer = {rule for rule, minutes in first.items() if minutes > 20} - {"train"}  # others take a minute
    longer -= set(load("slurm")["groups"])
    assert longer == set(load("slurm")["set-resources"])
    assert second == {rule: first[rule] * (2 if rule in longer else 1) for rule in first} | {"all": second["all"]}


def cluster(*command, **node):
    """Run the script with a command."""
    environment = {**os.environ, **NODE, **node}
    return subprocess.run([CLUSTER, *command], env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def slurm():
    """A running SLURM; the folder with its list of tasks."""
    cluster("stop")  # one that somebody started by hand has another node
    done = cluster("start", "--for", str(os.getpid()))
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    yield Path(os.environ.get("TRACKBENCH_SLURM", "/var/tmp/trackbench-slurm"))
    done = cluster("stop")
    assert done.returncode == 0, done.stderr


@pytest.mark.slurm
def test_a_configuration_that_slurm_does_not_take_is_a_fault_and_no_reason_to_skip():
    cluster("stop")
    done = cluster("start", TRACKBENCH_SLURM_CPUS="many")
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 1, done.stderr
    assert "slurmctld does not start" in done.stderr
    assert not Path("/etc/slurm/slurm.conf").exists()


def make_folder(folder):
    """The workflow with a smaller smoke configuration: two trackers, a training, and two that ask for a GPU."""
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    config["trackers"] = {name: config["trackers"][name] for name in ("helix_finder", "helix_hash")}
    config["data"]["shard_events"] = 4
    config["collisions"]["sets"]["pileup-2"]["shard_events"] = 8
    hept = config["models"]["hept"]
    hept["training"] |= {"steps": 60, "validate_every": 30, "checkpoint_every": 10}
    config["models"]["on_gpu"] = {**hept, "training": {**hept["training"], "device": "cuda"}}
    (folder / "slurm.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@contextlib.contextmanager
def snakemake(folder, *options, targets=TARGETS):
    """A running Snakemake; killed with what it started at the end if it still runs."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "slurm.yaml", *options, "--", *targets]
    # Without the SLURM variables of a job this test may itself be in, and without another copy of the library.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "PYTHONPATH"))}
    with (folder / "snakemake.txt").open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def through_slurm(*options):
    """Options of a run through the profile."""
    return ("--profile", "profiles/slurm", *WAITING, "--slurm-keep-successful-logs", *options)


def text_of(folder):
    """What Snakemake said."""
    return (folder / "snakemake.txt").read_text()


def trainers(folder):
    """Processes of trainings in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.resolve() == folder and b".train.py" in (link.parent / "cmdline").read_bytes():
                found.append(int(link.parent.name))
    return found


def hang(folder, process, timeout):
    """Stop a training once it has saved its state, so that it meets its time limit however fast the machine is."""
    state = folder / "results/smoke/models/hept/pileup-2.training/state.pt"
    end = time.monotonic() + timeout
    while not state.exists():
        assert process.poll() is None and time.monotonic() < end, text_of(folder)[-4000:]
        time.sleep(0.05)
    running = trainers(folder)
    for pid in running:
        os.kill(pid, signal.SIGSTOP)
    return running


def queue():
    """Every job SLURM remembers: what it was for, its state and what it asked for."""
    form = "%i|%k|%T|%C|%m|%l"
    done = subprocess.run(
        ["squeue", "--states=all", "--noheader", f"--format={form}"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return pd.DataFrame(rows, columns=["job", "what", "state", "cpus", "memory", "limit"]).set_index("job")


@pytest.fixture(scope="module")
def runs(slurm, tmp_path_factory):
    """Folder of the run through SLURM, folder of the same run without, jobs, tasks, what a failing run said.

    The second folder then gets a training through SLURM that fails, for it needs a real GPU. Both wait until the
    training of the first run hangs: nearly nothing else runs until it meets its time limit.
    """
    there, here = (make_folder(tmp_path_factory.mktemp(name)) for name in ("slurm", "local"))
    limit = ("--set-resources", "train:runtime=1 if attempt == 1 else 30")
    with snakemake(there, *through_slurm(*limit)) as remote:
        assert hang(there, remote, 400), "no training was running"
        with snakemake(here, "--cores", "all") as local:
            assert local.wait(600) == 0, text_of(here)[-6000:]
        with snakemake(here, *through_slurm("--retries", "0"), targets=ON_GPU) as failing:
            assert failing.wait(300) == 1
        assert remote.wait(600) == 0, text_of(there)[-6000:]
    return there, here, queue(), (slurm / "tasks.txt").read_text(), text_of(here)


def jobs_of(jobs, there):
    """Jobs of the run through SLURM, or else those of the training that fails."""
    return jobs[jobs["what"].str.contains("on_gpu") != there]


@pytest.mark.slow
@pytest.mark.slurm
def test_the_workflow_completes_in_jobs_of_slurm(runs):
    there, _, jobs, tasks, _ = runs
    assert all((there / target).stat().st_size for target in TARGETS)
    jobs = jobs_of(jobs, there=True)
    ran = {line.split()[0] for line in tasks.splitlines()}
    assert set(jobs.index) <= ran
    kinds = {what.partition("_wildcards_")[0] for what in jobs["what"]}
    expected = ("generator", "index", "reconstruct", "train", "tables", "plot_overview")
    assert kinds >= {f"rule_{name}" for name in expected}
    assert not any(kind in kinds for kind in ("rule_simulate", "rule_prepare", "rule_evaluate"))  # they are grouped
    logs = list((there / ".snakemake/slurm_logs").glob("*/**/*.log"))
    assert {log.stem for log in logs} == set(jobs.index)


@pytest.mark.slow
@pytest.mark.slurm
def test_small_jobs_of_one_kind_share_a_job_of_slurm_and_run_in_turn(runs):
    """So the job asks for one core, the memory of one part and the time of all: two shards of two hours."""
    there, _, jobs, *_ = runs
    shards = list((there / "results/smoke/prepared").glob("*/shard-*-hits.parquet"))
    events = jobs[jobs["what"].str.contains("events")]
    assert len(shards) == 2 and len(events) == 1
    assert list(events[["cpus", "memory", "limit"]].iloc[0]) == ["1", "3000M", "4:00:00"]
    said = next((there / ".snakemake/slurm_logs").rglob(f"{events.index[0]}.log")).read_text()
    assert re.findall(r"^Execute (\d+) jobs", said, re.MULTILINE) == ["1"] * 8  # both processes of each part
    assert sum("evaluation" in what for what in jobs["what"]) == 1


@pytest.mark.slow
@pytest.mark.slurm
def test_results_are_those_of_a_run_without_slurm(runs):
    there, here, *_ = runs
    found = compare_results(there / "results/smoke", here / "results/smoke")
    assert found.is_equal, (found.different, found.missing)
    expected = {"tables/metrics.csv", "tables/summary.md", "figures/overview.csv", "models/hept/pileup-2-history.csv"}
    assert set(found.equal) >= expected


@pytest.mark.slow
@pytest.mark.slurm
def test_a_training_that_met_its_time_limit_is_seen_and_goes_on_to_the_same_weights(runs):
    there, here, jobs, *_ = runs
    jobs = jobs_of(jobs, there=True)
    train = jobs[jobs["what"].str.startswith("rule_train")]
    assert list(train.sort_index(key=lambda ids: ids.astype(int))["state"]) == ["TIMEOUT", "COMPLETED"]
    assert "SLURM status is: 'TIMEOUT'" in text_of(there)
    assert "going on from step" in (there / "logs/smoke/train/hept-pileup-2.log").read_text()
    assert (there / TARGETS[2]).read_bytes() == (here / TARGETS[2]).read_bytes()


@pytest.mark.slow
@pytest.mark.slurm
def test_a_training_on_cuda_gets_a_gpu_and_its_failure_is_reported(runs):
    *_, jobs, tasks, said = runs
    failed = jobs_of(jobs, there=False)
    assert list(failed["what"]) == ["rule_train_wildcards_smoke_on_gpu_pileup-2"]
    assert list(failed["state"]) == ["FAILED"]
    assert "torch finds no CUDA device" in said  # the GPU is not a real one
    assert "SLURM status is: 'FAILED'" in said
    job = failed.index[0]
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    assert "TresPerJob=gres:gpu:1" in shown
    given = {line.split()[0]: line.split()[-1] for line in tasks.splitlines()}
    assert {number for number, what in given.items() if what == "gpu=0"} == {job}
    assert {what for number, what in given.items() if number != job} == {"gpu="}
