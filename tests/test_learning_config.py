"""The blocks `subevents` and `models` of the workflow configuration: defaults, look-ups, clear errors."""

import copy
from pathlib import Path

import pytest
import yaml

from trackbench.config import check_config, read_schema
from trackbench.errors import ConfigError
from trackbench.learning_config import (
    Row,
    class_bins,
    find_row,
    matrix_rows,
    model_settings,
    n_gpus,
    rows_of_set,
    set_range,
    training_threads,
)

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
BASE = {
    "run": "x",
    "trackers": {"dbscan": {}},
    "subevents": {
        "parents": {"events": {"train": 4, "val": 1, "test": 1}},
        "sets": {"10-50": {"length": 700}, "50-100": {"length": 1200, "draws": 2}},
        "trackers": {
            "hit_angles": {},
            "encreg": {"model": "small", "settings": {"min_cluster_size": 4}},
            "contrastive": {"tracker": "latent", "model": "embedding"},
        },
        "matrix": ["encreg"],
    },
    "models": {
        "small": {
            "task": "encreg",
            "sets": ["10-50", "50-100"],
            "training": {"steps": 10},
            "overrides": {"50-100": {"training": {"batch_size": 2}, "network": {"layers": 2}}},
        },
        "embedding": {"task": "contrastive", "sets": ["10-50"], "network": {"targets": "none", "embedding": 8}},
    },
}


def check(path=None, value=None, remove=False):
    """Check the base configuration with the entry at ``path`` set or removed."""
    config = copy.deepcopy(BASE)
    if path:
        *parents, last = path
        block = config
        for key in parents:
            block = block.setdefault(key, {})
        if remove:
            del block[last]
        else:
            block[last] = value
    return check_config(config, SCHEMA)


def test_defaults_of_entries_are_filled_in():
    complete = check()
    assert complete["subevents"]["sets"]["10-50"] == {"length": 700, "draws": 5, "mode": "random"}
    assert complete["subevents"]["trackers"]["hit_angles"] == {
        "tracker": None,
        "model": None,
        "settings": {},
        "overrides": {},
    }
    assert complete["models"]["embedding"]["overrides"] == {}


def test_without_sets_nothing_is_asked_for():
    complete = check_config({"run": "x", "trackers": {"dbscan": {}}}, SCHEMA)
    assert complete["subevents"]["sets"] == {} and complete["models"] == {}


def test_rows_and_models_are_looked_up():
    config = check()
    assert set_range("10-50") == (10, 50)
    assert rows_of_set(config, "10-50") == ["hit_angles", "encreg", "contrastive"]
    assert rows_of_set(config, "50-100") == ["hit_angles", "encreg"]  # nothing contrastive is trained on it
    assert matrix_rows(config, "10-50") == ["encreg@50-100"]
    row = find_row(config, "encreg@50-100", "10-50")
    assert row == Row("encreg", {"min_cluster_size": 4}, model="small", trained_on="50-100")
    assert find_row(config, "contrastive", "10-50").tracker == "latent"
    assert find_row(config, "hit_angles", "10-50").trained_on is None


def test_overrides_change_one_set_only():
    config = check()
    assert model_settings(config, "small", "10-50") == {"network": {}, "loss": {}, "training": {"steps": 10}}
    changed = model_settings(config, "small", "50-100")
    assert changed == {"network": {"layers": 2}, "loss": {}, "training": {"steps": 10, "batch_size": 2}}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ["subevents", "sets", "50-10"],
            {"length": 9},
            ["sets.50-10", "range 50 to 10", "lowest <= highest"],
        ),
        (["subevents", "sets", "few"], {"length": 9}, ["subevents.sets", "few"]),
        (["subevents", "sets", "10-50", "draws"], 0, ["subevents.sets.10-50.draws", "0"]),
        (["subevents", "parents", "events", "test"], 0, ["parents.events.test", "value 0", "at least 1"]),
        (["subevents", "parents", "events", "train"], 0, ["parents.events.train", "value 0 with a model to train"]),
        (["subevents", "trackers", "encreg", "model"], "smal", ["trackers.encreg.model", "'smal'", "small, embedding"]),
        (["subevents", "trackers", "encreg", "model"], None, ["trackers.encreg.model", "missing", "one of small"]),
        (["subevents", "trackers", "dbscan"], {"model": "small"}, ["dbscan.model", "has no weights", "no model"]),
        (["subevents", "trackers", "other"], {}, ["tracker 'other'", "does not exist"]),
        (["subevents", "trackers", "encreg", "settings", "size"], 1, ["trackers.encreg.size", "unknown key"]),
        (["subevents", "matrix"], ["hit_angles"], ["subevents.matrix", "'hit_angles' has no model"]),
        (["subevents", "predictions"], ["encrge"], ["subevents.predictions", "'encrge'", "hit_angles, encreg"]),
        (["subevents", "decomposition"], {"tracker": "encreg"}, ["decomposition.set", "value None", "10-50, 50-100"]),
        (["subevents", "masks"], {"set": "1-2"}, ["masks.set", "'1-2'", "10-50, 50-100"]),
        (["models", "small", "sets"], ["10-60"], ["models.small.sets", "'10-60'", "10-50, 50-100"]),
        (["models", "small", "network"], {"depth": 3}, ["models.small.network", "depth", "unknown key"]),
        (["models", "small", "training", "steps"], 0, ["training.steps", "value 0", ">= 1"]),
        (["models", "small", "loss"], {"temperature": -1.0}, ["loss.temperature", "-1.0", "> 0"]),
        (["models", "small", "task"], "encdec", ["models.small.task", "'encdec'", "encreg, enccla"]),
        (["models", "small", "network"], {"targets": "none", "classes": 5}, ["encreg", "targets"]),
    ],
)
def test_mistakes_are_one_clear_sentence(path, value, words):
    with pytest.raises(ConfigError) as error:
        check(path, value)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_the_documented_configuration_for_own_events_is_accepted(tmp_path):
    page = (ROOT / "docs/trackformers.md").read_text(encoding="utf-8").partition("## Train on your own events")[2]
    config = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    with pytest.raises(ConfigError, match=r"data\.local\.path: 'my_events' does not exist"):
        check_config(config, SCHEMA)
    config["data"]["local"]["path"] = str(tmp_path)
    complete = check_config(config, SCHEMA)
    assert rows_of_set(complete, "10-50") == ["hit_angles", "encreg"]
    assert f"results/{complete['run']}/models/encreg/10-50.pt" in page


