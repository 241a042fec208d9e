"""HEPTv2: block attention over hits sorted by hashes of their directions, then queries that become tracks.

Source: HEPTv2 (arXiv:2606.20437, github.com/Graph-COM/HEPTv2). Differs from it in: padding never changes an output;
queries may be hits (``hept_queries``).
"""

from torch import nn

from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_decoder import Decoded, HeptDecoder
from trackbench.trackers.layers.hept_encoder import Encoded, HeptEncoder


class HeptNetwork(nn.Module):
    """Encoder with its two heads and, unless ``queries`` is "none", the decoder.

    Under autocast the positions, the orders, the norms and whatever leaves the network are computed in float32.
    """

    def __init__(self, config: HeptConfig):
        super().__init__()
        self.config = config
        self.encoder = HeptEncoder(config)
        self.decoder = None if config.queries == "none" else HeptDecoder(config)

    def forward(self, batch: HeptBatch, decode: bool = True) -> tuple[Encoded, Decoded | None]:
        """Apply the network to a batch; decode: False leaves out the decoder."""
        encoded = self.encoder(batch)
        if not decode or self.decoder is None:
            return encoded, None
        return encoded, self.decoder(batch, encoded)
