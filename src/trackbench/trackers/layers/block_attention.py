"""Attention of hits within blocks along several orders, and dense attention that also returns its normalisation.

A hit attends to the hits of its block in each order; the orders are combined by their log-sum-exp (LSE), which is
softmax over all these hits together, a hit in n of the blocks counting n times. Source: HEPTv2 (arXiv:2606.20437); the
combination and its gradient as in ring attention (arXiv:2310.01889). Differs from it in: padding is in no block, and
the last block is as short as the hits leave it.

On a CPU ``simd_attention`` computes the blocks, and torch's fused kernel those it does not take. The backward pass of
the latter needs of an order only the probabilities, exp(logit - LSE), and the product of output and its gradient; with
LSE and output of all orders together it gives their exact share of the gradients. Everything is moved by permutations
and their inverses, so no sum depends on the order of threads. Other devices: ``block_flex``.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trackbench.trackers.layers.block_flex import flex_blocks, flex_with_lse
from trackbench.trackers.layers.block_plan import BlockPlan
from trackbench.trackers.layers.simd_attention import attend_in_blocks, is_supported

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def block_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    orders: Tensor,
    lengths: Tensor,
    block: int,
    scale: float,
) -> Tensor:
    """Softmax attention of each hit to the hits of its blocks, one block per round.

    q, k, v: (B, heads, S, d), of one type; under autocast they are computed in its lower precision
    orders: (B, heads, rounds, S) int64, permutations of the places of an event with its real hits first
    lengths: (B,) int64, real hits of each event, which stand before its padding
    block: hits of a block, >= 1; the last one of an event has the N mod block hits that are left
    scale: factor of the logits q . k
    Returns (B, heads, S, d), 0 in the padding. Cost O(rounds N block), memory O(rounds N). Raises ValueError for
    shapes that do not fit.
    """
    shape = (*q.shape[:2], orders.shape[2], q.shape[2])
    if not q.shape == k.shape == v.shape or orders.shape != shape or lengths.shape != shape[:1] or block < 1:
        found = [tuple(tensor.shape) for tensor in (q, k, v, orders, lengths)]
        raise ValueError(f"q, k, v, orders, lengths of shapes {found} and blocks of {block} do not fit")
    q, k, v = _lowered(q, k, v)
    if q.device.type != "cpu" or torch.compiler.is_compiling():  # the plan below needs values, not shapes alone
        return flex_blocks(q, k, v, orders, lengths, block, scale)
    if q.numel() == 0:
        return q + k + v
    return _Blocks.apply(q, k, v, BlockPlan.turns(orders, lengths, block), scale)


def attention_with_lse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Softmax attention of all queries to all keys, with the log-sum-exp of their logits.

    q: (B, heads, Q, d); k, v: (B, heads, K, d); one type
    mask: bool, (B or 1, heads or 1, Q or 1, K), True = attends; scale: factor of the logits, default 1 / sqrt(d)
    Returns the output (B, heads, Q, d) and LSE (B, heads, Q), float32 or higher. A query with no key has output 0 and
    LSE -inf. Gradients flow through the output only.
    """
    q, k, v = _lowered(q, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if q.device.type != "cpu":
        out, lse = flex_with_lse(q, k, v, mask, scale)
        return out, lse.detach()
    if mask is None:
        out, lse = _flash(q, k, v, attn_mask=None, scale=scale)
        return out, lse.detach()
    # All keys for queries without one, which would have no finite gradient; their outputs are replaced.
    alone = ~mask.any(-1, keepdim=True)
    added = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~(mask | alone), -torch.inf)
    out, lse = _flash(q, k, v, attn_mask=added, scale=scale)
    return out.masked_fill(alone, 0.0), lse.detach().masked_fill(alone[..., 0], -torch.inf)


