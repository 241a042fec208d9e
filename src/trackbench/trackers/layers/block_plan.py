"""Which hit of which head stands where when the blocks of a batch are computed one after the other, without padding."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_AT_ONCE = 2**16  # hits and heads taken at once: keeps them in the cache


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of all events and heads side by side, blocks of equal sizes together.

    rows: (rounds, T) int64, the row (event * heads + head) * S + place at each of the T places of a round; T counts
        real hits only, once per head
    inverse: (rounds, B * heads * S) int64, the place of each row; T in the padding
    runs: (number of blocks, hits of a block) of each run of blocks of equal sizes
    padded: some rows are padding
    """

    rows: Tensor
    inverse: Tensor
    runs: tuple[tuple[int, int], ...]
    padded: bool

    @classmethod
    def build(cls, orders: Tensor, lengths: Tensor, block: int) -> "BlockPlan":
        """Cut orders (B, heads, rounds, S) of events of ``lengths`` (B,) hits into blocks of ``block`` and a rest."""
        n_events, heads, rounds, size = orders.shape
        start = torch.arange(n_events * heads).view(n_events, heads, 1, 1) * size
        rows = (orders + start).transpose(1, 2)  # (B, rounds, heads, S)
        pieces: dict[int, list[tuple[int, int, int]]] = {}
        for event, n in enumerate(lengths.tolist()):
            whole = n - n % block
            if whole:
                pieces.setdefault(block, []).append((event, 0, whole))
            if n > whole:
                pieces.setdefault(n - whole, []).append((event, whole, n))
        runs, parts = [], []
        for hits, found in pieces.items():
            runs.append((heads * sum(b - a for _, a, b in found) // hits, hits))
            parts += [rows[event, :, :, a:b].reshape(rounds, -1) for event, a, b in found]
        taken = torch.cat(parts, dim=1) if parts else rows.new_zeros(rounds, 0)
        total = n_events * heads * size
        inverse = torch.full((rounds, total), taken.shape[1])
        inverse.scatter_(1, taken, torch.arange(taken.shape[1]).expand_as(taken))
        return cls(taken, inverse, tuple(runs), taken.shape[1] < total)

    @property
    def rounds(self) -> int:
        """Number of orders per event and head."""
        return len(self.rows)

    def chunks(self) -> Iterator[tuple[slice, tuple[int, int]]]:
        """Yield places and (number of blocks, hits of a block) of blocks to compute at once."""
        start = 0
        for count, hits in self.runs:
            step = max(_AT_ONCE // hits, 1)
            for first in range(0, count, step):
                blocks = min(step, count - first)
                yield slice(start, start + blocks * hits), (blocks, hits)
                start += blocks * hits

    def empty(self, width: int | None, dtype: torch.dtype) -> Tensor:
        """Room for values of the T places, (T or T + 1, width), (T or T + 1,) if None; a last row of 0 for padding."""
        places = self.rows.shape[1] + self.padded
        found = torch.empty((places,) if width is None else (places, width), dtype=dtype)
        found[self.rows.shape[1] :] = 0
        return found

    def placed(self, values: Tensor, number: int) -> Tensor:
        """Bring values from the places of a round to the rows, those of the padding 0. values: from ``empty``."""
        return values.index_select(0, self.inverse[number])

    def without_tensors(self) -> "BlockPlan":
        """The plan without its tensors, which autograd keeps apart."""
        return replace(self, rows=None, inverse=None)

    def with_tensors(self, rows: Tensor, inverse: Tensor) -> "BlockPlan":
        """The plan with its tensors again."""
        return replace(self, rows=rows, inverse=inverse)
