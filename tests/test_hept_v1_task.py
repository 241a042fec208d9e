"""The task of HEPT v1: pairs and loss against slow twins, bad events, training to files, one event learnt by heart."""

import math
from dataclasses import replace

import numpy as np
import pytest
from toy_tasks import write_toy_sample
from toys import toy_event

from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.trackers.base import build_tracker
from trackbench.training.config import TrainingConfig, settings_classes

torch = pytest.importorskip("torch")

from trackbench.trackers.layers.hept_config import HeptConfig  # noqa: E402
from trackbench.trackers.layers.hept_v1_config import HeptV1Config  # noqa: E402
from trackbench.trackers.layers.weights import load_weights  # noqa: E402
from trackbench.training.hept_v1_config import HeptV1LossConfig  # noqa: E402
from trackbench.training.neighbour_nce import find_pairs, pair_nce_loss  # noqa: E402
from trackbench.training.optimizer import make_optimizer  # noqa: E402
from trackbench.training.run import TrainingFiles, TrainingJob, train_model  # noqa: E402
from trackbench.training.tasks import make_task  # noqa: E402

SMALL = {"inputs": "geometry", "width": 12, "heads": 2, "layers": 2, "rounds": 2, "block": 32, "regions": 0}
SMALL |= {"kernel_terms": 3, "output": 8, "output_hidden": 16, "output_layers": 3}
NETWORK, LOSS = HeptV1Config(**SMALL), HeptV1LossConfig()


def toy_events(n=2, **settings):
    return [toy_event(n_tracks=9 + 4 * i, n_noise=9, seed=i, event_id=i + 1, **settings) for i in range(n)]


def built(task, seed=0):
    torch.manual_seed(seed)
    return task.build()


def noise_only(event):
    """The same hits, none of a particle."""
    hits, truth = event
    return hits, Truth(truth.hit_id, truth.particle_id * 0, truth.weight * 0, truth.particles, truth.event_id)


def one_hit(event):
    hits, truth = event
    first = np.arange(1)
    return hits.take(first), Truth(truth.hit_id[first], truth.particle_id[first], truth.weight[first], truth.particles)


# Settings


def test_settings_and_task_of_the_kind():
    classes = settings_classes("hept")
    assert (classes["network"], classes["loss"]) == (HeptV1Config, HeptV1LossConfig)
    task = make_task("hept", NETWORK, LOSS)
    assert task.kind == "hept" and task.betas == (0.9, 0.999)
    with pytest.raises(ConfigError, match="settings HeptConfig, expected HeptV1Config for task hept"):
        make_task("hept", HeptConfig(), LOSS)
    for name in ("flip", "mirror"):
        with pytest.raises(ConfigError, match=rf"loss\.{name}: value True, expected False with inputs 'published'"):
            make_task("hept", HeptV1Config(), HeptV1LossConfig(**{name: True}))
    for name in ("radius", "sigma", "temperature"):
        with pytest.raises(ConfigError, match=rf"loss\.{name}: value 0, expected > 0"):
            HeptV1LossConfig(**{name: 0})
    with pytest.raises(ConfigError, match=r"loss\.neighbours: value 0, expected >= 1"):
        HeptV1LossConfig(neighbours=0)


# Pairs


def slow_pairs(angles, particle, target, radius, neighbours):
    """Anchors with the sets of their mates and of the others, hit by hit."""
    found = {}
    for i in range(len(angles)):
        mates = {j for j in range(len(angles)) if j != i and particle[j] == particle[i] >= 0}
        if not target[i] or not mates:
            continue
        turn = np.abs(angles[:, 1] - angles[i, 1])
        distance = np.hypot(angles[:, 0] - angles[i, 0], np.minimum(turn, 2 * np.pi - turn))
        near = [j for j in np.argsort(distance) if j != i and distance[j] <= radius][:neighbours]
        found[i] = (mates, {int(j) for j in near if particle[j] != particle[i] or particle[j] < 0})
    return found


@pytest.mark.parametrize(("radius", "neighbours"), [(0.5, 256), (1.0, 20), (20.0, 1000), (0.01, 256), (1.0, 1)])
def test_pairs_against_loops(radius, neighbours):
    rng = np.random.default_rng(3)
    n = 150
    angles = np.column_stack((rng.normal(0, 1, n), rng.uniform(-np.pi, np.pi, n)))
    particle = rng.integers(-1, 25, n)
    target = (particle >= 0) & (particle % 2 == 0)
    pairs = find_pairs(angles, particle, target, radius, neighbours)
    expected = slow_pairs(angles, particle, target, radius, neighbours)
    assert pairs.anchor.tolist() == sorted(expected)
    for anchor, mates, others in zip(*pairs, strict=True):
        assert set(mates[mates >= 0].tolist()) == expected[anchor][0]
        assert (mates >= 0).sum() == len(expected[anchor][0])
        assert set(others[others >= 0].tolist()) == expected[anchor][1]
        assert (others >= 0).sum() == len(expected[anchor][1])
    seam = np.abs(angles[pairs.anchor, 1]) > 3
    assert seam.any()


