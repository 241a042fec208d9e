"""Losses of HEPTv2 against slow twins written from the formulas; padding, empty events and gradients."""

import numpy as np
import pytest
from test_hept_matching import members_of, toy_decoded, toy_truth

torch = pytest.importorskip("torch")

from trackbench.training import nce  # noqa: E402
from trackbench.training.hept_config import HeptLossConfig  # noqa: E402
from trackbench.training.hept_task import hit_loss  # noqa: E402
from trackbench.training.mask_losses import decoder_losses, mask_sums  # noqa: E402
from trackbench.training.matching import Match, Matcher, tracks_of_groups  # noqa: E402
from trackbench.training.nce import nce_loss  # noqa: E402

CONFIG = HeptLossConfig(class_weight=0.7, focal_weight=30.0, dice_weight=2.0)


def losses_of(decoded, particle, track, config=CONFIG):
    tracks = tracks_of_groups(decoded, particle, track)
    matches = Matcher(config, 100)(decoded, tracks)
    return decoder_losses(decoded, tracks, matches, config), matches


def slow_losses(decoded, particle, track, matches):
    """The three terms by loops over levels, groups, pairs and hits, in float64."""
    terms = np.zeros(3)
    for level in decoded.levels:
        for group, match in enumerate(matches):
            n = int((decoded.places[group] >= 0).sum())
            members = members_of(decoded, group, particle, track)
            usable, entropy = decoded.valid[group].nonzero()[:, 0].tolist(), 0.0
            for query in usable:
                wanted = 0 if query in match.query.tolist() else 1
                odds = np.exp(level.classes[group, query].detach().double().numpy())
                entropy -= np.log(odds[wanted] / odds.sum())
            terms[0] += entropy / len(usable) if usable else 0.0
            for query, row in zip(match.query.tolist(), match.track.tolist(), strict=True):
                vector, hits = level.queries[group, query].detach().double(), decoded.hits[group, :n].detach().double()
                p = torch.sigmoid(hits @ vector + decoded.offset.double()).numpy()
                t = np.isin(np.arange(n), members[row]).astype(float)
                focal = -0.25 * (1 - p) ** 2 * np.log(p) * t - 0.75 * p**2 * np.log(1 - p) * (1 - t)
                terms[1] += focal.mean() / len(members)
                terms[2] += (1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)) / len(members)
    return terms * (CONFIG.class_weight, CONFIG.focal_weight, CONFIG.dice_weight) / 2  # two events


def values(terms):
    return np.array([terms[name].item() for name in ("class", "focal", "dice")])


# masks and classes


@pytest.mark.parametrize("n_queries", [5, 2])
def test_decoder_losses_are_those_of_the_formulas(n_queries):
    """Also with fewer queries than tracks: the sum is then over the pairs there are, divided by all tracks."""
    decoded, truth = toy_decoded(n_queries=n_queries), toy_truth()
    found, matches = losses_of(decoded, *truth)
    np.testing.assert_allclose(values(found), slow_losses(decoded, *truth, matches), rtol=1e-5)


def test_gradient_of_the_sums():
    logits = torch.randn(3, 7, dtype=torch.float64, requires_grad=True) * 4
    assert torch.autograd.gradcheck(mask_sums, (logits,))
    extreme = torch.tensor([[-90.0, 90.0, 0.0]], requires_grad=True)
    sum(part.sum() for part in mask_sums(extreme)).backward()
    assert torch.isfinite(extreme.grad).all()


def with_gradients(decoded):
    """The same outputs as leaves, and the leaves."""
    levels = tuple(type(level)(*(part.clone().requires_grad_() for part in level)) for level in decoded.levels)
    made = decoded._replace(
        levels=levels, hits=decoded.hits.clone().requires_grad_(), offset=decoded.offset.clone().requires_grad_()
    )
    return made, [*(part for level in levels for part in level), made.hits, made.offset]


def test_every_level_and_the_hits_learn_but_not_the_padding():
    decoded, leaves = with_gradients(toy_decoded())
    found, _ = losses_of(decoded, *toy_truth())
    sum(found.values()).backward()
    assert all(torch.isfinite(leaf.grad).all() and leaf.grad.any() for leaf in leaves)
    assert not decoded.hits.grad[decoded.places < 0].any()
    assert not any(level.classes.grad[~decoded.valid].any() for level in decoded.levels)
    assert not any(level.queries.grad[~decoded.valid].any() for level in decoded.levels)