def _lowered(*tensors: Tensor) -> list[Tensor]:
    """The type that autocast, where it is on, gives to attention. float64 stays."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device) or tensors[0].dtype == torch.float64:
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]


class _Blocks(torch.autograd.Function):
    """Block attention on a CPU over all rounds. q, k, v: (B, heads, S, d); turns: together they have all rounds."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, turns: tuple[BlockPlan, ...], scale: float) -> Tensor:
        rows = torch.cat((q, k, v), dim=-1).view(-1, 3 * q.shape[-1])
        if is_supported(rows, q.shape[-1]):
            blocks = [plan.rows[places].view(shape) for plan in turns for places, shape in plan.chunks()]
            out, lse = attend_in_blocks(rows, blocks, scale)
            lse = lse[:, None]
        else:
            out, lse = _fused(rows, turns, scale)
        ctx.save_for_backward(rows, out, lse)
        ctx.turns, ctx.scale, ctx.shape = turns, scale, q.shape
        return out.view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        rows, out, lse = ctx.saved_tensors
        width, total = out.shape[1], None
        after = torch.cat((out, grad.reshape(out.shape)), dim=1)
        for plan in ctx.turns:
            parts = plan.placed(_gradients_of(rows, after, lse, plan, ctx.scale))
            part = parts.sum(0) if len(parts) > 1 else parts[0]
            total = part if total is None else total.add_(part)
        return *(part.view(ctx.shape).to(rows.dtype) for part in total.split(width, dim=1)), None, None


def _fused(rows: Tensor, turns: tuple[BlockPlan, ...], scale: float) -> tuple[Tensor, Tensor]:
    """Output (n, d) and LSE (n, 1) by torch's fused kernel. rows: (n, 3 d), q, k, v of each hit and head."""
    out = lse = None
    for plan in turns:
        found = _fused_turn(rows, plan, scale)
        if out is not None:
            found = torch.cat((torch.cat((out, lse), dim=1)[None], found))
        out, lse = _united(found)
    return out.to(rows.dtype), lse


def _fused_turn(rows: Tensor, plan: BlockPlan, scale: float) -> Tensor:
    """Output and, last, LSE of each row in each round of a turn, (rounds, n, d + 1)."""
    width = rows.shape[1] // 3
    out = plan.empty(width + 1, torch.promote_types(rows.dtype, torch.float32))
    for places, blocks in plan.chunks():
        taken = rows.index_select(0, plan.rows[places]).unflatten(0, blocks)[:, None]
        found, norm = _flash(*taken.split(width, dim=-1), attn_mask=None, scale=scale)
        target = out[places].unflatten(0, blocks)
        target[..., :width].copy_(found[:, 0])
        target[..., width].copy_(norm[:, 0])
    return plan.placed(out)


def _united(found: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over several sets of hits together. found: (sets, n, d + 1). Returns output (n, d) and LSE (n, 1)."""
    out, lse = found.split((found.shape[2] - 1, 1), dim=2)
    if len(found) == 1:
        return out[0], lse[0]
    total = lse.logsumexp(0)
    return (out * (lse - total).exp_()).sum(0), total


def _gradients_of(rows: Tensor, after: Tensor, lse: Tensor, plan: BlockPlan, scale: float) -> Tensor:
    """Share of a turn in the gradients of q, k, v, (T, 3 d) at its places.

    rows: (n, 3 d), q, k, v; after: (n, 2 d), output and its gradient; lse: (n, 1); of all rounds together
    """
    width = rows.shape[1] // 3
    grads = plan.empty(3 * width, torch.promote_types(rows.dtype, torch.float32))
    for places, blocks in plan.chunks():
        taken = (t.index_select(0, plan.rows[places]).unflatten(0, blocks)[:, None] for t in (rows, after, lse))
        q, k, v, out, grad, norm = (part for t in taken for part in t.split(min(width, t.shape[-1]), dim=-1))
        parts = _flash_backward(grad, q, k, v, out, norm[..., 0], 0.0, False, attn_mask=None, scale=scale)
        for target, part in zip(grads[places].split(width, dim=-1), parts, strict=True):
            target.unflatten(0, blocks).copy_(part[:, 0])
    return grads
