"""Event files of a directory or a zip archive behind one interface; archives are never extracted.

Everything an archive can do wrong (absolute or ``..`` names, links, encryption, bombs, truncation) is
an InputError, raised before any member is used. Nothing is ever written to disk from an archive.
"""

import itertools
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from trackbench.errors import InputError, describe

MAX_FILE_BYTES = 2 << 30  # one table of a mu = 200 event has 30 MB
MAX_RATIO = 200  # TrackML csv compresses about 4 times
_RATIO_APPLIES_FROM = 1 << 20  # a tiny file of equal digits may compress well
_SHARD_FOLDER = "shard-"
_EVENT_FILE = re.compile(r"((?:.*/)?event(\d{9}))-(?:hits|cells|particles|truth)\.(?:csv|csv\.gz|parquet)")


class EventFiles(Protocol):
    """Named byte files, wherever they are."""

    path: Path

    def names(self) -> list[str]:
        """Names of all files, relative to ``path``, sorted."""

    def read(self, name: str) -> bytes:
        """Content of a file; gzip content is not unpacked here."""


class Directory:
    """Files of a directory, and of its ``shard-<k>`` sub-directories (the layout of the simulation)."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        """Names of the files, relative to the directory, sorted."""
        found = []
        for entry in os.scandir(self.path):
            if entry.is_file():
                found.append(entry.name)
            elif entry.name.startswith(_SHARD_FOLDER) and entry.is_dir():
                found += [f"{entry.name}/{inner.name}" for inner in os.scandir(entry.path) if inner.is_file()]
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Content of the file ``name``. Raises InputError if it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(describe(self.path / name, f"cannot be read ({error.strerror})")) from error


class ZipArchive:
    """Files of a zip archive, checked before the first use."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path = path
        self._archive = archive
        self._members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        for info in archive.infolist():
            _check_member(path, info)
        if len({info.filename for info in archive.infolist()}) != len(archive.infolist()):
            raise InputError(describe(path, "the same name twice in the archive", "unique names"))

    def names(self) -> list[str]:
        """Names of the files in the archive, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """Content of the member ``name``; the checksum in the archive is verified."""
        try:
            # ZipFile stops at the declared size, which _check_member has limited.
            return self._archive.read(self._members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise InputError(describe(f"{self.path}/{name}", f"damaged ({error})", "", "download it again")) from error


@contextmanager
def open_files(path: str | os.PathLike) -> Iterator[EventFiles]:
    """Open a directory or a zip archive of event files.

    Raises InputError if ``path`` is neither, or the archive is damaged or unsafe.
    """
    path = Path(path)
    if path.is_dir():
        yield Directory(path)
        return
    if not path.exists():
        raise InputError(describe(path, "no such directory or zip file"))
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        what = f"not a readable zip file ({error})"
        raise InputError(describe(path, what, "a directory or a zip of events", "download it again")) from error
    with archive:
        yield ZipArchive(path, archive)


def find_events(files: EventFiles) -> list[tuple[int, str]]:
    """List the events among ``files``, by exact file name, such as ``event000001000-hits.csv.gz``.

    Returns (event number, prefix of the file names) by increasing number.
    Raises InputError if there is none, or one twice.
    """
    found: dict[str, int] = {}
    for name in files.names():
        match = _EVENT_FILE.fullmatch(name)
        if match:
            found[match[1]] = int(match[2])
    events = sorted((event_id, prefix) for prefix, event_id in found.items())
    if not events:
        raise InputError(describe(files.path, "no events", "files such as event000001000-hits.csv or .csv.gz"))
    for (first, prefix), (second, other) in itertools.pairwise(events):
        if first == second:
            raise InputError(describe(files.path, f"event {first} twice ({prefix}, {other})", "unique event numbers"))
    return events


def gunzip(data: bytes, where: str) -> bytes:
    """Unpack gzip ``data`` of one or more members in memory.

    where: file name for messages
    Raises InputError if it is truncated, damaged or suspiciously large when unpacked.
    """
    limit = min(MAX_FILE_BYTES, max(len(data) * MAX_RATIO, _RATIO_APPLIES_FROM))
    chunks, size = [], 0
    while data:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            chunks.append(unpacker.decompress(data, limit - size + 1))
        except zlib.error as error:
            raise InputError(describe(where, f"damaged gzip file ({error})", "", "download it again")) from error
        size += len(chunks[-1])
        if size > limit:
            raise InputError(describe(where, f"unpacks to more than {limit} bytes", "a csv table", "do not trust it"))
        if not unpacker.eof:
            raise InputError(describe(where, "truncated gzip file", "a complete file", "download it again"))
        data = unpacker.unused_data
    return b"".join(chunks)


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    remedy = "do not trust this archive"
    # orig_filename is what the archive says; ZipInfo cuts names at a NUL byte.
    parts = PurePosixPath(info.orig_filename.replace("\\", "/")).parts
    if "\0" in info.orig_filename or not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise InputError(describe(path, f"unsafe name {info.orig_filename!r}", "relative names", remedy))
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InputError(describe(path, f"{name} is a symbolic link", "plain files", remedy))
    if info.flag_bits & 0x1:
        raise InputError(describe(path, f"{name} is encrypted", "plain files", "unpack it first"))
    ratio = info.file_size / max(info.compress_size, 1)
    too_dense = ratio > MAX_RATIO and info.file_size > _RATIO_APPLIES_FROM
    if info.file_size > MAX_FILE_BYTES or too_dense:
        what = f"{name} unpacks to {info.file_size} bytes, {ratio:.0f} times its size"
        raise InputError(describe(path, what, f"at most {MAX_FILE_BYTES} bytes and {MAX_RATIO} times", remedy))
