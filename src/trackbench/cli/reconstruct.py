"""``trackbench reconstruct``: run one tracker over events and write its tracks, their parameters and vertices."""

import argparse
import dataclasses
from pathlib import Path

from trackbench.cli.events import find_events, progress, read_yaml, write_tracks
from trackbench.errors import ConfigError, describe


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="run a tracker over events",
        description="Run a tracker over events. Truth is not needed and never read. The cells of an"
        " event are read if it has any and the tracker uses them. For each event one file"
        " event000001000-tracks.csv is written: hit_id, track_id, one row per hit, -1 = unassigned. Trackers that fit"
        " their candidates also write event000001000-parameters.csv: one row per track_id with d0, z0 [mm],"
        " phi, theta [rad], q_over_pt [1/GeV] at the closest approach to the beam line, their covariance, chi2,"
        " n_dof and n_holes; and event000001000-vertices.csv: z, sigma_z [mm] and n_tracks of the vertices along"
        " the beam line.",
    )
    parser.add_argument("tracker", metavar="TRACKER", help="name of a tracker, see `trackbench trackers`")
    parser.add_argument(
        "events",
        nargs="+",
        metavar="EVENT_OR_DIR",
        help="prefix such as data/event000001000 (csv, csv.gz or parquet), directory or zip of events",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for the files")
    parser.add_argument("--pixel-only", action="store_true", help="give the tracker the pixel hits only")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="trained weights, for learned trackers; go before those that FILE of --config names",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with the tracker's settings, or tuned/TRACKER.json")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random in the tracker (default 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Reconstruct every event and write its files."""
    from trackbench.trackers.base import build_tracker

    settings = read_settings(args.tracker, args.config) if args.config else {}
    if args.checkpoint is not None:
        settings["checkpoint"] = _checkpoint(args.tracker, args.checkpoint)
    try:
        tracker = build_tracker(args.tracker, settings, args.seed)
    except ConfigError as error:
        # The message names the key; say which file it is in.
        raise ConfigError(f"{args.config}: {error}" if args.config else str(error)) from error
    if args.config and args.checkpoint is None:
        _require_weights(args.config, settings)
    for event_id, prefix in progress(find_events(args.events), "event"):
        _reconstruct_event(tracker, event_id, prefix, args)


def _reconstruct_event(tracker, event_id: int, prefix: str, args: argparse.Namespace) -> None:
    from trackbench.data.prepare import DataSelection, build_hits
    from trackbench.data.reader import has_part, read_event
    from trackbench.geometry.detector import is_pixel

    with_cells = getattr(tracker, "needs_features", False) and has_part(prefix, "cells")
    frames = read_event(prefix, ("hits", "cells") if with_cells else ("hits",), "repair")
    hits = build_hits(frames[0], DataSelection("full", cells=with_cells), event_id, *frames[1:])
    if args.pixel_only:
        # Masked like padding, so that strip hits keep their row in the file and get -1.
        hits = dataclasses.replace(hits, valid=is_pixel(hits.volume_id))
    write_tracks(args.out, hits, tracker.reconstruct_tracks(hits))


def read_settings(tracker: str, path: str) -> dict:
    """Read the settings of ``tracker`` from a YAML file, or from the JSON file the tuning of it wrote.

    Returns setting -> value. Raises ConfigError if the file is not a mapping or belongs to another tracker.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    expected = "a mapping with one `setting: value` per line"
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(describe(f"--config {path}", f"holds a {type(content).__name__}", expected))
    if {"tracker", "settings"} <= content.keys():
        if content["tracker"] != tracker:
            what = f"settings of tracker '{content['tracker']}'"
            raise ConfigError(describe(f"--config {path}", what, f"those of '{tracker}'"))
        return dict(content["settings"])
    return content


def _checkpoint(tracker: str, path: str) -> str:
    """Check ``--checkpoint``: learned trackers have a setting of that name, the others nothing to load."""
    from trackbench.trackers.base import load_module

    if "checkpoint" not in {field.name for field in dataclasses.fields(load_module(tracker).Config)}:
        what = f"tracker '{tracker}' needs no training and has nothing to load"
        raise ConfigError(describe(f"--checkpoint {path}", what, "", "leave the option out"))
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "no such file"
        raise ConfigError(describe(f"--checkpoint {path}", what, "a file of trained weights"))
    return path


def _require_weights(config: str, settings: dict) -> None:
    """Check that the weights named in a file of settings are there: a relative path is one from the current folder."""
    path = settings.get("checkpoint")
    if path and not Path(path).is_file():
        what = f"the weights it names, {path}, are not there seen from {Path.cwd()}"
        remedy = "run the command in the folder the path starts from, or give the weights with --checkpoint FILE"
        raise ConfigError(describe(f"--config {config}", what, "", remedy))
