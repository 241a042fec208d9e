"""Evaluate a file of track candidates: tracks and truth in, the tables of one tracker out."""

import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.tracks import TrackParameters
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.evaluation.metrics import EventResult, evaluate_event
from trackbench.evaluation.parameters import check_candidates, parameters_by_event
from trackbench.evaluation.residuals import RESIDUAL_COLUMNS
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.vertices import VERTEX_COLUMNS
from trackbench.files import atomic_path
from trackbench.parquet import read_frame, write_frame

TRACK_COLUMNS = ("event_id", "hit_id", "track_id")
_NO_TRACKS = pd.DataFrame({"hit_id": np.zeros(0, np.int64), "track_id": np.zeros(0, np.int64)})
LARGE_EVENT = 1000  # hits; only larger events are worth a line each
logger = logging.getLogger(__name__)


class EvaluationFiles(NamedTuple):
    """Paths of what ``evaluate_tracks`` writes: counts as csv, all others as parquet."""

    counts: str | os.PathLike
    particles: str | os.PathLike
    candidates: str | os.PathLike
    residuals: str | os.PathLike
    vertices: str | os.PathLike


def read_tracks(path: str | os.PathLike) -> dict[int, pd.DataFrame]:
    """Read a tracks file (parquet, or csv by its suffix) into one table per event.

    Returns event_id -> table with int64 ``hit_id track_id`` sorted by hit_id; negative track_id = unassigned.
    Raises InputError for a file that cannot be read, missing columns, other types or duplicate hits.
    """
    frame = _read_table(path)
    missing = [name for name in TRACK_COLUMNS if name not in frame]
    if missing:
        raise InputError(describe(path, f"no column {missing[0]}", "columns " + ", ".join(TRACK_COLUMNS)))
    for name in TRACK_COLUMNS:
        if len(frame) and not pd.api.types.is_integer_dtype(frame[name]):
            raise InputError(describe(path, f"column {name} is {frame[name].dtype}", "integers"))
    frame = frame[list(TRACK_COLUMNS)].astype("int64").sort_values(["event_id", "hit_id"], kind="stable")
    repeated = frame[frame.duplicated(["event_id", "hit_id"])]
    if len(repeated):
        event, hit = repeated.iloc[0][["event_id", "hit_id"]]
        raise InputError(describe(path, f"{len(repeated)} duplicate hit_id (first {hit} of event {event})", "unique"))
    groups = frame.groupby("event_id", sort=True)
    return {int(event): group[["hit_id", "track_id"]].reset_index(drop=True) for event, group in groups}


def read_parameters(path: str | os.PathLike) -> dict[int, TrackParameters]:
    """Read a file of track parameters with ``PARAMETER_COLUMNS`` (parquet, or csv by its suffix).

    Returns event_id -> parameters of the candidates of that event; nothing from a tracker that does not fit.
    Raises InputError for a file that cannot be read and as ``parameters.parameters_by_event``.
    """
    return parameters_by_event(_read_table(path, "a table of track parameters"), str(path))


def match_labels(tracks: pd.DataFrame, hit_id: np.ndarray, where: str = "tracks") -> np.ndarray:
    """Put the labels of a tracks table into the order of the event's hits.

    tracks: ``hit_id track_id``, sorted by hit_id, unique; hit_id: (n,) hits of the event
    where: what to name in an error
    Returns (n,) int64. Raises InputError unless both hold exactly the same hits.
    """
    given = tracks["hit_id"].to_numpy()
    order = np.argsort(hit_id, kind="stable")
    if not np.array_equal(given, hit_id[order]):
        lacking = np.setdiff1d(hit_id, given)
        extra = np.setdiff1d(given, hit_id)
        what = f"{lacking.size} hits of the event are missing and {extra.size} are not in the event"
        example = np.concatenate([lacking, extra])[:1]
        first = f" (first hit_id {example[0]})" if example.size else ""
        remedy = "reconstruct the same prepared events that are evaluated"
        raise InputError(describe(where, what + first, "one row per hit of the event", remedy))
    labels = np.empty(len(hit_id), dtype=np.int64)
    labels[order] = tracks["track_id"].to_numpy()
    return labels


