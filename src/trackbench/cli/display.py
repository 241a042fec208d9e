"""``trackbench display``: draw one event, with the tracks of a tracker if given."""

import argparse
from pathlib import Path

from trackbench.errors import ConfigError, describe

INTERACTIVE, STATIC = (".html",), (".png", ".pdf")


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "display",
        help="draw an event",
        description="Draw an event: a .html page in 3D that opens offline, or a .png or .pdf with the transverse"
        " and the longitudinal view. Truth is drawn if the event has it.",
    )
    parser.add_argument("event", metavar="EVENT", help="prefix such as data/event000001000")
    parser.add_argument("--tracks", metavar="FILE", help="tracks file of `trackbench reconstruct` for this event")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write: .html, .png or .pdf")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Draw the event into ``args.out``."""
    suffix = Path(args.out).suffix.lower()
    if suffix not in INTERACTIVE + STATIC:
        raise ConfigError(describe(f"--out {args.out}", f"file type '{suffix}'", ", ".join(INTERACTIVE + STATIC)))
