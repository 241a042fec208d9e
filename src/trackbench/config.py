"""Check a workflow configuration: schema, trackers and ranges; one clear sentence per problem."""

import copy
import difflib
from collections.abc import Mapping
from pathlib import Path

from trackbench.collisions import check_collisions
from trackbench.derived_sets import complete_derived
from trackbench.errors import ConfigError, describe
from trackbench.learning_config import check_learning, check_main_row


def check_config(config: Mapping, schema: Mapping) -> dict:
    """Return ``config`` completed with the schema's defaults.

    config: the merged workflow configuration
    schema: JSON schema, ``additionalProperties: false`` throughout
    Raises ConfigError at the first unknown key, wrong type or value, or unknown tracker.
    """
    from jsonschema import Draft202012Validator

    from trackbench.trackers.base import build_config, load_module

    complete = with_defaults(config, schema)
    errors = sorted(
        Draft202012Validator(schema).iter_errors(complete), key=lambda e: (len(e.path), list(map(str, e.path)))
    )
    if errors:
        raise ConfigError(_sentence(errors[0]))
    for name in complete["trackers"]:
        check_main_row(complete, name)
    if complete["evaluation"]["reference"] is None:
        complete["evaluation"]["reference"] = next(iter(complete["trackers"]))
    for name, settings in complete["surfaces"].items():
        build_config(name, settings)
        if not hasattr(load_module(name).Tracker, "clusters"):
            what, expected = "does not cluster on projection surfaces", "dbscan, density_peaks or the like"
            raise ConfigError(describe(f"config key surfaces.{name}", what, expected))
    complete_derived(complete)
    _check_relations(complete)
    return complete


def read_schema(path: str | Path) -> dict:
    """Read a YAML schema."""
    import yaml

    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def with_defaults(config: Mapping, schema: Mapping) -> dict:
    """Copy ``config`` and fill missing keys with the ``default`` values of ``schema``, level by level."""
    complete = copy.deepcopy(dict(config))
    for key, part in schema.get("properties", {}).items():
        if key not in complete and "default" in part:
            complete[key] = copy.deepcopy(part["default"])
        if part.get("type") == "object" and isinstance(complete.get(key), Mapping):
            complete[key] = with_defaults(complete[key], part)
    entries = schema.get("additionalProperties")
    if isinstance(entries, Mapping):
        for key in complete.keys() - schema.get("properties", {}).keys():
            if isinstance(complete[key], Mapping):
                complete[key] = with_defaults(complete[key], entries)
    return complete


def _sentence(error) -> str:
    """Turn a jsonschema error into one sentence with the offending key, value and what is right."""
    where = "config key " + (".".join(map(str, error.absolute_path)) or "(top level)")
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(unknown, known, 1)
        remedy = f"did you mean '{close[0]}'?" if close else ""
        path = ".".join([*map(str, error.absolute_path), unknown])
        return describe(f"config key {path}", "unknown key", "one of " + ", ".join(known), remedy)
    if error.validator == "type":
        kind = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        if error.instance is None and kind == "object":
            return describe(where, "empty", "a block", "write {} for the defaults")
        return describe(where, f"value {error.instance!r} is a {type(error.instance).__name__}", f"type {kind}")
    if error.validator == "enum":
        allowed = ", ".join(map(str, error.validator_value))
        return describe(where, f"value {error.instance!r}", f"one of {allowed}")
    if error.validator == "required":
        return describe(where, error.message.replace("'", ""), "", "see config/README.md")
    return describe(where, f"value {error.instance!r} breaks the rule {error.validator} = {error.validator_value}")


def _check_relations(config: Mapping) -> None:
    """Rules between keys that a schema cannot say."""
    from trackbench.simulation.config import SimulationConfig

    data = config["data"]
    if data["events"]["test"] < 1:
        raise ConfigError(describe("config key data.events.test", f"value {data['events']['test']}", "at least 1"))
    if data["source"] == "local" and not data["local"]["path"]:
        remedy = "set it to a directory or zip of events"
        raise ConfigError(describe("config key data.local.path", "empty while data.source is local", "a path", remedy))
    if 0 < data["events"]["val"] < config["tuning"]["events"]:
        what = f"value {config['tuning']['events']}"
        raise ConfigError(
            describe("config key tuning.events", what, f"at most data.events.val, {data['events']['val']}")
        )
    for pileup in (data["simulate"]["pileup"], *config["scan"]["pileup"]):
        SimulationConfig(**{**data["simulate"], "pileup": pileup})
    _check_effects(config)
    check_learning(config)
    check_collisions(config)
    if data["source"] == "local" and not Path(data["local"]["path"]).exists():
        what = f"'{data['local']['path']}' does not exist"
        raise ConfigError(describe("config key data.local.path", what, "a directory or zip of events"))
    reference = config["evaluation"]["reference"]
    if reference not in config["trackers"]:
        listed = ", ".join(config["trackers"])
        raise ConfigError(describe("config key evaluation.reference", f"value '{reference}'", f"one of {listed}"))


def _check_effects(config: Mapping) -> None:
    """Every variation must be something that can be simulated, with trackers of this run."""
    from trackbench.simulation.config import SimulationConfig

    effects = config["effects"]
    for name in effects["trackers"]:
        if name not in config["trackers"]:
            listed = ", ".join(config["trackers"])
            raise ConfigError(describe("config key effects.trackers", f"tracker '{name}'", f"some of {listed}"))
    for name, changes in effects["variations"].items():
        try:
            SimulationConfig(**{**config["data"]["simulate"], **changes})
        except ConfigError as error:
            raise ConfigError(f"config key effects.variations.{name}: {error}") from None