def test_padding_changes_no_decoder_loss():
    """More padded hits and queries, whatever they hold, and hits of the padding in no track."""
    decoded, (particle, track) = toy_decoded(), toy_truth()
    before, _ = losses_of(decoded, particle, track)
    junk = lambda values, axis, n: torch.cat((values, 50 * torch.randn_like(values.float()).narrow(axis, 0, n)), axis)  # noqa: E731
    levels = tuple(type(level)(*(junk(part, 1, 3) for part in level)) for level in decoded.levels)
    more = decoded._replace(
        levels=levels,
        hits=junk(decoded.hits, 1, 5),
        valid=torch.nn.functional.pad(decoded.valid, (0, 3)),
        places=torch.nn.functional.pad(decoded.places, (0, 5), value=-1),
    )
    after, _ = losses_of(more, particle, track)
    np.testing.assert_allclose(values(after), values(before), rtol=1e-6)


def test_nothing_to_find_is_finite():
    """Without tracks only the class teaches; without queries nothing does, and gradients are zero, not NaN."""
    particle, track = toy_truth()
    decoded, leaves = with_gradients(toy_decoded())
    found, _ = losses_of(decoded, particle, track & False)
    assert found["focal"].item() == found["dice"].item() == 0 < found["class"].item()
    sum(found.values()).backward()
    assert all(leaf.grad is None or torch.isfinite(leaf.grad).all() for leaf in leaves)
    decoded, leaves = with_gradients(toy_decoded()._replace(valid=torch.zeros(2, 6, dtype=torch.bool)))
    found, _ = losses_of(decoded, particle, track)
    assert values(found).tolist() == [0, 0, 0]
    sum(found.values()).backward()
    assert not any(leaf.grad is not None and leaf.grad.any() for leaf in leaves)


def test_losses_are_in_float32_under_autocast():
    decoded, truth = toy_decoded(), toy_truth()
    alone, _ = losses_of(decoded, *truth)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = losses_of(decoded, *truth)
    assert values(found).tolist() == values(alone).tolist()


def test_perfect_masks_cost_nothing():
    decoded, (particle, track) = toy_decoded(n_hits=(9,), levels=1), toy_truth((9,))
    (tracks,) = tracks_of_groups(decoded, particle, track)
    hits = torch.eye(11)[None]
    queries = torch.full((1, 6, 11), -60.0)
    for query, (places, there) in enumerate(zip(tracks.places, tracks.there, strict=True)):
        queries[0, query, places[there]] = 60.0
    decoded = decoded._replace(
        levels=(decoded.levels[0]._replace(queries=queries),), hits=hits, offset=torch.tensor(0.0)
    )
    pairs = Match(torch.arange(3), torch.arange(3))
    found = decoder_losses(decoded, [tracks], [pairs], CONFIG)
    assert found["focal"].item() < 1e-12 and found["dice"].item() < 1e-6


# InfoNCE


def toy_embedding(seed=1, n_hits=(12, 8, 5), size=12, dim=6):
    """Unit vectors, particles, anchors and valid flags of three events; the last has no anchor."""
    torch.manual_seed(seed)
    embedding = torch.nn.functional.normalize(torch.randn(len(n_hits), size, dim), dim=-1)
    valid = torch.arange(size) < torch.tensor(n_hits)[:, None]
    particle = torch.tensor([0, 0, 1, 1, 1, -1, 2, 4, 4, -1, 4, 4]).expand(len(n_hits), -1).masked_fill(~valid, -1)
    anchor = valid & (particle != 1) & (torch.arange(len(n_hits)) < 2)[:, None]
    return embedding, particle, anchor, valid


def slow_nce(embedding, particle, anchor, valid, temperature, negatives):
    events = []
    for vectors, number, chosen, real in zip(embedding.double(), particle, anchor, valid, strict=True):
        tracks = {}
        for i in np.flatnonzero(chosen):
            others = [j for j in np.flatnonzero(real) if j != i]
            like = {j: float(vectors[i] @ vectors[j]) / temperature for j in others}
            same = [like[j] for j in others if number[j] == number[i]]
            unlike = sorted((like[j] for j in others if number[j] != number[i]), reverse=True)
            if same and number[i] >= 0:
                positive = np.logaddexp.reduce(same)
                both = np.logaddexp.reduce([positive, *unlike[: negatives or None]])
                tracks.setdefault(int(number[i]), []).append(both - positive)
        events.append(np.mean([np.mean(losses) for losses in tracks.values()]) if tracks else 0.0)
    return np.mean(events)


