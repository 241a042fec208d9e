"""CPU time of the attention of one encoder layer of HEPTv2 against explicit softmax on the same blocks.

    python benchmarks/bench_hept_attention.py [--hits 20000] [--blocks 1024 256] [--repeats 5] [--out FILE]

8 heads of 16, 3 rounds, float32, one thread; random queries, keys and values, orders by the hashing of random hits.
Ours and the explicit form run in turn (interleaved), so that a busy machine slows both alike. The explicit form
works head by head, which bounds its memory; part of its time goes into fresh memory for the logits. Printed: CPU
seconds of forward and backward pass (min, median, max) and ratios explicit / ours per round. The first call of each is
not counted. Also measured: all orders of an encoder of 4 layers.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread each; before numpy is imported

import numpy as np
import torch

from trackbench.runner import machine_facts
from trackbench.trackers.layers.block_attention import block_attention
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.serialization import Serialization

RESULT = Path(__file__).resolve().parent / "results" / "hept_attention.json"
SCALE = 0.25
PARTS = ("forward", "backward")


def explicit_attention(q, k, v, orders, lengths, block, scale):
    """Attention of one event without padding by softmax of stored logits; arguments of ``block_attention``."""
    heads = [explicit_head(q[0, h], k[0, h], v[0, h], orders[0, h], block, scale) for h in range(q.shape[1])]
    return torch.stack(heads)[None]


def explicit_head(q, k, v, orders, block, scale):
    """One head: q, k, v (N, d); orders (rounds, N)."""
    outs, norms = [], []
    for order in orders:
        parts, lse = [], []
        whole = len(order) - len(order) % block
        for places in (order[:whole].view(-1, block), order[whole:].view(1, -1)):
            if places.numel():
                logits = scale * q[places] @ k[places].transpose(-1, -2)
                parts.append((torch.softmax(logits, -1) @ v[places]).flatten(0, 1))
                lse.append(torch.logsumexp(logits, -1).flatten())
        inverse = torch.argsort(order)
        outs.append(torch.cat(parts)[inverse])
        norms.append(torch.cat(lse)[inverse])
    return (torch.softmax(torch.stack(norms), 0)[..., None] * torch.stack(outs)).sum(0)


def one_call(function, tensors, rest, gradient):
    """CPU seconds of forward and backward pass, and what they give."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    start = time.process_time()
    out = function(*leaves, *rest)
    middle = time.process_time()
    grads = torch.autograd.grad(out, leaves, gradient)
    return (middle - start, time.process_time() - middle), [out.detach(), *grads]


def spread(values):
    return {
        "min": round(float(np.min(values)), 4),
        "median": round(float(np.median(values)), 4),
        "max": round(float(np.max(values)), 4),
    }


def run_block(block, n_hits, repeats):
    """Measure one block size; print and return its entry."""
    torch.manual_seed(0)
    config = HeptConfig(block=block)
    module = Serialization(config)
    angles = torch.stack((1.5 * torch.randn(1, n_hits), (2 * torch.rand(1, n_hits) - 1) * torch.pi), dim=-1)
    valid, lengths = torch.ones(1, n_hits, dtype=torch.bool), torch.tensor([n_hits])
    shape = (1, n_hits, config.heads, config.width // config.heads)
    *tensors, gradient = (torch.randn(shape).transpose(1, 2) for _ in range(4))
    functions = {"ours": block_attention, "explicit softmax": explicit_attention}
    seconds, hashing, found = {name: [] for name in functions}, [], {}
    for number in range(repeats + 1):
        start = time.process_time()
        orders = module(angles, valid)
        hashing.append(time.process_time() - start)
        for name, function in functions.items():
            rest = (orders[0], lengths, block, SCALE)
            times, found[name] = one_call(function, tensors, rest, gradient)
            if number:
                seconds[name].append((*times, sum(times)))
    pairs = list(zip(found["ours"], found["explicit softmax"], strict=True))
    entry = {"block": block, "largest_difference": float(f"{max((a - b).abs().max().item() for a, b in pairs):.1e}")}
    entry["orders_of_4_layers_cpu_s"] = spread(hashing[1:])
    arrays = {name: np.array(values).T for name, values in seconds.items()}
    print(f"\nblock {block}: largest difference of outputs and gradients {entry['largest_difference']:.1e}")
    for index, part in enumerate((*PARTS, "both")):
        times = {name: spread(values[index]) for name, values in arrays.items()}
        ratio = spread(arrays["explicit softmax"][index] / arrays["ours"][index])
        entry[part] = {"cpu_s": times, "ratio_to_ours": ratio}
        text = ", ".join("{} {min:.3f} {median:.3f} {max:.3f} s".format(name, **t) for name, t in times.items())
        print("  {:9s} {}; ratio {min:.1f} {median:.1f} {max:.1f}".format(part, text, **ratio))
    print("  all orders of 4 layers {min:.3f} {median:.3f} {max:.3f} s".format(**entry["orders_of_4_layers_cpu_s"]))
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hits", type=int, default=20000)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1024, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = [run_block(block, args.hits, args.repeats) for block in args.blocks]
    report = {
        "machine": machine_facts(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "repeats": args.repeats,
        "n_hits": args.hits,
        "heads": 8,
        "head_width": 16,
        "rounds": 3,
        "unit": "CPU s of the attention of one layer",
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
