"""Samples of whole events: block `collisions` of the configuration, captions, the tables of jobs side by side."""

import copy
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pandas as pd
import pytest
import yaml

from trackbench.captions import about, about_set
from trackbench.collisions import (
    first_event,
    post_processing_sets,
    reference_of,
    row_names,
    scaling_rows,
    simulation_of,
)
from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError
from trackbench.evaluation.summary import FAKE_COLUMNS, summary_latex, summary_markdown
from trackbench.evaluation.tables import Measured, TableOptions, metrics_table
from trackbench.learning_config import Row, find_row, matrix_rows, n_gpus, rows_of_set, sets_with_weights
from trackbench.plotting.sample import common_header
from trackbench.plotting.style import Header, tracker_style

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
BASE = {
    "run": "x",
    "trackers": {"helix_finder": {}, "dbscan": {}},
    "evaluation": {"reference": "helix_finder"},
    "subevents": {
        "parents": {"events": {"train": 4, "val": 1, "test": 1}},
        "sets": {"10-50": {"length": 700}},
        "trackers": {"hit_angles": {}, "embedded": {"tracker": "latent", "model": "both"}},
        "matrix": ["embedded"],
    },
    "collisions": {
        "sets": {
            "pileup-2": {"events": {"train": 15, "val": 12, "test": 4}, "simulate": {"pileup": 2}},
            "pileup-5": {"events": {"val": 12, "test": 3}, "simulate": {"pileup": 5, "hard_process": "none"}},
        },
        "trackers": {
            "dbscan": {},
            "helix_finder": {},
            "embedded": {
                "tracker": "latent",
                "model": "both",
                "settings": {"min_samples": 2},
                "overrides": {"pileup-2": {"min_samples": 3}},
            },
        },
    },
    "models": {
        "both": {
            "task": "contrastive",
            "sets": ["10-50", "pileup-2"],
            "network": {"targets": "none", "embedding": 8},
            "training": {"label": "demo"},
            "overrides": {"pileup-2": {"training": {"device": "cuda"}}},
        }
    },
}


def check(path=None, value=None):
    """Check the base configuration with the entry at ``path`` set."""
    config = copy.deepcopy(BASE)
    if path:
        *parents, last = path
        block = config
        for key in parents:
            block = block.setdefault(key, {})
        block[last] = value
    return check_config(config, SCHEMA)


def test_nothing_is_asked_for_by_default():
    complete = check_config({"run": "x", "trackers": {"dbscan": {}}}, SCHEMA)
    nothing = {"sets": {}, "trackers": {}, "tuning": {"events": 10}, "post_processing": None}
    scaling = {"set": None, "trackers": [], "tiling": [], "calls": 2, "events": 2}
    assert complete["collisions"] == {**nothing, "ablations": {}, "scaling": scaling}
    assert post_processing_sets(complete) == scaling_rows(complete) == []


def test_defaults_of_a_set_are_filled_in():
    complete = check()["collisions"]["sets"]["pileup-5"]
    assert complete["events"] == {"train": 0, "val": 12, "test": 3}
    assert (complete["shard_events"], complete["source"]) == (20, "simulate")


def test_a_set_is_simulated_with_its_changes_only():
    config = check()
    assert simulation_of(config, "pileup-2") == {**config["data"]["simulate"], "pileup": 2}
    changed = simulation_of(config, "pileup-5")
    assert (changed["pileup"], changed["hard_process"], changed["sigma_z"]) == (5, "none", 5.5)
    assert (first_event(config, "pileup-2"), first_event(config, "pileup-5")) == (40_000_001, 41_000_001)


def test_rows_are_those_of_the_block_of_the_set():
    config = check()
    assert rows_of_set(config, "10-50") == ["hit_angles", "embedded"]
    assert rows_of_set(config, "pileup-2") == ["dbscan", "helix_finder", "embedded"]
    assert rows_of_set(config, "pileup-5") == ["dbscan", "helix_finder"]  # no network is trained on it
    assert find_row(config, "embedded", "pileup-2") == Row("latent", {"min_samples": 3}, "both", "pileup-2")
    assert find_row(config, "embedded", "10-50") == Row("latent", {}, "both", "10-50")


