"""Keep what a run measured on a sample of whole events: efficiency and fakes of every row, and the trainings behind it.

    python benchmarks/record_collisions.py results/cpu --command "snakemake --cores 2 --configfile config/cpu.yaml" \\
        --config config/cpu.yaml --out benchmarks/results/heptv2_cpu.json [--note TEXT] [--set pileup-2]

results/cpu is the folder of a finished run; the commit is that of its clone. A run of another configuration than the
clone's is refused. docs/heptv2.md shows the records, tests/test_readme.py holds them to what they have to reach.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import yaml

from trackbench.config import check_config, read_schema
from trackbench.evaluation.sample import Sample

KEPT = ("dm", "perfect", "fake_rate", "fake_all", "fake_dm_per_particle")


def rows_of(path):
    """Rows of a csv table as dictionaries."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def git(folder, *command):
    """Output of git in a folder."""
    return subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, check=True).stdout.strip()


def check_configuration(folder, name):
    """Exit unless models, sets and rows of a run are those of a configuration of its clone. Returns that of the run.

    name: of the file in the clone
    """
    done = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    clone = Path(git(folder, "rev-parse", "--show-toplevel"))
    given = yaml.safe_load((clone / name).read_text(encoding="utf-8"))
    given = check_config(given, read_schema(clone / "workflow/schemas/config.schema.yaml"))
    keys = [("models", None), *((block, key) for block in ("subevents", "collisions") for key in ("sets", "trackers"))]
    for block, key in keys:
        names = [set(config[block][key] if key else config[block]) for config in (done, given)]
        if names[0] != names[1]:
            sys.exit(f"{folder}: {block} {sorted(names[0])}, expected {sorted(names[1])} of {name}; run again")
    return done


def sample_label(folder, sample):
    """Events, conditions and hits of a sample of a run, as its manifest has them."""
    return Sample.load(folder / f"prepared/{sample}/manifest.json").label()


def collision_rows(folder, set_name):
    """Rows of the summary of a set: see ``measured_rows``."""
    return measured_rows(folder / f"tables/metrics_{set_name}.csv", KEPT)


def measured_rows(path, kept):
    """Rows of a long table: name with its label, events, and [value, low, high] of the metrics ``kept``."""
    measured = {}
    for row in rows_of(path):
        if row["metric"] in kept and row["region"] == "all" and row["source"].startswith("measured"):
            entry = measured.setdefault(row["tracker"], {"row": row["tracker"], "events": int(row["n_events"])})
            found = [float(row[key]) if row[key] else None for key in ("value", "lo", "hi")]
            entry[row["metric"]] = found if row["value"] else None
    return list(measured.values())


def trainings(folder):
    """Each training: steps, seconds and the validation loss after each validation, with all its facts."""
    for path in sorted(folder.glob("models/*/*-facts.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        history = rows_of(path.with_name(path.name.replace("-facts.json", "-history.csv")))
        losses = [round(float(row["val_total"]), 5) for row in history]
        kept = {name: facts[name] for name in ("model", "set", "label", "steps", "seconds", "parameters")}
        yield {**kept, "validation_losses": losses}, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--command", required=True, help="that made the run")
    parser.add_argument("--config", default="config/cpu.yaml", help="configuration of the run, in its clone")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="conditions worth knowing, such as other work on the machine")
    parser.add_argument("--set", dest="set_name", default="pileup-2")
    args = parser.parse_args()
    check_configuration(args.folder, args.config)
    trained = list(trainings(args.folder))
    facts = trained[0][1]
    record = {
        "command": args.command,
        "commit": git(args.folder, "describe", "--always", "--dirty"),
        "machine": facts["machine"],
        "versions": facts["versions"],
        "seed": facts["seed"],
        "note": args.note,
        "set": args.set_name,
        "data": sample_label(args.folder, args.set_name),
        "values": "rows: pooled over test events, [value, low, high]",
        "training_events": facts["training_events"],
        "trainings": [training for training, _ in trained],
        "rows": collision_rows(args.folder, args.set_name),
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
