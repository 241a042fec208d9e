"""Ablations: which rows differ in what, their table paired to the first row, the figure, the configuration of all."""

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from trackbench.ablations import ablation_remarks, ablation_rows, ablations, compared_settings, in_words
from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.ablation import COLUMNS, CPU, NETWORK, ablation_table
from trackbench.evaluation.published import read_published
from trackbench.evaluation.tables import Measured
from trackbench.plotting.ablation import Words, ablation_figure, training_statement
from trackbench.plotting.ablation_blocks import quoted_blocks
from trackbench.plotting.style import Header, save_figure

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
NETWORK_SETTINGS = {"inputs": "geometry", "queries": "seeded"}
BASE = {
    "run": "x",
    "trackers": {"dbscan": {}},
    "collisions": {
        "sets": {
            "pileup-2": {"events": {"train": 1, "val": 10, "test": 4}},
            "pileup-5": {"events": {"train": 1, "val": 10, "test": 3}},
        },
        "trackers": {
            "base": {"tracker": "heptv2", "model": "base"},
            "small": {"tracker": "heptv2", "model": "small"},
            "phi": {"tracker": "heptv2", "model": "phi"},
            "seeds": {"tracker": "heptv2", "model": "base", "settings": {"method": "seeds"}},
            "hdbscan": {},
        },
        "ablations": {"one": {"title": "Blocks", "rows": ["base", "small", "phi", "hdbscan"]}},
    },
    "models": {
        # 1024 is the default: only "small" differs in its block.
        "base": {"task": "heptv2", "sets": ["pileup-2"], "network": NETWORK_SETTINGS, "training": {"label": "demo"}},
        "small": {"task": "heptv2", "sets": ["pileup-2", "pileup-5"], "network": {**NETWORK_SETTINGS, "block": 64}},
        "phi": {
            "task": "heptv2",
            "sets": ["pileup-2"],
            "network": {**NETWORK_SETTINGS, "block": 1024, "serialization": "phi"},
            "training": {"label": "longer demo"},
        },
    },
}


def check(*paths_and_values):
    """Check the base configuration with the entry at each path set."""
    config = copy.deepcopy(BASE)
    for (*parents, last), value in paths_and_values:
        block = config
        for key in parents:
            block = block.setdefault(key, {})
        block[last] = value
    return check_config(config, SCHEMA)


ONE = ["collisions", "ablations", "one"]


def labels(config, name="one", set_name="pileup-2"):
    return {found.row: found.label for found in ablation_rows(config, name, set_name)}


# configuration


def test_rows_are_called_by_the_settings_in_which_they_differ_defaults_included():
    config = check()
    expected = {"base": "block 1024, lsh", "small": "block 64, lsh", "phi": "block 1024, phi", "hdbscan": "hdbscan"}
    assert labels(config) == expected
    config = check(([*ONE, "rows"], ["small", "base"]))
    assert labels(config) == {"small": "block 64", "base": "block 1024"}


def test_of_many_differing_settings_rows_are_called_by_their_changes():
    weights = (["models", "small", "loss"], {"nce_weight": 0, "hit_weight": 12})
    config = check(weights, ([*ONE, "rows"], ["base", "small", "phi", "seeds"]))
    found = labels(config)
    assert found["base"] == "base: block 1024, hit BCE 1.8, InfoNCE 12, lsh, masks"
    assert found["small"] == "block 64, hit BCE 12, no InfoNCE"
    assert (found["phi"], found["seeds"]) == ("phi", "seeds")


def test_label_of_the_model_is_kept_apart_from_what_is_compared():
    rows = {found.row: found for found in ablation_rows(check(), "one", "pileup-2")}
    assert [rows[name].trained for name in ("base", "small", "phi", "hdbscan")] == ["demo", "", "longer demo", ""]
    assert [rows[name].model for name in ("base", "seeds") if name in rows] == ["base"]
    assert rows["hdbscan"].model == ""
    assert "training.label" not in compared_settings(check(), "base", "pileup-2")


def test_place_on_the_axis_and_line_come_from_the_settings():
    config = check(([*ONE, "x"], "network.block"), ([*ONE, "lines"], "network.serialization"))
    places = {found.row: (found.x, found.line) for found in ablation_rows(config, "one", "pileup-2")}
    assert places == {"base": (1024, "lsh"), "small": (64, "lsh"), "phi": (1024, "phi"), "hdbscan": (None, "")}