def test_the_floor_must_be_there():
    with pytest.raises(ConfigError, match=r"config key subevents\.trackers: no row 'hit_angles', expected"):
        check(["subevents", "trackers", "hit_angles"], remove=True)


def test_jobs_of_a_model_for_cuda_ask_for_a_gpu():
    config = check(["models", "small", "overrides", "50-100", "training"], {"device": "cuda"})
    assert n_gpus(config, "small", "50-100") == 1
    assert n_gpus(config, "small", "10-50") == n_gpus(config, None, "10-50") == 0
    paper = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    complete = check_config(paper, SCHEMA)
    trained = [(name, on) for name, model in complete["models"].items() for on in model["sets"]]
    assert len(trained) == 18 and all(n_gpus(complete, *pair) == 1 for pair in trained)
    for rules in ("train", "subevents", "trackformers"):
        assert "gpu=" in (ROOT / f"workflow/rules/{rules}.smk").read_text()


def test_sectors_are_matched_side_by_side_where_a_gpu_trains():
    paper = check_config(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), SCHEMA)
    assert training_threads(paper, "heptv2", "trackml") == training_threads(paper, "heptv2_seeded", "trackml") == 3
    assert training_threads(paper, "hept", "trackml") == training_threads(paper, "encreg", "10-50") == 1
    model = paper["models"]["heptv2"]
    model["network"] = {"sectors": 2, "overlap": True}
    assert training_threads(paper, "heptv2", "trackml") == 4
    for change in ({"queries": "none"}, {"sectors": 1}):
        model["network"] = {"sectors": 2} | change
        assert training_threads(paper, "heptv2", "trackml") == 1
    model["network"] = {}
    model["training"]["device"] = "auto"
    assert training_threads(paper, "heptv2", "trackml") == 1  # weights that depend on no number of cores
    rule = (ROOT / "workflow/rules/train.smk").read_text().partition("rule train:")[2].partition("rule tune:")[0]
    assert "threads: lambda wildcards: training_threads(config, wildcards.model, wildcards.set)" in " ".join(
        rule.split()
    )
    assert "train" not in yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text()).get("set-threads", {})


@pytest.mark.parametrize("name", ["config", "smoke", "cpu", "ablation"])
def test_trainings_on_a_cpu_keep_one_thread(name):
    given = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config = check_config(given, SCHEMA)
    trained = [(model, on) for model, entry in config["models"].items() for on in entry["sets"]]
    assert trained and {training_threads(config, *pair) for pair in trained} == {1}


def test_rows_can_have_settings_for_one_set():
    config = check(["subevents", "trackers", "encreg", "overrides"], {"50-100": {"min_samples": 3}})
    assert find_row(config, "encreg", "10-50").settings == {"min_cluster_size": 4}
    assert find_row(config, "encreg@50-100", "10-50").settings == {"min_cluster_size": 4, "min_samples": 3}
    with pytest.raises(ConfigError, match="min_sample"):
        check(["subevents", "trackers", "encreg", "overrides"], {"50-100": {"min_sample": 3}})


def test_class_ceilings_follow_the_classifiers():
    classifier = {"task": "enccla", "sets": ["10-50"], "network": {"targets": "none", "classes": 30}}
    config = check(["models", "classes"], {**classifier, "loss": {"n_phi": 5, "n_theta": 3, "n_p": 1}})
    assert class_bins(config) == [(5, 3, 1)]
    assert class_bins(check()) == []


@pytest.mark.parametrize("entry", ["ckf", "filter"])
def test_phi_sectors_of_a_tracker_with_an_environment_of_its_own_are_refused(entry):
    config = copy.deepcopy(BASE)
    config["subevents"]["trackers"][entry] = {} if entry == "ckf" else {"tracker": "ckf"}
    config["subevents"]["latency"] = {"trackers": [entry]}  # whose jobs have the environment of their tracker
    check_config(copy.deepcopy(config), SCHEMA)
    config["subevents"]["decomposition"] = {"tracker": entry, "set": "10-50"}
    with pytest.raises(ConfigError) as error:
        check_config(config, SCHEMA)
    assert str(error.value) == (
        f"config key subevents.decomposition.tracker: row '{entry}' of tracker 'ckf', which runs in envs/acts.yaml,"
        " expected a row of a tracker that runs in cluster.yaml or torch.yaml, as the study needs more than a tracker."
    )
