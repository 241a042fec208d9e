"""Trainings and other jobs in processes of their own that can be killed at any line, without importing torch each time.

Run as a program it is the parent of these processes: it reads requests from standard input, one JSON object a line.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"width": 8, "heads": 2, "ffn": 16, "layers": 1, "dropout": 0.1}
TRAINING = {"steps": 8, "batch_size": 4, "validate_every": 2, "checkpoint_every": 1, "label": "smoke test"}
BLOCKS = {"network": NETWORK, "loss": {"rotate": True}, "training": TRAINING}
# A process is killed at the N-th line it runs in these parts of the library.
TRACED = tuple(f"trackbench/{name}" for name in ("training/", "files.py", "trackers/layers/weights.py"))
OUTPUTS = ("w.pt", "h.csv", "f.json")


class ForkServer:
    """Start processes from one that has imported everything. ``actions``: see ``ACTIONS``."""

    def __enter__(self):
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", str(Path(__file__))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def start(self, action, folder, **options):
        """Start an action in ``folder``; returns its process id."""
        return self._ask({"action": action, "folder": str(folder), **options})

    def wait(self, pid):
        """Wait for a process; returns its exit code, negative for a signal."""
        return self._ask({"wait": pid})

    def run(self, action, folder, **options):
        """Start an action and wait for it."""
        return self.wait(self.start(action, folder, **options))

    def _ask(self, request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def beside(folder, name):
    """File with what the test wants to know of an action in ``folder``, which may be on a full disk."""
    return folder.with_name(f"{folder.name}.{name}")


def train(folder, index, slow=0.0, **training):
    """Train as the script of the workflow does; ``slow``: seconds each step takes longer; training: other settings."""
    from trackbench.training import loop
    from trackbench.training.run import TrainingFiles, TrainingJob, train_model

    if slow:
        plain = loop.Trainer._step
        loop.Trainer._step = lambda self, batch: (time.sleep(slow), plain(self, batch))
    blocks = {**BLOCKS, "training": {**TRAINING, **training}}
    job = TrainingJob("encreg", blocks, 5, 1, "encreg", "3-7")
    files = TrainingFiles(*(folder / name for name in OUTPUTS), folder / "w.training")
    train_model(index, Path(index).with_name("manifest.json"), job, files)


def prepare(folder, raw, events):
    """Prepare raw events as one shard."""
    from trackbench.data.prepare import DataSelection
    from trackbench.data.shards import prepare_shard

    names = [folder / f"shard-0000-{part}.parquet" for part in ("hits", "particles")]
    prepare_shard([Path(raw)], 0, events, events, DataSelection("full"), *names)


def reconstruct(folder, index):
    """Run a tracker over test events."""
    from trackbench.data.shards import read_events
    from trackbench.runner import run_tracker
    from trackbench.trackers.base import build_tracker

    outputs = [folder / name for name in ("tracks.parquet", "parameters.parquet", "timing.csv", "run.json")]
    run_tracker(build_tracker("dbscan"), read_events(index, "test"), *outputs)


def use_kernel(folder, cache):
    """Compile a kernel and keep it in ``cache``, or load it from there; nothing can be kept beside its source."""
    import numba

    os.environ.update(HOME=cache, XDG_CACHE_HOME=cache)
    numba.config.CACHE_DIR = cache
    names = {}
    exec(compile("def double(x):\n    return 2 * x\n", "/proc/version", "exec"), names)
    assert numba.njit(cache=True)(names["double"])(21) == 42


def allocate(folder, library):
    """Ask for more memory than any machine has."""
    import numpy as np
    import torch

    {"numpy": np.ones, "torch": torch.ones}[library](10**15)


ACTIONS = {
    "train": train,
    "prepare": prepare,
    "reconstruct": reconstruct,
    "use_kernel": use_kernel,
    "allocate": allocate,
}


def act(action, folder, kill_at=None, signal_at=None, traced=TRACED, kill_write=None, limit=None, **options):
    """Do an action inside a job, in this process.

    kill_at, signal_at: line of ``traced`` at which the process kills itself, or asks itself to stop
    kill_write: number of the file (state or weights) of which half is written when the process kills itself
    limit: bytes that a file may have
    """
    from trackbench.jobs import job

    folder = Path(folder)
    sys.stderr = beside(folder, "stderr").open("w", encoding="utf-8")
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if kill_write:
        _kill_while_writing(kill_write)
    count = [0]

    def line(frame, event, _):
        if event == "line":
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if count[0] == signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
        return line

    with job(folder / "job.log"):
        sys.settrace(lambda frame, *_: line if any(part in frame.f_code.co_filename for part in traced) else None)
        try:
            ACTIONS[action](folder, **options)
        finally:
            sys.settrace(None)
    beside(folder, "lines").write_text(str(count[0]))


def _kill_while_writing(number):
    writes, plain = [], Path.write_bytes

    def half(self, content):
        writes.append(self)
        plain(self, bytes(content)[: len(content) // (2 if len(writes) == number else 1)])
        if len(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes = half


def serve():
    """Answer requests: the process id of an action that was started, or the exit code of one waited for."""
    import numba  # noqa: F401
    import torch

    import trackbench.data.shards
    import trackbench.runner
    import trackbench.trackers.dbscan
    import trackbench.training.run  # noqa: F401

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports a thousand modules
    for request in sys.stdin:
        request = json.loads(request)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _child(request)
        print(answer, flush=True)  # noqa: T201


def _child(request):
    code = 1
    try:
        act(**request)
        code = 0
    except SystemExit as error:
        code = error.code
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
