"""A workflow of seconds: ten toy events prepared, a tiny network trained, two rows reconstructed and scored, tables."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from raw_events import raw_tables, write_raw

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 10
CONFIG = """
run: tiny
seed: 3
data: {source: local, local: {path: raw}, events: {train: 0, val: 1, test: 2}}
trackers: {dbscan: {}}
surfaces: {}
collisions:
  sets:
    whole: {source: data, events: {train: 4, val: 2, test: 4}, shard_events: 5}
  trackers:
    dbscan: {settings: {barrel_eps: 4.0}}
    contrastive: {tracker: latent, model: contrastive, settings: {space: embedding, min_cluster_size: 3}}
  tuning: {events: 0}
models:
  contrastive:
    task: contrastive
    sets: [whole]
    network: {inputs: helix, width: 8, heads: 2, ffn: 16, layers: 1, targets: none, embedding: 4}
    training: {steps: 150, batch_size: 2, validate_every: 25, checkpoint_every: 1, label: smoke test}
evaluation: {reference: dbscan, replicas: 100}
"""
TABLES = "results/tiny/tables/summary_whole.md"
STATE = "results/tiny/models/contrastive/whole.training/state.pt"
INDEX = "results/tiny/prepared/whole/index.csv"


def make_folder(folder):
    """Write configuration and raw events; returns the folder."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "tiny.yaml").write_text(CONFIG)
    for event in range(1, EVENTS + 1):
        write_raw(raw_tables(12, 8, seed=event), folder / "raw", event)
    return folder


def command(folder, *options):
    """The command of the workflow for a folder of its own."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*start, *options]


def arguments(target):
    return ["--cores", "2", "--configfile", "tiny.yaml", "--", target]


def run(folder, *options, target=TABLES):
    """Run to the end; returns the finished process, standard error with everything."""
    line = command(folder, *(options or arguments(target)))
    return subprocess.run(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600)


def unlock(folder):
    """What ``make unlock`` does."""
    done = run(folder, "--unlock")
    assert done.returncode == 0, done.stderr[-3000:]


class Started:
    """The workflow started in the background, its output in ``folder/output``. options: of Snakemake."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("w") as file:
            line = command(folder, *(options or arguments(TABLES)))
            self.process = subprocess.Popen(line, cwd=folder, stdout=file, stderr=file)

    def text(self):
        return self.output.read_text(errors="replace")

    def wait_until(self, is_time, timeout=300):
        """Wait until ``is_time()``; False if the run ended before."""
        end = time.monotonic() + timeout
        while not is_time():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.text()[-3000:]
            time.sleep(0.02)
        return True

    def kill(self):
        """kill -9 of Snakemake alone: its jobs go on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def scripts_alive(folder):
    """Process id -> name of the script, such as train, of each job that runs in ``folder``."""
    found = {}
    for pid in jobs_alive(folder):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue  # ended
        for word in words:
            if "/.snakemake/scripts/" in word:
                found[pid] = Path(word).stem.partition(".")[2]
    return found


def jobs_alive(folder):
    """Processes that belong to a workflow in ``folder``: those whose working directory it is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").readlink() == folder.resolve():
                found.append(int(path.name))
        except OSError:
            continue  # ended, or of another user
    return [pid for pid in found if pid != os.getpid()]


def wait_for_the_end_of_jobs(folder, timeout=60):
    """Wait until no process is left; returns the seconds it took."""
    begin = time.monotonic()
    while jobs_alive(folder):
        assert time.monotonic() < begin + timeout, f"still running: {jobs_alive(folder)}"
        time.sleep(0.05)
    return time.monotonic() - begin
