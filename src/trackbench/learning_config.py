"""What the workflow configuration says about rows, data sets of few tracks and networks: check it, look things up.

Light on purpose: every job of the workflow reads it. A *row* is an entry of ``trackers`` (main sample, pile-up scan and
effects), or of ``subevents.trackers`` or ``collisions.trackers``, whichever the set belongs to; of the latter two
``name@10-50`` is the row with the weights trained on that set, whatever set it is run on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trackbench.derived_sets import origin_of, weights_set
from trackbench.errors import ConfigError, describe
from trackbench.settings import build_dataclass
from trackbench.trackers.base import build_config, load_module, tracker_names

FLOOR = "hit_angles"


@dataclass(frozen=True)
class Row:
    """What is run under the name of a row: tracker module, its settings, and the model and set of its weights."""

    tracker: str
    settings: dict
    model: str | None
    trained_on: str | None


def set_range(name: str) -> tuple[int, int]:
    """Smallest and largest number of tracks of the set ``name``, such as "10-50"."""
    low, high = re.fullmatch(r"([0-9]+)-([0-9]+)", name).groups()
    return int(low), int(high)


def block_of(config: Mapping, set_name: str) -> str:
    """Block of the configuration that a set belongs to: "collisions" (full events) or "subevents"."""
    return "collisions" if set_name in config["collisions"]["sets"] else "subevents"


def main_row(config: Mapping, name: str) -> Row:
    """Look up an entry of ``trackers``: its reserved key ``tracker`` names the module, all others are settings."""
    settings = dict(config["trackers"][name])
    return Row(settings.pop("tracker", name), settings, None, None)


def options_to_tune(row: Row) -> list[str]:
    """Tunable settings of the row's tracker that the row leaves open."""
    space = load_module(row.tracker).Tracker.space_to_tune(row.settings)
    return [option for option in space if option not in row.settings]


def find_row(config: Mapping, name: str, set_name: str) -> Row:
    """Look up a row for one set.

    name: "encreg" or, with the weights of another set, "encreg@50-100"
    Returns the row; trackers that need weights have them from ``trained_on``.
    """
    base, _, other = name.partition("@")
    entry = config[block_of(config, set_name)]["trackers"][base]
    trained_on = (other or weights_set(config, entry["model"], set_name) or set_name) if entry["model"] else None
    settings = dict(entry["settings"])
    for set_with_changes in (other,) if other else (origin_of(config, set_name), set_name):
        settings |= entry["overrides"].get(set_with_changes, {})
    return Row(entry["tracker"] or base, settings, entry["model"], trained_on)


def rows_of_set(config: Mapping, set_name: str) -> list[str]:
    """Rows that are compared on a set: all without a model, and those whose model is trained on it or its origin."""
    return [
        name
        for name, entry in config[block_of(config, set_name)]["trackers"].items()
        if entry["model"] is None or weights_set(config, entry["model"], set_name)
    ]


def matrix_rows(config: Mapping, set_name: str) -> list[str]:
    """Rows of the train-on-A test-on-B matrix for test set ``set_name``, without those of ``rows_of_set``."""
    trained = {name: sets_with_weights(config, _entry(config, name)["model"]) for name in config["subevents"]["matrix"]}
    return [f"{name}@{other}" for name, sets in trained.items() for other in sets if other != set_name]


def sets_with_weights(config: Mapping, model: str, block: str = "subevents") -> list[str]:
    """Sets of a block that a model is trained on, in the order of the model's."""
    return [name for name in config["models"][model]["sets"] if name in config[block]["sets"]]


def model_settings(config: Mapping, model: str, set_name: str) -> dict[str, dict]:
    """Blocks "network", "loss" and "training" of a model for the weights that are used on a set, overrides applied."""
    entry = config["models"][model]
    changes = entry["overrides"].get(weights_set(config, model, set_name) or set_name, {})
    return {block: {**entry[block], **changes.get(block, {})} for block in ("network", "loss", "training")}


