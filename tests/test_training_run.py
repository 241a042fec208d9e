"""One training from settings to files, and ``trackbench train``, with the real tasks on toy shards."""

import json
import logging
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from toy_tasks import write_toy_sample

from trackbench.cli import main as entry
from trackbench.cli import train as train_command
from trackbench.cli.train import read_blocks
from trackbench.errors import ConfigError, InputError, Stopped, TrackbenchError
from trackbench.settings import build_dataclass
from trackbench.trackers.layers.weights import load_weights
from trackbench.training import run
from trackbench.training.config import TrainingConfig
from trackbench.training.run import TrainingFiles, TrainingJob, build_settings, train_model
from trackbench.training.stream import EventStream
from trackbench.training.tasks import make_task

ROOT = Path(__file__).resolve().parents[1]
NETWORK = {"width": 8, "heads": 2, "ffn": 16, "layers": 1, "dropout": 0.1}
TRAINING = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2, "label": "demo"}
JOB = TrainingJob("encreg", {"network": NETWORK, "loss": {"rotate": True}, "training": TRAINING}, 5, 1, "encreg", "3-7")
HEADS = {
    "encreg": ({}, {}),
    "enccla": ({"targets": "none", "classes": 16}, {"n_phi": 2, "n_theta": 2, "n_p": 2}),
    "joint": ({"classes": 16, "classifier_layers": 1}, {"n_phi": 2, "n_theta": 2, "n_p": 2}),
    "contrastive": ({"targets": "none", "embedding": 4}, {}),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    torch.set_num_threads(1)
    return write_toy_sample(tmp_path_factory.mktemp("sample"), tracks=lambda k: 8 + k % 5)


def files(folder):
    return TrainingFiles(folder / "w.pt", folder / "h.csv", folder / "f.json", folder / "w.training")


def call(index, folder, job=JOB):
    return train_model(index, index.with_name("manifest.json"), job, files(folder))


def stop_at(monkeypatch, step):
    """Ask to stop, as SLURM does, while the given batch is put together."""
    plain, calls = run.Trainer._batch, []

    def batch(self, number):
        calls.append(number)
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, number)

    monkeypatch.setattr(run.Trainer, "_batch", batch)
    return calls


@pytest.mark.parametrize("kind", list(HEADS))
def test_every_task_is_trained_stopped_and_resumed_to_the_same_bytes(index, tmp_path, monkeypatch, kind):
    heads, bins = HEADS[kind]
    blocks = {"network": {**NETWORK, **heads}, "loss": {"rotate": True, **bins}, "training": TRAINING}
    job = replace(JOB, kind=kind, blocks=blocks)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    call(index, tmp_path / "a", job)
    calls = stop_at(monkeypatch, 3)
    with pytest.raises(TrackbenchError, match="stopped by SIGTERM at step 4 of 6"):
        call(index, tmp_path / "b", job)
    assert not (tmp_path / "b/w.pt").exists()
    calls.clear()
    call(index, tmp_path / "b", job)
    assert calls == [4, 5]
    assert (tmp_path / "a/w.pt").read_bytes() == (tmp_path / "b/w.pt").read_bytes()


def test_files_and_facts(index, tmp_path):
    facts = call(index, tmp_path)
    assert facts == json.loads((tmp_path / "f.json").read_text())
    sample = json.loads(index.with_name("manifest.json").read_text())
    wanted = {"model": "encreg", "set": "3-7", "task": "encreg", "label": "demo", "steps": 6, "seed": 5, "threads": 1}
    wanted |= {"training_events": 15, "validation_events": 6, "data_sha256": sample["sha256"], "device": "cpu"}
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["versions"]["torch"] == torch.__version__ and len(facts["config_hash"]) == 64
    history = pd.read_csv(tmp_path / "h.csv")
    assert history["step"].tolist() == [3, 6]
    assert facts["validation_loss"] == history["val_total"].min()
    network, found = load_weights(tmp_path / "w.pt", ("encreg",))
    assert facts["parameters"] == sum(value.numel() for value in network.parameters())
    assert found["best_step"] == facts["best_step"] and "seconds" not in found  # equal trainings, equal bytes
    (sitting,) = facts["sittings"]
    assert (sitting["first_step"], sitting["last_step"]) == (1, 6)
    assert all(facts[name] == sitting[name] for name in ("device", "threads", "machine", "versions"))
    assert sorted(path.name for path in (tmp_path / "w.training").iterdir()) == ["finished.pt", "history.csv", "lock"]


