"""Queries of HEPTv2: the choice of seeds against a naive twin, the bank of learned vectors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trackbench.trackers.layers import hept_queries
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_queries import Group, LearnedQueries, SeededQueries, choose_seeds

SMALL = {
    "inputs": "geometry", "width": 16, "heads": 2, "position_hidden": 12, "embedding": 8, "sectors": 1, "n_queries": 7,
}  # fmt: skip


def clusters(seed, *sizes, spread=0.25, dimension=6):
    """Unit vectors around some directions, shuffled: (n, E) float32."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(len(sizes), dimension))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    points = np.repeat(centre, sizes, axis=0) + rng.normal(0, spread, (sum(sizes), dimension))
    return F.normalize(torch.from_numpy(rng.permutation(points)), dim=-1).float()


def naive_seeds(embedding, similarity, neighbours, most):
    """One hit after the other, by falling number of neighbours, then by place."""
    cosine = embedding.double() @ embedding.double().T
    assert (cosine - similarity).abs().min() > 1e-6  # else the answer depends on rounding
    near = (cosine > similarity).tolist()
    density = [sum(row) for row in near]
    chosen = []
    for place in sorted(range(len(near)), key=lambda place: (-density[place], place)):
        if density[place] >= neighbours and len(chosen) < most and not any(near[seed][place] for seed in chosen):
            chosen.append(place)
    return chosen


def side_by_side(*parts):
    size = max(map(len, parts)) + 2
    valid = torch.arange(size) < torch.tensor([len(part) for part in parts])[:, None]
    return torch.stack([F.pad(part, (0, 0, 0, size - len(part)), value=0.4) for part in parts]), valid


def listed(seeds):
    """Seeds of each group without the places left over, which come last."""
    found = [[seed for seed in row if seed >= 0] for row in seeds.tolist()]
    assert all(row[: len(kept)] == kept for row, kept in zip(seeds.tolist(), found, strict=True))
    return found


@pytest.mark.parametrize("blocks", [None, (2**9, 3)])
@pytest.mark.parametrize("most", [1000, 5])
@pytest.mark.parametrize("neighbours", [1, 3, 6])
@pytest.mark.parametrize("similarity", [0.5, 0.8])
def test_seeds_equal_naive_twin(similarity, neighbours, most, blocks, monkeypatch):
    """Three groups of different lengths at once; also in blocks much smaller than the groups."""
    if blocks:
        monkeypatch.setattr(hept_queries, "_AT_ONCE_CPU", blocks[0])
        monkeypatch.setattr(hept_queries, "_BLOCK", blocks[1])
    parts = [clusters(1, *[6] * 40, *[1] * 60), clusters(2, 30, 20, 4), clusters(3, *[2] * 8)]
    expected = [naive_seeds(part, similarity, neighbours, most) for part in parts]
    embedding, valid = side_by_side(*parts)
    found = choose_seeds(embedding, valid, similarity, neighbours, most)
    assert listed(found) == expected
    assert found.shape == (3, max(map(len, expected)))
    assert max(map(len, expected)) > 1


def test_several_blocks_of_candidates():
    part = clusters(4, *[3] * 400)
    expected = naive_seeds(part, 0.9, 1, 10000)
    assert len(expected) > hept_queries._BLOCK
    assert listed(choose_seeds(part[None], torch.ones(1, 1200, dtype=torch.bool), 0.9, 1, 10000)) == [expected]


def test_seeds_by_hand():
    """Angles in a plane, neighbours within 37 degrees: 20 has three, 0 and 40 two each, 120 and 130 one another."""
    angles = torch.deg2rad(torch.tensor([0.0, 120.0, 40.0, 20.0, 130.0, 200.0]))
    embedding = torch.stack((angles.cos(), angles.sin()), dim=-1)[None]
    valid = torch.ones(1, 6, dtype=torch.bool)
    assert choose_seeds(embedding, valid, 0.8, 1, 9).tolist() == [[3, 1, 5]]  # of two equals the first
    assert choose_seeds(embedding, valid, 0.8, 2, 9).tolist() == [[3, 1]]
    assert choose_seeds(embedding, valid, 0.8, 3, 9).tolist() == [[3]]
    assert choose_seeds(embedding, valid, 0.8, 4, 9).tolist() == [[-1]]


def test_chain_keeps_every_other():
    """Suppressed hits suppress nothing: of a chain of equal densities the first, third, ... remain."""
    angles = torch.deg2rad(30.0 * torch.arange(12))  # a ring: each has two neighbours
    embedding = torch.stack((angles.cos(), angles.sin()), dim=-1)[None]
    found = choose_seeds(embedding, torch.ones(1, 12, dtype=torch.bool), 0.8, 3, 99)
    assert found.tolist() == [[0, 2, 4, 6, 8, 10]]


@pytest.mark.parametrize("n", [0, 1, 50])
def test_equal_hits_give_one_seed(n):
    embedding, valid = F.normalize(torch.ones(1, 60, 4), dim=-1), torch.arange(60)[None] < n
    assert choose_seeds(embedding, valid, 0.8, 3, 9).tolist() == [[0 if n >= 3 else -1]]


def group_of(n_groups=2, size=20, seed=0):
    torch.manual_seed(seed)
    embedding = torch.stack([clusters(number, size // 2, size - size // 2, dimension=8) for number in range(n_groups)])
    valid = torch.ones(n_groups, size, dtype=torch.bool)
    return Group(torch.randn(n_groups, size, 16), torch.randn(n_groups, size, 50), embedding.requires_grad_(), valid)


def test_seeded_queries_are_of_their_hits():
    torch.manual_seed(0)
    queries = SeededQueries(HeptConfig(**SMALL, queries="seeded", seed_neighbours=2))
    group = group_of()
    found = queries(group)
    assert torch.equal(found.valid, found.seeds >= 0)
    assert found.valid.any(1).all()
    for number, seeds in enumerate(listed(found.seeds)):
        assert seeds == naive_seeds(group.embedding[number].detach(), 0.8, 2, 7)
        n = len(seeds)
        torch.testing.assert_close(found.content[number, :n], queries.content(group.hits[number, seeds]))
        torch.testing.assert_close(found.position[number, :n], queries.position(group.positions[number, seeds]))
    (found.content.sum() + found.position.sum()).backward()
    assert group.embedding.grad is None  # the choice has no gradient


def test_learned_queries_are_one_bank():
    torch.manual_seed(0)
    found = LearnedQueries(HeptConfig(**SMALL))(group_of(3))
    assert found.content.shape == found.position.shape == (3, 7, 16)
    assert torch.equal(found.content[0], found.content[2])
    assert found.valid.all()
    assert (found.seeds == -1).all()
