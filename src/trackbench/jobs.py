"""What every workflow script does around its work: log file, thread limit, one-sentence errors."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trackbench.errors import TrackbenchError

logger = logging.getLogger("trackbench")


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
    try:
        with _limited_threads(threads):
            yield
    except TrackbenchError as error:
        logger.error("error: %s", error)
        sys.exit(2)
    except Exception:
        logger.exception("this is a defect of trackbench, please report it")
        raise


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        yield
