"""The training loop of every learned tracker: plain PyTorch, resumable bit for bit on a CPU.

Randomness keeps no state: before each step torch is seeded by (seed, step), the variation of events draws from
(seed, step), and the order of events is a function of (seed, epoch). A saved state is therefore model, optimiser, step,
best weights and history, and a training resumed at any step computes what it would have computed. The last state has
no model and optimiser: the best weights are the result.
"""

import contextlib
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from trackbench.errors import Stopped, TrackbenchError, describe
from trackbench.trackers.layers.learned import choose_device
from trackbench.training.checkpoint import RunFolder
from trackbench.training.config import TrainingConfig
from trackbench.training.optimizer import Both, make_optimizer
from trackbench.training.progress import Progress, changes
from trackbench.training.schedule import learning_rate
from trackbench.training.sitting import (
    Reporter,
    Stop,
    made_with,
    prepared_batches,
    reproducible,
    stop_signals,
)

if TYPE_CHECKING:
    from trackbench.training.stream import EventStream
    from trackbench.training.tasks import Task

logger = logging.getLogger(__name__)

_INITIAL, _STEP, _AUGMENT = 31, 32, 33  # keep streams of random numbers made of the same seed apart


@dataclass(frozen=True)
class TrainedModel:
    """What training gives.

    network: with the weights of the best validation, on the CPU, in evaluation mode
    history: one row per validation: step, epoch, learning_rate, gradient_norm, train_TERM (mean since the row before),
        val_TERM, train_total, val_total and ``TIME_COLUMNS``
    steps: steps done; best_step, best_loss: of the best validation; seconds: all sittings together
    sittings: see ``Progress``; parameters: number of trained weights
    """

    network: nn.Module
    history: pd.DataFrame
    steps: int
    best_step: int
    best_loss: float
    seconds: float
    sittings: list[dict]
    parameters: int

    @property
    def device(self) -> str:
        """Device of the last sitting, such as "cpu"."""
        return self.sittings[-1]["device"]


def train(
    task: "Task",
    train_stream: "EventStream",
    val_stream: "EventStream",
    config: TrainingConfig,
    folder: str | os.PathLike,
    identity: Mapping | None = None,
) -> TrainedModel:
    """Train ``task``, or go on with a training that was stopped, and return the best weights.

    train_stream: its seed is that of the whole training; val_stream: validated as a whole
    folder: holds the lock and the saved state, which stays there; identity: see ``RunFolder``
    Raises ConfigError if the saved state is of another configuration or the device is not there, InputError if it is
    damaged or another training uses the folder, TrackbenchError if the loss is not finite, Stopped if a signal asks.
    Threads are those the caller has set; other numbers of threads may give other last bits.
    """
    with RunFolder(folder, identity or {}) as run:
        return Trainer(task, train_stream, val_stream, config, run).train()


