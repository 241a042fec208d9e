"""HEPTv2 as its authors run it, in plain torch: the peer of benchmarks/bench_heptv2.py.

Written from a description of Graph-COM/HEPTv2 (arXiv:2606.20437), which has the steps and the sizes; no line of it is
theirs. Its FlexAttention, which a CPU runs 20 times slower or not at all, is torch's fused attention here, as in the
measurement that this repository quotes. Weights are those of a ``HeptNetwork``. What differs from ours:

- an event is padded to whole blocks and the padding takes part in everything: cells, blocks, sectors, attention
- every layer hashes and sorts for itself, with float32 keys
- each round gathers q, k and v one by one, attends, and is unsorted; the rounds are stacked and weighted by their LSE
- sectors are padded to one length and are a batch
- all mask logits are stored, then scored, then the best query of each hit is looked up

Event without padding, whole number of blocks and of hits per sector: the outputs are those of ours (a test).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_network import HeptNetwork

EPSILON = 1e-6
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Padded(NamedTuple):
    """One event of n hits padded with zeros to P places, a multiple of the block.

    features: (P, F); positions: (P, 6); angles: (P, 2); n: real hits, which come first
    """

    features: Tensor
    positions: Tensor
    angles: Tensor
    n: int


class Found(NamedTuple):
    """What the decoder says. classes: (k, M, 2); masks: (k, M, width); hits: (k, S, width); places: (k, S) int64."""

    classes: Tensor
    masks: Tensor
    hits: Tensor
    places: Tensor


def pad(batch: HeptBatch, block: int) -> Padded:
    """Pad a batch of one event to whole blocks."""
    n = int(batch.lengths[0])
    more = -n % block
    parts = (F.pad(part[0, :n], (0, 0, 0, more)) for part in (batch.features, batch.positions, batch.angles))
    return Padded(*parts, n)


def encode(network: HeptNetwork, event: Padded, keys: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hits after the last norm (P, width), logits of target hits (P,), embedding of length 1 (P, E)."""
    encoder = network.encoder
    x = encoder.input_out(F.silu(encoder.input(event.features)))
    for number, layer in enumerate(encoder.layers):
        orders = sort_hits(network, event, number, keys)
        y = rms(x + layer.position(event.positions), layer.norm1.weight)
        parts = (layer.query, layer.key, layer.value)
        q, k, v = (part(y).unflatten(-1, (layer.heads, -1)).transpose(0, 1) for part in parts)
        q, k = rms(q, layer.query_norm.weight), rms(k, layer.key_norm.weight)
        x = x + layer.out(attend(q, k, v, orders, layer.block).transpose(0, 1).flatten(1))
        x = x + swiglu(rms(x, layer.norm2.weight), layer.feed_forward)
    hits = rms(x, encoder.norm.weight)
    return hits, encoder.classifier(hits).squeeze(-1), F.normalize(encoder.embedding(x), dim=-1)


def sort_hits(network: HeptNetwork, event: Padded, layer: int, keys: torch.dtype) -> Tensor:
    """Orders of one layer, (heads, rounds, P) int64: OR-AND E2LSH, cells of equal counts of the padded event."""
    serialization = network.encoder.serialization
    angles, length = event.angles.to(keys), len(event.angles)
    rank = angles.masked_fill((torch.arange(length) >= event.n)[:, None], torch.inf).argsort(0).argsort(0)
    sizes = serialization.sizes.to(keys)[..., None, :]  # (heads, rounds, 1, 2)
    cell = torch.floor(rank / torch.ceil(length / sizes)) + 1  # (heads, rounds, P, 2)
    p = serialization.directions[layer].to(keys) @ angles.T  # (heads, rounds, P)
    span = p.amax(-1, keepdim=True) - p.amin(-1, keepdim=True)
    key = p + span * cell[..., 0] + span * (torch.ceil(sizes[..., 0]) + 1) * cell[..., 1]
    key[..., event.n :] = torch.inf
    return key.argsort(-1)


