"""Tables of track parameters, whoever made them: are they complete, and do they belong to these tracks?"""

import numpy as np
import pandas as pd

from trackbench.data.tracks import PARAMETER_COLUMNS, PARAMETERS, TrackParameters
from trackbench.errors import InputError, describe

_INTEGERS = ("event_id", "track_id", "n_dof", "n_holes")
_COVARIANCE = tuple(name for name in PARAMETER_COLUMNS if name.startswith("cov_"))


def parameters_by_event(frame: pd.DataFrame, where: str) -> dict[int, TrackParameters]:
    """Check a table of track parameters and split it by event.

    frame: ``PARAMETER_COLUMNS`` in any order, further columns are ignored; where: what to name in an error
    Returns event_id -> parameters of the candidates 0, 1, ... of that event.
    A candidate whose fit failed has NaN in all five parameters, its covariance does not matter; zeros in the
    covariance of a fit mean errors that are not known, and chi2 is NaN where there is none.
    Raises InputError for a missing column, another type, other numbers that are not finite, theta outside (0, pi),
    or candidates of an event that are not numbered 0, 1, ...
    """
    missing = [name for name in PARAMETER_COLUMNS if name not in frame]
    if missing:
        raise InputError(describe(where, f"no column {missing[0]}", "columns " + ", ".join(PARAMETER_COLUMNS)))
    if frame.empty:
        return {}
    for name in PARAMETER_COLUMNS:
        integer = name in _INTEGERS
        of_type = pd.api.types.is_integer_dtype if integer else pd.api.types.is_numeric_dtype
        if not of_type(frame[name]):
            raise InputError(
                describe(where, f"column {name} is {frame[name].dtype}", "integers" if integer else "numbers")
            )
    _check_numbers(frame, where)
    found = {}
    for event_id, rows in frame.sort_values(["event_id", "track_id"], kind="stable").groupby("event_id", sort=True):
        numbers = rows["track_id"].to_numpy()
        wrong = np.flatnonzero(numbers != np.arange(numbers.size))
        if wrong.size:
            what = f"track_id is not consecutive: {numbers[wrong[0]]} instead of {wrong[0]} in event {event_id}"
            raise InputError(describe(where, what, "0, 1, ... in each event, one row per candidate"))
        found[int(event_id)] = TrackParameters.from_frame(rows)
    return found


def check_candidates(parameters: TrackParameters, track_id: np.ndarray, where: str) -> None:
    """Raise InputError unless the candidates of an event are those that were fitted.

    track_id: (n,) int64, of all hits of the event that the tracker saw, negative = unassigned
    where: what to name in an error
    """
    found = np.unique(track_id[track_id >= 0])
    if not np.array_equal(found, np.arange(len(parameters))):
        largest = f", the largest track_id is {found[-1]}" if found.size else ""
        what = f"{len(parameters)} rows, but hits of {found.size} candidates{largest}"
        expected = "one row for each candidate, numbered 0, 1, ..."
        raise InputError(describe(where, what, expected, "reconstruct the event again or remove the file"))


def _check_numbers(frame: pd.DataFrame, where: str) -> None:
    values = frame[list(PARAMETERS)].to_numpy(np.float64)
    fitted = ~np.isnan(values).all(axis=1)
    for name in (*PARAMETERS, *_COVARIANCE, "chi2"):
        column = frame[name].to_numpy(np.float64)
        known = np.isfinite(column) | (np.isnan(column) if name == "chi2" else False)
        _refuse(frame, fitted & ~known, name, where, "finite numbers; NaN in all five parameters if the fit failed")
    theta = values[:, PARAMETERS.index("theta")]
    _refuse(frame, fitted & ~((theta > 0) & (theta < np.pi)), "theta", where, "between 0 and pi [rad]")


def _refuse(frame: pd.DataFrame, wrong: np.ndarray, name: str, where: str, expected: str) -> None:
    if wrong.any():
        row = frame[wrong].iloc[0]
        what = f"{name} is {row[name]:g} for track_id {row['track_id']:.0f} of event {row['event_id']:.0f}"
        raise InputError(describe(where, what, expected))
