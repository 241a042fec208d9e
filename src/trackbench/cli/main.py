"""Entry point of the ``trackbench`` command.

One module per subcommand, each with ``add_parser(subparsers)`` and ``run(args)``. Nothing heavy is
imported before a subcommand runs, so that ``--help`` and a mistyped option answer at once.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trackbench
from trackbench.cli import compare, display, evaluate, kernels, reconstruct, simulate, trackers, train
from trackbench.errors import TrackbenchError

COMMANDS = (simulate, trackers, train, reconstruct, evaluate, display, compare, kernels)

USAGE_ERROR = 2  # exit code of every error a user can cause, the same as argparse's own
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="trackbench",
        description="Simulate, reconstruct, score and display TrackML events, and train networks for it.",
        epilog="`trackbench COMMAND --help` explains a command. The full comparison is the workflow: make demo.",
    )
    parser.add_argument("--version", action="version", version=f"trackbench {trackbench.__version__}")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr, only warnings and errors")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code.

    0 = done; 1 = ``compare`` found differences; 2 = an error the user can cause, one sentence on stderr; 130 =
    interrupted. argparse leaves with SystemExit(2) on a wrong option. Any other exception is a defect of trackbench
    and is not hidden.
    """
    args = build_parser().parse_args(argv)
    with _logging_to_stderr(logging.WARNING if args.quiet else logging.INFO):
        try:
            code = args.run(args) or 0
            sys.stdout.flush()
        except TrackbenchError as error:
            print(f"trackbench: error: {error}", file=sys.stderr)
            return USAGE_ERROR
        except OSError as error:
            return _report_os_error(error)
        except KeyboardInterrupt:
            print("trackbench: interrupted", file=sys.stderr)
            return INTERRUPTED
    return code


class _Formatter(logging.Formatter):
    """Progress is plain text; warnings and worse say what they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"trackbench: {level}{record.message}"


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    """Show the library's log; taken back at the end, so that ``main`` can be called from other programs."""
    logger = logging.getLogger("trackbench")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _report_os_error(error: OSError) -> int:
    """Files that cannot be read or written are the user's to mend, so they get one sentence too."""
    if isinstance(error, BrokenPipeError):
        # `trackbench trackers | head`: the reader has seen enough. Python flushes stdout once more at
        # exit, so point it somewhere that takes the rest (the recipe of the documentation of `signal`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    where = f"{error.filename}: " if error.filename else ""
    print(f"trackbench: error: {where}{error.strerror or error}.", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
