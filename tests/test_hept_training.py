"""HEPTv2 on the shared training loop: settings to files, stopped and resumed to the same bytes, the command."""

import os
import signal
from dataclasses import replace

import pandas as pd
import pytest
import yaml

torch = pytest.importorskip("torch")

from toy_tasks import write_toy_sample  # noqa: E402

from trackbench.cli import main as entry  # noqa: E402
from trackbench.errors import ConfigError, TrackbenchError  # noqa: E402
from trackbench.trackers.layers.weights import load_weights  # noqa: E402
from trackbench.training import run  # noqa: E402
from trackbench.training.run import TrainingFiles, TrainingJob, build_settings, train_model  # noqa: E402

NETWORK = {"inputs": "geometry", "queries": "seeded", "width": 8, "heads": 2, "ffn": 8, "layers": 1, "block": 32}
NETWORK |= {"position_hidden": 8, "embedding": 4, "embedding_hidden": 8, "embedding_layers": 1, "rounds": 2}
NETWORK |= {"regions": 0, "sectors": 2, "n_queries": 20, "decoder_layers": 1}
LOSS = {"class_weight": 1.0, "negatives": 4, "decoder_from": 0.3, "flip": True}
TRAINING = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2, "learning_rate": 0.003}
TRAINING |= {"clip": 1.0, "weight_decay": 0.01, "schedule": "cosine", "final_rate": 0.03}
BLOCKS = {"network": NETWORK, "loss": LOSS, "training": TRAINING}
JOB = TrainingJob("heptv2", BLOCKS, 5, 1, "hept", "toys")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    torch.set_num_threads(1)
    return write_toy_sample(tmp_path_factory.mktemp("sample"), (4, 3), 1, tracks=lambda k: 8 + k % 5)


def call(index, folder, job=JOB):
    folder.mkdir(exist_ok=True)
    files = TrainingFiles(folder / "w.pt", folder / "h.csv", folder / "f.json", folder / "w.training")
    return train_model(index, index.with_name("manifest.json"), job, files)


def stop_at(monkeypatch, step):
    """Ask to stop, as SLURM does, while the given batch is put together; collects the steps that are done."""
    plain, calls = run.Trainer._batch, []

    def batch(self, number):
        calls.append(number)
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, number)

    monkeypatch.setattr(run.Trainer, "_batch", batch)
    return calls


class Interrupted(Exception):
    """Ends a training in the middle, as a kill would."""


def test_killed_and_resumed_to_the_same_bytes(index, tmp_path, monkeypatch):
    call(index, tmp_path / "a")
    with monkeypatch.context() as patch:
        plain = run.Trainer._batch
        dead = lambda self, number: plain(self, number) if number < 5 else (_ for _ in ()).throw(Interrupted)  # noqa: E731
        patch.setattr(run.Trainer, "_batch", dead)
        with pytest.raises(Interrupted):
            call(index, tmp_path / "b")
    calls = stop_at(monkeypatch, None)
    call(index, tmp_path / "b")
    assert calls == [4, 5]  # step 4 was done, but saved was step 3
    assert (tmp_path / "a/w.pt").read_bytes() == (tmp_path / "b/w.pt").read_bytes()


@pytest.mark.parametrize(
    ("queries", "optimizer", "step"), [("seeded", "adamw", 1), ("seeded", "muon", 3), ("learned", "muon", 1)]
)
def test_trained_stopped_and_resumed_to_the_same_bytes(index, tmp_path, monkeypatch, queries, optimizer, step):
    """Stopped before the decoder is trained (its weights have no state yet in the optimiser) and after."""
    blocks = {**BLOCKS, "network": {**NETWORK, "queries": queries}, "training": {**TRAINING, "optimizer": optimizer}}
    job = replace(JOB, blocks=blocks)
    facts = call(index, tmp_path / "a", job)
    calls = stop_at(monkeypatch, step)
    with pytest.raises(TrackbenchError, match=f"stopped by SIGTERM at step {step + 1} of 6"):
        call(index, tmp_path / "b", job)
    calls.clear()
    call(index, tmp_path / "b", job)
    assert calls == list(range(step + 1, 6))
    assert (tmp_path / "a/w.pt").read_bytes() == (tmp_path / "b/w.pt").read_bytes()
    history = pd.read_csv(tmp_path / "a/h.csv")
    terms = [name for name in history if name.startswith("val_")]
    assert terms == ["val_hit", "val_nce", "val_class", "val_focal", "val_dice", "val_total"]
    assert (history[terms] > 0).all(axis=None)
    network, found = load_weights(tmp_path / "a/w.pt", ("heptv2",))
    assert network.config.queries == queries and found["task"] == "heptv2"
    assert facts["parameters"] == sum(p.numel() for p in network.parameters())


def test_the_decoder_starts_when_it_is_asked_to(index, tmp_path, monkeypatch):
    seen = []
    losses = run.Trainer._losses

    def watched(self, batch, progress):
        terms = losses(self, batch, progress)
        seen.append((self.network.training, progress, terms["focal"].item() > 0))
        return terms

    monkeypatch.setattr(run.Trainer, "_losses", watched)
    call(index, tmp_path)
    trained = [(progress, decoded) for training, progress, decoded in seen if training]
    assert trained == [(step / 6, step >= 2) for step in range(6)]
    assert all(progress == 1.0 and decoded for training, progress, decoded in seen if not training)


def test_settings_of_the_kind():
    settings = build_settings("heptv2", BLOCKS)
    assert settings["network"].queries == "seeded" and settings["loss"].decoder_from == 0.3
    with pytest.raises(ConfigError, match=r"network\.classes: unknown key"):
        build_settings("heptv2", {"network": {"classes": 5}})
    with pytest.raises(ConfigError, match=r"model\.task: value 'heptv3', expected one of encreg, .*, heptv2"):
        build_settings("heptv3", {})


def test_the_command(index, tmp_path, capsys):
    config = tmp_path / "hept.yaml"
    config.write_text(yaml.safe_dump({**BLOCKS, "training": {**TRAINING, "steps": 2}}))
    arguments = ["train", "heptv2", "--index", index, "--config", config, "--out", tmp_path / "w.pt"]
    assert entry.main([str(part) for part in arguments]) == 0
    assert load_weights(tmp_path / "w.pt", ("heptv2",))[1]["steps"] == 2
    config.write_text(yaml.safe_dump({**BLOCKS, "network": {**NETWORK, "queries": "seed"}}))
    assert entry.main([str(part) for part in arguments]) != 0
    assert "network.queries: value 'seed', expected one of none, learned, seeded" in capsys.readouterr().err
