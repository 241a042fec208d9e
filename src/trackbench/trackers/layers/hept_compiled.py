"""HEPTv2 with compiled encoder and decoder layers, for events padded to ``hept_buckets`` and queries to whole steps.

Orders, sectors and seeds have shapes that depend on the hits; they are computed as they are. What lies between has
fixed shapes and is compiled once per shape, with CUDA graphs where torch can record them. Written for CUDA, where
attention is FlexAttention; tests run the same parts with torch's tracing alone on a CPU. Not measured on a GPU.
"""

import torch
from torch.nn import functional

from trackbench.trackers.layers.block_flex import SHAPES
from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_decoder import Decoded
from trackbench.trackers.layers.hept_encoder import Encoded
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.hept_queries import Queries

QUERY_STEP = 256  # places for queries come in multiples of it


class CompiledHept:
    """A network that is applied as a ``HeptNetwork`` is, without gradients.

    network: in evaluation mode, on its device
    backend: of ``torch.compile``; "inductor" with CUDA graphs (mode "reduce-overhead") if ``graphs``
    Outputs are overwritten by the next call where CUDA graphs are used: copy what is to be kept. Code that torch
    cannot compile as a whole is an error of torch, never silently slow.
    """

    def __init__(self, network: HeptNetwork, backend: str = "inductor", graphs: bool = True):
        self.config, self.network = network.config, network
        self._graphs = graphs and backend == "inductor"
        how = {"mode": "reduce-overhead"} if self._graphs else {}
        options = {"fullgraph": True, "dynamic": False, "backend": backend, **how}
        decoder = network.decoder
        self._encode = torch.compile(network.encoder.encode, **options)
        self._refine = None if decoder is None else torch.compile(decoder.refine, **options)

    @property
    def decoder(self) -> torch.nn.Module | None:
        """The decoder of the network."""
        return self.network.decoder

    def __call__(self, batch: HeptBatch, decode: bool = True) -> tuple[Encoded, Decoded | None]:
        """Apply the network as ``HeptNetwork.forward`` does, with as many places for queries as are whole steps."""
        encoded = self.encode(batch)
        return encoded, self.decode(batch, encoded) if decode and self.decoder is not None else None

    def encode(self, batch: HeptBatch) -> Encoded:
        """The first part of a call. Starts a new turn of the CUDA graphs."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with torch._dynamo.config.patch(recompile_limit=SHAPES):
            return self._encode(batch.features, batch.positions, batch.lengths, self.network.encoder.orders(batch))

    def decode(self, batch: HeptBatch, encoded: Encoded) -> Decoded:
        """The second part; encoded: what ``encode`` gave for the batch."""
        places, event, group = self.decoder.groups(batch, encoded)
        queries = _in_steps(self.decoder.start(group))
        with torch._dynamo.config.patch(recompile_limit=SHAPES):
            levels, hits = self._refine(group, queries)
        return Decoded(levels, hits, self.decoder.offset(), queries.valid, places, event, queries.seeds)


def _in_steps(queries: Queries) -> Queries:
    """More places, not valid, so that their number is a multiple of ``QUERY_STEP``; no step is added to whole ones."""
    more = -queries.valid.shape[1] % QUERY_STEP
    if not more:
        return queries
    vectors = (functional.pad(values, (0, 0, 0, more)) for values in (queries.content, queries.position))
    valid, seeds = functional.pad(queries.valid, (0, more)), functional.pad(queries.seeds, (0, more), value=-1)
    return Queries(*vectors, valid, seeds)
