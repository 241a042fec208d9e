"""The decoder of HEPTv2: queries look at the hits of a sector and at each other, and say which hits are theirs.

Source: HEPTv2 (arXiv:2606.20437, github.com/Graph-COM/HEPTv2), in the line of Mask2Former (arXiv:2112.01527). Differs
from it in: padding is masked everywhere; seeded queries with residual masks are our own.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_encoder import Encoded, RMSNorm, SwiGLU
from trackbench.trackers.layers.hept_queries import Group, LearnedQueries, Queries, SeededQueries, take
from trackbench.trackers.layers.hept_sectors import sector_places
from trackbench.trackers.layers.simd_attention import attention, is_supported

START_SCALE, START_CUT = 10.0, 0.8  # s and t of residual masks before training


class Level(NamedTuple):
    """What the heads say after a layer, or before the first.

    classes: (G, M, 2) float32 logits of track and of empty; queries: (G, M, D) float32 vectors of the masks
    """

    classes: Tensor
    queries: Tensor


class Decoded(NamedTuple):
    """Tracks of each group, a sector of an event: B events of k sectors (2k with overlap) give G groups.

    The logit of hit t belonging to query m at a level is ``queries[m] . hits[t] + offset``. Values of queries and
    hits that are not valid have no meaning but are finite.

    levels: ``decoder_layers`` + 1 of them, that of the start first
    hits: (G, T, D) float32 vectors of the hits; offset: scalar
    valid: (G, M) bool, True = real query
    places: (G, T) int64, place of the hit in its event, -1 = padding; event: (G,) int64
    seeds: (G, M) int64, place in the group of the hit a query started from, -1 = none
    """

    levels: tuple[Level, ...]
    hits: Tensor
    offset: Tensor
    valid: Tensor
    places: Tensor
    event: Tensor
    seeds: Tensor


class Attention(nn.Module):
    """Multi-head attention with norms of queries and keys per head. width: divisible by heads."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.query_norm, self.key_norm = RMSNorm(width // heads), RMSNorm(width // heads)
        for part in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        q: (G, M, width); k, v: (G, T, width)
        mask: (G, M, T) bool, True = attends; or (G, 1, T) for all queries alike, those seen before the others. At
            least one True in each row.
        Returns (G, M, width).
        """
        parts = zip((self.query, self.key, self.value), (q, k, v), strict=True)
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part, x in parts)
        q, k, v = (part.transpose(1, 2) for part in (self.query_norm(q), self.key_norm(k), v))
        return self.out(_attend(q, k, v, mask).transpose(1, 2).flatten(2))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention. q: (G, heads, M, d); k, v: (G, heads, T, d); mask: of ``Attention``. Returns as q."""
    if mask.shape[1] > 1 or mask.device.type != "cpu" or len(q) == 0 or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    # Cut instead of masked: padding costs no time.
    counts = mask[:, 0].sum(1).tolist()
    attend = attention if is_supported(q, q.shape[-1]) else F.scaled_dot_product_attention
    return torch.stack([attend(a, b[:, :n], c[:, :n]) for a, b, c, n in zip(q, k, v, counts, strict=True)])


class DecoderLayer(nn.Module):
    """Cross-attention to hits, self-attention, feed-forward network, each behind a norm and added to its input."""

    def __init__(self, config: HeptConfig):
        super().__init__()
        self.cross_attention = Attention(config.width, config.heads)
        self.self_attention = Attention(config.width, config.heads)
        self.feed_forward = SwiGLU(config.width, config.ffn)
        self.norm1, self.norm2, self.norm3 = (RMSNorm(config.width) for _ in range(3))

    def forward(self, x: Tensor, position: Tensor, hits: Tensor, seen: Tensor, valid: Tensor) -> Tensor:
        """One layer.

        x, position: (G, M, width), queries and what is added to them where they are compared
        hits: (G, T, width); seen: (G, 1 or M, T) bool, hits a query sees; valid: (G, 1, M) bool, queries that are seen
        Returns (G, M, width).
        """
        x = x + self.cross_attention(self.norm1(x) + position, hits, hits, seen)
        y = self.norm2(x)
        placed = y + position
        x = x + self.self_attention(placed, placed, y, valid)
        return x + self.feed_forward(self.norm3(x))


