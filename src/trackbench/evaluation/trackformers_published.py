"""Published numbers of the Trackformers' first phase (``config/published_trackformers.csv``)."""

import os

import numpy as np
import pandas as pd

from trackbench.evaluation.published import read_quoted, refuse_rows

PUBLISHED_COLUMNS = ("set", "row", "trained_on", "metric", "scale", "value", "source", "caveat")
NOISE_ROW = "true targets, Laplace noise"  # row of the label-noise study


def read_published(path: str | os.PathLike) -> pd.DataFrame:
    """Read quoted numbers, as printed in their source.

    set: data set they were measured on, "all" = full events; trained_on: that of the training, "" = none or not said
    metric: fractions; ``*_ms`` [ms], ``epoch_min`` [min], ``n_weights``, ``mse``; ``sigma_*``, of the targets
    scale: of the noise put on the true targets, NaN elsewhere
    Returns ``PUBLISHED_COLUMNS``; raises InputError for a missing column, or a row without number, name or source.
    """
    frame, value = read_quoted(path, PUBLISHED_COLUMNS, ("set", "row", "metric", "source"))
    scale = pd.to_numeric(frame["scale"], errors="coerce").to_numpy(np.float64)
    unreadable = np.isnan(scale) & (frame["scale"] != "").to_numpy(bool)
    refuse_rows(path, frame, unreadable, "scale", "a number or nothing")
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
