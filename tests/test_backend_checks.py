"""Differences of the attention backends on a device; costs with the backward pass."""

import pytest
import torch
from toys import toy_event

from trackbench import backend_checks
from trackbench.backend_checks import TOLERANCES, backend_differences
from trackbench.mask_cost import CostPlan, layer_costs, setup_text
from trackbench.trackers.layers import attention as attention_module
from trackbench.trackers.layers.batch import collate
from trackbench.trackers.layers.network_config import MaskConfig

PLAN = CostPlan(backends=("sdpa", "varlen", "flex"), heads=2, width=16, device="cpu", calls=1)
MASKS = {"all pairs": MaskConfig(), "window": MaskConfig(kind="phi_window", window=3)}


@pytest.fixture(scope="module")
def batch():
    torch.set_num_threads(1)
    return collate([toy_event(6, 2, seed=1)[0], toy_event(4, 2, seed=2)[0]])


def test_all_backends_agree_forward_and_those_that_train_backward(batch):
    rows = list(backend_differences(MASKS, dict.fromkeys(MASKS, batch), PLAN))
    found = {(row["mask"], row["backend"], row["quantity"]) for row in rows}
    expected = {("all pairs", backend, "forward") for backend in ("sdpa", "varlen", "flex")}
    expected |= {("all pairs", backend, "gradient") for backend in ("sdpa", "varlen")}
    expected |= {("window", "sdpa", "forward"), ("window", "sdpa", "gradient"), ("window", "flex", "forward")}
    assert found == expected
    assert all(row["good"] and row["difference"] < row["tolerance"] for row in rows)
    assert {row["dtype"] for row in rows} == {"float32"}


def test_a_backend_that_is_wrong_by_little_is_found(batch, monkeypatch):
    plain = attention_module.attention

    def wrong(q, k, v, mask, backend):
        return plain(q, k, v, mask, backend) + (1e-4 if backend == "varlen" else 0.0)

    monkeypatch.setattr(attention_module, "attention", wrong)
    rows = list(backend_differences({"all pairs": MaskConfig()}, {"all pairs": batch}, PLAN))
    bad = [(row["backend"], row["quantity"]) for row in rows if not row["good"]]
    assert bad == [("varlen", "forward")]
    assert max(row["difference"] for row in rows) == pytest.approx(1e-4, rel=0.02)


def test_a_result_that_is_no_number_is_bad():
    bad = {"forward": [torch.tensor([float("nan")])]}
    rows = list(backend_checks._compared({"forward": [torch.zeros(1)]}, bad, (1.0, 1.0)))
    assert [row["good"] for row in rows] == [False]


def test_bfloat16_is_within_its_tolerance_here_too(batch):
    inputs = backend_checks._inputs(batch, PLAN, 0)
    exact = backend_checks._results(MaskConfig(), batch, inputs, "sdpa", "float64", True)
    found = backend_checks._results(MaskConfig(), batch, inputs, "sdpa", "bfloat16", True)
    rows = list(backend_checks._compared(exact, found, TOLERANCES["bfloat16"]))
    assert len(rows) == 2
    assert all(row["good"] and row["difference"] > 1e-4 for row in rows)


def test_costs_of_a_training_step(batch):
    plan = CostPlan(backends=("sdpa", "varlen", "flex"), heads=1, width=8, device="cpu", calls=1, backward=True)
    rows = list(layer_costs(MaskConfig(), batch, plan, 0))
    assert {row["backend"] for row in rows} == {"sdpa", "varlen"}
    assert {row["quantity"] for row in rows} == {"build_ms", "wall_ms", "cpu_ms", "memory_mb"}
    assert "forward and backward" in setup_text(plan)
    assert torch.is_grad_enabled()
