"""What a learned tracker is trained for: constants of the training events, batches with truth, losses, weights file.

The training loop knows the ``Task`` protocol only, so that every later tracker is trained by the same loop.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.trackers.layers.batch import Batch
from trackbench.trackers.layers.batch import collate as collate_hits
from trackbench.trackers.layers.learned import projection_clusters
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.trackers.layers.weights import save_weights
from trackbench.training.augment import Symmetry
from trackbench.training.bins import QuantileBins
from trackbench.training.config import LossConfig, LossSettings, NetworkSettings, check_task
from trackbench.training.losses import classification_loss, contrastive_loss, regression_loss
from trackbench.training.targets import N_TARGETS, hit_momenta, of_hits

Event = tuple[Hits, Truth]


class Task(Protocol):
    """What the training loop asks of a task.

    kind: name in configurations and weights files; betas: of AdamW, those the method was published with
    """

    kind: str
    betas: tuple[float, float]

    def fit(self, events: Iterable[Event]) -> None:
        """Compute the constants of the training split in one pass."""

    def build(self) -> nn.Module:
        """Return a new network with these constants; its weights come from torch's global generator."""

    def collate(self, events: Sequence[Event], rng: np.random.Generator | None):
        """Make a batch, with ``to(device)``; rng None = no augmentation."""

    def losses(self, network: nn.Module, batch, progress: float = 1.0) -> dict[str, Tensor]:
        """Weighted scalar terms, whose sum is minimised; the same ones at every step.

        progress: fraction of the steps done before this one, 1 in validations
        """

    def save(self, path: str | Path, network: nn.Module, facts: dict) -> None:
        """Write the weights file that a tracker loads."""

    def constants(self) -> dict:
        """Return the constants as plain values, for the checkpoint."""

    def load_constants(self, values: dict) -> None:
        """Take over what ``constants`` gave."""


@dataclass(frozen=True)
class TrainingBatch:
    """B events of at most S hits with their truth.

    hits: what the network sees
    particle: (B, S) int64, number of the particle within its event, -1 = noise or padding
    pt: (B, S) float32, of that particle [GeV], 0 where there is none
    targets: (B, S, 4) float32 of ``hit_targets``, 0 where there is no particle; None without regression
    classes: (B, S) int64 of ``QuantileBins``, -1 where there is no particle; None without classification
    """

    hits: Batch
    particle: Tensor
    pt: Tensor
    targets: Tensor | None = None
    classes: Tensor | None = None

    @property
    def signal(self) -> Tensor:
        """(B, S) bool, True = hit of a particle."""
        return self.particle >= 0

    def to(self, device: str | torch.device) -> "TrainingBatch":
        """Copy to a device."""
        values = (getattr(self, field.name) for field in fields(self))
        return TrainingBatch(*(None if value is None else value.to(device) for value in values))


