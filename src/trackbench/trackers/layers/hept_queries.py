"""Where the queries of the decoder of HEPTv2 start: a bank of learned vectors, or hits chosen as seeds.

Source of the bank: HEPTv2 (github.com/Graph-COM/HEPTv2). Seeds are our own: greedy suppression of neighbours by falling
density, as mean shift and non-maximum suppression do it, in the embedding of the encoder.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_encoder import PositionMLP
from trackbench.trackers.layers.hept_features import N_POSITIONS

_AT_ONCE, _AT_ONCE_CPU = 2**27, 2**18  # cosines held at once; on a CPU what its cache holds
_BLOCK = 256  # candidates whose order among themselves is settled at once


class Group(NamedTuple):
    """What the decoder sees of a sector, sorted by azimuth; padding comes last.

    hits: (G, T, width), encoded; positions: (G, T, P); embedding: (G, T, E) of length 1; valid: (G, T) bool
    """

    hits: Tensor
    positions: Tensor
    embedding: Tensor
    valid: Tensor


class Queries(NamedTuple):
    """Queries of each group.

    content, position: (G, M, width); valid: (G, M) bool; seeds: (G, M) int64, place of the hit in the group, -1 = none
    """

    content: Tensor
    position: Tensor
    valid: Tensor
    seeds: Tensor


class LearnedQueries(nn.Module):
    """A bank of vectors and of their positions, the same for every sector."""

    def __init__(self, config: HeptConfig):
        super().__init__()
        self.content = nn.Parameter(torch.randn(config.n_queries, config.width))
        self.position = nn.Parameter(torch.randn(config.n_queries, config.width))

    def forward(self, group: Group) -> Queries:
        """Return the bank for each group; all queries are valid, none has a seed."""
        shape = (len(group.hits), len(self.content))
        content, position = (bank.expand(shape[0], -1, -1) for bank in (self.content, self.position))
        device = group.hits.device
        valid = torch.ones(shape, dtype=torch.bool, device=device)
        return Queries(content, position, valid, torch.full(shape, -1, device=device))


class SeededQueries(nn.Module):
    """Hits chosen by ``choose_seeds``: a query is a linear map of the encoded hit, its position an MLP of the hit's."""

    def __init__(self, config: HeptConfig):
        super().__init__()
        self.config = config
        self.content = nn.Linear(config.width, config.width)
        self.position = PositionMLP(N_POSITIONS[config.inputs], config.position_hidden, config.width)

    def forward(self, group: Group) -> Queries:
        """Choose seeds in each group, as many places for them as the group with most has, at least one."""
        config = self.config
        seeds = choose_seeds(
            group.embedding, group.valid, config.seed_similarity, config.seed_neighbours, config.n_queries
        )
        content = self.content(take(group.hits, seeds))
        return Queries(content, self.position(take(group.positions, seeds)), seeds >= 0, seeds)


def take(values: Tensor, places: Tensor) -> Tensor:
    """Values at places along the second axis. values: (G, T, W); places: (G, M) int64, -1 = the first. (G, M, W)."""
    index = places.clamp(min=0)[:, :, None].expand(-1, -1, values.shape[2])
    return values.gather(1, index)


@torch.no_grad()
def choose_seeds(embedding: Tensor, valid: Tensor, similarity: float, neighbours: int, most: int) -> Tensor:
    """Choose hits that stand for the dense places of the embedding, greedily.

    embedding: (G, T, E) of length 1; valid: (G, T) bool, real hits first
    similarity: hits are neighbours at a cosine above it, and each hit is its own
    neighbours: how many a seed needs; most: seeds of a group at most
    Hits are looked at by falling number of neighbours, of equal ones the first in the group first; a hit is a seed
    unless a seed before it is its neighbour.
    Returns (G, M) int64 places in the group in that order, -1 = none; M = most seeds of a group, at least 1.
    The choice has no gradient. Cost O(T^2 E) per group, memory a few MB.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        found = [
            _seeds_of_group(part[:n].float(), similarity, neighbours, most)
            for part, n in zip(embedding, valid.sum(1).tolist(), strict=True)
        ]
    size = max([1, *map(len, found)])
    seeds = torch.full((len(found), size), -1, dtype=torch.int64, device=embedding.device)
    for row, part in zip(seeds, found, strict=True):
        row[: len(part)] = part
    return seeds


def _seeds_of_group(embedding: Tensor, similarity: float, neighbours: int, most: int) -> Tensor:
    """Seeds of one group of real hits, (n, E) float32. Returns (m,) int64."""
    density = _count_neighbours(embedding, similarity)
    left = torch.argsort(density, descending=True, stable=True)
    left = left[density[left] >= neighbours]
    chosen, n_chosen = [left[:0]], 0
    while len(left) and n_chosen < most:
        # Blocks of candidates that no earlier seed suppresses, so that blocks become fewer than hits / block quickly.
        block, left = left[:_BLOCK], left[_BLOCK:]
        seeds = block[_first_of_neighbours(embedding[block], similarity)]
        chosen.append(seeds)
        n_chosen += len(seeds)
        left = left[~_near_any(embedding[left], embedding[seeds], similarity)]
    return torch.cat(chosen)[:most]


def _count_neighbours(embedding: Tensor, similarity: float) -> Tensor:
    """Neighbours of each hit, itself included. embedding: (n, E). Returns (n,) float32, whole numbers."""
    parts = embedding.split(math.isqrt(_at_once(embedding)))
    counts = [part.new_zeros(len(part)) for part in parts]
    for i, part in enumerate(parts):
        for j, other in enumerate(parts[i:], i):  # a hit is as near to another as that one is to it
            near = (part @ other.T).gt_(similarity)
            counts[i] += near.sum(1)
            if j > i:
                counts[j] += near.sum(0)
    return torch.cat(counts)


def _near_any(embedding: Tensor, seeds: Tensor, similarity: float) -> Tensor:
    """True for hits that are neighbours of a seed. embedding: (n, E); seeds: (m, E), m >= 1. Returns (n,) bool."""
    parts = embedding.split(max(_at_once(embedding) // len(seeds), 1))
    return torch.cat([(part @ seeds.T).amax(1) > similarity for part in parts])


def _at_once(embedding: Tensor) -> int:
    return _AT_ONCE if embedding.is_cuda else _AT_ONCE_CPU


def _first_of_neighbours(embedding: Tensor, similarity: float) -> Tensor:
    """Greedy choice in the order given. embedding: (n, E). Returns (n,) bool, True = no chosen one before is near."""
    near = (embedding @ embedding.T > similarity).cpu().numpy()  # one copy per block instead of one wait per candidate
    chosen = np.ones(len(near), dtype=bool)
    for place in range(len(near)):
        if chosen[place]:
            chosen[place + 1 :] &= ~near[place, place + 1 :]
    return torch.from_numpy(chosen).to(embedding.device)
