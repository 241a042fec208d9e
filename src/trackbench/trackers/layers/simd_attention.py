"""Softmax attention of short vectors on a CPU with the log-sum-exp (LSE) of the logits, compiled at first use.

The fused kernel of torch multiplies matrices tile by tile; with heads of 16 numbers most of its time goes into writing
and reading logits. Here 16 queries are the lanes of a vector register, their outputs stay in registers, and logits
exist for 64 keys at a time, so a pair costs little more than its multiplications: about half the time. LLVM, which
Numba brings along, makes the code for the processor at hand in half a second.

Source of the running maximum: FlashAttention (arXiv:2205.14135). The exponential is 2^n e^f with a polynomial in f.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trackbench.trackers.layers.simd_kernels import NOTHING, kernels

LARGEST_WIDTH = 32  # beyond it the outputs do not fit into registers
_WORTH_A_THREAD = 2**21  # pairs of query and key, about 2 ms

_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def is_supported(vectors: Tensor, width: int) -> bool:
    """Whether the functions here take such vectors: float32 on a CPU, of at most ``LARGEST_WIDTH`` numbers."""
    return vectors.device.type == "cpu" and vectors.dtype == torch.float32 and width <= LARGEST_WIDTH


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention with gradients, logits divided by sqrt(d).

    q: (B, Q, d), k, v: (B, K, d), float32, K >= 1. Returns (B, Q, d).
    """
    return _Attention.apply(q, k, v)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention of each of B sets of queries to its set of keys.

    q: (B, Q, d); k, v: (B, K, d), see ``is_supported``, K >= 1; any distances between sets and between rows
    scale: factor of the logits q . k
    Returns output (B, Q, d) and LSE (B, Q). No gradient. Cost O(B Q K d), with the threads of torch where it pays.
    """
    q, k, v = (part if part.stride(-1) == 1 else part.contiguous() for part in (q, k, v))
    (sets, n_q, width), n_k = q.shape, k.shape[1]
    state = torch.empty(sets, n_q, width + 2)
    steps = [step for part in (q, k, v) for step in part.stride()[:2]]
    function = kernels(width).dense

    def call(first: int, last: int) -> None:
        starts = (part[first:].data_ptr() for part in (q, k, v, state))
        function(*starts, last - first, n_q, n_k, *steps, scale)

    _in_threads(call, sets, n_q * n_k)
    return _finished(state)


def attend_in_blocks(rows: Tensor, blocks: Sequence[Tensor], scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention of each row to the rows of all its blocks together.

    rows: (n, 3 d), query, key and value, contiguous, see ``is_supported``
    blocks: (count, size) int64 each, contiguous: rows of blocks of one size. A row is in no block twice, and in one
        such tensor once or, if that is small enough for one thread, several times.
    scale: factor of the logits
    Returns output (n, d), 0 for a row in no block, and LSE (n,), without meaning for it. No gradient.
    """
    width = rows.shape[1] // 3
    state = torch.zeros(len(rows), width + 2)
    state[:, width] = NOTHING
    function = kernels(width).blocks
    for part in blocks:
        size = part.shape[1]

        def call(first: int, last: int, part: Tensor = part, size: int = size) -> None:
            packed = torch.empty(size, 2 * width)
            starts = (tensor.data_ptr() for tensor in (rows, state, part[first:], packed))
            function(*starts, last - first, size, scale)

        _in_threads(call, len(part), size**2)
    return _finished(state)


def _finished(state: Tensor) -> tuple[Tensor, Tensor]:
    """Output and LSE. state: (..., d + 2), sums of p times value, largest logit, sum of p = exp(logit - largest)."""
    sums, peak, total = state.split((state.shape[-1] - 2, 1, 1), dim=-1)
    total = total.clamp(min=1.0)  # the largest logit has p = 1
    return sums / total, total.log().add_(peak).squeeze(-1)


def _in_threads(call: Callable[[int, int], None], count: int, pairs: int) -> None:
    """Do the pieces of work 0 to ``count`` - 1 of so many pairs each, in the threads of torch if that pays."""
    threads = max(min(torch.get_num_threads(), count, count * pairs // _WORTH_A_THREAD), 1)
    if threads == 1:
        call(0, count)
        return
    cuts = [number * count // threads for number in range(threads + 1)]
    list(_pool(threads).map(call, cuts, cuts[1:]))


class _Attention(torch.autograd.Function):
    """See ``attention``; the gradient is that of torch's fused kernel, which needs the LSE."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, lse = attend(q, k, v, q.shape[-1] ** -0.5)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse = (part[None] for part in ctx.saved_tensors)
        scale = q.shape[-1] ** -0.5
        parts = _flash_backward(grad[None], q, k, v, out, lse, 0.0, False, attn_mask=None, scale=scale)
        return tuple(part[0] for part in parts)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
