"""The configuration check: defaults, unknown keys, wrong types, unknown trackers."""

import copy
from pathlib import Path

import pytest
import yaml

from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError
from trackbench.learning_config import Row, main_row, options_to_tune
from trackbench.trackers.base import load_module, tracker_names

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
MINIMAL = {"run": "x", "trackers": {"helix_hash": {}, "dbscan": {}}}


def check(**changes):
    config = copy.deepcopy(MINIMAL)
    config.update(changes)
    return check_config(config, SCHEMA)


@pytest.mark.parametrize("name", ["config/config", "config/smoke", "config/paper", "config/gpu", "gpu/tiny"])
def test_shipped_configurations_are_valid(name):
    config = yaml.safe_load((ROOT / f"{name}.yaml").read_text())
    assert check_config(config, SCHEMA)["run"] in {"demo", "smoke", "paper", "gpu", "gpu-tiny"}


def test_defaults_are_filled_in_at_every_level():
    complete = check()
    assert complete["data"]["simulate"]["sigma_z"] == 5.5
    assert complete["data"]["events"] == {"train": 0, "val": 1, "test": 4}
    assert complete["selection"]["pt_min"] == 0.9


def test_effects_are_off_unless_asked_for():
    assert check()["effects"] == {"trackers": [], "events": 1, "variations": {}}
    variations = {"nominal": {}, "field 1 % low": {"field": 1.98}, "twice the noise": {"noise_fraction": 0.26}}
    assert list(check(effects={"variations": variations})["effects"]["variations"]) == list(variations)


