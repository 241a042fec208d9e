"""Attention masks against slow twins written from the formulas, and the backends against each other."""

import math

import numpy as np
import pytest
import torch

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError
from trackbench.trackers.layers import flex_blocks
from trackbench.trackers.layers.attention import BACKENDS, attention, resolve_backend
from trackbench.trackers.layers.batch import Batch, collate
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network_config import MaskConfig

CONFIGS = {
    "padding": MaskConfig("padding"),
    "cluster": MaskConfig("cluster"),
    "cone": MaskConfig("cone", radius=0.7),
    "small_cone": MaskConfig("cone", radius=1e-3),
    "window": MaskConfig("phi_window", window=9),
    "wide_window": MaskConfig("phi_window", window=1000),
    "sector": MaskConfig("phi_sector", sectors=8, overlap=0.2),
    "bare_sector": MaskConfig("phi_sector", sectors=5, overlap=0.0),
    "one_sector": MaskConfig("phi_sector", sectors=1, overlap=0.0),
    "all_sector": MaskConfig("phi_sector", sectors=3, overlap=3.2),
}
LENGTHS = (0, 1, 5, 131, 77)


def event_of(xyz, event_id=0):
    """Hits at the given positions."""
    n = len(xyz)
    number = np.arange(n)
    return Hits(number, np.asarray(xyz, float).reshape(n, 3), number, number, number, np.ones(n, bool), {}, event_id)


def ragged_batch(lengths=LENGTHS, seed=0, pad_to=None):
    """Events of random hits in clusters of very different sizes; about a fifth of the hits is in none."""
    rng = np.random.default_rng(seed)
    events, clusters = [], []
    for event_id, n in enumerate(lengths):
        phi, eta, r = rng.uniform(-np.pi, np.pi, n), rng.normal(0, 1.5, n), rng.uniform(30, 1000, n)
        events.append(event_of(np.column_stack((r * np.cos(phi), r * np.sin(phi), r * np.sinh(eta))), event_id))
        clusters.append(np.minimum(rng.geometric(0.15, n), 20) * 7 - 14)
    return collate(events, [np.where(labels < 0, -1, labels) for labels in clusters], pad_to)


def build(name, batch):
    return AttentionMask.build(CONFIGS[name], batch)


def wrapped(angle):
    return math.remainder(angle, 2 * math.pi)


def allowed(config, xyz, labels, q, k):
    """The rule of a kind for hits q and k of one event, from the formulas."""
    phi = [math.atan2(y, x) for x, y, _ in xyz]
    if config.kind == "padding":
        return True
    if config.kind == "cluster":
        return q == k or (labels[q] >= 0 and labels[q] == labels[k])
    if config.kind == "cone":
        eta = [math.asinh(xyz[i][2] / math.hypot(*xyz[i][:2])) for i in (q, k)]
        return math.hypot(eta[0] - eta[1], wrapped(phi[q] - phi[k])) < config.radius
    if config.kind == "phi_window":
        order = sorted(range(len(xyz)), key=lambda i: phi[i])
        distance = abs(order.index(q) - order.index(k))
        return min(distance, len(xyz) - distance) <= config.window
    centres = [-math.pi + (s + 0.5) * 2 * math.pi / config.sectors for s in range(config.sectors)]
    centre = min(centres, key=lambda c: abs(wrapped(phi[q] - c)))
    return abs(wrapped(phi[k] - centre)) < math.pi / config.sectors + config.overlap


def slow_dense(config, batch):
    """(B, S, S) bool by Python loops."""
    n_events, size = batch.xyz.shape[:2]
    dense = torch.zeros(n_events, size, size, dtype=torch.bool)
    for event, length in enumerate(batch.lengths.tolist()):
        xyz = batch.xyz[event, :length].double().tolist()
        labels = batch.clusters[event].tolist()
        for q in range(length):
            for k in range(length):
                dense[event, q, k] = allowed(config, xyz, labels, q, k)
    return dense


