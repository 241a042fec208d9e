"""The network of learned trackers: features of helices, encoder, heads, padding, order of hits."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import toy_event

from trackbench.fitting.helix import helix_points
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.batch import Batch, collate
from trackbench.trackers.layers.encoder import Encoder
from trackbench.trackers.layers.features import GRID, N_FEATURES, HitFeatures, helix_grid
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import NetworkConfig

SMALL = {"width": 16, "heads": 2, "ffn": 24, "layers": 2}
HEADS = {
    "regression": {},
    "classification": {"targets": "none", "classes": 7},
    "embedding": {"targets": "none", "embedding": 5},
    "joint": {"classes": 7, "classifier_layers": 1},
    "joint without latents": {"classes": 7, "classifier_layers": 1, "latents": 0},
    "all on helices": {"inputs": "helix", "classes": 7, "embedding": 5, "norm": "pre", "activation": "gelu"},
}


def network_of(seed=0, **settings):
    torch.manual_seed(seed)
    network = HitNetwork(NetworkConfig(**{**SMALL, **settings})).eval()
    network.set_normalisation(torch.tensor([1.0, -2.0, 3.0]), torch.tensor([80.0, 80.0, 400.0]))
    return network


def events(*sizes):
    return [toy_event(n_tracks=n, n_noise=3, seed=n)[0] for n in sizes]


def n_weights(network):
    return sum(weight.numel() for weight in network.parameters())


# Features


def place(features, q, value):
    """Index of a feature of ``helix_grid``: 0, 1 = cos for q > 0, q < 0; 2, 3 = sin; 4 = eta."""
    return features * len(GRID) + GRID.index(value) + (len(GRID) if q < 0 and features < 4 else 0)


@pytest.mark.parametrize("q", [-1, 1])
@pytest.mark.parametrize("pt", [0.5, 1.0, 2.0])
def test_hits_of_a_helix_share_the_features_of_its_curvature(q, pt):
    """Against the definition of the helix: all hits show the initial azimuth and cot(theta) of the track."""
    phi0, cot = 2.5, -1.7
    points = helix_points(np.array([phi0, q / pt, 0.0, 0.0, cot]), np.linspace(30.0, 900.0, 12))
    curvatures = CURVATURE * torch.tensor(GRID, dtype=torch.float64)
    found = helix_grid(torch.from_numpy(points), curvatures).numpy()
    expected = {0: np.cos(phi0), 2: np.sin(phi0), 4: np.arcsinh(cot)}
    for feature, value in expected.items():
        np.testing.assert_allclose(found[:, place(feature, q, 1 / pt)], value, rtol=0, atol=1e-12)
    # The other charge, or another curvature, does not fit.
    assert np.ptp(found[:, place(2, -q, 1 / pt)]) > 0.05
    assert np.ptp(found[:, place(2, q, 0.25)]) > 0.02


def test_helix_features_by_hand():
    """A hit at (0, 100, 50) mm: phi = pi/2, R = sqrt(12500)."""
    features = HitFeatures("helix")
    features.set_normalisation(torch.tensor([0.0, 10.0, 0.0]), torch.tensor([30.0, 40.0, 100.0]))
    (found,) = features(torch.tensor([[0.0, 100.0, 50.0]])).numpy()
    assert found.shape == (N_FEATURES["helix"],) == (48,)
    expected = [0.0, 1.0, 50 / np.sqrt(12500), np.arcsinh(0.5), 2.0, 0.0, 2.25, 0.5]  # r / hypot(30, 40) = 2
    np.testing.assert_allclose(found[:8], expected, atol=1e-6)
    turn = np.arcsin(0.299792458 * 2 / 2000 * 100 / 0.5)  # q/pT = 2/GeV at r = 100 mm
    np.testing.assert_allclose(found[8 + place(0, 1, 2.0)], np.cos(np.pi / 2 + turn), atol=1e-6)
    np.testing.assert_allclose(found[8 + place(2, -1, 2.0)], np.sin(np.pi / 2 - turn), atol=1e-6)
    path = turn / (0.299792458 * 2 / 2000 / 0.5)
    np.testing.assert_allclose(found[8 + place(4, 1, 2.0)], np.arcsinh(50 / path), atol=1e-6)


def test_positions_are_normalised():
    features = HitFeatures("xyz")
    features.set_normalisation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0]))
    assert features(torch.tensor([[5.0, 10.0, 19.0]])).tolist() == [[2.0, 2.0, 2.0]]
    assert features.size == 3


@pytest.mark.parametrize("kind", ["xyz", "helix"])
def test_extreme_hits_have_finite_features(kind):
    """The origin (padding), the beam line, beyond the reach of the softest helix."""
    xyz = torch.tensor([[0, 0, 0], [0, 0, 3000], [1e-9, 0, -3000], [0, 1100, 0], [1e4, 1e4, 1e4]], dtype=torch.float32)
    found = HitFeatures(kind)(xyz)
    assert found.isfinite().all()
    if kind == "helix":
        assert found[:, :3].abs().max() <= 1.0
        azimuth = found[:, 8 : 8 + 4 * len(GRID)]
        assert azimuth.abs().max() <= 1.0


@pytest.mark.parametrize(
    ("mean", "scale"),
    [([0.0, 0.0], [1.0, 1.0]), ([0.0] * 3, [1.0, 0.0, 1.0]), ([float("nan"), 0.0, 0.0], [1.0] * 3)],
)
def test_bad_normalisation_is_refused(mean, scale):
    with pytest.raises(ValueError, match="expected three numbers each, scale > 0"):
        HitFeatures("xyz").set_normalisation(torch.tensor(mean), torch.tensor(scale))


def test_unknown_inputs_are_refused():
    with pytest.raises(ValueError, match="unknown inputs 'polar'"):
        HitFeatures("polar")


def test_constants_are_part_of_the_state():
    state = network_of(inputs="helix").state_dict()
    assert state["features.mean"].tolist() == [1.0, -2.0, 3.0]
    assert state["features.scale"].tolist() == [80.0, 80.0, 400.0]
    np.testing.assert_allclose(state["features.grid"].numpy(), CURVATURE * np.array(GRID), rtol=1e-6)


# Encoder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 76_484), ({"width": 128, "heads": 4, "ffn": 256, "layers": 7}, 928_388)],
    ids=["10-50 and 50-100", "200-500"],
)
def test_published_number_of_weights(settings, expected):
    assert n_weights(HitNetwork(NetworkConfig(**settings))) == expected


def torch_encoder(config, encoder):
    """torch's own encoder with the weights of ours."""
    layer = nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        config.ffn,
        dropout=config.dropout,
        activation=config.activation,
        batch_first=True,
        norm_first=config.norm == "pre",
    )
    norm = nn.LayerNorm(config.width) if config.norm == "pre" else None
    twin = nn.TransformerEncoder(layer, config.layers, norm=norm, enable_nested_tensor=False).eval()
    names = {
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.qkv.bias": "self_attn.in_proj_bias",
        "attention.out": "self_attn.out_proj",
        "feed_forward.0": "linear1",
        "feed_forward.3": "linear2",
    }
    state = {}
    for name, value in encoder.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    twin.load_state_dict(state, strict=True)
    return twin


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_equals_that_of_torch(norm, activation):
    config = NetworkConfig(**SMALL, norm=norm, activation=activation)
    torch.manual_seed(1)
    encoder = Encoder(config, config.layers).eval()
    with torch.no_grad():
        for weight in encoder.parameters():  # biases and norms away from their start at 0 and 1
            weight += 0.1 * torch.randn_like(weight)
    batch = Batch(torch.zeros(3, 11, 3), torch.tensor([11, 4, 1]))
    x = torch.randn(3, 11, config.width)
    found = encoder(x, AttentionMask.build(config.mask_config, batch))
    expected = torch_encoder(config, encoder)(x, src_key_padding_mask=~batch.valid)
    torch.testing.assert_close(found[batch.valid], expected[batch.valid], rtol=0, atol=1e-5)
    (found[batch.valid] ** 3).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in encoder.parameters())


