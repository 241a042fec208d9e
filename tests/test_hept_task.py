"""The task of HEPTv2: settings, truth in batches, symmetries, terms, bad events, and one event learnt by heart."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from toys import toy_event

from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.geometry.detector import ALL_LAYERS, layer_index, mirrored_layers
from trackbench.geometry.layers import layer_table
from trackbench.training.config import LossConfig, TrainingConfig, settings_classes

torch = pytest.importorskip("torch")

from trackbench.trackers.layers.assignment import assign  # noqa: E402
from trackbench.trackers.layers.hept_config import HeptConfig  # noqa: E402
from trackbench.trackers.layers.network_config import NetworkConfig  # noqa: E402
from trackbench.trackers.layers.weights import load_weights  # noqa: E402
from trackbench.training.hept_config import HeptLossConfig  # noqa: E402
from trackbench.training.hept_task import HeptTask, matching_share  # noqa: E402
from trackbench.training.optimizer import make_optimizer  # noqa: E402
from trackbench.training.tasks import make_task  # noqa: E402

SMALL = {"width": 16, "heads": 2, "ffn": 16, "layers": 1, "position_hidden": 16, "embedding": 8, "embedding_layers": 2}
SMALL |= {"embedding_hidden": 16, "rounds": 2, "block": 32, "regions": 0, "decoder_layers": 1, "n_queries": 40}
NETWORK = HeptConfig(**SMALL, inputs="geometry", queries="seeded", sectors=2)
LOSS = HeptLossConfig(class_weight=1.0, focal_weight=20.0)
TERMS = ["hit", "nce", "class", "focal", "dice"]


def toy_events(n=2, n_noise=9, **settings):
    return [toy_event(n_tracks=9 + 4 * i, n_noise=n_noise, seed=i, event_id=i + 1, **settings) for i in range(n)]


def built(task, seed=0):
    torch.manual_seed(seed)
    return task.build()


def noise_only(event):
    """The same hits, none of a particle."""
    hits, truth = event
    return hits, Truth(truth.hit_id, truth.particle_id * 0, truth.weight * 0, truth.particles, truth.event_id)


def values(terms):
    return {name: value.item() for name, value in terms.items()}


# Settings


def test_settings_and_task_of_the_kind():
    classes = settings_classes("heptv2")
    assert (classes["network"], classes["loss"], classes["training"]) == (HeptConfig, HeptLossConfig, TrainingConfig)
    task = make_task("heptv2", NETWORK, LOSS)
    assert isinstance(task, HeptTask) and task.kind == "heptv2" and task.betas == (0.9, 0.95)
    with pytest.raises(ConfigError, match="settings HeptConfig, expected NetworkConfig for task encreg"):
        make_task("encreg", NETWORK, LossConfig())
    with pytest.raises(ConfigError, match="settings NetworkConfig, expected HeptConfig for task heptv2"):
        make_task("heptv2", NetworkConfig(), LOSS)
    with pytest.raises(ConfigError, match="settings LossConfig, expected HeptLossConfig for task heptv2"):
        make_task("heptv2", NETWORK, LossConfig())


@pytest.mark.parametrize("name", ["flip", "mirror"])
def test_cells_allow_no_mirrors(name):
    with pytest.raises(ConfigError, match=rf"loss\.{name}: value True, expected False with inputs 'published'; or "):
        make_task("heptv2", HeptConfig(), HeptLossConfig(**{name: True}))
    assert make_task("heptv2", NETWORK, HeptLossConfig(**{name: True}))


# Truth in batches


def test_flags_are_those_of_the_truth():
    loss = replace(LOSS, decoder_pt_min=0.6)
    events = toy_events(3, pt_min=0.55)
    batch = make_task("heptv2", NETWORK, loss).collate(events, None)
    assert batch.particle.shape == batch.target.shape == batch.track.shape == tuple(batch.hits.valid.shape)
    seen = np.zeros((2, 2), bool)
    for row, (_, truth) in enumerate(events):
        particles = truth.particles.set_index("particle_id")
        for place, number in enumerate(truth.particle_id):
            flags = (batch.target[row, place].item(), batch.track[row, place].item())
            if number == 0:
                assert batch.particle[row, place] == -1 and flags == (False, False)
                continue
            one = particles.loc[number]
            long, here = one.n_layers >= 3, (truth.particle_id == number).sum()
            assert flags == (one.pt >= 0.9 and long, one.pt >= 0.6 and long and here >= 2)
            assert (batch.particle[row] == batch.particle[row, place]).sum() == here
            seen[flags] = True
        assert (batch.particle[row, len(truth) :] == -1).all()
        assert not batch.target[row, len(truth) :].any() and not batch.track[row, len(truth) :].any()
    assert seen[0, 0] and seen[1, 1] and seen[0, 1]


def test_layers_count_in_the_full_event_and_hits_in_the_one_at_hand():
    """Of a target of four hits in an event cut to one of them, that hit is a target hit but no track to be found."""
    hits, truth = toy_event(n_tracks=6, n_noise=0, seed=2, pt_min=1.0)
    number = truth.particles.query("n_layers >= 4")["particle_id"].iloc[0]
    kept = np.sort(
        np.append(np.flatnonzero(truth.particle_id == number)[:1], np.flatnonzero(truth.particle_id != number))
    )
    cut = Truth(truth.hit_id[kept], truth.particle_id[kept], truth.weight[kept], truth.particles)
    batch = make_task("heptv2", NETWORK, LOSS).collate([(hits.take(kept), cut)], None)
    (place,) = np.flatnonzero(cut.particle_id == number)
    assert batch.target[0, place] and not batch.track[0, place]


# Symmetries


def test_events_are_varied_only_with_a_generator():
    events = toy_events(1)
    task = make_task("heptv2", NETWORK, replace(LOSS, rotate=True, flip=True, mirror=True))
    plain = task.collate(events, None).hits
    turned = [task.collate(events, np.random.default_rng(seed)).hits for seed in (3, 3, 4)]
    assert torch.equal(turned[0].features, turned[1].features)
    assert not torch.equal(turned[0].features, turned[2].features)
    assert not torch.equal(plain.features, turned[0].features)
    still = make_task("heptv2", NETWORK, replace(LOSS, rotate=False)).collate(events, np.random.default_rng(3)).hits
    assert torch.equal(still.features, plain.features)
    eta = [batch.angles[0, :, 0] for batch in (plain, *turned)]
    assert all(torch.allclose(other.abs(), eta[0].abs(), atol=1e-5) for other in eta[1:])


def test_cells_turn_with_the_event():
    names = ("charge_frac", "leta", "lphi", "lx", "ly", "lz", "geta", "gphi")
    hits, truth = toy_events(1)[0]
    rng = np.random.default_rng(0)
    hits = replace(hits, features={name: rng.uniform(0.1, 3, len(hits)) for name in names})
    seen = []
    task = make_task("heptv2", HeptConfig(**SMALL, queries="none"), LOSS)
    import trackbench.training.hept_task as module

    with pytest.MonkeyPatch.context() as patch:
        collate = module.collate_hits
        patch.setattr(module, "collate_hits", lambda events, inputs: seen.extend(events) or collate(events, inputs))
        task.collate([(hits, truth)], np.random.default_rng(5))
    (moved,) = seen
    phi = np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
    turn = np.arctan2(moved.xyz[:, 1], moved.xyz[:, 0]) - phi
    cells = moved.features["gphi"] - hits.features["gphi"]
    np.testing.assert_allclose(np.exp(1j * turn), np.exp(1j * cells), atol=1e-9)
    assert np.abs(moved.features["gphi"]).max() <= np.pi and not np.allclose(turn, 0)
    assert all(np.array_equal(moved.features[name], hits.features[name]) for name in names[:-1])


# Terms


def test_terms_with_and_without_decoder():
    events = toy_events()
    task = make_task("heptv2", NETWORK, replace(LOSS, decoder_from=0.5))
    network, batch = built(task), task.collate(events, None)
    early, late, validation = (task.losses(network, batch, *progress) for progress in ((0.49,), (0.5,), ()))
    assert list(early) == list(late) == TERMS
    assert [early[name].item() for name in TERMS[2:]] == [0, 0, 0]
    assert all(value.item() > 0 for value in late.values())
    assert values(late) == values(validation)
    torch.stack(list(early.values())).sum().backward()
    assert all(p.grad is None for p in network.decoder.parameters())
    alone = make_task("heptv2", replace(NETWORK, queries="none"), LOSS)
    assert list(alone.losses(built(alone), batch)) == ["hit", "nce"]


@pytest.mark.parametrize("queries", ["seeded", "learned"])
def test_all_weights_learn(queries):
    task = make_task("heptv2", replace(NETWORK, queries=queries), LOSS)
    network = built(task)
    for _ in range(2):  # seeded masks start at zero: what feeds them learns from the second step on
        optimizer = torch.optim.SGD(network.parameters(), 1e-3)
        optimizer.zero_grad()
        torch.stack(list(task.losses(network, task.collate(toy_events(), None)).values())).sum().backward()
        optimizer.step()
    for name, p in network.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
        assert p.grad.any(), name


def test_weights_of_the_terms():
    events = toy_events()
    full = make_task("heptv2", NETWORK, LOSS)
    half = {name: getattr(LOSS, f"{name}_weight") / 2 for name in ("hit", "nce", "class", "focal", "dice")}
    other = make_task("heptv2", NETWORK, replace(LOSS, **{f"{name}_weight": value for name, value in half.items()}))
    network, batch = built(full), full.collate(events, None)
    a, b = values(full.losses(network, batch)), values(other.losses(network, batch))
    assert a == pytest.approx({name: 2 * value for name, value in b.items()}, rel=1e-5)
    none = make_task("heptv2", NETWORK, replace(LOSS, nce_weight=0.0))
    assert none.losses(network, batch)["nce"].item() == 0


@pytest.mark.parametrize("queries", ["seeded", "learned"])
def test_terms_are_means_over_events_and_padding_changes_none(queries):
    """The shorter event of a batch is padded; alone it is not."""
    events = toy_events()
    task = make_task("heptv2", replace(NETWORK, queries=queries), LOSS)
    network = built(task).eval()
    together = values(task.losses(network, task.collate(events, None)))
    alone = [values(task.losses(network, task.collate([event], None))) for event in events]
    assert together == pytest.approx({name: (alone[0][name] + alone[1][name]) / 2 for name in TERMS}, rel=1e-4)


def test_noise_only_events_are_harmless():
    events = toy_events()
    task = make_task("heptv2", NETWORK, LOSS)
    network = built(task)
    terms = task.losses(network, task.collate([noise_only(events[0])], None))
    assert [terms[name].item() for name in ("nce", "focal", "dice")] == [0, 0, 0]
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def test_one_hit_is_an_event():
    hits, truth = noise_only(toy_events(1)[0])
    first = np.arange(1)
    one = Truth(truth.hit_id[first], truth.particle_id[first], truth.weight[first], truth.particles)
    task = make_task("heptv2", NETWORK, LOSS)
    assert all(
        map(np.isfinite, values(task.losses(built(task), task.collate([(hits.take(first), one)], None))).values())
    )


def test_more_tracks_than_queries(caplog):
    task = make_task("heptv2", replace(NETWORK, queries="learned", n_queries=2, sectors=1), LOSS)
    network, batch = built(task), task.collate(toy_events(pt_min=1.0), None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            terms = task.losses(network, batch)
    assert len(caplog.records) == 1 and "expected at most 2" in caplog.records[0].getMessage()
    assert all(torch.isfinite(value) for value in terms.values())


# Bad input


def test_events_that_cannot_be_trained_on():
    events = toy_events()
    task = make_task("heptv2", NETWORK, LOSS)
    with pytest.raises(InputError, match="training split: no event"):
        task.fit(iter([]))
    with pytest.raises(InputError, match=r"no hit of a particle with pt >= 0\.9 GeV and 3 layers in 1 events"):
        task.fit([noise_only(events[0])])
    empty = (events[0][0].take(np.arange(0)), events[0][1])
    for call in (lambda: task.fit([empty]), lambda: task.collate([empty], None)):
        with pytest.raises(InputError, match="event 1: no hits, expected events with hits; leave it out of the index"):
            call()
    with pytest.raises(InputError, match=r"event 1: \d+ hits, truth of \d+"):
        task.collate([(events[0][0], events[1][1])], None)
    with pytest.raises(InputError, match="training batch: no event"):
        task.collate([], None)
    with pytest.raises(InputError, match=r"network\.inputs to geometry"):
        make_task("heptv2", HeptConfig(), LOSS).fit(events)
    task.fit([*events, noise_only(events[1])])
    assert task.constants() == {}
    task.load_constants({})
    with pytest.raises(InputError, match="constants of the training"):
        task.load_constants({"mean": [0, 0, 0]})


def test_saved_and_loaded(tmp_path):
    task = make_task("heptv2", NETWORK, LOSS)
    network = built(task).eval()
    task.save(tmp_path / "w.pt", network, {"label": "toy"})
    found, facts = load_weights(tmp_path / "w.pt", ("heptv2",))
    assert facts == {"label": "toy", "kind": "heptv2"} and found.config == NETWORK
    batch = task.collate(toy_events(), None)
    assert values(task.losses(found, batch)) == values(task.losses(network, batch))
    with pytest.raises(InputError, match="weights of kind 'heptv2', expected 'encreg'"):
        load_weights(tmp_path / "w.pt", ("encreg",))


# What it is for


def test_matching_share_is_measured():
    task = make_task("heptv2", NETWORK, LOSS)
    network, batch = built(task), task.collate(toy_events(), None)
    found = matching_share(task, network, batch, repeats=2)
    assert 0 < found["matching_s"] < found["step_s"]
    assert found["share"] == pytest.approx(found["matching_s"] / found["step_s"])
    assert task.matcher.seconds == 0


def test_one_event_is_learnt_by_heart():
    event = toy_event(n_tracks=40, n_noise=20, seed=1, pt_min=0.9)
    network = HeptConfig(
        **{**SMALL, "width": 32, "layers": 2, "embedding": 16, "decoder_layers": 2, "n_queries": 100},
        inputs="geometry",
        queries="seeded",
        sectors=1,
    )
    loss = HeptLossConfig(class_weight=1.0, hit_weight=2.0, nce_weight=4.0, negatives=0, decoder_from=0.3, rotate=False)
    task = make_task("heptv2", network, loss)
    task.fit([event])
    made, batch = built(task), task.collate([event], None)
    optimizer = make_optimizer(made, TrainingConfig(learning_rate=3e-3), task.betas)
    for step in range(150):
        optimizer.zero_grad(set_to_none=True)
        terms = task.losses(made, batch, step / 150)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        _, decoded = made.eval()(batch.hits)
    (labels,) = assign(decoded, (len(event[0]),), -1.2)
    result = evaluate_event(labels, event[1])
    assert result.value("dm") > 0.99
    assert result.value("fake_rate") == result.value("dup_rate") == 0


def test_layers_change_places_in_a_mirror_at_z_0():
    table = layer_table()
    volume, layer = np.array(ALL_LAYERS).T
    mirrored = layer_index(*mirrored_layers(volume, layer))
    assert sorted(mirrored) == list(range(len(ALL_LAYERS)))
    expected = np.where(table.barrel, table.position, -table.position)
    np.testing.assert_allclose(table.position[mirrored], expected)
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(len(ALL_LAYERS)))
    assert mirrored_layers(np.array([0, 8]), np.array([3, 4]))[1].tolist() == [3, 4]
