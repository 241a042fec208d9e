"""Time and memory on a machine with a GPU, as far as the time goes.

    python3 gpu/bench.py --out FOLDER --minutes 9 --wheels FOLDER     (or make gpu-bench)

What is measured follows from the configuration: with samples of whole events, HEPTv2 part by part on tiled events, next
to its floor and to published times; with sets of few tracks, equality of the backends of attention (fails beyond the
tolerances of ``trackbench.backend_checks``), time and memory of one layer per mask, forward and with backward, and
latency of network and clustering against tracks. The record is FOLDER/gpu-bench.json; tables are printed last. See
docs/gpu.md.
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
    "hept": {"sizes": (20_000, 60_000, 200_000, 500_000)},
}
TINY = FULL | {
    "parents": 1,
    "equality_hits": 100,
    "sizes": (200,),
    "train_sizes": (200,),
    "tracks": (10, 20),
    "calls": 1,
    "limit_s": 5.0,
    "hept": {"sizes": (300, 600), "blocks": (64, 128), "warmup": 1, "calls": 2, "published_size": False},
}
# One mask of each kind: compiling FlexAttention with its gradient takes long.
KINDS = ("all pairs", "cluster", "cone 0.7", "window 512", "8 sectors + 0.1")
# The published EncReg of 200-500 tracks; its time does not depend on its weights.
PUBLISHED = {"width": 128, "heads": 4, "ffn": 256, "layers": 7}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config/gpu-heptv2.yaml", help="models and events")
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

    from trackbench.campaign.study import read_study
    from trackbench.campaign.workers import Clock
    from trackbench.files import write_json
    from trackbench.machine import usable_cpus
    from trackbench.trackers.layers.learned import choose_device

    device = choose_device(args.device, "--device")
    torch.set_num_threads(args.threads or (usable_cpus() if device == "cuda" else 1))
    study = read_study(args.config, SCHEMA, args.work, device)
    sizes = TINY if study.config["run"].endswith("tiny") else FULL
    clock = Clock(BEGIN + 60 * args.minutes * 0.85)
    record = {**origin(args.commit), "threads": torch.get_num_threads(), "seed": study.seed, "sizes": sizes}
    failures, text = [], []

    def write() -> None:
        record.update(failures=failures, seconds=round(time.monotonic() - BEGIN, 1))
        write_json(args.out / "gpu-bench.json", record)

    if study.collisions:
        text.append(whole_events(study, sizes["hept"], clock, (record, failures, write), args.work))
    if study.sets:
        text.append(few_tracks(study, sizes, clock, (record, failures, write), args.work))
    write()
    say(f"wrote {args.out / 'gpu-bench.json'}\n")
    say("\n\n".join([*text, *(["## Failed", "\n".join(f"- {line}" for line in failures)] if failures else [])]))
    return not failures and all(row["good"] for row in record.get("equality", []))


def whole_events(study, sizes: dict, clock, told: tuple, work: Path) -> str:
    """Measure HEPTv2. told: the record, its failures, and what writes them. Returns the table."""
    from trackbench.campaign.hept_bench import HeptBench, HeptBenchPlan, bench_hits, hept_table, published_scaling

    record, failures, write = told
    published = published_scaling(ROOT / "config/published.csv")
    bench = HeptBench(study, bench_hits(study, work), HeptBenchPlan(**sizes), clock, failures)

    def note(rows: list) -> None:
        record["heptv2"] = rows
        write()

    rows = bench.measure(done=note)
    record["heptv2_published"] = published
    say(f"{time.monotonic() - BEGIN:.0f} s: HEPTv2 done")
    return f"## HEPTv2 on {record['device']}\n\n" + hept_table(rows, published)


def few_tracks(study, sizes: dict, clock, told: tuple, work: Path) -> str:
    """Measure the networks of sets of few tracks. Arguments and result as of ``whole_events``."""
    from trackbench.campaign.bench import Bench, bench_events

    record, failures, write = told
    bench = Bench(study, bench_events(study, sizes["parents"], work), sizes, clock)
    parts = {
        "equality": lambda: bench.equality(KINDS),
        "layers": bench.layers,
        "training_layers": lambda: bench.layers(KINDS, backward=True),
        "latency": lambda: bench.latency(PUBLISHED),
    }
    for name, part in parts.items():
        record[name] = part()
        write()
        say(f"{time.monotonic() - BEGIN:.0f} s: {name} done")
    failures += bench.failures
    return bench.tables(record)


if __name__ == "__main__":
    main()
