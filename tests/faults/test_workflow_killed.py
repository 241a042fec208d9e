"""The workflow killed, started twice, on a full disk, with damaged files: the documented commands end it as if not."""

import os
import re
import shutil
import signal
import time
from contextlib import ExitStack

import numpy as np
import pytest
from faults.disks import small_disk
from faults.small_workflow import (
    INDEX,
    STATE,
    Started,
    jobs_alive,
    make_folder,
    run,
    scripts_alive,
    unlock,
    wait_for_the_end_of_jobs,
)

from trackbench.reproduce import compare_results

pytestmark = pytest.mark.slow
RESULTS = "results/tiny"


@pytest.fixture(scope="session")
def finished(tmp_path_factory, request):
    """Folder of an uninterrupted run, and what a second run in the same folder said meanwhile."""
    folder = make_folder(tmp_path_factory.mktemp("workflow"))
    started = Started(folder)
    assert started.wait_until(lambda: "Execute" in started.text()), started.text()[-3000:]
    second = run(folder)
    assert started.process.wait(timeout=600) == 0, started.text()[-3000:]
    return folder, second


def assert_same(folder, finished):
    """All results are those of the uninterrupted run, but for times."""
    found = compare_results(finished[0] / RESULTS, folder / RESULTS)
    assert found.is_equal, (found.different, found.missing)
    assert len(found.equal) > 25
    states = {path.name for path in (folder / RESULTS).rglob("*.training/*.pt")}
    assert states == {"finished.pt"}, "states of trainings that are not finished"


def test_two_workflows_in_one_folder(finished, injected):
    with injected("two workflows in one folder"):
        second = finished[1]
        assert second.returncode != 0
        assert "Directory cannot be locked" in second.stderr and "--unlock" in second.stderr
        assert "Traceback" not in second.stderr


def kill_after(folder, seconds):
    """Start the workflow and kill it so long after its first job; False if it ended before."""
    started = Started(folder)
    if not started.wait_until(lambda: "Execute" in started.text()):
        return False
    end = time.monotonic() + seconds
    if not started.wait_until(lambda: time.monotonic() >= end):
        return False
    started.kill()
    return True


def test_a_training_does_not_outlive_its_workflow(finished, tmp_path, injected):
    """Snakemake is killed: the training saves and stops by itself, and goes on from there, killed again or not."""
    folder = make_folder(tmp_path / "killed")
    with ExitStack() as faults:
        faults.enter_context(injected("kill -9 of Snakemake"))
        started = Started(folder)
        assert started.wait_until((folder / STATE).exists), started.text()[-3000:]
        started.kill()
        assert jobs_alive(folder)
        wait_for_the_end_of_jobs(folder)
        log = (folder / "logs/tiny/train/contrastive-whole.log").read_text()
        assert "the workflow that started this job is gone" in log
        assert re.search(r"stopped by SIGTERM at step \d+ of 150, saved; run again to resume", log)
        locked = run(folder)
        assert locked.returncode != 0 and "Directory cannot be locked" in locked.stderr
        unlock(folder)
        for seconds in np.random.default_rng(7).uniform(0, 6, 2).tolist():
            faults.enter_context(injected("kill -9 of Snakemake"))
            assert kill_after(folder, seconds)
            unlock(folder)
        done = run(folder)
        if "is using this folder" in done.stderr:  # the training of the run killed last had not ended yet
            wait_for_the_end_of_jobs(folder)
            done = run(folder)
        assert done.returncode == 0, done.stderr[-3000:]
        assert jobs_alive(folder) == []
        assert_same(folder, finished)


def test_snakemake_killed_at_many_moments(finished, tmp_path, injected, all_moments):
    if not all_moments:
        pytest.skip("takes some minutes: make faults")
    rng = np.random.default_rng(8)
    for k in range(4):
        folder = make_folder(tmp_path / str(k))
        with ExitStack() as faults:
            for seconds in rng.uniform(0, 20, 4).tolist():
                if kill_after(folder, seconds):
                    faults.enter_context(injected("kill -9 of Snakemake"))
                    unlock(folder)
            wait_for_the_end_of_jobs(folder)
            done = run(folder)
            assert done.returncode == 0, done.stderr[-3000:]
            assert_same(folder, finished)


