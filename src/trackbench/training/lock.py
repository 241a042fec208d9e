"""A folder that one process uses at a time."""

import errno
import fcntl
import os
import secrets
import socket
from pathlib import Path
from typing import TextIO

from trackbench.errors import InputError, describe

LOCK = "lock"
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


class FolderLock:
    """Holds a folder from ``with`` to its end; no other process on this machine can meanwhile.

    folder: made if it does not exist
    The lock is the kernel's, so it ends with the process however that ends; the file ``lock`` stays and means nothing
    by itself. Some network file systems know the locks of one machine only. There the process that came last, whose
    name is in the file, keeps the folder, and the one before finds out by ``require_held``.
    Raises InputError if another process holds the folder, or it cannot be locked.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._file: TextIO
        self._name = ""

    def __enter__(self) -> "FolderLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / LOCK).open("a+", encoding="utf-8")
        try:
            self._take()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *error) -> None:
        self._file.close()  # which also frees the lock

    def require_held(self) -> None:
        """Raise InputError if a process on another machine has entered the folder since."""
        try:
            found = (self.folder / LOCK).read_text(encoding="utf-8")
        except FileNotFoundError:  # removed by hand
            return
        if found not in ("", self._name):
            what = f"another training{_who(found)} uses this folder now"
            raise InputError(describe(self.folder, what, "one training per folder", "this one ends, that one goes on"))

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(self._refusal(error)) from error
        # The random word tells processes of equal numbers apart; it decides nothing else.
        self._name = f"{os.getpid()} on {socket.gethostname()}\n{secrets.token_hex(8)}\n"
        self._file.truncate(0)
        self._file.write(self._name)
        self._file.flush()

    def _refusal(self, error: OSError) -> str:
        if error.errno in _HELD:
            self._file.seek(0)
            what = f"another training{_who(self._file.read())} is using this folder"
            return describe(self.folder, what, "one training per folder", "wait for it or stop it")
        what = f"cannot be locked ({error.strerror or error})"
        if error.errno in _NO_LOCKS:
            return describe(self.folder, what, "a file system with locks", "put the results on another one")
        return describe(self.folder, what, "", "run again when that is mended")


def _who(name: str) -> str:
    """The process that wrote ``name``, with a space before it; "" if nobody did."""
    first = name.partition("\n")[0].strip()
    return f" (process {first})" if first else ""