def test_padded_length_of_the_sample(index, tmp_path):
    """A prepared sample of sub-events says how long its events may be; a sample without that block has no limit."""
    assert call(index, tmp_path)["length"] is None
    events = pd.read_csv(index).query("split == 'val'")
    longest = int(pd.read_csv(index).query("split != 'test'")["n_hits"].max())
    sample = json.loads(index.with_name("manifest.json").read_text())
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**sample, "subevents": {"length": longest}}))
    facts = train_model(index, manifest, JOB, files(tmp_path))
    assert facts["length"] == load_weights(tmp_path / "w.pt")[1]["length"] == longest
    manifest.write_text(json.dumps({**sample, "subevents": {"length": longest - 1}}))
    with pytest.raises(InputError, match=rf"event \d+: {longest} hits, .*at most {longest - 1}; raise the length of"):
        train_model(index, manifest, JOB, files(tmp_path))
    shortest = int(events["n_hits"].min())
    too_long = events.query("n_hits > @shortest")
    message = rf"event {too_long['event_id'].iloc[0]}: .* the first of {len(too_long)} events in split 'val'"
    with pytest.raises(InputError, match=message):
        EventStream(index, "val", 4, length=shortest)
    for wrong in ("700", 0, 1.5):
        manifest.write_text(json.dumps({**sample, "subevents": {"length": wrong}}))
        with pytest.raises(InputError, match=r"subevents\.length is"):
            train_model(index, manifest, JOB, files(tmp_path))


OUTPUTS = ("w.pt", "h.csv", "f.json")


def remove_outputs(folder):
    """As Snakemake does before it runs a job; returns their bytes."""
    found = [(folder / name).read_bytes() for name in OUTPUTS]
    for name in OUTPUTS:
        (folder / name).unlink()
    return found


def test_a_finished_training_writes_its_files_again(index, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "trackbench")
    call(index, tmp_path)
    steps = stop_at(monkeypatch, None)
    before = remove_outputs(tmp_path)
    torch.set_num_threads(2)  # what it was trained with is told, not what it is written with
    call(index, tmp_path, replace(JOB, threads=2))
    torch.set_num_threads(1)
    assert remove_outputs(tmp_path) == before and steps == []
    message = f"trained before, to step 6: the same weights again; remove {tmp_path / 'w.training'} to train anew"
    assert message in caplog.messages
    shutil.rmtree(tmp_path / "w.training")
    call(index, tmp_path)
    assert steps == [*range(6)] and remove_outputs(tmp_path)[0] == before[0]


@pytest.mark.parametrize("kind", ["enccla", "joint"])  # with constants of their own beside the weights
def test_a_finished_state_holds_no_more_than_the_results(index, tmp_path, kind):
    heads, bins = HEADS[kind]
    job = replace(JOB, kind=kind, blocks={"network": {**NETWORK, **heads}, "loss": bins, "training": TRAINING})
    call(index, tmp_path, job)
    before = remove_outputs(tmp_path)
    state = torch.load(tmp_path / "w.training/finished.pt", weights_only=True)["state"]
    assert state.keys() == {"finished", "constants", "progress"}
    call(index, tmp_path, job)
    assert remove_outputs(tmp_path) == before


def test_other_settings_after_a_finished_training_train_anew(index, tmp_path, monkeypatch):
    call(index, tmp_path)
    (before, *_), steps = remove_outputs(tmp_path), stop_at(monkeypatch, None)
    call(index, tmp_path, replace(JOB, seed=6))
    assert steps == [*range(6)] and remove_outputs(tmp_path)[0] != before
    call(index, tmp_path)
    assert steps == [*range(6)] * 2 and (tmp_path / "w.pt").read_bytes() == before


