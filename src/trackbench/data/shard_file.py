"""One prepared shard on disk: a hits and a particles Parquet file with one row group per event.

What the index and the manifest need travels as JSON in the Parquet metadata of both files. Features of cells are
further float32 columns of the hits file, all of ``CELL_FEATURES`` in this order or none.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from trackbench.data.hits import CELL_FEATURES, HIT_COLUMNS, Hits
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.errors import InputError, describe
from trackbench.files import atomic_path
from trackbench.parquet import content_checksum

PREPARE_AGAIN = "remove it and index.csv beside it and prepare again"

_HITS_NAME = re.compile(r"shard-(.+)-hits\.parquet")
_FLOATS = {"x", "y", "z", "weight", "pt", "eta", "phi", "vx", "vy", "vz"}
_KEY = b"trackbench"
_SUMS = b"trackbench crc32 of events"


def _schema(names: Sequence[str], features: Sequence[str] = ()) -> pa.Schema:
    fields = [(name, pa.float64() if name in _FLOATS else pa.int64()) for name in names]
    return pa.schema([*fields, *((name, pa.float32()) for name in features)])


_HITS_NAMES = ("event_id", *HIT_COLUMNS, "particle_id", "weight")
HITS_SCHEMA = _schema(_HITS_NAMES)
CELL_HITS_SCHEMA = _schema(_HITS_NAMES, CELL_FEATURES)
PARTICLES_SCHEMA = _schema(("event_id", *PARTICLE_COLUMNS))
_SCHEMAS = {(): HITS_SCHEMA, CELL_FEATURES: CELL_HITS_SCHEMA}


class ShardWriter:
    """Writes the two files of a shard event by event, so that memory holds one event."""

    def __init__(self, hits_file: pa_parquet.ParquetWriter, particles_file: pa_parquet.ParquetWriter):
        self._files = (hits_file, particles_file)
        self._sums: tuple[list[int], list[int]] = ([], [])

    def add(self, hits: Hits, truth: Truth) -> str:
        """Append an event. Returns the SHA-256 of its numbers, whatever the compression.

        Features that the shard has no column for are left out; InputError if one that it has is missing.
        """
        digest = hashlib.sha256()
        tables = (_hits_table(hits, truth, self._files[0].schema), _particles_table(truth))
        for file, table, sums in zip(self._files, tables, self._sums, strict=True):
            for name, column in zip(table.schema.names, table.columns, strict=True):
                digest.update(name.encode())
                digest.update(column.to_numpy().tobytes())
            file.write_table(table, row_group_size=max(len(table), 1))
            sums.append(content_checksum(table))
        return digest.hexdigest()

    def set_metadata(self, metadata: dict) -> None:
        """Store ``metadata`` (plain values) in both files, when all events are added."""
        for file, sums in zip(self._files, self._sums, strict=True):
            content = {_KEY: json.dumps(metadata, sort_keys=True).encode(), _SUMS: json.dumps(sums).encode()}
            file.add_key_value_metadata(content)


@contextmanager
def shard_writer(
    out_hits: str | Path, out_particles: str | Path, features: Sequence[str] = ()
) -> Iterator[ShardWriter]:
    """Open both files of a shard for writing; they appear only if the block succeeds.

    features: names of ``Hits.features`` to keep, ``CELL_FEATURES`` or none; rounded to float32
    """
    if tuple(features) not in _SCHEMAS:
        raise ValueError(f"features {tuple(features)}, expected {CELL_FEATURES} or none")
    schema = _SCHEMAS[tuple(features)]
    options = {"compression": "zstd", "write_page_checksum": True}
    with (
        atomic_path(out_hits) as hits_path,
        atomic_path(out_particles) as particles_path,
        pa_parquet.ParquetWriter(hits_path, schema, **options) as hits_file,
        pa_parquet.ParquetWriter(particles_path, PARTICLES_SCHEMA, **options) as particles_file,
    ):
        yield ShardWriter(hits_file, particles_file)


class Shard:
    """A shard opened for reading.

    hits_path: its hits file, ``shard-<name>-hits.parquet``; the particles file lies beside it
    Raises InputError, here and in every method, if a file is missing, damaged or not a shard.
    """

    def __init__(self, hits_path: str | Path):
        self.path = Path(hits_path)
        match = _HITS_NAME.fullmatch(self.path.name)
        if not match:
            raise InputError(describe(self.path, "not a shard by its name", "shard-<k>-hits.parquet"))
        self.name = match[1]
        self.particles_path = self.path.with_name(f"shard-{self.name}-particles.parquet")
        self._hits = _open(self.path, HITS_SCHEMA, CELL_HITS_SCHEMA)
        self._particles = _open(self.particles_path, PARTICLES_SCHEMA)
        has_cells = self._hits.schema_arrow.names == CELL_HITS_SCHEMA.names
        # Names of the features of the hits: ``CELL_FEATURES`` or none.
        self.features: tuple[str, ...] = CELL_FEATURES if has_cells else ()
        self.metadata = _metadata(self.path, self._hits)
        if self.metadata != _metadata(self.particles_path, self._particles):
            what = "does not belong to the particles file beside it"
            raise InputError(describe(self.path, what, "two files of one job", PREPARE_AGAIN))

    @property
    def events(self) -> list[dict]:
        """Records of the events, in file order: event_id, n_hits, sha256 and so on."""
        return self.metadata["events"]

    def hits_frame(self, row: int) -> pd.DataFrame:
        """Hits of the ``row``-th event, with particle_id, weight and the features of the shard."""
        return _read_row_groups(self.path, self._hits, [row])

    def particles_frame(self, row: int) -> pd.DataFrame:
        """``Truth.particles`` of the ``row``-th event."""
        return _read_row_groups(self.particles_path, self._particles, [row]).drop(columns="event_id")

    def read(self, row: int) -> tuple[Hits, Truth]:
        """Hits and truth of the ``row``-th event."""
        event_id = self.events[row]["event_id"]
        frame = self.hits_frame(row)
        hits = Hits.from_frame(frame, event_id, self.features)
        ids, weight = frame["particle_id"].to_numpy(np.int64), frame["weight"].to_numpy(np.float64)
        return hits, Truth(hits.hit_id, ids, weight, self.particles_frame(row), event_id)

    def read_many(self, rows: Sequence[int]) -> list[tuple[Hits, Truth]]:
        """Hits and truth of several events, the same as ``read`` gives, with one pass over each file.

        rows: places in the file, in any order; the result is in this order. Costs a fifth of reading
        events of 300 hits one by one. The arrays of all events share memory.
        """
        rows = list(rows)
        frame = _read_row_groups(self.path, self._hits, rows)
        particles = _read_row_groups(self.particles_path, self._particles, rows).drop(columns="event_id")
        hits = Hits.from_frame(frame, features=self.features)
        ids, weight = frame["particle_id"].to_numpy(np.int64), frame["weight"].to_numpy(np.float64)
        events = []
        hit_slices, particle_slices = _slices(self._hits, rows), _slices(self._particles, rows)
        for row, mine, theirs in zip(rows, hit_slices, particle_slices, strict=True):
            event_id = self.events[row]["event_id"]
            own = replace(hits.take(mine), event_id=event_id)
            table = particles.iloc[theirs].reset_index(drop=True)
            events.append((own, Truth(own.hit_id, ids[mine], weight[mine], table, event_id)))
        return events


def _hits_table(hits: Hits, truth: Truth, schema: pa.Schema) -> pa.Table:
    columns = {
        "event_id": np.full(len(hits), hits.event_id, dtype=np.int64),
        "hit_id": hits.hit_id,
        **{name: np.ascontiguousarray(hits.xyz[:, i]) for i, name in enumerate("xyz")},
        "volume_id": hits.volume_id,
        "layer_id": hits.layer_id,
        "module_id": hits.module_id,
        "particle_id": truth.particle_id,
        "weight": truth.weight,
    }
    for name in schema.names[len(columns) :]:
        if name not in hits.features:
            where, remedy = f"event {hits.event_id}", "prepare with data.cells: true"
            raise InputError(describe(where, f"no feature {name}", "the features of cells", remedy))
        columns[name] = hits.features[name].astype(np.float32)
    return pa.table(columns, schema=schema)


def _particles_table(truth: Truth) -> pa.Table:
    columns = {name: truth.particles[name].to_numpy() for name in PARTICLE_COLUMNS}
    event_id = np.full(len(truth.particles), truth.event_id, dtype=np.int64)
    return pa.table({"event_id": event_id, **columns}, schema=PARTICLES_SCHEMA)


def _open(path: Path, *schemas: pa.Schema) -> pa_parquet.ParquetFile:
    try:
        file = pa_parquet.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if all(names != schema.names for schema in schemas):
        wanted = "columns " + ", ".join(schemas[0].names)
        raise InputError(describe(path, "columns " + ", ".join(names), wanted, PREPARE_AGAIN))
    return file


def _metadata(path: Path, file: pa_parquet.ParquetFile) -> dict:
    try:
        metadata = json.loads(file.metadata.metadata[_KEY])
        is_consistent = len(metadata["events"]) == file.num_row_groups
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if not is_consistent:
        raise InputError(describe(path, "its list of events does not match its content", "", PREPARE_AGAIN))
    return metadata


def _read_row_groups(path: Path, file: pa_parquet.ParquetFile, rows: Sequence[int]) -> pd.DataFrame:
    try:
        table = file.read_row_groups(rows, use_threads=False)
        _verify(table, file, rows)
        return table.to_pandas()
    except (pa.ArrowException, OSError, ValueError, IndexError, TypeError) as error:
        raise _damaged(path, error) from error


def _verify(table: pa.Table, file: pa_parquet.ParquetFile, rows: Sequence[int]) -> None:
    """Raise ValueError if the values are not those written: pages have checksums, the footer has none."""
    parts = _slices(file, rows)
    if len(table) != (parts[-1].stop if parts else 0):
        raise ValueError("wrong number of rows")
    if sums := file.metadata.metadata.get(_SUMS):  # files of older versions have none
        sums = json.loads(sums)
        for row, part in zip(rows, parts, strict=True):
            if content_checksum(table.slice(part.start, part.stop - part.start)) != sums[row]:
                raise ValueError(f"wrong checksum of the values of row group {row}")


def _slices(file: pa_parquet.ParquetFile, rows: Sequence[int]) -> list[slice]:
    """Where each of the row groups ``rows`` is when they are read after each other."""
    ends = np.cumsum([file.metadata.row_group(row).num_rows for row in rows], dtype=np.int64).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return InputError(describe(path, f"missing or damaged shard ({reason})", "a complete file", PREPARE_AGAIN))