def test_a_job_is_killed(finished, tmp_path, injected, all_moments):
    """As when memory runs out: the workflow says which job, and the same command goes on; no lock is left."""
    if not all_moments:
        pytest.skip("a training alone is killed often enough: make faults")
    folder = make_folder(tmp_path / "killed")
    with injected("kill -9 of a job of the workflow"):
        started = Started(folder)
        assert started.wait_until((folder / STATE).exists), started.text()[-3000:]
        (training,) = [pid for pid, script in scripts_alive(folder).items() if script == "train"]
        os.kill(training, signal.SIGKILL)
        assert started.process.wait(timeout=300) == 1
        assert "died with <Signals.SIGKILL: 9>" in started.text() and "Error in rule train:" in started.text()
        assert (folder / STATE).exists() and jobs_alive(folder) == []
        done = run(folder)
        assert done.returncode == 0, done.stderr[-3000:]
        log = (folder / "logs/tiny/train/contrastive-whole.log").read_text()
        assert "going on from step" in log
        assert_same(folder, finished)


def test_intermediate_results_are_deleted(finished, tmp_path, injected, all_moments):
    """As when old files of a scratch disk are removed: nothing is missed, and what is asked for is made again."""
    if not all_moments:
        pytest.skip("Snakemake's own work: make faults")
    folder = shutil.copytree(finished[0], tmp_path / "purged", symlinks=True)
    with injected("intermediate results deleted"):
        for name in ("prepared", "tracks", "models", "metrics"):
            shutil.rmtree(folder / RESULTS / name)
        tables = {path.name: path.read_bytes() for path in (folder / RESULTS / "tables").iterdir()}
        done = run(folder)
        assert done.returncode == 0 and "Nothing to be done" in done.stderr, done.stderr[-3000:]
        assert tables == {path.name: path.read_bytes() for path in (folder / RESULTS / "tables").iterdir()}
        shutil.rmtree(folder / RESULTS / "tables")
        done = run(folder)
        assert done.returncode == 0, done.stderr[-3000:]
        assert_same(folder, finished)


def test_the_disk_is_full(finished, tmp_path, injected):
    with small_disk(tmp_path / "disk", 24) as disk:
        if isinstance(disk, str):
            pytest.skip(disk)
        folder = make_folder(disk.path)
        with injected("full disk: the workflow"):
            disk.fill(left_kb=150)
            done = run(folder, target=INDEX)
            assert done.returncode != 0
            assert "No space left on device" in done.stderr
            disk.make_room()
            done = run(folder, target=INDEX)
            if "cannot be locked" in done.stderr:
                unlock(folder)
                done = run(folder, target=INDEX)
            assert done.returncode == 0, done.stderr[-3000:]
            found = compare_results(finished[0] / RESULTS / "prepared", folder / RESULTS / "prepared")
            assert found.is_equal and len(found.equal) == 6


@pytest.mark.parametrize("touched", [True, False])
def test_a_damaged_shard(finished, tmp_path, injected, all_moments, touched):
    """The error names the file; what it names removed, the same command makes it again.

    touched: whether the damage changes the time of the file, by which Snakemake knows that it is another one
    """
    if touched and not all_moments:
        pytest.skip("the easier one of the two: make faults")
    folder = shutil.copytree(finished[0], tmp_path / "damaged", symlinks=True)
    prepared = folder / RESULTS / "prepared/whole"
    shard = prepared / "shard-0001-hits.parquet"
    with injected("damaged shard in the workflow"):
        before = shard.stat()
        shard.write_bytes(shard.read_bytes()[: before.st_size // 2])
        if not touched:
            os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        for name in ("tracks", "metrics", "tables"):
            shutil.rmtree(folder / RESULTS / name)
        target = f"{RESULTS}/tracks/whole/dbscan-run.json"
        done = run(folder, target=target)
        assert done.returncode != 0
        message = re.search(
            r"error: (\S+): missing or damaged shard .*; remove it and index.csv beside it", done.stderr
        )
        assert message and message[1].endswith("shard-0001-hits.parquet")
        shard.unlink()
        (prepared / "index.csv").unlink(missing_ok=True)
        done = run(folder, target=target)
        assert done.returncode == 0, done.stderr[-3000:]
        for name in ("prepared", "tracks/whole/dbscan.parquet"):
            mine, theirs = folder / RESULTS / name, finished[0] / RESULTS / name
            same = (
                mine.read_bytes() == theirs.read_bytes() if mine.is_file() else compare_results(mine, theirs).is_equal
            )
            assert same
