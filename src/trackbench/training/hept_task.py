"""HEPTv2 as a task of the training loop: batches with truth and symmetries, hit and mask losses, weights file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trackbench.data.truth import Truth
from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_batch import collate as collate_hits
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.hept_truth import MIN_LAYERS, Event, WholeEventTask, target_hits
from trackbench.training.mask_losses import decoder_losses
from trackbench.training.matching import Matcher, tracks_of_groups
from trackbench.training.nce import nce_loss
from trackbench.training.targets import of_hits

MIN_HITS = 2  # of tracks of the decoder, in the event at hand


@dataclass(frozen=True)
class HeptTrainingBatch:
    """B events of at most S hits with their truth.

    hits: what the network sees
    particle: (B, S) int64, number of the particle within its event, -1 = noise or padding
    target: (B, S) bool, target hits; track: (B, S) bool, hits of particles that the decoder has to find
    """

    hits: HeptBatch
    particle: Tensor
    target: Tensor
    track: Tensor

    def to(self, device: str | torch.device) -> "HeptTrainingBatch":
        """Copy to a device."""
        return HeptTrainingBatch(*(part.to(device) for part in (self.hits, self.particle, self.target, self.track)))


class HeptTask(WholeEventTask):
    """Losses of section "training" of HEPTv2 (arXiv:2606.20437) on events with or without tracks.

    matcher: of queries and tracks; its ``seconds`` say how much time that took
    """

    kind = "heptv2"
    betas = (0.9, 0.95)  # as published

    def __init__(self, network: HeptConfig, loss: HeptLossConfig):
        """Raise ConfigError if the loss asks for mirrors that the inputs of the network do not allow."""
        super().__init__(network, loss)
        self.matcher = Matcher(loss, network.n_queries)

    def build(self) -> HeptNetwork:
        """Return a network with random weights."""
        return HeptNetwork(self.network)

    def collate(self, events: Sequence[Event], rng: np.random.Generator | None) -> HeptTrainingBatch:
        """Put events side by side, varied as the loss configuration says if there is an ``rng``.

        Raises InputError for an event without hits or with a number that is not finite.
        """
        batch = collate_hits(self.moved(events, rng), self.network.inputs)
        shape = tuple(batch.valid.shape)
        particle = np.full(shape, -1, np.int64)
        target, track = np.zeros(shape, bool), np.zeros(shape, bool)
        for i, (_, truth) in enumerate(events):
            n = len(truth)
            particle[i, :n], target[i, :n], track[i, :n] = self._flags(truth)
        return HeptTrainingBatch(batch, *(torch.from_numpy(part) for part in (particle, target, track)))

    def _flags(self, truth: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of the particle, -1 = noise, whether it is a target hit and one of a decoder track: (n,) each."""
        row, target = target_hits(truth)
        table = truth.particles
        here = np.bincount(row[row >= 0], minlength=len(table)) >= MIN_HITS
        long = table["n_layers"].to_numpy() >= MIN_LAYERS
        track = long & here & (table["pt"].to_numpy() >= self.loss.decoder_pt_min)
        return row, target, of_hits(track, row, False)

    def losses(self, network: nn.Module, batch: HeptTrainingBatch, progress: float = 1.0) -> dict[str, Tensor]:
        """Weighted terms "hit" and "nce" and, unless there is no decoder, "class", "focal" and "dice".

        progress: fraction of the steps done; the decoder is left out, with terms of 0, before ``decoder_from``
        Each term is the mean over the events of the batch.
        """
        loss, has_decoder = self.loss, self.network.queries != "none"
        encoded, decoded = network(batch.hits, decode=has_decoder and progress >= loss.decoder_from)
        valid = batch.hits.valid
        terms = {"hit": loss.hit_weight * hit_loss(encoded.classifier, batch.target, valid, loss.positive_weight)}
        nothing = terms["hit"].new_zeros(())
        terms["nce"] = nothing
        if loss.nce_weight:
            value = nce_loss(encoded.embedding, batch.particle, batch.target, valid, loss.temperature, loss.negatives)
            terms["nce"] = loss.nce_weight * value
        if decoded is not None:
            tracks = tracks_of_groups(decoded, batch.particle, batch.track)
            terms |= decoder_losses(decoded, tracks, self.matcher(decoded, tracks), loss)
        elif has_decoder:
            terms |= dict.fromkeys(("class", "focal", "dice"), nothing)
        return terms


def hit_loss(logits: Tensor, target: Tensor, valid: Tensor, positive_weight: float) -> Tensor:
    """Binary cross-entropy of target hits, mean over the real hits of each event, then over the events.

    logits: (B, S); target, valid: (B, S) bool; positive_weight: of the target hits; an event without hits counts as 0
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float().masked_fill(~valid, 0.0)
        weight = torch.as_tensor(positive_weight, device=logits.device)
        each = functional.binary_cross_entropy_with_logits(logits, target.float(), pos_weight=weight, reduction="none")
        return (each.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp_min(1)).mean()


def matching_share(
    task: HeptTask,
    network: HeptNetwork,
    batch: HeptTrainingBatch,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time losses and gradients, and matching within them. Change no weights; gradients are left behind.

    repeats: >= 1; clock: ``time.perf_counter`` or, where others use the processors, ``time.process_time``
    Returns "step_s", "matching_s" and "share", the means of ``repeats`` after one to warm up.
    """
    matcher, task.matcher = task.matcher, Matcher(task.loss, task.network.n_queries, clock)
    try:
        for repeat in range(repeats + 1):
            if repeat == 1:
                task.matcher.seconds, begin = 0.0, clock()
            network.zero_grad(set_to_none=True)
            total = torch.stack(list(task.losses(network, batch).values())).sum()
            total.backward()
            total.item()
            if total.is_cuda:
                torch.cuda.synchronize(total.device)
        step, matching = (clock() - begin) / repeats, task.matcher.seconds / repeats
    finally:
        task.matcher = matcher
    return {"step_s": step, "matching_s": matching, "share": matching / max(step, 1e-12)}
