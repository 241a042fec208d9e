"""``trackbench display``: draw one event, with the tracks of a tracker if given."""

import argparse
import logging
from pathlib import Path

from trackbench.cli.events import find_events, labels_of
from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import atomic_path

logger = logging.getLogger(__name__)

INTERACTIVE, STATIC = (".html",), (".png", ".pdf")


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "display",
        help="draw an event",
        description="Draw an event: a .html page in 3D that opens offline, or a .png or .pdf with the transverse"
        " and the longitudinal view. Truth is drawn too if the event has it.",
    )
    parser.add_argument("event", metavar="EVENT", help="prefix such as data/event000001000")
    parser.add_argument("--tracks", metavar="FILE", help="tracks file of `trackbench reconstruct` for this event")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write: .html, .png or .pdf")
    parser.add_argument("--pixel-only", action="store_true", help="draw the pixel hits only")
    parser.add_argument(
        "--pt-min", type=float, default=0.9, metavar="GEV", help="draw particles from this pT on (default %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Draw the event into ``args.out``."""
    out = Path(args.out)
    if out.suffix.lower() not in INTERACTIVE + STATIC:
        expected = ", ".join(INTERACTIVE + STATIC)
        raise ConfigError(describe(f"--out {out}", f"file type '{out.suffix}'", expected))
    ((event_id, prefix),) = _one_event(args.event)
    hits, truth, all_hit_id = read_display_event(event_id, prefix, args.pixel_only)
    labels = labels_of(Path(args.tracks), all_hit_id, hits.hit_id) if args.tracks else None
    tracker = Path(args.tracks).resolve().parent.name if args.tracks else ""
    draw = _draw_page if out.suffix.lower() in INTERACTIVE else _draw_picture
    draw(out, hits, truth, labels, tracker, args.pt_min)
    logger.info("event %d is drawn in %s", event_id, out)


def _one_event(argument: str) -> list[tuple[int, str]]:
    events = find_events([argument])
    if len(events) > 1:
        remedy = f"give one of them, such as {events[0][1]}"
        raise InputError(describe(argument, f"{len(events)} events", "one event", remedy))
    return events


def read_display_event(event_id: int, prefix: str, pixel_only: bool):
    """Read an event with its truth if it is there.

    Returns Hits, Truth or None, and the hit_id of every hit of the event, (n_all,) int64.
    """
    from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event, build_hits
    from trackbench.data.reader import read_event

    selection = DataSelection(detector="pixel" if pixel_only else "full")
    if has_truth(prefix):
        frames = read_event(prefix, RAW_PARTS)
        hits, truth = build_event(frames, selection, event_id)
    else:
        frames = read_event(prefix, ("hits",))
        hits, truth = build_hits(frames[0], selection, event_id), None
    return hits, truth, frames[0]["hit_id"].to_numpy()


def has_truth(prefix: str) -> bool:
    """Tell whether the event has truth and particles files, in a directory or a zip file."""
    from trackbench.data.archive import open_files

    path = Path(prefix)
    root = next((parent for parent in path.parents if parent.is_file()), path.parent)
    with open_files(root) as files:
        names = set(files.names())
    stem = path.relative_to(root).as_posix()
    suffixes = (".csv", ".csv.gz", ".parquet")
    return all(any(f"{stem}-{part}{suffix}" in names for suffix in suffixes) for part in ("truth", "particles"))


def _draw_picture(out: Path, hits, truth, labels, tracker: str, pt_min: float) -> None:
    from trackbench.plotting.event_display import event_display
    from trackbench.plotting.style import Header, style_context

    figure, _ = event_display(hits, truth, labels, tracker=tracker, pt_min=pt_min, header=Header())
    kind = out.suffix.lower().lstrip(".")
    # No dates or program names in the file: the same event gives the same bytes.
    metadata = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
    with style_context(), atomic_path(out) as temporary:
        figure.savefig(temporary, format=kind, metadata=metadata[kind])


def _draw_page(out: Path, hits, truth, labels, tracker: str, pt_min: float) -> None:
    from trackbench.plotting.display3d import write_display3d
    from trackbench.plotting.style import Header

    tracks = {tracker: labels} if labels is not None else {}
    write_display3d(out, hits, truth, tracks, pt_min=pt_min, header=Header())