def test_an_ablation_is_shown_where_all_its_rows_are_run():
    assert ablations(check()) == [("one", "pileup-2")]
    assert ablations(check(([*ONE, "rows"], ["small", "hdbscan"]))) == [("one", "pileup-2"), ("one", "pileup-5")]
    changed = (["models", "small", "overrides"], {"pileup-5": {"network": {"block": 32}}})
    config = check(changed, (["models", "base", "sets"], ["pileup-2", "pileup-5"]), ([*ONE, "rows"], ["base", "small"]))
    assert labels(config, set_name="pileup-5")["small"] == "block 32"
    assert labels(config, set_name="pileup-2")["small"] == "block 64"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("network.block", 64, "block 64"),
        ("network.serialization", "lsh", "lsh"),
        ("network.queries", "none", "no queries"),
        ("network.overlap", True, "overlap"),
        ("network.overlap", False, "no overlap"),
        ("loss.nce_weight", 0.0, "no InfoNCE"),
        ("loss.class_weight", 0.1, "class 0.1"),
        ("network.regions", 0, "regions 0"),
    ],
)
def test_words_of_settings(key, value, words):
    assert in_words(key, value) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([([*ONE, "rows"], ["base"])], ["ablations.one.rows"]),
        ([([*ONE, "rows"], ["base", "base"])], ["ablations.one.rows"]),
        ([([*ONE, "rows"], ["base", "bsae"])], ["ablations.one.rows", "'bsae'", "base, small, phi"]),
        ([([*ONE, "row"], ["base"])], ["ablations.one.row", "did you mean 'rows'?"]),
        ([(["models", "phi", "sets"], ["pileup-5"])], ["ablations.one.rows", "no set on which all"]),
        ([([*ONE, "lines"], "network.block")], ["ablations.one.lines", "without x"]),
        ([([*ONE, "x"], "network.serialization")], ["ablations.one.x", "a number among", "network.block"]),
        ([([*ONE, "x"], "block")], ["ablations.one.x", "'block'", "network.block"]),
        ([([*ONE, "x"], "network.block")], ["ablations.one.x", "'base' and 'phi' are at the same place"]),
        (
            [([*ONE, "x"], "network.block"), ([*ONE, "lines"], "network.order")],
            ["ablations.one.lines", "network.serialization"],
        ),
        ([(["models", "phi", "network"], NETWORK_SETTINGS)], ["ablations.one.rows", "'base' and 'phi'", "same"]),
    ],
)
def test_mistakes_are_one_clear_sentence(changes, words):
    with pytest.raises(ConfigError) as error:
        check(*changes)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_every_key_of_an_ablation_is_documented():
    section = (ROOT / "config/README.md").read_text().partition("An ablation, `coll")[2].partition("\nA model")[0]
    entry = SCHEMA["properties"]["collisions"]["properties"]["ablations"]["additionalProperties"]
    assert all(f"| `{key}` |" in section for key in entry["properties"])


# table


def measured(dm, fakes=None, cpu=0.5, network=None, n=10):
    """Counts and timing of events 1, 2, ...; dm, fakes: numerators per event, of ``n`` each."""
    events = range(1, len(dm) + 1)
    counts = [(event, "dm", k, n) for event, k in zip(events, dm, strict=True)]
    counts += [(event, "fake_rate", k, n) for event, k in zip(events, fakes or [0] * len(dm), strict=True)]
    cpu = np.broadcast_to(cpu, len(dm))
    timing = [(event, 50, "total", 9.0, seconds) for event, seconds in zip(events, cpu, strict=True)]
    if network is not None:
        timing += [(event, 50, "network", 9.0, network) for event in events]
    columns = ["event_id", "n_hits", "stage", "wall_s", "cpu_s"]
    return Measured(
        pd.DataFrame(counts, columns=["event_id", "metric", "num", "den"]), timing=pd.DataFrame(timing, columns=columns)
    )


def values(table, row, metric):
    return table[(table["row"] == row) & (table["metric"] == metric)].iloc[0]


def test_values_are_pooled_and_cpu_is_the_mean():
    table = ablation_table({"a": measured([8, 4], [1, 0], cpu=[0.5, 1.5], network=0.25), "b": measured([9, 9])})
    assert tuple(table.columns) == COLUMNS
    assert values(table, "a", "dm")["value"] == pytest.approx(12 / 20)
    assert values(table, "a", "fake_rate")["value"] == pytest.approx(1 / 20)
    assert values(table, "a", CPU)["value"] == pytest.approx(1.0)
    assert values(table, "a", NETWORK)["value"] == pytest.approx(0.25)
    assert values(table, "b", "dm")["minus_first"] == pytest.approx(0.3)
    assert values(table, "b", CPU)["minus_first"] == pytest.approx(-0.5)
    assert NETWORK not in set(table.loc[table["row"] == "b", "metric"])
    assert (values(table, "a", "dm")[["minus_first", "minus_first_lo", "minus_first_hi"]] == 0).all()


