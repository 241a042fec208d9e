"""Published numbers of the Trackformers' first phase (``config/published_trackformers.csv``)."""

import os

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe

PUBLISHED_COLUMNS = ("set", "row", "trained_on", "metric", "scale", "value", "source", "caveat")
NOISE_ROW = "true targets, Laplace noise"  # row of the label-noise study


def read_published(path: str | os.PathLike) -> pd.DataFrame:
    """Read quoted numbers, as printed in their source.

    set: data set they were measured on, "all" = full events; trained_on: that of the training, "" = none or not said
    metric: fractions; ``*_ms`` [ms], ``epoch_min`` [min], ``n_weights``, ``mse``; ``sigma_*``, of the targets
    scale: of the noise put on the true targets, NaN elsewhere
    Returns ``PUBLISHED_COLUMNS``; raises InputError for a missing column, or a row without number, name or source.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(describe(path, "cannot be read", "a csv file")) from error
    missing = [name for name in PUBLISHED_COLUMNS if name not in frame]
    if missing:
        raise InputError(describe(path, f"no column {missing[0]}", "columns " + ", ".join(PUBLISHED_COLUMNS)))
    value = pd.to_numeric(frame["value"], errors="coerce").to_numpy(np.float64)
    scale = pd.to_numeric(frame["scale"], errors="coerce").to_numpy(np.float64)
    _refuse(path, frame, np.isnan(value), "value", "a number")
    _refuse(path, frame, np.isnan(scale) & (frame["scale"] != "").to_numpy(bool), "scale", "a number or nothing")
    for name in ("set", "row", "metric", "source"):
        _refuse(path, frame, (frame[name].str.strip() == "").to_numpy(bool), name, "some text")
    return frame[list(PUBLISHED_COLUMNS)].assign(value=value, scale=scale)


def headline_rows(published: pd.DataFrame) -> pd.DataFrame:
    """Numbers of models tested on the set of their training."""
    own = (published["trained_on"] == published["set"]) | (published["trained_on"] == "")
    return published[own & published["scale"].isna()]


def matrix_rows(published: pd.DataFrame) -> pd.DataFrame:
    """Numbers of models trained on a known set, whatever the set of the test."""
    return published[(published["trained_on"] != "") & published["scale"].isna()]


def noise_rows(published: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the label-noise study."""
    return published[published["row"] == NOISE_ROW]


def _refuse(path, frame: pd.DataFrame, bad: np.ndarray, name: str, expected: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(describe(f"{path} line {row + 2}", f"{name} {frame[name].iloc[row]!r}", expected))
