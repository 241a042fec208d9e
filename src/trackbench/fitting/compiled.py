"""The decorator of all compiled kernels of the fit: ``numba.njit`` with a cache that is never stale.

Numba keeps compiled kernels on disk and recompiles one when its own file changes, but not when a function
it calls from another file does; results would then come from old code. So the cached files of a folder carry
a digest of its sources and of those of this package, whose kernels it may call, and are removed when it differs.

Numba compiles a kernel, and all it calls, once more for each literal integer it is called with. So counters that
are handed on start as ``np.int64(0)``, not as 0, and so are plain numbers in calls; only the fit of the three hits
of a seed is meant to be compiled for that number, which is faster. Slices are copied by a loop
(``candidate.copy_first``), which takes seconds less to compile than their assignment.
"""

import contextlib
import functools
import hashlib
import logging
from pathlib import Path

from numba import njit

from trackbench.files import write_text

logger = logging.getLogger(__name__)
_STAMP = "kernels.sha256"


def kernel(function):
    """Compile ``function`` without the interpreter lock, with NumPy's division rules; keep the result on disk.

    It has no entry for callers in C, which would take as long again as that for Python.
    """
    _refresh(Path(function.__code__.co_filename).parent)
    return njit(
        function,
        cache=True,
        nogil=True,
        no_cfunc_wrapper=True,
        error_model="numpy",
        fastmath={"contract", "nsz", "arcp"},
    )


@functools.cache
def _refresh(folder: Path) -> None:
    """Drop the stale kernels of a folder, once per process."""
    drop_stale_kernels(folder, Path(__file__).parent)


def drop_stale_kernels(folder: Path, *used: Path) -> bool:
    """Remove the compiled kernels of the modules in ``folder`` unless all sources are as they were then.

    used: folders with kernels that those in ``folder`` call
    Returns True if they were stale. Does nothing in a folder that cannot be written, where sources do not change.
    """
    digest = hashlib.sha256()
    for path in sorted(path for place in {folder, *used} for path in place.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    cache = folder / "__pycache__"
    stamp = cache / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return False
    try:
        for pattern in ("*.nbi", "*.nbc"):
            for path in cache.glob(pattern):
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    path.unlink()
        write_text(stamp, digest.hexdigest())
    except OSError as error:
        logger.debug("compiled kernels of %s cannot be removed: %s", folder, error)
        return False
    return True
