"""The encoder of HEPTv2: hits attend to the hits of their blocks, which differ from head to head and round to round.

Source: HEPTv2 (arXiv:2606.20437, github.com/Graph-COM/HEPTv2). Differs from it in: padding is known to every part, and
weights without any effect on the output are left out.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trackbench.trackers.layers.block_attention import block_attention
from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_features import N_FEATURES, N_POSITIONS
from trackbench.trackers.layers.network import full_precision
from trackbench.trackers.layers.serialization import Serialization

EPSILON = 1e-6  # of all RMS norms
_PART = 512  # hits of ``in_parts``


class Encoded(NamedTuple):
    """What the encoder says about each hit; values in the padding have no meaning but are finite.

    hits: (B, S, width) after the last norm, which the decoder attends to
    classifier: (B, S) float32, logits of target hits
    embedding: (B, S, E) float32 of length 1
    """

    hits: Tensor
    classifier: Tensor
    embedding: Tensor


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) times a weight, over the last axis of ``width``, computed in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise. x: (..., width). Returns the same shape and type."""
        with full_precision(x):
            full = x.float()
            if x.is_cuda:
                return F.rms_norm(full, self.weight.shape, self.weight, EPSILON).to(x.dtype)
            # torch's own takes two to five times as long on CPUs, and its gradient twice as long as ours.
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                return _Norm.apply(full, self.weight).to(x.dtype)
            return (full * _scale(full) * self.weight).to(x.dtype)


class _Norm(torch.autograd.Function):
    """``RMSNorm`` of x (..., width). With u = x s: dL/dx = s (w g - u mean(u w g)), dL/dw = sum of u g."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        scale = _scale(x)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        unit, scale, weight = ctx.saved_tensors
        both = grad * unit
        mean = (both @ weight).div_(len(weight))[..., None]
        return (grad * weight).addcmul_(unit, mean, value=-1.0).mul_(scale), both.flatten(0, -2).sum(0)


def _scale(x: Tensor) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon) over the last axis, which stays with length 1."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True).add_(EPSILON))


class SwiGLU(nn.Module):
    """Gated feed-forward network without bias: W3 (silu(W1 x) * W2 x). hidden: outputs of W1 and W2."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply. x: (..., width). Returns the same shape."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class PositionMLP(nn.Module):
    """Coordinates to a vector as wide as the network: linear, layer norm, SiLU, linear."""

    def __init__(self, coordinates: int, hidden: int, width: int):
        super().__init__()
        self.input = nn.Linear(coordinates, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.output = nn.Linear(hidden, width)

    def forward(self, positions: Tensor) -> Tensor:
        """Apply. positions: (..., coordinates) float32. Returns (..., width)."""
        with full_precision(positions):  # bfloat16 has three digits, positions need more
            found = self.norm(self.input(positions))
        return self.output(F.silu(found))


class HeptLayer(nn.Module):
    """Block attention and feed-forward network, each behind a norm and added to its input.

    The position enters what is normalised for the attention, x + pe, but not what is passed on.
    """

    def __init__(self, config: HeptConfig):
        super().__init__()
        width, self.heads, self.block = config.width, config.heads, config.block
        self.position = PositionMLP(N_POSITIONS[config.inputs], config.position_hidden, width)
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.query_norm, self.key_norm = RMSNorm(width // config.heads), RMSNorm(width // config.heads)
        self.out = nn.Linear(width, width)
        self.feed_forward = SwiGLU(width, config.ffn)

    def forward(self, x: Tensor, positions: Tensor, orders: Tensor, lengths: Tensor) -> Tensor:
        """One layer.

        x: (B, S, width); positions: (B, S, P); orders: (B, heads, rounds, S) int64, places sorted per head and round,
            padding last; lengths: (B,) int64
        Returns (B, S, width).
        """
        q, k, v = (part.transpose(1, 2) for part in in_parts(self._compared, x, positions))  # (B, heads, S, d)
        found = block_attention(q, k, v, orders, lengths, self.block, q.shape[-1] ** -0.5)
        return in_parts(self._passed_on, x, found.transpose(1, 2))

    def _compared(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, S, heads, d)."""
        y = self.norm1(x + self.position(positions))
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)) for part in (self.query, self.key, self.value))
        return self.query_norm(q), self.key_norm(k), v

    def _passed_on(self, x: Tensor, found: Tensor) -> Tensor:
        """What follows the attention. x: (B, S, width); found: (B, S, heads, d)."""
        x = x + self.out(found.flatten(2))
        return x + self.feed_forward(self.norm2(x))


class HeptEncoder(nn.Module):
    """Input MLP, layers, and the two heads that look at single hits: target or not, and an embedding."""

    def __init__(self, config: HeptConfig):
        super().__init__()
        width = config.width
        self.input = nn.Linear(N_FEATURES[config.inputs], width)
        self.input_out = nn.Linear(width, width)
        self.serialization = Serialization(config)
        self.layers = nn.ModuleList(HeptLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(width)
        self.classifier = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.embedding = _embedding_head(config)

    def forward(self, batch: HeptBatch) -> Encoded:
        """Encode hits; the orders of all layers come from one sort, in full precision."""
        return self.encode(batch.features, batch.positions, batch.lengths, self.orders(batch))

    @torch.no_grad()
    def orders(self, batch: HeptBatch) -> Tensor:
        """Orders of the hits in all layers, (layers, B, heads, rounds, S) int64."""
        with full_precision(batch.angles):
            return self.serialization(batch.angles, batch.valid)

    def encode(self, features: Tensor, positions: Tensor, lengths: Tensor, orders: Tensor) -> Encoded:
        """Encode hits along given orders. Fixed shapes give fixed work: this is what ``hept_compiled`` compiles."""
        x = in_parts(self._start, features)
        for layer, order in zip(self.layers, orders, strict=True):
            x = layer(x, positions, order, lengths)
        return Encoded(*in_parts(self._heads, x))

    def _start(self, features: Tensor) -> Tensor:
        with full_precision(features):
            x = self.input(features)
        return self.input_out(F.silu(x))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hits = self.norm(x)
        classifier, embedding = self.classifier(hits).squeeze(-1).float(), self.embedding(x).float()
        return hits, classifier, F.normalize(embedding, dim=-1)


def in_parts(function: Callable, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Apply a function of single hits, part by part on a CPU: what it makes on the way then stays in the cache.

    function: from tensors (B, s, ...) to one or several of the same kind; tensors: (B, S, ...). Without gradients only:
    with them everything is kept anyway.
    """
    whole = tensors[0].device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if whole or tensors[0].shape[1] <= _PART:
        return function(*tensors)
    parts = zip(*(tensor.split(_PART, dim=1) for tensor in tensors), strict=True)
    found = [function(*part) for part in parts]
    if isinstance(found[0], Tensor):
        return torch.cat(found, dim=1)
    return tuple(torch.cat(part, dim=1) for part in zip(*found, strict=True))


def _embedding_head(config: HeptConfig) -> nn.Sequential:
    """Linear maps of ``embedding_layers`` in number with layer norm and SiLU between them."""
    hidden = [config.embedding_hidden] * (config.embedding_layers - 1)
    sizes = [config.width, *hidden, config.embedding]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU()]
    return nn.Sequential(*parts[:-2])
