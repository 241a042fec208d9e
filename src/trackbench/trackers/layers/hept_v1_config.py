"""Settings of the network of HEPT, the predecessor of HEPTv2. No torch here: checking a configuration reads this."""

from dataclasses import dataclass

from trackbench.errors import require
from trackbench.trackers.layers.hept_config import INPUTS

POSITIVE = ("width", "heads", "layers", "rounds", "block", "kernel_terms", "output", "output_hidden", "output_layers")


@dataclass(frozen=True)
class HeptV1Config:
    """Kernel attention and output. The defaults are the published network for whole events.

    inputs: "published" = 15 features of position and cells; "geometry" = functions of position and layer alone; see
        ``hept_features``. The kernel sees six coordinates with the former, five without a seam in phi with the latter
    width: of a hit and of each head; heads, layers: of the attention
    rounds: orders per layer and head whose blocks are summed, >= 1
    block: hits of a block, each of which attends to the hits of the block beside it
    regions: number R of eta-phi cells of an order, 0 = 1.7 N / block
    kernel_terms: exponentials whose sum is the scale of a coordinate in the kernel
    output: dimension of the output, whose Euclidean distance says whether two hits are of one track
    output_hidden, output_layers: of the MLP behind it
    dropout: in [0, 1)
    """

    inputs: str = "published"
    width: int = 24
    heads: int = 8
    layers: int = 4
    rounds: int = 3
    block: int = 100
    regions: int = 150
    kernel_terms: int = 10
    output: int = 12
    output_hidden: int = 256
    output_layers: int = 5
    dropout: float = 0.1

    def __post_init__(self):
        require("network.inputs", self.inputs, self.inputs in INPUTS, "one of " + ", ".join(INPUTS))
        for name in POSITIVE:
            require(f"network.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        require("network.regions", self.regions, self.regions >= 0, ">= 0")
        require("network.dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")