def sort_all(network: HeptNetwork, event: Padded, keys: torch.dtype = torch.float32) -> list[Tensor]:
    """Orders of all layers, one after the other."""
    return [sort_hits(network, event, layer, keys) for layer in range(network.config.layers)]


def attend(q: Tensor, k: Tensor, v: Tensor, orders: Tensor, block: int) -> Tensor:
    """Attention within blocks, round by round. q, k, v: (heads, P, d); orders: (heads, rounds, P). Returns as q."""
    heads, length, width = q.shape
    outs, norms = [], []
    for order in orders.unbind(1):
        index = order[..., None].expand(-1, -1, width)
        parts = (part.gather(1, index).view(-1, 1, block, width) for part in (q, k, v))
        out, norm = _flash(*parts, scale=1 / math.sqrt(width))
        back = order.argsort(-1)
        outs.append(out.reshape(heads, length, width).gather(1, back[..., None].expand(-1, -1, width)))
        norms.append(norm.reshape(heads, length).gather(1, back))
    weight = torch.softmax(torch.stack(norms), dim=0)
    return (weight[..., None] * torch.stack(outs)).sum(0)


def decode(network: HeptNetwork, event: Padded, hits: Tensor) -> Found:
    """Learned queries in sectors of equal count, the last level alone. hits: (P, width)."""
    decoder, sectors = network.decoder, network.config.sectors
    places = sectors_of(event, sectors)
    seen = hits[places]  # (k, S, width); padding is the last place, whatever it holds
    x = decoder.start.content.expand(sectors, -1, -1)
    position = decoder.start.position.expand(sectors, -1, -1)
    for layer in decoder.layers:
        y = rms(x, layer.norm1.weight) + position
        x = x + multi_head(layer.cross_attention, y, seen, seen)
        y = rms(x, layer.norm2.weight)
        x = x + multi_head(layer.self_attention, y + position, y + position, y)
        x = x + swiglu(rms(x, layer.norm3.weight), layer.feed_forward)
    y = rms(x, decoder.norm.weight)
    return Found(decoder.classes(y), swiglu(y, decoder.mask), seen, places)


def sectors_of(event: Padded, sectors: int) -> Tensor:
    """Places of the hits of each sector, sorted by phi, (k, ceil(P / k)) int64, filled up with the last place."""
    length = len(event.angles)
    order = event.angles[: event.n, 1].argsort()
    size = math.ceil(length / sectors)
    places = torch.full((sectors, size), length - 1)
    for row, part in zip(places, order.tensor_split(sectors), strict=True):
        row[: len(part)] = part
    return places


def multi_head(attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense attention of q (k, M, width) to k and v (k, S, width), padding included."""
    parts = zip((attention.query, attention.key, attention.value), (q, k, v), strict=True)
    q, k, v = (part(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part, x in parts)
    q, k = rms(q, attention.query_norm.weight), rms(k, attention.key_norm.weight)
    return attention.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def assign(found: Found, event: Padded, cut: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Labels (n,) int64: sector * M + best query, -1 = unassigned. dtype: of the scores; bfloat16 as published."""
    logits = found.masks.to(dtype) @ found.hits.to(dtype).mT  # (k, M, S), stored
    track = torch.log_softmax(found.classes, dim=-1)[..., :1].to(dtype)
    score = logits.clamp(max=0) + 0.5 * track
    best, query = score.max(dim=1)
    query = query + torch.arange(len(score))[:, None] * score.shape[1]
    labels = torch.full((len(event.angles),), -1)
    labels[found.places] = torch.where(best >= cut, query, -1)
    return labels[: event.n]


def rms(x: Tensor, weight: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-6) times a weight, over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def swiglu(x: Tensor, part) -> Tensor:
    """Gated feed-forward network with the weights of a ``SwiGLU``."""
    return part.down(F.silu(part.gate(x)) * part.up(x))
