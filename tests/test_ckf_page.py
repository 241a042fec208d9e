"""docs/ckf.md shows the numbers of its record, the settings of the code, and a record of the present settings."""

import dataclasses
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from trackbench.geometry.acts_detector import PYACTS
from trackbench.geometry.detector import N_MODULES
from trackbench.trackers.ckf import Config
from trackbench.trackers.layers.acts_event import OFF_EDGE, OFF_PLANE
from trackbench.trackers.layers.acts_passes import passes

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/ckf.md").read_text(encoding="utf-8")
METRICS = ("dm", "technical", "perfect", "fake_rate", "fake_all")
SAMPLES = {"200 pile-up": 10, "20 pile-up": 20, "200 pile-up, sigma_z 55 mm": 5}
# What the record has to keep of the targets: (sample, quantity) of those that were missed.
MISSED = set()


def module(name):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def record():
    return module("ckf_tables").record()


@pytest.mark.parametrize("name", ["passes", "ckf", "targets", "regions", "rows", "fits"])
def test_tables_are_those_of_the_record(name):
    shown = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]
    assert shown == module("ckf_tables").TABLES[name]()


def test_every_table_is_on_the_page():
    assert set(re.findall(r"<!-- /(\w+) -->", PAGE)) == set(module("ckf_tables").TABLES)


def test_settings_are_those_of_the_code():
    section = PAGE.partition("\n## Settings\n")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", section, re.MULTILINE))
    assert shown == {field.name: format_value(field.default) for field in dataclasses.fields(Config)}


def format_value(value):
    return value if isinstance(value, str) else f"{value:g}"


def test_the_page_names_the_limits_and_versions_of_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["ckf"] == [f"pyacts=={PYACTS}"]
    for words in (
        f"pinned, to {PYACTS}",
        f"{N_MODULES:,} modules",
        f"more than {OFF_PLANE:g} mm off",
        f"{OFF_EDGE:g} mm beyond",
        "trackbench[ckf]",
    ):
        assert words in PAGE.replace("\n", " "), words


def test_the_record_was_made_with_the_present_settings(record, monkeypatch):
    """Otherwise run `make bench` again and put the new tables on the page."""
    assert record["settings"] == dataclasses.asdict(Config())
    chosen = (Config.min_pt, Config.max_z0, Config.max_d0)
    assert {"_MAX_CHI2", "_BRANCHES", "_MAX_SHARED"} <= record["constants"].keys()
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # the script imports its neighbours
    assert record["constants"] == module("bench_ckf").constants_used()
    assert set(record["passes"]) == {"pixel", "full"}
    for detector, written in record["passes"].items():
        current = passes(*chosen, detector == "pixel")
        assert len(written) == len(current)
        for old, new in zip(written, current, strict=True):
            assert_same(old, new)


def assert_same(old, new):
    """Plain values of a record against a named tuple; an infinite limit is None."""
    if hasattr(new, "_asdict"):
        assert old.keys() == new._asdict().keys()
        for name, value in new._asdict().items():
            assert_same(old[name], value)
    elif isinstance(new, tuple):
        assert len(old) == len(new)
        for left, right in zip(old, new, strict=True):
            assert_same(left, right)
    else:
        assert (float("inf") if old is None else old) == new


def test_the_record_has_all_samples_and_rows(record):
    assert record["seed"].startswith("77 ")
    assert record["versions"]["pyacts"] == PYACTS
    found = {sample["sample"]: sample for sample in record["samples"]}
    assert found.keys() == {*SAMPLES, *(f"{name}, full detector" for name in SAMPLES)}
    for name, sample in found.items():
        assert sample["events"] == SAMPLES[name.removesuffix(", full detector")]
        assert {"ckf", "helix_finder"} <= set(sample["rows"])
        for row in sample["rows"].values():
            assert all(row[metric]["lo"] <= row[metric]["value"] <= row[metric]["hi"] for metric in METRICS)
    assert {"ckf_no_ambiguity", "ckf_seeds"} <= set(found["200 pile-up"]["rows"])


def test_targets_are_judged_right(record):
    found = {sample["sample"]: sample["rows"]["ckf"] for sample in record["samples"]}
    missed = set()
    for one in record["targets"]:
        ours, name = found[one["sample"]], one["quantity"]
        measured = ours["cpu_s"]["mean"] if name == "cpu_s" else ours[name]["num"] / ours[name]["den"]
        assert one["measured"] == pytest.approx(measured)
        assert one["met"] == (measured >= one["limit"] if name == "dm" else measured <= one["limit"])
        if not one["met"]:
            missed.add((one["sample"], name))
    asked = {(one["sample"], one["quantity"]): one["limit"] for one in record["targets"]}
    pixel = {"dm": 0.975, "fake_rate": 0.01, "fake_all": 0.05, "fake_all_pt": 0.05, "cpu_s": 7}
    full = {("200 pile-up, full detector", "dm"): 0.95}
    assert asked == {("200 pile-up", name): limit for name, limit in pixel.items()} | full
    assert missed == MISSED


def test_fitted_errors_are_right_within_a_quarter(record):
    """Pulls of prompt tracks have widths near 1."""
    for sample in record["samples"]:
        for name, fit in sample["rows"]["ckf"]["prompt_fits"].items():
            assert 0.75 < fit["pull_width"]["value"] < 1.25, (sample["sample"], name)


def test_regions_add_up_to_the_whole(record):
    for sample in record["samples"]:
        for row in sample["rows"].values():
            for pair in (("prompt", "secondary"), ("central", "forward")):
                parts = [row["regions"][name]["dm"] for name in pair]
                for count in ("num", "den"):
                    assert sum(part[count] for part in parts) == row["dm"][count]
