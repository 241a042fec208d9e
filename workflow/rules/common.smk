# Helpers only: paths and numbers derived from the configuration. Nothing heavy is imported here,
# because every cluster job parses this file again.
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from trackbench.captions import about, about_set, reconstruction
from trackbench.collisions import first_event, simulation_of
from trackbench.derived_sets import origin_of, truth_filter_of
from trackbench.config import check_config, read_schema
from trackbench.digest import code_digest
from trackbench.errors import TrackbenchError
from trackbench.files import write_json
from trackbench.learning_config import main_row, options_to_tune
from trackbench.trackers.base import common_environment, load_module
from trackbench.workflow_end import announce_workflow

announce_workflow()

try:
    config.update(
        check_config(config, read_schema(ROOT / "workflow/schemas/config.schema.yaml"))
    )
except TrackbenchError as error:
    raise WorkflowError(str(error)) from None

RUN = config["run"]
DATA = config["data"]
TRACKERS = list(config["trackers"])
FITTING_TRACKERS = [
    name
    for name in TRACKERS
    if load_module(main_row(config, name).tracker).Tracker.fits
]
# Hits of a tiled event are not in the planes of their modules.
TILED_TRACKERS = [
    name
    for name in TRACKERS
    if not load_module(main_row(config, name).tracker).Tracker.needs_modules
]
SAMPLES = ["main", "scan"] if config["scan"]["pileup"] else ["main"]
EFFECTS = config["effects"]["variations"]
EFFECT_TRACKERS = config["effects"]["trackers"] or TRACKERS
SUBEVENTS = config["subevents"]
COLLISIONS = config["collisions"]
COLLISION_SETS = list(COLLISIONS["sets"])
SPLITS = ["train", "val", "test"]
FIT_FIGURES = [
    "pulls",
    "pulls_secondary",
    *(
        f"{kind}_{variable}"
        for kind in ("residuals", "pulls")
        for variable in ("pt", "eta")
    ),
]
FIGURES = [
    "overview",
    *(
        f"{kind}_{variable}"
        for kind in ("efficiency", "fake_rate")
        for variable in ("pt", "eta", "phi", "z0")
    ),
    "differences",
    *FIT_FIGURES,
    "attention",
    "latency_pileup",
    "latency_stages",
    "latency_tiled",
    "effects",
    "projection",
    "event_display",
    "simulation",
]


def events_per_split(sample):
    """Number of events per split; the pile-up scan and the effects are all test events."""
    if sample == "main":
        return DATA["events"]
    if sample == "parents":
        return SUBEVENTS["parents"]["events"]
    if sample in COLLISION_SETS:
        return COLLISIONS["sets"][sample]["events"]
    n_shards = len(config["scan"]["pileup"] if sample == "scan" else EFFECTS)
    return {"test": config[sample]["events"] * n_shards}


def shard_events(sample):
    """Events per shard; a shard of the scan is one pile-up, one of the effects one variation."""
    if sample == "parents":
        return SUBEVENTS["parents"]["shard_events"]
    if sample in COLLISION_SETS:
        return COLLISIONS["sets"][sample]["shard_events"]
    return DATA["shard_events"] if sample == "main" else config[sample]["events"]


