"""Block attention by FlexAttention, for CUDA: fixed shapes, no reading of lengths from the device.

Every order is padded to whole blocks, their number to one of a ``ladder``, the blocks are a batch, and keys beyond the
hits of a block are masked. Compiled once per shape, so events of similar lengths share what is compiled. Not measured
on a GPU; tests run the same code uncompiled on a CPU, forward only, where FlexAttention has no backward pass.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from trackbench.trackers.layers.flex_blocks import SMALLEST_HEAD, flex_function, ladder

SHAPES = 128  # compilations of one function before torch refuses another; its own limit is 8


def flex_blocks(q: Tensor, k: Tensor, v: Tensor, orders: Tensor, lengths: Tensor, block: int, scale: float) -> Tensor:
    """Block attention, arguments and result as of ``block_attention.block_attention``."""
    size = q.shape[2]
    extra = ladder(-(-size // block)) * block - size
    joint, out, lse = torch.cat((q, k, v), dim=-1), None, None
    places = torch.arange(size, device=q.device).expand_as(orders[:, :, 0])
    starts = torch.arange(0, size + extra, block, device=q.device)
    # A block of padding attends to its first place: its outputs are finite, and replaced at the end.
    count = (lengths[:, None] - starts).clamp(1, block)[:, None, :, None, None]
    mask = (torch.arange(block, device=q.device) < count).expand(-1, q.shape[1], -1, -1, -1).flatten(0, 2)[:, None]
    for order in orders.unbind(2):
        inverse = torch.empty_like(order).scatter_(-1, order, places)
        taken = F.pad(_Permute.apply(joint, order, inverse), (0, 0, 0, extra)).unflatten(2, (-1, block))
        found, norm = flex_with_lse(*taken.flatten(0, 2)[:, None].chunk(3, dim=-1), mask, scale)
        found = _Permute.apply(found.reshape(*q.shape[:2], -1, q.shape[-1])[:, :, :size].float(), inverse, order)
        norm = _Permute.apply(norm.reshape(*q.shape[:2], -1, 1)[:, :, :size], inverse, order)
        if out is None:
            out, lse = found, norm
            continue
        total = torch.logaddexp(lse, norm)
        out, lse = out * (lse - total).exp() + found * (norm - total).exp(), total
    valid = places < lengths[:, None, None]
    return out.masked_fill(~valid[..., None], 0.0).to(q.dtype)


def flex_with_lse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, compiled: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Dense attention with LSE, both with gradients; arguments as of ``block_attention.attention_with_lse``.

    compiled: default on CUDA only
    """
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    rule = None
    if mask is not None:
        several = [int(n > 1) for n in mask.shape[:3]]

        def rule(score, event, head, query, key):
            allowed = mask[event * several[0], head * several[1], query * several[2], key]
            return torch.where(allowed, score, -torch.inf)

    width = v.shape[-1]
    wider = max(SMALLEST_HEAD - width, 0)
    tensors = [F.pad(tensor, (0, wider)) if wider else tensor for tensor in (q, k, v)]
    settings = {"score_mod": rule, "scale": scale, "return_aux": AuxRequest(lse=True)}
    if torch.compiler.is_compiling():  # already part of what is compiled
        out, found = flex_attention(*tensors, **settings)
        return out[..., :width], found.lse
    function = flex_function(q.is_cuda if compiled is None else compiled)
    with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=SHAPES):
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        out, found = function(*tensors, **settings)
    return out[..., :width], found.lse


class _Permute(torch.autograd.Function):
    """Reorder the third axis of (B, heads, S, d); the gradient goes back by the inverse, without a scattered sum."""

    @staticmethod
    def forward(ctx, values: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return _taken(values, order)

    @staticmethod
    def backward(ctx, grad: Tensor):
        order, inverse = ctx.saved_tensors
        return _Permute.apply(grad, inverse, order), None, None


def _taken(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(2, order[..., None].expand(-1, -1, -1, values.shape[-1]))
