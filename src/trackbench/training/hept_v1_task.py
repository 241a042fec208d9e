"""HEPT as a task of the training loop: batches with pairs of hits, InfoNCE of their distances, weights file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_v1 import HeptV1Network, collate
from trackbench.training.hept_truth import Event, WholeEventTask, target_hits
from trackbench.training.neighbour_nce import find_pairs, pair_nce_loss


@dataclass(frozen=True)
class HeptV1TrainingBatch:
    """B events of at most S hits with the pairs that attract or repel each other.

    hits: what the network sees
    anchor: (B, A), mates: (B, A, L), others: (B, A, K) int64, see ``neighbour_nce.Pairs``
    """

    hits: HeptBatch
    anchor: Tensor
    mates: Tensor
    others: Tensor

    def to(self, device: str | torch.device) -> "HeptV1TrainingBatch":
        """Copy to a device."""
        return HeptV1TrainingBatch(*(part.to(device) for part in (self.hits, self.anchor, self.mates, self.others)))


class HeptV1Task(WholeEventTask):
    """The loss of HEPT (arXiv:2402.12535) on events with or without tracks."""

    kind = "hept"
    betas = (0.9, 0.999)

    def build(self) -> HeptV1Network:
        """Return a network with random weights."""
        return HeptV1Network(self.network)

    def collate(self, events: Sequence[Event], rng: np.random.Generator | None) -> HeptV1TrainingBatch:
        """Put events side by side, varied as the loss configuration says if there is an ``rng``.

        Raises InputError for an event without hits or with a number that is not finite.
        """
        batch = collate(self.moved(events, rng), self.network.inputs)
        found = []
        for angles, (hits, truth) in zip(batch.angles.double().numpy(), events, strict=True):
            particle, target = target_hits(truth)
            found.append(find_pairs(angles[: len(hits)], particle, target, self.loss.radius, self.loss.neighbours))
        return HeptV1TrainingBatch(batch, *(_filled(parts) for parts in zip(*found, strict=True)))

    def losses(self, network: nn.Module, batch: HeptV1TrainingBatch, progress: float = 1.0) -> dict[str, Tensor]:
        """The term "nce", the mean over the events of the batch. progress: not used."""
        pairs = (batch.anchor, batch.mates, batch.others)
        return {"nce": pair_nce_loss(network(batch.hits), pairs, self.loss.sigma, self.loss.temperature)}


def _filled(parts: Sequence[np.ndarray]) -> Tensor:
    """Arrays of int64 one above the other, filled up with -1."""
    shape = np.max([part.shape for part in parts], axis=0)
    whole = np.full((len(parts), *shape), -1, np.int64)
    for row, part in zip(whole, parts, strict=True):
        row[tuple(slice(0, n) for n in part.shape)] = part
    return torch.from_numpy(whole)
