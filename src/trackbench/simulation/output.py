"""Write simulated events in the TrackML format, and the manifest beside them."""

import gzip
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import trackbench
from trackbench.files import atomic_path, write_json
from trackbench.parquet import parquet_writer
from trackbench.simulation.config import SimulationConfig

DIGITS = 6  # significant digits of numbers in csv, as in TrackML
PARTICLE_COLUMNS = ("particle_id", "particle_type", "vx", "vy", "vz", "px", "py", "pz", "q", "nhits")
NOTE = "simulated, TrackML-like"
GENERATOR = "Pythia8 + ACTS Fatras (generic detector, {:g} T) + trackbench digitisation"


@dataclass(frozen=True)
class EventTables:
    """The tables of one event, with TrackML's columns.

    hits: hit_id x y z volume_id layer_id module_id, sorted by module, hit_id from 1
    truth: hit_id particle_id tx ty tz tpx tpy tpz weight, row by row beside the hits; noise has
        particle_id 0, weight 0 and a direction as momentum
    particles: particle_id particle_type vx vy vz px py pz q nhits, sorted by particle_id
    cells: hit_id ch0 ch1 value, or None
    """

    event_id: int
    hits: pd.DataFrame
    truth: pd.DataFrame
    particles: pd.DataFrame
    cells: pd.DataFrame | None = None

    def parts(self) -> dict[str, pd.DataFrame]:
        """Return the tables by the names of their files."""
        tables = {"hits": self.hits, "cells": self.cells, "truth": self.truth, "particles": self.particles}
        return {name: table for name, table in tables.items() if table is not None}


def write_event(event: EventTables, out_dir: str | Path, file_format: str) -> None:
    """Write ``event%09d-{hits,cells,truth,particles}`` in ``file_format``, each file atomically."""
    for name, table in event.parts().items():
        path = Path(out_dir) / f"event{event.event_id:09d}-{name}.{file_format}"
        with atomic_path(path) as temporary:
            if file_format == "parquet":
                _write_parquet(table, temporary)
            else:
                _write_csv(table, temporary, compress=file_format == "csv.gz")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Integers as they are, floats as float32; the weight stays float64 so that an event sums to 1."""
    import pyarrow as pa

    columns = {}
    for name in table.columns:
        values = table[name].to_numpy()
        columns[name] = values.astype(np.float32) if values.dtype.kind == "f" and name != "weight" else values
    floats = [name for name, values in columns.items() if values.dtype.kind == "f"]
    dictionary = [name for name in columns if name not in floats]
    filled = pa.table(columns)
    with parquet_writer(path, filled.schema, compression="zstd", use_dictionary=dictionary) as writer:
        writer.write(filled)


def _write_csv(table: pd.DataFrame, path: Path, compress: bool) -> None:
    """Comma-separated with ``DIGITS`` significant digits; pyarrow is about eight times faster than pandas."""
    import pyarrow as pa
    import pyarrow.csv

    columns = {}
    for name in table.columns:
        values = table[name].to_numpy()
        columns[name] = round_significant(values, DIGITS) if values.dtype.kind == "f" else values
    options = pa.csv.WriteOptions(quoting_header="none")
    if not compress:
        pa.csv.write_csv(pa.table(columns), path, options)
        return
    # No file name and no time in the header: the same event gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as stream:
        pa.csv.write_csv(pa.table(columns), stream, options)


def round_significant(values: np.ndarray, digits: int) -> np.ndarray:
    """Round floats to ``digits`` significant decimal digits, so that they print no longer than that. (n,) float."""
    values = np.asarray(values, dtype=np.float64)
    magnitude = np.floor(np.log10(np.abs(values), out=np.zeros_like(values), where=values != 0))
    power = digits - 1 - magnitude
    # Only non-negative powers of ten are exact in binary: scale down by dividing.
    up, down = 10.0 ** np.maximum(power, 0), 10.0 ** np.maximum(-power, 0)
    return np.rint(values * up / down) / up * down


def write_manifest(
    out_dir: str | Path, config: SimulationConfig, event_ids: list[int], drawn_as: list[int] | None = None
) -> None:
    """Write ``manifest.json``: source, every setting, events, versions, threads. Written last: its presence = complete.

    drawn_as: as in ``simulate``; recorded only if events are not drawn by their own numbers
    """
    packages = ("numpy", "pyarrow", "pyacts", "pythia8mc")
    versions = {"trackbench": trackbench.__version__, "python": platform.python_version()}
    versions.update({name: version(name) for name in packages})
    manifest = {
        "source": "simulate",
        "note": NOTE,
        "generator": GENERATOR.format(config.field),
        **asdict(config),
        "event_ids": [int(event_id) for event_id in event_ids],
        "versions": versions,
        "threads": 1,  # of each event, however many are made side by side
    }
    if drawn_as is not None:
        manifest["drawn_as"] = [int(number) for number in drawn_as]
    write_json(Path(out_dir) / "manifest.json", manifest)
