"""A real training from a prepared sample to tracks, killed on the way. Run as a program it is the one that is killed.

python test_training_real.py INDEX FOLDER STEP: the process ends by SIGKILL while the batch of that step is made.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tasks import write_toy_sample

from trackbench.data.shards import read_events
from trackbench.evaluation.metrics import evaluate_event
from trackbench.trackers.base import build_tracker
from trackbench.training import run
from trackbench.training.checkpoint import STATE
from trackbench.training.run import TrainingFiles, TrainingJob, train_model

STEPS, KILLED_AT, SAVED_EVERY = 200, 130, 50
NETWORK = {"inputs": "helix", "width": 48, "heads": 4, "ffn": 96, "layers": 3, "dropout": 0.0, "norm": "pre"}
NETWORK |= {"activation": "gelu", "targets": "q_over_pt", "head": "helix", "pair_bias": True}
# No dropout and one validation, at the end: to learn by heart is not to do best on the validation event.
TRAINING = {"steps": STEPS, "batch_size": 4, "learning_rate": 0.003, "schedule": "cosine", "warmup": 20, "clip": 1.0}
TRAINING |= {"validate_every": STEPS, "checkpoint_every": SAVED_EVERY, "device": "cpu"}
LOSS = {"regression": "smooth_l1"}
JOB = TrainingJob("encreg", {"network": NETWORK, "loss": LOSS, "training": TRAINING}, seed=1)


def train(index, folder):
    files = TrainingFiles(folder / "w.pt", folder / "h.csv", folder / "f.json", folder / "w.training")
    return train_model(index, index.with_name("manifest.json"), JOB, files)


def die_at(step):
    plain = run.Trainer._batch

    def batch(self, number):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, number)

    run.Trainer._batch = batch


@pytest.mark.slow
def test_killed_resumed_and_learnt_by_heart(tmp_path):
    """8 events of 10 to 50 tracks: the weights do not know of the kill, and the tracker finds the tracks with them."""
    torch.set_num_threads(1)
    index = write_toy_sample(tmp_path / "sample", shards=(8,), n_val=1, tracks=lambda k: 5 + 5 * k)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    train(index, tmp_path / "whole")

    command = [sys.executable, __file__, str(index), str(tmp_path / "killed"), str(KILLED_AT)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = torch.load(tmp_path / "killed/w.training" / STATE, weights_only=True)["state"]
    assert state["progress"]["step"] == KILLED_AT - KILLED_AT % SAVED_EVERY
    assert not (tmp_path / "killed/w.pt").exists()
    facts = train(index, tmp_path / "killed")
    assert (facts["steps"], facts["training_events"]) == (STEPS, 8)
    assert (tmp_path / "killed/w.pt").read_bytes() == (tmp_path / "whole/w.pt").read_bytes()

    settings = {"checkpoint": str(tmp_path / "killed/w.pt"), "min_cluster_size": 3, "min_samples": 1}
    tracker = build_tracker("encreg", {**settings, "device": "cpu"})
    events = list(read_events(index, "train"))
    scores = [evaluate_event(tracker.reconstruct(hits), truth).value("trackml_score") for hits, truth in events]
    assert len(scores) == 8 and np.mean(scores) > 0.95


if __name__ == "__main__":
    torch.set_num_threads(1)
    die_at(int(sys.argv[3]))
    train(Path(sys.argv[1]), Path(sys.argv[2]))
