"""Outputs of a network beside the true targets, hit by hit."""

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench.data.shard_file import shard_writer
from trackbench.errors import InputError
from trackbench.predictions import predict_event, write_predictions

torch = pytest.importorskip("torch")


def network(targets="charge", **options):
    from trackbench.trackers.layers.network import HitNetwork
    from trackbench.trackers.layers.network_config import NetworkConfig

    torch.manual_seed(1)
    config = NetworkConfig(width=16, heads=2, ffn=16, layers=1, dropout=0.0, targets=targets, **options)
    found = HitNetwork(config)
    found.set_normalisation(torch.zeros(3), torch.full((3,), 300.0))
    return found.eval()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A prepared sample of three events, two of them test events."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = []
    with shard_writer(folder / "shard-0000-hits.parquet", folder / "shard-0000-particles.parquet") as writer:
        events = []
        for i, split in enumerate(("train", "test", "test")):
            hits, truth = toy_event(8, n_noise=5, seed=i, event_id=i + 1)
            digest = writer.add(hits, truth)
            events.append({"event_id": i + 1, "n_hits": len(hits), "sha256": digest})
            rows.append((i + 1, split, "0000", len(hits), 8, 8))
        writer.set_metadata({"events": events})
    columns = ["event_id", "split", "shard", "n_hits", "n_particles", "n_selected"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "index.csv", index=False)
    return folder / "index.csv"


def weights(path, found, kind="encreg"):
    from trackbench.trackers.layers.weights import save_weights

    save_weights(path, kind, found, {"label": "test"})
    return path


@pytest.mark.parametrize(("targets", "name"), [("charge", "charge"), ("q_over_pt", "q_over_pt")])
def test_truth_and_outputs_of_each_hit(targets, name):
    hits, truth = toy_event(8, n_noise=5, seed=3)
    table = predict_event(network(targets), hits, truth)
    names = ["theta", "sin_phi", "cos_phi", name]
    head = ["event_id", "hit_id", "particle_id", "pt", "eta"]
    assert table.columns.tolist() == [*head, *names, *(f"true_{n}" for n in names)]
    assert table["hit_id"].tolist() == hits.hit_id.tolist()
    noise = truth.particle_id == 0
    true = table[[*(f"true_{n}" for n in names), "pt", "eta"]]
    assert true[noise].isna().all(axis=None) and true[~noise].notna().all(axis=None)
    i = int(np.flatnonzero(~noise)[0])
    particle = truth.particles.set_index("particle_id").loc[truth.particle_id[i]]
    assert table["true_theta"][i] == pytest.approx(2 * np.arctan(np.exp(-particle["eta"])), rel=1e-5)
    assert table["true_sin_phi"][i] == pytest.approx(np.sin(particle["phi"]), abs=1e-6)
    assert table["true_cos_phi"][i] == pytest.approx(np.cos(particle["phi"]), abs=1e-6)
    fourth = particle["q"] if name == "charge" else np.clip(particle["q"] / (2.5 * particle["pt"]), -2, 2)
    assert table[f"true_{name}"][i] == pytest.approx(fourth, rel=1e-5)
    assert table["pt"][i] == pytest.approx(particle["pt"], rel=1e-6)


def test_outputs_are_those_of_the_network():
    from trackbench.trackers.layers.batch import collate

    hits, truth = toy_event(8, n_noise=0, seed=3)
    found = network()
    table = predict_event(found, hits, truth)
    with torch.no_grad():
        expected = found(collate([hits])).parameters[0].numpy()
    assert np.allclose(table[["theta", "sin_phi", "cos_phi", "charge"]], expected, atol=1e-6)


@pytest.mark.slow
def test_a_mask_that_needs_clusters():
    hits, truth = toy_event(8, n_noise=5, seed=3)
    table = predict_event(network(mask="cluster", mask_clusterer="dbscan"), hits, truth)
    assert np.isfinite(table[["theta", "charge"]]).all(axis=None)


def test_file_of_the_test_events(sample, tmp_path):
    path = weights(tmp_path / "encreg.pt", network())
    write_predictions(path, sample, tmp_path / "p.parquet", device="cpu")
    table = pd.read_parquet(tmp_path / "p.parquet")
    sizes = [len(toy_event(8, n_noise=5, seed=i)[0]) for i in (1, 2)]
    assert table["event_id"].tolist() == [2] * sizes[0] + [3] * sizes[1]
    assert table.dtypes.astype(str)[["hit_id", "particle_id", "theta", "true_charge"]].tolist() == [
        "int64",
        "int64",
        "float32",
        "float32",
    ]
    first = (tmp_path / "p.parquet").read_bytes()
    write_predictions(path, sample, tmp_path / "p.parquet", device="cpu")
    assert (tmp_path / "p.parquet").read_bytes() == first
    write_predictions(path, sample, tmp_path / "one.parquet", limit=1, device="cpu")
    assert set(pd.read_parquet(tmp_path / "one.parquet")["event_id"]) == {2}


def test_nothing_is_left_after_an_error(sample, tmp_path):
    found = network("none", embedding=8)
    path = weights(tmp_path / "contrastive.pt", found, "contrastive")
    out = tmp_path / "p.parquet"
    with pytest.raises(InputError, match="weights of kind 'contrastive', expected 'encreg' or 'joint'"):
        write_predictions(path, sample, out, device="cpu")
    path = weights(tmp_path / "encreg.pt", network())
    with pytest.raises(InputError, match="no events in the split 'val', expected at least one"):
        write_predictions(path, sample, out, split="val", device="cpu")
    with pytest.raises(InputError, match="no such file"):
        write_predictions(tmp_path / "absent.pt", sample, out, device="cpu")
    assert not list(tmp_path.glob("*.parquet"))
