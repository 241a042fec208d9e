"""Simulate, train and evaluate on a machine with a GPU, as far as the time goes; the next call goes on.

    python3 gpu/train.py --out FOLDER --minutes 9 --wheels FOLDER     (or make gpu-train)

Everything lies below the folder of --work; --out gets gpu-train.json, tables.md, model-card.md and the weights that
are done. Tables are printed last. See docs/gpu.md.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

from setup import ROOT, SCHEMA, origin, say, set_up

BEGIN = time.monotonic()  # before anything heavy is imported


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config/gpu-heptv2.yaml", help="what to do")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is taken away")
    parser.add_argument("--work", type=Path, default=ROOT / "build/gpu", help="folder of everything else, kept")
    parser.add_argument("--wheels", type=Path, help="wheels of packages that may be missing")
    parser.add_argument("--minutes", type=float, default=9.0, help="end after so many minutes, in order (default 9)")
    parser.add_argument("--reserve", type=float, default=45.0, help="seconds of them without training, for tables")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, help="processes beside the training (default: CPUs but two)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the training")
    parser.add_argument("--commit", help="commit of the code, where there is no git")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    set_up(args.wheels, args.work / "site")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("trackbench").setLevel(logging.INFO)
    from trackbench.errors import TrackbenchError

    try:
        run(args)
    except TrackbenchError as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    """All stages, then the tables."""
    from trackbench.campaign.study import read_study
    from trackbench.campaign.workers import Clock
    from trackbench.trackers.layers.learned import choose_device

    choose_device(args.device, "--device")  # says at once if there is none
    study = read_study(args.config, SCHEMA, args.work, args.device)
    study.claim()
    clock = Clock(BEGIN + 60 * args.minutes)
    done = False
    try:
        done = work(study, args, clock)
    finally:  # what is there is told, whatever failed
        report(study, args, done)


def work(study, args: argparse.Namespace, clock) -> bool:
    """Events, trainings and rows, as far as the time goes. Returns whether all is done."""
    from trackbench.campaign.rows import submit_rows
    from trackbench.campaign.samples import Samples
    from trackbench.campaign.trainings import train_models
    from trackbench.campaign.workers import Workers
    from trackbench.digest import code_digest
    from trackbench.machine import usable_cpus

    code, submitted = code_digest(ROOT / "workflow/scripts/train.py"), set()
    with Workers(args.workers or max(usable_cpus() - 2, 1)) as workers:
        samples = Samples(study, args.work / "cache", workers)
        samples.begin()

        def evaluate() -> None:
            there = [name for name in (*study.sets, *study.collisions) if samples.ready(name)]
            submit_rows(study, workers, submitted, there)

        def wait(set_name: str, until) -> bool:
            found = samples.wait(set_name, until)
            evaluate()
            return found

        evaluate()
        clocks = clock.before(args.reserve), clock.before(args.reserve / 4)  # a quarter is for the tables
        if not train_models(study, clocks[0], args.threads, code, evaluate, wait):
            return False
        for name in (*study.sets, *study.collisions):  # also those nothing is trained on
            if not samples.wait(name, clocks[1]):
                return False
        evaluate()
        return workers.wait(clocks[1])


def report(study, args: argparse.Namespace, done: bool) -> None:
    """Write what is taken away and print the tables."""
    from trackbench.campaign.collision_record import collision_tables
    from trackbench.campaign.record import fill_card, study_record, study_table, tables_text, too_large, write_out

    table = study_table(study, ROOT / "config/published_trackformers.csv")
    collisions = collision_tables(study, ROOT / "config/published.csv")
    record = {**study_record(study, table, origin(args.commit), collisions), "finished": done}
    text = tables_text(study, table, record, collisions)
    card = fill_card((ROOT / "gpu/model-card.md").read_text(encoding="utf-8"), record, text)
    paths = write_out(study, args.out, record, {"tables.md": text, "model-card.md": card})
    say(f"\nwrote {', '.join(path.name for path in paths)} to {args.out}")
    for problem in too_large(study, paths):
        say(f"warning: {problem}")
    say(f"{time.monotonic() - BEGIN:.0f} s; " + ("all done" if done else "not done: the same command goes on") + "\n")
    say(text)


if __name__ == "__main__":
    main()
