"""Keep what a demo measured of its trained trackers: scores beside floor and ceiling, HEPTv2, losses, time.

    python benchmarks/record_demo.py results/demo --seconds 650 [--note TEXT] [--out FILE]

results/demo is the folder of a finished ``make demo`` in a fresh clone; ``--seconds`` what it took after the
installation. Everything else is read from its tables, histories and facts, and the commit is that of the clone. A
demo of another configuration than the clone's is refused. README, docs/trackformers.md and docs/heptv2.md show the
record, tests/test_readme.py holds it to what the demo has to reach.
"""

import argparse
import json
from pathlib import Path

from record_collisions import check_configuration, collision_rows, git, measured_rows, rows_of, sample_label, trainings

RESULT = Path(__file__).resolve().parent / "results" / "trackformers.json"
SCORE = "trackml_score/event_mean"
MAIN = {"dm", "perfect", "fake_rate", "fake_all", "fake_all_pt", "dup_rate", "trackml_score", "latency_ms"}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="wall seconds of the demo, without installation")
    parser.add_argument("--note", default="", help="conditions worth knowing, such as other work on the machine")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    trained = list(trainings(args.folder))
    facts = trained[0][1]
    config = check_configuration(args.folder, "config/config.yaml")
    samples = {name: f"tracks-{name}" for name in config["subevents"]["sets"]}
    samples |= {name: name for name in config["collisions"]["sets"]}
    record = {
        "command": "make demo",
        "commit": git(args.folder, "describe", "--always", "--dirty"),
        "machine": facts["machine"],
        "versions": facts["versions"],
        "seed": facts["seed"],
        "note": args.note,
        "demo_seconds": args.seconds,
        "data": {name: sample_label(args.folder, sample) for name, sample in samples.items()},
        "values": "scores: mean over test sub-events, standard error; collisions: pooled, [value, low, high]",
        "trainings": [training for training, _ in trained],
        "main": measured_rows(args.folder / "tables/metrics.csv", MAIN),
        "scores": list(scores(args.folder)),
        "collisions": {name: collision_rows(args.folder, name) for name in config["collisions"]["sets"]},
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
