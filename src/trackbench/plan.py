"""How many jobs a configuration is on a cluster, and how long its simulation takes on so many cores.

Job counts are those of a Snakemake dry run, whose output is read here; costs are measured ones from
``benchmarks/results``. Nothing is run.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trackbench.derived_sets import origin_of
from trackbench.errors import InputError, describe, require

# Rules without work, or with work that only the machine with the network can do: no jobs of the cluster.
LOCAL_RULES = ("all", "ablations", "download")
_GROUP = re.compile(r"\bGroup job (\S+) \(jobs in lexicogr")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_COUNT = re.compile(r"^(\w+) +(\d+)$")


@dataclass(frozen=True)
class JobCounts:
    """rules: rule -> jobs of the workflow; groups: group -> jobs of the cluster that such jobs share."""

    rules: Mapping[str, int]
    groups: Mapping[str, int]

    def submitted(self, groups: Mapping[str, str]) -> int:
        """Jobs of the cluster. groups: rule -> group, as in the profile of the dry run."""
        alone = sum(n for rule, n in self.rules.items() if rule not in groups and rule not in LOCAL_RULES)
        return alone + sum(self.groups.values())


def read_dry_run(text: str) -> JobCounts:
    """Read what ``snakemake --dry-run`` with a profile for a cluster printed.

    Raises InputError if it has no statistics of jobs.
    """
    lines = text.splitlines()
    if "Job stats:" not in lines:
        end = text.strip().splitlines()[-1:] or [""]
        raise InputError(describe("dry run", f"printed no job statistics but {end[0]!r}", "", "look at its error"))
    rules = {}
    for line in lines[lines.index("Job stats:") + 1 :]:
        match = _COUNT.match(line)
        if match and match[1] == "total":
            break
        if match:
            rules[match[1]] = int(match[2])
    return JobCounts(rules, Counter(_GROUP.findall(text)))


@dataclass(frozen=True)
class Sample:
    """Events of a sample and how many of them one shard holds, which is one job of each rule on shards."""

    name: str
    events: int
    shard_events: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return math.ceil(self.events / self.shard_events)


def samples_of(config: Mapping) -> list[Sample]:
    """Samples of whole events of a complete configuration (see ``config.check_config``) that have events."""
    data, parents = config["data"], config["subevents"]["parents"]
    found = [Sample("main", sum(data["events"].values()), data["shard_events"])]
    for name, shards in (("scan", config["scan"]["pileup"]), ("effects", config["effects"]["variations"])):
        found.append(Sample(name, config[name]["events"] * len(shards), config[name]["events"]))
    if config["subevents"]["sets"]:
        found.append(Sample("parents", sum(parents["events"].values()), parents["shard_events"]))
    for name in config["collisions"]["sets"]:
        block = config["collisions"]["sets"][origin_of(config, name)]
        found.append(Sample(name, sum(block["events"].values()), block["shard_events"]))
    return [sample for sample in found if sample.events]


@dataclass(frozen=True)
class Costs:
    """Measured costs on one core [s].

    simulate_s, prepare_s: of one event
    start_s: of the two processes of a shard before their first event
    job_s: of a job of the cluster beside that, for each shard in it
    """

    simulate_s: float
    prepare_s: float
    start_s: float
    job_s: float

    @property
    def event_s(self) -> float:
        """Of one event from collision to prepared shard."""
        return self.simulate_s + self.prepare_s


def costs_of(simulation: Mapping, prepare: Mapping, slurm: Mapping, pileup: float) -> Costs:
    """Costs of simulating and preparing at a pile-up, linear between those measured.

    simulation, prepare, slurm: contents of ``simulation.json``, ``prepare.json`` and ``slurm.json`` in
        ``benchmarks/results``
    Raises ConfigError outside the measured range.
    """
    starts = (max(row["init_cpu_s"] for row in simulation["rows"]), max(row["start_cpu_s"] for row in prepare["rows"]))
    simulate_s, prepare_s = (_event_s(record["rows"], pileup) for record in (simulation, prepare))
    return Costs(simulate_s, prepare_s, sum(starts), slurm["shard_overhead_s"]["median"])


def _event_s(rows: Sequence[Mapping], pileup: float) -> float:
    """CPU seconds per event on the line between the two measurements around a pile-up."""
    rows = sorted(rows, key=lambda row: row["pileup"])
    low, high = rows[0]["pileup"], rows[-1]["pileup"]
    require("pile-up", pileup, low <= pileup <= high, f"a number from {low:g} to {high:g}, the measured range")
    before = max((row for row in rows if row["pileup"] <= pileup), key=lambda row: row["pileup"])
    after = next(row for row in rows if row["pileup"] >= pileup)
    width = after["pileup"] - before["pileup"]
    share = (pileup - before["pileup"]) / width if width else 0.0
    return before["cpu_s_per_event"] + share * (after["cpu_s_per_event"] - before["cpu_s_per_event"])


@dataclass(frozen=True)
class Campaign:
    """A simulation to be planned, up to its prepared shards.

    events, shard_events: in all, and in one shard, which one process simulates on one core
    shards_per_job: shards that one job of the cluster handles one after another on one core
    jobs_at_once: most jobs that may be in the queue at a time
    """

    events: int
    shard_events: int = 50
    shards_per_job: int = 4
    jobs_at_once: int = 200

    def __post_init__(self):
        for name in ("events", "shard_events", "shards_per_job", "jobs_at_once"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")


@dataclass(frozen=True)
class Projection:
    """jobs: of the cluster, in so many waves; wall_s, core_s: to the end, of all cores in use [s]; share: of work."""

    cores: int
    jobs: int
    waves: int
    wall_s: float
    core_s: float
    share: float


def project(campaign: Campaign, costs: Costs, cores: int) -> Projection:
    """Project the time of a simulation on so many cores, from the first job to the end of the last.

    Cores are as fast as the one of the measurement and start all jobs that fit at once: waiting in the queue of a
    busy cluster is not in it.
    Raises ConfigError if there are no cores.
    """
    require("cores", cores, cores >= 1, "at least 1")
    shards = math.ceil(campaign.events / campaign.shard_events)
    jobs = math.ceil(shards / campaign.shards_per_job)
    waves = math.ceil(jobs / min(cores, campaign.jobs_at_once))
    length_s = campaign.shards_per_job * (costs.job_s + costs.start_s + campaign.shard_events * costs.event_s)
    core_s = jobs * length_s
    return Projection(cores, jobs, waves, waves * length_s, core_s, campaign.events * costs.event_s / core_s)


def duration(seconds: float) -> str:
    """Write a duration in one or two units: "2 d 3 h", "1 h 40 min", "5 min 2 s", "12 s"."""
    whole = round(seconds)
    for (size, unit), (below, smaller) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def projection_table(campaign: Campaign, costs: Costs, cores: Sequence[int]) -> str:
    """Table of the projections on numbers of cores, under a line with what they are made from.

    Raises ConfigError if there are no cores.
    """
    rows = [("cores", "jobs", "waves", "wall time", "core hours", "of that work")]
    for number in cores:
        plan = project(campaign, costs, number)
        hours = f"{plan.core_s / 3600:.1f}"
        rows.append((f"{number}", plan.jobs, plan.waves, duration(plan.wall_s), hours, f"{100 * plan.share:.0f} %"))
    parts = f"{costs.simulate_s:.2f} s per event to simulate and {costs.prepare_s:.2f} s to prepare"
    return f"{parts},\n{costs.job_s:.0f} s per shard for SLURM and Snakemake:\n\n{columns(rows)}"


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows as text: first column to the left, others to the right."""
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in text
    )
