"""What a workflow job does around its work, in a process of its own because it sets up logging."""

import os
import subprocess
import sys
import textwrap

import pytest


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
    code, log, err = run(body)
    assert code == 0
    assert log == err
    assert log.endswith(" event 1\n") and log.count("\n") == 1


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
