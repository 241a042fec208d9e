"""What the subcommands share: finding events, reading and writing the files of tracks, progress."""

import functools
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack
from pathlib import Path

from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import atomic_path

logger = logging.getLogger(__name__)

# Of a reconstructed event; only trackers that fit their candidates make the last two.
OUTPUT_PARTS = ("tracks", "parameters", "vertices")
_PREFIX = re.compile(r"event(\d{9})")
_PART_FILE = re.compile(r"(event\d{9})-\w+\.(csv|csv\.gz|parquet)")
_TRACKS_FILE = re.compile(r"event(\d{9})-tracks\.csv")
_PROGRESS_LOGGER = logging.getLogger("trackbench")


def find_events(arguments: Iterable[str]) -> list[tuple[int, str]]:
    """Resolve the EVENT arguments of the command line.

    arguments: prefixes such as ``data/event000001000``, directories or zip files of events
    Returns (event number, prefix) in the order given, directories sorted by event number.
    Raises InputError if one is neither, holds no event, or an event number comes twice.
    """
    events: list[tuple[int, str]] = []
    for argument in arguments:
        events += _events_of(argument)
    seen: dict[int, str] = {}
    for event_id, prefix in events:
        if event_id in seen:
            what = f"event {event_id} is given twice, also as {seen[event_id]}"
            raise InputError(describe(prefix, what, "each event once", "give the second one another output directory"))
        seen[event_id] = prefix
    return events


def _events_of(argument: str) -> list[tuple[int, str]]:
    from trackbench.data.reader import list_events

    path = Path(argument)
    if path.is_dir() or path.suffix == ".zip":
        return [(event_id, str(prefix)) for event_id, prefix in list_events(path)]
    part = _PART_FILE.fullmatch(path.name)
    if part:
        remedy = f"give the prefix {path.with_name(part[1])}"
        raise InputError(describe(argument, "is one file of an event", "a prefix or a directory", remedy))
    name = _PREFIX.fullmatch(path.name)
    if not name:
        expected = "a prefix such as data/event000001000 (nine digits) or a directory of events"
        raise InputError(describe(argument, "is not an event", expected))
    return [(int(name[1]), argument)]


def read_yaml(path: str) -> object:
    """Read the YAML file of ``--config``. Raises ConfigError if it cannot be read or is no YAML."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(describe(f"--config {path}", f"cannot be read ({error.strerror})")) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(describe(f"--config {path}", f"is not YAML ({reason})")) from error


def progress(items: Iterable, what: str) -> Iterator:
    """Iterate over ``items`` and show how far it is: a bar on a terminal, else one log line per item.

    items: with a length where possible; what: word for one item, such as ``"event"``
    """
    if not _PROGRESS_LOGGER.isEnabledFor(logging.INFO):
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, unit=what, file=sys.stderr)
    else:
        total = f" of {len(items)}" if isinstance(items, Sized) else ""
        for number, item in enumerate(items, 1):
            logger.info("%s %d%s", what, number, total)
            yield item


def tracks_path(directory: str | Path, event_id: int) -> Path:
    """Return the path of the tracks file of an event in ``directory``."""
    return output_path(directory, event_id, "tracks")


def output_path(directory: str | Path, event_id: int, part: str) -> Path:
    """Return the path of one of the ``OUTPUT_PARTS`` of an event in ``directory``."""
    return Path(directory) / f"event{event_id:09d}-{part}.csv"


def tracks_events(directory: str | Path) -> set[int]:
    """Return the numbers of the events that have a tracks file in ``directory``.

    Raises InputError if there is no such directory or no tracks file in it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(describe(directory, "no such directory", "a directory of tracks files"))
    found = (_TRACKS_FILE.fullmatch(path.name) for path in directory.iterdir())
    events = {int(match[1]) for match in found if match}
    if not events:
        expected = "files such as event000001000-tracks.csv"
        raise InputError(describe(directory, "no tracks files", expected, "run trackbench reconstruct"))
    return events