def shards(sample):
    """Shard names of a sample, "0000", "0001", ...; a set of sub-events has those of its parents."""
    if sample.startswith("tracks-"):
        sample = "parents"
    return [
        f"{k:04d}"
        for k in range(
            -(-sum(events_per_split(sample).values()) // shard_events(sample))
        )
    ]


def is_simulated(sample):
    """Pile-up scan and effects are always simulated, other samples if their source says so."""
    sample = origin_of(config, sample)
    if sample in COLLISION_SETS and COLLISIONS["sets"][sample]["source"] == "simulate":
        return True
    return sample in ("scan", "effects") or DATA["source"] == "simulate"


def hit_selection(sample):
    """DataSelection values of a sample: sub-events are cut from every hit of the full detector."""
    if sample == "parents":
        return {
            "detector": "full",
            "hit_eta_max": None,
            "truth_filter": False,
            "cells": DATA["cells"],
        }
    selection = {
        key: DATA[key] for key in ("detector", "hit_eta_max", "truth_filter", "cells")
    }
    if sample in COLLISION_SETS:
        selection["truth_filter"] = truth_filter_of(config, sample)
    return selection


def simulation_settings(wildcards):
    """SimulationConfig values of a shard."""
    settings = {**DATA["simulate"], "seed": config["seed"]}
    if wildcards.sample == "scan":
        settings["pileup"] = config["scan"]["pileup"][int(wildcards.shard)]
    if wildcards.sample == "effects":
        settings |= list(EFFECTS.values())[int(wildcards.shard)]
    if wildcards.sample == "parents":
        settings |= SUBEVENTS["parents"]["simulate"]
    if wildcards.sample in COLLISION_SETS:
        settings |= simulation_of(config, wildcards.sample)
    if DATA["cells"]:
        settings["cells"] = True
    return settings


def event_numbers(wildcards):
    """Event numbers of a simulated shard.

    main counts from 1, shard k of the scan from 100000 (k + 1), shard k of the effects from 10 million + 100000 k,
    parents of sub-events from 20 million + 1, set k of whole events from 40 million + 1 + 1 million k.
    """
    size, shard = shard_events(wildcards.sample), int(wildcards.shard)
    if wildcards.sample == "scan":
        return [100000 * (shard + 1) + k for k in range(size)]
    if wildcards.sample == "effects":
        return [10_000_000 + 100000 * shard + k for k in range(size)]
    total = sum(events_per_split(wildcards.sample).values())
    first = 20_000_001 if wildcards.sample == "parents" else 1
    if wildcards.sample in COLLISION_SETS:
        first = first_event(config, wildcards.sample)
    return list(range(first + shard * size, first + min((shard + 1) * size, total)))


def drawn_as(wildcards):
    """Numbers by which the events of a shard are drawn: all effects are seen on the collisions of the first."""
    if wildcards.sample != "effects":
        return None
    return [10_000_000 + k for k in range(shard_events("effects"))]


def raw_source(wildcards):
    """File whose presence says that the raw events of a shard are there."""
    if is_simulated(wildcards.sample):
        origin = origin_of(config, wildcards.sample)
        return f"results/{RUN}/events/{origin}/shard-{wildcards.shard}/manifest.json"
    if DATA["source"] == "kaggle":
        return [
            f"{DATA['kaggle']['directory']}/{archive}"
            for archive in DATA["kaggle"]["archives"]
        ]
    return DATA["local"]["path"]


def is_tuned(tracker):
    """Rows that leave tunable settings open are tuned when validation events are set aside for it."""
    open_settings = options_to_tune(main_row(config, tracker))
    return (
        bool(open_settings)
        and min(config["tuning"]["events"], DATA["events"]["val"]) > 0
    )


def settings_file(tracker):
    """File with the tuned settings of a row of the main table, or nothing if it is not tuned."""
    return f"results/{RUN}/tuned/{tracker}.json" if is_tuned(tracker) else []


@cache  # asked for by every job; the code at the start of the run counts
def digest(script, *modules):
    """Digest of the library code behind a script (see trackbench.digest)."""
    return code_digest(ROOT / "workflow/scripts" / script, modules)


def tracker_digest(script):
    """The same for scripts that load the tracker of the row of the main table that the wildcard names."""
    return lambda wildcards: digest(
        script, *row_modules(main_row(config, wildcards.tracker))
    )


def main_module(wildcards):
    """Tracker module of that row."""
    return main_row(config, wildcards.tracker).tracker


def main_settings(wildcards):
    """Settings of that row."""
    return main_row(config, wildcards.tracker).settings


def environment(wildcards, params):
    """Conda environment of a rule that runs the tracker ``params.tracker``, seen from workflow/rules."""
    return environment_of([params.tracker])


def environment_of(names):
    """The same of a rule that runs all of these trackers."""
    try:
        return f"../../envs/{common_environment(names)}.yaml"
    except TrackbenchError as error:
        raise WorkflowError(str(error)) from None


def all_trackers_digest(script, names):
    """The same for scripts that load several trackers."""
    return digest(script, *(f"trackbench.trackers.{name}" for name in names))


def figure_names():
    """Figures of this run: those without input in this configuration are left out."""
    absent = set()
    if not is_simulated("main"):
        absent.add("simulation")
    if not config["scan"]["tiling"] or not TILED_TRACKERS:
        absent.add("latency_tiled")
    if not config["surfaces"]:
        absent |= {"attention"}
    if not EFFECTS:
        absent.add("effects")
    if len(TRACKERS) < 2:
        absent.add("differences")
    if not FITTING_TRACKERS:
        absent.update(FIT_FIGURES)
    return [name for name in FIGURES if name not in absent]


def final_results():
    """Everything `rule all` asks for."""
    results = Path("results", RUN)
    tables = ["metrics.csv", "summary.html", "summary.md", "summary.tex"]
    tables += ["provenance.csv", "provenance.html", "provenance.md"]
    if config["surfaces"]:
        tables += ["surfaces.csv", "surfaces.html", "surfaces.md"]
    if EFFECTS:
        tables += ["effects.csv", "effects.html", "effects.md"]
    if is_simulated("main"):
        tables += ["simulation.csv", "detectors.csv"]
    return [
        *(str(results / "tables" / name) for name in tables),
        *(
            str(results / "figures" / f"{name}.{kind}")
            for name in figure_names()
            for kind in ("pdf", "png", "csv")
        ),
        str(results / "figures" / "event_display_3d.html"),
        *first_phase_results(),
        *training_results(),
        *collision_results(),
        *scaling_results(),
    ]


def finish_run():
    """Write the HTML report and print where everything is."""
    results = Path("results", RUN)
    if not all(Path(path).exists() for path in final_results()):
        print(
            "Part of the workflow is done; the report needs all of it.", file=sys.stderr
        )
        return
    write_json(results / "config.json", config)
    # The report needs the records of the finished run, so it is a second, short Snakemake call.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--nolock",
    ]
    command += [
        "--configfile",
        str(results / "config.json"),
        "--report",
        str(results / "report.html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        (results / "report.html").unlink(missing_ok=True)
        print(
            f"The report could not be written:\n{done.stderr.strip()[-2000:]}",
            file=sys.stderr,
        )
    else:
        print(f"Report:  {results / 'report.html'}", file=sys.stderr)
    print(f"Event:   {results / 'figures/event_display_3d.html'}", file=sys.stderr)
    print(f"Tables:  {results / 'tables'}", file=sys.stderr)
    print(f"Figures: {results / 'figures'}", file=sys.stderr)


def explain_failure(log):
    """Repeat the errors of the failed jobs, last, and say what to do."""
    text = "".join(Path(path).read_text(encoding="utf-8") for path in log)
    for line in dict.fromkeys(re.findall(r"(?<=[0-9] )error: .*", text)):
        print(line, file=sys.stderr)
    print(f"The run stopped; its whole log is {', '.join(log)}.", file=sys.stderr)
    print(
        "Run the same command again to go on: finished jobs are kept.", file=sys.stderr
    )
