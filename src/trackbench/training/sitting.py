"""One sitting of a training: its device, reproducibility, signals, batches made ahead, and words on its progress."""

import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch.utils import deterministic

from trackbench.machine import surroundings

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


def device_name(device: torch.device) -> str:
    """Return "cpu" or "cuda" with the name of the card."""
    return device.type if device.type == "cpu" else f"cuda ({torch.cuda.get_device_name(device)})"


def made_with(device: torch.device) -> dict:
    """What the last bits of a training may depend on: device, threads, machine and versions."""
    return {"device": device_name(device), **surroundings(torch.get_num_threads())}


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms on a CPU; the caller's random state and choice of algorithms come back at the end.

    Memory nobody has written yet is not filled, as torch does by default beside such algorithms: nothing here reads it,
    and filling takes time.
    """
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.use_deterministic_algorithms(before or device.type == "cpu", warn_only=warn_only)
        deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            deterministic.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


def prepared_batches(make: Callable[[int], object], steps: range, ahead: bool) -> Iterator:
    """Make the batches of ``steps``; with ``ahead`` the next one is made while the device works on this one."""
    if not ahead:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(make, steps[0]) if steps else None
        for following in itertools.chain(steps[1:], [None]):
            if waiting is None:
                return
            batch = waiting.result()
            waiting = None if following is None else pool.submit(make, following)
            yield batch


@dataclass
class Stop:
    """name: of the signal that asked to stop, "" = none."""

    name: str = ""


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note SIGTERM and SIGINT instead of dying; a second one acts as before. Handlers are restored at the end."""
    stop, earlier = Stop(), {}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def note(number, _frame) -> None:
        stop.name = signal.Signals(number).name
        restore()

    if threading.current_thread() is threading.main_thread():  # others cannot have handlers
        for number in (signal.SIGTERM, signal.SIGINT):
            earlier[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()


class Reporter:
    """Says how far the training is: a bar on a terminal, else a log line at most every ``LOG_EVERY_S`` seconds."""

    def __init__(self, steps: int, begun: int):
        self._steps, self._begun = steps, begun
        self._clock = self._told = time.perf_counter()
        self._bar = None

    def __enter__(self) -> "Reporter":
        if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
            from tqdm import tqdm

            self._bar = tqdm(total=self._steps, initial=self._begun, unit="step")
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, step: int, rows: list[dict]) -> None:
        """Tell that ``step`` steps are done. rows: the history."""
        losses = f"loss {rows[-1]['train_total']:.4g}, validation {rows[-1]['val_total']:.4g}" if rows else ""
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.set_postfix_str(losses, refresh=False)
            self._bar.update(step - self._bar.n)
        elif now - self._told >= LOG_EVERY_S or step == self._steps:
            left = (now - self._clock) / (step - self._begun) * (self._steps - step)
            text = f"step {step} of {self._steps}" + (f", {losses}" if losses else "")
            logger.info("%s, %s left", text, duration(left))
            self._told = now


def duration(seconds: float) -> str:
    """Write a duration in words, such as "2 h 1 min" or "4 min 10 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
