"""Keep what a demo measured of its trained trackers: scores beside floor and ceiling, HEPTv2, losses, time.

    python benchmarks/record_demo.py results/demo --seconds 650 [--note TEXT] [--out FILE]

results/demo is the folder of a finished ``make demo`` in a fresh clone; ``--seconds`` what it took after the
installation. Everything else is read from its tables, histories and facts, and the commit is that of the clone. A
demo of another configuration than the clone's is refused. docs/trackformers.md and docs/heptv2.md show the record,
tests/test_readme.py holds it to what the demo has to reach.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml
from record_collisions import collision_rows, git, rows_of, trainings

RESULT = Path(__file__).resolve().parent / "results" / "trackformers.json"
SCORE = "trackml_score/event_mean"


def scores(folder):
    """Rows of the comparison and of the matrix: set, row, kind, TrackML score, its standard error, test events."""
    measured = [row for row in rows_of(folder / "tables/trackformers.csv") if row["kind"] != "quoted"]
    above = {(r["set"], r["row"]): float(r["value"]) for r in measured if "score/minus:" in r["metric"]}
    for row in measured:
        if row["metric"] == SCORE:
            yield score_row(row, row["row"], above.get((row["set"], row["row"])))
    for row in rows_of(folder / "figures/matrix.csv"):
        other = row["trained_on"] and row["trained_on"] != row["set"] and row["value"]
        if other and row["kind"] == "trained" and row["metric"] == "trackml_score":
            yield score_row(row, f"{row['row']}@{row['trained_on']}", None)


def score_row(row, name, above):
    """One score as plain values. name: row, with the set of its weights if that is another; above: floor."""
    value, high = float(row["value"]), float(row["hi"])
    place = {"set": row["set"], "row": name, "kind": row["kind"], "label": row["label"]}
    place["events"] = int(row["n_events"])
    return {**place, "score": value, "error": high - value, "above_floor": above}


def check_configuration(folder):
    """Exit unless models and rows of the run are those of the configuration of its clone. Returns that of the run."""
    done = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    given = yaml.safe_load((Path(git(folder, "rev-parse", "--show-toplevel")) / "config/config.yaml").read_text())
    for block, key in (("subevents", "trackers"), ("collisions", "trackers"), ("models", None)):
        names = [set(config[block][key] if key else config[block]) for config in (done, given)]
        if names[0] != names[1]:
            sys.exit(f"{folder}: {block} {sorted(names[0])}, expected {sorted(names[1])}; run make demo again")
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="wall seconds of the demo, without installation")
    parser.add_argument("--note", default="", help="conditions worth knowing, such as other work on the machine")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    trained = list(trainings(args.folder))
    facts = trained[0][1]
    config = check_configuration(args.folder)
    record = {
        "command": "make demo",
        "commit": git(args.folder, "describe", "--always", "--dirty"),
        "machine": facts["machine"],
        "versions": facts["versions"],
        "seed": facts["seed"],
        "note": args.note,
        "demo_seconds": args.seconds,
        "data": "simulated parents of 60 pile-up without noise; score: mean over test sub-events, standard error",
        "trainings": [training for training, _ in trained],
        "scores": list(scores(args.folder)),
        "collisions": {name: collision_rows(args.folder, name) for name in config["collisions"]["sets"]},
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
