"""Read TrackML events with the interface of trackml-library, checked and faster.

``read_event`` and ``iter_dataset`` correspond to ``load_event`` and ``load_dataset`` of
LAL/trackml-library (``trackml/dataset.py``): same arguments, order, columns and types. They differ in
that files are matched by exact name (the library's pattern also takes ``-hits.csv.bak``), Parquet is
read too, and every table is checked (``trackbench.data.checks``).
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from trackbench.data.archive import Directory, EventFiles, find_events, gunzip, open_files
from trackbench.data.checks import check_charges, check_event
from trackbench.data.schema import PARTS
from trackbench.data.tables import parse_csv, parse_parquet
from trackbench.errors import ConfigError, InputError, describe

# In this order; a table in both csv and csv.gz is refused, since the two may differ.
_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_MISSING_REMEDIES = {"cells": "give it, simulate with cells, or do without cell features (data.cells: false)"}


def read_event(
    prefix: str | os.PathLike, parts: Sequence[str] = PARTS, on_bad_charge: str = "error"
) -> tuple[pd.DataFrame, ...]:
    """Read the tables of one event.

    prefix: the common start of the file names, such as ``"data/event000001000"``; also
        ``"train.zip/train/event000001000"`` for an event inside a zip archive
    parts: any of "hits", "cells", "particles", "truth"
    on_bad_charge: what to do with corrupt cell values, "error", "clip" or "repair" (see ``check_charges``)
    Returns one table per part, in the order asked for, with the columns of ``schema.COLUMNS``.
    Raises InputError for a file that is missing or wrong in any way. Parquet is taken before csv.
    """
    root, name = _split_prefix(prefix)
    with open_files(root) as files:
        return _read_tables(files, name, parts, on_bad_charge)


def has_part(prefix: str | os.PathLike, part: str) -> bool:
    """Tell whether an event has a file of ``part``, in any format.

    prefix: as for ``read_event``; part: "hits", "cells", "particles" or "truth"
    Raises InputError if the directory or archive of the prefix does not exist or cannot be opened.
    """
    root, name = _split_prefix(prefix)
    with open_files(root) as files:
        return any(f"{name}-{part}{suffix}" in _names_of(files, name) for suffix in _SUFFIXES)


def iter_dataset(
    path: str | os.PathLike,
    skip: int | None = None,
    nevents: int | None = None,
    parts: Sequence[str] = PARTS,
    on_bad_charge: str = "error",
) -> Iterator[tuple]:
    """Read the events of a directory or zip archive one after the other, by increasing number.

    path: directory or zip file; other files in it are ignored
    skip, nevents: leave out the first ``skip`` events, stop after ``nevents``
    parts, on_bad_charge: as for ``read_event``
    Yields ``(event_id, *tables)``. Raises InputError as ``read_event`` does, or if there is no event.
    """
    stop = None if nevents is None else (skip or 0) + nevents
    with open_files(path) as files:
        for event_id, prefix in find_events(files)[skip:stop]:
            yield (event_id, *_read_tables(files, prefix, parts, on_bad_charge))


def list_events(path: str | os.PathLike) -> list[tuple[int, str]]:
    """List the events of a directory or zip archive.

    Returns (event number, prefix for ``read_event``) by increasing number. Events in ``shard-<k>``
    sub-directories, as the simulation writes them, are included.
    Raises InputError if there is none, or one twice.
    """
    with open_files(path) as files:
        return [(event_id, str(Path(path) / prefix)) for event_id, prefix in find_events(files)]


def _split_prefix(prefix: str | os.PathLike) -> tuple[Path, str]:
    """Return the directory or archive of an event, and the start of its file names inside."""
    prefix = Path(prefix)
    root = next((p for p in prefix.parents if p.is_file()), prefix.parent)
    if not root.is_dir() and not root.is_file():
        raise InputError(describe(prefix, f"no directory {root}", "a prefix such as data/event000001000"))
    return root, prefix.relative_to(root).as_posix()


def _read_tables(files: EventFiles, prefix: str, parts: Sequence[str], on_bad_charge: str) -> tuple[pd.DataFrame, ...]:
    for part in parts:
        if part not in PARTS:
            raise ConfigError(describe("parts", f"unknown part {part!r}", ", ".join(PARTS)))
    existing = _names_of(files, prefix)
    names = {part: _file_of(files, existing, prefix, part) for part in dict.fromkeys(parts)}
    where = {part: str(files.path / name) for part, name in names.items()}

    def read(part: str) -> pd.DataFrame:
        return _read_table(files.read(names[part]), part, where[part])

    # Unpacking and parsing leave the interpreter, so the tables are read side by side; the first
    # error in the order of the parts is the one reported, whatever the timing.
    with ThreadPoolExecutor(max_workers=2) as pool:
        frames = dict(zip(names, pool.map(read, names), strict=True))
    check_event(frames, where)
    if "cells" in frames:
        frames["cells"] = check_charges(frames["cells"], where["cells"], on_bad_charge)
    return tuple(frames[part] for part in parts)


def _names_of(files: EventFiles, prefix: str) -> set[str]:
    """Existing file names of an event; a directory is asked per name, as it may hold 35,000 files."""
    candidates = (f"{prefix}-{part}{suffix}" for part in PARTS for suffix in _SUFFIXES)
    if isinstance(files, Directory):
        return {name for name in candidates if (files.path / name).is_file()}
    return set(candidates) & set(files.names())


def _file_of(files: EventFiles, names: set[str], prefix: str, part: str) -> str:
    found = [f"{prefix}-{part}{suffix}" for suffix in _SUFFIXES if f"{prefix}-{part}{suffix}" in names]
    if not found:
        wanted = " or ".join(f"{prefix}-{part}{suffix}" for suffix in _SUFFIXES)
        raise InputError(describe(files.path, f"no {part} file", wanted, _MISSING_REMEDIES.get(part, "")))
    if len(found) > 1 and not found[0].endswith(".parquet"):
        raise InputError(describe(files.path, "both " + " and ".join(found), "one of them", "remove the other"))
    return found[0]


def _read_table(data: bytes, part: str, where: str) -> pd.DataFrame:
    if not data:
        raise InputError(describe(where, "the file is empty", "a table", "download it again"))
    if where.endswith(".parquet"):
        return parse_parquet(data, part, where)
    return parse_csv(gunzip(data, where) if where.endswith(".gz") else data, part, where)
