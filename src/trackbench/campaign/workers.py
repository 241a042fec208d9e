"""Processes that work beside the one that trains, until a deadline."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult

log = logging.getLogger(__name__)

_POLL_S = 0.2


@dataclass(frozen=True)
class Clock:
    """Time that is left: end is a reading of ``time.monotonic`` [s]."""

    end: float

    @classmethod
    def of_minutes(cls, minutes: float) -> "Clock":
        """A clock that runs from now."""
        return cls(time.monotonic() + 60 * minutes)

    def left(self) -> float:
        """Seconds left, negative when it is over."""
        return self.end - time.monotonic()

    def reason_to_stop(self, call_s: float, limit_s: float) -> str:
        """Why a call expected to take ``call_s`` is not begun, "" if it may be: time is over, or the call too long."""
        if self.left() <= 0:
            return "time is over"
        return f"about {call_s:.0f} s per call" if call_s > limit_s else ""

    def before(self, seconds: float) -> "Clock":
        """A clock that is over so many seconds earlier."""
        return Clock(self.end - seconds)


class Workers:
    """Fresh processes for functions of modules, used as a context; what still runs at its end is ended with it.

    number: of processes, >= 1
    Tasks must leave whole files only, as they may end at any moment.
    """

    def __init__(self, number: int):
        # Fresh ones: neither ACTS and its threads nor CUDA survive a fork.
        self._pool = multiprocessing.get_context("spawn").Pool(number, _start)
        self._tasks: list[tuple[str, AsyncResult]] = []
        self._failures: list[Exception] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error) -> None:
        if self._collect():
            self._pool.terminate()
        else:  # in order: ended processes leave semaphores of their libraries behind
            self._pool.close()
        self._pool.join()

    def submit(self, name: str, function: Callable, *arguments) -> None:
        """Start ``function(*arguments)`` as soon as a process is free. name: for messages."""
        self._tasks.append((name, self._pool.apply_async(function, arguments)))

    def wait(self, clock: Clock, enough: Callable[[], bool] | None = None) -> bool:
        """Wait for all tasks, until the clock is over or there is ``enough``; then tasks go on.

        Returns whether all are done. Raises what the first failed one raised, once no other is running.
        """
        while self._collect() and clock.left() > 0:
            if enough is not None and enough():
                return False
            time.sleep(_POLL_S)
        if self._tasks:
            return False
        if self._failures:
            raise self._failures[0]
        return True

    def _collect(self) -> bool:
        """Take finished tasks from the list. Returns whether any is left."""
        finished = [(name, task) for name, task in self._tasks if task.ready()]
        self._tasks = [(name, task) for name, task in self._tasks if (name, task) not in finished]
        for name, task in finished:
            try:
                task.get()
            except Exception as error:  # noqa: BLE001 - raised by wait, when the others are done
                log.error("%s failed: %s", name, error)
                self._failures.append(error)
            else:
                log.info("%s: done", name)
        return bool(self._tasks)


def _start() -> None:
    """One thread per process: there are as many processes as CPUs."""
    from threadpoolctl import threadpool_limits

    logging.basicConfig(level=logging.WARNING)
    threadpool_limits(limits=1)
