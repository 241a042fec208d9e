"""Published numbers, to be shown beside measured ones: always marked as quoted, with their selection."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe

PUBLISHED_COLUMNS = ("tracker", "metric", "value", "unit", "selection", "source", "caveat")
QUOTED = "quoted"  # first word of the source of every quoted row

# unit as printed -> factor to the unit of the long table (fractions, ms, MB = 10^6 bytes)
_FACTORS = {"%": 0.01, "1": 1.0, "ms": 1.0, "GB": 1e3, "MiB": 1.048576}


def read_published(path: str | os.PathLike) -> pd.DataFrame:
    """Read ``config/published.csv``, values as printed in the source with their unit.

    Returns the columns of ``PUBLISHED_COLUMNS`` with ``value`` converted: fractions, ms, MB.
    Raises InputError for a missing column, an unknown unit, or a row without number, selection or source.
    """
    frame, value = read_quoted(path, PUBLISHED_COLUMNS, ("tracker", "metric", "selection", "source"))
    refuse_rows(path, frame, ~frame["unit"].isin(_FACTORS).to_numpy(bool), "unit", "one of " + ", ".join(_FACTORS))
    factor = frame["unit"].map(_FACTORS).to_numpy(np.float64)
    return frame[list(PUBLISHED_COLUMNS)].assign(value=value * factor)


def tiled_numbers(published: pd.DataFrame) -> pd.DataFrame:
    """Choose what was published about tiled events: metrics called ``NAME/tiled:N``.

    published: from ``read_published``. Returns its rows with metric = NAME and ``n_hits`` = N, an int, added.
    """
    parts = published["metric"].str.extract("^(.*?)/tiled:(.+)$")
    tiled = parts[1].notna()
    return published[tiled].assign(metric=parts.loc[tiled, 0], n_hits=parts.loc[tiled, 1].astype(int))


def read_quoted(
    path: str | os.PathLike, columns: Sequence[str], needed: Sequence[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read a csv file of quoted numbers as text.

    columns: that must be there, "value" among them; needed: those that must not be empty
    Returns the table and its values as numbers, (n_rows,) float. Raises InputError with the line that is wrong.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(describe(path, "cannot be read", "a csv file")) from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise InputError(describe(path, f"no column {missing[0]}", "columns " + ", ".join(columns)))
    value = pd.to_numeric(frame["value"], errors="coerce").to_numpy(np.float64)
    refuse_rows(path, frame, np.isnan(value), "value", "a number")
    for name in needed:
        refuse_rows(path, frame, (frame[name].str.strip() == "").to_numpy(bool), name, "some text")
    return frame, value


def quoted_rows(published: pd.DataFrame, definition_version: str = "published") -> pd.DataFrame:
    """Turn published numbers into rows of the long table; nothing but the value is known.

    published: from ``read_published``
    Returns rows whose ``source`` starts with ``QUOTED`` and ends with the caveat in brackets.
    """
    caveat = published["caveat"]
    source = QUOTED + ": " + published["source"] + (" [" + caveat + "]").where(caveat != "", "")
    columns = {name: published[name] for name in ("tracker", "metric", "value", "selection")}
    return pd.DataFrame(
        {**columns, "region": "all", "lo": np.nan, "hi": np.nan, "n_num": np.nan, "n_den": np.nan, "n_events": 0}
        | {"definition_version": definition_version, "source": source}
    )


def is_quoted(table: pd.DataFrame) -> np.ndarray:
    """Tell which rows of a long table are quoted. Returns (n_rows,) bool."""
    return table["source"].astype(str).str.startswith(QUOTED).to_numpy(bool)


def refuse_rows(path, frame: pd.DataFrame, bad: np.ndarray, name: str, expected: str) -> None:
    """Raise InputError for the first row with ``bad``, a (n_rows,) bool, naming its value in column ``name``."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(describe(f"{path} line {row + 2}", f"{name} {frame[name].iloc[row]!r}", expected))