class Trainer:
    """One training in a locked folder. Arguments: see ``train``; run: the folder, entered."""

    def __init__(self, task: "Task", train_stream, val_stream, config: TrainingConfig, run: RunFolder):
        self.task, self.config, self.run = task, config, run
        self.train_stream, self.val_stream = train_stream, val_stream
        self.seed = train_stream.seed
        self.device = torch.device(choose_device(config.device, "training.device"))
        self.progress = Progress()
        self.network: nn.Module
        self.optimizer: torch.optim.Optimizer | Both

    def train(self) -> TrainedModel:
        """Train to the end, or to the signal that stops it. See ``train``."""
        with reproducible(self.device):
            state = self.run.load()
            if state is not None and state["finished"]:
                self._take_finished(state)
            else:
                self._set_up(state)
                with stop_signals() as stop:
                    self._go_on(stop)
        progress = self.progress
        self.network.load_state_dict(progress.best)
        best = progress.best_row
        return TrainedModel(
            network=self.network.cpu().eval(),
            history=pd.DataFrame(progress.rows),
            steps=progress.step,
            best_step=best["step"],
            best_loss=best["val_total"],
            seconds=progress.seconds,
            sittings=progress.sittings,
            parameters=sum(p.numel() for p in self.network.parameters() if p.requires_grad),
        )

    def _set_up(self, state: dict | None) -> None:
        if state is None:
            self.task.fit(self.train_stream.events())
        else:
            self.task.load_constants(state["constants"])
        torch.manual_seed(_torch_seed(self.seed, _INITIAL, 0))
        self.network = self.task.build().to(self.device)
        self.optimizer = make_optimizer(self.network, self.config, self.task.betas)
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
            self._say_resumed()

    def _take_finished(self, state: dict) -> None:
        self.task.load_constants(state["constants"])
        self.network = self.task.build()
        self.progress = Progress(**state["progress"])
        what = "trained before, to step %d: the same weights again; remove %s to train anew"
        logger.info(what, self.progress.step, self.run.folder)

    def _say_resumed(self) -> None:
        logger.info("going on from step %d of %d", self.progress.step, self.config.steps)
        sittings = self.progress.sittings
        if sittings and (changed := changes(sittings[-1], made_with(self.device))):
            logger.warning("begun with %s: the last bits of the result may differ", "; ".join(changed))

    def _go_on(self, stop: "Stop") -> None:
        """Alternate steps, validations and checkpoints until done."""
        progress, config = self.progress, self.config
        saved = progress.step
        clock, before = time.perf_counter(), progress.seconds
        with Reporter(config.steps, progress.step) as report, contextlib.ExitStack() as stack:
            steps = range(progress.step, config.steps)
            batches = prepared_batches(self._batch, steps, ahead=self.device.type == "cuda")
            stack.callback(batches.close)
            while True:
                progress.seconds = before + time.perf_counter() - clock
                if self._must_validate():
                    self._validate(stop)
                done = self._is_done()
                if stop.name or done or progress.step - saved >= config.checkpoint_every:
                    self._save(done)
                    saved = progress.step
                if done:
                    return
                if stop.name:
                    what = f"stopped by {stop.name} at step {progress.step} of {config.steps}, saved"
                    raise Stopped(describe("training", what, "", "run again to resume"))
                self._step(next(batches))
                report(progress.step, progress.rows)

    def _batch(self, step: int):
        """Batch of a step, from 0, with its number of events."""
        events = self.train_stream.batch(step)
        return self.task.collate(events, np.random.default_rng([self.seed, _AUGMENT, step])), len(events)

    def _step(self, prepared) -> None:
        batch, n_events = prepared
        progress, begin = self.progress, time.perf_counter()
        rate = learning_rate(progress.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_torch_seed(self.seed, _STEP, progress.step))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._losses(batch, progress.step / self.config.steps)
        torch.stack(list(terms.values())).sum().backward()
        weights = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(weights, self.config.clip or math.inf)
        values = dict(zip([*terms, "gradient norm"], torch.stack([*terms.values(), norm]).tolist(), strict=True))
        self._require_finite(values, progress.step + 1)
        self.optimizer.step()
        norm = values.pop("gradient norm")
        progress.add({f"train_{name}": value for name, value in values.items()})
        progress.add({"gradient_norm": norm, "steps": 1, "events": n_events, "seconds": time.perf_counter() - begin})
        progress.step += 1

    def _losses(self, batch, progress: float) -> dict[str, torch.Tensor]:
        amp = self.config.amp and self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
            terms = self.task.losses(self.network, batch.to(self.device), progress)
        return {name: term.float() for name, term in terms.items()}

    def _require_finite(self, values: dict[str, float], step: int) -> None:
        """Raise unless all values of step ``step``, from 1, are finite."""
        if all(map(math.isfinite, values.values())):
            return
        printed = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
        rate = learning_rate(step - 1, self.config)
        what = f"not finite at step {step} of {self.config.steps}: {printed}, learning rate {rate:.4g}"
        remedy = "the last saved state stays; lower training.learning_rate or set training.clip, and train anew"
        raise TrackbenchError(describe("training loss", what, "", remedy))

    def _must_validate(self) -> bool:
        progress = self.progress
        due = progress.step % self.config.validate_every == 0 or progress.step == self.config.steps
        return progress.step > 0 and due and (not progress.rows or progress.rows[-1]["step"] != progress.step)

    def _validate(self, stop: "Stop") -> None:
        """Add a row to the history; nothing if a signal comes meanwhile: the validation is then done on resuming."""
        progress, sums = self.progress, {}
        self.network.eval()
        with torch.no_grad():
            for events in self.val_stream.ordered():
                if stop.name:
                    return
                terms = self._losses(self.task.collate(events, None), 1.0)
                for name, value in zip(terms, torch.stack(list(terms.values())).tolist(), strict=True):
                    sums[name] = sums.get(name, 0.0) + len(events) * value
        means = {name: total / self.val_stream.n_events for name, total in sums.items()}
        self._require_finite({f"validation {name}": value for name, value in means.items()}, progress.step)
        last = progress.step - 1
        progress.close_row(self.train_stream.epoch(last), learning_rate(last, self.config), means)
        if progress.best_row is progress.rows[-1]:
            progress.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def _is_done(self) -> bool:
        progress, patience = self.progress, self.config.patience
        if self._must_validate():  # put off by a signal
            return False
        if progress.step >= self.config.steps:
            return True
        return bool(patience) and progress.rows_since_best >= patience

    def _save(self, done: bool) -> None:
        progress = self.progress
        progress.sit(made_with(self.device))
        state = {"finished": done, "constants": self.task.constants(), "progress": vars(progress)}
        if not done:
            state |= {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.run.save(state, pd.DataFrame(progress.rows).to_csv(index=False, lineterminator="\n"))


def _torch_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
