"""The learning rate as a pure function of the step, so that resuming needs no state of a scheduler."""

import math

from trackbench.training.config import TrainingConfig

_FIRST, _LAST = 25.0, 2.5e5  # one_cycle starts at peak / _FIRST and ends at peak / _LAST, as in PyTorch
_RISE = 0.3  # share of the steps in which one_cycle rises unless ``warmup`` says it


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step, from 0: a pure function of the step. Schedules: see ``TrainingConfig``.

    one_cycle is that of ``torch.optim.lr_scheduler.OneCycleLR`` with its default factors.
    """
    peak, last = config.learning_rate, config.steps - 1
    if config.schedule == "one_cycle":
        top = max((config.warmup or _RISE * config.steps) - 1, 0.0)
        if step <= top:
            return _half_cosine(peak / _FIRST, peak, step / top if top else 1.0)
        return _half_cosine(peak, peak / _LAST, (step - top) / (last - top))
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    if config.schedule == "cosine":
        begin, end = config.warmup + config.hold, config.steps - config.tail
        part = min(max((step - begin) / (end - begin), 0.0), 1.0)
        return _half_cosine(peak, config.final_rate * peak, part)
    return peak


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