def n_gpus(config: Mapping, model: str | None, set_name: str) -> int:
    """GPUs of a job that uses the network of ``model`` trained on a set: 1 if the model asks for CUDA."""
    return int(bool(model) and model_settings(config, model, set_name)["training"].get("device") == "cuda")


def training_threads(config: Mapping, model: str, set_name: str) -> int:
    """CPU threads of a training: one per window of a decoder on a GPU, whose tracks are matched there side by side.

    Otherwise 1: on a CPU the last bits of the weights must not depend on how many cores there are.
    """
    if config["models"][model]["task"] != "heptv2" or not n_gpus(config, model, set_name):
        return 1
    from trackbench.trackers.layers.hept_config import HeptConfig

    network = HeptConfig(**model_settings(config, model, set_name)["network"])
    return network.sectors * (1 + network.overlap) if network.queries != "none" and network.sectors > 1 else 1


def class_bins(config: Mapping) -> list[tuple[int, int, int]]:
    """Numbers of bins (n_phi, n_theta, n_p) of every classifier that is trained."""
    from trackbench.training.config import LossConfig

    bins = {}
    for name, model in config["models"].items():
        if model["task"] in ("enccla", "joint"):
            for set_name in model["sets"]:
                loss = LossConfig(**model_settings(config, name, set_name)["loss"])
                bins[(loss.n_phi, loss.n_theta, loss.n_p)] = None
    return list(bins)


def check_learning(config: Mapping) -> None:
    """Check the blocks ``models`` and ``subevents`` beyond what the schema says. Raises ConfigError."""
    sets = config["subevents"]["sets"]
    for name in sets:
        low, high = set_range(name)
        _require(f"subevents.sets.{name}", f"range {low} to {high}", 1 <= low <= high, "1 <= lowest <= highest")
    if sets:
        _check_parents(config)
    for name in config["models"]:
        _check_model(config, name)
    for name in config["subevents"]["trackers"]:
        check_row(config, "subevents", name)
    _check_studies(config)


def check_main_row(config: Mapping, name: str) -> None:
    """Check an entry of ``trackers``. Raises ConfigError.

    A row named like a tracker is that tracker, and a learned one needs weights: none are trained for the main sample.
    """
    where, row = f"trackers.{name}", main_row(config, name)
    try:
        module = load_module(row.tracker)
    except ConfigError as error:
        raise (error if row.tracker == name else ConfigError(f"config key {where}.tracker: {error}")) from None
    is_own = row.tracker == name or name not in tracker_names()
    what = f"value '{row.tracker}' in a row named like another tracker"
    _require(f"{where}.tracker", what, is_own, f"'{name}', or another name of the row")
    build_dataclass(module.Config, where, row.settings)
    if hasattr(module.Config, "checkpoint") and not row.settings.get("checkpoint"):
        remedy = "give the path of its weights, or make it a row of subevents.trackers with a model"
        raise ConfigError(describe(f"config key {where}.checkpoint", "missing", "trained weights", remedy))


def _check_parents(config: Mapping) -> None:
    from trackbench.simulation.config import SimulationConfig

    events = config["subevents"]["parents"]["events"]
    _require("subevents.parents.events.test", f"value {events['test']}", events["test"] >= 1, "at least 1")
    rows = config["subevents"]["trackers"]
    _require("subevents.trackers", f"no row '{FLOOR}'", FLOOR in rows, "the floor in every comparison")
    SimulationConfig(**{**config["data"]["simulate"], **config["subevents"]["parents"]["simulate"]})


def _check_model(config: Mapping, name: str) -> None:
    from trackbench.training.config import check_task, settings_classes

    where, entry = f"models.{name}", config["models"][name]
    classes = settings_classes(entry["task"])
    known = [*config["subevents"]["sets"], *config["collisions"]["sets"]]
    for set_name in (*entry["sets"], *entry["overrides"]):
        _choice(f"{where}.sets", set_name, known)
    for set_name in entry["sets"]:
        blocks = model_settings(config, name, set_name)
        built = {block: build_dataclass(cls, f"{where}.{block}", blocks[block]) for block, cls in classes.items()}
        check_task(entry["task"], built["network"], built["loss"])
    for set_name in entry["sets"]:
        _check_events_to_train(config, set_name)


