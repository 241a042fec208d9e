"""HEPT v1: kernel attention, orders, network against slow twins from the formulas; padding, permutations; tracker."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN
from toys import toy_event
from track_checks import assert_valid

from trackbench.errors import ConfigError, InputError
from trackbench.geometry.coordinates import pseudorapidity
from trackbench.trackers.base import Timer, build_config, build_tracker
from trackbench.trackers.layers import kernel_attention as kernel_module
from trackbench.trackers.layers.hept_features import hit_features
from trackbench.trackers.layers.hept_v1 import HeptV1Network, collate, kernel_coordinates
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.kernel_attention import kernel_attention
from trackbench.trackers.layers.weights import save_weights

SMALL = {"inputs": "geometry", "width": 6, "heads": 3, "layers": 2, "rounds": 2, "block": 16, "regions": 0}
SMALL |= {"kernel_terms": 3, "output": 4, "output_hidden": 8, "output_layers": 3}


@pytest.fixture(scope="module")
def hits():
    hits = toy_event(n_tracks=30, n_noise=20, seed=4)[0]
    return hits.take(np.argsort(hits.hit_id))


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return HeptV1Network(HeptV1Config(**{**SMALL, **settings})).eval()


# Kernel attention


def random_inputs(lengths, heads=2, rounds=3, d=5, e=4, seed=0, dtype=torch.float32):
    """q, k, v, orders of queries and of keys (permutations with the real hits first), lengths."""
    rng = np.random.default_rng(seed)
    size = max(lengths)
    q, k, v = (torch.from_numpy(rng.normal(0, 1, (len(lengths), heads, size, n))).to(dtype) for n in (d, d, e))
    orders = np.empty((2, len(lengths), heads, rounds, size), np.int64)
    for which, event, head, r in np.ndindex(orders.shape[:-1]):
        n = lengths[event]
        orders[which, event, head, r] = np.append(rng.permutation(n), n + rng.permutation(size - n))
    return q, k, v, *torch.from_numpy(orders).unbind(0), torch.tensor(lengths)


def slow_attention(q, k, v, q_orders, k_orders, lengths, block):
    """Hit by hit in float64."""
    q, k, v = (tensor.double().numpy() for tensor in (q, k, v))
    found = np.zeros(v.shape)
    for event, n in enumerate(lengths.tolist()):
        for head in range(q.shape[1]):
            above, below = np.zeros(v.shape[2:]), np.zeros(v.shape[2])
            for a, b in zip(q_orders[event, head].tolist(), k_orders[event, head].tolist(), strict=True):
                for place in range(n):
                    first = place // block * block
                    for key in b[first : min(first + block, n)]:
                        weight = math.exp(-0.5 * ((q[event, head, a[place]] - k[event, head, key]) ** 2).sum())
                        above[a[place]] += weight * v[event, head, key]
                        below[a[place]] += weight
            found[event, head, :n] = above[:n] / below[:n, None]
    return found


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_against_loops(block):
    inputs = random_inputs((23, 1, 0, 16))
    np.testing.assert_allclose(kernel_attention(*inputs, block), slow_attention(*inputs, block), atol=2e-6)


def test_one_block_and_one_round_is_dense():
    q, k, v, *_, lengths = inputs = random_inputs((40,), rounds=1)
    weights = torch.exp(-0.5 * torch.cdist(q.double(), k.double()) ** 2)
    expected = weights @ v.double() / weights.sum(-1, keepdim=True)
    np.testing.assert_allclose(kernel_attention(*inputs, 64), expected, atol=1e-6)
    # More rounds over the same block change nothing.
    again = random_inputs((40,), rounds=3)[3:5]
    np.testing.assert_allclose(kernel_attention(q, k, v, *again, lengths, 64), expected, atol=1e-6)


def test_gradients_are_those_of_differences():
    q, k, v, *rest = random_inputs((7, 4), rounds=2, d=3, e=2, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    assert torch.autograd.gradcheck(lambda *parts: kernel_attention(*parts, *rest, 3), leaves)


def test_parts_change_nothing(monkeypatch):
    q, k, v, *rest = random_inputs((23, 9))
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=v.shape)).float()
    results = []
    for at_once in (2**24, 200):
        monkeypatch.setattr(kernel_module, "_AT_ONCE", at_once)
        out = kernel_attention(q, k, v, *rest, 7)
        results.append((out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)))
        with torch.no_grad():
            assert torch.equal(kernel_attention(q, k, v, *rest, 7), out)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))


def test_far_from_zero_distances_keep_their_digits():
    q, k, v, *rest = random_inputs((30,))
    near = kernel_attention(q, k, v, *rest, 10)
    # A multiple of 2^-6: adding it rounds q and k, but only to 2^-12.
    far = kernel_attention(q + 4096.0, k + 4096.0, v, *rest, 10)
    assert torch.allclose(near, far, atol=5e-3)


def test_no_key_in_reach_is_zero_and_has_gradients():
    q, k, v, *rest = random_inputs((12,))
    q = (q + 1000.0).requires_grad_()
    out = kernel_attention(q, k, v, *rest, 5)
    assert (out == 0).all()
    out.sum().backward()
    assert torch.isfinite(q.grad).all()


def test_shapes_that_do_not_fit():
    q, k, v, a, b, lengths = random_inputs((9,))
    for wrong in [(q[:, :, :5], k, v, a, b, lengths, 4), (q, k, v, a[..., :5], b, lengths, 4)]:
        with pytest.raises(ValueError, match="do not fit"):
            kernel_attention(*wrong)
    with pytest.raises(ValueError, match="blocks of 0 do not fit"):
        kernel_attention(q, k, v, a, b, lengths, 0)


# Network


def linear(state, name, x):
    bias = state.get(f"{name}.bias")
    return x @ state[f"{name}.weight"].T + (0 if bias is None else bias)


def layer_norm(state, name, x):
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def slow_layer(state, name, x, coordinates, scale_of):
    """One layer with a single block, in float64: every hit attends to every hit."""
    y = layer_norm(state, f"{name}.norm1", x)
    q, k, v = (linear(state, f"{name}.{part}", y) for part in ("query", "key", "value"))
    scales = state[f"{name}.scales"]  # (heads, width, scales, terms)
    heads, width = scales.shape[:2]
    joined = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        w = np.exp(np.minimum(scales[head].sum(0), 50.0)).sum(-1)
        extra = np.sqrt(2 * w[scale_of]) * coordinates
        a, b = np.hstack((q[:, own], extra)), np.hstack((k[:, own], extra))
        kernel = np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))
        joined.append(kernel @ v[:, own] / kernel.sum(1, keepdims=True))
    x = x + linear(state, f"{name}.out", np.hstack(joined))
    hidden = linear(state, f"{name}.feed_forward.0", layer_norm(state, f"{name}.norm2", x))
    return x + linear(state, f"{name}.feed_forward.2", np.maximum(hidden, 0))


@pytest.mark.parametrize("inputs", ["geometry", "published"])
def test_network_with_one_block_is_the_dense_one(hits, inputs):
    if inputs == "published":
        names = ("charge_frac", "leta", "lphi", "lx", "ly", "lz", "geta", "gphi")
        rng = np.random.default_rng(0)
        hits = dataclasses.replace(hits, features={name: rng.uniform(0.1, 1, len(hits)) for name in names})
    network = build(inputs=inputs, block=1000, rounds=1)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    x = linear(state, "input.2", np.maximum(linear(state, "input.0", hit_features(hits, inputs)[0]), 0))
    eta, phi = pseudorapidity(hits.xyz), np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
    r, z = np.hypot(hits.xyz[:, 0], hits.xyz[:, 1]) / 1000, hits.xyz[:, 2] / 1000
    columns, scale_of = (eta, np.cos(phi), np.sin(phi), r, z), [0, 0, 0, 1, 2]
    if inputs == "published":
        columns, scale_of = (eta, phi, r, phi / np.pi, z, eta), [0, 0, 1, 2, 3, 4]
    states = [x]
    for layer in range(2):
        states.append(slow_layer(state, f"layers.{layer}", states[-1], np.column_stack(columns), scale_of))
    joined = linear(state, "joined", np.hstack(states))
    x = joined
    for number in (0, 3):
        x = np.tanh(layer_norm(state, f"output.{number + 1}", linear(state, f"output.{number}", x)))
    expected = joined + linear(state, "output.6", x)
    with torch.inference_mode():
        found = network(collate([hits], inputs))[0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(expected, axis=0).min() > 0.05


@pytest.mark.parametrize("regions", [0, 12])
def test_orders_of_queries_and_keys(hits, regions):
    """Sorted by cell in phi, cell in eta, and projection; the cells are quantiles, with ranks from 0."""
    network = build(regions=regions)
    layer, batch, n = network.layers[1], collate([hits], "geometry", len(hits) + 9), len(hits)
    rng = np.random.default_rng(1)
    q, k = (torch.from_numpy(rng.normal(size=(1, 3, n + 9, 11))).float() for _ in range(2))
    with torch.no_grad():
        found = layer._orders(q, k, network._cells(batch), batch.valid)
    eta, phi = batch.angles[0, :n].double().numpy().T
    ranks = [np.argsort(np.lexsort(keys)) for keys in ((phi, eta), (eta, phi))]
    factor = 1.0 if regions else math.sqrt(max(1.7 * n / 16, 1.0) / 100)
    for part, orders in zip((q, k), found, strict=True):
        for head, r in np.ndindex(3, 2):
            sizes = network.sizes[head, r].double().numpy() * factor
            cells = [
                rank // math.ceil(3 * n / max(round(3 * size), 3)) for rank, size in zip(ranks, sizes, strict=True)
            ]
            p = part[0, head, :n].double().numpy() @ layer.directions[head, r].double().numpy()
            assert orders[0, head, r, :n].tolist() == np.lexsort((p, *cells)).tolist()
            assert sorted(orders[0, head, r, n:].tolist()) == list(range(n, n + 9))


def test_published_size():
    """329,364 in the source: with 768 biases without effect and 2,928 fixed random numbers, which are no weights."""
    network = HeptV1Network(HeptV1Config())
    fixed = sum(values.numel() for name, values in network.state_dict().items() if "directions" in name)
    assert sum(weights.numel() for weights in network.parameters()) == 329_364 - 768 - 2_928
    assert fixed + network.sizes.numel() == 2_928


@pytest.mark.parametrize("regions", [0, 30])
def test_padding_changes_nothing(hits, regions):
    network = build(regions=regions)
    other, _ = toy_event(n_tracks=60, n_noise=9, seed=8)
    with torch.inference_mode():
        alone = network(collate([hits], "geometry"))[0]
        padded = network(collate([hits], "geometry", len(hits) + 300))
        beside = network(collate([other, hits], "geometry"))[1]
    assert torch.isfinite(padded).all()
    for found in (padded[0], beside):
        np.testing.assert_allclose(found[: len(hits)], alone, atol=1e-5)


def test_permuted_hits_permute_the_output(hits):
    network = build()
    order = np.random.default_rng(2).permutation(len(hits))
    with torch.inference_mode():
        plain, permuted = (network(collate([event], "geometry"))[0] for event in (hits, hits.take(order)))
    np.testing.assert_allclose(permuted, plain[order], atol=1e-5)


def test_the_kernel_has_no_seam_with_geometry_inputs():
    xyz = np.array([[-50.0, 1e-6, 20.0], [-50.0, -1e-6, 20.0]])
    seam = np.ptp(kernel_coordinates(xyz, "published"), axis=0)
    np.testing.assert_allclose(seam, [0, 2 * np.pi, 0, 2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.ptp(kernel_coordinates(xyz, "geometry"), axis=0), 0, atol=1e-6)


def test_scales_are_cut(hits):
    """Weights far above the cut give the output of weights at it, and finite gradients."""
    network, batch = build(), collate([hits], "geometry")
    found = []
    for total in (60.0, 500.0):
        with torch.no_grad():
            network.layers[0].scales.fill_(total / 6)
        found.append(network(batch))
    assert torch.isfinite(found[0]).all() and torch.equal(*found)
    found[1].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_dropout_acts_in_training_only(hits):
    network, batch = build(dropout=0.5), collate([hits], "geometry")
    assert torch.equal(network(batch), network(batch))
    network.train()
    assert not torch.equal(network(batch), network(batch))


def test_autocast_leaves_kernel_and_output_in_full_precision(hits):
    network, batch = build(), collate([hits], "geometry")
    with torch.inference_mode():
        plain = network(batch)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(batch)
    assert low.dtype == torch.float32
    assert 0 < (low - plain).abs().max() < 0.2 * plain.abs().max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": "cells"}, "inputs: value 'cells', expected one of published, geometry"),
        ({"heads": 0}, "heads: value 0, expected >= 1"),
        ({"kernel_terms": 0}, "kernel_terms: value 0, expected >= 1"),
        ({"regions": -1}, "regions: value -1, expected >= 0"),
        ({"dropout": 1.0}, r"dropout: value 1.0, expected in \[0, 1\)"),
    ],
)
def test_bad_settings_of_the_network(settings, message):
    with pytest.raises(ConfigError, match=f"network.{message}"):
        HeptV1Config(**settings)


# Tracker


def tracker_with(path, seed=0, network=None, **settings):
    save_weights(path, "hept", build(seed, **(network or {})), {})
    return build_tracker("hept", {"checkpoint": str(path), "device": "cpu", **settings})


@pytest.mark.parametrize(("eps", "min_samples"), [(0.05, 1), (0.1, 1), (0.05, 3)])
def test_clusters_are_those_of_dbscan(hits, tmp_path, eps, min_samples):
    tracker = tracker_with(tmp_path / "a.pt", eps=eps, min_samples=min_samples, eta_max=9.0)
    with torch.inference_mode():
        points = tracker.network(collate([hits], "geometry"))[0].numpy()
    expected = DBSCAN(eps=eps, min_samples=min_samples).fit(points.astype(float)).labels_
    found = tracker.reconstruct(hits)
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(found.tolist())) == len(set(expected.tolist())) > 1
    assert (found == -1).tolist() == (expected == -1).tolist() and (min_samples > 1) == (-1 in found)


def test_hits_beyond_eta_max_are_not_seen(hits, tmp_path):
    tracker = tracker_with(tmp_path / "a.pt", eta_max=1.5, eps=0.1)
    inside = np.abs(pseudorapidity(hits.xyz)) <= 1.5
    labels = tracker.reconstruct(hits)
    assert 0 < inside.sum() < len(hits) and (labels[~inside] == -1).all()
    np.testing.assert_array_equal(labels[inside], tracker.reconstruct(hits.take(inside)))
    assert_valid(tracker.reconstruct_tracks(hits.take(~inside)), (~inside).sum())


def test_few_hits_and_stages(hits, tmp_path):
    tracker, timer = tracker_with(tmp_path / "a.pt"), Timer()
    for n in (0, 1, 2, 3):
        assert_valid(tracker.reconstruct_tracks(hits.take(np.arange(n)), timer), n)
    assert set(timer.wall) == {"features", "network", "clustering"}
    xyz = hits.xyz.copy()
    xyz[3] = [0.0, 0.0, 500.0]  # on the beam line
    assert tracker.reconstruct(dataclasses.replace(hits, xyz=xyz))[3] == -1


def test_other_weights_and_missing_features(hits, tmp_path):
    tracker = tracker_with(tmp_path / "a.pt", network={"inputs": "published"})
    assert tracker.needs_features and not tracker_with(tmp_path / "b.pt").needs_features
    with pytest.raises(InputError, match="charge_frac"):
        tracker.reconstruct(hits)
    other = build_tracker("heptv2", {"checkpoint": str(tmp_path / "a.pt"), "device": "cpu"})
    with pytest.raises(InputError, match="weights of kind 'hept', expected 'heptv2'"):
        other.reconstruct(hits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 0.0}, "eps: value 0.0, expected a number > 0"),
        ({"eps": math.inf}, "eps: value inf, expected a number > 0"),
        ({"min_samples": 0}, "min_samples: value 0, expected >= 1"),
        ({"eta_max": 0.0}, "eta_max: value 0.0, expected > 0"),
    ],
)
def test_bad_settings_of_the_tracker(settings, message):
    with pytest.raises(ConfigError, match=f"trackers.hept.{message}"):
        build_config("hept", settings)
