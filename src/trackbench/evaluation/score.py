"""The TrackML score of one submission, with the interface of the challenge's own library."""

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation.matching import contingency


def trackml_score(truth: pd.DataFrame, submission: pd.DataFrame) -> float:
    """Return the TrackML score of one event: the weight of the majority hits of good tracks / all weight.

    truth: one row per hit with columns hit_id, particle_id (0 = noise), weight
    submission: columns hit_id, track_id (>= 0); any order; hits that the truth does not have are ignored
    Returns a number in [0, 1]; NaN if the truth has no weight. A track is good if its majority particle
    (ties: smallest particle_id; noise competes like one particle) has more than half of the hits of the
    track and the track more than half of the hits of the particle. No cut on size or momentum. For a part
    of the event (pixel hits) the score is renormalised to the rows given.
    Raises InputError for a negative track_id or particle_id, a hit without track, a duplicate hit_id, a
    weight that is not finite, or a missing column.
    Source: trackml-library, ``score_event``. Differs from it in: refuses -1 (a sentinel there, which
    corrupts the result) and missing hits (each becomes a track of its own there).
    """
    _check_columns("truth", truth, ("hit_id", "particle_id", "weight"))
    _check_columns("submission", submission, ("hit_id", "track_id"))
    hit_id = _integers("truth", truth, "hit_id")
    particle_id = _not_negative("truth", _integers("truth", truth, "particle_id"), "particle_id", "use 0 for noise")
    remedy = "give each unassigned hit a track_id of its own"
    track_id = _not_negative("submission", _integers("submission", submission, "track_id"), "track_id", remedy)
    track_id = track_id[_locate(hit_id, _integers("submission", submission, "hit_id"))]
    weight = truth["weight"].to_numpy(np.float64)
    if not np.isfinite(weight).all():
        raise InputError(describe("truth", f"{(~np.isfinite(weight)).sum()} weights are not finite", "numbers >= 0"))

    table = contingency(track_id, particle_id)
    shared = table.pair_shared[table.best]
    good = (2 * shared > table.size) & (2 * shared > table.id_hits[table.pair_id[table.best]])
    good_pair = np.zeros(len(table.pair_id), dtype=bool)
    good_pair[table.best[good]] = True
    total = weight.sum()
    return float(weight[good_pair[table.hit_pair]].sum() / total) if total else float("nan")


def _locate(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Position of each hit_id of the truth in the submission; both must be unique."""
    ascending = given.size > 0 and (np.diff(given) > 0).all()
    if ascending and np.array_equal(wanted, given):  # the usual case
        return np.arange(len(wanted))
    index = _unique_index("submission", given)
    at = index.get_indexer(_unique_index("truth", wanted))
    missing = at < 0
    if missing.any():
        what = f"{missing.sum()} hits of the truth have no track_id (first hit_id {wanted[missing][0]})"
        raise InputError(describe("submission", what, "one row per hit", "give each unassigned hit its own track_id"))
    return at


def _unique_index(where: str, hit_id: np.ndarray) -> pd.Index:
    index = pd.Index(hit_id)
    if not index.is_unique:
        repeated = hit_id[index.duplicated()]
        raise InputError(describe(where, f"{repeated.size} duplicate hit_id (first {repeated[0]})", "unique hit_id"))
    return index


def _check_columns(where: str, frame: pd.DataFrame, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in frame]
    if missing:
        raise InputError(describe(where, f"no column {missing[0]}", "columns " + ", ".join(names)))


def _integers(where: str, frame: pd.DataFrame, name: str) -> np.ndarray:
    values = frame[name].to_numpy()
    # Floats merge neighbouring particle_id, which use more than 53 bits.
    if values.size and not np.issubdtype(values.dtype, np.integer):
        raise InputError(describe(where, f"column {name} is {values.dtype}", "integers"))
    return values.astype(np.int64, copy=False)


def _not_negative(where: str, values: np.ndarray, name: str, remedy: str) -> np.ndarray:
    bad = values < 0
    if bad.any():
        what = f"{bad.sum()} rows with negative {name} (first {values[bad][0]})"
        raise InputError(describe(where, what, f"{name} >= 0", remedy))
    return values