def test_pairs_of_hits_at_one_point():
    angles, particle = np.zeros((6, 2)), np.array([0, 0, 1, -1, 2, 2])
    pairs = find_pairs(angles, particle, particle >= 0, 1.0, 2)
    assert pairs.anchor.tolist() == [0, 1, 4, 5]
    assert pairs.others.shape == (4, 2)
    assert all(anchor not in others for anchor, others in zip(pairs.anchor, pairs.others, strict=True))


def test_no_anchor():
    pairs = find_pairs(np.zeros((3, 2)), np.array([-1, 0, 1]), np.array([False, True, True]), 1.0, 256)
    assert [len(part) for part in pairs] == [0, 0, 0]


# Loss


def slow_loss(points, particle, pairs, sigma, temperature):
    """One event, pair by pair in float64."""
    by_particle = {}
    similar = lambda a, b: math.exp(-np.linalg.norm(points[a] - points[b]) / (2 * sigma**2)) / temperature  # noqa: E731
    for anchor, mates, others in zip(*pairs, strict=True):
        repulsion = sum(math.exp(similar(anchor, other)) for other in others if other >= 0)
        for mate in mates[mates >= 0]:
            attraction = math.exp(similar(anchor, mate))
            loss = -math.log(attraction / (attraction + repulsion))
            by_particle.setdefault(particle[anchor], []).append(loss)
    return np.mean([np.mean(losses) for losses in by_particle.values()])


def test_loss_against_loops():
    """Two events side by side, the shorter one padded, and particles of different numbers of hits."""
    events = [toy_event(n_tracks=50 + 20 * i, n_noise=30, seed=i) for i in range(2)]
    task = make_task("hept", NETWORK, replace(LOSS, radius=1.5, neighbours=30, sigma=0.6, temperature=0.2))
    batch = task.collate(events, None)
    points = torch.randn(*batch.hits.valid.shape, 5, generator=torch.Generator().manual_seed(1))
    pairs = (batch.anchor, batch.mates, batch.others)
    expected = []
    for row, (_, truth) in enumerate(events):
        real = batch.anchor[row] >= 0
        own = [part[row][real].numpy() for part in pairs]
        assert (own[2] >= 0).any(axis=1).all() and (own[2] < 0).any()
        expected.append(slow_loss(points[row].double().numpy(), truth.particle_id, own, 0.6, 0.2))
    assert pair_nce_loss(points, pairs, 0.6, 0.2).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert expected[0] != pytest.approx(expected[1], rel=1e-3)


def test_anchors_are_hits_of_targets():
    (event,) = toy_events(1, pt_min=0.6)
    truth, particles = event[1], event[1].particles.set_index("particle_id")
    batch = make_task("hept", NETWORK, LOSS).collate([event], None)
    size = {number: (truth.particle_id == number).sum() for number in particles.index}
    wanted = [
        place
        for place, number in enumerate(truth.particle_id)
        if number and size[number] > 1 and particles.pt[number] >= 0.9 and particles.n_layers[number] >= 3
    ]
    assert batch.anchor[0].tolist() == wanted and 0 < len(wanted) < (truth.particle_id > 0).sum()


def test_points_on_top_of_each_other_have_gradients():
    """All hits at one point: every similarity is the largest, -log(1 / (1 + others))."""
    task = make_task("hept", NETWORK, LOSS)
    batch = task.collate(toy_events(1), None)
    points = torch.zeros(*batch.hits.valid.shape, 4, requires_grad=True)
    loss = pair_nce_loss(points, (batch.anchor, batch.mates, batch.others), 0.75, 0.05)
    loss.backward()
    assert torch.isfinite(points.grad).all()
    alone = batch.others.new_full(batch.others.shape, -1)
    lonely = pair_nce_loss(torch.randn_like(points), (batch.anchor, batch.mates, alone), 0.75, 0.05)
    assert loss.item() > 1 and lonely.item() == 0


# Batches and bad events