def test_a_model_of_both_kinds_is_transferred_between_sub_events_only():
    config = check()
    assert sets_with_weights(config, "both") == ["10-50"]
    assert sets_with_weights(config, "both", "collisions") == ["pileup-2"]
    assert matrix_rows(config, "10-50") == []
    assert (n_gpus(config, "both", "10-50"), n_gpus(config, "both", "pileup-2")) == (0, 1)


def test_rows_with_weights_carry_the_label_of_their_model():
    names = row_names(check(), "pileup-2")
    assert names == {"dbscan": "dbscan", "helix_finder": "helix_finder", "embedded": "embedded (demo)"}
    config = check(["models", "both", "overrides", "pileup-2", "training"], {"label": ""})
    assert row_names(config, "pileup-2")["embedded"] == "embedded"


def test_reference_is_that_of_the_run_or_the_first_row():
    assert reference_of(check(), "pileup-2") == "helix_finder"
    config = check(["collisions", "trackers"], {"embedded": BASE["collisions"]["trackers"]["embedded"], "dbscan": {}})
    assert reference_of(config, "pileup-2") == "embedded (demo)"
    assert reference_of(config, "pileup-5") == "dbscan"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["collisions", "stes"], {}, ["collisions.stes", "unknown key", "did you mean 'sets'?"]),
        (["collisions", "sets", "pileup-2", "split"], 1, ["collisions.sets.pileup-2.split", "unknown key"]),
        (["collisions", "sets", "pileup-2", "simulate", "pilup"], 1, ["simulate.pilup", "did you mean 'pileup'?"]),
        (["collisions", "sets", "pileup-2", "simulate", "pileup"], 2000, ["sets.pileup-2.simulate", "2000", "0..1500"]),
        (["collisions", "sets", "pileup-2", "events"], {"train": 1, "val": 10}, ["pileup-2.events.test", "value 0"]),
        (["collisions", "sets", "pileup-2", "events", "train"], 0, ["pileup-2.events.train", "with a model to train"]),
        (["collisions", "sets", "pileup-2", "events", "train"], 10**6, ["pileup-2.events", "1000016", "fewer than"]),
        (["collisions", "sets", "main"], {"events": {"test": 1}}, ["collisions.sets.main", "another sample"]),
        (["collisions", "sets", "tracks-2"], {"events": {"test": 1}}, ["sets.tracks-2", "another sample"]),
        (["collisions", "sets", "10-50"], {"events": {"test": 1}}, ["collisions.sets", "10-50"]),
        (["collisions", "tuning", "events"], 13, ["collisions.tuning.events", "13", "pileup-2.events.val, 12"]),
        (["collisions", "trackers"], {}, ["collisions.trackers, set pileup-2", "no row"]),
        (["collisions", "trackers", "encreg"], {}, ["collisions.trackers.encreg.model", "missing", "one of both"]),
        (["collisions", "trackers", "dbscan"], {"model": "both"}, ["collisions.trackers.dbscan.model", "no weights"]),
        (["collisions", "trackers", "dbscan"], {"settings": {"epss": 1}}, ["dbscan.epss", "unknown key"]),
        (["collisions", "trackers", "dbscan"], {"overrides": {"10-50": {}}}, ["dbscan.overrides", "'10-50'"]),
        (["models", "both", "sets"], ["10-50", "pileup-3"], ["models.both.sets", "'pileup-3'", "10-50, pileup-2"]),
        (["models", "both", "sets"], ["10-50"], ["trackers.embedded.model", "none of collisions.sets"]),
    ],
)
def test_mistakes_are_one_clear_sentence(path, value, words):
    with pytest.raises(ConfigError) as error:
        check(path, value)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_heptv2_is_trained_on_whole_events_only():
    config = check(["models", "one"], {"task": "heptv2", "sets": ["pileup-2"]})
    assert config["models"]["one"]["task"] == "heptv2"
    with pytest.raises(ConfigError, match=r"models\.one\.sets: value '10-50' with task heptv2"):
        check(["models", "one"], {"task": "heptv2", "sets": ["pileup-2", "10-50"]})


