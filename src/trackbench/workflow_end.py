"""Whether the program that started a job still waits for it: a job whose workflow was killed must not go on writing."""

import os
from itertools import pairwise
from pathlib import Path

_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh"}


def starters(pid: int | None = None) -> list[int]:
    """Process ids from ``pid`` (default: this process) up to the program that started it, nearest first.

    Shells in between are passed over but listed. Empty where the system has no /proc.
    """
    chain = [os.getpid() if pid is None else pid]
    while True:
        _, parent = _name_and_parent(chain[-1])
        if parent is None:
            return []
        chain.append(parent)
        if _name_and_parent(parent)[0] not in _SHELLS:
            return chain


def is_left_alone(chain: list[int]) -> bool:
    """Whether a process of ``starters`` has another parent than then, because that one ended; False for []."""
    return any(_name_and_parent(child)[1] != parent for child, parent in pairwise(chain))


def _name_and_parent(pid: int) -> tuple[str, int | None]:
    """Name of a process and the id of its parent; "" and None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", None
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])
