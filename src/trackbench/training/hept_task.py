"""HEPTv2 as a task of the training loop: batches with truth and symmetries, hit and mask losses, weights file."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trackbench.data.cell_features import turn_features
from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.geometry.detector import mirrored_layers
from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_batch import collate as collate_hits
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_features import hit_features
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.weights import save_weights
from trackbench.training.augment import Symmetry
from trackbench.training.config import check_task
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.mask_losses import decoder_losses
from trackbench.training.matching import Matcher, tracks_of_groups
from trackbench.training.nce import nce_loss
from trackbench.training.targets import of_hits, particle_rows

Event = tuple[Hits, Truth]

PT_MIN = 0.9  # of target hits [GeV]
MIN_LAYERS = 3  # of target hits and of tracks of the decoder
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


class HeptTask:
    """Losses of section "training" of HEPTv2 (arXiv:2606.20437) on events with or without tracks.

    matcher: of queries and tracks; its ``seconds`` say how much time that took
    """

    kind = "heptv2"
    betas = (0.9, 0.95)  # as published

    def __init__(self, network: HeptConfig, loss: HeptLossConfig):
        """Raise ConfigError if the loss asks for mirrors that the inputs of the network do not allow."""
        check_task(self.kind, network, loss)
        self.network, self.loss = network, loss
        self.matcher = Matcher(loss, network.n_queries)

    def fit(self, events: Iterable[Event]) -> None:
        """Check the training events; the network has no constants of them.

        Raises InputError if there is no event or one without hits, if one has a number that is not finite or lacks the
        features the network needs, and if no event has a hit of a target track.
        """
        n_events = n_targets = 0
        for hits, truth in events:
            self._check_event(hits, truth)
            hit_features(hits.take(np.arange(1)), self.network.inputs)  # whether the features are there
            n_events += 1
            n_targets += int(self._flags(truth)[1].sum())
        if not n_events:
            raise InputError(describe("training split", "no event", "at least one"))
        if not n_targets:
            what = f"no hit of a particle with pt >= {PT_MIN} GeV and {MIN_LAYERS} layers in {n_events} events"
            raise InputError(describe("training split", what, "target tracks", "prepare other events"))

    def build(self) -> HeptNetwork:
        """Return a network with random weights."""
        return HeptNetwork(self.network)

    def collate(self, events: Sequence[Event], rng: np.random.Generator | None) -> HeptTrainingBatch:
        """Put events side by side, varied as the loss configuration says if there is an ``rng``.

        Raises InputError for an event without hits or with a number that is not finite.
        """
        if not events:
            raise InputError(describe("training batch", "no event", "at least one"))
        for event in events:
            self._check_event(*event)
        moved = [_moved(hits, self._draw(rng)) for hits, _ in events]
        batch = collate_hits(moved, self.network.inputs)
        shape = tuple(batch.valid.shape)
        particle = np.full(shape, -1, np.int64)
        target, track = np.zeros(shape, bool), np.zeros(shape, bool)
        for i, (_, truth) in enumerate(events):
            n = len(truth)
            particle[i, :n], target[i, :n], track[i, :n] = self._flags(truth)
        return HeptTrainingBatch(batch, *(torch.from_numpy(part) for part in (particle, target, track)))

    def _check_event(self, hits: Hits, truth: Truth) -> None:
        """Raise InputError unless there are hits with truth and what the network sees of them is finite."""
        where = f"event {hits.event_id}"
        if len(hits) == 0:
            raise InputError(describe(where, "no hits", "events with hits", "leave it out of the index"))
        if len(hits) != len(truth):
            raise InputError(describe(where, f"{len(hits)} hits, truth of {len(truth)}", "equal numbers"))
        seen = hits.features if self.network.inputs == "published" else {}
        for name, values in {"position": hits.xyz, **seen}.items():
            bad = hits.hit_id[~np.isfinite(values.reshape(len(hits), -1)).all(axis=1)]
            if bad.size:
                what = f"{name} of {bad.size} hits not finite (first hit_id {bad[0]})"
                remedy = "prepare it again or leave it out of the index"
                raise InputError(describe(where, what, "finite numbers", remedy))

    def _draw(self, rng: np.random.Generator | None) -> Symmetry:
        loss = self.loss
        return Symmetry() if rng is None else Symmetry.draw(rng, loss.rotate, loss.flip, loss.mirror)

    def _flags(self, truth: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of the particle, -1 = noise, whether it is a target hit and one of a decoder track: (n,) each."""
        row, table = particle_rows(truth), truth.particles
        pt, long = table["pt"].to_numpy(), table["n_layers"].to_numpy() >= MIN_LAYERS
        here = np.bincount(row[row >= 0], minlength=len(table)) >= MIN_HITS
        target = long & (pt >= PT_MIN)
        track = long & here & (pt >= self.loss.decoder_pt_min)
        return row, of_hits(target, row, False), of_hits(track, row, False)

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

    def save(self, path: str | Path, network: HeptNetwork, facts: dict) -> None:
        """Write the weights file."""
        save_weights(path, self.kind, network, facts)

    def constants(self) -> dict:
        """Return the constants of the training events: there are none."""
        return {}

    def load_constants(self, values: dict) -> None:
        """Take over what ``constants`` gave. Raises InputError if it is something else."""
        if values:
            raise InputError(describe("constants of the training", f"value {values!r:.80}", f"those of {self.kind}"))


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


def _moved(hits: Hits, move: Symmetry) -> Hits:
    """Move the hits with their layers, and turn the direction of their cells along, if they have one."""
    volume, layer = hits.volume_id, hits.layer_id
    if move.flip:
        volume, layer = mirrored_layers(volume, layer)
    features = turn_features(hits.features, move.angle)
    return replace(hits, xyz=move.positions(hits.xyz), volume_id=volume, layer_id=layer, features=features)
