"""Attention of hits within blocks along several orders, and dense attention that also returns its normalisation.

A hit attends to the hits of its block in each order; the orders are combined by their log-sum-exp (LSE), which is
softmax over all these hits together, a hit in n of the blocks counting n times. Source: HEPTv2 (arXiv:2606.20437); the
combination and its gradient as in ring attention (arXiv:2310.01889). Differs from it in: padding is in no block, and
the last block is as short as the hits leave it.

On a CPU the fused kernel of torch computes blocks and nothing is compiled. Its backward pass needs of an order only
the probabilities, exp(logit - LSE), and the product of output and its gradient; with LSE and output of all orders
together it gives their exact share of the gradients. Everything is moved by permutations and their inverses, so no
sum depends on the order of threads. Other devices: ``block_flex``.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trackbench.trackers.layers.block_flex import flex_blocks, flex_with_lse
from trackbench.trackers.layers.block_plan import BlockPlan

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
    return _Blocks.apply(q, k, v, BlockPlan.build(orders, lengths, block), scale)


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
    """Block attention on a CPU over all rounds. q, k, v: (B, heads, S, d)."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, plan: BlockPlan, scale: float) -> Tensor:
        width, shape = q.shape[-1], q.shape
        rows = torch.cat((q, k, v), dim=-1).view(-1, 3 * width)
        out = lse = None
        for number in range(plan.rounds):
            found, norm = _one_round(rows, plan, number, scale)
            found, norm = plan.placed(found, number), plan.placed(norm, number)
            if out is None:
                out, lse = found, norm
                continue
            total = torch.logaddexp(lse, norm)
            out.mul_((lse - total).exp_()[:, None]).addcmul_(found, (norm - total).exp_()[:, None])
            lse = total
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse, plan.rows, plan.inverse)
        ctx.plan, ctx.scale = plan.without_tensors(), scale
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, out, lse, order, inverse = ctx.saved_tensors
        plan, width, shape = ctx.plan.with_tensors(order, inverse), q.shape[-1], q.shape
        rows = torch.cat((q, k, v, out.view(shape), grad), dim=-1).view(-1, 5 * width)
        total = None
        for number in range(plan.rounds):
            part = plan.placed(_one_round_backward(rows, lse, plan, number, ctx.scale), number)
            total = part if total is None else total.add_(part)
        return *(part.view(shape).to(q.dtype) for part in total.split(width, dim=-1)), None, None


def _one_round(rows: Tensor, plan: BlockPlan, number: int, scale: float) -> tuple[Tensor, Tensor]:
    """Outputs (T, d) and LSE (T,) of one round in its own order. rows: (n, 3 d), q, k, v of each hit and head."""
    width = rows.shape[1] // 3
    precise = torch.promote_types(rows.dtype, torch.float32)
    out, lse = plan.empty(width, precise), plan.empty(None, precise)
    for places, blocks in plan.chunks():
        taken = rows.index_select(0, plan.rows[number, places]).unflatten(0, blocks)[:, None]
        found, norm = _flash(*taken.split(width, dim=-1), attn_mask=None, scale=scale)
        out[places].view(found.shape).copy_(found)
        lse[places].view(norm.shape).copy_(norm)
    return out, lse


def _one_round_backward(rows: Tensor, lse: Tensor, plan: BlockPlan, number: int, scale: float) -> Tensor:
    """Share of one round in the gradients of q, k, v, (T, 3 d) in its own order.

    rows: (n, 5 d), q, k, v, output and its gradient; lse: (n,); both of all rounds together
    """
    width = rows.shape[1] // 5
    grads = plan.empty(3 * width, torch.promote_types(rows.dtype, torch.float32))
    for places, blocks in plan.chunks():
        index = plan.rows[number, places]
        taken = rows.index_select(0, index).unflatten(0, blocks)[:, None]
        norm = lse.index_select(0, index).unflatten(0, blocks)[:, None]
        q, k, v, out, grad = taken.split(width, dim=-1)
        parts = _flash_backward(grad, q, k, v, out, norm, 0.0, False, attn_mask=None, scale=scale)
        for target, part in zip(grads[places].split(width, dim=-1), parts, strict=True):
            target.unflatten(0, blocks).copy_(part[:, 0])
    return grads