def projections(batch, heads=2, width=8, seed=0):
    """Random q, k, v (B, H, S, E) that need gradients."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch.xyz.shape[:2], heads, width)
    return [torch.randn(shape, generator=generator).transpose(1, 2).requires_grad_() for _ in range(3)]


def naive_attention(q, k, v, dense):
    """softmax(q k / sqrt(E)) v in float64, rows without a key are 0."""
    if q.shape[2] == 0:
        return torch.zeros_like(v, dtype=torch.float64)
    score = (q.double() @ k.double().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    weight = torch.exp(score - score.amax(-1, keepdim=True)) * dense[:, None]
    return (weight / weight.sum(-1, keepdim=True).clamp(min=1e-300)) @ v.double()


@pytest.mark.parametrize("name", CONFIGS)
def test_rule_against_its_formula(name):
    batch = ragged_batch((0, 1, 5, 43, 30))
    mask = build(name, batch)
    slow = slow_dense(CONFIGS[name], batch)
    assert torch.equal(mask.dense()[:, 0], slow)
    valid = batch.valid
    assert torch.equal(slow.any(-1), valid)
    assert torch.equal(slow.diagonal(dim1=1, dim2=2), valid)  # each real hit attends to itself


@pytest.mark.parametrize("name", CONFIGS)
def test_rule_is_a_mask_mod(name):
    """``create_mask`` of PyTorch, which calls it with its own tensors, gives the dense mask."""
    from torch.nn.attention.flex_attention import create_mask

    batch = ragged_batch((17, 40))
    mask = build(name, batch)
    assert torch.equal(create_mask(mask.rule, 2, None, 40, 40, device="cpu"), mask.dense())


@pytest.mark.parametrize("name", CONFIGS)
def test_groups_cover_each_hit_once(name):
    batch = ragged_batch()
    mask = build(name, batch)
    groups = mask.groups()
    if not mask.partition:
        assert groups is None
        assert mask.plan is None
        return
    dense = torch.zeros_like(mask.dense()[:, 0])
    seen = torch.zeros_like(batch.valid, dtype=torch.int64)
    for event, queries, keys in groups:
        assert len(queries)
        dense[event, queries[:, None], keys] = True
        seen[event, queries] += 1
    assert torch.equal(dense, mask.dense()[:, 0])
    assert torch.equal(seen, batch.valid.long())


def backends_for(name):
    partition = build(name, ragged_batch((2,))).partition
    return [backend for backend in BACKENDS if partition or backend != "varlen"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lengths", [LENGTHS, (40, 40), (0,), (300,)])
def test_backends_agree(name, lengths):
    batch = ragged_batch(lengths)
    mask = build(name, batch)
    q, k, v = (tensor.detach() for tensor in projections(batch))
    expected = naive_attention(q, k, v, mask.dense()[:, 0])
    for backend in backends_for(name):
        found = attention(q, k, v, mask, backend)
        assert found.shape == q.shape
        assert torch.allclose(found.double(), expected, rtol=0, atol=1e-5), backend
        assert (found.transpose(1, 2)[~batch.valid] == 0).all(), backend


@pytest.mark.parametrize("name", ["padding", "cluster", "sector", "bare_sector"])
def test_gradients_of_sdpa_and_varlen_agree(name):
    batch = ragged_batch()
    mask = build(name, batch)
    weight = torch.randn(batch.xyz.shape[0], 2, batch.xyz.shape[1], 8, generator=torch.Generator().manual_seed(5))
    gradients = []
    for backend in ("sdpa", "varlen"):
        tensors = projections(batch)
        (attention(*tensors, mask, backend) * weight).sum().backward()
        gradients.append([tensor.grad for tensor in tensors])
    for first, second in zip(*gradients, strict=True):
        assert torch.isfinite(first).all()
        assert torch.allclose(first, second, rtol=0, atol=1e-5)
        assert first.abs().max() > 0.1


def test_noise_attends_to_itself_only():
    batch = ragged_batch((50,))
    noise = torch.nonzero(batch.clusters[0] < 0).squeeze(1)
    assert len(noise) > 3
    mask = build("cluster", batch)
    assert torch.equal(mask.dense()[0, 0, noise], torch.eye(50, dtype=torch.bool)[noise])
    q, k, v = projections(batch)
    for backend in ("sdpa", "varlen"):
        assert torch.allclose(attention(q, k, v, mask, backend)[0, :, noise], v[0, :, noise], atol=1e-6)


def test_azimuth_wraps_around():
    """Hits just below +pi and just above -pi are neighbours for each rule of azimuth."""
    phi = np.array([math.pi - 0.01, -math.pi + 0.01, 0.0, 0.01, -2.0, 2.0])
    batch = collate([event_of(np.column_stack((100 * np.cos(phi), 100 * np.sin(phi), np.zeros(6))))])
    cone = AttentionMask.build(MaskConfig("cone", radius=0.0201), batch).dense()[0, 0]
    window = AttentionMask.build(MaskConfig("phi_window", window=1), batch).dense()[0, 0]
    sector = AttentionMask.build(MaskConfig("phi_sector", sectors=4, overlap=0.02), batch).dense()[0, 0]
    expected_cone = torch.eye(6, dtype=torch.bool)
    expected_cone[[0, 1, 2, 3], [1, 0, 3, 2]] = True
    assert torch.equal(cone, expected_cone)
    # In azimuth order: 1 4 2 3 5 0, and round again.
    assert [torch.nonzero(row).squeeze(1).tolist() for row in window] == [
        [0, 1, 5],
        [0, 1, 4],
        [2, 3, 4],
        [2, 3, 5],
        [1, 2, 4],
        [0, 3, 5],
    ]
    # Sectors [-pi, -pi/2), [-pi/2, 0), [0, pi/2), [pi/2, pi), each 0.02 wider on both sides.
    assert [torch.nonzero(row).squeeze(1).tolist() for row in sector] == [
        [0, 1, 5],
        [0, 1, 4],
        [2, 3],
        [2, 3],
        [0, 1, 4],
        [0, 1, 5],
    ]


def test_hits_at_phi_of_pi_and_on_the_beam_line():
    xyz = [[-100.0, 0.0, 0.0], [-100.0, -0.0, 0.0], [0.0, 0.0, 50.0], [0.0, 0.0, 60.0], [0.0, 0.0, 0.0]]
    batch = collate([event_of(xyz)], [np.full(5, -1)])
    for name in CONFIGS:
        dense = build(name, batch).dense()[0, 0]
        assert dense.diagonal().all(), name
    cone = build("small_cone", batch).dense()[0, 0]
    assert cone[0, 1]  # +pi and -pi are one direction
    assert cone[2, 3]
    assert not cone[2, 4]


@pytest.mark.parametrize("name", CONFIGS)
def test_more_padding_changes_nothing(name):
    batch, padded = ragged_batch((5, 60)), ragged_batch((5, 60), pad_to=150)
    small, large = build(name, batch), build(name, padded)
    assert torch.equal(large.dense()[:, :, :60, :60], small.dense())
    assert large.dense().sum() == small.dense().sum()
    q, k, v = (tensor.detach() for tensor in projections(batch))
    # Whatever stands in the padding must not matter.
    more = [torch.cat([tensor, torch.full((2, 2, 90, 8), 1e3)], dim=2) for tensor in (q, k, v)]
    for backend in backends_for(name):
        found = attention(*more, large, backend)
        assert torch.allclose(found[:, :, :60], attention(q, k, v, small, backend), atol=1e-6), backend
        assert (found[:, :, 60:] == 0).all(), backend


@pytest.mark.parametrize("name", CONFIGS)
def test_order_of_the_hits_does_not_matter(name):
    batch = ragged_batch((60,))
    turn = torch.from_numpy(np.random.default_rng(3).permutation(60))
    other = Batch(batch.xyz[:, turn], batch.lengths, batch.clusters[:, turn])
    assert torch.equal(build(name, other).dense(), build(name, batch).dense()[:, :, turn][..., turn])


@pytest.mark.parametrize("name", CONFIGS)
def test_sorted_blocks(name):
    batch = ragged_batch((0, 300, 131))
    mask = build(name, batch)
    order = mask.order()
    assert torch.equal(order.sort(dim=1).values, torch.arange(300).expand(3, 300))
    assert torch.equal(batch.valid.gather(1, order), batch.valid)  # padding stays last
    dense = torch.zeros(3, 384, 384, dtype=torch.bool)
    for event in range(3):
        dense[event, :300, :300] = mask.dense()[event, 0, order[event]][:, order[event]]
    expected = dense.view(3, 3, 128, 3, 128).sum(dim=(2, 4))
    assert torch.equal(mask.block_counts(), expected)
    assert mask.block_counts().sum() == mask.dense().sum()


def test_sorting_leaves_few_blocks():
    """32 clusters of 64 hits in random order: sorted they fill the 16 blocks of the diagonal, unsorted all 256."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(32), 64))
    batch = collate([event_of(np.ones((2048, 3)))], [labels])
    counts = AttentionMask.build(MaskConfig("cluster"), batch).block_counts()[0]
    assert torch.equal(counts, torch.diag(torch.full((16,), 2 * 64 * 64)))
    rng = np.random.default_rng(1)
    phi, eta = rng.uniform(-np.pi, np.pi, 2048), rng.normal(0, 1.5, 2048)
    batch = collate([event_of(np.column_stack((np.cos(phi), np.sin(phi), np.sinh(eta))))])
    for config, most in [
        (MaskConfig("phi_sector", sectors=8, overlap=0.1), 80),
        (MaskConfig("phi_window", window=128), 48),
        (MaskConfig("cone", radius=0.3), 100),
    ]:
        occupied = (AttentionMask.build(config, batch).block_counts() > 0).sum()
        assert occupied <= most, (config, occupied)