def with_heptv2(studied, **changes):
    """The base configuration with two rows of heptv2, trained on pileup-5 and pileup-2, and the row to study."""
    config = copy.deepcopy(BASE)
    config["collisions"]["sets"]["pileup-5"]["events"]["train"] = 1
    config["models"]["one"] = {"task": "heptv2", "sets": ["pileup-5", "pileup-2"]}
    config["models"]["two"] = {"task": "heptv2", "sets": ["pileup-5"]}
    rows = {"heptv2": {"model": "one"}, "short": {"tracker": "heptv2", "model": "two"}}
    config["collisions"]["trackers"] |= {**rows, **changes}
    config["collisions"]["post_processing"] = studied
    return check_config(config, SCHEMA)


@pytest.mark.parametrize(("row", "sets"), [(None, []), ("heptv2", ["pileup-5", "pileup-2"]), ("short", ["pileup-5"])])
def test_steps_after_the_network_are_studied_where_it_is_trained(row, sets):
    assert post_processing_sets(with_heptv2(row)) == sets


def test_steps_are_studied_of_a_row_of_heptv2_with_a_model():
    ready = {"tracker": "heptv2", "settings": {"checkpoint": "mine.pt"}}
    for row in ("embedded", "helix_finder", "heptv3", "ready"):  # another network, none, no row, no model
        with pytest.raises(ConfigError) as error:
            with_heptv2(row, ready=ready)
        assert f"config key collisions.post_processing: value '{row}'" in str(error.value)
        assert "of tracker heptv2 with a model, one of heptv2, short" in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"collisions\.post_processing.*one of none"):
        check(["collisions", "post_processing"], "heptv2")
    with pytest.raises(ConfigError, match=r"collisions\.post_processing"):
        check(["collisions", "post_processing"], ["heptv2"])


def test_rows_of_the_scaling_study():
    block = {"set": "pileup-2", "tiling": [100, 200]}
    assert scaling_rows(check(["collisions", "scaling"], block)) == ["dbscan", "helix_finder", "embedded"]
    assert scaling_rows(check(["collisions", "scaling"], {**block, "set": "pileup-5"})) == ["dbscan", "helix_finder"]
    named = check(["collisions", "scaling"], {**block, "trackers": ["embedded", "dbscan"]})
    assert scaling_rows(named) == ["embedded", "dbscan"]
    assert (named["collisions"]["scaling"]["calls"], named["collisions"]["scaling"]["events"]) == (2, 2)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"set": "pileup-3"}, ["collisions.scaling.set", "'pileup-3'", "one of pileup-2, pileup-5"]),
        ({"tiling": [100]}, ["collisions.scaling.set", "missing beside tiling", "one of pileup-2, pileup-5"]),
        ({"trackers": ["dbscan"]}, ["collisions.scaling.set", "missing beside trackers"]),
        ({"set": "pileup-2"}, ["collisions.scaling", "neither sizes nor a scan", "scaling.tiling, scan.pileup"]),
        ({"set": "pileup-2", "tiling": [200, 100]}, ["scaling.tiling", "[200, 100]", "rising numbers of hits"]),
        ({"set": "pileup-2", "tiling": [0]}, ["collisions.scaling.tiling", "0"]),
        ({"set": "pileup-2", "tiling": [9], "calls": 0}, ["collisions.scaling.calls", "0"]),
        (
            {"set": "pileup-5", "tiling": [9], "trackers": ["embedded"]},  # no weights of this set
            ["scaling.trackers", "'embedded'", "run on pileup-5: dbscan, helix_finder"],
        ),
        ({"set": "pileup-2", "sizes": [9]}, ["collisions.scaling.sizes", "unknown key"]),
    ],
)
def test_mistakes_of_the_scaling_study(block, words):
    with pytest.raises(ConfigError) as error:
        check(["collisions", "scaling"], block)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("named", [["filter", "dbscan"], []], ids=["named", "all rows"])
