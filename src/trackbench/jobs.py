"""What every workflow script does around its work: log file, thread limit, one-sentence errors."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from trackbench.errors import TrackbenchError

logger = logging.getLogger("trackbench")

# Read by the libraries when they are loaded, which is after the job has started.
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def job(log: str | Path, threads: int = 1) -> Iterator[None]:
    """Run the body of a workflow job.

    log: file that gets every log line; the same lines go to standard error
    threads: threads the body may use; BLAS and OpenMP pools are limited to it
    A TrackbenchError becomes one line in the log and exit code 2. Other exceptions are defects: their
    traceback is logged and they propagate.
    """
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(log, mode="w", encoding="utf-8"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    logger.setLevel(logging.INFO)  # progress of our own code only: matplotlib alone would fill the log
    logging.captureWarnings(True)
    with ExitStack() as stack:
        stack.push(_report)
        stack.enter_context(_limited_threads(threads))
        yield


def _report(kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """Log how the body ended; what is raised or not handled here propagates."""
    if isinstance(error, TrackbenchError):
        logger.error("error: %s", error)
        sys.exit(2)
    if isinstance(error, Exception):
        logger.error("this is a defect of trackbench, please report it", exc_info=(kind, error, trace))


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Limit thread pools: those of libraries loaded from here on, then those already loaded."""
    os.environ.update(dict.fromkeys(_POOLS, str(threads)))
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        yield