@pytest.mark.parametrize("negatives", [0, 1, 3, 256])
@pytest.mark.parametrize("at_once", [2**24, 1, 30])
def test_nce_is_that_of_the_formula(monkeypatch, negatives, at_once):
    monkeypatch.setattr(nce, "_AT_ONCE", at_once)
    arguments = toy_embedding()
    found = nce_loss(*arguments, 0.3, negatives)
    assert found.item() == pytest.approx(slow_nce(*arguments, 0.3, negatives), rel=1e-5)


@pytest.mark.parametrize("negatives", [0, 3])
def test_nce_in_chunks_has_the_same_gradient(monkeypatch, negatives):
    gradients = []
    for at_once in (2**24, 25):
        monkeypatch.setattr(nce, "_AT_ONCE", at_once)
        embedding, *rest = toy_embedding()
        embedding.requires_grad_()
        nce_loss(embedding, *rest, 0.07, negatives).backward()
        gradients.append(embedding.grad)
    assert gradients[0].any() and not gradients[0][~rest[2]].any()
    torch.testing.assert_close(gradients[0], gradients[1])


def test_nce_never_holds_all_pairs(monkeypatch):
    """No tensor that autograd keeps is as large as anchors x hits."""
    monkeypatch.setattr(nce, "_AT_ONCE", 2000)
    torch.manual_seed(0)
    embedding = torch.nn.functional.normalize(torch.randn(1, 400, 8), dim=-1).requires_grad_()
    particle, real = torch.arange(400)[None] // 8, torch.ones(1, 400, dtype=torch.bool)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss = nce_loss(embedding, particle, real, real, 0.07, 16)
    assert max(kept) <= 400 * 8 * 2
    loss.backward()
    assert torch.isfinite(embedding.grad).all()


def test_nce_padding_and_order_do_not_matter():
    embedding, particle, anchor, valid = toy_embedding()
    wide = [torch.cat((part, part[:, :3]), 1) for part in (embedding, particle, anchor)]
    more = nce_loss(*wide, torch.nn.functional.pad(valid, (0, 3)), 0.1, 4)
    alone = nce_loss(embedding, particle, anchor, valid, 0.1, 4)
    assert more.item() == pytest.approx(alone.item(), rel=1e-6)
    order = torch.randperm(12)
    mixed = [part[:, order] for part in (embedding, particle, anchor, valid)]
    assert nce_loss(*mixed, 0.1, 4).item() == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize("negatives", [0, 4])
@pytest.mark.parametrize("case", ["no anchor", "no hit", "only hit of its particle", "nobody else"])
def test_nce_of_nothing_is_zero(negatives, case):
    embedding, particle, anchor, valid = toy_embedding()
    if case == "no anchor":
        anchor = anchor & False
    elif case == "no hit":
        anchor, valid = anchor & False, valid & False
    elif case == "only hit of its particle":
        anchor = anchor & (particle == 2)
    else:
        particle = torch.where(valid, 0, -1)
    embedding.requires_grad_()
    loss = nce_loss(embedding, particle, anchor, valid, 0.07, negatives)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(embedding.grad).all() and embedding.grad.abs().max() < 1e-5


def test_nce_stays_finite_at_low_temperature():
    embedding, *rest = toy_embedding()
    embedding.requires_grad_()
    loss = nce_loss(embedding, *rest, 0.001, 0)
    loss.backward()
    assert loss.item() == pytest.approx(slow_nce(embedding.detach(), *rest, 0.001, 0), rel=1e-5)
    assert torch.isfinite(embedding.grad).all()


# hit classifier


def test_hit_loss_by_hand():
    logits = torch.tensor([[0.0, 2.0, 77.0], [1.0, float("nan"), float("nan")]], requires_grad=True)
    target = torch.tensor([[True, False, True], [False, True, True]])
    valid = torch.tensor([[True, True, False], [True, False, False]])
    loss = hit_loss(logits, target, valid, 6.0)
    first = (6 * np.log(2) + np.log(1 + np.exp(2))) / 2
    assert loss.item() == pytest.approx((first + np.log(1 + np.exp(1))) / 2, rel=1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[~valid].any()
    assert hit_loss(logits, target, valid & False, 6.0).item() == 0
