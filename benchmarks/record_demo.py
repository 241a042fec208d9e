"""Keep what a demo measured of EncReg and its relatives: scores beside floor and ceiling, losses, time.

    python benchmarks/record_demo.py results/demo --seconds 650 [--note TEXT] [--out FILE]

results/demo is the folder of a finished ``make demo`` in a fresh clone; ``--seconds`` what it took after the
installation. Everything else is read from its tables, histories and facts. docs/trackformers.md shows the record,
tests/test_readme.py holds it to what the demo has to reach.
"""

import argparse
import csv
import json
import subprocess
from pathlib import Path

RESULT = Path(__file__).resolve().parent / "results" / "trackformers.json"
SCORE = "trackml_score/event_mean"


def rows_of(path):
    """Rows of a csv table as dictionaries."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    place = {"set": row["set"], "row": name, "kind": row["kind"], "events": int(row["n_events"])}
    return {**place, "score": round(value, 5), "error": round(high - value, 5), "above_floor": above}


def trainings(folder):
    """Each training: steps, seconds and the validation loss after each validation."""
    for path in sorted(folder.glob("models/*/*-facts.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        history = rows_of(path.with_name(path.name.replace("-facts.json", "-history.csv")))
        losses = [round(float(row["val_total"]), 5) for row in history]
        kept = {name: facts[name] for name in ("model", "set", "label", "steps", "seconds", "parameters")}
        yield {**kept, "validation_losses": losses}, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="wall seconds of the demo, without installation")
    parser.add_argument("--note", default="", help="conditions worth knowing, such as other work on the machine")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    trained = list(trainings(args.folder))
    facts = trained[0][1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    record = {
        "command": "make demo",
        "commit": commit.stdout.strip(),
        "machine": facts["machine"],
        "versions": facts["versions"],
        "seed": facts["seed"],
        "note": args.note,
        "demo_seconds": args.seconds,
        "data": "simulated parents of 60 pile-up without noise; score: mean over test sub-events, standard error",
        "trainings": [training for training, _ in trained],
        "scores": list(scores(args.folder)),
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
