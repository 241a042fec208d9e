"""``trackbench simulate``: make TrackML-like events with Pythia8 and ACTS Fatras."""

import argparse
import dataclasses
import json
import logging
import re
from pathlib import Path

from trackbench.errors import ConfigError, InputError, describe
from trackbench.simulation.config import HARD_PROCESSES, SimulationConfig

_EVENT_FILE = re.compile(r"event(\d{9})-(?:hits|cells|particles|truth)\.(csv|csv\.gz|parquet)")
DEFAULTS = SimulationConfig()

logger = logging.getLogger(__name__)


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "simulate",
        help="simulate events",
        description="Simulate TrackML-like events: Pythia8, ACTS Fatras, digitisation, noise, weights.",
        epilog="An event depends on its number, the seed and the options, not on --events or --workers.",
    )
    parser.add_argument("--events", type=int, required=True, metavar="N", help="number of events")
    parser.add_argument("--pileup", type=float, required=True, metavar="MU", help="mean number of pile-up collisions")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory for the events")
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed, help="seed of the sample (default %(default)s)")
    parser.add_argument("--first-event", type=int, default=1, metavar="N", help="number of the first event (default 1)")
    parser.add_argument(
        "--hard-process",
        default=DEFAULTS.hard_process,
        metavar="PROCESS",
        help=f"hard collision of each event: {', '.join(HARD_PROCESSES)} (default %(default)s)",
    )
    parser.add_argument(
        "--sigma-z",
        type=float,
        default=DEFAULTS.sigma_z,
        metavar="MM",
        help="spread of the collisions along the beam [mm] (default %(default)s)",
    )
    parser.add_argument(
        "--hit-efficiency",
        type=float,
        default=DEFAULTS.hit_efficiency,
        metavar="EPS",
        help="probability that a hit is recorded (default %(default)s)",
    )
    parser.add_argument(
        "--field",
        type=float,
        default=DEFAULTS.field,
        metavar="T",
        help="solenoid field in which particles fly [T] (default %(default)s, which trackers assume)",
    )
    parser.add_argument(
        "--misalignment",
        type=float,
        default=DEFAULTS.misalignment,
        metavar="MM",
        help="spread of the random displacement of each module in its plane [mm] (default %(default)s)",
    )
    parser.add_argument("--cells", action="store_true", help="write the cells file too")
    parser.add_argument(
        "--format", default="csv", choices=("csv", "csv.gz", "parquet"), help="file format (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="W", help="processes (default %(default)s)")
    parser.add_argument(
        "--cache", metavar="DIR", help="directory of the generator's initialisation (default: .generator in --out)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Simulate the events into ``args.out``."""
    from trackbench.simulation.output import write_manifest
    from trackbench.simulation.simulate import simulate_parallel

    config, event_ids, out = sample_of(args), event_numbers(args), Path(args.out)
    earlier = events_already_there(out, config)
    refuse_strays(out, {*earlier, *event_ids}, config.format)
    cache = Path(args.cache) if args.cache else out / ".generator"
    simulate_parallel(config, event_ids, out, cache_dir=cache, workers=args.workers)
    if earlier:
        write_manifest(out, config, sorted({*earlier, *event_ids}))
    logger.info("%d events are in %s", len({*earlier, *event_ids}), out)


def sample_of(args: argparse.Namespace) -> SimulationConfig:
    """Return the settings of the sample; raises ConfigError for a value out of range."""
    names = ("pileup", "hard_process", "sigma_z", "hit_efficiency", "field", "misalignment", "cells", "format", "seed")
    return SimulationConfig(**{name: getattr(args, name) for name in names})


def event_numbers(args: argparse.Namespace) -> range:
    """Return the numbers of the events to simulate; raises ConfigError for a count out of range."""
    for option, smallest in (("events", 1), ("workers", 1), ("first_event", 0)):
        value = getattr(args, option)
        if value < smallest:
            raise ConfigError(describe("--" + option.replace("_", "-"), f"value {value}", f"at least {smallest}"))
    return range(args.first_event, args.first_event + args.events)


def events_already_there(directory: Path, config: SimulationConfig) -> list[int]:
    """Return the numbers of the events that earlier calls with the same settings left in ``directory``.

    Raises InputError if the directory holds events with other settings: one sample has one manifest.
    """
    path = directory / "manifest.json"
    if not path.exists():
        return []
    remedy = "choose another --out"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        earlier = [int(event_id) for event_id in manifest["event_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(describe(path, f"cannot be read ({error})", "a manifest of trackbench", remedy)) from error
    for name, value in dataclasses.asdict(config).items():
        found = manifest.get(name, getattr(DEFAULTS, name))  # settings that did not exist yet had their default
        if found != value:
            what = f"the events there have {name} = {found!r}"
            raise InputError(describe(directory, what, f"{value!r} as asked for now", remedy))
    return earlier


def refuse_strays(directory: Path, event_ids: set[int], file_format: str) -> None:
    """Raise InputError if ``directory`` holds event files that no manifest will describe.

    event_ids, file_format: what the sample will be; such files come from an interrupted call or elsewhere
    """
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        found = _EVENT_FILE.fullmatch(path.name)
        if found and (int(found[1]) not in event_ids or found[2] != file_format):
            what = "belongs to no manifest and is not made by this call"
            raise InputError(describe(path, what, "", "remove the event files there, or choose another --out"))
