"""CPU time of HEPTv2 at its published size against the published design in plain torch, stage by stage.

    python benchmarks/bench_heptv2.py PREFIX [--hits 4998 19999 60000] [--repeats 5] [--out FILE]

PREFIX: of a simulated event of 200 pile-up with cells, of which random hits are taken (``tiling.tile_event``).
Network: ``HeptConfig()``, that is width 128, 8 heads, 4 layers, 3 rounds of blocks of 1,024 hits, 3 sectors, 3,000
learned queries, 2 decoder layers; random weights, the same for both. One thread, float32. The peer is
``published_design``: same weights, same sizes, same fused attention as in the quoted measurement; its scoring is in
float32 too, and given in bfloat16, as published, beside. Both run in turn (interleaved), each call on another event of
that size, so that a busy machine slows both alike; a first call of each is not counted. Printed: CPU seconds per stage
(min, median, max), ratio ours / peer per call, and the quoted seconds. Post-processing is ours only, not in the total.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import published_design as peer
import torch

from trackbench.data.prepare import DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.machine import machine_facts
from trackbench.tiling import tile_event
from trackbench.trackers.layers.assignment import assign
from trackbench.trackers.layers.hept_batch import collate
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.merging import merge_fragments

RESULT = Path(__file__).resolve().parent / "results" / "heptv2.json"
CUT = -5.4
STAGES = ("serialisation", "encoder", "decoder", "assignment")
# CPU seconds of the reference's own classes with torch's fused attention, float32 assignment; another machine state:
# one thread of an AVX2 EPYC with shared cores. Encoder with serialisation.
QUOTED = {
    4998: {"encoder": 2.2, "decoder": 1.9, "assignment": 0.13, "assignment bfloat16": 2.3, "total": 4.2},
    19999: {"encoder": 9.7, "decoder": 3.9, "assignment": 0.67, "assignment bfloat16": 10.6, "total": 14.0},
}


class Stages:
    """CPU seconds of the stages of one call."""

    def __init__(self):
        self.seconds = {}

    def run(self, name, function, *arguments):
        """Result of the function; its time is noted."""
        start = time.process_time()
        found = function(*arguments)
        self.seconds[name] = time.process_time() - start
        return found


def run_ours(network, batch):
    """One event through our code. Returns labels and seconds per stage."""
    stages, n = Stages(), int(batch.lengths[0])
    encoder = network.encoder
    orders = stages.run("serialisation", encoder.orders, batch)
    encoded = stages.run("encoder", encoder.encode, batch.features, batch.positions, batch.lengths, orders)
    decoded = stages.run("decoder", network.decoder, batch, encoded)
    labels = stages.run("assignment", assign, decoded, (n,), CUT)[0]
    found = torch.from_numpy(labels)
    stages.run("post-processing", merge_fragments, encoded.embedding[0], found)
    return labels, stages.seconds


def run_peer(network, batch):
    """The same event through the published design. Returns labels and seconds per stage."""
    stages, event = Stages(), peer.pad(batch, network.config.block)
    hits, _, _ = stages.run("encoder with sorts", peer.encode, network, event)
    stages.run("serialisation", peer.sort_all, network, event)  # once more, to know its share
    found = stages.run("decoder", peer.decode, network, event, hits)
    labels = stages.run("assignment", peer.assign, found, event, CUT)
    stages.run("assignment bfloat16", peer.assign, found, event, CUT, torch.bfloat16)
    seconds = stages.seconds
    seconds["encoder"] = seconds.pop("encoder with sorts") - seconds["serialisation"]
    return labels.numpy(), seconds


def total(seconds):
    """Seconds of the stages both have."""
    return sum(seconds[name] for name in STAGES)


def spread(values):
    """Least, median and greatest."""
    low, middle, high = np.quantile(values, [0.0, 0.5, 1.0])
    return {"min": round(float(low), 4), "median": round(float(middle), 4), "max": round(float(high), 4)}


def run_size(network, hits, n_hits, repeats):
    """Measure one number of hits; print and return its entry."""
    seconds = {"ours": [], "peer": []}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            batch = collate([tile_event(hits, n_hits, seed=repeat)], network.config.inputs)
            found = {"ours": run_ours(network, batch)[1], "peer": run_peer(network, batch)[1]}
            if repeat:
                for name, times in found.items():
                    seconds[name].append({**times, "total": total(times)})
    entry = {"n_hits": n_hits, "cpu_s": {}}
    for name, calls in seconds.items():
        entry["cpu_s"][name] = {stage: spread([call[stage] for call in calls]) for stage in calls[0]}
    ratios = [ours["total"] / other["total"] for ours, other in zip(seconds["ours"], seconds["peer"], strict=True)]
    entry["ours_over_peer"] = spread(ratios)
    quoted = QUOTED.get(n_hits)
    if quoted:
        entry["quoted_cpu_s"] = quoted
        entry["ours_over_quoted"] = round(entry["cpu_s"]["ours"]["total"]["median"] / quoted["total"], 3)
    print(f"\n{n_hits:,} hits, CPU s (min median max)")
    for stage in (*STAGES, "assignment bfloat16", "total", "post-processing"):
        texts = []
        for name, times in entry["cpu_s"].items():
            if stage in times:
                texts.append("{} {min:.2f} {median:.2f} {max:.2f}".format(name, **times[stage]))
        if quoted and stage in quoted:
            texts.append(f"quoted {quoted[stage]}")
        print(f"  {stage:20s} {'; '.join(texts)}")
    print("  ours / peer          {min:.2f} {median:.2f} {max:.2f}".format(**entry["ours_over_peer"]))
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefix")
    parser.add_argument("--hits", type=int, nargs="+", default=[4998, 19999, 60000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    selection = DataSelection(cells=True)
    hits, _ = build_event(read_event(args.prefix, selection.parts), selection, 1)
    torch.manual_seed(0)
    network = HeptNetwork(HeptConfig()).eval()
    results = [run_size(network, hits, n_hits, args.repeats) for n_hits in args.hits]
    report = {
        "machine": machine_facts(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
        "precision": "float32",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "llvmlite")},
        "repeats": args.repeats,
        "event_hits": len(hits),
        "peer": "published design in plain torch with its fused attention, benchmarks/published_design.py",
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
