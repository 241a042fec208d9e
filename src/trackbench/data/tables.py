"""Turn the bytes of one csv or Parquet table into a frame with exactly the right types."""

import csv
import functools
import io
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from trackbench.data.checks import DOWNLOAD, check_columns
from trackbench.data.schema import COLUMNS
from trackbench.errors import InputError, describe
from trackbench.parquet import read_table

log = logging.getLogger(__name__)

_MAX_HEADER = 4096
# The compiled parser takes about 0.4 s to load once per process and saves half of the time per byte.
_COMPILED_FROM = 1 << 18


def parse_csv(data: bytes, part: str, where: str) -> pd.DataFrame:
    """Parse a csv table of ``part`` ("hits", ...) with a header line.

    data: content of the file; where: file name for messages
    Returns the table with the columns and types of ``schema.COLUMNS``; float columns are rounded from
    float64 as pandas does. Raises InputError for a wrong column, a bad value or a short line.
    """
    names, start = _read_header(data, where)
    check_columns(part, names, where)
    if not data[start : start + _MAX_HEADER].strip():
        return _build_frame({name: np.empty(0) for name in names}, part)
    arrays = _parse_plain(data, start, names, part) if len(data) >= _COMPILED_FROM else None
    if arrays is None:
        arrays = _parse_body(memoryview(data)[start:], names, part, where)
    return _build_frame(arrays, part)


def parse_parquet(data: bytes, part: str, where: str) -> pd.DataFrame:
    """Parse a Parquet table of ``part``; arguments, result and errors as ``parse_csv``.

    An integer column stored as floating point is refused: particle_id may have lost digits.
    """
    try:
        table = read_table(pa.BufferReader(data))
        check_columns(part, table.schema.names, where)
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"damaged Parquet file ({_first_line(error)})"
        raise InputError(describe(where, what, "a complete file", DOWNLOAD)) from error
    arrays = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        wanted = np.dtype(COLUMNS[part][name])
        is_right = pa.types.is_integer(column.type) or (wanted.kind == "f" and pa.types.is_floating(column.type))
        if not is_right:
            raise InputError(describe(where, f"column {name} has type {column.type}", str(wanted), DOWNLOAD))
        if column.null_count:
            raise InputError(describe(where, f"{column.null_count} missing values in column {name}", "numbers"))
        arrays[name] = column.to_numpy()
        _check_range(arrays[name], wanted, name, where)
    return _build_frame(arrays, part)


def _read_header(data: bytes, where: str) -> tuple[list[str], int]:
    """Return the column names and the position of the first row."""
    end = data.find(b"\n", 0, _MAX_HEADER)
    line = data[: end if end >= 0 else _MAX_HEADER]
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
        names = next(csv.reader(io.StringIO(text)), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(describe(where, f"unreadable header {line[:40]!r}", "column names", DOWNLOAD)) from error
    return [name.strip() for name in names], end + 1 if end >= 0 else len(data)


def _parse_plain(data: bytes, start: int, names: list[str], part: str) -> dict[str, np.ndarray] | None:
    """Parse with the compiled parser; None if the table is not plain numbers or numba is not there."""
    try:
        from trackbench.data.fastcsv import parse_numbers
    except ImportError:
        _log_slow_parser()
        return None
    arrays = parse_numbers(data, start, [COLUMNS[part][name] for name in names])
    return None if arrays is None else dict(zip(names, arrays, strict=True))


@functools.cache
def _log_slow_parser() -> None:
    """Say once per process that reading is slower than it could be."""
    log.info("numba is not installed: reading csv with the slower general parser")


def _parse_body(body: memoryview, names: list[str], part: str, where: str) -> dict[str, np.ndarray]:
    # Floats are read as float64 and rounded later: two roundings, like pandas, hence the same bits.
    types = {name: pa.int64() if COLUMNS[part][name] == "int64" else pa.int32() for name in names}
    types.update({name: pa.float64() for name in names if COLUMNS[part][name] == "float32"})
    try:
        table = _arrow_csv(body, names, types)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(_explain(body, names, types, where, error)) from error
    return {name: table[name].to_numpy() for name in names}


def _arrow_csv(body: memoryview, names: list[str], types: dict[str, pa.DataType]) -> pa.Table:
    # One block and one thread: row numbers in messages, and the same CPU cost on any machine.
    read = pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=min(len(body) + 1, 1 << 30))
    convert = pa_csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False)
    parse = pa_csv.ParseOptions(quote_char='"', newlines_in_values=False)
    return pa_csv.read_csv(pa.BufferReader(body), read_options=read, parse_options=parse, convert_options=convert)


def _explain(body: memoryview, names: list[str], types: dict, where: str, error: Exception) -> str:
    """Message for a csv body that did not parse: the first bad value if there is one."""
    try:
        table = _arrow_csv(body, names, dict.fromkeys(names, pa.binary()))
    except (pa.ArrowException, OSError, ValueError):
        return describe(where, _first_line(error), f"{len(names)} comma-separated values per line", DOWNLOAD)
    for name in names:
        try:
            table[name].cast(pa.string()).cast(types[name])
        except (pa.ArrowException, ValueError):
            row, value = _first_bad(table[name].to_pylist(), types[name])
            expected = "a number" if pa.types.is_floating(types[name]) else f"an {types[name]} number"
            return describe(where, f"value {value!r} in column {name}, row {row + 1}", expected, DOWNLOAD)
    return describe(where, _first_line(error), "", DOWNLOAD)


def _first_bad(values: list[bytes], kind: pa.DataType) -> tuple[int, str]:
    for row, value in enumerate(values):
        text = value.decode("utf-8", "replace")
        try:
            pa.scalar(text).cast(kind)
        except (pa.ArrowException, ValueError):
            return row, text
    return 0, values[0].decode("utf-8", "replace")


def _check_range(values: np.ndarray, wanted: np.dtype, name: str, where: str) -> None:
    if wanted.kind == "i" and values.size:
        limits = np.iinfo(wanted)
        for value in (values.min(), values.max()):
            if not limits.min <= int(value) <= limits.max:
                raise InputError(describe(where, f"value {value} in column {name}", f"an {wanted} number", DOWNLOAD))


def _build_frame(arrays: dict[str, np.ndarray], part: str) -> pd.DataFrame:
    # A value beyond float32 becomes inf, which the checks then report.
    with np.errstate(over="ignore"):
        columns = {n: arrays[n].astype(kind, copy=False) for n, kind in COLUMNS[part].items() if n in arrays}
    # Arrow lends read-only memory; everything else is ours, so that the frame need not copy it.
    columns = {name: values if values.flags.writeable else values.copy() for name, values in columns.items()}
    return pd.DataFrame(columns, copy=False)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")[:200] if str(error) else type(error).__name__
