"""Events side by side for a network: padded positions with their lengths. Padding is never inferred from values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trackbench.data.hits import Hits
from trackbench.errors import InputError, describe


@dataclass(frozen=True)
class Batch:
    """B events of at most S hits.

    xyz: (B, S, 3) float32, positions [mm], 0 in the padding
    lengths: (B,) int64, real hits of each event, which come first
    clusters: (B, S) int64, projection cluster of each hit, -1 = in none or padding; None if no mask needs it
    """

    xyz: Tensor
    lengths: Tensor
    clusters: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """(B, S) bool, True = real hit."""
        return torch.arange(self.xyz.shape[1], device=self.xyz.device) < self.lengths[:, None]

    def to(self, device: str | torch.device) -> "Batch":
        """Copy to a device."""
        clusters = None if self.clusters is None else self.clusters.to(device)
        return Batch(self.xyz.to(device), self.lengths.to(device), clusters)


def collate(events: Sequence[Hits], clusters: Sequence[np.ndarray] | None = None, pad_to: int | None = None) -> Batch:
    """Put events side by side.

    events: hits of each event, all real; clusters: per event (n,) int, -1 = in none
    pad_to: number of places per event, default that of the longest
    Raises InputError for an event longer than ``pad_to`` or with padding of its own.
    """
    longest = max((len(hits) for hits in events), default=0)
    size = longest if pad_to is None else pad_to
    xyz = torch.zeros(len(events), size, 3)
    labels = None if clusters is None else torch.full((len(events), size), -1, dtype=torch.int64)
    for row, hits in enumerate(events):
        n = check_event(hits, size)
        xyz[row, :n] = torch.from_numpy(hits.xyz.astype(np.float32))
        if labels is not None:
            labels[row, :n] = torch.from_numpy(np.asarray(clusters[row], dtype=np.int64))
    return Batch(xyz, torch.tensor([len(hits) for hits in events], dtype=torch.int64), labels)


def check_event(hits: Hits, size: int) -> int:
    """Return the number of hits. Raise InputError if they are more than ``size``, or if there is padding among them."""
    n = len(hits)
    if n > size:
        remedy = "raise the padded length of the data set"
        raise InputError(describe(f"event {hits.event_id}", f"{n} hits", f"at most {size}", remedy))
    if not hits.valid.all():
        raise InputError(describe(f"event {hits.event_id}", "contains padding", "real hits only"))
    return n
