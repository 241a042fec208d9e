"""Attention backends and latency on a machine with a GPU, as far as the time goes.

    python3 gpu/bench.py --out FOLDER --minutes 9 --wheels FOLDER     (or make gpu-bench)

Three parts: equality of the backends of attention (fails beyond the tolerances of ``trackbench.backend_checks``), time
and memory of one layer per mask, forward and with backward, and latency of network and clustering against tracks. The
record is FOLDER/gpu-bench.json; tables are printed last. See docs/gpu.md.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

from setup import ROOT, SCHEMA, origin, say, set_up

BEGIN = time.monotonic()
# What is measured; the second is for the dry run.
FULL = {
    "parents": 6,
    "equality_hits": 2000,
    "sizes": (2000, 8000, 32000),
    "train_sizes": (2000, 8000),
    "tracks": (250, 500, 1000, 2000, 4000, 8000),
    "calls": 3,
    "limit_s": 15.0,
}
TINY = FULL | {
    "parents": 1,
    "equality_hits": 100,
    "sizes": (200,),
    "train_sizes": (200,),
    "tracks": (10, 20),
    "calls": 1,
    "limit_s": 5.0,
}
# One mask of each kind: compiling FlexAttention with its gradient takes long.
KINDS = ("all pairs", "cluster", "cone 0.7", "window 512", "8 sectors + 0.1")
# The published EncReg of 200-500 tracks; its time does not depend on its weights.
PUBLISHED = {"width": 128, "heads": 4, "ffn": 256, "layers": 7}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config/gpu.yaml", help="models and events")
    parser.add_argument("--out", type=Path, required=True, help="folder of the record")
    parser.add_argument("--work", type=Path, default=ROOT / "build/gpu", help="folder of gpu-train, for its weights")
    parser.add_argument("--wheels", type=Path, help="wheels of packages that may be missing")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing after 85 %% of them (default 9)")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: with CUDA all CPUs, else 1)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--commit", help="commit of the code, where there is no git")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    set_up(args.wheels, args.work / "site")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("trackbench").setLevel(logging.INFO)
    from trackbench.errors import TrackbenchError

    try:
        good = run(args)
    except TrackbenchError as error:
        sys.exit(f"error: {error}")
    if not good:
        sys.exit("error: backends differ by more than their tolerance, or something failed: see above")


def run(args: argparse.Namespace) -> bool:
    """All parts as far as the time goes. Returns whether nothing failed and the backends agree."""
    import torch

    from trackbench.campaign.bench import Bench, bench_events
    from trackbench.campaign.study import read_study
    from trackbench.campaign.workers import Clock
    from trackbench.files import write_json
    from trackbench.machine import usable_cpus
    from trackbench.trackers.layers.learned import choose_device

    device = choose_device(args.device, "--device")
    torch.set_num_threads(args.threads or (usable_cpus() if device == "cuda" else 1))
    study = read_study(args.config, SCHEMA, args.work, device)
    sizes = TINY if study.config["run"].endswith("tiny") else FULL
    events = bench_events(study, sizes["parents"], args.work)
    bench = Bench(study, events, sizes, Clock(BEGIN + 60 * args.minutes * 0.85))
    record = {**origin(args.commit), "threads": torch.get_num_threads(), "seed": study.seed, "sizes": sizes}
    parts = {
        "equality": lambda: bench.equality(KINDS),
        "layers": bench.layers,
        "training_layers": lambda: bench.layers(KINDS, backward=True),
        "latency": lambda: bench.latency(PUBLISHED),
    }
    for name, part in parts.items():
        record[name] = part()
        record |= {"failures": bench.failures, "seconds": round(time.monotonic() - BEGIN, 1)}
        write_json(args.out / "gpu-bench.json", record)
        say(f"{time.monotonic() - BEGIN:.0f} s: {name} done")
    say(f"wrote {args.out / 'gpu-bench.json'}\n")
    say(bench.tables(record))
    return not bench.failures and all(row["good"] for row in record["equality"])


if __name__ == "__main__":
    main()
