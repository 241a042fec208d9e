"""Tuning: the best setting of an exhaustive scan, ties, groups, limits, files."""

import json

import numpy as np
import pytest
from toys import toy_event

from trackbench import tuning
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.sectored import build_sectored
from trackbench.trackers import dbscan
from trackbench.trackers.base import build_tracker
from trackbench.tuning import tune, write

EVENTS = [toy_event(n_tracks=60, n_noise=60, seed=seed, event_id=seed) for seed in (1, 2)]


def pooled(name, settings, metric, selection=None):
    results = [evaluate_event(build_tracker(name, settings).reconstruct(h), t, selection) for h, t in EVENTS]
    counts = np.array([result.counts[metric] for result in results])
    return counts[:, 0].sum() / counts[:, 1].sum()


def test_finds_the_maximum_of_all_products(monkeypatch):
    space = {"barrel_eps": (0.5, 2.0, 8.0), "endcap_eps": (0.5, 1.5)}
    monkeypatch.setattr(dbscan.Tracker, "search_space", space)
    monkeypatch.setattr(dbscan.Tracker, "search_groups", ())
    result = tune("dbscan", {}, EVENTS)
    expected = {
        (barrel, endcap): pooled("dbscan", {"barrel_eps": barrel, "endcap_eps": endcap}, "dm")
        for barrel in space["barrel_eps"]
        for endcap in space["endcap_eps"]
    }
    assert result["tried"] == len(result["scan"]) == 6
    assert [entry["value"] for entry in result["scan"]] == pytest.approx(list(expected.values()))
    assert len({round(value, 9) for value in expected.values()}) > 2, "the scan must discriminate"
    assert result["value"] == max(expected.values())
    assert expected[result["settings"]["barrel_eps"], result["settings"]["endcap_eps"]] == result["value"]
    assert (result["tracker"], result["events"]) == ("dbscan", [1, 2])


def test_groups_replace_the_product_by_the_sum(monkeypatch):
    """Barrel and endcap options act on different hits: group by group finds an equally good setting."""
    space = {"barrel_eps": (0.5, 2.0, 8.0), "endcap_eps": (0.5, 1.5)}
    monkeypatch.setattr(dbscan.Tracker, "search_space", space)
    monkeypatch.setattr(dbscan.Tracker, "search_groups", ())
    product = tune("dbscan", {}, EVENTS)
    monkeypatch.setattr(dbscan.Tracker, "search_groups", (("barrel_eps",), ("endcap_eps",)))
    groups = tune("dbscan", {}, EVENTS)
    assert (product["tried"], groups["tried"]) == (6, 5)
    assert groups["value"] == product["value"]
    assert set(groups["settings"]) == {"barrel_eps", "endcap_eps"}


def test_given_settings_are_not_tuned(monkeypatch):
    monkeypatch.setattr(dbscan.Tracker, "search_space", {"barrel_eps": (0.5, 2.0), "endcap_eps": (0.5, 1.5)})
    result = tune("dbscan", {"barrel_eps": 0.7, "min_samples": 2}, EVENTS)
    assert result["tried"] == 2
    assert result["settings"]["barrel_eps"] == 0.7
    assert all(entry["settings"]["min_samples"] == 2 for entry in result["scan"])


def test_nothing_to_tune(monkeypatch):
    monkeypatch.setattr(dbscan.Tracker, "search_space", {})
    result = tune("dbscan", {"barrel_eps": 2.0}, EVENTS)
    assert result["tried"] == 1
    assert result["settings"] == {"barrel_eps": 2.0}
    assert result["value"] == pooled("dbscan", {"barrel_eps": 2.0}, "dm")
    assert tune("dbscan", None, EVENTS)["settings"] == {}


def test_equal_efficiency_is_decided_by_fakes_then_order(monkeypatch):
    outcomes = {1: (5, 0.5), 2: (5, 0.2), 3: (4, 0.0), 4: (5, 0.2), 5: (5, None)}

    def measure(tracker, settings, events, selection, metric):
        found, fake = outcomes[settings["min_samples"]]
        return {"settings": settings, "value": found / 10, "fake_rate": fake, "num": found, "den": 10}

    monkeypatch.setattr(tuning, "_measure", measure)
    monkeypatch.setattr(dbscan.Tracker, "search_space", {"min_samples": (1, 2, 3, 4, 5)})
    assert tune("dbscan", {}, EVENTS)["settings"] == {"min_samples": 2}


def test_selection_is_used(monkeypatch):
    monkeypatch.setattr(dbscan.Tracker, "search_space", {})
    hard = TruthSelection(pt_min=1.5)
    result = tune("dbscan", {}, EVENTS, hard)
    assert result["value"] == pooled("dbscan", {}, "dm", hard)
    assert result["scan"][0]["den"] < tune("dbscan", {}, EVENTS)["scan"][0]["den"]


def test_limit_draws_with_the_seed():
    few = tune("dbscan", {}, EVENTS[:1], max_settings=6, seed=3)
    again = tune("dbscan", {}, EVENTS[:1], max_settings=6, seed=3)
    assert few["tried"] <= 6
    assert few == again
    other = tune("dbscan", {}, EVENTS[:1], max_settings=6, seed=4)
    assert [entry["settings"] for entry in few["scan"]] != [entry["settings"] for entry in other["scan"]]


def test_result_is_json(tmp_path):
    result = tune("grid_window", {}, EVENTS[:1], max_settings=2)
    write(tmp_path / "tuned" / "grid_window.json", result)
    assert json.loads((tmp_path / "tuned" / "grid_window.json").read_text()) == result


def test_no_targets_is_not_a_crash(tmp_path):
    events = [toy_event(n_tracks=0, n_noise=30, seed=1)]
    result = tune("dbscan", {}, events, max_settings=2)
    assert result["value"] is None
    write(tmp_path / "none.json", result)


def test_errors():
    with pytest.raises(InputError, match="tuning of dbscan: no validation events"):
        tune("dbscan", {}, [])
    with pytest.raises(ConfigError, match="max_settings: value 0, expected at least 1"):
        tune("dbscan", {}, EVENTS, max_settings=0)
    with pytest.raises(ConfigError, match=r"trackers\.dbscan\.epss: unknown key"):
        tune("dbscan", {"epss": 1.0}, EVENTS)


def test_the_tracker_is_tuned_the_way_it_is_run(monkeypatch):
    monkeypatch.setattr(dbscan.Tracker, "search_space", {"min_samples": (2, 3)})
    result = tune("dbscan", {}, EVENTS, build=lambda *args: build_sectored(*args, count=6))
    assert result["value"] < tune("dbscan", {}, EVENTS)["value"]  # tracks across borders are cut


def test_a_best_value_at_the_edge_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(dbscan.Tracker, "search_space", {"endcap_eps": (0.001, 0.002, 0.003), "min_samples": (2, 3)})
    tune("dbscan", {}, EVENTS)
    assert "dbscan: the best endcap_eps is at the edge of the values tried" in caplog.text
    assert "min_samples" not in caplog.text


def test_another_metric_can_be_tuned():
    result = tune("dbscan", {"endcap_eps": 1.0}, EVENTS, metric="trackml_score", max_settings=2)
    assert result["metric"] == "trackml_score"
    assert result["value"] == pytest.approx(pooled("dbscan", result["settings"], "trackml_score"))
    with pytest.raises(ConfigError, match="metric: value 'score', expected one of dm"):
        tune("dbscan", {}, EVENTS, metric="score")
