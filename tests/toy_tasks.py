"""A tiny task and toy shards to test the training loop on; run as a program it trains on them.

python toy_tasks.py INDEX FOLDER OUT.pt [FAULT]: FAULT is "step:N", "write:N" or "slow:T", see ``break_at``.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from toys import toy_event

from trackbench.data.prepare import DataSelection
from trackbench.data.shard_file import shard_writer
from trackbench.data.shards import add_event, write_index
from trackbench.training import checkpoint
from trackbench.training.config import TrainingConfig
from trackbench.training.loop import train
from trackbench.training.stream import EventStream

CONFIG = TrainingConfig(
    steps=24, batch_size=4, validate_every=5, checkpoint_every=3, learning_rate=0.01, clip=1.0, schedule="cosine"
)
IDENTITY = {"task": "toy", "network": {"width": 8}, "seed": 3}


def write_toy_sample(folder, shards=(5, 3, 7), n_val=2, tracks=lambda k: 3 + k % 5):
    """Write prepared shards and their index; returns the path of the index.

    shards: training events per shard; n_val: validation events in each shard besides
    tracks: event number -> tracks of the event, one hit each or more
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths, splits, number = [], [], 0
    for k, n_train in enumerate(shards):
        path = folder / f"shard-{k}-hits.parquet"
        names = ["train"] * n_train + ["val"] * n_val
        names = [names[i] for i in np.random.default_rng(k).permutation(len(names))]
        with shard_writer(path, folder / f"shard-{k}-particles.parquet") as writer:
            records = []
            for _ in names:
                number += 1
                records.append(add_event(writer, *toy_event(tracks(number), 2, seed=number, event_id=number)))
            raw = {"pileup": 20.0, "sigma_z": 5.5, "hard_process": "ttbar"}
            writer.set_metadata({"events": records, "selection": DataSelection("full").as_dict(), "raw": raw})
        paths.append(path)
        splits += names
    index, fields = folder / "index.csv", {"source": "simulate"}
    write_index(paths, index, folder / "manifest.json", dict(enumerate(splits)), fields, lambda p: p["pt"] > 0.9)
    return index


@dataclass(frozen=True)
class ToyBatch:
    """x (B, 4): means over the hits; y (B, 2): what to find."""

    x: torch.Tensor
    y: torch.Tensor

    def to(self, device):
        return ToyBatch(self.x.to(device), self.y.to(device))


class ToyTask:
    """Regress two numbers from the mean position: 58 weights, dropout, random variation of the events."""

    kind = "toy"
    betas = (0.9, 0.999)

    def __init__(self, on_step=None):
        self.scale = None
        self.fitted = 0  # calls of ``fit``
        self.on_step = on_step or (lambda count, terms: None)  # called with the number of losses so far
        self.count = 0

    def fit(self, events):
        self.fitted += 1
        self.scale = max(float(np.abs(hits.xyz).max()) for hits, _ in events)

    def build(self):
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 2))

    def collate(self, events, rng):
        x, y = [], []
        for hits, truth in events:
            shift = rng.normal(0, 0.01, 4) if rng is not None else np.zeros(4)
            x.append(np.append(hits.xyz.mean(axis=0) / self.scale, len(hits) / 50) + shift)
            y.append([len(truth.particles) / 10, float(np.sin(truth.particles["phi"].iloc[0]))])
        return ToyBatch(torch.tensor(np.array(x), dtype=torch.float32), torch.tensor(y, dtype=torch.float32))

    def losses(self, network, batch, progress=1.0):
        error = (network(batch.x) - batch.y).square().mean(dim=0)
        terms = {"count": error[0], "angle": 0.5 * error[1]}
        if network.training:
            self.count += 1
            self.on_step(self.count, terms)
        return terms

    def constants(self):
        return {"scale": self.scale}

    def load_constants(self, values):
        self.scale = values["scale"]


def toy_train(index, folder, task=None, config=CONFIG, identity=IDENTITY, seed=3):
    """Train a ``ToyTask`` on toy shards; two shards in memory at a time."""
    streams = [EventStream(index, split, config.batch_size, seed, shard_buffer=2) for split in ("train", "val")]
    return train(task or ToyTask(), *streams, config, folder, identity)


def break_at(fault):
    """Return a task. It kills this process at a step ("step:N") or while the N-th state is half written ("write:N"),
    or only takes its time, in seconds per step ("slow:T")."""
    kind, _, number = fault.partition(":")
    if kind == "slow":
        return ToyTask(lambda count, terms: time.sleep(float(number)))
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    if kind == "step":
        return ToyTask(lambda count, terms: die() if count == int(number) else None)
    writes = []

    def half(self, content):
        writes.append(self)
        with self.open("wb") as file:
            file.write(bytes(content)[: len(content) // (2 if len(writes) == int(number) else 1)])
        if len(writes) == int(number):
            die()

    checkpoint.Path.write_bytes = half
    return ToyTask()


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained = toy_train(sys.argv[1], sys.argv[2], break_at(sys.argv[4]) if len(sys.argv) > 4 else None)
    torch.save(trained.network.state_dict(), sys.argv[3])