def test_given_values_survive():
    complete = check(data={"simulate": {"pileup": 7}})
    assert complete["data"]["simulate"] == {
        "pileup": 7, "hard_process": "ttbar", "sigma_z": 5.5, "hit_efficiency": 0.98, "noise_fraction": 0.15,
        "field": 2.0, "misalignment": 0, "cells": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trakcers": {}}, ["trakcers", "unknown key", "did you mean 'trackers'?"]),
        ({"data": {"sorce": "local"}}, ["data.sorce", "unknown key", "did you mean 'source'?"]),
        ({"data": {"simulate": {"pileup": "many"}}}, ["data.simulate.pileup", "'many'", "type number"]),
        ({"data": {"simulate": {"pileup": -1}}}, ["data.simulate.pileup", "-1", "minimum"]),
        ({"data": {"source": "web"}}, ["data.source", "'web'", "simulate, local, kaggle"]),
        ({"trackers": {"helix_hsah": {}}}, ["helix_hsah", "does not exist", "did you mean 'helix_hash'?"]),
        ({"trackers": {"helix_hash": {}, "dbscan": {"epss": 1}}}, ["trackers.dbscan.epss", "unknown key"]),
        ({"trackers": {}}, ["trackers"]),
        ({"evaluation": {"reference": "hdbscan"}}, ["evaluation.reference", "'hdbscan'", "helix_hash, dbscan"]),
        ({"data": {"source": "local"}}, ["data.local.path", "empty"]),
        ({"data": {"source": "local", "local": {"path": "no/such"}}}, ["data.local.path", "no/such", "does not exist"]),
        ({"data": {"events": {"test": 0}}}, ["data.events.test", "at least 1"]),
        ({"surfaces": {"nosuch": {}}}, ["nosuch", "does not exist"]),
        ({"surfaces": {"helix_hash": {}}}, ["surfaces.helix_hash", "projection surfaces"]),
        ({"scan": {"pileup": [2000]}}, ["pileup", "2000", "0..1500"]),
        ({"data": {"simulate": {"hard_process": "none", "pileup": 0}}}, ["nothing to simulate"]),
        ({"tuning": {"events": 3}}, ["tuning.events", "3", "at most"]),
        ({"trackers": {"helix_hash": {}, "dbscan": None}}, ["trackers.dbscan", "empty", "{}"]),
        ({"effects": {"variation": {}}}, ["effects.variation", "unknown key", "did you mean 'variations'?"]),
        (
            {"effects": {"variations": {"low field": {"feild": 1.98}}}},
            ["effects.variations.low field.feild", "unknown key", "did you mean 'field'?"],
        ),
        ({"effects": {"variations": {"seeds": {"seed": 3}}}}, ["effects.variations.seeds.seed", "unknown key"]),
        ({"effects": {"variations": {"none": None}}}, ["effects.variations.none", "empty", "{}"]),
        ({"effects": {"variations": {"x": {"field": 0}}}}, ["effects.variations.x.field", "0", "exclusiveMinimum"]),
        ({"effects": {"variations": {"much": {"pileup": 2000}}}}, ["effects.variations.much", "2000", "0..1500"]),
        ({"effects": {"trackers": ["hdbscan"]}}, ["effects.trackers", "'hdbscan'", "helix_hash, dbscan"]),
        ({"run": "Not Valid"}, ["run", "Not Valid"]),
        (
            {"trackers": {"helix_hash": {}, "encreg": {}}},
            ["trackers.encreg.checkpoint", "missing", "trained weights", "subevents.trackers with a model"],
        ),
        ({"trackers": {"wide": {"tracker": "dbscn"}}}, ["trackers.wide.tracker", "'dbscn'", "did you mean 'dbscan'?"]),
        ({"trackers": {"wide": {"tracker": "dbscan", "epss": 1}}}, ["key", "trackers.wide.epss", "unknown key"]),
        ({"trackers": {"wide": {"barrel_eps": 3}}}, ["tracker 'wide'", "does not exist"]),
        ({"trackers": {"wide": {"tracker": 3}}}, ["trackers.wide.tracker", "type string"]),
        ({"trackers": {"Wide-1": {"tracker": "dbscan"}}}, ["key trackers", "'Wide-1'", "pattern"]),
        (
            {"trackers": {"hdbscan": {"tracker": "dbscan"}}},
            ["trackers.hdbscan.tracker", "'dbscan' in a row named like another tracker", "'hdbscan', or another name"],
        ),
        ({"trackers": {"mine": {"tracker": "encreg"}}}, ["trackers.mine.checkpoint", "missing", "trained weights"]),
        (
            {"trackers": {"wide": {"tracker": "dbscan"}}, "effects": {"trackers": ["dbscan"]}},
            ["'dbscan'", "some of wide"],
        ),
        (
            {"trackers": {"wide": {"tracker": "dbscan"}}, "evaluation": {"reference": "dbscan"}},
            ["evaluation.reference", "'dbscan'", "one of wide"],
        ),
    ],
)
def test_each_mistake_is_one_clear_sentence(changes, words):
    with pytest.raises(ConfigError) as caught:
        check(**changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_learned_tracker_with_weights_is_one_like_others():
    assert "latent" in check(trackers={"helix_hash": {}, "latent": {"checkpoint": "w.pt"}})["trackers"]


def test_one_tracker_can_be_several_rows():
    rows = {
        "dbscan": {},
        "dbscan_wide": {"tracker": "dbscan", "barrel_eps": 0.2},
        "finder": {"tracker": "helix_finder"},
    }
    complete = check(trackers=rows, effects={"trackers": ["dbscan_wide"]}, evaluation={"reference": "dbscan_wide"})
    assert main_row(complete, "dbscan") == Row("dbscan", {}, None, None)
    assert main_row(complete, "dbscan_wide") == Row("dbscan", {"barrel_eps": 0.2}, None, None)
    assert complete["trackers"] == rows  # the look-up takes nothing away
    assert check(trackers={"wide": {"tracker": "dbscan"}})["evaluation"]["reference"] == "wide"
    assert check(trackers={"dbscan": {"tracker": "dbscan"}})["trackers"]


def test_what_a_row_sets_is_not_tuned():
    space = list(load_module("dbscan").Tracker.search_space)
    complete = check(trackers={"open": {"tracker": "dbscan"}, "half": {"tracker": "dbscan", space[0]: 1}})
    assert options_to_tune(main_row(complete, "open")) == space
    assert options_to_tune(main_row(complete, "half")) == space[1:]
    assert options_to_tune(Row("dbscan", dict.fromkeys(space, 1), None, None)) == []
    assert options_to_tune(Row("helix_finder", {}, None, None)) == []


def test_no_tracker_has_a_setting_of_the_name_of_the_reserved_key():
    assert [name for name in tracker_names() if "tracker" in load_module(name).Config.__dataclass_fields__] == []


def test_every_option_is_documented():
    text = (ROOT / "config/README.md").read_text()

    def keys(schema, path=()):
        for key, part in schema.get("properties", {}).items():
            yield ".".join((*path, key))
            yield from keys(part, (*path, key))

    missing = [key for key in keys(SCHEMA) if f"`{key}`" not in text]
    assert not missing
