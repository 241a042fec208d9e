"""Settings of the networks of learned trackers. No torch here: checking a configuration reads this module."""

import math
from dataclasses import dataclass, fields

from trackbench.errors import require

MASKS = ("padding", "cluster", "cone", "phi_window", "phi_sector")
INPUTS = ("xyz", "helix")
TARGETS = ("none", "charge", "q_over_pt")
HEADS = ("linear", "helix")
PT_SCALE = 2.5  # the target "q_over_pt" is q / (2.5 pT): pT = 0.4 GeV gives +-1, as far apart as the charges


@dataclass(frozen=True)
class MaskConfig:
    """Which hits of an event attend to each other; hits never attend to padding.

    kind: "padding" = all pairs, "cluster" = same projection cluster, "cone" = within ``radius`` in eta and phi,
        "phi_window" = at most ``window`` places apart in azimuth order, cyclic, "phi_sector" = a hit attends to all
        hits of its sector enlarged by ``overlap`` on both sides
    radius: sqrt(delta eta^2 + delta phi^2) of the cone, > 0
    window: places, >= 1
    sectors: number of equal sectors, >= 1; overlap: [rad], >= 0
    clusterer: tracker of the surface family whose clusters are used; hits in none attend to themselves only
    """

    kind: str = "padding"
    radius: float = 0.7
    window: int = 1024
    sectors: int = 8
    overlap: float = 0.2
    clusterer: str = "density_peaks"

    def __post_init__(self):
        require("network.mask", self.kind, self.kind in MASKS, "one of " + ", ".join(MASKS))
        require("network.mask_radius", self.radius, self.radius > 0, "> 0")
        require("network.mask_window", self.window, self.window >= 1, ">= 1")
        require("network.mask_sectors", self.sectors, self.sectors >= 1, ">= 1")
        require("network.mask_overlap", self.overlap, self.overlap >= 0, ">= 0 rad")


@dataclass(frozen=True)
class NetworkConfig:
    """Encoder and heads. The defaults are EncReg's of the 10-50 data set (76,484 weights).

    inputs: "xyz" = normalised positions (published), "helix" = features that follow helices from the beam line
    width, heads, ffn, layers: of the transformer encoder; dropout: in [0, 1)
    norm: "post" (published) or "pre" layer norm; activation: "relu" (published) or "gelu"
    targets: what the regression head gives besides theta, sin phi, cos phi: "charge", "q_over_pt", or "none" = no head
    head: of the regression: "linear" (published), or "helix" = curvature from pairs of hits chosen by attention, for
        targets "q_over_pt"
    pair_bias: attention heads but the first prefer pairs of hits that a track from the beam spot could have made, the
        more the later the head; needs the attention backend "sdpa"
    vertex_width: of head "helix" and of pair_bias [mm], > 0: a pair of hits that points to z0 on the beam line agrees
        by exp(-(z0 / vertex_width)^2). About 3.6 times the length sigma_z of the beam spot is meant: 20 for 5.5 mm,
        200 for 55 mm
    classes: outputs of the classification head, 0 = none
    classifier_layers: > 0 = joint model: a second encoder classifies hit, detached parameters and free latents
    latents: free latents handed to the second encoder of the joint model
    embedding: dimension of the unit-length embedding, 0 = none
    mask, mask_radius, mask_window, mask_sectors, mask_overlap, mask_clusterer: see ``MaskConfig``
    """

    inputs: str = "xyz"
    width: int = 32
    heads: int = 4
    ffn: int = 128
    layers: int = 6
    dropout: float = 0.1
    norm: str = "post"
    activation: str = "relu"
    targets: str = "charge"
    head: str = "linear"
    pair_bias: bool = False
    vertex_width: float = 20.0
    classes: int = 0
    classifier_layers: int = 0
    latents: int = 4
    embedding: int = 0
    mask: str = "padding"
    mask_radius: float = 0.7
    mask_window: int = 1024
    mask_sectors: int = 8
    mask_overlap: float = 0.2
    mask_clusterer: str = "density_peaks"

    def __post_init__(self):
        require("network.inputs", self.inputs, self.inputs in INPUTS, "one of " + ", ".join(INPUTS))
        require("network.norm", self.norm, self.norm in ("post", "pre"), "post or pre")
        require("network.activation", self.activation, self.activation in ("relu", "gelu"), "relu or gelu")
        require("network.targets", self.targets, self.targets in TARGETS, "one of " + ", ".join(TARGETS))
        fits = self.head == "linear" or (self.head == "helix" and self.targets == "q_over_pt")
        require("network.head", self.head, fits, "linear, or helix with targets q_over_pt")
        for name in ("width", "heads", "ffn", "layers"):
            require(f"network.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("classes", "classifier_layers", "latents", "embedding"):
            require(f"network.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        require("network.vertex_width", self.vertex_width, 0 < self.vertex_width < math.inf, "a number > 0 mm")
        require("network.dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")
        require("network.width", self.width, self.width % self.heads == 0, f"a multiple of heads = {self.heads}")
        joint = not self.classifier_layers or (self.classes and self.targets != "none")
        require("network.classifier_layers", self.classifier_layers, joint, "0 without classes and targets")
        something = self.targets != "none" or self.classes or self.embedding
        require("network.targets", self.targets, something, "a head: targets, classes or embedding")
        MaskConfig(**self._mask_values())

    @property
    def mask_config(self) -> MaskConfig:
        """The attention mask on its own."""
        return MaskConfig(**self._mask_values())

    def _mask_values(self) -> dict:
        values = {field.name: getattr(self, f"mask_{field.name}") for field in fields(MaskConfig)[1:]}
        return {"kind": self.mask, **values}