class ResidualMasks(nn.Module):
    """Masks of seeded queries: likeness of hit and seed in the embedding, corrected by what the decoder learned.

    logit = s (cosine(seed, hit) - t) + mask . W hit / sqrt(width), as one product of longer vectors and an offset.
    """

    def __init__(self, width: int):
        super().__init__()
        self.hit = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.tensor(START_SCALE))
        self.cut = nn.Parameter(torch.tensor(START_CUT))

    @property
    def offset(self) -> Tensor:
        """Scalar - s t."""
        return -self.scale * self.cut

    def hits(self, group: Group) -> Tensor:
        """Vectors of the hits, (G, T, width + E)."""
        learned = self.hit(group.hits).float() / math.sqrt(group.hits.shape[2])
        return torch.cat((learned, group.embedding), dim=-1)

    def queries(self, mask: Tensor, seed: Tensor) -> Tensor:
        """Vectors of the queries. mask: (G, M, width); seed: (G, M, E), embedding. Returns (G, M, width + E)."""
        return torch.cat((mask, self.scale * seed), dim=-1)


class HeptDecoder(nn.Module):
    """Sectors, queries, layers and the heads for classes and masks, which all levels share."""

    def __init__(self, config: HeptConfig):
        super().__init__()
        width = config.width
        self.config = config
        seeded = config.queries == "seeded"
        self.start = SeededQueries(config) if seeded else LearnedQueries(config)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = RMSNorm(width)
        self.classes = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))
        self.mask = SwiGLU(width, config.ffn)
        self.residual = ResidualMasks(width) if seeded else None
        if seeded:
            nn.init.zeros_(self.mask.down.weight)  # masks start as likeness to the seed

    def forward(self, batch: HeptBatch, encoded: Encoded) -> Decoded:
        """Find the tracks of each sector of each event."""
        places, event, group = self.groups(batch, encoded)
        queries = self.start(group)
        levels, hits = self.refine(group, queries)
        return Decoded(levels, hits, self.offset(), queries.valid, places, event, queries.seeds)

    def groups(self, batch: HeptBatch, encoded: Encoded) -> tuple[Tensor, Tensor, Group]:
        """Sectors of the events: ``places`` and ``event`` of ``Decoded``, and what is known of their hits."""
        places = sector_places(batch.angles, batch.valid, self.config.sectors, self.config.overlap)
        event = torch.arange(len(places), device=places.device).repeat_interleave(places.shape[1])
        return places.flatten(0, 1), event, _gather(batch, encoded, places)

    def refine(self, group: Group, queries: Queries) -> tuple[tuple[Level, ...], Tensor]:
        """Apply the layers to queries: ``levels`` and ``hits`` of ``Decoded``. ``hept_compiled`` compiles it."""
        hits = self._mask_hits(group)
        x, seed = queries.content, take(group.embedding, queries.seeds)
        levels = [self._level(x, seed)]
        sees = _some(group.valid[:, None])
        seen_queries = _some(queries.valid[:, None])
        for layer in self.layers:
            seen = self._seen(levels[-1], hits, sees) if self.config.masked_attention else sees
            x = layer(x, queries.position, group.hits, seen, seen_queries)
            levels.append(self._level(x, seed))
        return tuple(levels), hits

    def _mask_hits(self, group: Group) -> Tensor:
        return group.hits.float() if self.residual is None else self.residual.hits(group)

    def offset(self) -> Tensor:
        """Scalar, ``offset`` of ``Decoded``."""
        return self.norm.weight.new_zeros(()) if self.residual is None else self.residual.offset

    def _level(self, x: Tensor, seed: Tensor) -> Level:
        """Heads on the query stream. x: (G, M, width); seed: (G, M, E)."""
        y = self.norm(x)
        mask = self.mask(y).float()
        queries = mask if self.residual is None else self.residual.queries(mask, seed)
        return Level(self.classes(y).float(), queries)

    @torch.no_grad()
    def _seen(self, level: Level, hits: Tensor, sees: Tensor) -> Tensor:
        """Hits in the previous mask of each query, all hits for a query whose mask is empty: (G, M, T) bool."""
        inside = (level.queries @ hits.mT + self.offset() >= 0) & sees
        return inside | (sees & ~inside.any(2, keepdim=True))


def _gather(batch: HeptBatch, encoded: Encoded, places: Tensor) -> Group:
    """Sort the hits of each event into its groups. places: (B, k, T) int64, -1 = padding. G = B k."""
    flat = places.flatten(1)
    hits = (take(values, flat) for values in (encoded.hits, batch.positions, encoded.embedding))
    parts = (values.unflatten(1, places.shape[1:]).flatten(0, 1) for values in hits)
    return Group(*parts, valid=(places >= 0).flatten(0, 1))


def _some(valid: Tensor) -> Tensor:
    """The mask itself, all True for a row without any: attention to nothing is not finite. (..., n) bool."""
    return valid | ~valid.any(-1, keepdim=True)
