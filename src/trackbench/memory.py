"""Memory of this process: how much a piece of work needs at its peak."""

import ctypes
import gc
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_USUAL_LIMIT = 128 * 1024  # glibc's default of both [bytes]


def _status_mb(key: str) -> float | None:
    """Read one memory entry of this process [MB = 10^6 bytes] from Linux' /proc, None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(key + ":")]
    return int(values[0]) * 1024 / 1e6 if values else None  # given in units of 1024 bytes


def _max_rss_mb() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6  # macOS counts bytes, Linux 1024 bytes


def resident_mb() -> float:
    """Memory in use now [MB = 10^6 bytes]; the largest so far where the system does not tell."""
    current = _status_mb("VmRSS")
    return _max_rss_mb() if current is None else current


def peak_mb() -> float:
    """Largest memory since ``reset_peak`` [MB], since the start where the peak cannot be reset."""
    peak = _status_mb("VmHWM")
    return _max_rss_mb() if peak is None else peak


def available_mb() -> float:
    """Memory that can be had without swapping [MB = 10^6 bytes] (Linux), infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")
    values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(values[0]) * 1024 / 1e6 if values else float("inf")


def free_mb(limit: float = 0.0) -> float:
    """Memory that may be used [MB = 10^6 bytes]: what can be had, at most ``limit`` unless that is 0."""
    return min(available_mb(), limit or float("inf"))


def ran_out(error: Exception) -> bool:
    """Whether an error says that there was not enough memory, of this machine or of a device."""
    return isinstance(error, MemoryError) or "memory" in str(error)


def return_free_memory() -> None:
    """Give freed memory back to the system (Linux, glibc): else later work reuses it and seems to need none."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        logger.debug("freed memory cannot be returned: the peak memory may come out too low")


@contextmanager
def keep_free_memory() -> Iterator[None]:
    """Keep freed memory in this process instead of giving it back to the system at once (Linux, glibc).

    For work that asks for the same large arrays again and again, such as the steps of a training: pages need not be
    cleared anew each time, which took a tenth of a step. ``return_free_memory`` still works; it is called at the end,
    when glibc's usual limits hold again.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 2**30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _USUAL_LIMIT)
        mallopt(_M_TRIM_THRESHOLD, _USUAL_LIMIT)
        return_free_memory()


def reset_peak() -> None:
    """Let the peak start anew at the current memory, so that loading data does not count (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        logger.debug("peak memory cannot be reset: it includes everything since the start")


@contextmanager
def memory_limit(mb: float) -> Iterator[None]:
    """Let allocations beyond ``mb`` [MB = 10^6 bytes] more than now fail with an error instead of ending the process.

    What fails raises MemoryError (NumPy) or RuntimeError (torch). Counts addresses asked for, not memory in use (Linux;
    elsewhere there is no limit); so not for CUDA, which asks for more addresses than there is memory.
    """
    used, limits = _status_mb("VmSize"), resource.getrlimit(resource.RLIMIT_AS)
    if used is None or mb == float("inf"):
        yield
        return
    wanted = int((used + mb) * 1e6)
    soft = min([wanted, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (soft, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
