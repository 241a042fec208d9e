"""What HEPTv2 must do as a whole before anything else is believed of it.

Each is stated on the network or the task from end to end; the parts have tests of their own. The metric vectors are in
test_metrics (``test_heptv2_vectors``), padding and permutations in test_hept_network and test_hept_serialization.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_files import write_toy_event
from toys import toy_event

torch = pytest.importorskip("torch")

from trackbench.cli import main as entry  # noqa: E402
from trackbench.data.prepare import DataSelection, build_event  # noqa: E402
from trackbench.data.reader import read_event  # noqa: E402
from trackbench.evaluation.metrics import evaluate_event  # noqa: E402
from trackbench.trackers.layers.assignment import assign  # noqa: E402
from trackbench.trackers.layers.hept_batch import collate  # noqa: E402
from trackbench.trackers.layers.hept_config import SERIALIZATIONS, HeptConfig  # noqa: E402
from trackbench.trackers.layers.hept_network import HeptNetwork  # noqa: E402
from trackbench.trackers.layers.weights import save_weights  # noqa: E402
from trackbench.training.config import TrainingConfig  # noqa: E402
from trackbench.training.hept_config import HeptLossConfig  # noqa: E402
from trackbench.training.optimizer import make_optimizer  # noqa: E402
from trackbench.training.schedule import learning_rate  # noqa: E402
from trackbench.training.tasks import make_task  # noqa: E402

NETWORK = HeptConfig(
    **{"inputs": "geometry", "width": 32, "heads": 2, "ffn": 64, "layers": 2, "position_hidden": 32, "embedding": 16},
    **{"embedding_hidden": 32, "embedding_layers": 2, "rounds": 2, "block": 64, "regions": 0, "sectors": 1},
)
LOSS = HeptLossConfig(class_weight=1.0, hit_weight=2.0, positive_weight=2.0, nce_weight=4.0, negatives=0, rotate=False)
QUERIES = {
    "seeded": {"queries": "seeded", "n_queries": 400},
    "learned": {"queries": "learned", "n_queries": 60},
    "learned, masked attention": {"queries": "learned", "n_queries": 60, "masked_attention": True},
}


# One block holds all hits


def one_block(like=None, **settings):
    """A network whose blocks hold every hit, with the weights of another one if given."""
    torch.manual_seed(0)
    network = HeptNetwork(replace(NETWORK, queries="learned", n_queries=20, block=4096, **settings)).eval()
    if like is not None:
        network.load_state_dict({**network.state_dict(), **weights_of(like)})
    return network


def weights_of(network):
    """What is trained: orders are drawn, and differ between serialisations."""
    return dict(network.named_parameters())


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("serialization", SERIALIZATIONS)
def test_in_one_block_no_order_matters(serialization, rounds):
    """Attention is then dense: order, number of rounds and serialisation change nothing (1e-5)."""
    batch = collate([toy_event(20, 10, seed=3)[0]], "geometry")
    expected_network = one_block(serialization="phi", rounds=1)
    with torch.inference_mode():
        expected, decoded = expected_network(batch)
        found, found_decoded = one_block(expected_network, serialization=serialization, rounds=rounds)(batch)
    torch.testing.assert_close(found.hits, expected.hits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.embedding, expected.embedding, rtol=1e-5, atol=1e-5)
    for one, other in zip(found_decoded.levels, decoded.levels, strict=True):
        torch.testing.assert_close(one.queries, other.queries, rtol=1e-4, atol=1e-4)


def test_in_many_blocks_the_order_does_matter():
    """Otherwise the test above would say nothing."""
    batch = collate([toy_event(20, 10, seed=3)[0]], "geometry")
    whole = one_block(serialization="phi", rounds=1)
    parts = HeptNetwork(replace(whole.config, block=16)).eval()
    parts.load_state_dict({**parts.state_dict(), **weights_of(whole)})
    with torch.inference_mode():
        assert (parts(batch)[0].hits - whole(batch)[0].hits).abs().max() > 1e-2


# One event is learnt by heart


def learn(event, network, steps, decoder_from=0.0):
    """Train on one event. Returns the network in evaluation mode."""
    task = make_task("heptv2", network, replace(LOSS, decoder_from=decoder_from, decoder_pt_min=0.0))
    task.fit([event])
    torch.manual_seed(0)
    made, batch = task.build(), task.collate([event], None)
    config = TrainingConfig(steps=steps, learning_rate=3e-3, schedule="cosine", warmup=10, final_rate=0.03)
    optimizer = make_optimizer(made, config, task.betas)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.zero_grad(set_to_none=True)
        sum(task.losses(made, batch, step / steps).values()).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    return made.eval()


def result_of(network, event):
    """Metrics of the decoder's masks alone, without anything after them."""
    hits, truth = event
    with torch.inference_mode():
        (labels,) = assign(network(collate([hits], "geometry"))[1], (len(hits),), -1.2)
    return evaluate_event(labels, truth)


