"""What the workflow configuration says about samples of whole events besides the main one: check it, look things up.

Such a set (``collisions.sets``) is a sample of its own, named as the set: simulated, indexed, trained on and judged
with the data and truth selection of the main sample, noise kept. Light on purpose, like ``learning_config``, whose
look-ups of rows and models hold for these sets too.
"""

from collections.abc import Mapping

from trackbench.ablations import check_ablations
from trackbench.errors import ConfigError, describe
from trackbench.learning_config import check_row, find_row, model_settings, rows_of_set, sets_with_weights
from trackbench.trackers.base import load_module

FIRST_EVENT = 40_000_001
EVENTS_PER_SET = 1_000_000
_TAKEN = ("main", "scan", "effects", "parents", "tiled", "latency")  # samples, and folders beside them
_TAKEN_PREFIX = "tracks-"
WHOLE_EVENT_TASKS = ("heptv2", "hept")  # not for sub-events of few tracks
_STUDIED = "heptv2"  # tracker whose steps after the network are studied


def first_event(config: Mapping, set_name: str) -> int:
    """First event number of a simulated set: 40,000,001 + 1,000,000 times the number of the set."""
    return FIRST_EVENT + EVENTS_PER_SET * list(config["collisions"]["sets"]).index(set_name)


def simulation_of(config: Mapping, set_name: str) -> dict:
    """Values of ``data.simulate`` with the changes of a set; the seed is not among them."""
    return {**config["data"]["simulate"], **config["collisions"]["sets"][set_name]["simulate"]}


def row_names(config: Mapping, set_name: str) -> dict[str, str]:
    """Rows of a set and the name each is shown under: with the label of its model, if that has one.

    Returns such as ``{"helix_finder": "helix_finder", "heptv2": "heptv2 (demo)"}``, in the order of the configuration.
    """
    names = {}
    for row in rows_of_set(config, set_name):
        model = config["collisions"]["trackers"][row]["model"]
        label = model_settings(config, model, set_name)["training"].get("label", "") if model else ""
        names[row] = f"{row} ({label})" if label else row
    return names


def reference_of(config: Mapping, set_name: str) -> str:
    """Row that the others of a set are compared with: ``evaluation.reference`` if it is one of them, else the first."""
    names, wanted = row_names(config, set_name), config["evaluation"]["reference"]
    return names.get(wanted, next(iter(names.values())))


def post_processing_sets(config: Mapping) -> list[str]:
    """Sets on whose test events the steps after the network are studied: those the row's weights are trained on."""
    row = config["collisions"]["post_processing"]
    if row is None:
        return []
    return sets_with_weights(config, config["collisions"]["trackers"][row]["model"], "collisions")


def scaling_rows(config: Mapping) -> list[str]:
    """Rows whose time and memory are measured against the number of hits: those named, or all of that set."""
    block = config["collisions"]["scaling"]
    return block["trackers"] or (rows_of_set(config, block["set"]) if block["set"] is not None else [])


def check_collisions(config: Mapping) -> None:
    """Check the block ``collisions`` beyond what the schema says. Raises ConfigError."""
    for name in config["collisions"]["trackers"]:
        check_row(config, "collisions", name)
    for name in config["collisions"]["sets"]:
        _check_set(config, name)
    known = config["collisions"]["sets"]
    for name, model in config["models"].items():
        wrong = [set_name for set_name in model["sets"] if set_name not in known]
        if wrong and model["task"] in WHOLE_EVENT_TASKS:
            what, expected = f"value '{wrong[0]}' with task {model['task']}", "one of collisions.sets: "
            expected += ", ".join(known) or "none"
            raise ConfigError(describe(f"config key models.{name}.sets", what, expected))
    _check_post_processing(config)
    check_ablations(config)
    _check_scaling(config)