def evaluate_tracks(
    tracks: str | os.PathLike,
    events: Iterable[tuple[Hits, Truth]],
    selection: TruthSelection,
    out: EvaluationFiles,
    parameters: str | os.PathLike | None = None,
) -> None:
    """Evaluate every event and write the tables of a tracker.

    tracks: file of ``read_tracks``
    events: hits and truth of exactly the events in ``tracks``; padding (``valid`` False) is ignored
    parameters: file of ``read_parameters``; without rows, or without the file, residuals and vertices are
        tables without rows
    Raises InputError if events, hits or candidates do not agree; then nothing is written.
    """
    fits = {} if parameters is None else read_parameters(parameters)
    results = list(_evaluate_all(tracks, events, selection, fits))
    if not results:
        raise InputError(describe(tracks, "holds no events", "at least one event to evaluate"))
    found, targets = np.sum([result.counts["dm"] for result in results], axis=0)
    logger.info("%d events: DM %.4f of %d targets", len(results), found / max(targets, 1), targets)
    counts = [(result.event_id, metric, num, den) for result in results for metric, (num, den) in result.counts.items()]
    table = pd.DataFrame(counts, columns=["event_id", "metric", "num", "den"])
    with atomic_path(out.counts) as temporary:
        table.to_csv(temporary, index=False)
    for name in ("particles", "candidates", "residuals", "vertices"):
        with atomic_path(getattr(out, name)) as temporary:
            write_frame(_joined(results, name), temporary)


def _joined(results: list[EventResult], name: str) -> pd.DataFrame:
    """One table of all events; only its columns if no event has any, as without track parameters."""
    frames = [getattr(result, name) for result in results]
    frames = [frame for frame in frames if frame is not None]
    if frames:
        return pd.concat(frames, ignore_index=True)
    types = {"residuals": RESIDUAL_COLUMNS, "vertices": VERTEX_COLUMNS}[name]
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in types.items()})


def _evaluate_all(tracks, events, selection: TruthSelection, fits: dict[int, TrackParameters]) -> Iterator[EventResult]:
    by_event = read_tracks(tracks)
    remaining = set(by_event)
    if unknown := sorted(fits.keys() - remaining):
        what = f"no candidates of {len(unknown)} events with track parameters (first {unknown[0]})"
        raise InputError(describe(tracks, what, "tracks and parameters of one reconstruction"))
    for hits, truth in events:
        truth = _valid_truth(hits, truth)
        if truth.event_id not in remaining and len(truth):  # an event without hits has no rows
            what = f"event {truth.event_id} is not there or was given twice"
            raise InputError(describe(tracks, what, "one reconstruction of each event"))
        remaining.discard(truth.event_id)
        where = f"{tracks}, event {truth.event_id}"
        labels = match_labels(by_event.pop(truth.event_id, _NO_TRACKS), truth.hit_id, where)
        # An event without candidates has no rows, even from a tracker that fits.
        parameters = fits.get(truth.event_id, TrackParameters.empty()) if fits else None
        if parameters is not None:
            check_candidates(parameters, labels, f"track parameters of event {truth.event_id}")
        result = evaluate_event(labels, truth, selection, parameters=parameters)
        level = logging.INFO if len(truth) > LARGE_EVENT else logging.DEBUG
        logger.log(level, "event %d: DM %.4f of %d targets", truth.event_id, result.value("dm"), result.counts["dm"][1])
        yield result
    if remaining:
        what = f"{len(remaining)} events without truth (first {min(remaining)})"
        raise InputError(describe(tracks, what, "exactly the events that are evaluated"))


def _valid_truth(hits: Hits, truth: Truth) -> Truth:
    """Truth of the real hits. Raises InputError if hits and truth are not row by row the same."""
    if hits.event_id != truth.event_id or not np.array_equal(hits.hit_id, truth.hit_id):
        where = f"event {hits.event_id}"
        raise InputError(describe(where, f"hits and truth (of event {truth.event_id}) differ", "the same hit_id rows"))
    if hits.valid.all():
        return truth
    keep = hits.valid
    return replace(truth, hit_id=truth.hit_id[keep], particle_id=truth.particle_id[keep], weight=truth.weight[keep])


def _read_table(path: str | os.PathLike, expected: str = "a tracks table") -> pd.DataFrame:
    if not str(path).endswith((".csv", ".csv.gz")):
        return read_frame(path, expected)
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(describe(path, f"cannot be read ({first_line.rstrip('.')})", expected)) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas makes an index of surplus values
        raise InputError(describe(path, "more values than column names", expected))
    return frame
