"""The benchmark of HEPTv2 on a CPU at toy size: rows, what is left out, the same labels on every way."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_event

from trackbench.campaign.hept_bench import HeptBench, HeptBenchPlan, hept_table, published_scaling
from trackbench.campaign.hept_ways import PARTS, WAYS, Run, with_block
from trackbench.campaign.study import read_study
from trackbench.campaign.workers import Clock
from trackbench.hept_cost import H200, floor_ms, operations
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
PLAN = HeptBenchPlan(sizes=(120, 200), blocks=(32,), warmup=1, calls=2, published_size=False)
NETWORK = {
    **{"inputs": "geometry", "width": 16, "heads": 1, "ffn": 16, "layers": 1, "position_hidden": 16, "embedding": 8},
    **{"embedding_hidden": 16, "embedding_layers": 1, "rounds": 1, "block": 32, "regions": 0, "decoder_layers": 1},
    **{"sectors": 2, "queries": "learned", "n_queries": 20},
}


def later(seconds=60.0):
    return Clock(time.monotonic() + seconds)


@pytest.fixture
def study(tmp_path):
    torch.set_num_threads(1)
    found = read_study(ROOT / "gpu/tiny.yaml", ROOT / "workflow/schemas/config.schema.yaml", tmp_path, "cpu")
    models = {"heptv2": {**found.config["models"]["heptv2"], "network": NETWORK}}
    found.config["models"].clear()
    found.config["models"].update(models)
    return found


def bench_of(study, plan=PLAN, clock=None):
    return HeptBench(study, toy_event(30, 10, seed=3)[0], plan, clock or later(), [])


def test_every_way_is_measured_part_by_part(study):
    bench, calls = bench_of(study), []
    rows = bench.measure(done=lambda rows: calls.append(len(rows)))
    assert bench.failures == []
    assert [(row["path"], row["n_hits"]) for row in rows] == [
        (way.name, size) for way in WAYS if not way.graphs for size in PLAN.sizes
    ]
    assert calls == [2, 4, 6]
    config = HeptConfig(**NETWORK)
    for row in rows:
        compiled = "compiled" in row["path"]
        assert row["padded_hits"] == (4096 if compiled else row["n_hits"])
        assert row["queries"] == 20 and not row["trained"]
        assert all(row[f"{part}_ms"] > 0 for part in PARTS)
        assert row["floor_h200_ms"] == floor_ms(operations(config, row["n_hits"], 20, padded=compiled), H200)
    agreements = {row["path"]: row for row in rows if "orders_equal" in row}
    assert all(row["orders_equal"] == 1 for row in agreements.values())  # hashing never in half precision
    assert agreements["float32"]["embedding_difference"] == 0
    assert 0 < agreements["bfloat16"]["embedding_difference"] < 0.1
    json.dumps(rows, allow_nan=False)
    table = hept_table(rows, published_scaling(ROOT / "config/published.csv"))
    assert "| heptv2 on pileup-1 (random weights) | 32 | bfloat16 | 120 |" in table
    assert "| HEPTv2, A100 (quoted) | 1023 | published | 50,000 | 3000 | - | - | - | 15.4 | 336 |" in table


def test_trained_weights_are_used_and_named(study):
    path = study.weights("heptv2", "pileup-1")
    path.parent.mkdir(parents=True)
    torch.manual_seed(7)
    network = HeptNetwork(HeptConfig(**NETWORK))
    save_weights(path, "heptv2", network, {})
    ((name, found, trained),) = bench_of(study).networks()
    assert (name, trained) == ("heptv2 on pileup-1", True)
    for key, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[key], value)


def test_published_sizes_come_first_in_the_real_study(tmp_path):
    schema = ROOT / "workflow/schemas/config.schema.yaml"
    real = read_study(ROOT / "config/gpu-heptv2.yaml", schema, tmp_path, "cpu")
    own = [name for name, _, _ in bench_of(real).networks()]
    assert own == ["heptv2_seeded on pileup-200-first", "heptv2 on pileup-200"]
    found = list(bench_of(real, dataclasses.replace(PLAN, published_size=True)).networks())
    assert [name for name, _, _ in found] == [
        "published size, learned queries",
        "published size, seeded queries",
        "heptv2_seeded on pileup-200-first",
    ]
    assert found[0][1].config == HeptConfig()


def test_another_block_has_the_same_weights_and_other_attention():
    torch.manual_seed(1)
    network = HeptNetwork(HeptConfig(**{**NETWORK, "regions": 9})).eval()
    hits = toy_event(30, 10, seed=3)[0]
    hits = hits.take(np.argsort(hits.hit_id))
    runs = [Run(with_block(network, block), WAYS[0], "cpu") for block in (32, 64)]
    labels = [run.all(run.batch(hits, "geometry"), len(hits))[1] for run in runs]
    assert not torch.equal(*labels)
    assert all(torch.equal(a, b) for a, b in zip(runs[0].network.parameters(), network.parameters(), strict=True))


def test_what_takes_too_long_or_fails_is_left_out_with_the_reason(study, monkeypatch):
    over = bench_of(study, clock=later(-1.0)).measure(WAYS[:1])
    assert over == [{**over[0], "n_hits": 120, "left_out": "time is over"}]
    bench = bench_of(study)
    assert bench._reason_to_stop(200, [{"total_ms": 2000.0, "n_hits": 100}]) == "about 8 s per call"
    assert bench._reason_to_stop(200, [{"total_ms": 1000.0, "n_hits": 100}]) == ""

    def refuse(self, run, size, first):
        raise RuntimeError("CUDA out of memory" if run.way.name == "float32" else "no code for this\nlong trace")

    monkeypatch.setattr(HeptBench, "_size", refuse)
    rows = bench.measure(WAYS[:2])
    assert [row["left_out"] for row in rows] == ["RuntimeError: CUDA out of memory", "RuntimeError: no code for this"]
    assert bench.failures == ["bfloat16, block 32, 120 hits: RuntimeError: no code for this"]
    assert "no code for this" in hept_table(rows, {})


def test_published_times_are_those_of_the_file():
    found = published_scaling(ROOT / "config/published.csv")
    assert list(found) == [50_000, 100_000, 200_000, 300_000, 400_000, 500_000]
    assert found[50_000] == {"latency_ms": 15.37, "peak_memory_mb": pytest.approx(320 * 1.048576)}
