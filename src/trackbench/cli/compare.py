"""``trackbench compare``: whether two runs of the workflow gave the same results."""

import argparse
from pathlib import Path

DIFFERENT = 1  # exit code


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two folders of results of the workflow",
        description="Compare every table, track, weight and prepared event of two runs of one configuration, without "
        "times and memory. Exit code 0: equal, 1: different, 2: they cannot be compared.",
    )
    parser.add_argument("first", type=Path, help="folder of results, such as results/smoke")
    parser.add_argument("second", type=Path, help="the other one")
    parser.add_argument("--out", type=Path, help="write the comparison to this file too (Markdown)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code."""
    from trackbench.files import write_text
    from trackbench.reproduce import compare_results, report

    comparison = compare_results(args.first, args.second)
    text = report(comparison, args.first, args.second)
    print(text)
    if args.out:
        write_text(args.out, text)
    return 0 if comparison.is_equal else DIFFERENT