def _check_events_to_train(config: Mapping, set_name: str) -> None:
    in_parents = block_of(config, set_name) == "subevents"
    where = "subevents.parents" if in_parents else f"collisions.sets.{set_name}"
    events = (
        config["subevents"]["parents"]["events"] if in_parents else config["collisions"]["sets"][set_name]["events"]
    )
    for split in ("train", "val"):
        what = f"value {events[split]} with a model to train"
        _require(f"{where}.events.{split}", what, events[split] >= 1, "at least 1")


def check_row(config: Mapping, block: str, name: str) -> None:
    """Check a row of a block, "subevents" or "collisions". Raises ConfigError."""
    where, entry = f"{block}.trackers.{name}", config[block]["trackers"][name]
    tracker = entry["tracker"] or name
    for set_name in entry["overrides"]:
        _choice(f"{where}.overrides", set_name, config[block]["sets"])
    for settings in (entry["settings"], *entry["overrides"].values()):
        build_config(tracker, settings)
    needs_model = hasattr(load_module(tracker).Config, "checkpoint")
    if entry["model"] is not None:
        _choice(f"{where}.model", entry["model"], config["models"])
        _require(f"{where}.model", f"tracker '{tracker}' has no weights", needs_model, "no model")
        what = f"model '{entry['model']}' is trained on none of {block}.sets"
        _require(f"{where}.model", what, sets_with_weights(config, entry["model"], block), "a model that is")
    elif needs_model and not entry["settings"].get("checkpoint"):
        raise ConfigError(describe(f"config key {where}.model", "missing", "one of " + ", ".join(config["models"])))


def _check_studies(config: Mapping) -> None:
    block = config["subevents"]
    for key in ("matrix", "predictions"):
        for name in block[key]:
            entry = _entry(config, name, f"subevents.{key}")
            _require(f"subevents.{key}", f"row '{name}' has no model", entry["model"] is not None, "rows with a model")
    for name in block["latency"]["trackers"]:
        _entry(config, name, "subevents.latency.trackers")
    if block["decomposition"]["tracker"] is not None:
        _check_decomposed_row(config, block["decomposition"]["tracker"])
        _choice("subevents.decomposition.set", block["decomposition"]["set"], block["sets"])
    if block["masks"]["set"] is not None:
        _choice("subevents.masks.set", block["masks"]["set"], block["sets"])


def _check_decomposed_row(config: Mapping, name: str) -> None:
    where = "subevents.decomposition.tracker"
    tracker = _entry(config, name, where)["tracker"] or name.partition("@")[0]
    environment = load_module(tracker).Tracker.environment
    what = f"row '{name}' of tracker '{tracker}', which runs in envs/{environment}.yaml"
    expected = "a row of a tracker that runs in cluster.yaml or torch.yaml, as the study needs more than a tracker"
    _require(where, what, environment in ("cluster", "torch"), expected)


def _entry(config: Mapping, name: str, where: str = "subevents.trackers") -> Mapping:
    """The row of a name that may carry the set of its weights."""
    _choice(where, name.partition("@")[0], config["subevents"]["trackers"])
    return config["subevents"]["trackers"][name.partition("@")[0]]


def _choice(where: str, value: object, allowed: Sequence[str] | Mapping) -> None:
    if value not in allowed:
        raise ConfigError(
            describe(f"config key {where}", f"value {value!r}", "one of " + (", ".join(allowed) or "none"))
        )


def _require(where: str, what: str, good: bool, expected: str) -> None:
    if not good:
        raise ConfigError(describe(f"config key {where}", what, expected))
