"""docs/heptv2.md shows the numbers of the records of matching and scaling, and they are what the page says of them."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/heptv2.md").read_text(encoding="utf-8")


def script(name):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(module):
    return json.loads(module.RESULT.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("mark", "name"), [("matching", "bench_matching"), ("scaling", "record_scaling")])
def test_the_page_shows_the_record(mark, name):
    module = script(name)
    shown = PAGE.partition(f"<!-- {mark} -->\n")[2].partition(f"\n<!-- /{mark} -->")[0]
    assert shown == module.table(record(module))


def test_matching_is_less_than_half_of_a_step():
    module = script("bench_matching")
    found = record(module)
    steps = found["steps"]
    assert {(row["network"], row["pileup"]) for row in steps} == {
        (name, pileup) for name in (module.CPU, module.PUBLISHED) for pileup in module.PILEUPS
    }
    for row in steps:
        assert row["share"] == pytest.approx(row["matching_s"] / row["step_s"], abs=1e-2) and row["share"] < 0.5
    one = found["assignment"]
    assert (one["tracks"], one["queries"]) == (550, 3000) and one["solve_cpu_s"] < one["scipy_cpu_s"]
    assert found["machine"]["cpu"] and found["threads"] == 1


def test_every_size_is_measured_or_left_out_for_a_reason():
    module = script("record_scaling")
    found, config = record(module), module.configuration()
    sizes = config["collisions"]["scaling"]["tiling"]
    assert sizes[-1] == 500_000
    assert [row["row"] for row in found["rows"]] == config["collisions"]["scaling"]["trackers"]
    for row in found["rows"]:
        assert [call["n_hits"] for call in row["calls"]] == sizes and "RANDOM" not in row["run_with"]
        for call in row["calls"]:
            assert (call["status"] == "ok") == (call["cpu_s"] is not None)
            assert call["status"] == "ok" or "expected" in call["status"] or "memory" in call["status"]
    assert len(found["commit"]) == 40 and found["machine"]["cpu"]
