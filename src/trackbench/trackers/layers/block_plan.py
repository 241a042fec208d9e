"""Which hit of which head stands where when the blocks of a batch are computed one after the other, without padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 2**16  # hits and heads taken at once: keeps them in the cache


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of all events and heads in some of the rounds side by side, blocks of equal sizes together.

    rows: (T,) int64, the row (event * heads + head) * S + place at each place; T counts real hits only, once per round
        and head
    inverse: (rounds, B * heads * S) int64, the place of each row in each round; T in the padding
    runs: (number of blocks, hits of a block) of each run of blocks of equal sizes
    padded: some rows are padding
    """

    rows: Tensor
    inverse: Tensor
    runs: tuple[tuple[int, int], ...]
    padded: bool

    @classmethod
    def turns(cls, orders: Tensor, lengths: Tensor, block: int) -> tuple["BlockPlan", ...]:
        """Cut orders (B, heads, rounds, S) of events of ``lengths`` (B,) hits into blocks of ``block`` and a rest.

        A small batch is done in one turn, a large one round by round, which bounds its memory.
        """
        n_events, heads, _, size = orders.shape
        start = torch.arange(n_events * heads).view(n_events, heads, 1, 1) * size
        rows = (orders + start).transpose(1, 2)  # (B, rounds, heads, S)
        together = max(_AT_ONCE // max(n_events * heads * size, 1), 1)
        return tuple(cls._turn(part, lengths.tolist(), block) for part in rows.split(together, dim=1))

    @classmethod
    def _turn(cls, rows: Tensor, lengths: list[int], block: int) -> "BlockPlan":
        n_events, rounds, heads, size = rows.shape
        n_rows = n_events * heads * size
        if rounds > 1:  # a number of its own for each row in each round
            rows = rows + torch.arange(rounds)[:, None, None] * n_rows
        pieces: dict[int, list[Tensor]] = {}
        for event, n in enumerate(lengths):
            whole = n - n % block
            if whole:
                pieces.setdefault(block, []).append(rows[event, :, :, :whole].flatten())
            if n > whole:
                pieces.setdefault(n - whole, []).append(rows[event, :, :, whole:n].flatten())
        runs = tuple((sum(map(len, found)) // hits, hits) for hits, found in pieces.items())
        taken = torch.cat([part for found in pieces.values() for part in found] or [rows.new_zeros(0)])
        inverse = torch.full((rounds * n_rows,), len(taken)).scatter_(0, taken, torch.arange(len(taken)))
        own = taken if rounds == 1 else taken % max(n_rows, 1)
        return cls(own, inverse.view(rounds, n_rows), runs, len(taken) < rounds * n_rows)

    def chunks(self) -> Iterator[tuple[slice, tuple[int, int]]]:
        """Yield places and (number of blocks, hits of a block) of blocks to compute at once."""
        start = 0
        for count, hits in self.runs:
            step = max(_AT_ONCE // hits, 1)
            for first in range(0, count, step):
                blocks = min(step, count - first)
                yield slice(start, start + blocks * hits), (blocks, hits)
                start += blocks * hits

    def empty(self, width: int, dtype: torch.dtype) -> Tensor:
        """Room for values of the T places, (T or T + 1, width); a last row of 0 for padding."""
        found = torch.empty((len(self.rows) + self.padded, width), dtype=dtype)
        found[len(self.rows) :] = 0
        return found

    def placed(self, values: Tensor) -> Tensor:
        """Bring values, from ``empty``, from the places to the rows, those of the padding 0: (rounds, n, width)."""
        return values.index_select(0, self.inverse.flatten()).unflatten(0, self.inverse.shape)
