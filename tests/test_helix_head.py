"""The regression head that measures curvature from pairs of hits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trackbench.errors import ConfigError
from trackbench.fitting.helix import helix_points
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.attention import attention
from trackbench.trackers.layers.batch import Batch
from trackbench.trackers.layers.helix_head import LEVER, HelixHead, path_factor
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import PT_SCALE, MaskConfig, NetworkConfig
from trackbench.trackers.layers.pairs import MAX_Q_OVER_PT, hit_pairs, pair_bias, pair_curvatures

NETWORK = NetworkConfig(
    inputs="helix", width=16, heads=2, ffn=16, layers=1, dropout=0, targets="q_over_pt", head="helix"
)
WIDTH = NETWORK.vertex_width
PATHS = np.array([33.0, 73.0, 117.0, 173.0, 261.0, 362.0])


def track(phi0, q_over_pt, z0, cot):
    """Hits of a track from the beam line, (6, 3) [mm]."""
    return helix_points(np.array([phi0, q_over_pt, 0.0, z0, cot]), PATHS)


def pairs_of(one, other, vertex_width=WIDTH):
    given = [torch.tensor(points, dtype=torch.float64)[None] for points in (one, other)]
    return [part[0].numpy() for part in pair_curvatures(*given, vertex_width)[:2]]


@pytest.mark.parametrize("q_over_pt", [-4.0, -1.0, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("phi0", [-3.1, 0.4, 3.0])
def test_two_hits_of_a_helix_give_its_curvature(phi0, q_over_pt):
    hits = track(phi0, q_over_pt, z0=3.0, cot=1.2)
    found, trust = pairs_of(hits, hits)
    other = ~np.eye(len(hits), dtype=bool)
    np.testing.assert_allclose(found[other], q_over_pt, atol=1e-9)
    # z0 = 3 mm; the path is a series, good to 1e-4 for these tracks, and the division is regularised by 2 mm.
    np.testing.assert_allclose(trust[other], np.exp(-((3 / 20) ** 2)), rtol=5e-3)
    assert (trust[~other] == 0).all() and (found[~other] == 0).all()


def test_implausible_pairs_are_not_trusted():
    one = np.array([[50.0, 0.0, 10.0]])
    behind, sharp, displaced = [-60.0, 5.0, 10.0], [50.0, 40.0, 10.0], [100.0, 0.0, 200.0]
    found, trust = pairs_of(one, np.array([behind, sharp, displaced]))
    # sharp: sin(angle) / distance / C, about 2,600 mm -> beyond the limit
    sine = 40.0 / np.hypot(50, 40)
    assert sine / 40.0 / CURVATURE > MAX_Q_OVER_PT
    assert (found[0, :2] == 0).all() and (trust[0, :2] == 0).all()
    assert found[0, 2] == 0 and trust[0, 2] < 1e-20  # radial, so no bend, but from z0 = -180 mm


@pytest.mark.parametrize(("sigma_z", "vertex_width"), [(5.5, 20.0), (55.0, 200.0)])
def test_width_of_the_vertices(sigma_z, vertex_width):
    """A track from two sigma: exp(-(2 sigma_z / w)^2), 0.739 for both lengths of the beam spot."""
    hits = track(0.3, 0.5, z0=2 * sigma_z, cot=0.5)
    other = ~np.eye(len(hits), dtype=bool)
    expected = np.exp(-((2 * sigma_z / vertex_width) ** 2))
    assert expected == pytest.approx(0.739, abs=1e-3)
    np.testing.assert_allclose(pairs_of(hits, hits, vertex_width)[1][other], expected, rtol=5e-3)


def test_width_of_the_vertices_reaches_head_and_bias():
    xyz = torch.tensor(track(0.3, 0.5, z0=60.0, cot=0.5), dtype=torch.float32)[None]
    batch = Batch(xyz, torch.tensor([6]))
    for config in (NETWORK, replace(NETWORK, targets="none", head="linear", embedding=3, pair_bias=True)):
        found = []
        for vertex_width in (20.0, 200.0):
            torch.manual_seed(1)
            network = HitNetwork(replace(config, vertex_width=vertex_width)).eval()
            network.set_normalisation(torch.zeros(3), torch.tensor([150.0, 150.0, 150.0]))
            found.append(next(part for part in network(batch)[1:] if part is not None))
        assert (found[0] - found[1]).abs().max() > 1e-4
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"network\.vertex_width: value .*, expected a number > 0 mm"):
            NetworkConfig(vertex_width=wrong)


def test_pairs_are_symmetric():
    hits = np.random.default_rng(0).normal(size=(20, 3)) * 200
    found, trust = pairs_of(hits, hits)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(trust, trust.T)


@pytest.mark.parametrize("q_over_pt", [-2.9, -1.0, 0.0, 1e-4, 0.3, 2.0])
@pytest.mark.parametrize("cot", [-1.5, 0.0, 0.8])
def test_theta_is_exact_on_a_helix(q_over_pt, cot):
    """With the right q/pT theta is that of the track, not that of the straight line through the hit."""
    hits = track(-1.0, q_over_pt, 0.0, cot)
    xyz = torch.tensor(hits)[None]
    head = HelixHead(8).double()
    with torch.no_grad():
        head.correction.bias[0] = q_over_pt / PT_SCALE  # without partners the vote is 0
    latents = torch.zeros(1, 6, 8, dtype=torch.float64)
    found = head(latents, xyz, hit_pairs(xyz, WIDTH), torch.eye(6, dtype=torch.bool)[None])[0].detach().numpy()
    np.testing.assert_allclose(found[:, 3], q_over_pt / PT_SCALE)
    np.testing.assert_allclose(found[:, 0], np.arctan2(1, cot), rtol=1e-12)
    off = np.abs(straight_line(hits)[0] - np.arctan2(1, cot)).max()
    assert (off > 5e-4) == (abs(q_over_pt) >= 1 and cot != 0)


def test_path_factor_by_hand():
    sine = torch.tensor([0.0, 0.5, -0.5, 0.00999, 0.01001, 1e-30, 0.95], dtype=torch.float64, requires_grad=True)
    factor = path_factor(sine)
    exact = [1.0, np.pi / 3, np.pi / 3, *(np.arcsin(x) / x for x in (0.00999, 0.01001)), 1.0, np.arcsin(0.95) / 0.95]
    np.testing.assert_allclose(factor.detach().numpy(), exact, rtol=1e-13)
    factor.sum().backward()
    assert sine.grad[0] == 0 and sine.grad.isfinite().all()
    # (x / sqrt(1 - x^2) - asin x) / x^2
    assert sine.grad[1].item() == pytest.approx((0.5 / np.sqrt(0.75) - np.pi / 6) / 0.25)


def test_an_absurd_bend_stays_finite():
    xyz = torch.tensor(track(0.5, 1.0, 0.0, 0.3), dtype=torch.float32)[None]
    head = HelixHead(8)
    with torch.no_grad():
        head.correction.bias[0] = 1e4
    found = head(torch.zeros(1, 6, 8), xyz, hit_pairs(xyz, WIDTH), torch.ones(1, 6, 6, dtype=torch.bool))
    found.sum().backward()
    assert found.isfinite().all() and all(weight.grad.isfinite().all() for weight in head.parameters())
    assert found[..., 0].min() >= 0 and found[..., 0].max() <= np.pi


def straight_line(xyz):
    x, y, z = xyz.T
    radius = np.hypot(x, y)
    return np.arctan2(radius, z), y / radius, x / radius


def test_without_partners_the_answer_is_the_straight_line():
    hits = track(0.5, 1.0, 0.0, 0.3)
    xyz = torch.tensor(hits, dtype=torch.float32)[None]
    head = HelixHead(8)
    latents = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
    for allowed in (torch.zeros(1, 6, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)[None]):
        found = head(latents, xyz, hit_pairs(xyz, WIDTH), allowed)[0].detach().numpy()
        theta, sin_phi, cos_phi = straight_line(hits)
        if allowed.any():
            np.testing.assert_allclose(found[:, 0], theta, rtol=1e-5)
            np.testing.assert_allclose(found[:, 1:3], np.column_stack([sin_phi, cos_phi]), atol=1e-5)
            assert (found[:, 3] == 0).all()


def test_hits_of_one_track_vote_for_its_parameters():
    """Without training, weights of equal partners come from the lever arm: the vote is drawn to 0 by the own vote."""
    hits = track(-1.0, 2.0, 0.0, 0.8)
    xyz = torch.tensor(hits, dtype=torch.float32)[None]
    head = HelixHead(8)
    with torch.no_grad():
        for layer in (head.query, head.key):
            layer.weight.zero_()
            layer.bias.zero_()
    everybody = torch.ones(1, 6, 6, dtype=torch.bool)
    found = head(torch.zeros(1, 6, 8), xyz, hit_pairs(xyz, WIDTH), everybody)[0].detach().numpy()
    _, agreement = pairs_of(hits, hits)
    distance = np.hypot(*(hits[:, None, :2] - hits[None, :, :2]).transpose(2, 0, 1))
    weight = agreement * distance / (distance + LEVER) + 1e-6
    weight[np.arange(6), np.arange(6)] = 1e-6 * np.exp(6.0)
    expected = (weight * 2.0 * (1 - np.eye(6))).sum(1) / weight.sum(1) / 2.5
    np.testing.assert_allclose(found[:, 3], expected, rtol=1e-4)
    # q/pT = 2 found to within a percent gives the initial angles of the track.
    np.testing.assert_allclose(found[:, 0], np.arctan2(1, 0.8), atol=5e-4)
    np.testing.assert_allclose(np.arctan2(found[:, 1], found[:, 2]), -1.0, atol=5e-3)


def test_many_hits_are_worked_off_in_parts(monkeypatch):
    xyz = torch.tensor(np.random.default_rng(1).normal(size=(2, 30, 3)) * 200, dtype=torch.float32)
    whole = hit_pairs(xyz, WIDTH)
    monkeypatch.setattr("trackbench.trackers.layers.pairs._CHUNK", 7)
    for part, all_at_once in zip(hit_pairs(xyz, WIDTH), whole, strict=True):
        torch.testing.assert_close(part, all_at_once)


def test_bias_is_added_to_the_logits_of_what_the_mask_allows():
    rng = np.random.default_rng(3)
    xyz = torch.tensor(rng.normal(size=(2, 9, 3)) * 200, dtype=torch.float32)
    batch = Batch(xyz, torch.tensor([9, 6]))
    q, k, v = torch.tensor(rng.normal(size=(3, 2, 2, 9, 4)))
    for kind in ("padding", "cone"):
        mask = AttentionMask.build(MaskConfig(kind=kind), batch)
        bias = pair_bias(hit_pairs(xyz, WIDTH), heads=2).double()
        assert (bias[:, 0] == 0).all() and bias[:, 1].max() > 1
        logits = (q @ k.transpose(2, 3) / 2 + bias).masked_fill(~mask.dense(), float("-inf"))
        expected = torch.nan_to_num(logits.softmax(dim=-1)) @ v
        torch.testing.assert_close(attention(q, k, v, mask, bias=bias), expected)
    with pytest.raises(ConfigError, match="'varlen' adds nothing to the logits, but the network has pair_bias"):
        attention(q, k, v, mask, "varlen", bias=bias)


@pytest.mark.parametrize("biased", [False, True])
def test_network_with_the_head_trains_and_ignores_padding(biased):
    torch.manual_seed(2)
    network = HitNetwork(replace(NETWORK, pair_bias=biased))
    xyz = torch.tensor(np.random.default_rng(2).normal(size=(1, 12, 3)) * 200, dtype=torch.float32)
    short = network(Batch(xyz, torch.tensor([12]))).parameters
    padded = torch.cat([xyz, torch.zeros(1, 5, 3)], dim=1)
    long = network(Batch(padded, torch.tensor([12]))).parameters
    torch.testing.assert_close(long[:, :12], short, atol=1e-5, rtol=1e-5)
    long[:, :12].square().sum().backward()
    gradients = [weight.grad for weight in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert network.regression.query.weight.grad.abs().sum() > 0


def test_head_needs_q_over_pt():
    with pytest.raises(ConfigError, match=r"network\.head: value 'helix', expected linear, or helix with"):
        NetworkConfig(head="helix", targets="charge")
