"""Attention masks: one object says which hits of an event attend to each other, whatever computes the attention.

Source: masks of TrackFormers Part 2 (arXiv:2509.26411) and of public code that follows it.
Differs from it in: a hit in no cluster attends to itself only instead of to all hits in no cluster, and the azimuth
window of event and mask are both cyclic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from trackbench.trackers.layers.batch import Batch
from trackbench.trackers.layers.flex_blocks import BLOCK, FlexBlocks, block_mask, padded_size
from trackbench.trackers.layers.mask_rules import KINDS, Fields, Rule
from trackbench.trackers.layers.network_config import MaskConfig

_AT_ONCE = 2**18  # pairs evaluated at once: bounds the memory of a rule evaluated in full


@dataclass(frozen=True)
class Groups:
    """Queries in disjoint groups with the keys of each, groups of equal sizes beside each other.

    queries: (n_queries,) and keys: (n_keys,) int64, places event * S + hit, group after group
    shapes: (number of groups, queries per group, keys per group) of each run of groups of equal sizes
    """

    queries: Tensor
    keys: Tensor
    shapes: tuple[tuple[int, int, int], ...]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield queries and keys of each group, (n,) and (m,) int64."""
        query = key = 0
        for count, n_queries, n_keys in self.shapes:
            for _ in range(count):
                yield self.queries[query : query + n_queries], self.keys[key : key + n_keys]
                query, key = query + n_queries, key + n_keys


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """Which hits of each event of a batch attend to which; built once and shared by all layers of a network.

    config: kind of the mask and its parameters
    valid: (B, S) bool, True = real hit; real hits attend at least to themselves, padding to nothing
    fields: what the rule compares
    """

    config: MaskConfig
    valid: Tensor
    fields: Fields

    @classmethod
    def build(cls, config: MaskConfig, batch: Batch) -> "AttentionMask":
        """Compute what the rule needs from the hits of a batch.

        Raises InputError for a cluster mask if the batch has no clusters.
        """
        return cls(config, batch.valid, {"valid": batch.valid, **KINDS[config.kind].fields(config, batch)})

    @property
    def kind(self) -> str:
        """Kind of the mask, one of ``network_config.MASKS``."""
        return self.config.kind

    @property
    def partition(self) -> bool:
        """True if all hits of a group of queries attend to the same keys, and each hit is in one group."""
        return KINDS[self.kind].partition

    @property
    def rule(self) -> Rule:
        """Function of event, head, query and key (integer tensors that broadcast), True = attends (a mask_mod)."""
        return self.rule_on(self.fields)

    def rule_on(self, fields: Fields) -> Rule:
        """The rule on the fields of hits in another order."""
        return KINDS[self.kind].rule(self.config, **fields)

    @cached_property
    def full(self) -> bool:
        """True if every place attends to every other: padding mask of events of equal lengths."""
        return self.kind == "padding" and bool(self.valid.all())

    @cached_property
    def _dense(self) -> Tensor:
        n_events, size = self.valid.shape
        if self.kind == "padding":  # at once: in parts it takes as long as a layer on GPUs
            return (self.valid[:, :, None] & self.valid[:, None, :])[:, None]
        dense = torch.zeros(n_events, 1, size, size, dtype=torch.bool, device=self.valid.device)
        for event, rows, part in _evaluated(self.rule, n_events, size, self.valid.device):
            dense[event, 0, rows] = part
        return dense

    def dense(self) -> Tensor:
        """(B, 1, S, S) bool, True = query (third axis) attends to key (fourth)."""
        return self._dense

    @cached_property
    def plan(self) -> Groups | None:
        """The groups of the whole batch, None unless the mask is a partition of the queries."""
        if not self.partition:
            return None
        return _plan_of_sectors(self.fields) if self.kind == "phi_sector" else _plan_of_groups(self.fields)

    def groups(self) -> list[tuple[int, Tensor, Tensor]] | None:
        """Groups as (event, queries (n,), keys (m,)) with hits counted within the event; None if not a partition.

        Each real hit is a query of one group; groups without queries are left out.
        """
        if self.plan is None:
            return None
        size = self.valid.shape[1]
        return [(int(queries[0]) // size, queries % size, keys % size) for queries, keys in self.plan]

    @cached_property
    def places(self) -> Tensor:
        """(B * S,) int64: where each hit of the batch is among the queries of ``plan``; in the padding their number."""
        plan = self.plan
        places = torch.full((self.valid.numel(),), len(plan.queries), device=self.valid.device)
        places[plan.queries] = torch.arange(len(plan.queries), device=self.valid.device)
        return places

    @cached_property
    def _order(self) -> Tensor:
        key = KINDS[self.kind].sort_key(self.config, **{k: v for k, v in self.fields.items() if k != "valid"})
        return torch.argsort(torch.where(self.valid, key, torch.iinfo(torch.int64).max), dim=1, stable=True)

    def order(self) -> Tensor:
        """(B, S) int64: hits sorted so that those that attend to each other are near, padding last.

        Blocks of the sorted mask without a pair can be skipped: "cluster" and "phi_sector" become block-diagonal
        (with the overlap of neighbours), "phi_window" a band, "cone" strips of azimuth sorted by eta.
        """
        return self._order

    def sorted_fields(self) -> Fields:
        """Fields in the order of ``order``, padded to ``padded_size(S)`` places."""
        extra = padded_size(self.valid.shape[1]) - self.valid.shape[1]
        return {name: F.pad(_take(field, self.order()), (0, extra)) for name, field in self.fields.items()}

    @cached_property
    def _block_counts(self) -> Tensor:
        fields = self.sorted_fields()
        return _counts_of_partition(fields) if self.partition else _counts_of_rule(self.rule_on(fields), fields)

    def block_counts(self) -> Tensor:
        """Allowed pairs in each 128 x 128 block of the sorted mask: (B, n, n) int64 with n = padded_size(S) / 128.

        Never holds S x S values. Cost O(S^2), for partitions O(groups n^2).
        """
        return self._block_counts

    @cached_property
    def flex(self) -> FlexBlocks:
        """The mask for FlexAttention on hits sorted by ``order``."""
        fields, order = self.sorted_fields(), self.order()
        extra = fields["valid"].shape[1] - order.shape[1]
        mask = block_mask(self.config, fields, self.rule_on(fields), self.block_counts)
        if self.kind == "padding" and not extra:
            return FlexBlocks(mask, None, None)
        return FlexBlocks(mask, F.pad(order, (0, extra)), torch.argsort(order, dim=1))


def _evaluated(rule: Rule, n_events: int, size: int, device: torch.device) -> Iterator[tuple[int, slice, Tensor]]:
    """Yield (event, rows, (rows, size) bool): the rule for some rows of queries and all keys, in whole blocks."""
    step = max(_AT_ONCE // max(size, 1) // BLOCK, 1) * BLOCK
    zero, keys = torch.zeros((), dtype=torch.int64, device=device), torch.arange(size, device=device)
    for event in range(n_events):
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            yield event, rows, rule(zero + event, zero, keys[rows, None], keys[None, :])


def _take(field: Tensor, order: Tensor) -> Tensor:
    """Reorder the last axis event by event. field: (B, S) or (B, n, S)."""
    index = order if field.dim() == 2 else order[:, None].expand_as(field)
    return field.gather(-1, index)


def _counts_of_rule(rule: Rule, fields: Fields) -> Tensor:
    n_events, size = fields["valid"].shape
    n_blocks = size // BLOCK
    counts = torch.zeros(n_events, n_blocks, n_blocks, dtype=torch.int64, device=fields["valid"].device)
    for event, rows, part in _evaluated(rule, n_events, size, counts.device):
        blocks = part.view(-1, BLOCK, n_blocks, BLOCK).sum(dim=(1, 3))
        counts[event, rows.start // BLOCK : rows.stop // BLOCK] = blocks
    return counts


def _counts_of_partition(fields: Fields) -> Tensor:
    """Pairs per block = sum over groups of queries in the one block times keys in the other; exact in float32."""
    parts = []
    for event, valid in enumerate(fields["valid"]):
        n_blocks = len(valid) // BLOCK
        block = torch.arange(len(valid), device=valid.device) // BLOCK
        group = fields["group"][event]
        if "members" in fields:
            keys = fields["members"][event].unflatten(-1, (n_blocks, BLOCK)).sum(-1)
            n_groups = len(keys)
        else:
            n_groups = int(group.max()) + 1 if len(valid) else 0
        place = (group * n_blocks + block)[valid]
        queries = torch.bincount(place, minlength=n_groups * n_blocks).view(n_groups, n_blocks)
        keys = keys if "members" in fields else queries
        parts.append((queries.float().T @ keys.float()).round().long())
    shape = (0, fields["valid"].shape[1] // BLOCK, fields["valid"].shape[1] // BLOCK)
    return torch.stack(parts) if parts else torch.zeros(shape, dtype=torch.int64, device=fields["valid"].device)


def _plan_of_groups(fields: Fields) -> Groups:
    """Groups of hits that attend to each other."""
    valid, group = fields["valid"], fields["group"]
    places = torch.nonzero(valid.flatten()).squeeze(1)
    if len(places) == 0:
        return Groups(places, places, ())
    label = torch.arange(len(valid), device=valid.device)[:, None] * (group.max() + 1) + group
    _, number, count = torch.unique(label[valid], return_inverse=True, return_counts=True)
    by_size = torch.argsort(count[number] * len(count) + number, stable=True)
    sizes, repeated = torch.unique(count, return_counts=True)
    shapes = tuple((n, size, size) for n, size in zip(repeated.tolist(), sizes.tolist(), strict=True))
    return Groups(places[by_size], places[by_size], shapes)


def _plan_of_sectors(fields: Fields) -> Groups:
    """Groups of hits of one sector, which attend to those of the enlarged sector."""
    valid, sector, members = fields["valid"], fields["group"], fields["members"]
    found = []
    for event in range(len(valid)):
        start = event * valid.shape[1]
        for number in range(members.shape[1]):
            queries = torch.nonzero(valid[event] & (sector[event] == number)).squeeze(1)
            if len(queries):
                found.append((start + queries, start + torch.nonzero(members[event, number]).squeeze(1)))
    found.sort(key=lambda group: (len(group[0]), len(group[1])))
    sizes = [(len(queries), len(keys)) for queries, keys in found]
    shapes = tuple((sizes.count(size), *size) for size in dict.fromkeys(sizes))
    nothing = torch.zeros(0, dtype=torch.int64, device=valid.device)
    queries, keys = zip(*found, strict=True) if found else ((nothing,), (nothing,))
    return Groups(torch.cat(queries), torch.cat(keys), shapes)
