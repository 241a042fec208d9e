"""The folder of one training: a lock, and its states written so that a kill at any moment costs little."""

import glob
import hashlib
import io
import json
import logging
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import torch

from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import atomic_path
from trackbench.training.lock import FolderLock

logger = logging.getLogger(__name__)

STATE, PREVIOUS, FINISHED, HISTORY = "state.pt", "previous.pt", "finished.pt", "history.csv"
_FORMAT = 2
_MADE_WITH = "made_with.json"  # in the archive of a state
# What torch, zipfile and pickle raise on files that are not what they should be.
_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError)
_UNREADABLE += (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError)


def config_hash(identity: Mapping) -> str:
    """SHA-256 of nested plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()


class RunFolder:
    """Holds the folder of a training from ``with`` to its end, see ``FolderLock``, and its states.

    identity: nested plain values that decide the result, such as network, loss, training, seed and data; a state
        made with others is refused, unless its training is finished
    outputs: files the training will write; what a killed process left half written beside them is removed
    There are up to three states: ``STATE`` of a training that goes on, ``PREVIOUS``, saved before it, and ``FINISHED``,
    the last one of a training whose results are safe.
    Raises InputError if another training holds the folder, or it cannot be locked.
    """

    def __init__(self, folder: str | os.PathLike, identity: Mapping, outputs: Iterable[str | os.PathLike] = ()):
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity, allow_nan=False))
        self._outputs = [Path(path) for path in outputs]
        self._lock = FolderLock(folder)
        self._whole = False  # whether ``STATE`` is known to be good, so that it may replace ``PREVIOUS``

    def __enter__(self) -> "RunFolder":
        self._lock.__enter__()
        for leftover in chain(self.folder.glob(".tmp-*"), *map(_half_written, self._outputs)):
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(self, *error) -> None:
        self._lock.__exit__(*error)

    def save(self, state: Mapping, history_csv: str) -> None:
        """Replace the saved state; the one before it is kept as well.

        state: tensors and plain values; history_csv: text, for whoever looks on
        Raises InputError if the disk is full or not writable, when the states saved before then stay, or if a training
        on another machine uses the folder now. TypeError for a value that could not be loaded again.
        """
        self._lock.require_held()
        _require_plain(state, "state")
        content = _archive({"format": _FORMAT, "identity": json.dumps(self.identity), "state": dict(state)})
        path = self.folder / STATE
        remedy = "make room and run again: training goes on from the last saved state"
        try:
            with atomic_path(path, remedy) as temporary:
                temporary.write_bytes(content)
                if self._whole and path.exists():
                    path.replace(self.folder / PREVIOUS)
                self._whole = False
            self._whole = True
            with atomic_path(self.folder / HISTORY, remedy) as temporary:
                temporary.write_text(history_csv, encoding="utf-8")
        except OSError as error:
            what = f"cannot be written ({error.strerror or error})"
            raise InputError(describe(path, what, "", "make it writable and run again")) from error

    def load(self) -> dict | None:
        """Return the saved state, the one before it if that is damaged, that of a finished training, or None.

        A finished training of another identity counts as none, as does a damaged one. Nothing is removed.
        Raises ConfigError for a state of another identity, InputError if there are states and none can be read.
        """
        damages = []
        for path in (self.folder / STATE, self.folder / PREVIOUS):
            if not path.exists():
                continue
            try:
                found = _read(path)
            except _UnreadableState as error:
                damages.append((path, error))
                continue
            self._require_same(path, found)
            for other, error in damages:
                logger.warning("%s: %s; going on from the one saved before it, %s", other, error, path.name)
            self._whole = path.name == STATE
            return found["state"]
        if damages:
            path, error = damages[0]
            also = f", and {PREVIOUS} as well" if len(damages) > 1 else ""
            remedy = f"{error.remedy}remove {self.folder} to train anew"
            raise InputError(describe(path, f"{error}{also}", "a complete one", remedy)) from error
        return self._load_finished()

    def finish(self) -> None:
        """Set the state aside, after the results are safe.

        A rerun makes the results of it again, and one of another configuration is not held up. The lock file stays:
        removing it would race.
        """
        (self.folder / PREVIOUS).unlink(missing_ok=True)
        if (self.folder / STATE).exists():
            (self.folder / STATE).replace(self.folder / FINISHED)
        self._whole = False

    def _load_finished(self) -> dict | None:
        path = self.folder / FINISHED
        if not path.exists():
            return None
        try:
            found = _read(path)
        except _UnreadableState as error:
            logger.warning("%s: %s; training anew", path, error)
            return None
        if different := self._different(found):
            logger.info("%s: finished training of another configuration (%s); training anew", path, different)
            return None
        return found["state"]

    def _require_same(self, path: Path, found: dict) -> None:
        if different := self._different(found):
            what = f"training state of another configuration ({different})"
            remedy = f"remove {self.folder} to train anew, or go back to that configuration"
            raise ConfigError(describe(path, what, "the configuration asked for now", remedy))

    def _different(self, found: dict) -> str:
        if found["format"] != _FORMAT:
            return f"format {found['format']}, now {_FORMAT}"
        return "; ".join(_differences(found["identity"], self.identity))


class _UnreadableState(ValueError):
    """Says what is wrong with a state. remedy: besides training anew, ending with ", or "."""

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(what)
        self.remedy = remedy


def _half_written(path: Path) -> Iterator[Path]:
    """Temporary files of ``atomic_path`` for ``path``; not those of files whose names end in its name."""
    return path.parent.glob(f".tmp-{'?' * 8}-{glob.escape(path.name)}")


def _archive(content: Mapping) -> memoryview:
    """Archive of torch as bytes, in memory: torch turns a full disk into a crash; a plain write does not."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        # Of a fixed date, so that equal states are equal files. Readable whatever torch makes of the rest.
        archive.writestr(zipfile.ZipInfo(f"{folder}/{_MADE_WITH}"), json.dumps({"torch": str(torch.__version__)}))
    return buffer.getbuffer()


def _read(path: Path) -> dict:
    """Return format, identity and state. Raises _UnreadableState."""
    writer = None
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch does not check the checksums of the zip file it writes
            if broken is not None:
                raise ValueError(f"checksum of {broken}")
            writer = _writer(archive)
        content = torch.load(path, map_location="cpu", weights_only=True)
        identity, state = json.loads(content["identity"]), content["state"]
        return {"format": content["format"], "identity": identity, "state": state}
    except _UNREADABLE as error:
        if writer is None or writer == str(torch.__version__):
            raise _UnreadableState(f"damaged training state ({_reason(error)})") from error
        what = f"training state written by torch {writer}, which torch {torch.__version__} cannot read"
        raise _UnreadableState(f"{what} ({_reason(error)})", f"go on with torch {writer}, or ") from error


def _writer(archive: zipfile.ZipFile) -> str | None:
    """Version of torch that wrote a state, None if it does not say."""
    names = [name for name in archive.namelist() if name.endswith(f"/{_MADE_WITH}")]
    return json.loads(archive.read(names[0]))["torch"] if names else None


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
