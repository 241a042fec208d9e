"""Tasks: networks that fit them, constants, batches, loss terms, the weights file, and eight events learnt by heart."""

import json
from dataclasses import replace

import numpy as np
import pytest
from toys import toy_event

from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.training.config import HEADS, LossConfig

torch = pytest.importorskip("torch")

from trackbench.trackers.layers.latent_clustering import cluster_points  # noqa: E402
from trackbench.trackers.layers.weights import load_weights  # noqa: E402
from trackbench.training.bins import QuantileBins  # noqa: E402
from trackbench.training.targets import hit_targets  # noqa: E402
from trackbench.training.tasks import make_task  # noqa: E402

SMALL = {"width": 8, "heads": 2, "ffn": 8, "layers": 1, "dropout": 0.0}
NETWORKS = {
    "encreg": NetworkConfig(**SMALL, targets="q_over_pt"),
    "enccla": NetworkConfig(**SMALL, targets="none", classes=24),
    "joint": NetworkConfig(**SMALL, classes=24, classifier_layers=1, latents=2),
    "contrastive": NetworkConfig(**SMALL, targets="none", embedding=4),
}
LOSS = LossConfig(n_phi=3, n_theta=2, n_p=2)
TERMS = {
    "encreg": {"regression"},
    "enccla": {"classification"},
    "joint": {"regression", "classification"},
    "contrastive": {"contrastive"},
}


def toy_events(n=3, n_noise=7):
    return [toy_event(n_tracks=5 + 3 * i, n_noise=n_noise, seed=i, event_id=i + 1) for i in range(n)]


def fitted(kind, network=None, loss=LOSS, events=None):
    task = make_task(kind, network or NETWORKS[kind], loss)
    task.fit(iter(toy_events() if events is None else events))
    return task


def built(task, seed=0):
    torch.manual_seed(seed)
    return task.build()


# Which networks fit


def test_each_kind_has_a_fitting_network_and_refuses_the_others():
    assert set(NETWORKS) == set(HEADS)
    for kind in HEADS:
        for other, network in NETWORKS.items():
            if kind == other:
                assert make_task(kind, network, LOSS).kind == kind
            else:
                with pytest.raises(ConfigError, match=f"for task {kind}"):
                    make_task(kind, network, LOSS)


def test_the_embedding_may_have_a_regression_beside_it():
    network = replace(NETWORKS["contrastive"], targets="charge")
    assert make_task("contrastive", network, LOSS).network.targets == "charge"


def test_mistakes_are_told_with_what_to_do():
    with pytest.raises(ConfigError, match=r"network\.targets: value 'none', expected not 'none' for task encreg"):
        make_task("encreg", NETWORKS["contrastive"], LOSS)
    with pytest.raises(ConfigError, match=r"network\.classes: value 24, expected 5400 = 2 n_phi n_theta n_p"):
        make_task("enccla", NETWORKS["enccla"], LossConfig())
    with pytest.raises(ConfigError, match=r"model\.task: value 'encdec', expected one of encreg, enccla"):
        make_task("encdec", NETWORKS["encreg"], LOSS)


# Constants


def test_normalisation_is_over_all_hits_of_all_events():
    events = toy_events()
    task = fitted("encreg", events=events)
    xyz = np.concatenate([hits.xyz for hits, _ in events])
    network = built(task)
    assert network.mean.numpy() == pytest.approx(xyz.mean(axis=0), rel=1e-6)
    assert network.scale.numpy() == pytest.approx(xyz.std(axis=0), rel=1e-6)


def test_a_constant_coordinate_is_not_divided_by_zero():
    hits, truth = toy_event(n_tracks=5)
    flat = replace(hits, xyz=np.column_stack([hits.xyz[:, :2], np.full(len(hits), 123.4)]))
    task = fitted("encreg", events=[(flat, truth)])
    assert task.scale[2] == 1.0
    assert task.mean[2] == pytest.approx(123.4)


def test_fit_reads_the_events_once():
    events = toy_events()
    seen = []
    task = make_task("joint", NETWORKS["joint"], LOSS)
    task.fit(event for event in events if not seen.append(event))
    assert len(seen) == len(events)
    assert task.bins == QuantileBins.fit([truth for _, truth in events], 3, 2, 2)


@pytest.mark.parametrize("kind", NETWORKS)
def test_constants_travel_as_json(kind):
    task = fitted(kind)
    other = make_task(kind, NETWORKS[kind], LOSS)
    other.load_constants(json.loads(json.dumps(task.constants())))
    assert other.constants() == task.constants()
    events = toy_events(2)
    first, second = (t.losses(built(t), t.collate(events, None)) for t in (task, other))
    assert {name: value.item() for name, value in first.items()} == {name: v.item() for name, v in second.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.0, 1.0]},
        {"scale": "wide"},
        {"bins": None},
        {"bins": {"phi": [], "theta": [], "p": []}},
        {"mean": None},
    ],
)
def test_wrong_constants_are_refused(change):
    constants = fitted("enccla").constants()
    task = make_task("enccla", NETWORKS["enccla"], LOSS)
    with pytest.raises(InputError):
        task.load_constants({**constants, **change})
    with pytest.raises(InputError, match="no constants"):
        task.build()


