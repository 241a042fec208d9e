"""``trackbench train``: train a network on a prepared sample and write the weights file its tracker loads."""

import argparse
import importlib.util
import logging
from pathlib import Path

from trackbench.cli.events import read_yaml
from trackbench.digest import PACKAGE, SOURCE, code_digest
from trackbench.errors import ConfigError, InputError, describe, missing_extra
from trackbench.training.config import TASKS

logger = logging.getLogger(__name__)

# Keys of a model in the workflow's configuration that are not blocks of settings.
WORKFLOW_KEYS = ("task", "sets", "overrides")


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a network",
        description="Train a network on the training split of a prepared sample; its validation split decides which"
        " weights are kept. Beside FILE.pt, FILE-history.csv gets the losses and FILE-facts.json what was trained on"
        " what. A training that was stopped goes on when the same command is given again; its state is in"
        " FILE.training. When it is done, the same command writes the same files once more without training; remove"
        " FILE.training to train anew. Weights of another configuration are never replaced.",
        epilog="`trackbench reconstruct encreg EVENT --checkpoint FILE.pt --out DIR` uses the weights.",
    )
    parser.add_argument("task", metavar="TASK", help=f"what to train: {', '.join(TASKS)}")
    parser.add_argument("--index", required=True, metavar="FILE", help="index.csv of a prepared sample, in its folder")
    parser.add_argument("--out", required=True, metavar="FILE.pt", help="weights file to write")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file with the blocks network, loss and training, such as config/train-demo.yaml (default: as"
        " published, which takes long)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads to use (default 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, or go on where the same command was stopped."""
    out = Path(args.out)
    if out.suffix != ".pt":
        raise ConfigError(describe(f"--out {out}", f"file type '{out.suffix}'", ".pt"))
    for option, smallest in (("threads", 1), ("seed", 0)):
        if getattr(args, option) < smallest:
            raise ConfigError(describe(f"--{option}", f"value {getattr(args, option)}", f"at least {smallest}"))
    blocks = read_blocks(args.config) if args.config else {}
    _require_index(args.index)
    if importlib.util.find_spec("torch") is None:
        raise missing_extra("torch", "learned", "training")
    from trackbench.training.run import TrainingFiles, TrainingJob, train_model

    files = TrainingFiles(
        weights=out,
        history=out.with_name(out.stem + "-history.csv"),
        facts=out.with_name(out.stem + "-facts.json"),
        folder=out.with_suffix(".training"),
    )
    sample, code = Path(args.index).resolve().parent.name, _code(blocks)
    job = TrainingJob(args.task, blocks, args.seed, args.threads, model=out.stem, set_name=sample, code=code)
    try:
        facts = train_model(args.index, Path(args.index).with_name("manifest.json"), job, files)
    except ConfigError as error:
        # The message names the key; say which file it is in.
        raise ConfigError(f"{args.config}: {error}" if args.config else str(error)) from error
    best = f"best validation loss {facts['validation_loss']:.4g} at step {facts['best_step']}"
    logger.info("trained %s: %s of %d; weights are in %s", args.task, best, facts["steps"], out)


def _code(blocks: dict) -> str:
    """Digest of the library code that trains, so that a state of other code is noticed."""
    network = blocks.get("network", {})
    clusterer = network.get("mask_clusterer", "density_peaks") if network.get("mask") == "cluster" else None
    modules = ["trackbench.training.run", *([f"trackbench.trackers.{clusterer}"] if clusterer else [])]
    return code_digest(SOURCE / PACKAGE / "training" / "run.py", modules)


def _require_index(path: str) -> None:
    """Raise ConfigError unless ``--index`` is the index of a prepared sample."""
    from trackbench.data.shards import read_index

    expected = "the index.csv of a prepared sample, such as results/RUN/prepared/tracks-10-50/index.csv"
    if Path(path).is_dir():
        remedy = f"give {Path(path) / 'index.csv'}" if (Path(path) / "index.csv").is_file() else ""
        raise ConfigError(describe(f"--index {path}", "is a folder", expected, remedy))
    if not Path(path).is_file():
        raise ConfigError(describe(f"--index {path}", "no such file", expected, "prepare the sample first"))
    try:
        read_index(path)
    except InputError as error:
        remedy = "give that file, or prepare the sample again"
        raise ConfigError(describe(f"--index {path}", "is not an index", expected, remedy)) from error


def read_blocks(path: str) -> dict:
    """Read the blocks of settings from a YAML file. Returns block -> setting -> value.

    Raises ConfigError if the file cannot be read or is not blocks of settings.
    """
    content = read_yaml(path)
    blocks = {} if content is None else content
    workflow = [key for key in WORKFLOW_KEYS if isinstance(blocks, dict) and key in blocks]
    if workflow:
        what = f"{', '.join(workflow)}: for models of the workflow's configuration"
        remedy = "leave that out: the command takes the task and the sample as arguments"
        raise ConfigError(describe(f"--config {path}", what, "the blocks network, loss and training only", remedy))
    if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
        expected = "blocks network, loss and training with one `setting: value` per line"
        raise ConfigError(describe(f"--config {path}", f"holds {str(content)[:60]!r}", expected))
    return blocks
