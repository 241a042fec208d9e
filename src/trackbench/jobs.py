"""What every workflow script does around its work: log file, thread limit, one-sentence errors, an end when asked."""

import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from trackbench.errors import Stopped, TrackbenchError, describe
from trackbench.files import DISK_FULL, MAKE_ROOM
from trackbench.machine import surroundings
from trackbench.workflow_end import announced_workflow, is_left_alone, starters, workflow_is_over

logger = logging.getLogger("trackbench")

WATCH_EVERY_S = 1.0  # how long a job may go on alone after its workflow was killed
ASK_AGAIN_S = 600.0  # for one that has not ended by then: its exception was lost, as in a destructor

# Read by the libraries when they are loaded, which is after the job has started.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# Faults of the machine, not of trackbench.
_MACHINE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}
_KERNEL_CACHE = ("numba", "core", "caching.py")  # where numba fails on damaged files, or without a folder to write in
# How torch says, in a RuntimeError, that there is no memory.
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "std::bad_alloc")


@contextmanager
def job(log: str | Path, threads: int = 1) -> Iterator[None]:
    """Run the body of a workflow job. For the main thread.

    log: file that gets every log line; the same lines go to standard error. One more at the end of a job that
        succeeds says with how many threads, on which processor and with which versions
    threads: threads the body may use; BLAS and OpenMP pools are limited to it
    A TrackbenchError becomes one line in the log and exit code 2, and so do SIGTERM, the end of the workflow that
    started the job, a full disk, too little memory and other faults of the machine. Other exceptions are defects:
    their traceback is logged and they propagate.
    """
    with ExitStack() as stack:
        stack.push(_report)
        log_file = _start_log(Path(log))
        stack.enter_context(_stopped_by_sigterm())
        stack.enter_context(_not_without_workflow())
        stack.enter_context(_limited_threads(threads))
        yield
        log_file.handle(logging.LogRecord(logger.name, logging.INFO, "", 0, _made_with(threads), None, None))


def _made_with(threads: int) -> str:
    found = surroundings(threads)
    named = [f"{name} {version}" for name, version in found["versions"].items()]
    return "made with " + ", ".join([f"threads {threads}", found["machine"]["cpu"], *named])


class _LogFile(logging.FileHandler):
    """On a full disk lines are lost here without a word: standard error has them too."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _start_log(log: Path) -> logging.Handler:
    log.parent.mkdir(parents=True, exist_ok=True)
    handlers = [_LogFile(log, mode="w", encoding="utf-8"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    logger.setLevel(logging.INFO)  # progress of our own code only: matplotlib alone would fill the log
    logging.captureWarnings(True)
    return handlers[0]


def _report(kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """Log how the body ended; what is raised or not handled here propagates."""
    if isinstance(error, Exception):
        error = _fault_of_the_machine(error) or error
    if isinstance(error, TrackbenchError):
        logger.error("error: %s", error)
        sys.exit(2)
    if isinstance(error, Exception):
        logger.error("this is a defect of trackbench, please report it", exc_info=(kind, error, trace))


def _fault_of_the_machine(error: Exception) -> TrackbenchError | None:
    """Return the error to show for a full disk, too little memory and the like; None for all others."""
    if isinstance(error, OSError) and error.errno in (*DISK_FULL, *_MACHINE):
        remedy = MAKE_ROOM if error.errno in DISK_FULL else "run again when that is mended"
        return TrackbenchError(describe(error.filename or "this job", os.strerror(error.errno), "", remedy))
    text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(how in text for how in _NO_MEMORY)):
        remedy = "run again with more memory for each job, or fewer jobs at a time"
        return TrackbenchError(describe("this job", f"out of memory ({text})", "", remedy))
    frames = list(traceback.walk_tb(error.__traceback__))
    if frames and Path(frames[-1][0].f_code.co_filename).parts[-3:] == _KERNEL_CACHE:
        remedy = "set NUMBA_CACHE_DIR to an empty folder that can be written and run again"
        return TrackbenchError(describe("compiled kernels", f"cannot be kept or read ({text})", "", remedy))
    return None


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise, so that half-written files are removed."""

    def stop(_number, _frame) -> None:
        raise Stopped(describe("this job", "stopped by SIGTERM", "", "run again"))

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextmanager
def _not_without_workflow() -> Iterator[None]:
    """Send this process SIGTERM when the program that started it was killed: a new run would write the same files."""
    chain, announced, over = starters(), announced_workflow(), threading.Event()

    def watch() -> None:
        pause = 0.0
        while not over.wait(pause):
            pause = WATCH_EVERY_S
            if is_left_alone(chain) or workflow_is_over(announced):
                logger.error("the workflow that started this job is gone")
                os.kill(os.getpid(), signal.SIGTERM)
                pause = ASK_AGAIN_S

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Limit thread pools: those of libraries loaded from here on, then those already loaded."""
    os.environ.update(dict.fromkeys(_POOLS, str(threads)))
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        yield