class HitTask:
    """EncReg, EncCla, the joint model and the contrastive embedding: which heads there are makes the difference."""

    betas = (0.9, 0.999)

    def __init__(self, kind: str, network: NetworkConfig, loss: LossConfig):
        """Raise ConfigError if the network does not fit the kind of task or the classes of the loss."""
        check_task(kind, network, loss)
        self.kind, self.network, self.loss = kind, network, loss
        self.mean = self.scale = None
        self.bins: QuantileBins | None = None

    def fit(self, events: Iterable[Event]) -> None:
        """Mean and standard deviation of the positions over all hits, and class edges, in one pass.

        Raises InputError if there is no event, or one without hits or tracks.
        """
        moments = _Moments()
        truths = moments.watch(events)
        if self.network.classes:
            self.bins = QuantileBins.fit(truths, self.loss.n_phi, self.loss.n_theta, self.loss.n_p)
        else:
            for _ in truths:
                pass
        self.mean, self.scale = moments.result()

    def build(self) -> HitNetwork:
        """Return a network with random weights and the constants of the training split."""
        self._require_constants()
        network = HitNetwork(self.network)
        network.set_normalisation(self.mean, self.scale)
        return network

    def collate(self, events: Sequence[Event], rng: np.random.Generator | None) -> TrainingBatch:
        """Put events side by side, varied as the loss configuration says if there is an ``rng``.

        Raises InputError for an event without hits or tracks.
        """
        if not events:
            raise InputError(describe("training batch", "no event", "at least one"))
        for event in events:
            _check_event(*event)
        self._require_constants()
        # Of the event as it is: the symmetries move the clusters with it, but not the numbers of the volumes.
        clusters = [projection_clusters(self.network, hits) for hits, _ in events]
        moves = [Symmetry.of_training(rng, self.loss) for _ in events]
        moved = [replace(hits, xyz=move.positions(hits.xyz)) for (hits, _), move in zip(events, moves, strict=True)]
        batch = collate_hits(moved, None if clusters[0] is None else clusters)
        return self._with_truth(batch, [truth for _, truth in events], moves)

    def _with_truth(self, hits: Batch, truths: Sequence[Truth], moves: Sequence[Symmetry]) -> TrainingBatch:
        shape = hits.xyz.shape[:2]
        particle, pt = np.full(shape, -1, np.int64), np.zeros(shape, np.float32)
        targets = np.zeros((*shape, N_TARGETS), np.float32) if self.network.targets != "none" else None
        classes = np.full(shape, -1, np.int64) if self.network.classes else None
        for i, (truth, move) in enumerate(zip(truths, moves, strict=True)):
            momenta, number = hit_momenta(truth)
            momenta, n = move.momenta(momenta), len(number)
            particle[i, :n] = number
            pt[i, :n] = of_hits(momenta.pt, number, 0.0)
            if targets is not None:
                targets[i, :n] = of_hits(momenta.targets(self.network.targets), number, 0.0)
            if classes is not None:
                classes[i, :n] = of_hits(self.bins.classes_of(momenta), number, -1)
        arrays = (None if array is None else torch.from_numpy(array) for array in (particle, pt, targets, classes))
        return TrainingBatch(hits, *arrays)

    def losses(self, network: nn.Module, batch: TrainingBatch, progress: float = 1.0) -> dict[str, Tensor]:
        """Terms of the heads the network has: "regression", "classification", "contrastive"; noise is in the last only.

        Returns scalars that are already weighted.
        """
        out, loss, terms = network(batch.hits), self.loss, {}
        if batch.targets is not None:
            weight = loss.regression_weight if self.kind == "contrastive" else 1.0
            value = regression_loss(out.parameters, batch.targets, batch.signal, loss.regression)
            terms["regression"] = weight * value
        if batch.classes is not None:
            weight = loss.classification_weight if self.kind == "joint" else 1.0
            terms["classification"] = weight * classification_loss(out.logits, batch.classes, batch.signal)
        if self.network.embedding:
            anchor = batch.signal & (batch.pt >= loss.pt_min)
            terms["contrastive"] = contrastive_loss(
                out.embedding, batch.particle, batch.hits.valid, anchor, loss.temperature
            )
        return terms

    def save(self, path: str | Path, network: HitNetwork, facts: dict) -> None:
        """Write the weights file; the edges of the classes go among the facts as "bins"."""
        bins = {"bins": self.bins.as_dict()} if self.bins else {}
        save_weights(path, self.kind, network, {**facts, **bins})

    def constants(self) -> dict:
        """Return mean, scale and bins as plain values."""
        self._require_constants()
        bins = self.bins.as_dict() if self.bins else None
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "bins": bins}

    def load_constants(self, values: dict) -> None:
        """Take over what ``constants`` gave. Raises InputError if it is something else."""
        wrong = describe("constants of the training", f"value {values!r:.80}", f"those of {self.kind}")
        try:
            mean, scale = (np.array(values[name], dtype=np.float64) for name in ("mean", "scale"))
            bins = values["bins"] and QuantileBins.from_dict(values["bins"])
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(wrong) from error
        if mean.shape != (3,) or scale.shape != (3,) or (bins.n_classes if bins else 0) != self.network.classes:
            raise InputError(wrong)
        self.mean, self.scale, self.bins = mean, scale, bins

    def _require_constants(self) -> None:
        if self.mean is None:
            raise InputError(describe(f"task {self.kind}", "no constants", "fit or load_constants first"))


def make_task(kind: str, network: NetworkSettings, loss: LossSettings) -> Task:
    """Return the task of a name in ``TASKS``. Raises ConfigError if network and loss do not fit it."""
    if kind == "heptv2":
        from trackbench.training.hept_task import HeptTask

        return HeptTask(network, loss)
    if kind == "hept":
        from trackbench.training.hept_v1_task import HeptV1Task

        return HeptV1Task(network, loss)
    return HitTask(kind, network, loss)


class _Moments:
    """Mean and standard deviation of positions, from sums in float64 that grow event by event."""

    def __init__(self):
        self._n, self._sum, self._square = 0, np.zeros(3), np.zeros(3)

    def watch(self, events: Iterable[Event]) -> Iterator[Truth]:
        """Check events and add their hits, and hand on their truth."""
        for hits, truth in events:
            _check_event(hits, truth)
            self._n += len(hits)
            self._sum += hits.xyz.sum(axis=0)
            self._square += np.square(hits.xyz).sum(axis=0)
            yield truth

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation, (3,) float64 each [mm]; a constant coordinate has 1."""
        if not self._n:
            raise InputError(describe("training split", "no event", "at least one"))
        mean = self._sum / self._n
        variance = self._square / self._n - mean**2
        # Below this, the difference is rounding.
        constant = variance <= 1e-12 * self._square / self._n
        return mean, np.sqrt(np.where(constant, 1.0, variance))


def _check_event(hits: Hits, truth: Truth) -> None:
    where = f"event {hits.event_id}"
    if len(hits) == 0:
        raise InputError(describe(where, "no hits", "events with tracks", "leave it out of the index"))
    if len(hits) != len(truth):
        raise InputError(describe(where, f"{len(hits)} hits, truth of {len(truth)}", "equal numbers"))
    if not (truth.particle_id > 0).any():
        raise InputError(describe(where, "no track, noise only", "events with tracks", "leave it out of the index"))