def test_tiled_events_of_a_tracker_that_needs_modules_are_refused(named):
    config = copy.deepcopy(BASE)
    config["collisions"]["trackers"]["filter"] = {"tracker": "ckf"}
    config["collisions"]["scaling"] = {"set": "pileup-2", "tiling": [100], "trackers": named}
    with pytest.raises(ConfigError) as error:
        check_config(config, SCHEMA)
    assert str(error.value) == (
        "config key collisions.scaling.trackers: row 'filter' of tracker 'ckf', which needs hits in the planes of their"
        " modules, expected rows of other trackers, since tiled hits are not."
    )
    config["collisions"]["scaling"]["trackers"] = ["dbscan"]
    check_config(config, SCHEMA)
    config["collisions"]["scaling"] = {"set": "pileup-2", "trackers": ["filter"]}  # the scan only
    config["scan"] = {"pileup": [5]}
    assert scaling_rows(check_config(config, SCHEMA)) == ["filter"]


def test_a_scan_alone_is_enough_for_the_scaling_study():
    config = copy.deepcopy(BASE)
    config["scan"] = {"pileup": [5]}
    config["collisions"]["scaling"] = {"set": "pileup-2"}
    assert scaling_rows(check_config(config, SCHEMA)) == ["dbscan", "helix_finder", "embedded"]


def test_simulation_cannot_be_changed_for_events_that_are_not_simulated():
    config = copy.deepcopy(BASE)
    config["data"] = {"source": "kaggle"}
    config["collisions"]["sets"]["pileup-5"]["source"] = "data"
    with pytest.raises(ConfigError, match=r"pileup-5\.simulate: 2 keys with source data, which is kaggle"):
        check_config(config, SCHEMA)
    config["collisions"]["sets"]["pileup-5"]["simulate"] = {}
    complete = check_config(config, SCHEMA)
    assert "3 test events of the sample pileup-5 (TrackML, train_sample.zip)" in about_set("pileup-5", complete)
    assert "of the sample pileup-2 (simulated, TrackML-like: 2 pile-up" in about_set("pileup-2", complete)


def test_every_key_of_a_set_is_documented():
    text = (ROOT / "config/README.md").read_text()
    entry = SCHEMA["properties"]["collisions"]["properties"]["sets"]["additionalProperties"]
    section = text.partition("A sample of whole events")[2].partition("\nA row")[0]
    assert all(f"| `{key}` |" in section for key in entry["properties"])


def test_captions_name_sample_training_tuning_and_label():
    text = about_set("pileup-2", check())
    for words in (
        "4 test events of the sample pileup-2 (simulated, TrackML-like: 2 pile-up, ttbar",
        "Hits used: pixel hits, noise kept.",
        "pT >= 0.9 GeV",
        "Networks are trained on 15 events of the same sample.",
        "Settings are tuned on 10 validation events.",
        "Networks labelled demo are not trained to the end.",
    ):
        assert words in text
    other = about_set("pileup-5", check())
    assert "5 pile-up, no hard process" in other and "rained" not in other
    curves = about("training", check())
    assert "Sub-events of 10-50 tracks" in curves
    assert "Whole events of pileup-2: 15 training and 12 validation events (simulated, TrackML-like: 2" in curves
    assert "pileup-5" not in curves


def test_caption_of_rates_names_the_reference_only_where_there_is_one():
    template = jinja2.Template((ROOT / "workflow/report/rates.rst").read_text(), undefined=jinja2.StrictUndefined)
    params = {"about": "", "interval": "wilson", "reference": "dbscan"}
    fake = SimpleNamespace(params=SimpleNamespace(**params), wildcards=SimpleNamespace(kind="fake_rate"))
    assert "divides by the reference" in template.render(snakemake=fake)
    fake.params.reference = None
    assert "divides by the reference" not in template.render(snakemake=fake)


