"""Losses against slow twins, by hand, and against numerical gradients; padding, noise and empty cases."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trackbench.training.losses import classification_loss, contrastive_loss, regression_loss  # noqa: E402

NAN = float("nan")


def slow_contrastive(embedding, particle, valid, anchor, temperature):
    """L_out by loops over plain numbers."""
    terms = []
    for event in range(len(embedding)):
        rows = [i for i in range(len(particle[event])) if valid[event][i]]
        unit = {i: np.array(embedding[event][i]) / np.linalg.norm(embedding[event][i]) for i in rows}
        for i in rows:
            same = [j for j in rows if j != i and particle[event][j] == particle[event][i] and particle[event][i] >= 0]
            if not same or not anchor[event][i]:
                continue
            total = sum(math.exp(unit[i] @ unit[j] / temperature) for j in rows if j != i)
            logs = [math.log(math.exp(unit[i] @ unit[j] / temperature) / total) for j in same]
            terms.append(-sum(logs) / len(logs))
    return sum(terms) / len(terms) if terms else 0.0


def padded_events(seed=0, s=12):
    """Three events of s, s - 2 and 1 hits; some are noise, some no anchors."""
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(3, s, 4, generator=generator, dtype=torch.float64)
    valid = torch.arange(s) < torch.tensor([s, s - 2, 1])[:, None]
    particle = torch.randint(-1, 4, (3, s), generator=generator)
    anchor = torch.rand(3, s, generator=generator) < 0.7
    return embedding, torch.where(valid, particle, -1), valid, anchor


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_contrastive_equals_the_slow_twin(seed, temperature):
    embedding, particle, valid, anchor = padded_events(seed)
    slow = slow_contrastive(embedding.numpy(), particle.numpy(), valid.numpy(), anchor.numpy(), temperature)
    assert contrastive_loss(embedding, particle, valid, anchor, temperature).item() == pytest.approx(slow, rel=1e-5)


def test_contrastive_by_hand():
    """Two hits of one particle at right angles, one of another along the first; temperature 1."""
    embedding = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]])
    particle = torch.tensor([[0, 0, 1]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    # Hit 0: cosines 0 to its partner, 1 to the other; hit 1: cosines 0, 0; hit 2 has no partner.
    by_hand = (math.log(1 + math.e) + math.log(2)) / 2
    assert contrastive_loss(embedding, particle, valid, valid, 1.0).item() == pytest.approx(by_hand)


def test_contrastive_of_separated_tracks_is_the_entropy_of_the_positives():
    """Perfect embedding at low temperature: all weight on the m positives gives log m."""
    embedding = torch.eye(3).repeat_interleave(4, 0)[None]
    particle = torch.arange(3).repeat_interleave(4)[None]
    valid = torch.ones(1, 12, dtype=torch.bool)
    assert contrastive_loss(embedding, particle, valid, valid, 0.01).item() == pytest.approx(math.log(3), abs=1e-5)


def test_contrastive_gradient_is_right():
    """Against differences of the twin, which works in float64."""
    embedding, particle, valid, anchor = padded_events(1, s=6)
    leaf = embedding.clone().requires_grad_()
    contrastive_loss(leaf, particle, valid, anchor, 0.5).backward()
    step, numeric = 1e-5, torch.zeros_like(embedding)
    for place in np.ndindex(*embedding.shape):
        pair = []
        for sign in (1, -1):
            moved = embedding.clone()
            moved[place] += sign * step
            arrays = (moved.numpy(), particle.numpy(), valid.numpy(), anchor.numpy())
            pair.append(slow_contrastive(*arrays, 0.5))
        numeric[place] = (pair[0] - pair[1]) / (2 * step)
    assert torch.allclose(leaf.grad, numeric, atol=1e-5)
    assert numeric.abs().max() > 0.01


@pytest.mark.parametrize(
    ("particle", "anchors", "lengths"),
    [
        ([[0, 1, 2]], True, [3]),  # particles of one hit each
        ([[-1, -1, -1]], True, [3]),  # noise only: equal numbers are no track
        ([[0, 0, 0]], False, [3]),  # all too slow
        ([[-1, -1, -1]], True, [0]),  # padding only
        ([[0, -1, -1]], True, [1]),  # one hit
    ],
)
def test_contrastive_without_anchor_is_zero_with_a_gradient(particle, anchors, lengths):
    embedding = torch.randn(1, 3, 2).requires_grad_()
    valid = torch.arange(3) < torch.tensor(lengths)[:, None]
    loss = contrastive_loss(embedding, torch.tensor(particle), valid, torch.full((1, 3), anchors))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(embedding.grad, torch.zeros(1, 3, 2))


def test_contrastive_is_safe_at_the_extremes():
    embedding = torch.tensor([[[0.0, 0.0], [1e20, 0.0], [-1e20, 0.0], [1e-20, 0.0]]], requires_grad=True)
    particle, valid = torch.tensor([[0, 0, 1, 1]]), torch.ones(1, 4, dtype=torch.bool)
    loss = contrastive_loss(embedding, particle, valid, valid, 0.005)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(embedding.grad).all()


def test_contrastive_ignores_padding_and_its_content():
    embedding, particle, valid, anchor = padded_events(2)
    reference = contrastive_loss(embedding, particle, valid, anchor, 0.1)
    poisoned = torch.where(valid[..., None], embedding, torch.tensor(NAN, dtype=torch.float64)).requires_grad_()
    loss = contrastive_loss(poisoned, torch.where(valid, particle, 7), valid, anchor | ~valid, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(reference.item())
    assert torch.isfinite(poisoned.grad).all()


def test_noise_repels_tracks():
    """A noise hit on a track costs more than one far away, and is pushed off."""
    valid = torch.ones(1, 3, dtype=torch.bool)
    particle = torch.tensor([[0, 0, -1]])
    near = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [1.0, 0.3]]], requires_grad=True)
    far = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [-1.0, 0.3]]])
    loss = contrastive_loss(near, particle, valid, valid, 0.1)
    loss.backward()
    assert loss > contrastive_loss(far, particle, valid, valid, 0.1) + 0.1
    assert near.grad[0, 2, 1] < 0  # descent raises y, away from the track


def test_contrastive_keeps_float32_under_autocast():
    embedding, particle, valid, anchor = padded_events(3)
    reference = contrastive_loss(embedding.float(), particle, valid, anchor, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrastive_loss(embedding.float(), particle, valid, anchor, 0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mse", (0.0025 + 1.0 + 0.0 + 4.0) / 4), ("smooth_l1", (0.0125 + 0.95 + 0.0 + 1.95) / 4)],
)
def test_regression_by_hand(kind, expected):
    """Differences 0.05, -1, 0 and 2; beta is 0.1."""
    prediction = torch.tensor([[[0.05, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    target = torch.tensor([[[0.0, 1.0], [3.0, 2.0], [NAN, NAN]]])
    mask = torch.tensor([[True, True, False]])
    assert regression_loss(prediction, target, mask, kind).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mse", "smooth_l1"])
def test_regression_gradient_is_finite_beside_masked_nan(kind):
    prediction = torch.randn(2, 3, 4, requires_grad=True)
    target = torch.full((2, 3, 4), NAN)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 0] = True
    target[0, 0] = 0.5
    regression_loss(prediction, target, mask, kind).backward()
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[0, 0] != 0).all()
    assert (prediction.grad[~mask] == 0).all()


def test_classification_equals_the_slow_twin():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 5, 3, generator=generator)
    classes = torch.randint(0, 3, (2, 5), generator=generator)
    mask = torch.rand(2, 5, generator=generator) < 0.6
    classes[~mask] = -1
    terms = []
    for event, hit in zip(*np.nonzero(mask.numpy()), strict=True):
        scores = logits[event, hit].double().exp()
        terms.append(-math.log(scores[classes[event, hit]] / scores.sum()))
    assert classification_loss(logits, classes, mask).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_losses_of_nothing_are_zero_with_a_gradient():
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    for loss in (
        lambda x: regression_loss(x, torch.full((2, 3, 4), NAN), nothing),
        lambda x: regression_loss(x, torch.full((2, 3, 4), NAN), nothing, "smooth_l1"),
        lambda x: classification_loss(x, torch.full((2, 3), -1), nothing),
    ):
        values = torch.randn(2, 3, 4, requires_grad=True)
        result = loss(values)
        result.backward()
        assert result.item() == 0.0
        assert torch.equal(values.grad, torch.zeros(2, 3, 4))