@pytest.mark.parametrize("queries", QUERIES)
def test_a_toy_event_is_learnt_by_heart_with_every_kind_of_queries(queries):
    event = toy_event(40, 20, seed=1, pt_min=0.9)
    network = learn(event, replace(NETWORK, **QUERIES[queries]), 120)
    result = result_of(network, event)
    assert result.value("dm") > 0.99
    assert result.value("fake_rate") == result.value("dup_rate") == 0


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Raw tables of a whole simulated event of 2 pile-up."""
    pytest.importorskip("acts", reason="the extra 'simulate' is not installed")
    pytest.importorskip("pythia8mc", reason="the extra 'simulate' is not installed")
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.generator import prepare_generator
    from trackbench.simulation.simulate import simulate

    folder = tmp_path_factory.mktemp("simulated")
    config = SimulationConfig(pileup=2, hard_process="none", seed=3)
    prepare_generator(config, folder / "generator")
    simulate(config, [4], folder / "events", cache_dir=folder / "generator")
    return read_event(folder / "events" / "event000000004", DataSelection().parts, "repair")


@pytest.mark.slow
def test_a_simulated_event_is_learnt_by_heart_with_noise_and_without(simulated):
    """2 pile-up, all pixel hits; with noise kept, and on the same event with hits removed by truth, side by side."""
    events = [build_event(simulated, DataSelection(truth_filter=on), 4) for on in (False, True)]
    kept, filtered = (len(hits) for hits, _ in events)
    assert 500 < filtered < kept < 3000
    for event in events:
        network = learn(event, replace(NETWORK, **QUERIES["seeded"]), 100, decoder_from=0.4)
        result = result_of(network, event)
        assert result.counts["dm"][1] > 20
        assert result.value("dm") > 0.99 and result.value("fake_rate") < 0.02


# No truth


def test_files_of_a_reconstruction_do_not_depend_on_the_truth(tmp_path):
    """Every step after the network is on; truth is not there, or is that of other particles."""
    torch.manual_seed(1)
    save_weights(tmp_path / "a.pt", "heptv2", HeptNetwork(replace(NETWORK, queries="seeded", n_queries=50)), {})
    (tmp_path / "tracker.yaml").write_text("{device: cpu, kmeans: 2, clean_up: true}")
    found = {}
    for name, parts in {"absent": ("hits",), "wrong": ("hits", "particles", "truth")}.items():
        prefix = write_toy_event(tmp_path / name, 1, parts=parts)
        if name == "wrong":
            truth = pd.read_csv(f"{prefix}-truth.csv")
            truth["particle_id"] = np.random.default_rng(0).permutation(truth["particle_id"])
            truth.to_csv(f"{prefix}-truth.csv", index=False)
        arguments = ["--quiet", "reconstruct", "heptv2", prefix, "--checkpoint", tmp_path / "a.pt"]
        arguments += ["--config", tmp_path / "tracker.yaml", "--out", tmp_path / "out"]
        assert entry.main([str(argument) for argument in arguments]) == 0
        found[name] = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(found["absent"]) == 3 and found["absent"] == found["wrong"]
    assert len(pd.read_csv(tmp_path / "out/event000000001-parameters.csv")) > 0