def test_facts_name_every_sitting(index, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Stopped):
            call(index, tmp_path)
    try:
        facts = call(index, tmp_path, replace(JOB, threads=2))
    finally:
        torch.set_num_threads(1)
    found = [(one["first_step"], one["last_step"], one["threads"]) for one in facts["sittings"]]
    assert found == [(1, 4, 1), (5, 6, 2)] and facts["threads"] == 2
    assert facts == json.loads((tmp_path / "f.json").read_text())


def test_half_written_outputs_of_a_killed_training_are_removed(index, tmp_path):
    for name in OUTPUTS:
        (tmp_path / f".tmp-abcdefgh-{name}").write_bytes(b"half")
    call(index, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*OUTPUTS, "w.training"])


def test_weights_of_another_configuration_are_not_lost(index, tmp_path):
    call(index, tmp_path)
    before = (tmp_path / "w.pt").read_bytes()
    message = r"w\.pt: holds weights of another configuration, see .*f\.json, .*; choose another file, or remove"
    with pytest.raises(ConfigError, match=message):
        call(index, tmp_path, replace(JOB, seed=6))
    assert (tmp_path / "w.pt").read_bytes() == before


def test_the_state_stays_if_the_results_cannot_be_written(index, tmp_path):
    with pytest.raises(OSError):
        train_model(index, index.with_name("manifest.json"), JOB, replace(files(tmp_path), facts="/proc/none/f.json"))
    assert (tmp_path / "w.training/state.pt").exists()
    call(index, tmp_path)
    assert not (tmp_path / "w.training/state.pt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed 5 there, 6 now"),
        ({"code": "new"}, "code '' there, 'new' now"),
        ({"blocks": {**JOB.blocks, "loss": {"rotate": False}}}, r"loss\.rotate True there, False now"),
        ({"blocks": {**JOB.blocks, "training": {**TRAINING, "steps": 7}}}, r"training\.steps 6 there, 7 now"),
    ],
)
def test_a_state_of_other_settings_is_refused(index, tmp_path, monkeypatch, change, message):
    stop_at(monkeypatch, 3)
    with pytest.raises(TrackbenchError, match="SIGTERM"):
        call(index, tmp_path)
    with pytest.raises(ConfigError, match=message):
        call(index, tmp_path, replace(JOB, **change))


def test_a_state_of_other_data_is_refused(index, tmp_path, monkeypatch):
    stop_at(monkeypatch, 3)
    with pytest.raises(TrackbenchError, match="SIGTERM"):
        call(index, tmp_path)
    other = write_toy_sample(tmp_path / "other", tracks=lambda k: 9 + k % 5)
    with pytest.raises(ConfigError, match=r"data '[0-9a-f]{64}' there, '[0-9a-f]{64}' now"):
        train_model(other, other.with_name("manifest.json"), JOB, files(tmp_path))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"training": {"step": 1}}, r"training\.step: unknown key, .* did you mean 'steps'\?"),
        ({"network": {"width": "8"}}, r"network\.width: value '8' is a str, expected an int"),
        ({"loss": {"temperature": -1}}, r"loss\.temperature: value -1\.0, expected > 0"),
        ({"optimizer": {}}, "training settings: optimizer: unknown block, expected network, loss, training"),
    ],
)
def test_wrong_settings(blocks, message):
    with pytest.raises(ConfigError, match=message):
        build_settings("encreg", blocks)


def test_settings_are_coerced_as_little_as_possible():
    assert build_dataclass(TrainingConfig, "training", {"learning_rate": 1}).learning_rate == 1.0
    assert build_dataclass(TrainingConfig, "training") == TrainingConfig()
    for wrong in ({"amp": 1}, {"steps": True}, {"steps": 2.0}, {"device": None}):
        with pytest.raises(ConfigError, match=rf"training\.{next(iter(wrong))}: value"):
            build_dataclass(TrainingConfig, "training", wrong)


def test_a_manifest_that_is_none(index, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    for path in (tmp_path / "manifest.json", tmp_path / "none.json"):
        with pytest.raises(InputError, match="expected the manifest of a prepared sample"):
            train_model(index, path, JOB, files(tmp_path))


# the command


@pytest.fixture
def command(capsys):
    """Call the command in this process: returns exit code and standard error."""

    def call(*argv):
        return entry.main([str(arg) for arg in argv]), capsys.readouterr().err

    return call


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps(JOB.blocks))  # JSON is YAML
    return path


