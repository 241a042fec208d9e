"""Time and peak memory of one attention layer under a mask, forward or with backward, for each backend that can."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from trackbench.errors import require
from trackbench.machine import machine_facts
from trackbench.memory import peak_mb, reset_peak, resident_mb, return_free_memory
from trackbench.trackers.layers.network_config import MaskConfig

log = logging.getLogger(__name__)

BACKENDS = ("sdpa", "varlen", "flex")


@dataclass(frozen=True)
class CostPlan:
    """What is measured.

    backends: of ``BACKENDS``, those that cannot compute a mask are left out; empty = sdpa and varlen, on CUDA flex
        too. On CPUs flex is compiled for each mask and size, which takes seconds of the first call each.
    sizes: numbers of hits of tiled events
    timed_events: number of first events of the sample that are timed; tiled ones always are
    calls: recorded calls after the first, >= 1
    heads, width: heads and their dimension
    largest_dense: no dense masks above this number of hits
    device: "auto", "cpu" or "cuda"
    backward: a step of training is measured, with the gradients of queries, keys and values; not flex on CPUs
    """

    backends: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    timed_events: int = 1
    calls: int = 3
    heads: int = 4
    width: int = 32
    largest_dense: int = 20_000
    device: str = "auto"
    backward: bool = False

    def __post_init__(self):
        for backend in self.backends:
            require("masks.backends", backend, backend in BACKENDS, "one of " + ", ".join(BACKENDS))
        for name in ("timed_events", "calls", "heads", "width"):
            require(f"masks.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        require("masks.sizes", self.sizes, all(size >= 1 for size in self.sizes), "numbers >= 1")
        require("masks.device", self.device, self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")

    def resolved_device(self) -> str:
        """The device used: "cuda" or "cpu". Raises ConfigError for "cuda" where there is none."""
        from trackbench.trackers.layers.learned import choose_device

        return choose_device(self.device, "masks.device")

    def backends_for(self, config: MaskConfig, n_hits: int) -> list[str]:
        """Backends that can compute a mask of an event."""
        from trackbench.trackers.layers.mask_rules import KINDS

        names = self.backends or (BACKENDS if self.resolved_device() == "cuda" else BACKENDS[:2])
        names = [name for name in names if name != "varlen" or KINDS[config.kind].partition]
        if self.backward and self.resolved_device() != "cuda":
            names = [name for name in names if name != "flex"]
        if n_hits > self.largest_dense and config.kind != "padding" and "sdpa" in names:
            log.info("%d hits: no dense mask above %d hits", n_hits, self.largest_dense)
            names.remove("sdpa")
        return names


def setup_text(plan: CostPlan) -> str:
    """Layer, number type, device and threads in words."""
    import torch

    step = ", forward and backward" if plan.backward else ""
    layer = f"{plan.heads} heads of {plan.width}, float32, one event per call{step}"
    if plan.resolved_device() == "cuda":
        return f"{layer}, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{layer}, {machine_facts()['cpu']}, {threads} thread" + ("s" if threads != 1 else "")


def layer_costs(config: MaskConfig, batch, plan: CostPlan, seed: int) -> Iterator[dict]:
    """Measure one layer on one batch.

    batch: ``layers.batch.Batch`` on the CPU
    Yields dictionaries with backend, quantity (build_ms, wall_ms, cpu_ms, memory_mb), value, lo, hi, n. Times are
    medians of the calls with their 16 and 84 % quantiles, memory is that of one call.
    """
    import torch

    device = plan.resolved_device()
    batch = batch.to(device)
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch.xyz.shape[:2], plan.heads, plan.width)
    qkv = [torch.randn(shape, generator=generator).to(device).transpose(1, 2) for _ in range(3)]
    qkv = [tensor.requires_grad_(plan.backward) for tensor in qkv]
    with torch.set_grad_enabled(plan.backward):
        for backend in plan.backends_for(config, batch.xyz.shape[1]):
            for row in _backend_costs(config, batch, qkv, backend, plan):
                yield {"backend": backend, **row}


def _backend_costs(config: MaskConfig, batch, qkv: list, backend: str, plan: CostPlan) -> Iterator[dict]:
    import torch

    from trackbench.trackers.layers.attention import attention, prepare
    from trackbench.trackers.layers.flex_blocks import forget
    from trackbench.trackers.layers.masks import AttentionMask

    compiled, cuda = backend == "flex", batch.xyz.device.type == "cuda"

    def build():
        forget()
        mask = AttentionMask.build(config, batch)
        prepare(mask, backend)
        return mask

    def step(mask):
        out = attention(*qkv, mask, backend, compiled=compiled)
        return torch.autograd.grad(out, qkv, torch.ones_like(out)) if plan.backward else out

    def both():
        step(build())

    both()  # compiles, loads and fills what stays
    mask = build()
    layer = partial(step, mask)
    times = {"build": [], "layer": []}
    for _ in range(plan.calls):
        times["build"].append(_seconds(build, cuda))
        times["layer"].append(_seconds(layer, cuda))
    del mask, layer  # else their memory would count as there before
    for quantity, name, clock in (("build_ms", "build", 0), ("wall_ms", "layer", 0), ("cpu_ms", "layer", 1)):
        low, median, high = np.quantile([1e3 * seconds[clock] for seconds in times[name]], (0.16, 0.5, 0.84))
        yield {"quantity": quantity, "value": median, "lo": low, "hi": high, "n": plan.calls}
    yield {"quantity": "memory_mb", "value": _peak_of(both, cuda), "n": 1}


def _seconds(work: Callable, cuda: bool) -> tuple[float, float]:
    """Wall clock and CPU seconds of a call, to the end of what it started on the GPU."""
    _wait(cuda)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    _wait(cuda)
    return time.perf_counter() - wall, time.process_time() - cpu


def _wait(cuda: bool) -> None:
    import torch

    if cuda:
        torch.cuda.synchronize()


def _peak_of(work: Callable, cuda: bool) -> float:
    """Peak memory [MB] of a call above what was used before it: of the GPU or of this process."""
    import torch

    if cuda:
        _wait(cuda)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        _wait(cuda)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    return_free_memory()
    reset_peak()
    before = resident_mb()
    work()
    return max(peak_mb() - before, 0.0)
