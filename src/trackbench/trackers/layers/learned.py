"""What learned trackers share: weights loaded once, hits to a batch, the network applied and timed.

No torch at import: a tracker module imports this one, and listing trackers imports them all.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, describe, require
from trackbench.trackers.base import Timer, TrackerBase, build_tracker
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.network_config import NetworkConfig

if TYPE_CHECKING:
    from torch.nn import Module

    from trackbench.trackers.layers.network import HitNetwork, Outputs

BACKENDS = ("auto", "sdpa", "varlen", "flex")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class CheckpointConfig:
    """The weights, for every tracker that has any.

    checkpoint: path of the trained weights
    device: "auto" (CUDA if there is one), "cpu" or "cuda"
    """

    checkpoint: str = ""
    device: str = "auto"

    def __post_init__(self):
        self.require("device", self.device in DEVICES, "one of " + ", ".join(DEVICES))

    def require(self, name: str, good: bool, expected: str) -> None:
        """Raise ConfigError about option ``name`` unless ``good``."""
        module = type(self).__module__.rpartition(".")[2]
        require(f"trackers.{module}.{name}", getattr(self, name), good, expected)


@dataclass(frozen=True)
class LearnedConfig(CheckpointConfig):
    """Options of trackers with a ``HitNetwork``, besides those of ``CheckpointConfig``.

    backend: of attention: "auto", "sdpa", "varlen" or "flex"; all give the same tracks
    """

    backend: str = "auto"

    def __post_init__(self):
        super().__post_init__()
        self.require("backend", self.backend in BACKENDS, "one of " + ", ".join(BACKENDS))


@dataclass(frozen=True)
class NetworkOutput:
    """Outputs of the network for one event as NumPy arrays: (n, .) float32 each, None without the head."""

    latents: np.ndarray
    parameters: np.ndarray | None
    logits: np.ndarray | None
    embedding: np.ndarray | None


class NetworkTracker(TrackerBase):
    """Base class of trackers with trained weights: subclasses name the ``kinds`` of weights they can use."""

    # Kinds of weights files (``weights.KINDS``) the tracker can use.
    kinds: ClassVar[tuple[str, ...]] = ()
    precision: ClassVar[str] = "float32"

    @cached_property
    def device(self) -> str:
        """Device the network runs on: "cpu" or "cuda"."""
        return choose_device(self.config.device, f"trackers.{type(self).__module__.rpartition('.')[2]}.device")

    @cached_property
    def network(self) -> "Module":
        """The trained network on its device, loaded at the first use. Raises ConfigError without a checkpoint."""
        return self.load_network(self.config.checkpoint, self.kinds)

    @property
    def n_weights(self) -> int:
        """Number of trained weights of the network."""
        return sum(weights.numel() for weights in self.network.parameters())

    def load_network(self, path: str, kinds: tuple[str, ...]) -> "Module":
        """Read a network and put it on the device. Raises ConfigError for an empty path, InputError for a bad file."""
        if not path:
            name = type(self).__module__.rpartition(".")[2]
            remedy = "train a model, or give its weights file: trackbench reconstruct --checkpoint FILE"
            raise ConfigError(describe(f"trackers.{name}.checkpoint", "no trained weights", "a file", remedy))
        from trackbench.trackers.layers.weights import load_weights

        return load_weights(path, kinds)[0].to(self.device)

    def finish(self) -> None:
        """Wait until the device has done all it was asked to do; times are read after that."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()


class LearnedTracker(NetworkTracker):
    """Base class of trackers with a ``HitNetwork``; they call ``apply_network``.

    Events may be longer than those of the training ("length" among the facts of the weights), as in the matrix of
    training and test sets; nothing is cut off or padded beyond the longest event of a batch.
    """

    def apply_network(self, hits: Hits, timer: Timer) -> NetworkOutput:
        """Apply the network to the hits of one event, all real.

        Making the batch and copying it to the device is stage "features", the network alone is stage "network";
        on CUDA each ends when the device has finished.
        """
        network = self.network
        with timer.stage("features"):
            clusters = projection_clusters(network.config, hits, self.seed)
        found = self.run_network(network, [hits], timer, None if clusters is None else [clusters])
        arrays = (None if values is None else values[0].float().cpu().numpy() for values in found)
        return NetworkOutput(*arrays)

    def run_network(
        self, network: "HitNetwork", events: list[Hits], timer: Timer, clusters: list[np.ndarray] | None = None
    ) -> "Outputs":
        """Apply a network to several events side by side; the outputs stay on the device, padded."""
        import torch

        from trackbench.trackers.layers.batch import collate

        with torch.inference_mode():
            with timer.stage("features"):
                batch = collate(events, clusters).to(self.device)
                self.finish()
            with timer.stage("network"):
                found = network(batch, self.config.backend)
                self.finish()
        return found


def choose_device(device: str, where: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda"; where: what it is a setting of.

    Raises ConfigError for "cuda" where there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError(describe(where, "value 'cuda', and torch finds no CUDA device", "auto or cpu"))
    if device == "auto":
        return "cuda" if available else "cpu"
    return device


def projection_clusters(config: NetworkConfig, hits: Hits, seed: int = 0) -> np.ndarray | None:
    """Clusters of the surface projection that the attention mask of a network needs, with ``MASK_SETTINGS``.

    hits: of one event, all real
    Returns (n,) int64, -1 = in none (hits outside the pixel volumes, noise of the clusterer); None if the mask is
    of another kind.
    """
    mask = config.mask_config
    if mask.kind != "cluster":
        return None
    return build_tracker(mask.clusterer, MASK_SETTINGS.get(mask.clusterer), seed).reconstruct(hits)