def test_a_rate_of_zero_has_an_error_and_unlike_events_a_wide_one():
    table = ablation_table({"a": measured([10, 0] * 20)})
    fake = values(table, "a", "fake_rate")
    # Clopper-Pearson of 0 in 400: upper edge 1 - tail^(1/400); the bootstrap alone would say 0.
    assert (fake["lo"], fake["hi"]) == (0.0, pytest.approx(1 - ((1 - 0.6827) / 2) ** (1 / 400)))
    dm = values(table, "a", "dm")
    # Events of 0 or 1: standard error sqrt(1/4 / 40) = 0.079, where 400 independent particles would have 0.025.
    assert (dm["hi"] - dm["lo"]) / 2 == pytest.approx(0.079, rel=0.15)


def test_differences_are_paired_by_event_whatever_the_order_of_the_files():
    dm = list(np.random.default_rng(1).integers(0, 9, 30))
    better = measured([k + 1 for k in dm])
    order = np.random.default_rng(2).permutation(len(better.counts))
    table = ablation_table(
        {"a": measured(dm), "b": Measured(better.counts.iloc[order], timing=better.timing.iloc[::-1])}
    )
    row = values(table, "b", "dm")
    assert row[["minus_first", "minus_first_lo", "minus_first_hi"]].tolist() == pytest.approx([0.1] * 3)
    assert row["hi"] - row["lo"] > 0.05  # the rates themselves are uncertain


def test_one_event_has_no_interval_of_the_difference():
    table = ablation_table({"a": measured([5]), "b": measured([7])})
    row = values(table, "b", "dm")
    assert row["minus_first"] == pytest.approx(0.2) and np.isnan(row["minus_first_lo"])
    assert row["lo"] < 0.7 < row["hi"]


def test_other_events_no_rows_or_no_timing_are_refused():
    with pytest.raises(InputError, match="row b: 3 events, not those of the first row"):
        ablation_table({"a": measured([5, 5]), "b": measured([5, 5, 5])})
    with pytest.raises(InputError, match="ablation: no rows"):
        ablation_table({})
    with pytest.raises(InputError, match="row a: no timing"):
        ablation_table({"a": Measured(measured([5]).counts)})
    with pytest.raises(InputError, match="interval: 'wald'"):
        ablation_table({"a": measured([5])}, "wald")


# figure


def texts(figure):
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    found += [text.get_text() for ax in figure.axes for text in ax.get_yticklabels()]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return " ".join(found + [text.get_text() for legend in legends for text in legend.get_texts()])


def shown(config, **changes):
    """Rows and table of the ablation "one"."""
    rows = pd.DataFrame([asdict(found) for found in ablation_rows(config, "one", "pileup-2")]).assign(**changes)
    found = {row: measured([5 + k % 3, 6, 7], [1, 2, 0], network=0.25) for k, row in enumerate(rows["row"])}
    return ablation_table(found), rows


FACTS = {"steps": 350, "training_events": 120, "seed": 26, "label": "demo"}


def test_statement_says_steps_events_seed_and_label():
    assert training_statement({}) == ""
    text = training_statement({"a": FACTS, "b": FACTS})
    for words in ("trained for 350 steps on 120 events", "one seed (26)", "\u201cdemo\u201d: not trained to the end"):
        assert words in text
    text = training_statement({"a": FACTS, "b": {**FACTS, "steps": 9, "seed": 3, "label": ""}})
    assert "9 to 350 steps" in text and "seeds 3, 26" in text
    assert "not trained" not in training_statement({"a": {**FACTS, "label": ""}})


def test_list_shows_every_row_with_its_label_where_labels_differ(tmp_path):
    table, rows = shown(check())
    words = Words("Blocks", training_statement({"a": FACTS}))
    figure, returned = ablation_figure(table, rows, words, Header(2, sample="simulation"))
    found = texts(figure).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    for text in ("block 64, lsh", "block 1024, lsh (demo)", "(longer demo)", "hdbscan", "350 steps", "one seed (26)"):
        assert text in found
    assert "Blocks: simulation" in found and "paired by event" in found
    assert len(figure.axes) == 4
    difference = figure.axes[2]
    drawn = [line.get_xdata()[0] for line in difference.lines if line.get_marker() == "o"]
    expected = table.loc[table["metric"] == "dm", "minus_first"].tolist()[1:]
    assert drawn == pytest.approx(expected)
    assert returned["row"].tolist() == table["row"].tolist()
    save_figure(figure, tmp_path / "list", returned)


def test_one_label_of_all_networks_is_said_once():
    table, rows = shown(check(), trained=["demo", "demo", "demo", ""])
    figure, _ = ablation_figure(table, rows, Words(statement=training_statement({"a": FACTS})))
    assert "(demo)" not in texts(figure) and "\u201cdemo\u201d" in texts(figure)


