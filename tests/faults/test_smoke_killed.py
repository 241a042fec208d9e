"""The smoke run, Snakemake killed at moments spread over it: the documented commands end it with the same results."""

import re
import shutil
import time
from contextlib import ExitStack

import numpy as np
import pytest
from faults.small_workflow import ROOT, Started, jobs_alive, run, scripts_alive, unlock, wait_for_the_end_of_jobs

from trackbench.reproduce import compare_results

MOMENTS = 5
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")


def make_folder(folder):
    folder.mkdir()
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


def steps(started):
    """Jobs that are done in this run, and all that it has to do; (0, 0) before it knows."""
    text = started.text()
    done = re.findall(r"^(\d+) of \d+ steps", text, re.MULTILINE)
    planned = re.search(r"^total +(\d+)$", text, re.MULTILINE)
    return int(done[-1]) if done else 0, int(planned[1]) if planned and "Execute" in text else 0


def is_at(started, fraction, all_steps):
    """Whether so much of the whole work is done, by this run and those before it."""
    done, planned = steps(started)
    return planned and all_steps - planned + done >= fraction * all_steps


def wait_more(started, seconds):
    """Wait; False if the run ended before."""
    end = time.monotonic() + seconds
    return started.wait_until(lambda: time.monotonic() >= end)


def state(folder):
    """Time and size of each file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path] = status.st_mtime_ns, status.st_size
    return found


def assert_nobody_writes(folder, seconds=2):
    before = state(folder)
    time.sleep(seconds)
    assert state(folder) == before and jobs_alive(folder) == []


def kill(folder, is_time, seconds, measured):
    """Start, kill so many seconds after ``is_time(started)``, wait for the jobs; returns the names of their scripts."""
    started = Started(folder, *SMOKE)
    assert started.wait_until(lambda: is_time(started), timeout=1200), started.text()[-3000:]
    assert wait_more(started, seconds), started.text()[-3000:]
    jobs = set(scripts_alive(folder).values())
    started.kill()
    measured("seconds until the last job ended after its Snakemake was killed", wait_for_the_end_of_jobs(folder))
    assert_nobody_writes(folder)
    unlock(folder)
    return jobs


def test_snakemake_killed_during_the_smoke_run(tmp_path, injected, measured, all_moments):
    if not all_moments:
        pytest.skip("runs the smoke configuration twice: make faults")
    whole = make_folder(tmp_path / "whole")
    started = Started(whole, *SMOKE)
    assert started.process.wait(timeout=1800) == 0, started.text()[-3000:]
    all_steps = steps(started)[1]
    assert all_steps > 100
    rng = np.random.default_rng(11)
    edges = np.linspace(0, 0.95, MOMENTS + 1)
    moments = [
        (lambda started, fraction=fraction: is_at(started, fraction, all_steps), wait)
        for fraction, wait in zip(rng.uniform(edges[:-1], edges[1:]), rng.uniform(0, 3, MOMENTS), strict=True)
    ]
    moments.insert(1, (lambda started: "train" in scripts_alive(started.folder).values(), 1.0))
    folder, killed = make_folder(tmp_path / "killed"), []
    with ExitStack() as faults:
        for is_time, seconds in moments:
            faults.enter_context(injected("kill -9 of Snakemake in the smoke run"))
            killed.append(kill(folder, is_time, seconds, measured))
        assert "train" in killed[1] and set.union(*killed) != {"train"}, killed
        done = run(folder, *SMOKE)
        assert done.returncode == 0, done.stderr[-3000:]
        found = compare_results(whole / "results/smoke", folder / "results/smoke")
        assert found.is_equal, (found.different, found.missing)
        assert len(found.equal) > 500
        assert_nobody_writes(folder)
