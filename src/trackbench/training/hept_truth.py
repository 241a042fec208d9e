"""What the tasks on whole events share: checked events, hits of target tracks, symmetries, no constants."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from trackbench.data.cell_features import turn_features
from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.geometry.detector import mirrored_layers
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_features import hit_features
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.weights import save_weights
from trackbench.training.augment import Symmetry
from trackbench.training.config import check_task
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.hept_v1_config import HeptV1LossConfig
from trackbench.training.targets import of_hits, particle_rows

Event = tuple[Hits, Truth]

PT_MIN = 0.9  # of target hits [GeV]
MIN_LAYERS = 3  # of target hits


class WholeEventTask:
    """Base of the tasks on whole events, with or without tracks; a subclass makes network, batches and losses.

    kind: of the task; network, loss: its settings
    """

    kind: str

    def __init__(self, network: HeptConfig | HeptV1Config, loss: HeptLossConfig | HeptV1LossConfig):
        """Raise ConfigError if the loss asks for mirrors that the inputs of the network do not allow."""
        check_task(self.kind, network, loss)
        self.network, self.loss = network, loss

    def fit(self, events: Iterable[Event]) -> None:
        """Check the training events; the network has no constants of them.

        Raises InputError if there is no event or one without hits, if one has a number that is not finite or lacks the
        features the network needs, and if no event has a hit of a target track.
        """
        n_events = n_targets = 0
        for hits, truth in events:
            self.check_event(hits, truth)
            hit_features(hits.take(np.arange(1)), self.network.inputs)  # whether the features are there
            n_events += 1
            n_targets += int(target_hits(truth)[1].sum())
        if not n_events:
            raise InputError(describe("training split", "no event", "at least one"))
        if not n_targets:
            what = f"no hit of a particle with pt >= {PT_MIN} GeV and {MIN_LAYERS} layers in {n_events} events"
            raise InputError(describe("training split", what, "target tracks", "prepare other events"))

    def moved(self, events: Sequence[Event], rng: np.random.Generator | None) -> list[Hits]:
        """Hits of the events, varied as the loss configuration says if there is an ``rng``.

        Raises InputError if there is no event, or one without hits or with a number that is not finite.
        """
        if not events:
            raise InputError(describe("training batch", "no event", "at least one"))
        for event in events:
            self.check_event(*event)
        return [moved_hits(hits, Symmetry.of_training(rng, self.loss)) for hits, _ in events]

    def check_event(self, hits: Hits, truth: Truth) -> None:
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

    def save(self, path: str | Path, network: nn.Module, facts: dict) -> None:
        """Write the weights file."""
        save_weights(path, self.kind, network, facts)

    def constants(self) -> dict:
        """Return the constants of the training events: there are none."""
        return {}

    def load_constants(self, values: dict) -> None:
        """Take over what ``constants`` gave. Raises InputError if it is something else."""
        if values:
            raise InputError(describe("constants of the training", f"value {values!r:.80}", f"those of {self.kind}"))


def target_hits(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Row of ``truth.particles`` of each hit, -1 = noise, and whether it is a target hit: (n,) int64 and bool.

    Target hits are those of particles with pT >= 0.9 GeV and hits on at least 3 layers of the full event.
    """
    row, table = particle_rows(truth), truth.particles
    target = (table["pt"].to_numpy() >= PT_MIN) & (table["n_layers"].to_numpy() >= MIN_LAYERS)
    return row, of_hits(target, row, False)


def moved_hits(hits: Hits, move: Symmetry) -> Hits:
    """Move the hits with their layers, and turn the direction of their cells along, if they have one."""
    volume, layer = hits.volume_id, hits.layer_id
    if move.flip:
        volume, layer = mirrored_layers(volume, layer)
    features = turn_features(hits.features, move.angle)
    return replace(hits, xyz=move.positions(hits.xyz), volume_id=volume, layer_id=layer, features=features)
