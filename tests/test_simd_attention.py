"""Compiled attention against softmax in float64: shapes, strides, large logits, gradients, threads."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trackbench.trackers.layers import simd_attention  # noqa: E402
from trackbench.trackers.layers.simd_attention import attend, attention  # noqa: E402
from trackbench.trackers.layers.simd_kernels import exponential_coefficients, kernels  # noqa: E402


def vectors(sets, n_q, n_k, width, spread=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(sets, n, width, generator=generator) for n in (n_q, n_k, n_k))
    return spread * q, spread * k, v


def slow(q, k, v, scale):
    logits = scale * q.double() @ k.double().mT
    return torch.softmax(logits, -1) @ v.double(), torch.logsumexp(logits, -1)


def require_close(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("width", [1, 3, 8, 16, 32])
@pytest.mark.parametrize(("n_q", "n_k"), [(1, 1), (1, 65), (15, 64), (16, 63), (17, 200), (40, 7)])
def test_output_and_lse_are_those_of_softmax(width, n_q, n_k):
    tensors = vectors(3, n_q, n_k, width)
    require_close(attend(*tensors, width**-0.5), slow(*tensors, width**-0.5))


def test_parts_of_wider_rows_and_of_other_layouts():
    """As blocks hand them over, and as heads of a linear map: rows are apart, sets are not one after the other."""
    joint = torch.randn(5, 24, 48, generator=torch.Generator().manual_seed(1))
    parts = joint.split(16, dim=-1)
    require_close(attend(*parts, 0.25), slow(*parts, 0.25))
    heads = [part.unflatten(-1, (2, 8))[0].transpose(0, 1) for part in parts]  # (2, 24, 8)
    assert not heads[0].is_contiguous()
    require_close(attend(*heads, 0.3), slow(*heads, 0.3))
    turned = [part.transpose(1, 2).contiguous().transpose(1, 2) for part in parts]
    assert turned[0].stride(-1) != 1
    require_close(attend(*turned, 0.25), slow(*turned, 0.25))


@pytest.mark.parametrize("spread", [1e-3, 30.0])
def test_large_logits_stay_finite(spread):
    """Logits of some thousands, of both signs: the softmax is nearly one key."""
    tensors = vectors(2, 20, 300, 16, spread)
    out, lse = attend(*tensors, 1.0)
    assert torch.isfinite(out).all() and torch.isfinite(lse).all()
    expected, expected_lse = slow(*tensors, 1.0)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-3 if spread > 1 else 1e-6)


def test_values_that_are_not_finite_stay_visible():
    q, k, v = vectors(1, 20, 100, 16)
    q[0, 3, 5] = torch.nan
    out, _ = attend(q, k, v, 0.25)
    assert out[0, 3].isnan().all() and not out[0, torch.arange(20) != 3].isnan().any()
    q, k, v = vectors(1, 20, 100, 16)
    k[0, 70, 2] = torch.nan
    assert attend(q, k, v, 0.25)[0].isnan().all()


def test_no_set_and_no_query():
    for sets, n_q in ((0, 5), (3, 0)):
        out, lse = attend(*vectors(sets, n_q, 4, 16), 0.25)
        assert out.shape == (sets, n_q, 16) and lse.shape == (sets, n_q)


def test_gradients_are_those_of_softmax():
    leaves = [part.requires_grad_() for part in vectors(2, 33, 70, 16, spread=1.0)]
    grad = torch.randn(2, 33, 16, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.grad(attention(*leaves), leaves, grad)
    expected = torch.autograd.grad(slow(*leaves, 0.25)[0], leaves, grad.double())
    require_close(found, (part.double() for part in expected))


def test_threads_change_nothing(monkeypatch):
    tensors = vectors(7, 20, 50, 16)
    alone = attend(*tensors, 0.25)
    monkeypatch.setattr(simd_attention, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(torch.equal(a, b) for a, b in zip(attend(*tensors, 0.25), alone, strict=True))


def test_registers_of_other_processors(monkeypatch):
    """Eight lanes, as without AVX-512."""
    from llvmlite import binding

    plain = binding.get_host_cpu_features()
    plain.update({name: False for name in plain if name.startswith("avx512")})
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: plain)
    compiled = kernels.__wrapped__(16)
    monkeypatch.setattr(simd_attention, "kernels", lambda width: compiled)
    tensors = vectors(2, 21, 90, 16)
    require_close(attend(*tensors, 0.25), slow(*tensors, 0.25))


def test_exponential():
    f = np.linspace(-math.log(2) / 2, math.log(2) / 2, 1001)
    np.testing.assert_allclose(np.polyval(exponential_coefficients(), f), np.exp(f), rtol=1.2e-7)


def test_what_is_supported():
    assert simd_attention.is_supported(torch.zeros(3), 32)
    assert not simd_attention.is_supported(torch.zeros(3), 33)
    assert not simd_attention.is_supported(torch.zeros(3, dtype=torch.float64), 16)
    assert not simd_attention.is_supported(torch.zeros(3, dtype=torch.bfloat16), 16)
