"""How much HEPTv2 has to compute for an event: operations by part, and the time below which a device cannot be.

Own count, for the formulas of ``trackers.layers``. A multiplication and an addition are two operations. Rates are
stated peaks, not measurements. Light: no torch.
"""

import itertools
from dataclasses import dataclass

from trackbench.trackers.layers.hept_buckets import bucket
from trackbench.trackers.layers.hept_config import HeptConfig

N_FEATURES = {"published": 15, "geometry": 50}  # of ``trackers.layers.hept_features``, which tests compare
N_POSITIONS = {"published": 6, "geometry": 50}
_HALF = 2  # bytes of a number in half precision


@dataclass(frozen=True)
class Operations:
    """What an event costs.

    encoder_attention, encoder_linear, decoder, masks, seeds: operations; decoder: without the heads of the levels,
        which are below 2 %; masks: one product of queries and hits; seeds: cosines of hits that count neighbours, in
        full precision
    exponentials: of all softmax; bytes: moved by the encoder's attention (sorted q, k, v and output, written and read
        in half precision) and the weights
    """

    encoder_attention: float
    encoder_linear: float
    decoder: float
    masks: float
    seeds: float
    exponentials: float
    bytes: float

    @property
    def matrix(self) -> float:
        """Operations of matrix units: all but those of the seeds."""
        return self.encoder_attention + self.encoder_linear + self.decoder + self.masks


@dataclass(frozen=True)
class Peaks:
    """Rates of a device.

    matrix: operations in half precision [1/s]; full: in full precision, not in matrix units [1/s]
    exponentials: [1/s]; memory: [B/s]
    """

    name: str
    matrix: float
    full: float
    exponentials: float
    memory: float


# Exponentials: 16 per clock and multiprocessor. H200: 132 at 1.83 GHz; A100: 108 at 1.41 GHz. Matrix units of the H200:
# what large products reach of nominal 989; others nominal.
H200 = Peaks("H200", 790e12, 67e12, 16 * 132 * 1.83e9, 4.3e12)
A100 = Peaks("A100", 312e12, 19.5e12, 16 * 108 * 1.41e9, 1.555e12)


def operations(config: HeptConfig, n_hits: int, n_queries: int | None = None, padded: bool = False) -> Operations:
    """Count for one event.

    n_hits: hits; they fill the last block, and with ``padded`` a bucket
    n_queries: of a sector, default ``config.n_queries``, 0 without a decoder
    """
    hits = bucket(n_hits) if padded else n_hits
    hits = -(-hits // config.block) * config.block
    width, orders = config.width, config.layers * config.rounds
    pairs = orders * config.heads * hits * config.block
    attention = pairs * 4 * (width // config.heads)
    queries = config.n_queries if n_queries is None else n_queries
    queries = 0 if config.queries == "none" else queries
    windows = config.sectors * (2 if config.overlap else 1)
    seen = hits * windows // config.sectors  # hits of all windows
    decoder, decoder_pairs = _decoder(config, queries, windows, seen)
    mask_width = width + (config.embedding if config.queries == "seeded" else 0)
    per_window = seen / windows
    return Operations(
        encoder_attention=attention,
        encoder_linear=2 * hits * _weights_per_hit(config),
        decoder=decoder,
        masks=2 * queries * seen * mask_width,
        seeds=2 * windows * per_window**2 * config.embedding if config.queries == "seeded" else 0,
        exponentials=pairs + decoder_pairs,
        bytes=2 * 4 * orders * width * hits * _HALF + _HALF * _weights(config),
    )


def _weights_per_hit(config: HeptConfig) -> int:
    """Weights that multiply each hit in the encoder."""
    width, hidden = config.width, config.embedding_hidden
    position = N_POSITIONS[config.inputs] * config.position_hidden + config.position_hidden * width
    layer = 4 * width**2 + 3 * width * config.ffn + position
    sizes = [width, *[hidden] * (config.embedding_layers - 1), config.embedding]
    heads = width**2 + width + sum(a * b for a, b in itertools.pairwise(sizes))
    return N_FEATURES[config.inputs] * width + width**2 + config.layers * layer + heads


def _decoder(config: HeptConfig, queries: int, windows: int, seen: int) -> tuple[float, float]:
    """Operations and exponentials of the layers of the decoder. seen: hits of all windows."""
    if not queries:
        return 0.0, 0.0
    width = config.width
    pairs = queries * seen + windows * queries**2
    of_queries = 6 * width**2 + 3 * width * config.ffn  # cross: query, output; self: four
    linear = 2 * seen * 2 * width**2 + 2 * windows * queries * of_queries
    layers = config.decoder_layers
    return layers * (4 * width * pairs + linear), layers * config.heads * pairs


def _weights(config: HeptConfig) -> int:
    """Weights of the network, but for norms and biases."""
    width = config.width
    decoder = 0
    if config.queries != "none":
        bank = 2 * config.n_queries * width if config.queries == "learned" else 2 * width**2
        layer, heads = 8 * width**2 + 3 * width * config.ffn, width**2 + 3 * width * config.ffn
        decoder = config.decoder_layers * layer + heads + bank
    return _weights_per_hit(config) + decoder


def floor_ms(cost: Operations, peaks: Peaks) -> dict[str, float]:
    """Shortest time of each kind of work if nothing else delayed it, and of the whole [ms].

    Returns "matrix", "exponentials", "memory", "seeds", and "total": the longest of the first three, which may overlap,
    and the seeds, which come between encoder and decoder.
    """
    found = {
        "matrix": cost.matrix / peaks.matrix,
        "exponentials": cost.exponentials / peaks.exponentials,
        "memory": cost.bytes / peaks.memory,
    }
    total = max(found.values()) + cost.seeds / peaks.full
    return {name: 1e3 * value for name, value in {**found, "seeds": cost.seeds / peaks.full, "total": total}.items()}
