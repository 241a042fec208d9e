"""Masked attention with three backends that give the same numbers.

"sdpa" computes all pairs with a dense mask and trains everywhere. "varlen" computes group by group what a partition
of the hits leaves; it trains everywhere and is the fastest on CPUs. "flex" is FlexAttention, which skips blocks
without a pair: for CUDA, on CPUs without gradients only.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from trackbench.errors import ConfigError, describe
from trackbench.trackers.layers.flex_blocks import SMALLEST_HEAD, flex_function
from trackbench.trackers.layers.mask_rules import KINDS
from trackbench.trackers.layers.masks import AttentionMask

BACKENDS = ("auto", "sdpa", "varlen", "flex")
_VARIANTS = 256  # compiled: kinds of masks, padded sizes, batch sizes, number types, with and without gradients


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: AttentionMask,
    backend: str = "auto",
    *,
    bias: Tensor | None = None,
    compiled: bool | None = None,
) -> Tensor:
    """Softmax attention of each hit to the hits its mask allows.

    q, k, v: (B, H, S, E), hits in the order of the mask's batch
    bias: (B, H, S, S), added to the logits; for the backends "sdpa" and "auto", which is then "sdpa"
    backend: see ``resolve_backend``
    compiled: compile FlexAttention, once per kind of mask and padded size; default on CUDA only. Not compiled it
        computes all pairs.
    Returns (B, H, S, E); rows of padding are 0. Raises ConfigError as ``resolve_backend``.
    """
    if bias is not None:
        return _biased(q, k, v, mask, backend, bias)
    needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v))
    name = resolve_backend(backend, mask.kind, q.device.type, needs_grad)
    if name == "flex":
        return _flex(q, k, v, mask, q.device.type == "cuda" if compiled is None else compiled)
    if mask.full:
        return F.scaled_dot_product_attention(q, k, v)
    return _varlen(q, k, v, mask) if name == "varlen" else _sdpa(q, k, v, mask)


def prepare(mask: AttentionMask, backend: str) -> None:
    """Build what a backend, other than "auto", needs of a mask now instead of in the first layer."""
    if backend == "flex":
        mask.flex  # noqa: B018
    elif backend == "varlen" and not mask.full:
        mask.places  # noqa: B018
    elif mask.kind != "padding":
        mask.dense()


def resolve_backend(backend: str, mask_kind: str, device_type: str, needs_grad: bool) -> str:
    """Choose how attention is computed: "sdpa", "varlen" or "flex".

    backend: one of ``BACKENDS``; "auto" = flex on CUDA, elsewhere varlen for masks that are partitions, else sdpa
    mask_kind: one of ``network_config.MASKS``; device_type: "cpu", "cuda", ...; needs_grad: for training
    Raises ConfigError for an unknown backend or one that cannot do what is asked.
    """
    where = "attention backend"
    if backend not in BACKENDS:
        raise ConfigError(describe(where, f"'{backend}' is not known", "one of " + ", ".join(BACKENDS)))
    partition = KINDS[mask_kind].partition
    if backend == "auto":
        return "flex" if device_type == "cuda" else "varlen" if partition else "sdpa"
    if backend == "varlen" and not partition:
        what = f"'varlen' cannot compute the mask '{mask_kind}', whose hits have no groups"
        groups = ", ".join(name for name, kind in KINDS.items() if kind.partition)
        raise ConfigError(describe(where, what, f"a mask of {groups}", "use auto, sdpa or flex"))
    if backend == "flex" and device_type != "cuda" and needs_grad:
        what = f"'flex' cannot train on {device_type}: FlexAttention of PyTorch has no backward pass there (#169224)"
        raise ConfigError(describe(where, what, "a CUDA device", "use auto, varlen or sdpa, which give equal numbers"))
    return backend


def _biased(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, backend: str, bias: Tensor) -> Tensor:
    if backend not in ("auto", "sdpa"):
        what = f"'{backend}' adds nothing to the logits, but the network has pair_bias"
        raise ConfigError(describe("attention backend", what, "auto or sdpa"))
    allowed = mask.dense()
    # Rows of padding may attend to nothing, which gives NaN: they attend to everything and are set to 0.
    logits = bias.masked_fill(~allowed & mask.valid[:, None, :, None], float("-inf")).to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=logits)
    return out.masked_fill(~mask.valid[:, None, :, None], 0.0)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask) -> Tensor:
    if mask.kind != "padding":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.dense())
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.valid[:, None, None, :])
    return out.masked_fill(~mask.valid[:, None, :, None], 0.0)


def _varlen(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask) -> Tensor:
    """Groups of equal sizes are computed together, without padding: at most sqrt(2 S) calls for clusters."""
    plan = mask.plan
    n_events, heads, size, width = q.shape
    rows = [tensor.transpose(1, 2).reshape(n_events * size, heads, width) for tensor in (q, k, v)]
    queries = rows[0][plan.queries]
    keys, values = rows[1][plan.keys], rows[2][plan.keys]
    parts, at, key = [], 0, 0
    for count, n_queries, n_keys in plan.shapes:
        # (count * n, heads, width) -> (count, heads, n, width)
        q_i = queries[at : (at := at + count * n_queries)].unflatten(0, (count, n_queries)).transpose(1, 2)
        window = slice(key, key := key + count * n_keys)
        k_i, v_i = (t[window].unflatten(0, (count, n_keys)).transpose(1, 2) for t in (keys, values))
        # The softmax over a single key is 1.
        out = v_i.expand_as(q_i) if n_keys == 1 else F.scaled_dot_product_attention(q_i, k_i, v_i)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    found = torch.cat([*parts, q.new_zeros(1, heads, width, dtype=v.dtype)])
    return found[mask.places].unflatten(0, (n_events, size)).transpose(1, 2)


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, compiled: bool) -> Tensor:
    if q.shape[2] == 0 or q.shape[0] == 0:
        return torch.zeros_like(v)
    blocks = mask.flex
    width = q.shape[-1]
    tensors = (q, k, v) if blocks.index is None else [_sorted(tensor, blocks.index) for tensor in (q, k, v)]
    if width < SMALLEST_HEAD:
        tensors = [F.pad(tensor, (0, SMALLEST_HEAD - width)) for tensor in tensors]
    # Beyond the limit of variants torch stops (fullgraph) instead of quietly computing all pairs.
    limits = {"recompile_limit": _VARIANTS, "accumulated_recompile_limit": _VARIANTS}
    with torch._dynamo.config.patch(limits), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        out = flex_function(compiled)(*tensors, block_mask=blocks.block_mask, scale=1 / math.sqrt(width))
    out = out[..., :width]
    return out if blocks.inverse is None else _sorted(out, blocks.inverse)


def _sorted(tensor: Tensor, index: Tensor) -> Tensor:
    """Take hits by place, event by event. tensor: (B, H, S, E); index: (B, T). Returns (B, H, T, E)."""
    events = torch.arange(len(index), device=index.device)[:, None]
    return tensor.transpose(1, 2)[events, index].transpose(1, 2).contiguous()