def test_block_mask_is_that_of_pytorch():
    from torch.nn.attention.flex_attention import create_block_mask

    mask = build("cluster", ragged_batch((256, 200)))
    fields = mask.sorted_fields()
    theirs = create_block_mask(mask.rule_on(fields), 2, None, 256, 256, device="cpu")
    assert torch.equal(mask.flex.block_mask.to_dense(), theirs.to_dense())
    assert mask.flex.block_mask.sparsity() == theirs.sparsity()


def test_block_masks_are_kept_by_content():
    flex_blocks.forget()
    first, again, other = ragged_batch((40, 30)), ragged_batch((40, 30)), ragged_batch((40, 30), seed=1)
    mask = build("cone", first).flex.block_mask
    assert build("cone", again).flex.block_mask is mask
    assert build("cone", other).flex.block_mask is not mask
    assert build("small_cone", first).flex.block_mask is not mask
    for seed in range(2, 2 + flex_blocks.KEPT):
        build("cone", ragged_batch((40, 30), seed=seed)).flex  # noqa: B018
    assert len(flex_blocks._kept) == flex_blocks.KEPT
    assert build("cone", first).flex.block_mask is not mask  # gone


def test_built_once_for_all_layers():
    mask = build("sector", ragged_batch())
    assert mask.dense() is mask.dense()
    assert mask.plan is mask.plan
    assert mask.flex is mask.flex
    assert mask.order() is mask.order()


