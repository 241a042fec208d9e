"""``trackbench compile``: compile the kernels now, rather than when a tracker first needs them."""

import argparse


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "compile",
        help="compile the kernels of the trackers now, in a minute or two, rather than at their first use",
        description="Compile the kernels of the trackers and keep them on disk; `make install` has done it. Needed "
        "again after the sources of trackbench changed, or else the first use of a tracker takes so much longer.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Compile and print the seconds of each part."""
    from trackbench.kernels import compile_kernels

    seconds = compile_kernels()
    print(f"kernels are compiled, {sum(seconds.values()):.0f} CPU s")
