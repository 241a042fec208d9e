"""Events side by side for HEPTv2: padded features with the lengths. Padding is never inferred from values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trackbench.data.hits import Hits
from trackbench.trackers.layers.batch import check_event
from trackbench.trackers.layers.hept_features import N_FEATURES, N_POSITIONS, hit_angles, hit_features


@dataclass(frozen=True)
class HeptBatch:
    """B events of at most S hits; everything is 0 in the padding.

    features: (B, S, F) float32
    positions: (B, S, P) float32, what the position MLPs see
    angles: (B, S, 2) float32, eta and phi [rad], what orders the hits
    lengths: (B,) int64, real hits of each event, which come first
    """

    features: Tensor
    positions: Tensor
    angles: Tensor
    lengths: Tensor

    @property
    def valid(self) -> Tensor:
        """(B, S) bool, True = real hit."""
        return torch.arange(self.features.shape[1], device=self.features.device) < self.lengths[:, None]

    def to(self, device: str | torch.device) -> "HeptBatch":
        """Copy to a device."""
        return HeptBatch(*(part.to(device) for part in (self.features, self.positions, self.angles, self.lengths)))


def collate(events: Sequence[Hits], inputs: str, pad_to: int | None = None) -> HeptBatch:
    """Put events side by side.

    events: hits of each event, all real; an event may be empty
    inputs: "published" or "geometry", see ``hept_features.hit_features``
    pad_to: number of places per event, default that of the longest, at least 1
    Raises InputError for an event longer than ``pad_to``, with padding of its own, or without the features asked for.
    """
    longest = max((len(hits) for hits in events), default=0)
    size = max(longest if pad_to is None else pad_to, 1)
    features = np.zeros((len(events), size, N_FEATURES[inputs]), np.float32)
    positions = np.zeros((len(events), size, N_POSITIONS[inputs]), np.float32)
    angles = np.zeros((len(events), size, 2), np.float32)
    for row, hits in enumerate(events):
        n = check_event(hits, size)
        features[row, :n], positions[row, :n] = hit_features(hits, inputs)
        angles[row, :n] = hit_angles(hits.xyz)
    lengths = torch.tensor([len(hits) for hits in events], dtype=torch.int64)
    return HeptBatch(torch.from_numpy(features), torch.from_numpy(positions), torch.from_numpy(angles), lengths)
