"""Settings of the loss of HEPT, the predecessor of HEPTv2. No torch here: checking a configuration reads this."""

from dataclasses import dataclass

from trackbench.errors import require


@dataclass(frozen=True)
class HeptV1LossConfig:
    """What HEPT minimises, and how its training events are varied. The defaults are the published ones but ``rotate``.

    radius: hits within it in (eta, phi) of a target hit may repel it, > 0
    neighbours: as many of them at most, the nearest, >= 1
    sigma: similarity exp(-d / (2 sigma^2)) of two hits at distance d of their outputs, > 0
    temperature: of InfoNCE, > 0
    rotate: turn each training event by a random azimuth; flip: mirror it at z = 0 with probability 1/2;
        mirror: mirror it at y = 0 with probability 1/2; both only with inputs "geometry"
    """

    radius: float = 1.0
    neighbours: int = 256
    sigma: float = 0.75
    temperature: float = 0.05
    rotate: bool = True
    flip: bool = False
    mirror: bool = False

    def __post_init__(self):
        for name in ("radius", "sigma", "temperature"):
            require(f"loss.{name}", getattr(self, name), getattr(self, name) > 0, "> 0")
        require("loss.neighbours", self.neighbours, self.neighbours >= 1, ">= 1")
