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
