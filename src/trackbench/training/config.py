"""Settings of losses and of the training loop. No torch here: checking a configuration reads this module."""

from dataclasses import dataclass

from trackbench.errors import ConfigError, describe, require
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.hept_v1_config import HeptV1LossConfig

# Task of one encoder -> heads it needs; the others must be absent, except the regression beside the embedding.
HEADS = {
    "encreg": ("targets",),
    "enccla": ("classes",),
    "joint": ("targets", "classes", "classifier_layers"),
    "contrastive": ("embedding",),
}
SCHEDULES = ("constant", "cosine", "one_cycle")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class LossConfig:
    """What a task minimises, and how its training events are varied.

    regression: "mse" (published) or "smooth_l1"
    rotate: turn each training event by a random azimuth; flip: mirror it at z = 0 with probability 1/2;
        mirror: mirror it at y = 0, charges reversed, with probability 1/2
    n_phi, n_theta, n_p: quantile bins of EncCla; with two charges 2 n_phi n_theta n_p classes
    classification_weight: of the cross-entropy in the joint model
    regression_weight: of the regression beside the contrastive loss, if the network has that head
    temperature: of the InfoNCE loss, > 0; pt_min: hits of slower particles are no anchors [GeV]
    """

    regression: str = "mse"
    rotate: bool = False
    flip: bool = False
    mirror: bool = False
    n_phi: int = 30
    n_theta: int = 30
    n_p: int = 3
    classification_weight: float = 0.3
    regression_weight: float = 1.0
    temperature: float = 0.05
    pt_min: float = 0.0

    def __post_init__(self):
        require("loss.regression", self.regression, self.regression in ("mse", "smooth_l1"), "mse or smooth_l1")
        for name in ("n_phi", "n_theta", "n_p"):
            require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("classification_weight", "regression_weight", "pt_min"):
            require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        require("loss.temperature", self.temperature, self.temperature > 0, "> 0")

    @property
    def n_classes(self) -> int:
        """Number of classes of EncCla."""
        return 2 * self.n_phi * self.n_theta * self.n_p


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop. Published EncReg: Adam 1e-3, constant, batch 64, early stop after 50 epochs.

    steps: optimiser steps, >= 1; batch_size: largest number of events per step, >= 1
    shard_buffer: files of the sample whose events are mixed, and held in memory, at a time, >= 1
    optimizer: "adamw", or "muon" for matrices and AdamW for the rest, see ``optimizer``
    learning_rate: peak, > 0; schedule: "constant", "cosine" or "one_cycle" (up from 1/25, down to about 0)
    final_rate: where "cosine" ends, in units of the peak, in [0, 1]
    warmup: steps of the rise, < steps; linear, but half a cosine in one_cycle, where 0 means 30 % of the steps
    hold, tail: of "cosine", steps at the peak after the warm-up and at the final rate in the end, >= 0
    weight_decay: of AdamW, >= 0 (0 makes it Adam), a tenth of that of Muon
    clip: largest norm of the gradient, 0 = no limit
    validate_every: steps between validations, also after the last step; the weights of the best one are kept
    patience: stop after so many validations in a row without a new best one, 0 = never
    checkpoint_every: steps between saved states, from which a stopped training goes on
    device: "auto", "cpu" or "cuda"; amp: bfloat16 autocast on CUDA
    label: shown with every result of the model, such as "demo" for one trained for minutes
    """

    steps: int = 1000
    batch_size: int = 64
    shard_buffer: int = 4
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    final_rate: float = 0.0
    warmup: int = 0
    hold: int = 0
    tail: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    validate_every: int = 100
    patience: int = 0
    checkpoint_every: int = 100
    device: str = "auto"
    amp: bool = False
    label: str = ""

    def __post_init__(self):
        for name in ("steps", "batch_size", "shard_buffer", "validate_every", "checkpoint_every"):
            require(f"training.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("warmup", "hold", "tail", "weight_decay", "clip", "patience"):
            require(f"training.{name}", getattr(self, name), getattr(self, name) >= 0, ">= 0")
        require("training.warmup", self.warmup, self.warmup < self.steps, f"< steps = {self.steps}")
        still = self.hold + self.tail
        require("training.hold + tail", still, not still or self.schedule == "cosine", "0 unless schedule is cosine")
        falling = self.steps - self.warmup - still
        require("training.warmup + hold + tail", self.warmup + still, falling > 0, f"< steps = {self.steps}")
        require("training.learning_rate", self.learning_rate, self.learning_rate > 0, "> 0")
        require("training.schedule", self.schedule, self.schedule in SCHEDULES, "one of " + ", ".join(SCHEDULES))
        require("training.final_rate", self.final_rate, 0 <= self.final_rate <= 1, "in [0, 1]")
        names = " or ".join(OPTIMIZERS)
        require("training.optimizer", self.optimizer, self.optimizer in OPTIMIZERS, names)
        require("training.device", self.device, self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")


# Task -> classes of its settings of network and loss.
TASKS: dict[str, tuple[type, type]] = {
    **dict.fromkeys(HEADS, (NetworkConfig, LossConfig)),
    "heptv2": (HeptConfig, HeptLossConfig),
    "hept": (HeptV1Config, HeptV1LossConfig),
}
NetworkSettings = NetworkConfig | HeptConfig | HeptV1Config
LossSettings = LossConfig | HeptLossConfig | HeptV1LossConfig


def settings_classes(kind: str) -> dict[str, type]:
    """Return block -> class of its settings, for the blocks "network", "loss" and "training" of task ``kind``.

    Raises ConfigError for an unknown task.
    """
    require("model.task", kind, kind in TASKS, "one of " + ", ".join(TASKS))
    network, loss = TASKS[kind]
    return {"network": network, "loss": loss, "training": TrainingConfig}


def check_task(kind: str, network: NetworkSettings, loss: LossSettings) -> None:
    """Raise ConfigError unless network and loss are settings of task ``kind`` that fit each other."""
    classes = settings_classes(kind)
    for name, value in (("network", network), ("loss", loss)):
        if not isinstance(value, classes[name]):
            expected = f"{classes[name].__name__} for task {kind}"
            raise ConfigError(describe(name, f"settings {type(value).__name__}", expected))
    if kind in HEADS:
        _check_heads(kind, network, loss)
    else:
        _check_symmetries(network, loss)


def _check_symmetries(network: HeptConfig | HeptV1Config, loss: HeptLossConfig | HeptV1LossConfig) -> None:
    """Shapes of clusters turn with the event, but what a mirror does to them depends on the module."""
    for name in ("flip", "mirror"):
        if getattr(loss, name) and network.inputs == "published":
            remedy = "or choose network.inputs 'geometry'"
            raise ConfigError(describe(f"loss.{name}", "value True", "False with inputs 'published'", remedy))


def _check_heads(kind: str, network: NetworkConfig, loss: LossConfig) -> None:
    """The heads of the task must be there, and as many classes as the loss has."""
    present = {
        "targets": network.targets != "none",
        "classes": network.classes > 0,
        "classifier_layers": network.classifier_layers > 0,
        "embedding": network.embedding > 0,
    }
    for name, there in present.items():
        if (kind, name) == ("contrastive", "targets"):
            continue
        value, needed = getattr(network, name), name in HEADS[kind]
        if there != needed:
            none = "'none'" if name == "targets" else "0"
            expected = f"{'not ' if needed else ''}{none} for task {kind}"
            raise ConfigError(describe(f"network.{name}", f"value {value!r}", expected, "or choose another task"))
    if network.classes and network.classes != loss.n_classes:
        expected = f"{loss.n_classes} = 2 n_phi n_theta n_p of the loss"
        remedy = "change network.classes or the numbers of bins"
        raise ConfigError(describe("network.classes", f"value {network.classes}", expected, remedy))
