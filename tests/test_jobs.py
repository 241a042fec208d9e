"""What a workflow job does around its work, in a process of its own because it sets up logging."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from trackbench.workflow_end import (
    _name_and_parent,
    _started,
    announce_workflow,
    announced_workflow,
    is_left_alone,
    starters,
    workflow_is_over,
)


@pytest.fixture
def run(tmp_path):
    """Run a body inside ``job``; returns (exit code, content of the log file, standard error)."""

    def call(body, threads=1):
        log = tmp_path / "logs/job.log"
        head = f"import logging\nfrom trackbench.jobs import job\nwith job({str(log)!r}, {threads}):\n"
        code = head + textwrap.indent(body, "    ")
        # The caller's own limits must not hide a missing one.
        env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
        return done.returncode, log.read_text(encoding="utf-8"), done.stderr

    return call


def test_progress_goes_to_the_log_and_to_standard_error_other_packages_chatter_does_not(run):
    body = "logging.getLogger('trackbench.x').info('event 1')\nlogging.getLogger('other').info('chatter')"
    code, log, err = run(body, threads=3)
    assert code == 0
    first, last = log.splitlines()
    assert first.endswith(" event 1") and err == first + "\n"
    assert re.search(r" made with threads 3, .+, python \d\S+, trackbench \d\S+$", last)


def test_an_error_of_the_user_is_one_line_and_exit_code_2(run):
    code, log, err = run("from trackbench.errors import InputError\nraise InputError('a.csv: empty.')")
    assert code == 2
    assert log == err
    assert log.endswith(" error: a.csv: empty.\n") and log.count("\n") == 1


def test_a_defect_leaves_its_traceback_in_the_log_and_propagates(run):
    code, log, err = run("1 / 0")
    assert code == 1
    assert "this is a defect of trackbench" in log
    assert "ZeroDivisionError" in log
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")


def test_pools_loaded_inside_the_job_are_limited(run):
    body = "import scipy.linalg, sklearn.cluster, threadpoolctl\npools = threadpoolctl.threadpool_info()\n"
    code, _, err = run(body + "assert len(pools) > 1 and {p['num_threads'] for p in pools} == {1}, pools")
    assert code == 0, err


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("EACCES", "Permission denied; run again when that is mended."),
        ("EROFS", "Read-only file system; run again when that is mended."),
        ("ENOSPC", "No space left on device; make room and run again: what is finished is kept."),
    ],
)
def test_a_fault_of_the_machine_is_no_defect(run, number, text):
    code, log, err = run(f"import errno\nraise OSError(errno.{number}, 'x', 'results/a.csv')")
    assert code == 2 and log == err and log.count("\n") == 1
    assert log.endswith(f" error: results/a.csv: {text}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_cannot_be_written_does_not_hide_the_error():
    code = "from trackbench.jobs import job\nfrom trackbench.errors import InputError\n"
    code += "with job('/dev/full'):\n    raise InputError('a.csv: empty.')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(" error: a.csv: empty.\n") and done.stderr.count("\n") == 1


# A job that has a file half written; it says so and waits.
WAITING = """
import sys, time
from trackbench.files import atomic_path
from trackbench.jobs import job
with job("job.log"), atomic_path("out.csv") as temporary:
    temporary.write_text("half")
    print("waiting", flush=True)
    time.sleep(120)
"""


@pytest.mark.faults
def test_sigterm_ends_a_job_and_leaves_nothing_half_written(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 2
    assert "error: this job: stopped by SIGTERM; run again." in (tmp_path / "job.log").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]


@pytest.mark.faults
@pytest.mark.skipif(not starters(), reason="no /proc on this system: jobs cannot see that their workflow ended")
@pytest.mark.parametrize("shell", [True, False])
def test_a_job_ends_when_the_program_that_started_it_is_killed(tmp_path, shell):
    (tmp_path / "waiting.py").write_text(WAITING)
    command = f"set -e; {sys.executable} waiting.py; true" if shell else [sys.executable, "waiting.py"]
    starter = (
        f"import subprocess\nsubprocess.run({command!r}, shell={shell}, executable={'/bin/bash' if shell else None!r})"
    )
    with subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.kill()
        assert process.stdout.read() == ""  # ends with the last process that holds it, which is the job
    log = (tmp_path / "job.log").read_text()
    assert "the workflow that started this job is gone" in log and "stopped by SIGTERM" in log
    assert not (tmp_path / "out.csv").exists() and not list(tmp_path.glob(".tmp-*"))


# A workflow that is killed while its job is still starting: the job then has another parent when it looks first.
LATE = """
import os, signal, subprocess, sys
from trackbench.workflow_end import announce_workflow
announce_workflow()
job = "import sys, time; time.sleep(1.5)\\n" + open("waiting.py").read()
subprocess.Popen([sys.executable, "-c", job])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.faults
@pytest.mark.skipif(not starters(), reason="no /proc on this system")
def test_a_job_ends_when_its_workflow_was_killed_before_it_looked(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    done = subprocess.run([sys.executable, "-c", LATE], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL  # its output ended with the job
    log = (tmp_path / "job.log").read_text()
    assert "the workflow that started this job is gone" in log and "stopped by SIGTERM" in log
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.skipif(not starters(), reason="no /proc on this system")
def test_a_workflow_inside_another_keeps_the_name_of_the_outer_one(monkeypatch):
    monkeypatch.setenv("TRACKBENCH_WORKFLOW", "")
    announce_workflow()
    mine = announced_workflow()
    assert mine.split()[0] == str(os.getpid()) and not workflow_is_over(mine)
    code = "from trackbench.workflow_end import *; announce_workflow(); print(announced_workflow())"
    inner = [sys.executable, "-c", code]
    assert subprocess.run(inner, capture_output=True, text=True, check=True).stdout.strip() == mine
    with subprocess.Popen(["sleep", "60"]) as other:  # not one that this was started by
        monkeypatch.setenv("TRACKBENCH_WORKFLOW", f"{other.pid} {_started(other.pid)} {mine.split()[2]}")
        announce_workflow()
        assert announced_workflow() == mine
        other.kill()
    assert not workflow_is_over("") and workflow_is_over(f"{os.getpid()} 1 {mine.split()[2]}")
    assert not workflow_is_over(f"{os.getpid()} 1 pid:[1]")  # of a container


@pytest.mark.skipif(not starters(), reason="no /proc on this system")
def test_who_started_a_process():
    with subprocess.Popen(["/bin/bash", "-c", "sleep 60; true"]) as shell:
        while not (children := _children(shell.pid)):
            time.sleep(0.01)
        chain = starters(children[0])
        assert chain == [children[0], shell.pid, os.getpid()]
        assert not is_left_alone(chain)
        shell.kill()
        shell.wait()
        while not is_left_alone(chain):
            time.sleep(0.01)
        os.kill(children[0], signal.SIGKILL)
    assert not is_left_alone([])


def _children(pid):
    ids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [child for child in ids if _name_and_parent(child)[1] == pid]