def test_train_command(command, index, tmp_path, settings):
    out = tmp_path / "new/encreg.pt"
    code, err = command("train", "encreg", "--index", index, "--out", out, "--config", settings, "--seed", 5)
    assert code == 0 and "trained encreg: best validation loss " in err and str(out) in err
    assert load_weights(out)[1]["seed"] == 5
    names = sorted(path.name for path in out.parent.iterdir())
    assert names == ["encreg-facts.json", "encreg-history.csv", "encreg.pt", "encreg.training"]


def test_train_command_notices_weights_and_states_of_other_code(command, index, tmp_path, settings, monkeypatch):
    out = tmp_path / "w.pt"
    options = ("train", "encreg", "--index", index, "--out", out, "--config", settings, "--seed", 5)
    assert command(*options)[0] == 0
    monkeypatch.setattr(train_command, "code_digest", lambda *_: "other")
    code, err = command(*options)
    assert code == 2 and "holds weights of another configuration" in err
    out.unlink()
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        code, err = command(*options)
        assert code == 2 and "stopped by SIGTERM at step 4 of 6, saved" in err
    monkeypatch.undo()
    code, err = command(*options)
    assert code == 2 and re.search(r"another configuration \(code 'other' there, '[0-9a-f]{16}' now\)", err)


def test_the_digest_of_the_command_follows_the_clusterer_of_the_mask():
    plain = train_command._code({})
    assert (
        plain == train_command._code({"network": {"width": 8}}) != train_command._code({"network": {"mask": "cluster"}})
    )


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        ({"--out": "weights.bin"}, "", "--out weights.bin: file type '.bin', expected .pt"),
        ({"--threads": 0}, "", "--threads: value 0, expected at least 1"),
        ({"--seed": -1}, "", "--seed: value -1, expected at least 0"),
        ({}, "training: {step: 1}", "settings.yaml: training.step: unknown key"),
        ({}, "steps: 1", "expected blocks network, loss and training with one `setting: value` per line"),
        ({}, "{task: encreg, sets: [3-7], loss: {}}", "settings.yaml: task, sets: for models of the workflow's config"),
        ({"--index": "nowhere.csv"}, "", "--index nowhere.csv: no such file, expected the index.csv of a prepared"),
        ({}, "- 1", "expected blocks network, loss and training"),
        ({}, "{", "is not YAML"),
    ],
)
def test_train_command_refuses(command, index, tmp_path, settings, options, content, message):
    settings.write_text(content)
    options = {"--index": index, "--out": tmp_path / "w.pt", "--config": settings, **options}
    code, err = command("train", "encreg", *(part for item in options.items() for part in item))
    assert code == 2 and message in err and err.count("\n") == 1


def test_train_command_says_which_index_it_wants(command, index, tmp_path):
    out = ("--out", tmp_path / "w.pt")
    code, err = command("train", "encreg", "--index", index.parent, *out)
    assert code == 2 and f"--index {index.parent}: is a folder, expected the index.csv" in err
    assert err.endswith(f"; give {index}.\n")
    for wrong in (index.with_name("manifest.json"), *sorted(index.parent.glob("shard-*"))[:1]):
        code, err = command("train", "encreg", "--index", wrong, *out)
        assert code == 2 and f"--index {wrong}: is not an index, expected the index.csv" in err


def test_the_settings_of_the_demo_to_train_with_are_those_of_the_demo():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["models"]["encreg"]
    blocks = read_blocks(ROOT / "config/train-demo.yaml")
    built = build_settings("encreg", blocks)
    assert blocks == {name: config[name] for name in ("network", "loss", "training")}
    make_task("encreg", built["network"], built["loss"])


def test_train_command_refuses_an_unknown_task(command, index, tmp_path):
    code, err = command("train", "encrec", "--index", index, "--out", tmp_path / "w.pt")
    assert code == 2 and "encrec" in err and "one of encreg" in err
