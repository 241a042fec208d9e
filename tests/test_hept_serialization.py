"""Orders of hits against a slow twin in NumPy written from the formulas."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from trackbench.trackers.layers.hept_config import SERIALIZATIONS, HeptConfig
from trackbench.trackers.layers.serialization import Serialization, hilbert_code, morton_code, rank

LENGTHS = (0, 1, 2, 37, 400, 153)
SMALL = {"layers": 2, "heads": 3, "rounds": 2, "width": 12, "block": 16}


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return Serialization(HeptConfig(**{**SMALL, **settings}))


def angles_of(lengths=LENGTHS, size=None, seed=0, fill=0.0):
    """Random angles with ties in one of them, ``fill`` in the padding; and which are real."""
    rng = np.random.default_rng(seed)
    size = max(lengths) if size is None else size
    angles, valid = torch.full((len(lengths), size, 2), fill), torch.zeros(len(lengths), size, dtype=torch.bool)
    for event, n in enumerate(lengths):
        tied = rng.random(n)
        eta = np.where(tied < 0.3, np.round(rng.normal(0, 1.5, n)), rng.normal(0, 1.5, n))
        phi = np.where(tied > 0.8, 0.5, rng.uniform(-np.pi, np.pi, n))
        angles[event, :n] = torch.from_numpy(np.column_stack((eta, phi))).float()
        valid[event, :n] = True
    for event, n in enumerate(lengths):  # no two hits have both angles equal
        assert len({tuple(pair) for pair in angles[event, :n].tolist()}) == n
    return angles, valid


def slow_ranks(first, second):
    order = sorted(range(len(first)), key=lambda i: (first[i], second[i]))
    return np.argsort(order)


def slow_lsh(module, angles):
    """Orders (layers, heads, rounds, n) of the hits of one event, (n, 2) float64."""
    config, n = module.config, len(angles)
    sizes, directions = module.sizes.double().numpy(), module.directions.double().numpy()
    found = np.empty((config.layers, config.heads, config.rounds, n), np.int64)
    eta, phi = angles.T
    by_eta, by_phi = slow_ranks(eta, phi), slow_ranks(phi, eta)
    for layer, head, r in np.ndindex(found.shape[:3]):
        wanted = config.regions or max(1.7 * n / config.block, 1.0)
        factor = 1.0 if config.regions else math.sqrt(wanted / 100)
        cells = [Fraction(max(round(3 * size * factor), 3), 3) for size in sizes[head, r]]
        in_eta, in_phi = (
            [rank // math.ceil(n / cell) for rank in ranks] for ranks, cell in zip((by_eta, by_phi), cells, strict=True)
        )
        p = directions[layer, head, r, 0] * eta + directions[layer, head, r, 1] * phi
        found[layer, head, r] = np.lexsort((p, in_eta, in_phi))
    return found


def slow_curve(kind, angles):
    """Order of the hits of one event by the curve through a 1024 x 1024 grid of ranks."""
    n = len(angles)
    by_eta, by_phi = slow_ranks(*angles.T), slow_ranks(*angles.T[::-1])
    if kind == "phi":
        return np.argsort(by_phi)
    codes = []
    for x, y in zip(by_eta * 1024 // n, by_phi * 1024 // n, strict=True):
        if kind == "zorder":
            codes.append(int("".join(a + b for a, b in zip(f"{y:010b}", f"{x:010b}", strict=True)), 2))
        else:
            codes.append(slow_hilbert(int(x), int(y), 10))
    return np.array(sorted(range(n), key=lambda i: (codes[i], by_phi[i])), np.int64)


def slow_hilbert(x, y, bits):
    """By the definition: four copies of the curve, the first and the last one mirrored at a diagonal."""
    if bits == 0:
        return 0
    half = 2 ** (bits - 1)
    if x < half and y < half:
        return slow_hilbert(y, x, bits - 1)
    if x < half:
        return half**2 + slow_hilbert(x, y - half, bits - 1)
    if y >= half:
        return 2 * half**2 + slow_hilbert(x - half, y - half, bits - 1)
    return 3 * half**2 + slow_hilbert(half - 1 - y, 2 * half - 1 - x, bits - 1)


@pytest.mark.parametrize("settings", [{"regions": 100}, {"regions": 7}, {"regions": 1}, {"regions": 0}], ids=str)
def test_lsh_is_the_lexicographic_order_of_the_formulas(settings):
    module = build(**settings)
    angles, valid = angles_of()
    orders = module(angles, valid)
    assert orders.shape == (2, len(LENGTHS), 3, 2, max(LENGTHS)) and orders.dtype == torch.int64
    for event, n in enumerate(LENGTHS):
        expected = slow_lsh(module, angles[event, :n].double().numpy())
        assert np.array_equal(orders[:, event, :, :, :n].numpy(), expected)
    everything = torch.arange(max(LENGTHS)).expand_as(orders)
    assert torch.equal(orders.sort(-1).values, everything)


@pytest.mark.parametrize("kind", ["zorder", "hilbert", "phi"])
def test_curves_are_those_of_the_formulas(kind):
    module = build(serialization=kind)
    angles, valid = angles_of()
    orders = module(angles, valid)
    assert orders.shape == (2, len(LENGTHS), 3, 2, max(LENGTHS)) and not module.state_dict()
    for event, n in enumerate(LENGTHS):
        expected = slow_curve(kind, angles[event, :n].double().numpy()) if n else np.empty(0)
        assert (orders[:, event, :, :, :n].numpy() == expected).all()


def test_codes_of_whole_grids():
    x, y = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    places = hilbert_code(x, y, 4).flatten().argsort()
    steps = (x.flatten()[places].diff().abs() + y.flatten()[places].diff().abs()).unique()
    assert steps.tolist() == [1] and hilbert_code(x, y, 4).flatten().sort().values.tolist() == list(range(256))
    assert (int(hilbert_code(x, y, 4)[0, 0]), int(hilbert_code(x, y, 4)[15, 0])) == (0, 255)
    assert morton_code(torch.tensor([0, 1, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 0])).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", SERIALIZATIONS)
@pytest.mark.parametrize("regions", [0, 100])
def test_padding_and_neighbours_change_no_order(kind, regions):
    module = build(serialization=kind, regions=regions)
    angles, valid = angles_of()
    orders = module(angles, valid)
    padded = module(*angles_of(size=501, fill=9.0))
    for event, n in enumerate(LENGTHS):
        assert torch.equal(orders[:, event, ..., :n], padded[:, event, ..., :n])
        alone = module(angles[event : event + 1, :n], valid[event : event + 1, :n])
        assert torch.equal(orders[:, event, ..., :n], alone[:, 0])


@pytest.mark.parametrize("kind", SERIALIZATIONS)
def test_permuted_hits_are_in_the_same_order(kind):
    module = build(serialization=kind)
    angles, valid = angles_of((400,))
    moved = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    orders, permuted = module(angles, valid), module(angles[:, moved], valid)
    assert torch.equal(moved[permuted], orders)


def test_equal_hits_stay_in_the_order_they_come_in():
    angles = torch.tensor([0.3, -1.0]).expand(1, 50, 2)
    valid = torch.arange(60)[None] < 50
    padded = torch.cat((angles, torch.zeros(1, 10, 2)), dim=1)
    for kind in SERIALIZATIONS:
        for orders in (build(serialization=kind)(angles, valid[:, :50]), build(serialization=kind)(padded, valid)):
            assert (orders[..., 1:50] > orders[..., :49]).float().mean() > 0.7  # cells cut them by rank
            assert torch.equal(orders[..., :50], build(serialization=kind)(angles, valid[:, :50]))


def test_tables_are_drawn_from_the_seed_and_kept():
    module, same, other = build(0), build(0), build(1)
    assert module.sizes.shape == (3, 2, 2) and module.directions.shape == (2, 3, 2, 2)
    assert torch.equal(module.directions, same.directions) and not torch.equal(module.directions, other.directions)
    other.load_state_dict(module.state_dict())
    angles, valid = angles_of()
    assert torch.equal(other(angles, valid), module(angles, valid))
    assert not list(module.parameters())


def test_sizes_have_the_published_distribution():
    torch.manual_seed(0)
    sizes = Serialization(HeptConfig(layers=1, heads=64, rounds=16, width=64)).sizes.double()
    assert torch.equal((3 * sizes).round(), (3 * sizes).float().double())
    assert ((sizes.prod(-1) / 100 - 1).abs() < 0.15).all()  # rounding to 1/3
    assert sizes.min() >= math.sqrt(100 * 2 / 18) - 1 / 6 and sizes.max() <= math.sqrt(100 * 18 / 2) + 1 / 6
    assert 0.4 < (sizes[..., 0] > sizes[..., 1]).double().mean() < 0.6
    free = Serialization(HeptConfig(layers=1, heads=64, rounds=16, width=64, regions=0)).sizes.double()
    assert ((free.prod(-1) / 100 - 1).abs() < 1e-5).all()


def test_autocast_and_gradients_leave_the_orders_alone():
    module = build()
    angles, valid = angles_of((400, 320), seed=3)
    expected = module(angles, valid)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(angles, valid), expected)
    assert not module(angles.requires_grad_(), valid).requires_grad


def test_half_precision_keys_would_give_another_order():
    """The guard above would see it: with keys of 8 bits the order is another one."""
    module = build()
    angles, valid = angles_of((400,), seed=3)
    assert not torch.equal(module(angles.bfloat16(), valid), module(angles, valid))


def test_no_events_and_no_hits():
    for shape in ((0, 5), (2, 0)):
        orders = build()(torch.zeros(*shape, 2), torch.zeros(shape, dtype=torch.bool))
        assert orders.shape == (2, shape[0], 3, 2, shape[1])


def test_ranks_break_ties_by_the_other_angle():
    angles = torch.tensor([[[1.0, 3.0], [1.0, 2.0], [0.0, 2.0], [-9.0, -9.0]]])
    found = rank(angles, torch.tensor([[True, True, True, False]]))
    assert found.tolist() == [[[2, 1, 0, 3], [2, 1, 0, 3]]]