def test_layers_start_from_different_weights():
    one, two = network_of().encoder.layers
    assert not torch.equal(one.attention.qkv.weight, two.attention.qkv.weight)


def test_dropout_acts_in_training_only():
    batch = collate(events(4))
    network = network_of(dropout=0.5)
    assert torch.equal(network(batch).parameters, network(batch).parameters)
    network.train()
    assert not torch.equal(network(batch).parameters, network(batch).parameters)


# Network


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_outputs(settings):
    network = network_of(**settings)
    batch = collate(events(4, 9))
    found = network(batch)
    shape = batch.xyz.shape[:2]
    assert found.latents.shape == (*shape, 16)
    config = network.config
    for values, size in (
        (found.parameters, 4 if config.targets != "none" else 0),
        (found.logits, config.classes),
        (found.embedding, config.embedding),
    ):
        assert values is None if size == 0 else values.shape == (*shape, size)
    assert all(values.isfinite().all() for values in found if values is not None)
    if found.embedding is not None:
        length = found.embedding[batch.valid].norm(dim=-1)
        torch.testing.assert_close(length, torch.ones_like(length))


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_padding_changes_nothing(settings):
    network = network_of(**settings)
    one, two = events(4, 9)
    alone = network(collate([one]))
    junk = collate([one, two], pad_to=130)
    junk.xyz[~junk.valid] = torch.randn(int((~junk.valid).sum()), 3) * 500
    padded = network(junk)
    for expected, found in zip(alone, padded, strict=True):
        if expected is not None:
            torch.testing.assert_close(found[0, : len(one)], expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_order_of_hits_is_the_order_of_outputs(settings):
    network = network_of(**settings)
    (hits,) = events(9)
    order = np.random.default_rng(0).permutation(len(hits))
    straight, shuffled = network(collate([hits])), network(collate([hits.take(order)]))
    for expected, found in zip(straight, shuffled, strict=True):
        if expected is not None:
            torch.testing.assert_close(found[0], expected[0, order], rtol=0, atol=1e-5)


def test_hits_attend_to_each_other():
    network = network_of()
    (hits,) = events(9)
    alone = network(collate([hits.take(np.arange(1))])).parameters
    assert (network(collate([hits])).parameters[0, 0] - alone[0, 0]).abs().max() > 1e-3


def test_joint_model_classifies_features_detached_parameters_and_latents():
    """The classifier's loss trains the encoder through the latents, and never the regression head."""
    network = network_of(**HEADS["joint"])
    assert network.classifier.input.in_features == 3 + 4 + 4  # 11, as published
    network(collate(events(4))).logits.square().sum().backward()
    assert network.regression.weight.grad is None
    assert network.classifier.latents.weight.grad.abs().max() > 0
    assert network.encoder.layers[0].attention.qkv.weight.grad.abs().max() > 0
    without = network_of(**HEADS["joint without latents"])
    without(collate(events(4))).logits.square().sum().backward()
    assert without.encoder.layers[0].attention.qkv.weight.grad is None
    assert without.classifier.encoder.layers[0].attention.qkv.weight.grad.abs().max() > 0


def test_parameters_of_the_joint_model_reach_the_classifier():
    network, batch = network_of(**HEADS["joint"]), collate(events(4))
    before = network(batch)
    with torch.no_grad():
        network.regression.bias += 1.0
    after = network(batch)
    assert torch.equal(after.latents, before.latents)
    assert not torch.allclose(after.logits, before.logits, atol=1e-4)


@pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)
def test_autocast_keeps_heads_in_full_precision(settings):
    """With bfloat16 the outputs stay float32 and near those of full precision."""
    network, batch = network_of(**settings), collate(events(9))
    expected = network(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(batch)
    for name in ("parameters", "logits", "embedding"):
        values = getattr(found, name)
        if values is not None:
            assert values.dtype == torch.float32
            torch.testing.assert_close(values, getattr(expected, name), rtol=0, atol=0.05)


def test_same_seed_same_network():
    one, two = network_of(seed=3), network_of(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
