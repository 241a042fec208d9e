"""Time and memory of rows of ``config/cpu.yaml`` against the number of hits, as the rule ``scaling`` measures them.

    python benchmarks/record_scaling.py results/cpu [--set pileup-2] [--limit-s 120] [--memory-mb 16000] [--out FILE]

results/cpu is the folder of a run: prepared events, weights and, where they were tuned already, settings. The first
test event is tiled to the sizes of ``collisions.scaling``, one call each on one thread, each row in a process of its
own. A network without weights there gets random ones, which the record says. docs/heptv2.md shows the record.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread; before numpy is imported

import yaml

from trackbench.collisions import scaling_rows
from trackbench.config import check_config, read_schema
from trackbench.learning_config import find_row, model_settings
from trackbench.machine import machine_facts

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "heptv2_scaling.json"
MEASURED = ("n_hits", "status", "cpu_s", "peak_mb", "n_candidates")


def configuration():
    """Checked ``config/cpu.yaml``."""
    text = (ROOT / "config/cpu.yaml").read_text(encoding="utf-8")
    return check_config(yaml.safe_load(text), read_schema(ROOT / "workflow/schemas/config.schema.yaml"))


def random_weights(config, row, path):
    """Write untrained weights of the network of a row."""
    import torch

    from trackbench.training.run import build_settings
    from trackbench.training.tasks import make_task

    torch.manual_seed(config["seed"])
    blocks = model_settings(config, row.model, row.trained_on)
    settings = build_settings(config["models"][row.model]["task"], blocks)
    task = make_task(config["models"][row.model]["task"], settings["network"], settings["loss"])
    task.save(path, task.build(), {"label": "not trained"})


def settings_of(config, name, args, scratch):
    """Module and settings of a row, and what is to be said about its weights and settings."""
    row = find_row(config, name, args.set_name)
    tuned = args.folder / f"tuned/{args.set_name}/{name}.json"
    settings = json.loads(tuned.read_text(encoding="utf-8"))["settings"] if tuned.is_file() else dict(row.settings)
    words = "settings tuned" if tuned.is_file() else "settings as configured"
    if row.model:
        weights = args.folder / f"models/{row.model}/{row.trained_on}.pt"
        if weights.is_file():
            facts = json.loads(weights.with_name(f"{weights.stem}-facts.json").read_text(encoding="utf-8"))
            words += f", weights trained for {facts['steps']} steps, {facts['settings']['network']}"
        else:
            words += ", RANDOM weights"
            weights = scratch / "random.pt"
            random_weights(config, row, weights)
        settings["checkpoint"] = str(weights)
    return row.tracker, settings, words


def measure(name, args):
    """Study of one row: a list of its calls, and what it was run with."""
    from trackbench.data.shards import read_events
    from trackbench.scaling import ScalingPlan, scaling_study
    from trackbench.trackers.base import build_tracker

    config = configuration()
    block = config["collisions"]["scaling"]
    with tempfile.TemporaryDirectory() as scratch:
        module, settings, words = settings_of(config, name, args, Path(scratch))
        tracker = build_tracker(module, settings, config["seed"])
        hits, _ = next(read_events(args.folder / f"prepared/{args.set_name}/index.csv", "test", limit=1))
        limits = {"limit_s": args.limit_s, "memory_mb": args.memory_mb}
        study = scaling_study(tracker, hits, ScalingPlan(tuple(block["tiling"]), 1, **limits, seed=config["seed"]))
    calls = json.loads(study[list(MEASURED)].to_json(orient="records", double_precision=4))
    return {"row": name, "run_with": words, "calls": calls}


def table(record):
    """The table of docs/heptv2.md, Markdown: CPU seconds and peak memory, and why sizes were left out."""
    sizes = [call["n_hits"] for call in record["rows"][0]["calls"]]
    lines = [f"| hits | {' | '.join(f'{size:,}' for size in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    missing = []
    for row in record["rows"]:
        cells = []
        for call in row["calls"]:
            done = call["status"] == "ok"
            cells.append(f"{call['cpu_s']:.2g} s, {call['peak_mb']:,.0f} MB" if done else "left out")
            if not done:
                reason = call["status"].removeprefix("left out: ")
                missing.append(f"`{row['row']}` at {call['n_hits']:,} hits ({reason})")
        lines.append(f"| `{row['row']}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Left out: {'; '.join(missing)}." if missing else "Nothing was left out."])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", dest="set_name", default="pileup-2")
    parser.add_argument("--limit-s", type=float, default=120.0, help="of a call, wall clock; larger ones are left out")
    parser.add_argument("--memory-mb", type=float, default=16000.0)
    parser.add_argument("--row", help="measure this one here and print it")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.row:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measure(args.row, args)))
        return
    rows = []
    for name in scaling_rows(configuration()):
        command = [sys.executable, __file__, *sys.argv[1:], "--row", name]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(name, rows[-1]["calls"], flush=True)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    record = {
        "machine": machine_facts(),
        "threads": 1,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "numba")},
        "commit": commit.strip(),
        "event": "one simulated event of 2 pile-up, tiled",
        "limits": {"seconds": args.limit_s, "memory_mb": args.memory_mb},
        "unit": "CPU s from host arrays to host labels; peak memory of the process less that before, MB = 10^6 bytes",
        "rows": rows,
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
