"""The folder of one training: an exclusive lock, and its state written so that a kill at any moment costs little."""

import errno
import fcntl
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import atomic_path

STATE, HISTORY, LOCK = "state.pt", "history.csv", "lock"
_FORMAT = 1
# What torch, zipfile and pickle raise on files that are not what they should be.
_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError)
_UNREADABLE += (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError)
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def config_hash(identity: Mapping) -> str:
    """SHA-256 of nested plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()


class RunFolder:
    """Holds the folder of a training from ``with`` to its end; no other process can meanwhile.

    folder: made if it does not exist
    identity: nested plain values that decide the result, such as network, loss, training, seed and data; a state
        made with others is refused
    Raises InputError if another training holds the folder, or it cannot be locked. The lock is the kernel's, so it
    ends with the process however that ends; the file ``lock`` stays and means nothing by itself.
    """

    def __init__(self, folder: str | os.PathLike, identity: Mapping):
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity, allow_nan=False))
        self._lock: io.TextIOWrapper | None = None

    def __enter__(self) -> "RunFolder":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._refuse(error)
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        for leftover in self.folder.glob(".tmp-*"):  # of a process killed while it wrote
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(self, *error) -> None:
        self._lock.close()  # which also frees the lock

    def _refuse(self, error: OSError) -> None:
        self._lock.seek(0)
        holder = self._lock.read().strip()
        self._lock.close()
        if error.errno in _NO_LOCKS:
            what = f"cannot be locked ({error.strerror})"
            raise InputError(describe(self.folder, what, "a file system with locks")) from error
        what = "another training" + (f" (process {holder})" if holder else "") + " is using this folder"
        raise InputError(describe(self.folder, what, "one training per folder", "wait for it or stop it")) from error

    def save(self, state: Mapping, history_csv: str) -> None:
        """Replace the saved state. state: tensors and plain values; history_csv: text, for whoever looks on.

        Raises InputError if the disk is full or not writable; the state saved before then stays. TypeError for a
        value that could not be loaded again.
        """
        _require_plain(state, "state")
        buffer = io.BytesIO()  # torch turns a full disk into a crash; a plain write does not
        content = {"format": _FORMAT, "config_hash": config_hash(self.identity)}
        torch.save({**content, "identity": json.dumps(self.identity), "state": dict(state)}, buffer)
        path = self.folder / STATE
        remedy = "make room and run again: training goes on from the last saved state"
        try:
            with atomic_path(path, remedy) as temporary:
                temporary.write_bytes(buffer.getbuffer())
            with atomic_path(self.folder / HISTORY, remedy) as temporary:
                temporary.write_text(history_csv, encoding="utf-8")
        except OSError as error:
            what = f"cannot be written ({error.strerror or error})"
            raise InputError(describe(path, what, "", "make it writable and run again")) from error

    def load(self) -> dict | None:
        """Return the saved state, None if there is none.

        Raises ConfigError if it was made with another identity, InputError if it cannot be read; nothing is removed.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        try:
            content = _read(path)
            identity, state, found = json.loads(content["identity"]), content["state"], content["format"]
        except _UNREADABLE as error:
            remedy = f"remove {self.folder} to train anew"
            raise InputError(
                describe(path, f"damaged training state ({_reason(error)})", "a complete one", remedy)
            ) from error
        if found != _FORMAT or identity != self.identity:
            different = "; ".join(_differences(identity, self.identity)) or f"format {found}, now {_FORMAT}"
            what = f"training state of another configuration ({different})"
            remedy = f"remove {self.folder} to train anew, or go back to that configuration"
            raise ConfigError(describe(path, what, "the configuration asked for now", remedy))
        return state

    def clear(self) -> None:
        """Remove the saved state, after the results are safe. The lock file stays: removing it would race."""
        for name in (STATE, HISTORY):
            (self.folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict:
    # torch does not check the checksums of the zip file it writes.
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"checksum of {broken}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # its text advises to switch the protection off
        return "not tensors and plain values only"
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _require_plain(value: object, where: str) -> None:
    """Raise TypeError unless ``value`` is what ``weights_only`` loads, and so would fail only when it is needed."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item, f"{where}[]")
    elif value is not None and type(value) not in (bool, int, float, str, torch.Tensor):
        raise TypeError(f"{where} is a {type(value).__name__}, expected a tensor or a plain value")


def _differences(there: Mapping, now: Mapping) -> Iterator[str]:
    """Name every key in which two identities differ, with both values."""
    mine, theirs = dict(_flat(now)), dict(_flat(there))
    for key in sorted({*mine, *theirs}):
        if mine.get(key) != theirs.get(key):
            yield f"{key} {theirs.get(key)!r} there, {mine.get(key)!r} now"


def _flat(values: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