def write_tracks(directory: str | Path, hits, tracks) -> None:
    """Write the files of one reconstructed event to ``directory``: all of them or none.

    hits: ``Hits`` of the event; tracks: ``Tracks`` of these hits
    Writes event*-tracks.csv and, if the candidates are fitted, event*-parameters.csv (``PARAMETER_COLUMNS``)
    and event*-vertices.csv (``Vertices.to_frame``), floats with all their digits. Without a fit, files of
    these names that another tracker left are removed: their track_id means other candidates.
    """
    import pandas as pd

    frames = {"tracks": pd.DataFrame({"hit_id": hits.hit_id, "track_id": tracks.labels})}
    if tracks.parameters is not None:
        from trackbench.fitting.vertices import find_vertices

        frames["parameters"] = tracks.parameters.to_frame(hits.event_id)
        frames["vertices"] = find_vertices(tracks.parameters).to_frame(hits.event_id)
    with ExitStack() as files:  # no file gets its name before all are complete
        for part, frame in frames.items():
            temporary = files.enter_context(atomic_path(output_path(directory, hits.event_id, part)))
            frame.to_csv(temporary, index=False, lineterminator="\n")
    for part in OUTPUT_PARTS:
        if part not in frames:
            output_path(directory, hits.event_id, part).unlink(missing_ok=True)


def read_tracks(path: Path):
    """Read a tracks file: a table with hit_id and track_id, int64, one row per hit.

    Raises InputError if it cannot be read, a column is missing or not of integers, a hit_id comes twice,
    or a track_id is below -1.
    """
    import numpy as np
    import pandas as pd

    remedy = "write it with trackbench reconstruct"
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(describe(path, f"cannot be read ({error})", "a tracks file", remedy)) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas makes an index of surplus values
        raise InputError(describe(path, "more values than column names", "columns hit_id and track_id", remedy))
    for name in ("hit_id", "track_id"):
        if name not in frame:
            raise InputError(describe(path, f"no column {name}", "columns hit_id and track_id", remedy))
        if frame[name].dtype != np.int64:
            raise InputError(describe(path, f"column {name} is {frame[name].dtype}", "integers", remedy))
    repeated = frame.loc[frame["hit_id"].duplicated(), "hit_id"]
    if len(repeated):
        raise InputError(describe(path, f"{len(repeated)} duplicate hit_id (first {repeated.iloc[0]})", "unique"))
    low = frame.loc[frame["track_id"] < -1]
    if len(low):
        what = f"track_id {low['track_id'].iloc[0]} at hit_id {low['hit_id'].iloc[0]}"
        raise InputError(describe(path, what, "0 and above, or -1 for unassigned"))
    return frame[["hit_id", "track_id"]]


def labels_of(path: Path, all_hit_id, scored_hit_id):
    """Read a tracks file and bring it into the order of the hits that are scored.

    all_hit_id: (n_all,) int64, every hit of the event; a tracks file may name no other
    scored_hit_id: (n,) int64, hits that are scored; each needs a row
    Returns (n,) int64 labels, -1 = unassigned. Raises InputError as ``read_tracks``, and if the file
    belongs to other hits.
    """
    import numpy as np

    frame = read_tracks(path)
    unknown = np.setdiff1d(frame["hit_id"], all_hit_id)
    if unknown.size:
        what = f"{unknown.size} hit_id that the event does not have (first {unknown[0]})"
        raise InputError(describe(path, what, "the hits of the same event", "reconstruct this event again"))
    missing = np.setdiff1d(scored_hit_id, frame["hit_id"])
    if missing.size:
        what = f"no row for {missing.size} hits (first hit_id {missing[0]})"
        raise InputError(describe(path, what, "a row for each hit, with track_id -1 if it is unassigned"))
    outside = frame[(frame["track_id"] >= 0) & ~frame["hit_id"].isin(scored_hit_id)]
    if len(outside):
        _warn_of_other_hits(path.parent)
    return frame.set_index("hit_id")["track_id"].reindex(scored_hit_id).to_numpy(np.int64)


@functools.cache
def _warn_of_other_hits(directory: Path) -> None:
    """Say once per directory that its tracks were made on more hits than are scored."""
    hint = "give reconstruct --pixel-only or evaluate --full-detector, so that both use the same hits"
    logger.warning("%s: tracks hold hits that are not scored; %s", directory, hint)
