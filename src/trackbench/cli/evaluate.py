"""``trackbench evaluate``: score tracks files against the truth, several trackers side by side."""

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

from trackbench.cli.events import (
    find_events,
    labels_of,
    output_path,
    progress,
    read_tracks,
    tracks_events,
    tracks_path,
)
from trackbench.errors import InputError, describe

# The rows of the printed table; --json has all metrics.
HEADLINE = (
    "dm",
    "technical",
    "perfect",
    "lhc",
    "fake_rate",
    "fake_dm",
    "fake_all",
    "dup_rate",
    "trackml_score",
    "fit_accuracy",
    "coverage",
    "n_hits",
    "n_targets",
    "n_candidates",
)
# Rows of the table besides, if a directory has track parameters; FIT_ROWS are of prompt tracks.
FITTED_HEADLINE = ("fake_all_pt", "vertex_efficiency", "vertex_fake_rate")
FIT_ROWS = ("resolution", "pull_width")
INTERVALS = "[ ]: 68.27 %, Clopper-Pearson for k of n, else bootstrap over events (from two events on)"
FIT_NOTE = (
    "resolution, pull width: half of the central 68.27 % of fitted minus true and of its ratio to the fitted error,"
    " matched candidates of prompt particles; that of q/pT is relative; --json has biases and secondaries too"
)
SELECTION_OPTIONS = ("pt_min", "pt_operator", "eta_max", "eta_operator", "min_layers", "layer_rule", "min_cluster_size")


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score tracks files against the truth",
        description="Score tracks files against the truth, pooled over events, one column per directory."
        " Every directory must have every event, so that columns compare. Where event000001000-parameters.csv stand"
        " beside the tracks files (see `trackbench reconstruct --help`), whoever made them, the track parameters are"
        " scored too.",
    )
    parser.add_argument("--truth", required=True, metavar="DIR", help="directory or zip of events with truth")
    parser.add_argument(
        "--tracks", required=True, nargs="+", metavar="DIR", help="directories of tracks files, one per tracker"
    )
    parser.add_argument("--json", action="store_true", help="all metrics as JSON instead of the table")
    parser.add_argument("--full-detector", action="store_true", help="score all hits instead of the pixel hits")
    parser.add_argument("--partial", action="store_true", help="score only the events that every tracks DIR has")
    selection = parser.add_argument_group("which particles count (default: the headline selection)")
    selection.add_argument("--pt-min", type=float, metavar="GEV", help="smallest transverse momentum [GeV]")
    selection.add_argument("--pt-operator", metavar="OP", help="'>=' or '>'")
    selection.add_argument("--eta-max", type=float, metavar="ETA", help="largest |eta|, inf = no cut")
    selection.add_argument("--eta-operator", metavar="OP", help="'<' or '<='")
    selection.add_argument("--min-layers", type=int, metavar="N", help="smallest number of what --layer-rule counts")
    selection.add_argument("--layer-rule", metavar="RULE", help="volume_layer, layer_id or hits")
    selection.add_argument("--min-cluster-size", type=int, metavar="N", help="candidates with fewer hits do not count")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Score every tracks directory and print the table or JSON."""
    from trackbench.data.prepare import DataSelection
    from trackbench.evaluation.definitions import DEFINITION_VERSION
    from trackbench.evaluation.selection import TruthSelection

    options = {name: getattr(args, name) for name in SELECTION_OPTIONS}
    selection = TruthSelection(**{name: value for name, value in options.items() if value is not None})
    data = DataSelection(detector="full" if args.full_detector else "pixel")
    events = events_to_score(args.truth, args.tracks, args.partial)
    scored = score_events(events, args.tracks, data, selection)
    result = {
        "truth": args.truth,
        "hits": data.label(),
        "selection": selection.label(),
        "n_events": len(events),
        "definition_version": DEFINITION_VERSION,
        "tracks": summarise({directory: one.counts for directory, one in scored.items()}, selection.label()),
        "track_parameters": {
            directory: summarise_fits(one.residuals) for directory, one in scored.items() if one.residuals is not None
        },
    }
    print(json.dumps(result, indent=2, allow_nan=False) if args.json else format_table(result))


def events_to_score(truth: str, directories: list[str], partial: bool) -> list[tuple[int, str]]:
    """Return (event number, prefix) of the events to score.

    partial: take the events that ``truth`` and all directories have; else every directory must have every
        event and no other, or the columns of the table would not be about the same events
    Raises InputError if that is not so, if no event is left, or a directory is given twice.
    """
    for directory in directories:
        if directories.count(directory) > 1:
            raise InputError(describe(f"--tracks {directory}", "given twice", "each directory once"))
    events = dict(find_events([truth]))
    available = {directory: tracks_events(directory) for directory in directories}
    if partial:
        common = set(events).intersection(*available.values())
        if not common:
            raise InputError(describe(truth, "no event that all tracks directories have", "at least one"))
        return [(event_id, prefix) for event_id, prefix in events.items() if event_id in common]
    for directory, found in available.items():
        missing, unknown = sorted(set(events) - found), sorted(found - set(events))
        if missing:
            what = (
                f"no tracks of {len(missing)} of {len(events)} events (first {tracks_path(directory, missing[0]).name})"
            )
            remedy = "reconstruct them, or use --partial to score the events that all have"
            raise InputError(describe(directory, what, f"the events of {truth}", remedy))
        if unknown:
            what = f"tracks of {len(unknown)} events without truth (first event {unknown[0]})"
            raise InputError(describe(directory, what, f"the events of {truth}", "use --partial to leave them out"))
    return list(events.items())


class Scored(NamedTuple):
    """What one directory gives.

    counts: ``event_id metric num den``; residuals: ``evaluation.residuals.RESIDUAL_COLUMNS``, None without parameters
    """

    counts: object
    residuals: object


def score_events(events: list[tuple[int, str]], directories: list[str], data, selection) -> dict[str, Scored]:
    """Score all directories, reading each event once.

    data: DataSelection; selection: TruthSelection
    Returns what each directory gives. Raises InputError if its files do not belong to the events or together.
    """
    import pandas as pd

    from trackbench.data.prepare import RAW_PARTS, build_event
    from trackbench.data.reader import read_event
    from trackbench.evaluation.metrics import evaluate_event

    rows: dict[str, list] = {directory: [] for directory in directories}
    residuals: dict[str, list] = {directory: [] for directory in directories}
    fitted = {d for d in directories if any(output_path(d, event, "parameters").exists() for event, _ in events)}
    for event_id, prefix in progress(events, "event"):
        frames = read_event(prefix, RAW_PARTS)
        hits, truth = build_event(frames, data, event_id)
        for directory in directories:
            labels = labels_of(tracks_path(directory, event_id), frames[0]["hit_id"].to_numpy(), hits.hit_id)
            parameters = parameters_of(directory, event_id) if directory in fitted else None
            result = evaluate_event(labels, truth, selection, parameters=parameters)
            rows[directory] += [(event_id, metric, num, den) for metric, (num, den) in result.counts.items()]
            if result.residuals is not None:
                residuals[directory].append(result.residuals)
    columns = ["event_id", "metric", "num", "den"]
    return {
        directory: Scored(
            pd.DataFrame(rows[directory], columns=columns),
            pd.concat(residuals[directory], ignore_index=True) if directory in fitted else None,
        )
        for directory in directories
    }


def parameters_of(directory: str, event_id: int):
    """Read the track parameters of an event in a directory that has any.

    Returns ``TrackParameters``, none for an event without candidates.
    Raises InputError if the file is missing or wrong, or not of the candidates in the tracks file.
    """
    from trackbench.data.tracks import TrackParameters
    from trackbench.evaluation.parameters import check_candidates
    from trackbench.evaluation.run import read_parameters

    path = output_path(directory, event_id, "parameters")
    track_id = read_tracks(tracks_path(directory, event_id))["track_id"].to_numpy()
    if not path.exists():
        if (track_id >= 0).any():
            what, expected = "no such file, but other events have theirs", "one for each event with candidates"
            raise InputError(describe(path, what, expected, "reconstruct the event again or remove the others"))
        return TrackParameters.empty()
    found = read_parameters(path)
    other = sorted(found.keys() - {event_id})
    if other:
        raise InputError(describe(path, f"rows of event {other[0]}", f"event_id {event_id} only"))
    parameters = found.get(event_id, TrackParameters.empty())
    check_candidates(parameters, track_id, str(path))
    return parameters


def summarise(counts: dict, selection: str) -> dict[str, dict]:
    """Pool counts over events, by the rules of ``trackbench.evaluation.tables``.

    counts: directory -> table ``event_id metric num den``; selection: in words
    Returns directory -> metric -> value, lo, hi, num, den; None where there is no number. ``/minus:`` marks
    paired differences to the first directory, other suffixes are explained in ``tables``.
    """
    from trackbench.evaluation.tables import Measured, TableOptions, metrics_table

    options = TableOptions(selection, reference=next(iter(counts)))
    table = metrics_table({directory: Measured(frame) for directory, frame in counts.items()}, options)
    table = table.rename(columns={"n_num": "num", "n_den": "den"})
    summary: dict[str, dict] = {directory: {} for directory in counts}
    for row in table.to_dict("records"):
        numbers = {name: float(row[name]) for name in ("value", "lo", "hi", "num", "den")}
        entry = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        summary[row["tracker"]][row["metric"]] = entry
    return summary


def summarise_fits(residuals) -> dict[str, dict]:
    """Numbers of the track parameters of a directory.

    residuals: ``evaluation.residuals.RESIDUAL_COLUMNS``, all events
    Returns origin (prompt, secondary) -> parameter -> statistic of ``fit_quality.STATISTICS`` -> unit, n, value,
    lo, hi; None where there are too few tracks.
    """
    from trackbench.evaluation.fit_quality import fit_numbers

    summary: dict[str, dict] = {}
    for row in fit_numbers(residuals).to_dict("records"):
        numbers = {name: None if math.isnan(row[name]) else float(row[name]) for name in ("value", "lo", "hi")}
        entry = {"unit": row["unit"], "n": int(row["n"]), **numbers}
        summary.setdefault(row["origin"], {}).setdefault(row["quantity"], {})[row["statistic"]] = entry
    return summary


def format_table(result: dict) -> str:
    """Return the headline metrics as aligned text, one column per tracks directory."""
    from trackbench.evaluation.definitions import METRICS

    directories = list(result["tracks"])
    names = [Path(directory).name for directory in directories]
    if len(set(names)) < len(names):
        names = directories
    rows = [["", *names]]
    for metric in (*HEADLINE, *(FITTED_HEADLINE if result["track_parameters"] else ())):
        entries = (result["tracks"][directory].get(metric, {"value": None}) for directory in directories)
        rows.append([METRICS[metric].title, *(_cell(entry, METRICS[metric].kind) for entry in entries)])
    rows += _fit_rows(result["track_parameters"], directories)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * len(max(lines, key=len)))
    events = f"{result['n_events']} event" + ("s" if result["n_events"] != 1 else "")
    notes = [f"{events} pooled; {result['hits']}; particles: {result['selection']}", INTERVALS]
    notes += [FIT_NOTE] if result["track_parameters"] else []
    return "\n".join([*lines, "", *notes])


def _cell(entry: dict, kind: str) -> str:
    if entry["value"] is None:
        return "-"
    if kind == "count":
        return f"{entry['value']:.1f}"  # its spread over events says nothing about the tracker
    interval = "" if entry["lo"] is None else f" [{entry['lo']:.4f}, {entry['hi']:.4f}]"
    return f"{entry['value']:.4f}{interval}"


def _fit_rows(fits: dict[str, dict], directories: list[str]) -> list[list[str]]:
    """Rows of the widths, one per statistic and parameter; nothing if no directory has parameters."""
    rows = []
    prompt = {directory: one["prompt"] for directory, one in fits.items()}
    for statistic in FIT_ROWS if fits else ():
        for quantity, entries in next(iter(prompt.values())).items():
            unit = entries[statistic]["unit"].replace("\N{MICRO SIGN}", "u")  # whatever the terminal can show
            title = f"{quantity} {statistic.replace('_', ' ')}" + (f" [{unit}]" if unit else "")
            cells = [_fit_cell(prompt[d][quantity][statistic]) if d in prompt else "-" for d in directories]
            rows.append([title, *cells])
    return rows


def _fit_cell(entry: dict) -> str:
    if entry["value"] is None:
        return "-"
    return f"{entry['value']:.4g} [{entry['lo']:.4g}, {entry['hi']:.4g}]"
