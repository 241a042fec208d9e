"""Attention by a Gaussian kernel, exp(-|q - k|^2 / 2), within blocks along orders of queries and orders of keys.

A query sees the keys of the block at the same place. Rounds are combined as the sum of the numerators over the sum of
the denominators, so a key in n of the blocks counts n times.
Source: HEPT (arXiv:2402.12535, github.com/Graph-COM/HEPT). Differs from it in: padding is in no sum, and each block is
moved so that its keys are centred at zero, which changes no distance and keeps the digits of small ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

FLOOR = 1e-20  # added to the denominator once per round: a query without any key in reach gets nearly 0
_AT_ONCE = 2**24  # kernel values held at once; those of further blocks are computed again for the gradient


def kernel_attention(
    q: Tensor, k: Tensor, v: Tensor, q_orders: Tensor, k_orders: Tensor, lengths: Tensor, block: int
) -> Tensor:
    """Mean of the values of the keys in a query's blocks, weighted by exp(-|q - k|^2 / 2).

    q, k: (B, heads, S, d); v: (B, heads, S, e); of one type, which they are computed in
    q_orders, k_orders: (B, heads, rounds, S) int64, permutations of the places of an event with its real hits first
    lengths: (B,) int64, real hits of each event, which stand before its padding
    block: hits of a block, >= 1; the last one of an event has the N mod block hits that are left
    Returns (B, heads, S, e), 0 in the padding. Cost O(rounds N block), memory O(rounds N). Raises ValueError for
    shapes that do not fit.
    """
    shape = (*q.shape[:2], q_orders.shape[2], q.shape[2])
    fits = q.shape == k.shape and v.shape[:3] == q.shape[:3] and lengths.shape == shape[:1]
    if not fits or q_orders.shape != shape or k_orders.shape != shape or block < 1:
        found = [tuple(tensor.shape) for tensor in (q, k, v, q_orders, k_orders, lengths)]
        raise ValueError(f"q, k, v, orders and lengths of shapes {found} and blocks of {block} do not fit")
    size = max(min(block, shape[-1]), 1)
    inverse = q_orders.argsort(-1)
    ones = v.new_ones(()).expand(*v.shape[:3], 1)  # its sum is the denominator
    sorted_q = _blocks(_Sorted.apply(q, q_orders, inverse), size)
    sorted_kv = _blocks(_Sorted.apply(torch.cat((k, v, ones), -1), k_orders, k_orders.argsort(-1)), size)
    n_blocks = -(-shape[-1] // size)
    places = torch.arange(n_blocks * size, device=q.device).view(n_blocks, size)
    real = (places < lengths[:, None, None]).repeat_interleave(shape[1] * shape[2], 0).view(-1, size)
    sums = _sums_in_parts(sorted_q, sorted_kv, real).view(*shape[:3], n_blocks * size, -1)
    total = _Placed.apply(sums[..., : shape[-1], :].contiguous(), inverse, q_orders)
    found = total[..., :-1] / (total[..., -1:] + shape[2] * FLOOR)
    valid = torch.arange(shape[-1], device=q.device) < lengths[:, None]
    return found.masked_fill(~valid[:, None, :, None], 0.0)


def _blocks(values: Tensor, size: int) -> Tensor:
    """(B, heads, rounds, S, d) to (blocks of all, size, d), the last block of each round filled with zeros."""
    missing = -values.shape[3] % size
    return F.pad(values, (0, 0, 0, missing)).reshape(-1, size, values.shape[-1])


def _sums_in_parts(q: Tensor, kv: Tensor, real: Tensor) -> Tensor:
    """``_sums`` of as many blocks at a time as memory is meant for."""
    parts = max(_AT_ONCE // q.shape[1] ** 2, 1)
    if len(q) <= parts:
        return _sums(q, kv, real)
    pieces = zip(q.split(parts), kv.split(parts), real.split(parts), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_sums(*piece) for piece in pieces])
    return torch.cat([checkpoint(_sums, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces])


def _sums(q: Tensor, kv: Tensor, real: Tensor) -> Tensor:
    """Sums over the keys of each block. q: (M, s, d); kv: (M, s, d + e + 1); real: (M, s). Returns (M, s, e + 1)."""
    k, v = kv.split((q.shape[-1], kv.shape[-1] - q.shape[-1]), -1)
    with torch.no_grad():
        centre = (k * real[..., None]).sum(1, keepdim=True) / real.sum(1).clamp_min(1)[:, None, None]
    q, k = q - centre, k - centre
    own = (-0.5 * k.square().sum(-1)).masked_fill(~real, -torch.inf)
    exponent = torch.baddbmm(own[:, None, :], q, k.transpose(1, 2)) - 0.5 * q.square().sum(-1, keepdim=True)
    return exponent.clamp(max=0.0).exp() @ v  # above 0 by rounding only


class _Sorted(torch.autograd.Function):
    """Values of hits, (B, heads, S, d), in the orders of all rounds, (B, heads, rounds, S, d)."""

    @staticmethod
    def forward(ctx, values: Tensor, orders: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return _taken(values, orders)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return _given_back(grad, *ctx.saved_tensors), None, None


class _Placed(torch.autograd.Function):
    """Sum over the rounds of values in their orders, (B, heads, rounds, S, d), at the places of the hits."""

    @staticmethod
    def forward(ctx, values: Tensor, inverse: Tensor, orders: Tensor) -> Tensor:
        ctx.save_for_backward(orders)
        return _given_back(values, inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return _taken(grad, *ctx.saved_tensors), None, None


def _taken(values: Tensor, orders: Tensor) -> Tensor:
    """(B, heads, S, d) to (B, heads, rounds, S, d). orders: (B, heads, rounds, S)."""
    n_events, heads, rounds, size = orders.shape
    start = torch.arange(n_events * heads, device=orders.device).view(n_events, heads, 1, 1) * size
    rows = values.reshape(-1, values.shape[-1]).index_select(0, (orders + start).view(-1))
    return rows.view(n_events, heads, rounds, size, -1)


def _given_back(values: Tensor, inverse: Tensor) -> Tensor:
    """(B, heads, rounds, S, d) to (B, heads, S, d), summed over the rounds. inverse: (B, heads, rounds, S)."""
    return _taken(values.flatten(1, 2), inverse.flatten(1, 2)[:, :, None]).view(values.shape).sum(2)
