"""Whether the program that started a job still waits for it: a job whose workflow was killed must not go on writing."""

import os
from itertools import pairwise
from pathlib import Path

# Process id and start of the workflow, for its jobs: one that starts after the workflow was killed has another parent.
_VARIABLE = "TRACKBENCH_WORKFLOW"
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh"}


def announce_workflow() -> None:
    """Name this process to the jobs it will start, unless it is part of a workflow that has done so. For Snakefiles."""
    known = os.environ.get(_VARIABLE, "")
    if workflow_is_over(known) or int(known.partition(" ")[0] or 0) not in _ancestors():
        os.environ[_VARIABLE] = f"{os.getpid()} {_started(os.getpid())} {_namespace()}"


def announced_workflow() -> str:
    """What the workflow of this job has said of itself; "" if nothing."""
    return os.environ.get(_VARIABLE, "")


def workflow_is_over(announced: str) -> bool:
    """Whether the announced workflow has ended; False for "", and where its processes cannot be seen from here."""
    pid, start, namespace = announced.split() if announced.count(" ") == 2 else ("0", "0", "")
    return start != "0" and namespace == _namespace() and _started(int(pid)) != int(start)


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


def _namespace() -> str:
    """Processes of a container have numbers of their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"


def _ancestors() -> list[int]:
    chain = [os.getpid()]
    while chain[-1]:
        chain.append(_name_and_parent(chain[-1])[1] or 0)
    return chain[:-1]


def _name_and_parent(pid: int) -> tuple[str, int | None]:
    """Name of a process and the id of its parent; "" and None if there is no such process."""
    name, fields = _stat(pid)
    return name, int(fields[1]) if fields else None


def _started(pid: int) -> int:
    """When a process started, in clock ticks after the machine; 0 if there is no such process."""
    fields = _stat(pid)[1]
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def _stat(pid: int) -> tuple[str, list[str]]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", []
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, rest.split()
