"""Stop a training when its time is over, by the signal that a batch system would send."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from trackbench.errors import Stopped, describe


@dataclass
class Deadline:
    """reached: the time is over, and the training was asked to stop."""

    reached: bool = False


@contextlib.contextmanager
def stop_after(seconds: float) -> Iterator[Deadline]:
    """Send this process SIGTERM after so many seconds, > 0; the training loop saves its state and stops.

    Before and after the loop, where nothing is lost, SIGTERM raises Stopped. Handlers and timer are as before
    at the end. For the main thread only.
    """
    deadline = Deadline()

    def over(_number, _frame) -> None:
        deadline.reached = True
        signal.raise_signal(signal.SIGTERM)

    def stop(_number, _frame) -> None:
        raise Stopped(describe("training", "stopped by SIGTERM outside its loop", "", "run again to resume"))

    earlier = {signal.SIGALRM: signal.signal(signal.SIGALRM, over), signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield deadline
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in earlier.items():
            signal.signal(number, handler)
