"""Whether the backends of attention give equal numbers on a device, and how large their differences are.

The reference is dense attention in float64 on the same device. Tolerances are for standard-normal queries, keys and
values: of outputs absolute, of gradients relative to the largest one of the reference. In float32 sums over thousands
of keys in another order differ by about 1e-6, bfloat16 has 8 bits; larger differences mean that pairs are wrong.
"""

from collections.abc import Iterator, Mapping

from trackbench.mask_cost import CostPlan
from trackbench.trackers.layers.network_config import MaskConfig

# number type -> (of outputs, of gradients)
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (3e-2, 6e-2)}


def backend_differences(
    masks: Mapping[str, MaskConfig], batches: Mapping[str, object], plan: CostPlan, seed: int = 0
) -> Iterator[dict]:
    """Compare every backend with the reference.

    masks: name -> mask; batches: name -> ``layers.batch.Batch`` on the CPU, with clusters where the mask needs them
    plan: device, backends, heads and width; backends that cannot train on the device are compared forward only
    Yields dictionaries with mask, backend, dtype, quantity ("forward" or "gradient"), difference, tolerance, good.
    float32 everywhere, bfloat16 on CUDA too.
    """
    device = plan.resolved_device()
    names = [name for name in TOLERANCES if name == "float32" or device == "cuda"]
    for name, config in masks.items():
        batch = batches[name].to(device)
        inputs = _inputs(batch, plan, seed)
        exact = _results(config, batch, inputs, "sdpa", "float64", True)
        for backend in plan.backends_for(config, batch.xyz.shape[1]):
            for dtype in names:
                trains = device == "cuda" or backend != "flex"
                found = _results(config, batch, inputs, backend, dtype, trains)
                for row in _compared(exact, found, TOLERANCES[dtype]):
                    yield {"mask": name, "backend": backend, "dtype": dtype, **row}


def _inputs(batch, plan: CostPlan, seed: int) -> list:
    """Queries, keys, values and the gradient of the output, (B, H, S, E) float64 each, rounded to bfloat16."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    n_events, size = batch.xyz.shape[:2]
    shape = (n_events, plan.heads, size, plan.width)
    values = [torch.randn(shape, generator=generator).bfloat16().double().to(batch.xyz.device) for _ in range(4)]
    values[3] = values[3] * batch.valid[:, None, :, None]  # nobody asks for outputs of the padding
    return values


def _results(config: MaskConfig, batch, inputs: list, backend: str, dtype: str, trains: bool) -> dict:
    """Output and gradients as float64, "forward" -> one tensor, "gradient" -> three; the latter if it trains."""
    import torch

    from trackbench.trackers.layers.attention import attention
    from trackbench.trackers.layers.masks import AttentionMask

    mask = AttentionMask.build(config, batch)
    *qkv, wanted = (tensor.detach().to(getattr(torch, dtype)) for tensor in inputs)
    qkv = [tensor.requires_grad_(trains) for tensor in qkv]
    with torch.set_grad_enabled(trains):
        out = attention(*qkv, mask, backend)
    found = {"forward": [out.detach().double()]}
    if trains:
        found["gradient"] = [tensor.double() for tensor in torch.autograd.grad(out, qkv, wanted)]
    return found


def _compared(exact: dict, found: dict, tolerances: tuple[float, float]) -> Iterator[dict]:
    for quantity, tolerance in zip(("forward", "gradient"), tolerances, strict=True):
        if quantity in found:
            pairs = list(zip(exact[quantity], found[quantity], strict=True))
            difference = max((a - b).abs().max().item() for a, b in pairs)
            if quantity == "gradient":
                difference /= max(a.abs().max().item() for a, _ in pairs)
            # Written so that a difference that is no number is bad.
            good = difference <= tolerance
            yield {"quantity": quantity, "difference": difference, "tolerance": tolerance, "good": good}
