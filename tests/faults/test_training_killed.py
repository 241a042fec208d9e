"""A training that is killed, told to stop, damaged or started twice: rerun, it gives the same weights bit for bit."""

import json
import os
import re
import signal
import socket
import time
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
import torch
from faults.trainings import beside
from toy_tasks import write_toy_sample

from trackbench.training.progress import TIME_COLUMNS

MOMENTS = 10
ALL_MOMENTS = 100


@pytest.fixture(scope="session")
def index(tmp_path_factory):
    """Index of a small prepared sample."""
    return write_toy_sample(tmp_path_factory.mktemp("sample"), tracks=lambda k: 8 + k % 5)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, processes, index):
    """Folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    assert processes.run("train", folder, index=str(index)) == 0, beside(folder, "stderr").read_text()
    return folder


def outputs(folder):
    """What two equal trainings share: bytes of the weights, history and facts without times."""
    history = pd.read_csv(folder / "h.csv").drop(columns=list(TIME_COLUMNS))
    facts = json.loads((folder / "f.json").read_text())
    del facts["seconds"]
    return (folder / "w.pt").read_bytes(), history.to_csv(), facts


def assert_finished(folder, whole):
    assert outputs(folder) == outputs(whole)
    assert sorted(path.name for path in (folder / "w.training").iterdir()) == ["finished.pt", "history.csv", "lock"]
    assert not list(folder.rglob(".tmp-*"))


def assert_nothing_half_written(folder):
    """Whatever is there under its final name can be read and is whole."""
    for name in ("w.pt", "w.training/state.pt", "w.training/previous.pt", "w.training/finished.pt"):
        if (folder / name).exists():
            torch.load(folder / name, weights_only=True)
    if (folder / "f.json").exists():
        assert json.loads((folder / "f.json").read_text())["steps"] == 8


def moments(whole, number, seed):
    """Line numbers of an uninterrupted training, one in each of ``number`` equal parts, drawn by a seed."""
    return spread(int(beside(whole, "lines").read_text()), number, seed)


def spread(lines, number, seed):
    edges = np.linspace(1, lines, number + 1)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()


def test_killed_at_random_moments(index, whole, tmp_path, processes, injected, all_moments):
    killed_after_saving = 0
    for moment in moments(whole, ALL_MOMENTS if all_moments else MOMENTS, seed=1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with injected("kill -9 of a training"):
            assert processes.run("train", folder, index=str(index), kill_at=moment) == -signal.SIGKILL
            assert_nothing_half_written(folder)
            killed_after_saving += (folder / "w.training/state.pt").exists()
            assert processes.run("train", folder, index=str(index)) == 0, beside(folder, "stderr").read_text()
            assert_finished(folder, whole)
    assert killed_after_saving >= MOMENTS // 2


def test_killed_while_files_are_written(index, whole, tmp_path, processes, injected, all_moments):
    """At any line of the writing of states, weights, history and facts."""
    options = {"index": str(index), "traced": ["trackbench/files.py"]}
    (tmp_path / "all").mkdir()
    assert processes.run("train", tmp_path / "all", **options) == 0
    lines = int(beside(tmp_path / "all", "lines").read_text())
    # All states but the first and the last are written in the same way.
    every = [line for line in range(1, lines) if not lines / 8 < line < 7 * lines / 8]
    for moment in every if all_moments else spread(lines, 4, seed=5):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with injected("kill -9 of a training that writes"):
            assert processes.run("train", folder, kill_at=moment, **options) == -signal.SIGKILL
            assert_nothing_half_written(folder)
            assert processes.run("train", folder, index=str(index)) == 0, beside(folder, "stderr").read_text()
            assert_finished(folder, whole)


@pytest.mark.parametrize("number", [1, 4, 9])  # of 8 states; the ninth file is that of the weights
def test_killed_when_half_a_file_is_written(index, whole, tmp_path, processes, injected, number):
    with injected("kill -9 of a training that writes"):
        assert processes.run("train", tmp_path, index=str(index), kill_write=number) == -signal.SIGKILL
        assert list(tmp_path.rglob(".tmp-*"))
        assert_nothing_half_written(tmp_path)
        assert processes.run("train", tmp_path, index=str(index)) == 0, beside(tmp_path, "stderr").read_text()
        assert_finished(tmp_path, whole)


def test_killed_again_and_again(index, whole, tmp_path, processes, injected):
    with ExitStack() as faults:
        for moment in moments(whole, 4, seed=2):
            code = processes.run("train", tmp_path, index=str(index), kill_at=moment)
            if code == -signal.SIGKILL:
                faults.enter_context(injected("kill -9 of a training"))
            else:
                assert code == 0 and (tmp_path / "w.pt").exists()
        assert processes.run("train", tmp_path, index=str(index)) == 0
        assert_finished(tmp_path, whole)


def test_time_limit_reached(index, tmp_path, processes, injected, all_moments):
    """SIGTERM at any line, as a batch system sends it: the training saves, though it was not time to, and goes on."""
    options, saved = {"index": str(index), "checkpoint_every": 100}, 0
    whole = tmp_path / "whole"
    whole.mkdir()
    assert processes.run("train", whole, **options) == 0
    for moment in moments(whole, 40 if all_moments else 4, seed=3):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with injected("SIGTERM at the time limit"):
            code = processes.run("train", folder, signal_at=moment, **options)
            if code == 2:
                last = (folder / "job.log").read_text().splitlines()[-1]
                in_loop = re.search(r"error: training: stopped by SIGTERM at step (\d) of 8, saved; run again", last)
                assert in_loop or last.endswith("error: this job: stopped by SIGTERM; run again.")
                assert not (folder / "f.json").exists() and not list(folder.rglob(".tmp-*"))
                code = processes.run("train", folder, **options)
                if in_loop:
                    saved += 1
                    assert f"going on from step {in_loop[1]} of 8" in (folder / "job.log").read_text()
            assert code == 0  # in the last step: it is over before it would be stopped
            assert_finished(folder, whole)
    assert saved >= 2


def wait_for(path, timeout=60):
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def test_time_limit_reached_within_a_long_step(index, whole, tmp_path, processes, injected):
    """SIGTERM and, before the step is over, SIGKILL: goes on from the state before."""
    with injected("SIGTERM, then SIGKILL"):
        pid = processes.start("train", tmp_path, index=str(index), slow=0.3)
        wait_for(tmp_path / "w.training/state.pt")
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        assert processes.wait(pid) == -signal.SIGKILL
        assert not (tmp_path / "w.pt").exists()
        assert processes.run("train", tmp_path, index=str(index)) == 0
        assert "going on from step" in (tmp_path / "job.log").read_text()
        assert_finished(tmp_path, whole)


def test_two_trainings_of_one_model(index, whole, tmp_path, processes, injected):
    with injected("two trainings of one model"):
        first = processes.start("train", tmp_path, index=str(index), slow=0.2)
        wait_for(tmp_path / "w.training/state.pt")
        assert (tmp_path / "w.training/lock").exists()
        assert processes.run("train", tmp_path, index=str(index)) == 2
        text = (tmp_path / "job.log").read_text()
        holder = f"process {first} on {socket.gethostname()}"
        assert f"another training ({holder}) is using this folder" in text and "wait for it or stop it" in text
        assert processes.wait(first) == 0
        assert_finished(tmp_path, whole)


def cut(data):
    return data[: len(data) // 2]


def flip(data):
    at = 300  # in the first entry of the archive; between entries is padding that means nothing
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


class Harmful:
    """Would make a file when it is loaded by pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