def test_bins_in_a_regression_are_refused():
    values = {**fitted("encreg").constants(), "bins": fitted("enccla").constants()["bins"]}
    with pytest.raises(InputError, match="those of encreg"):
        make_task("encreg", NETWORKS["encreg"], LOSS).load_constants(values)


# Batches


def test_batch_holds_each_hit_beside_its_truth():
    events = toy_events()
    task = fitted("joint", events=events)
    batch = task.collate(events, None)
    for row, (hits, truth) in enumerate(events):
        n, noise = len(hits), truth.particle_id == 0
        assert batch.hits.lengths[row] == n
        assert batch.hits.xyz[row, :n].numpy() == pytest.approx(hits.xyz, rel=1e-6)
        ids = truth.particles["particle_id"].to_numpy()[batch.particle[row, :n].numpy()]
        assert (np.where(noise, 0, ids) == truth.particle_id).all()
        assert (batch.signal[row, :n].numpy() == ~noise).all()
        targets = hit_targets(truth, "charge")
        assert (batch.targets[row, :n].numpy() == np.where(noise[:, None], 0.0, targets)).all()
        assert (batch.classes[row, :n].numpy() == task.bins.classes(truth)).all()
        pt = truth.particles["pt"].to_numpy()[batch.particle[row, :n].numpy()]
        assert batch.pt[row, :n].numpy() == pytest.approx(np.where(noise, 0.0, pt))
        for values, fill in ((batch.particle, -1), (batch.pt, 0), (batch.targets, 0), (batch.classes, -1)):
            assert (values[row, n:] == fill).all()


def test_batch_holds_only_what_the_heads_need():
    batch = fitted("contrastive").collate(toy_events(), None)
    assert batch.targets is None
    assert batch.classes is None
    assert batch.hits.clusters is None
    assert fitted("encreg").collate(toy_events(), None).classes is None


def test_batch_goes_to_a_device_as_a_whole():
    batch = fitted("joint").collate(toy_events(), None).to("meta")
    parts = (batch.hits.xyz, batch.hits.lengths, batch.particle, batch.pt, batch.targets, batch.classes)
    assert {part.device.type for part in parts} == {"meta"}


def test_cluster_mask_gets_the_projection_clusters():
    network = replace(NETWORKS["contrastive"], mask="cluster", mask_clusterer="grid_window")
    events = toy_events()
    task = fitted("contrastive", network, LossConfig(rotate=True, flip=True))
    batch = task.collate(events, np.random.default_rng(0))
    assert batch.hits.clusters.shape == batch.particle.shape
    assert (batch.hits.clusters == task.collate(events, None).hits.clusters).all()
    assert batch.hits.clusters.max() >= 1
    assert torch.isfinite(sum(task.losses(built(task), batch).values()))


def test_augmentation_moves_hits_and_truth_together_and_only_if_asked():
    events = toy_events(n_noise=0)
    plain = fitted("encreg").collate(events, np.random.default_rng(0))
    varied_task = fitted("encreg", loss=replace(LOSS, rotate=True, flip=True, mirror=True))
    assert (varied_task.collate(events, None).hits.xyz == plain.hits.xyz).all()
    varied = varied_task.collate(events, np.random.default_rng(0))
    assert (varied.hits.xyz - plain.hits.xyz).abs().max() > 10
    assert (varied_task.collate(events, np.random.default_rng(0)).hits.xyz == varied.hits.xyz).all()
    valid = varied.hits.valid
    # Fast tracks from the beam line point at their hits, whatever was done to the event.
    direction = torch.nn.functional.normalize(varied.hits.xyz[..., :2], dim=-1)
    cosine = direction[..., 1] * varied.targets[..., 1] + direction[..., 0] * varied.targets[..., 2]
    assert cosine[valid].min() > 0.9
    assert (varied.targets[..., 3].abs() - plain.targets[..., 3].abs())[valid].abs().max() < 1e-6


@pytest.mark.parametrize("make", [lambda: toy_event(n_tracks=0, n_noise=5), lambda: toy_event(n_tracks=0, n_noise=0)])
def test_events_without_tracks_or_hits_are_refused(make):
    bad = make()
    task = fitted("encreg")
    with pytest.raises(InputError, match=r"event 1: no (hits|track)"):
        task.collate([*toy_events(), bad], None)
    with pytest.raises(InputError, match=r"event 1: no (hits|track)"):
        fitted("enccla", events=[bad])


def test_no_event_is_refused():
    with pytest.raises(InputError, match="training split: no event"):
        fitted("encreg", events=[])
    with pytest.raises(InputError, match="no event"):
        fitted("encreg").collate([], None)


# Losses


