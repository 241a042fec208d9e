"""Parquet files that say when they are damaged: checksums of every page, and one of all values.

Parquet has checksums of the pages only: a changed byte of its footer can hide rows or rename columns. So
``parquet_writer`` adds the CRC-32 of names, types and values to the metadata. Files without it, as others write them,
are read as they are.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trackbench.errors import InputError, describe

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RUN_AGAIN = "remove it and run again"
_KEY = b"trackbench crc32"


class CheckedWriter:
    """Appends tables to a Parquet file; made by ``parquet_writer``."""

    def __init__(self, writer):
        self._writer = writer
        self._content = _Content(writer.schema)

    @property
    def schema(self) -> "pa.Schema":
        """Schema of the file."""
        return self._writer.schema

    def write(self, table: "pa.Table") -> None:
        """Append a table with the columns of the file."""
        self._content.add(table)
        self._writer.write_table(table)

    def finish(self) -> None:
        """Store the checksum; nothing may be written after it."""
        self._writer.add_key_value_metadata({_KEY: b"%d" % self._content.checksum()})


@contextmanager
def parquet_writer(path: str | os.PathLike, schema: "pa.Schema", **options) -> Iterator[CheckedWriter]:
    """Open a Parquet file for writing, not atomically. options: of ``pyarrow.parquet.ParquetWriter``."""
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(path, schema, write_page_checksum=True, **options) as file:
        writer = CheckedWriter(file)
        yield writer
        writer.finish()


def write_frame(frame: "pd.DataFrame", path: str | os.PathLike) -> None:
    """Write a table without its index, not atomically."""
    import pyarrow as pa

    # Without the metadata of pandas: a changed byte there would change types.
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    kinds = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in table.schema}
    table = table.cast(pa.schema(kinds))  # categories as their values
    with parquet_writer(path, table.schema) as writer:
        writer.write(table)


def read_table(source: object) -> "pa.Table":
    """Read and verify a Parquet file, on one thread.

    source: path or open Arrow file
    Raises pyarrow.ArrowException, OSError or ValueError if it cannot be read or a checksum is wrong.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(source, page_checksum_verification=True) as file:
        verify = (file.metadata.metadata or {}).get(_KEY)
        table = file.read(use_threads=False)
    if verify is not None:
        if b"%d" % content_checksum(table) != verify:
            raise ValueError("wrong checksum of the values: damaged, or changed since trackbench wrote it")
        rest = {key: value for key, value in table.schema.metadata.items() if key != _KEY}
        table = table.replace_schema_metadata(rest or None)
    return table


def read_frame(path: str | os.PathLike, expected: str = "a complete Parquet file") -> "pd.DataFrame":
    """Read and verify a Parquet file. expected: what it should be, for the error.

    Raises InputError if it is missing or damaged.
    """
    import pyarrow as pa

    try:
        # A damaged description of the types makes errors of every kind.
        return read_table(path).to_pandas()
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = RUN_AGAIN if Path(path).exists() else ""
        raise InputError(describe(path, f"cannot be read ({first_line.rstrip('.')})", expected, remedy)) from error


def content_checksum(table: "pa.Table") -> int:
    """CRC-32 of the names, types and values of a table."""
    content = _Content(table.schema)
    content.add(table)
    return content.checksum()


class _Content:
    """CRC-32 of a table that comes in parts; the same however it is cut into parts."""

    def __init__(self, schema: "pa.Schema"):
        self._columns = [f"{field.name} {field.type}" for field in schema]
        self._sums = [0] * len(self._columns)
        self._nulls = [0] * len(self._columns)

    def add(self, table: "pa.Table") -> None:
        for k, column in enumerate(table.columns):
            self._nulls[k] += column.null_count
            for chunk in column.chunks:
                self._sums[k] = zlib.crc32(_values(chunk), self._sums[k])

    def checksum(self) -> int:
        return zlib.crc32(repr([*zip(self._columns, self._sums, self._nulls, strict=True)]).encode())


def _values(chunk: "pa.Array") -> object:
    """Bytes of the values; missing ones as 0, as text for anything but numbers."""
    import pyarrow as pa

    kind = chunk.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return "".join(f"{value!r}\n" for value in chunk.to_pylist()).encode()
    if chunk.null_count:
        chunk = chunk.fill_null(pa.scalar(0).cast(kind))
    return chunk.to_numpy(zero_copy_only=False).view("u1")