@pytest.mark.parametrize(
    ("backend", "kind", "device", "needs_grad", "expected"),
    [
        ("auto", "padding", "cpu", True, "varlen"),
        ("auto", "cluster", "cpu", False, "varlen"),
        ("auto", "phi_sector", "cpu", True, "varlen"),
        ("auto", "cone", "cpu", True, "sdpa"),
        ("auto", "phi_window", "cpu", False, "sdpa"),
        ("auto", "cone", "cuda", True, "flex"),
        ("auto", "padding", "cuda", False, "flex"),
        ("auto", "cone", "mps", True, "sdpa"),
        ("sdpa", "cluster", "cuda", True, "sdpa"),
        ("varlen", "padding", "cuda", True, "varlen"),
        ("flex", "cone", "cpu", False, "flex"),
        ("flex", "cone", "cuda", True, "flex"),
    ],
)
def test_choice_of_the_backend(backend, kind, device, needs_grad, expected):
    assert resolve_backend(backend, kind, device, needs_grad) == expected


def test_flex_cannot_train_on_the_cpu():
    batch = ragged_batch((20,))
    mask = build("cone", batch)
    tensors = projections(batch)
    message = r"attention backend: 'flex' cannot train on cpu: .*#169224.*; use auto, varlen or sdpa"
    with pytest.raises(ConfigError, match=message):
        attention(*tensors, mask, "flex")
    with torch.no_grad():
        assert torch.allclose(attention(*tensors, mask, "flex"), attention(*tensors, mask, "sdpa"), atol=1e-5)
    assert attention(*tensors, mask).requires_grad  # auto falls back to an equal backend


@pytest.mark.parametrize("kind", ["cone", "phi_window"])
def test_varlen_needs_groups(kind):
    with pytest.raises(ConfigError, match=f"'varlen' cannot compute the mask '{kind}'.*padding, cluster, phi_sector"):
        resolve_backend("varlen", kind, "cpu", False)


def test_wrong_input():
    with pytest.raises(ConfigError, match="attention backend: 'flash' is not known, expected one of auto, sdpa"):
        resolve_backend("flash", "padding", "cpu", False)
    batch = ragged_batch((4,))
    with pytest.raises(InputError, match="cluster mask: the batch has no clusters"):
        build("cluster", Batch(batch.xyz, batch.lengths))


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 0), (1, 128), (128, 128), (129, 256), (2047, 2048), (2049, 2304), (5000, 5120), (9999, 10240)],
)
def test_padded_sizes(size, padded):
    assert flex_blocks.padded_size(size) == padded


def test_few_padded_sizes():
    sizes = [flex_blocks.padded_size(size) for size in range(1, 130_000, 7)]
    assert all(size % 128 == 0 for size in sizes)
    assert all(
        padded <= max(1.125 * size, size + 128) for size, padded in zip(range(1, 130_000, 7), sizes, strict=True)
    )
    assert len(set(sizes)) < 70


@pytest.mark.slow
def test_compiled_flex_agrees():
    """One compilation serves both events: they are padded to the same size."""
    for n_hits in (300, 350):
        batch = ragged_batch((n_hits,))
        mask = build("cone", batch)
        q, k, v = (tensor.detach() for tensor in projections(batch))
        found = attention(q, k, v, mask, "flex", compiled=True)
        assert torch.allclose(found, attention(q, k, v, mask, "sdpa"), atol=1e-5)