@pytest.mark.parametrize("kind", NETWORKS)
def test_terms_have_gradients_and_do_not_see_padding(kind):
    events = toy_events()
    task = fitted(kind)
    network = built(task)
    together = task.losses(network, task.collate(events[:1], None))
    assert set(together) == TERMS[kind]
    sum(together.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert any((p.grad != 0).any() for p in network.parameters() if p.grad is not None)
    padded = task.collate(events, None)
    alone = replace_rows(padded, slice(0, 1))
    for name, value in task.losses(network, alone).items():
        assert value.item() == pytest.approx(together[name].item(), rel=1e-4)


def replace_rows(batch, rows):
    """The batch with some of its events, padding as it was."""
    hits = replace(batch.hits, xyz=batch.hits.xyz[rows], lengths=batch.hits.lengths[rows])
    names = ("particle", "pt", "targets", "classes")
    parts = {name: getattr(batch, name) for name in names}
    return replace(batch, hits=hits, **{name: None if v is None else v[rows] for name, v in parts.items()})


def test_weights_of_the_terms():
    events = toy_events()
    joint = [fitted("joint", loss=replace(LOSS, classification_weight=weight)) for weight in (1.0, 0.3)]
    full, third = (task.losses(built(task), task.collate(events, None)) for task in joint)
    assert third["classification"].item() == pytest.approx(0.3 * full["classification"].item())
    assert third["regression"].item() == full["regression"].item()
    network = replace(NETWORKS["contrastive"], targets="q_over_pt")
    both = [fitted("contrastive", network, replace(LOSS, regression_weight=weight)) for weight in (1.0, 0.5)]
    full, half = (task.losses(built(task), task.collate(events, None)) for task in both)
    assert set(full) == {"contrastive", "regression"}
    assert half["regression"].item() == pytest.approx(0.5 * full["regression"].item())
    assert half["contrastive"].item() == full["contrastive"].item()


def test_noise_has_no_influence_on_regression_and_classes():
    events = toy_events()
    task = fitted("joint")
    network, batch = built(task), task.collate(events, None)
    changed = replace(
        batch,
        targets=torch.where(batch.signal[..., None], batch.targets, float("nan")),
        classes=torch.where(batch.signal, batch.classes, 5),
    )
    before, after = task.losses(network, batch), task.losses(network, changed)
    assert {name: value.item() for name, value in after.items()} == {name: v.item() for name, v in before.items()}


def test_slow_particles_are_no_anchors():
    events = toy_events()
    losses = []
    for pt_min in (0.0, 1.0, 1e9):
        task = fitted("contrastive", loss=replace(LOSS, pt_min=pt_min))
        losses.append(task.losses(built(task), task.collate(events, None))["contrastive"].item())
    assert losses[2] == 0.0
    assert 0.0 < losses[1] != losses[0]


# Weights files


@pytest.mark.parametrize("kind", NETWORKS)
def test_saved_weights_carry_constants_and_facts(kind, tmp_path):
    task = fitted(kind)
    network = built(task).eval()
    task.save(tmp_path / "weights.pt", network, {"label": "toy", "steps": 3})
    loaded, facts = load_weights(tmp_path / "weights.pt", [kind])
    assert facts["label"] == "toy"
    assert facts["steps"] == 3
    assert ("bins" in facts) == (kind in ("enccla", "joint"))
    if "bins" in facts:
        assert QuantileBins.from_dict(facts["bins"]) == task.bins
    assert torch.equal(loaded.mean, network.mean)
    batch = task.collate(toy_events(), None)
    for before, after in zip(network(batch.hits), loaded(batch.hits), strict=True):
        assert (before is None and after is None) or torch.equal(before, after)


# Learning


def learn(task, events, steps, rate):
    """Minimise the loss of one batch with a rising and falling learning rate."""
    network, batch = built(task), task.collate(events, None)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    history = []
    for _ in range(steps):
        loss = sum(task.losses(network, batch).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        history.append(loss.item())
    return network.eval(), history


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_few_steps_reduce_the_loss(kind):
    network = replace(NETWORKS[kind], inputs="helix", norm="pre")
    _, history = learn(fitted(kind, network), toy_events(2), 40, 1e-2)
    assert history[-1] < 0.9 * history[0]


@pytest.mark.slow
def test_eight_events_are_learnt_by_heart():
    """TrackML score above 0.95 on the events of the training: 10 to 50 tracks each, contrastive embedding."""
    events = [toy_event(int(n), n_noise=0, seed=int(n), event_id=i + 1) for i, n in enumerate(np.linspace(10, 50, 8))]
    network = NetworkConfig(
        inputs="helix",
        width=48,
        heads=4,
        ffn=96,
        layers=4,
        dropout=0.0,
        norm="pre",
        activation="gelu",
        targets="none",
        embedding=16,
    )
    task = fitted("contrastive", network, LossConfig(temperature=0.1), events)
    model, _ = learn(task, events, 150, 3e-3)
    with torch.no_grad():
        embedding = model(task.collate(events, None).hits).embedding.double().numpy()
    scores = []
    for points, (hits, truth) in zip(embedding, events, strict=True):
        labels = cluster_points(points[: len(hits)], "hdbscan", min_cluster_size=2, min_samples=1)
        scores.append(evaluate_event(labels, truth).value("trackml_score"))
    assert np.mean(scores) > 0.95
