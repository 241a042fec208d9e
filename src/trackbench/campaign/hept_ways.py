"""Ways to compute HEPTv2 on a device: precision, compiled or not; whole calls and calls part by part."""

import contextlib
import copy
import time
from dataclasses import dataclass, replace

import numpy as np

from trackbench.data.hits import Hits

PARTS = ("encoder", "decoder", "post_processing")
CUT = -5.4  # published


@dataclass(frozen=True)
class Way:
    """A way to compute: name, precision of the matrix products, compiled and with CUDA graphs or not."""

    name: str
    half: bool
    compiled: bool = False
    graphs: bool = False


# In this order: what compiles slowly comes last. A CPU has no graphs.
WAYS = (
    Way("float32", half=False),
    Way("bfloat16", half=True),
    Way("bfloat16, compiled, CUDA graphs", half=True, compiled=True, graphs=True),
    Way("bfloat16, compiled", half=True, compiled=True),
)


def with_block(network, block: int):
    """The same weights with blocks of another size; only ``regions: 0`` makes orders depend on it."""
    from trackbench.trackers.layers.hept_network import HeptNetwork

    device = next(network.parameters()).device
    changed = HeptNetwork(replace(network.config, block=block)).eval().to(device)
    changed.load_state_dict(network.state_dict())
    return changed


class Run:
    """A network one way: whole calls, and calls part by part."""

    def __init__(self, network, way: Way, device: str):
        self.network, self.way, self.device = network, way, device
        self.applied = network
        if way.compiled:
            from trackbench.trackers.layers.hept_compiled import CompiledHept

            # A CPU only traces: it shows that the parts compile, not how fast they are.
            backend = "inductor" if device == "cuda" else "eager"
            self.applied = CompiledHept(network, backend, graphs=way.graphs)

    def batch(self, hits: Hits, inputs: str):
        """A batch of one event on the device, padded to a bucket if it is for what is compiled."""
        from trackbench.trackers.layers.hept_batch import collate
        from trackbench.trackers.layers.hept_buckets import bucket

        return collate([hits], inputs, bucket(len(hits)) if self.way.compiled else None).to(self.device)

    def context(self):
        """No gradients, and the precision of the way."""
        import torch

        stack = contextlib.ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(self.device, torch.bfloat16, enabled=self.way.half))
        return stack

    def finish(self) -> None:
        """Wait for the device."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()

    def all(self, batch, n_hits: int):
        """Labels (n,) of one event, and the embedding."""
        with self.context():
            encoded, decoded = self.applied(batch)
            return self._labels(encoded, decoded, n_hits)

    def timed_all(self, batch, n_hits: int) -> float:
        """Seconds of a whole call."""
        self.finish()
        begin = time.perf_counter()
        self.all(batch, n_hits)
        self.finish()
        return time.perf_counter() - begin

    def parts(self, batch, n_hits: int) -> dict:
        """Seconds of each of ``PARTS``, and the number of queries."""
        times = []
        with self.context():
            self.finish()
            times.append(time.perf_counter())
            encode = self.applied.encode if self.way.compiled else self.applied.encoder
            encoded = encode(batch)
            self.finish()
            times.append(time.perf_counter())
            decode = self.applied.decode if self.way.compiled else self.applied.decoder
            decoded = decode(batch, encoded)
            self.finish()
            times.append(time.perf_counter())
            self._labels(encoded, decoded, n_hits)
            self.finish()
            times.append(time.perf_counter())
        return {**dict(zip(PARTS, np.diff(times), strict=True)), "queries": int(decoded.valid.sum(1).max())}

    def _labels(self, encoded, decoded, n_hits: int):
        import torch

        from trackbench.trackers.layers.assignment import assign
        from trackbench.trackers.layers.merging import merge_fragments

        embedding = encoded.embedding[0, :n_hits].float()
        labels = torch.from_numpy(assign(decoded, (n_hits,), CUT)[0]).to(embedding.device)
        return merge_fragments(embedding, labels), embedding


def agreement(run: Run, batch, n_hits: int) -> dict:
    """How far a way is from the network in full precision, uncompiled, on the CPU, for the same batch.

    Returns "embedding_difference", the largest, and "embedding_difference_mean"; and "orders_equal": whether hashing
    gave the same orders, as it is in full precision on every way (equal angles of two hits may tie).
    """
    import torch

    found = run.all(batch, n_hits)[1].cpu()
    reference = copy.deepcopy(run.network).cpu()
    with torch.inference_mode():
        on_cpu = batch.to("cpu")
        expected = reference.encoder(on_cpu).embedding[0, :n_hits]
        orders = reference.encoder.orders(on_cpu)[..., :n_hits]
    with run.context():
        own = run.network.encoder.orders(batch)[..., :n_hits].cpu()
    difference = (found - expected).abs()
    return {
        "embedding_difference": float(difference.max()),
        "embedding_difference_mean": float(difference.mean()),
        "orders_equal": float((own == orders).float().mean()),
    }