def test_lines_against_a_number_with_the_quoted_study_in_panels_of_its_own(tmp_path):
    config = check(([*ONE, "x"], "network.block"), ([*ONE, "lines"], "network.serialization"))
    table, rows = shown(config)
    quoted = quoted_blocks(read_published(ROOT / "config/published.csv"))
    figure, returned = ablation_figure(table, rows, Words("Blocks", "350 steps", "block"), Header(2), quoted)
    assert len(figure.axes) == 6
    grey = [ax for ax in figure.axes if ax.get_facecolor()[:3] != (1, 1, 1)]
    assert len(grey) == 2 and all("HEPTv2 block-size study" in ax.texts[0].get_text() or ax.texts[1:] for ax in grey)
    assert "not these events" in texts(figure) and "\N{DAGGER}" in grey[0].get_ylabel()
    assert {"lsh (demo)", "hdbscan"} <= {text.get_text() for text in figure.legends[0].get_texts()}
    dm = figure.axes[0]
    lsh = next(line for line in dm.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o")
    assert lsh.get_ydata() == pytest.approx(
        [values(table, row, "dm")["value"] for row in ("small", "base")]
    )  # by rising block
    assert (returned["row"] == "quoted").sum() == len(quoted) == 20
    save_figure(figure, tmp_path / "lines", returned)
    figure, _ = ablation_figure(table, rows, Words(axis="block"))
    assert len(figure.axes) == 4 and "\N{DAGGER}" not in texts(figure)


def test_quoted_study_in_numbers():
    quoted = quoted_blocks(read_published(ROOT / "config/published.csv"))
    dm = quoted[quoted["quantity"] == "dm"].set_index(["line", "x"])["value"]
    assert dm[("lsh", 1024)] == pytest.approx(0.986) and dm[("phi", 128)] == pytest.approx(0.927)
    assert dm[("zorder + hilbert", 512)] == pytest.approx(0.965)
    assert quoted[quoted["quantity"] == "encoder_ms"]["value"].tolist() == [6.578, 6.595, 7.323, 8.568]
    assert quoted[quoted["quantity"] == "encoder_flops"]["value"].tolist() == [1, 1.34, 2.03, 3.38]


def test_figure_of_a_table_without_a_column():
    table, rows = shown(check())
    with pytest.raises(ConfigError, match="ablation table: no column 'minus_first'"):
        ablation_figure(table.drop(columns="minus_first"), rows, Words())
    with pytest.raises(ConfigError, match="ablation rows: no column 'label'"):
        ablation_figure(table, rows.drop(columns="label"), Words())


# the ablations of HEPTv2


def test_demo_scale_ablations_change_a_setting_or_a_choice_of_settings_at_a_time():
    text = (ROOT / "config/ablation.yaml").read_text()
    config = check_config(yaml.safe_load(text), SCHEMA)
    assert {name for name, _ in ablations(config)} == {"block", "sectors", "queries", "losses"}
    assert len(config["models"]) == 22
    base = compared_settings(config, "base", "pileup-2")
    changed = {
        name: {key for key, value in compared_settings(config, name, "pileup-2").items() if base.get(key) != value}
        for name, row in config["collisions"]["trackers"].items()
        if row["model"]
    }
    allowed = {
        "block": {"network.block", "network.serialization"},
        "sectors": {"network.sectors", "network.overlap"},
        "queries": {
            *("network.queries", "network.seed_similarity", "network.seed_neighbours"),
            *("settings.method", "settings.merge"),
        },
        "losses": {
            *(f"loss.{name}_weight" for name in ("class", "focal", "dice", "hit", "nce", "positive")),
            *("training.optimizer", "training.learning_rate"),
        },
    }
    for name, block in config["collisions"]["ablations"].items():
        assert block["rows"][0] == "base" and {"hdbscan", "helix_finder"} <= set(block["rows"])
        for row in set(block["rows"][1:]) & changed.keys():
            assert changed[row] and changed[row] <= allowed[name]
    assert len({model["training"]["steps"] for model in config["models"].values()}) == 1
    assert all(model["training"]["label"] for model in config["models"].values())
    assert [
        {row.x for row in ablation_rows(config, "block", "pileup-2") if row.line == line}
        for line in ("lsh", "zorder", "hilbert", "phi")
    ] == [{32, 64, 128, 512}, {32, 128, 512}, {128}, {32, 128, 512}]
    said = {name: " ".join(ablation_remarks(config, name, "pileup-2")) for name in config["collisions"]["ablations"]}
    assert said["block"].startswith("zorder, hilbert, phi: one order for all heads, rounds and layers")
    assert "twice as many windows" in said["sectors"] and said["queries"] == said["losses"] == ""
    page = (ROOT / "docs/heptv2.md").read_text(encoding="utf-8").partition("## Ablations")[2].partition("\n## ")[0]
    rows = {row for block in config["collisions"]["ablations"].values() for row in block["rows"]}
    assert f"{len(config['models'])} trainings" in page
    assert not [row for row in rows - {"base", "hdbscan", "helix_finder"} if f"`{row}`" not in page]
