"""Samples prepared once more from the events of another: configuration, captions, and both results side by side."""

import copy
from pathlib import Path

import pandas as pd
import pytest

from trackbench.captions import about_set
from trackbench.collisions import post_processing_sets, row_names, simulation_of
from trackbench.config import check_config, read_schema
from trackbench.derived_sets import origin_of, truth_filter_of, weights_set
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.tables import Measured, TableOptions, metrics_table
from trackbench.evaluation.truth_filter import truth_filter_markdown
from trackbench.learning_config import Row, find_row, model_settings, rows_of_set

SCHEMA = read_schema(Path(__file__).resolve().parents[1] / "workflow/schemas/config.schema.yaml")
BASE = {
    "run": "x",
    "trackers": {"dbscan": {}},
    "collisions": {
        "sets": {
            "low": {"events": {"train": 9, "val": 3, "test": 4}, "shard_events": 5, "simulate": {"pileup": 2}},
            "filtered": {"source": "low", "truth_filter": True},
        },
        "trackers": {
            "dbscan": {"overrides": {"low": {"barrel_eps": 0.02}}},
            "heptv2": {"model": "net", "settings": {"cut": -2}, "overrides": {"filtered": {"cut": -1}}},
        },
        "tuning": {"events": 2},
        "post_processing": "heptv2",
    },
    "models": {
        "net": {
            "task": "heptv2",
            "sets": ["low"],
            "network": {"inputs": "geometry"},
            "training": {"label": "demo"},
            "overrides": {"low": {"training": {"steps": 7}}},
        }
    },
}


def check(changes=()):
    config = copy.deepcopy(BASE)
    for path, value in changes:
        block = config
        *parents, last = path
        for key in parents:
            block = block[key]
        block[last] = value
    return check_config(config, SCHEMA)


def test_events_are_those_of_the_origin():
    config = check()
    sets = config["collisions"]["sets"]
    for key in ("events", "shard_events", "simulate"):
        assert sets["filtered"][key] == sets["low"][key]
    assert simulation_of(config, "filtered")["pileup"] == 2
    assert check_config(config, SCHEMA) == config  # as the report reads it again
    assert [origin_of(config, name) for name in ("filtered", "low", "main", "scan")] == ["low", "low", "main", "scan"]


def test_whose_hits_are_removed_by_truth():
    config = check()
    assert [truth_filter_of(config, name) for name in ("low", "filtered")] == [False, True]
    config["data"]["truth_filter"] = True
    assert truth_filter_of(config, "low")
    config["collisions"]["sets"]["filtered"]["truth_filter"] = False
    assert not truth_filter_of(config, "filtered")


def test_weights_and_settings_of_the_rows_are_those_of_the_origin():
    config = check()
    assert rows_of_set(config, "filtered") == ["dbscan", "heptv2"]
    assert find_row(config, "heptv2", "filtered") == Row("heptv2", {"cut": -1}, "net", "low")
    assert find_row(config, "heptv2", "low") == Row("heptv2", {"cut": -2}, "net", "low")
    assert find_row(config, "dbscan", "filtered") == Row("dbscan", {"barrel_eps": 0.02}, None, None)
    assert model_settings(config, "net", "filtered")["training"] == {"label": "demo", "steps": 7}
    assert row_names(config, "filtered")["heptv2"] == "heptv2 (demo)"
    assert post_processing_sets(config) == ["low"]


def test_a_model_may_be_trained_on_the_derived_sample_itself():
    config = check([(("models", "net", "sets"), ["low", "filtered"])])
    assert find_row(config, "heptv2", "filtered").trained_on == "filtered"
    only = check([(("models", "net", "sets"), ["filtered"])])
    assert weights_set(only, "net", "low") is None and rows_of_set(only, "low") == ["dbscan"]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"source": "high"}, ["sets.filtered.source", "'high'", "one of simulate, data, low"]),
        ({"source": "filtered"}, ["sets.filtered.source", "'filtered'"]),
        ({"source": "low", "events": {"test": 1}}, ["sets.filtered.events", "not that of low", "leave it out"]),
        ({"source": "low", "shard_events": 4}, ["sets.filtered.shard_events", "expected 5"]),
        ({"source": "low", "simulate": {"pileup": 3}}, ["sets.filtered.simulate", "not that of low"]),
        ({"source": "low", "truth_filter": 1}, ["sets.filtered.truth_filter", "type boolean or null"]),
        ({}, ["sets.filtered.events.test", "value 0"]),
    ],
)
def test_mistakes_are_one_clear_sentence(block, words):
    with pytest.raises(ConfigError) as error:
        check([(("collisions", "sets", "filtered"), block)])
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_no_chains_and_no_sample_called_as_a_source():
    with pytest.raises(
        ConfigError, match=r"sets\.third\.source: value 'filtered', expected one of simulate, data, low"
    ):
        check([(("collisions", "sets", "third"), {"source": "filtered"})])
    with pytest.raises(ConfigError, match=r"sets\.data: name of a source"):
        check([(("collisions", "sets", "data"), {"events": {"test": 1}})])


def test_captions_warn_and_say_where_the_weights_are_from():
    text = about_set("filtered", check())
    assert "REMOVED BY TRUTH" in text and "2 pile-up" in text
    assert "The same events as those of low, on whose 9 training events networks are trained" in text
    assert "REMOVED BY TRUTH" not in about_set("low", check()) and "same sample" in about_set("low", check())


def table(trackers, hits, n_events=2, n_targets=10):
    """Long table: each tracker finds so many targets per event."""
    measured = {}
    for name, found in trackers.items():
        counts = {"dm": (found, n_targets), "fake_rate": (1, 8), "fake_all": (found, 16)}
        rows = [(event, metric, *pair) for event in range(n_events) for metric, pair in counts.items()]
        measured[name] = Measured(pd.DataFrame(rows, columns=["event_id", "metric", "num", "den"]))
    return metrics_table(measured, TableOptions("pT >= 0.9 GeV", hits=hits))


def test_both_results_side_by_side():
    kept, removed = table({"a": 5, "b": 6, "c": 1}, "noise kept"), table({"b": 8, "a": 7}, "noise REMOVED", n_targets=9)
    text = truth_filter_markdown(kept, removed, ("low", "filtered"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]
    assert rows[0][:3] == ["Noise", "DM, kept", "DM, by truth"] and len(rows[0]) == 7
    assert rows[2] == ["b", "60.0", "88.9", "12.5", "12.5", "37.5", "50.0"]
    assert rows[3][:3] == ["a", "50.0", "77.8"] and len(rows) == 4
    assert "low (noise kept; 20 particles to find)" in text and "filtered (noise REMOVED; 18 particles)" in text


def test_other_events_do_not_compare():
    with pytest.raises(InputError, match=r"samples low and filtered: 1 rows in common, of \[2\] and \[3\] events"):
        truth_filter_markdown(table({"a": 5}, ""), table({"a": 5}, "", n_events=3), ("low", "filtered"))
    with pytest.raises(InputError, match="0 rows in common"):
        truth_filter_markdown(table({"a": 5}, ""), table({"b": 5}, ""), ("low", "filtered"))