def _check_post_processing(config: Mapping) -> None:
    wanted, rows = config["collisions"]["post_processing"], config["collisions"]["trackers"]
    known = [name for name, row in rows.items() if row["model"] and (row["tracker"] or name) == _STUDIED]
    if wanted is not None and wanted not in known:
        expected = f"a row of collisions.trackers of tracker {_STUDIED} with a model, one of "
        expected += ", ".join(known) or "none"
        raise ConfigError(describe("config key collisions.post_processing", f"value '{wanted}'", expected))


def _check_scaling(config: Mapping) -> None:
    block, where = config["collisions"]["scaling"], "config key collisions.scaling"
    name, sets = block["set"], config["collisions"]["sets"]
    if name is None:
        for key in ("trackers", "tiling"):
            if block[key]:
                raise ConfigError(describe(f"{where}.set", f"missing beside {key}", "one of " + ", ".join(sets)))
        return
    if name not in sets:
        raise ConfigError(describe(f"{where}.set", f"value '{name}'", "one of " + (", ".join(sets) or "none")))
    rows = rows_of_set(config, name)
    for row in block["trackers"]:
        if row not in rows:
            expected = f"rows that are run on {name}: " + ", ".join(rows)
            raise ConfigError(describe(f"{where}.trackers", f"value '{row}'", expected))
    if block["tiling"]:
        _check_tiled_rows(config)
    if block["tiling"] != sorted(block["tiling"]):
        raise ConfigError(describe(f"{where}.tiling", f"value {block['tiling']}", "rising numbers of hits"))
    if not block["tiling"] and not config["scan"]["pileup"]:
        what = "neither sizes nor a scan of pile-up"
        raise ConfigError(describe(where, what, "scaling.tiling, scan.pileup or both"))


def _check_tiled_rows(config: Mapping) -> None:
    for row in scaling_rows(config):
        tracker = find_row(config, row, config["collisions"]["scaling"]["set"]).tracker
        if load_module(tracker).Tracker.needs_modules:
            what = f"row '{row}' of tracker '{tracker}', which needs hits in the planes of their modules"
            expected = "rows of other trackers, since tiled hits are not"
            raise ConfigError(describe("config key collisions.scaling.trackers", what, expected))


def _check_set(config: Mapping, name: str) -> None:
    where, block = f"config key collisions.sets.{name}", config["collisions"]["sets"][name]
    if name in _TAKEN or name.startswith(_TAKEN_PREFIX):
        raise ConfigError(describe(where, "name of another sample", f"none of {', '.join(_TAKEN)}, {_TAKEN_PREFIX}*"))
    events = block["events"]
    if events["test"] < 1:
        raise ConfigError(describe(f"{where}.events.test", f"value {events['test']}", "at least 1"))
    total = sum(events.values())
    if total > EVENTS_PER_SET - 1:
        raise ConfigError(describe(f"{where}.events", f"{total} events", f"fewer than {EVENTS_PER_SET}"))
    wanted = config["collisions"]["tuning"]["events"]
    if 0 < events["val"] < wanted:
        what = f"value {wanted}"
        expected = f"at most collisions.sets.{name}.events.val, {events['val']}"
        raise ConfigError(describe("config key collisions.tuning.events", what, expected))
    _check_source(config, where, name)
    if not rows_of_set(config, name):
        raise ConfigError(describe(f"config key collisions.trackers, set {name}", "no row", "at least one to compare"))


def _check_source(config: Mapping, where: str, name: str) -> None:
    from trackbench.simulation.config import SimulationConfig

    block = config["collisions"]["sets"][name]
    if block["source"] == "data" and config["data"]["source"] != "simulate" and block["simulate"]:
        what = f"{len(block['simulate'])} keys with source data, which is {config['data']['source']}"
        raise ConfigError(describe(f"{where}.simulate", what, "{}"))
    try:
        SimulationConfig(**simulation_of(config, name))
    except ConfigError as error:
        raise ConfigError(f"{where}.simulate: {error}") from None
