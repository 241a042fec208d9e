"""HEPTv2 given what it cannot use, by its two commands: one clear sentence or a correct empty result, no half a file.

Exit code 2 is an error the user can mend; then no output file is there, nor a temporary one.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

torch = pytest.importorskip("torch")

from toy_files import write_toy_event  # noqa: E402
from toys import toy_event  # noqa: E402

from trackbench.cli import main as entry  # noqa: E402
from trackbench.data.hits import CELL_FEATURES  # noqa: E402
from trackbench.data.prepare import DataSelection  # noqa: E402
from trackbench.data.shard_file import shard_writer  # noqa: E402
from trackbench.data.shards import add_event, write_index  # noqa: E402
from trackbench.data.truth import Truth  # noqa: E402
from trackbench.trackers.layers.hept_config import HeptConfig  # noqa: E402
from trackbench.trackers.layers.hept_network import HeptNetwork  # noqa: E402
from trackbench.trackers.layers.network import HitNetwork  # noqa: E402
from trackbench.trackers.layers.network_config import NetworkConfig  # noqa: E402
from trackbench.trackers.layers.weights import load_weights, save_weights  # noqa: E402

NETWORK = {"inputs": "geometry", "queries": "seeded", "width": 8, "heads": 2, "ffn": 8, "layers": 1, "block": 32}
NETWORK |= {"position_hidden": 8, "embedding": 4, "embedding_hidden": 8, "embedding_layers": 1, "rounds": 2}
NETWORK |= {"regions": 0, "sectors": 2, "n_queries": 20, "decoder_layers": 1}
TRAINING = {"steps": 3, "batch_size": 2, "validate_every": 3, "checkpoint_every": 1}
WRITTEN = ["w-facts.json", "w-history.csv", "w.pt"]


def good(number):
    """An event with target tracks."""
    return toy_event(12, 6, seed=number, pt_min=1.0, event_id=number)


def part(event, keep):
    """Some hits of an event, with their truth."""
    hits, truth = event
    return hits.take(keep), Truth(
        truth.hit_id[keep], truth.particle_id[keep], truth.weight[keep], truth.particles, truth.event_id
    )


def noise_only(event):
    hits, truth = event
    nobody = truth.particles.assign(n_hits=0, n_layers=0, n_layer_ids=0)
    return hits, Truth(truth.hit_id, truth.particle_id * 0, truth.weight * 0, nobody, truth.event_id)


def changed(event, value, name=None):
    """The same event with a position, or a feature of that name, that is not a finite number."""
    hits, truth = event
    if name is None:
        xyz = hits.xyz.copy()
        xyz[2, 1] = value
        return replace(hits, xyz=xyz), truth
    feature = hits.features[name].copy()
    feature[2] = value
    return replace(hits, features={**hits.features, name: feature}), truth


def with_cells(event):
    hits, truth = event
    return replace(hits, features={name: np.linspace(0, 1, len(hits)) for name in CELL_FEATURES}), truth


def sample(folder, train, val=None):
    """Write prepared events as one shard, with their cell features if they have them. Returns the path of the index."""
    folder.mkdir()
    cells = bool(train[0][0].features)
    events = [*train, *([good(90)] if val is None else val)]
    path = folder / "shard-0000-hits.parquet"
    with shard_writer(path, folder / "shard-0000-particles.parquet", CELL_FEATURES if cells else ()) as writer:
        records = [add_event(writer, *event) for event in events]
        raw = {"pileup": 2.0, "sigma_z": 5.5, "hard_process": "none"}
        writer.set_metadata({"events": records, "selection": DataSelection(cells=cells).as_dict(), "raw": raw})
    splits = dict(enumerate(["train"] * len(train) + ["val"] * (len(events) - len(train))))
    index = folder / "index.csv"
    write_index([path], index, folder / "manifest.json", splits, {"source": "simulate"}, lambda p: p["pt"] > 0.9)
    return index


def train(index, out, **blocks):
    """Call the command. Returns its exit code."""
    config = index.with_name("hept.yaml")
    wanted = {"network": {**NETWORK, **blocks.get("network", {})}, "training": TRAINING | blocks.get("training", {})}
    config.write_text(yaml.safe_dump({**wanted, "loss": blocks.get("loss", {})}))
    arguments = ["--quiet", "train", "heptv2", "--index", index, "--config", config, "--out", out / "w.pt"]
    return entry.main([str(argument) for argument in arguments])


def files_in(folder):
    """Names of all files that a user would take for results."""
    return sorted(path.name for path in folder.glob("*") if path.is_file())


def one_sentence(text, *words):
    """The text is one line, an error of the command, with these words."""
    (line,) = text.strip().splitlines()
    assert line.startswith("trackbench: error: ") and line.endswith((".", "?"))
    for word in words:
        assert word in line
    return line


# Training


def slow(event):
    hits, truth = event
    return hits, replace(truth, particles=truth.particles.assign(pt=0.5))


FEW = {"queries": "learned", "n_queries": 2, "sectors": 1}
PUBLISHED = {"inputs": "published"}
# case -> training events, validation events (None: a good one), settings of the network, words of the message
REFUSED = {
    "no hits": ([part(good(2), np.arange(0))], None, {}, ["no event with hits in split 'train'", "prepare more"]),
    "no hits to validate on": ([good(1)], [part(good(2), np.arange(0))], {}, ["no event with hits in split 'val'"]),
    "noise only": ([noise_only(good(1)), noise_only(good(2))], None, {}, ["training split", "pt >= 0.9", "2 events"]),
    "no target track": ([slow(good(1))], None, {}, ["training split", "expected target tracks"]),
    "NaN": ([good(1), changed(good(2), np.nan)], None, {}, ["event 2", "position of 1 hits not finite", "hit_id"]),
    "infinite": ([good(1), changed(good(2), -np.inf)], None, {}, ["event 2", "position of 1 hits not finite"]),
    "NaN to validate on": ([good(1)], [changed(good(2), np.nan)], {}, ["event 2", "position of 1 hits not finite"]),
    "cells missing": ([good(1)], None, PUBLISHED, ["event 1", "no feature charge_frac", "network.inputs to geometry"]),
    "NaN in a cell feature": (
        [with_cells(good(1)), changed(with_cells(good(2)), np.nan, "leta")],
        [with_cells(good(3))],
        PUBLISHED,
        ["event 2", "leta of 1 hits not finite"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_training_refuses(tmp_path, capsys, case):
    events, val, network, words = REFUSED[case]
    assert train(sample(tmp_path / "sample", events, val), tmp_path, network=network) == 2
    one_sentence(capsys.readouterr().err, *words)
    assert files_in(tmp_path) == []


# case -> training events, settings of the network, words of a warning or None
COPES = {
    "an event without hits": ([good(1), part(good(2), np.arange(0))], {}, None),
    "an event of noise": ([good(1), noise_only(good(2))], {}, None),
    "an event of one hit": ([good(1), part(good(2), np.arange(1))], {}, None),
    "one hit is all there is": ([part(good(1), np.arange(1))], {}, None),
    "more tracks than queries": ([good(1), good(2)], FEW, ["tracks in a sector", "at most 2", "network.n_queries"]),
    "a longer event than any other": (
        [good(1), toy_event(150, 80, 2, pt_min=1.0, event_id=2)],
        {"n_queries": 150},
        None,
    ),
    "NaN in what is not used": ([changed(with_cells(good(1)), np.nan, "leta")], {}, None),
}


@pytest.mark.parametrize("case", COPES)
def test_training_copes(tmp_path, capsys, case):
    events, network, words = COPES[case]
    cells = bool(events[0][0].features)
    val = [with_cells(good(3))] if cells else None
    assert train(sample(tmp_path / "sample", events, val), tmp_path, network=network) == 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert files_in(tmp_path) == WRITTEN
    load_weights(tmp_path / "w.pt", ("heptv2",))
    if case == "an event without hits":
        assert json.loads((tmp_path / "w-facts.json").read_text())["training_events"] == 1
    losses = pd.read_csv(tmp_path / "w-history.csv").filter(regex="^(train|val)_")
    assert np.isfinite(losses.to_numpy()).all()
    if words is None:
        assert lines == []
    else:  # once, although every step and every level is concerned
        assert len(lines) == 1 and all(word in lines[0] for word in words)


def test_training_never_replaces_weights_of_another_configuration(tmp_path, capsys):
    index = sample(tmp_path / "sample", [good(1)])
    assert train(index, tmp_path) == 0
    before = (tmp_path / "w.pt").read_bytes()
    capsys.readouterr()
    assert train(index, tmp_path, network={"width": 16}) == 2
    one_sentence(capsys.readouterr().err, "w.pt", "holds weights of another configuration", "choose another file")
    assert (tmp_path / "w.pt").read_bytes() == before and files_in(tmp_path) == WRITTEN


# Reconstruction


def weights(folder, kind="heptv2", damage=None, **settings):
    """Write random weights. Returns the path. damage: "cut", "shape" or "nan"."""
    torch.manual_seed(0)
    path = folder / "a.pt"
    if kind != "heptv2":
        save_weights(path, kind, HitNetwork(NetworkConfig(width=16, heads=2, ffn=16, layers=1)), {})
        return path
    network = HeptNetwork(HeptConfig(**{**NETWORK, **settings}))
    if damage == "nan":
        with torch.no_grad():
            next(network.parameters()).fill_(np.nan)
    save_weights(path, kind, network, {})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if damage == "shape":
        content = torch.load(path, weights_only=True)
        content["network"]["width"] = 16
        torch.save(content, path)
    return path


def reconstruct(folder, events, checkpoint, **settings):
    """Call the command. Returns its exit code; files go to ``folder / "out"``."""
    config = folder / "tracker.yaml"
    config.write_text(yaml.safe_dump({"device": "cpu", **settings}))
    arguments = ["--quiet", "reconstruct", "heptv2", *events, "--config", config, "--out", folder / "out"]
    arguments += ["--checkpoint", checkpoint] if checkpoint else []
    return entry.main([str(argument) for argument in arguments])


def written(folder):
    return files_in(folder / "out") if (folder / "out").exists() else []


WRONG_WEIGHTS = {
    "no weights": (None, {}, ["trackers.heptv2.checkpoint", "no trained weights", "--checkpoint FILE"]),
    "of another tracker": ({"kind": "encreg"}, {}, ["a.pt", "weights of kind 'encreg'", "'heptv2'"]),
    "without a decoder": ({"queries": "none"}, {}, ["heptv2.method", "a.pt has no decoder", "seeds or dbscan"]),
    "that need cells": (PUBLISHED, {}, ["event 1", "no feature charge_frac", "network.inputs to geometry"]),
    "cut short": ({"damage": "cut"}, {}, ["a.pt", "cannot be read", "copy the file again"]),
    "of another width": ({"damage": "shape"}, {}, ["a.pt", "has shape", "train again"]),
    "not finite": ({"damage": "nan"}, {}, ["a.pt", "is not finite"]),
    "and a method of no name": ({}, {"method": "best"}, ["heptv2.method", "one of masks, seeds, dbscan"]),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_reconstruction_refuses_weights(tmp_path, capsys, case):
    made, settings, words = WRONG_WEIGHTS[case]
    event = write_toy_event(tmp_path / "events", 1)
    assert reconstruct(tmp_path, [event], made if made is None else weights(tmp_path, **made), **settings) == 2
    one_sentence(capsys.readouterr().err, *words)
    assert written(tmp_path) == []


@pytest.mark.parametrize("value", ["nan", "inf", "x"])
def test_a_bad_event_leaves_the_files_of_those_before_it_only(tmp_path, capsys, value):
    events = [write_toy_event(tmp_path / "events", number) for number in (1, 2, 3)]
    file = tmp_path / "events" / "event000000002-hits.csv"
    hits = pd.read_csv(file, dtype=str)
    hits.loc[3, "y"] = value
    hits.to_csv(file, index=False)
    assert reconstruct(tmp_path, events, weights(tmp_path), clean_up=True) == 2
    one_sentence(capsys.readouterr().err, "event000000002")
    assert written(tmp_path) == [f"event000000001-{name}.csv" for name in ("parameters", "tracks", "vertices")]


@pytest.mark.parametrize("method", ["masks", "seeds", "dbscan"])
@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 2, "noise", "strips"])
def test_nothing_to_find_is_an_empty_result(tmp_path, kept, clean_up, method):
    """No hit, one, two, noise alone, and no hit that the tracker may see: a row per hit, and the files fit together."""
    n_tracks, n_noise = (0, 30) if kept == "noise" else (5, 0)
    event = write_toy_event(tmp_path / "events", 1, n_tracks=n_tracks, n_noise=n_noise)
    file = tmp_path / "events" / "event000000001-hits.csv"
    hits = pd.read_csv(file)
    hits = hits[hits["volume_id"] == 13] if kept == "strips" else hits[hits["volume_id"] != 13]
    hits = hits[:kept] if isinstance(kept, int) else hits
    hits.to_csv(file, index=False)
    eta_max = 1e-9 if kept == "strips" else 4.0
    assert reconstruct(tmp_path, [event], weights(tmp_path), method=method, clean_up=clean_up, eta_max=eta_max) == 0
    tracks = pd.read_csv(tmp_path / "out/event000000001-tracks.csv")
    assert tracks["hit_id"].tolist() == hits["hit_id"].tolist()
    found = tracks["track_id"][tracks["track_id"] >= 0]
    assert sorted(found.unique()) == list(range(found.nunique()))
    if kept == "strips":
        assert found.empty
    if clean_up:
        parameters = tmp_path / "out/event000000001-parameters.csv"
        assert kept == 0 or len(pd.read_csv(parameters)) == found.nunique()
        assert kept not in (0, 1, 2) or found.empty
    assert [name for name in written(tmp_path) if name.startswith(".")] == []


def test_an_event_longer_than_any_of_the_training(tmp_path):
    """Nothing is cut off: there is no longest event for this network."""
    event = write_toy_event(tmp_path / "events", 1, n_tracks=600, n_noise=500)
    assert reconstruct(tmp_path, [event], weights(tmp_path, block=16)) == 0
    tracks = pd.read_csv(tmp_path / "out/event000000001-tracks.csv")
    assert len(tracks) > 3000 and (tracks["track_id"] >= 0).any()
