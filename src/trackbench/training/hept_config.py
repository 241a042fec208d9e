"""Settings of the losses of HEPTv2. No torch here: checking a configuration reads this module."""

from dataclasses import dataclass

from trackbench.errors import require

WEIGHTS = ("class_weight", "focal_weight", "dice_weight", "hit_weight", "nce_weight")


@dataclass(frozen=True)
class HeptLossConfig:
    """What HEPTv2 minimises, and how its training events are varied. The defaults are the published ones.

    class_weight, focal_weight, dice_weight: of the matched losses, at every level, and of the matching cost, >= 0
    hit_weight: of the hit classifier (binary cross-entropy); positive_weight: of target hits in it, > 0
    nce_weight: of InfoNCE; temperature: > 0; negatives: most similar other hits that repel, 0 = all
    decoder_from: fraction of the steps before the decoder is trained, in [0, 1): 0 = from the start
    decoder_pt_min: particles from this pT on [GeV] are tracks for the decoder; hit classifier and InfoNCE anchors
        always take target hits: pT >= 0.9 GeV, at least 3 layers
    rotate: turn each training event by a random azimuth; flip: mirror it at z = 0 with probability 1/2;
        mirror: mirror it at y = 0 with probability 1/2; both only with inputs "geometry"
    """

    class_weight: float = 0.1
    focal_weight: float = 200.0
    dice_weight: float = 2.0
    hit_weight: float = 1.8
    positive_weight: float = 6.0
    nce_weight: float = 12.0
    temperature: float = 0.07
    negatives: int = 256
    decoder_from: float = 0.0
    decoder_pt_min: float = 0.9
    rotate: bool = True
    flip: bool = False
    mirror: bool = False

    def __post_init__(self):
        for name in (*WEIGHTS, "negatives", "decoder_pt_min"):
            require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        require("loss.positive_weight", self.positive_weight, self.positive_weight > 0, "> 0")
        require("loss.temperature", self.temperature, self.temperature > 0, "> 0")
        require("loss.decoder_from", self.decoder_from, 0 <= self.decoder_from < 1, "in [0, 1)")
