"""HEPTv2: block attention over hashed hits and a decoder whose queries become tracks; hits go to the best query.

Source: HEPTv2, arXiv:2606.20437 and github.com/Graph-COM/HEPTv2; own code. Differs from it in: acceptance by the
position of a hit and never by truth, padding that changes nothing, an optional physics clean-up with a helix fit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import Tracks
from trackbench.errors import ConfigError, describe
from trackbench.trackers.base import Timer
from trackbench.trackers.layers.hept_buckets import bucket
from trackbench.trackers.layers.hept_tracker import HeptTracker, HeptTrackerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from trackbench.trackers.layers.hept_batch import HeptBatch
    from trackbench.trackers.layers.hept_compiled import CompiledHept
    from trackbench.trackers.layers.hept_network import HeptNetwork

METHODS = ("masks", "seeds", "dbscan")
PRECISIONS = ("float32", "bfloat16")
_MIN_SIZE, _MIN_SAMPLES = 3, 2  # hits of a cluster and of a core point (dbscan)


@dataclass(frozen=True)
class Config(HeptTrackerConfig):
    """Options of HEPTv2, besides those of ``HeptTrackerConfig``.

    method: "masks" = hits go to the query with the best mask; "seeds" = to the most similar seed, without the decoder;
        "dbscan" = clusters of the embedding by cosine distance
    cut: score below which a hit stays unassigned, a finite number <= 0 (masks, seeds)
    eps: cosine distance of neighbours (dbscan), in (0, 2)
    merge: candidates of one or two hits join what they resemble in the embedding
    kmeans: turns of spherical k-means in the embedding after that, >= 0
    clean_up: fit the candidates, drop outliers, pick up hits, join fragments, share out hits; gives track parameters
    precision: of the matrix products of the network: "float32" or "bfloat16" (autocast); orders and norms are always
        float32
    compiled: compile encoder and decoder, for events padded to few lengths (``layers.hept_buckets``); on CUDA only
    """

    method: str = "masks"
    cut: float = -5.4
    eps: float = 0.125
    merge: bool = True
    kmeans: int = 0
    clean_up: bool = False
    precision: str = "float32"
    compiled: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.require("method", self.method in METHODS, "one of " + ", ".join(METHODS))
        self.require("cut", -np.inf < self.cut <= 0, "a number <= 0")
        self.require("eps", 0 < self.eps < 2, "in (0, 2)")
        self.require("kmeans", self.kmeans >= 0, ">= 0")
        self.require("precision", self.precision in PRECISIONS, "one of " + ", ".join(PRECISIONS))


class Assigned(NamedTuple):
    """Candidates before any of them is changed, on the device of the tracker.

    labels: (n,) int64, negative = unassigned; embedding: (n, E) float32, of length 1
    """

    labels: "Tensor"
    embedding: "Tensor"


class Tracker(HeptTracker):
    """Tracks from the masks of queries."""

    kinds: ClassVar = ("heptv2",)
    search_space: ClassVar[dict[str, tuple]] = {
        "cut": (-5.4, -3.4, -2.0, -1.2, -0.7),
        "eps": (0.03, 0.06, 0.09, 0.125, 0.18, 0.25),
    }

    @classmethod
    def space_to_tune(cls, settings: dict) -> dict[str, tuple]:
        """The option of the method that is used."""
        option = "eps" if settings.get("method", Config.method) == "dbscan" else "cut"
        return {option: cls.search_space[option]}

    @property
    def precision(self) -> str:
        """Precision of the matrix products of the network."""
        return self.config.precision

    @cached_property
    def applied(self) -> "HeptNetwork | CompiledHept":
        """The network as it is applied: compiled if that is asked for. Raises ConfigError for that on a CPU."""
        if not self.config.compiled:
            return self.network
        if self.device == "cpu":
            what, expected = "value true on a CPU, where nothing is compiled", "false, or a CUDA device"
            raise ConfigError(describe("trackers.heptv2.compiled", what, expected))
        from trackbench.trackers.layers.hept_compiled import CompiledHept

        return CompiledHept(self.network)

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray | Tracks:
        """Find tracks among the hits with |eta| <= ``eta_max``. Returns (n,) int64, or fitted ``Tracks``."""
        seen, labels = self.seen(hits), self.unassigned(hits)
        inside = hits.take(seen)
        if seen.size:
            assigned = self.assign(inside, timer)
            with timer.stage("postprocess"):
                labels[seen] = self.regroup(assigned).cpu().numpy()
        if not self.config.clean_up:
            return labels
        from trackbench.fitting.cleanup import clean_up

        with timer.stage("postprocess"):
            cleaned = clean_up(inside, labels[seen])
        labels[seen] = cleaned.labels
        return Tracks(labels, cleaned.parameters)

    def assign(self, hits: Hits, timer: Timer) -> Assigned:
        """Apply the network and give hits to candidates by ``method``.

        hits: all real, sorted by hit_id, at least one. The network alone is stage "network", what follows
        "clustering".
        Raises ConfigError for the method "masks" with a network that has no decoder, InputError for an event that is
        too long to be padded for a compiled network.
        """
        import torch

        from trackbench.trackers.layers.assignment import assign, assign_to_seeds

        config, network = self.config, self.applied
        self._check_method(network)
        half = config.precision == "bfloat16"
        with torch.inference_mode():
            with timer.stage("features"):
                batch = self.collate(hits)
                self.finish()
            with timer.stage("network"), torch.autocast(self.device, torch.bfloat16, enabled=half):
                encoded, decoded = network(batch, decode=config.method == "masks")
                self.finish()
            embedding = encoded.embedding[0, : len(hits)].float()
            with timer.stage("clustering"):
                if config.method == "masks":
                    labels = assign(decoded, (len(hits),), config.cut)[0]
                elif config.method == "seeds":
                    labels = assign_to_seeds(network, batch, encoded, config.cut)[0]
                else:
                    labels = self._clusters(embedding.cpu().numpy())
                return Assigned(torch.from_numpy(labels).to(embedding.device), embedding)

    def collate(self, hits: Hits) -> "HeptBatch":
        """A batch of one event on the device, padded to a bucket for a compiled network."""
        from trackbench.trackers.layers.hept_batch import collate

        pad_to = bucket(len(hits), f"event {hits.event_id}") if self.config.compiled else None
        return collate([hits], self.network.config.inputs, pad_to).to(self.device)

    def regroup(self, assigned: Assigned) -> "Tensor":
        """Merge fragments and move hits as the settings say. Returns labels (n,) int64."""
        from trackbench.trackers.layers.merging import merge_fragments, spherical_kmeans

        labels = assigned.labels
        if self.config.merge:
            labels = merge_fragments(assigned.embedding, labels)
        return spherical_kmeans(assigned.embedding, labels, self.config.kmeans) if self.config.kmeans else labels

    def _clusters(self, embedding: np.ndarray) -> np.ndarray:
        from trackbench.trackers.layers.latent_clustering import cluster_points

        sizes = {"min_cluster_size": _MIN_SIZE, "min_samples": _MIN_SAMPLES}
        return cluster_points(embedding, "dbscan_cosine", eps=self.config.eps, **sizes)

    def _check_method(self, network) -> None:
        if self.config.method == "masks" and network.config.queries == "none":
            what = f"value 'masks', and {self.config.checkpoint} has no decoder"
            raise ConfigError(describe("trackers.heptv2.method", what, "seeds or dbscan"))
