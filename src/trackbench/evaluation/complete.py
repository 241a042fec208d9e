"""Read the text files of one tracker and refuse those that were cut short.

A text file has no checksum: a changed digit stays unnoticed, but a missing end does not, by the last line and by what
the files of one tracker say about each other.
"""

import json
import os
from pathlib import Path

import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.parquet import RUN_AGAIN


def read_rows(path: str | os.PathLike, **options) -> pd.DataFrame:
    """Read a csv file that trackbench wrote. options: of ``pandas.read_csv``.

    Raises InputError if it is missing, not a table, or its last line has no end.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_whole = file.read() == b"\n"
        if is_whole:
            return pd.read_csv(path, **options)
        reason = "its last line has no end"
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if not Path(path).exists():
            raise InputError(describe(path, f"cannot be read ({reason})", "a csv file")) from error
    raise InputError(describe(path, f"cut short or damaged ({reason})", "a complete csv file", RUN_AGAIN))


def read_run(path: str | os.PathLike) -> dict:
    """Read a run file. Raises InputError if it is missing or damaged."""
    try:
        run = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(run, dict):
            return run
        reason = type(run).__name__
    except (OSError, ValueError) as error:
        reason = str(error)
    raise InputError(describe(path, f"cannot be read ({reason})", "a complete run file", RUN_AGAIN))


def check_events(
    counts: tuple[object, pd.DataFrame], timing: tuple[object, pd.DataFrame | None], run: dict | None
) -> None:
    """Check that the files of one tracker are about the same number of events, and no row of them is missing.

    counts: name of the file and table ``event_id metric num den``; timing: the same with ``event_id stage`` and so on
    run: content of the run file
    Raises InputError.
    """
    where, table = counts
    sizes = table.groupby("event_id").size()
    n_metrics = table["metric"].nunique()
    short = sizes[sizes != n_metrics]
    if len(short):
        what = f"{short.iloc[0]} metrics of event {short.index[0]}"
        raise InputError(describe(where, what, f"{n_metrics} as of the others", RUN_AGAIN))
    n_events, where_from = len(sizes), where
    if run is not None and "events" in run:
        n_events, where_from = run["events"], "its run file"
        if len(sizes) != n_events:
            raise InputError(describe(where, f"{len(sizes)} events", f"the {n_events} of {where_from}", RUN_AGAIN))
    if timing[1] is not None:
        found = int((timing[1]["stage"] == "total").sum())
        if found != n_events:
            raise InputError(describe(timing[0], f"{found} events", f"the {n_events} of {where_from}", RUN_AGAIN))