DAMAGES = {
    "truncated": cut,
    "one byte flipped": flip,
    "empty": lambda data: b"",
    "another file": lambda data: b"<html>" * 100,
}


@pytest.mark.parametrize("damage", [*DAMAGES, "pickled code"])
def test_damaged_checkpoint(index, whole, tmp_path, processes, injected, damage):
    """Goes on from the one saved before; nothing is used or lost if that is damaged as well."""
    state, previous = (tmp_path / "w.training" / name for name in ("state.pt", "previous.pt"))
    with injected("damaged checkpoint"):
        pid = processes.start("train", tmp_path, index=str(index), slow=0.3)
        for path in (previous, state):
            wait_for(path)
        os.kill(pid, signal.SIGKILL)
        processes.wait(pid)
        good = previous.read_bytes()
        for path in (state, previous):
            if damage == "pickled code":
                torch.save({"format": 2, "identity": "{}", "state": Harmful(tmp_path / "hacked")}, path)
            else:
                path.write_bytes(DAMAGES[damage](path.read_bytes()))
        before = [state.read_bytes(), previous.read_bytes()]
        assert processes.run("train", tmp_path, index=str(index)) == 2
        text = (tmp_path / "job.log").read_text()
        assert f"{state}: damaged training state" in text and f"remove {state.parent} to train anew" in text
        assert [state.read_bytes(), previous.read_bytes()] == before
        previous.write_bytes(good)
        assert processes.run("train", tmp_path, index=str(index)) == 0
        text = (tmp_path / "job.log").read_text()
        assert f"{state}: damaged training state" in text and "going on from the one saved before it" in text
        assert "going on from step" in text and not (tmp_path / "hacked").exists()
        assert_finished(tmp_path, whole)


def test_checkpoint_of_another_configuration(index, whole, tmp_path, processes, injected):
    with injected("checkpoint of another configuration"):
        pid = processes.start("train", tmp_path, index=str(index), steps=12, slow=0.3)
        wait_for(tmp_path / "w.training/state.pt")
        os.kill(pid, signal.SIGKILL)
        processes.wait(pid)
        assert processes.run("train", tmp_path, index=str(index)) == 2
        text = (tmp_path / "job.log").read_text()
        assert "training state of another configuration (training.steps 12 there, 8 now)" in text
        assert processes.run("train", tmp_path, index=str(index), steps=12) == 0
        assert outputs(tmp_path) != outputs(whole)


@pytest.mark.parametrize("damage", [*DAMAGES, "pickled code"])
def test_damaged_weights(whole, tmp_path, injected, damage):
    from trackbench.errors import InputError
    from trackbench.trackers.layers.weights import load_weights

    path = tmp_path / "w.pt"
    with injected("damaged weights"):
        if damage == "pickled code":
            torch.save({"format": "trackbench weights", "state": Harmful(tmp_path / "hacked")}, path)
        else:
            path.write_bytes(DAMAGES[damage]((whole / "w.pt").read_bytes()))
        with pytest.raises(InputError, match=r"w\.pt: "):
            load_weights(path)
        assert not (tmp_path / "hacked").exists()
