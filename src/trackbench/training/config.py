"""Settings of losses and of the training loop. No torch here: checking a configuration reads this module."""

from dataclasses import dataclass

from trackbench.errors import ConfigError, describe

TASKS = ("encreg", "enccla", "joint", "contrastive")
SCHEDULES = ("constant", "cosine", "one_cycle")


@dataclass(frozen=True)
class LossConfig:
    """What a task minimises, and how its training events are varied.

    regression: "mse" (published) or "smooth_l1"
    rotate: turn each training event by a random azimuth; flip: mirror it at z = 0 with probability 1/2
    n_phi, n_theta, n_p: quantile bins of EncCla; with two charges 2 n_phi n_theta n_p classes
    classification_weight: of the cross-entropy in the joint model
    temperature: of the InfoNCE loss, > 0; pt_min: hits of slower particles are no anchors [GeV]
    """

    regression: str = "mse"
    rotate: bool = False
    flip: bool = False
    n_phi: int = 30
    n_theta: int = 30
    n_p: int = 3
    classification_weight: float = 0.3
    temperature: float = 0.05
    pt_min: float = 0.0

    def __post_init__(self):
        _require("loss.regression", self.regression, self.regression in ("mse", "smooth_l1"), "mse or smooth_l1")
        for name in ("n_phi", "n_theta", "n_p"):
            _require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("classification_weight", "pt_min"):
            _require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        _require("loss.temperature", self.temperature, self.temperature > 0, "> 0")

    @property
    def n_classes(self) -> int:
        """Number of classes of EncCla."""
        return 2 * self.n_phi * self.n_theta * self.n_p


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop. Published EncReg: Adam 1e-3, constant, batch 64, early stop after 50 epochs.

    steps: optimiser steps, >= 1; batch_size: events per step, >= 1
    learning_rate: peak, > 0; schedule: "constant", "cosine" (to 0) or "one_cycle"; warmup: steps of linear rise
    weight_decay: of AdamW, >= 0 (0 makes it Adam); clip: largest norm of the gradient, 0 = no limit
    validate_every: steps between validations; the weights of the best one are kept
    patience: stop after so many validations without improvement, 0 = never
    checkpoint_every: steps between checkpoints
    device: "auto", "cpu" or "cuda"; amp: bfloat16 autocast on CUDA
    label: shown with every result of the model, such as "demo" for one trained for minutes
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    validate_every: int = 100
    patience: int = 0
    checkpoint_every: int = 100
    device: str = "auto"
    amp: bool = False
    label: str = ""

    def __post_init__(self):
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every"):
            _require(f"training.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("warmup", "weight_decay", "clip", "patience"):
            _require(f"training.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        _require("training.learning_rate", self.learning_rate, self.learning_rate > 0, "> 0")
        _require("training.schedule", self.schedule, self.schedule in SCHEDULES, "one of " + ", ".join(SCHEDULES))
        _require("training.device", self.device, self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")


def _require(where: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise ConfigError(describe(where, f"value {value!r}", expected))