def test_symmetries_need_a_generator():
    events = toy_events(1)
    task = make_task("hept", NETWORK, replace(LOSS, flip=True, mirror=True))
    plain = task.collate(events, None)
    turned = [task.collate(events, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert torch.equal(turned[0].hits.features, turned[1].hits.features)
    assert not torch.equal(turned[0].hits.features, turned[2].hits.features)
    assert not torch.equal(plain.hits.positions, turned[0].hits.positions)
    sets = [{tuple(sorted(row)) for row in batch.others[0].tolist()} for batch in (plain, turned[0])]
    assert sets[0] == sets[1]  # the same neighbours: distances stay, across the seam too


def test_terms_are_means_over_events_and_padding_changes_none():
    events = toy_events()
    task = make_task("hept", NETWORK, LOSS)
    network = built(task).eval()
    together = task.losses(network, task.collate(events, None))["nce"].item()
    alone = [task.losses(network, task.collate([event], None))["nce"].item() for event in events]
    assert together == pytest.approx(np.mean(alone), rel=1e-4)


def test_all_weights_learn():
    task = make_task("hept", NETWORK, LOSS)
    network = built(task)
    (term,) = task.losses(network, task.collate(toy_events(), None)).values()
    term.backward()
    for name, p in network.named_parameters():
        assert torch.isfinite(p.grad).all() and p.grad.any(), name


@pytest.mark.parametrize("change", [noise_only, one_hit])
def test_events_without_pairs_count_as_zero(change):
    events = toy_events()
    task = make_task("hept", NETWORK, LOSS)
    network = built(task).eval()
    bad = change(events[0])
    (term,) = task.losses(network, task.collate([bad], None)).values()
    assert term.item() == 0
    term.backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())
    whole, half = (
        task.losses(network, task.collate(chosen, None))["nce"] for chosen in ([events[1]], [bad, events[1]])
    )
    assert half.item() == pytest.approx(whole.item() / 2, rel=1e-4)


def test_events_that_cannot_be_trained_on():
    events = toy_events()
    task = make_task("hept", NETWORK, LOSS)
    with pytest.raises(InputError, match="training split: no event"):
        task.fit(iter([]))
    with pytest.raises(InputError, match=r"no hit of a particle with pt >= 0\.9 GeV and 3 layers in 1 events"):
        task.fit([noise_only(events[0])])
    empty = (events[0][0].take(np.arange(0)), events[0][1])
    for call in (lambda: task.fit([empty]), lambda: task.collate([empty], None)):
        with pytest.raises(InputError, match="event 1: no hits, expected events with hits"):
            call()
    with pytest.raises(InputError, match=r"event 1: \d+ hits, truth of \d+"):
        task.collate([(events[0][0], events[1][1])], None)
    with pytest.raises(InputError, match=r"network\.inputs to geometry"):
        make_task("hept", HeptV1Config(), LOSS).fit(events)
    task.fit([*events, noise_only(events[1])])
    with pytest.raises(InputError, match="constants of the training"):
        task.load_constants({"mean": [0, 0, 0]})


# What it is for


def test_trained_to_files_that_the_tracker_reads(tmp_path):
    """On the shared loop, with dropout: the same bytes twice."""
    index = write_toy_sample(tmp_path, (4, 3), 1, tracks=lambda k: 8 + k % 5)
    blocks = {"network": {**SMALL, "dropout": 0.1}, "training": {"steps": 4, "batch_size": 2, "validate_every": 2}}
    job = TrainingJob("hept", blocks, 5, 1, "hept", "toys")
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files = TrainingFiles(*(tmp_path / name / end for end in ("w.pt", "h.csv", "f.json", "w.training")))
        facts = train_model(index, index.with_name("manifest.json"), job, files)
        written.append((tmp_path / name / "w.pt").read_bytes())
    assert written[0] == written[1]
    network, found = load_weights(tmp_path / "a/w.pt", ("hept",))
    assert network.config == HeptV1Config(**SMALL) and found["task"] == "hept"
    assert facts["parameters"] == sum(p.numel() for p in network.parameters())
    tracker = build_tracker("hept", {"checkpoint": str(tmp_path / "a/w.pt"), "device": "cpu"})
    assert tracker.reconstruct(toy_events(1)[0][0]).max() >= 0


def test_one_event_is_learnt_by_heart(tmp_path):
    event = toy_event(n_tracks=40, n_noise=20, seed=1, pt_min=0.9)
    task = make_task("hept", replace(NETWORK, width=16, output=12, dropout=0.0), replace(LOSS, rotate=False))
    task.fit([event])
    made, batch = built(task), task.collate([event], None)
    optimizer = make_optimizer(made, TrainingConfig(learning_rate=1e-2), task.betas)
    losses = []
    for _ in range(120):
        optimizer.zero_grad(set_to_none=True)
        (term,) = task.losses(made, batch).values()
        term.backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        losses.append(term.item())
    assert losses[-1] < losses[0] / 10
    task.save(tmp_path / "w.pt", made, {})
    settings = {"checkpoint": str(tmp_path / "w.pt"), "device": "cpu", "eps": 0.4, "eta_max": 9.0}
    result = evaluate_event(build_tracker("hept", settings).reconstruct(event[0]), event[1])
    assert result.value("dm") > 0.95
    assert result.value("fake_rate") == 0
