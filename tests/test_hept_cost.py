"""Operations of HEPTv2 against the table of the specification, counted weights and a naive count."""

import pytest
import torch

from trackbench.hept_cost import A100, H200, N_FEATURES, N_POSITIONS, _weights, floor_ms, operations
from trackbench.trackers.layers import hept_features
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork

# (hits, block, queries) -> GFLOP of attention, linear, decoder, masks, total; 10^9 exponentials. Printed to 2-4 digits.
TABLE = {
    (20_000, 1023, 3000): (129, 42, 98, 16, 285, 3.4),
    (60_000, 1023, 3000): (379, 124, 226, 46, 776, 9.3),
    (60_000, 256, 3000): (95, 124, 226, 46, 491, 4.8),
    (60_000, 256, 1024): (95, 124, 76, 16, 310, 2.5),
    (500_000, 1023, 3000): (3144, 1031, 1635, 384, 6194, 74),
}


def rounded(value, like):
    """A value with as many digits as a printed one has."""
    return round(value, 1) if isinstance(like, float) else round(value)


@pytest.mark.parametrize(("case", "expected"), TABLE.items())
def test_published_network(case, expected):
    hits, block, queries = case
    cost = operations(HeptConfig(block=block, n_queries=queries), hits)
    parts = (cost.encoder_attention, cost.encoder_linear, cost.decoder, cost.masks, cost.matrix, cost.exponentials)
    total = expected[4]  # printed as the sum of rounded parts
    for value, printed in zip(parts, expected, strict=True):
        assert abs(rounded(value / 1e9, printed) - printed) <= (1 if printed is total else 0)
    assert cost.seeds == 0


def test_floors_of_the_specification():
    cost = operations(HeptConfig(block=1023), 60_000)
    h200, a100 = floor_ms(cost, H200), floor_ms(cost, A100)
    assert round(h200["matrix"], 1) == 1.0
    assert round(h200["exponentials"], 1) == 2.4 == round(h200["total"], 1)
    assert round(h200["memory"], 2) == 0.35
    assert (round(a100["matrix"], 1), round(a100["exponentials"], 1)) == (2.5, 3.8)
    assert round(floor_ms(operations(HeptConfig(block=256), 60_000), H200)["total"], 1) == 1.2
    few = floor_ms(operations(HeptConfig(block=256, n_queries=1024), 60_000), H200)
    assert round(few["total"], 2) == 0.65


def test_features_are_those_of_the_network():
    assert (N_FEATURES, N_POSITIONS) == (hept_features.N_FEATURES, hept_features.N_POSITIONS)


@pytest.mark.parametrize("queries", ["none", "learned", "seeded"])
def test_weights_are_those_of_the_network(queries):
    config = HeptConfig(queries=queries)
    found = sum(p.numel() for p in HeptNetwork(config).parameters())
    assert 0 <= found - _weights(config) < 0.06 * found  # norms and biases, and the position MLP of seeds


def naive_pairs(config, hits, queries):
    """Pairs of attention counted one by one."""
    blocks = hits // config.block
    orders = config.layers * config.heads * config.rounds
    pairs = sum(config.block**2 for _ in range(orders) for _ in range(blocks))
    windows = config.sectors * (2 if config.overlap else 1)
    for _ in range(config.decoder_layers * config.heads):
        for _ in range(windows):
            pairs += queries * hits // config.sectors + queries**2
    return pairs


@pytest.mark.parametrize("overlap", [False, True])
def test_exponentials_are_pairs(overlap):
    config = HeptConfig(block=64, sectors=4, overlap=overlap, queries="seeded", embedding=32)
    cost = operations(config, 1024, 10)
    assert cost.exponentials == naive_pairs(config, 1024, 10)
    windows = 8 if overlap else 4
    assert cost.seeds == 2 * windows * 256**2 * 32
    assert cost.masks == 2 * 10 * windows * 256 * (128 + 32)


def test_padding_costs_and_no_decoder_is_free():
    config = HeptConfig(queries="none", block=256)
    bare, padded = operations(config, 60_000), operations(config, 60_000, padded=True)
    assert bare.decoder == bare.masks == bare.seeds == 0
    assert padded.encoder_attention == bare.encoder_attention * 61_440 / 60_160
    assert torch.isfinite(torch.tensor(list(floor_ms(bare, H200).values()))).all()