def measured(n_events=2):
    counts = {"dm": (6, 10), "fake_rate": (1, 8), "fake_dm_per_particle": (2, 10), "fake_all": (4, 16)}
    rows = [(event, name, *pair) for event in range(n_events) for name, pair in counts.items()]
    timing = [(event, 100, "total", 0.5, 0.125) for event in range(n_events)]
    return Measured(
        pd.DataFrame(rows, columns=["event_id", "metric", "num", "den"]),
        timing=pd.DataFrame(timing, columns=["event_id", "n_hits", "stage", "wall_s", "cpu_s"]),
    )


def cell(text, table_head, row, heading):
    """Cell of the table whose first heading is ``table_head``."""
    lines = [[part.strip() for part in line.split("|")] for line in text.splitlines() if line.startswith("|")]
    head = next(line for line in lines if line[1] == table_head)
    line = next(line for line in lines[lines.index(head) :] if line[1] == row)
    return line[head.index(heading)]


def test_jobs_side_by_side_show_cpu_time_and_say_so():
    table = metrics_table({"heptv2 (demo)": measured()}, TableOptions("pT"))
    text = summary_markdown(table, side_by_side=True)
    assert cell(text, "Tracker", "heptv2 (demo)", "CPU time [ms]") == "125"
    assert cell(text, "Tracker", "heptv2 (demo)", "Latency [ms]") == "500"
    assert "Jobs ran side by side" in text and "CPU time [ms]" in summary_latex(table, side_by_side=True)
    alone = summary_markdown(table)
    assert "CPU time" not in alone and "side by side" not in alone and "Fake rate [%]" not in alone


def test_every_convention_of_the_fake_rate_is_one_column():
    table = metrics_table({"a": measured()}, TableOptions("pT"))
    text = summary_markdown(table, conventions=True)
    shown = {column.heading for column in FAKE_COLUMNS if column.heading in text}
    assert shown == {"Purity, led by target", "DM, per target", "All cand."}  # those that were measured
    assert cell(text, "Fake rate [%]", "a", "DM, per target").startswith("20")
    assert cell(text, "Fake rate [%]", "a", "All cand.").startswith("25.0 +")
    assert "- DM, per target: fiducial not DM / targets." in text


def test_a_label_changes_no_colour():
    assert tracker_style("heptv2 (demo)") == tracker_style("heptv2")
    assert tracker_style("other (demo)") == tracker_style("other") != tracker_style("another (demo)")


@pytest.mark.parametrize("name", ["config", "cpu"])
def test_rows_of_a_configuration_differ_in_colour_and_marker(name):
    rows = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))["collisions"]["trackers"]
    assert len(rows) >= 5
    styles = [tracker_style(f"{row} (demo)") for row in rows]
    assert len({style.color for style in styles}) == len({style.marker for style in styles}) == len(rows)


def test_header_of_several_samples_names_what_they_share():
    one, two = (Header(pileup=mu, sigma_z=5.5, hits=hits, sample="s") for mu, hits in ((2, "pixel"), (60, "full")))
    assert common_header([one, two]) == Header(sigma_z=5.5, sample="s")
    assert common_header([one, one]) == one


def test_set_of_low_pile_up_is_what_a_network_learns_on_two_cores():
    config = check_config(yaml.safe_load((ROOT / "config/cpu.yaml").read_text()), SCHEMA)
    assert simulation_of(config, "pileup-2")["pileup"] == 2
    assert {"dbscan", "hdbscan", "helix_finder", "heptv2"} <= set(rows_of_set(config, "pileup-2"))
    assert post_processing_sets(config) == ["pileup-2"]
    assert config["collisions"]["sets"]["pileup-2"]["events"] == {"train": 600, "val": 20, "test": 40}
