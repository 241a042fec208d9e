"""Too little memory, and compiled kernels that cannot be kept or are damaged: said in one sentence, not as a defect."""

import pytest
from faults.trainings import beside


def said(folder):
    """What the job logged, which must be its error alone."""
    text = (folder / "job.log").read_text()
    assert text.count("\n") == 1 and "Traceback" not in text and "defect" not in text
    return text


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_out_of_memory(processes, tmp_path, injected, library):
    with injected("not enough memory for an array"):
        assert processes.run("allocate", tmp_path, library=library) == 2
        text = said(tmp_path)
        assert " error: this job: out of memory (" in text
        assert text.endswith("; run again with more memory for each job, or fewer jobs at a time.\n")


def assert_remedy_works(processes, folder):
    text = said(folder)
    assert " error: compiled kernels: cannot be kept or read (" in text
    assert text.endswith("; set NUMBA_CACHE_DIR to an empty folder that can be written and run again.\n")
    cache = folder / "empty"
    assert processes.run("use_kernel", folder, cache=str(cache)) == 0, beside(folder, "stderr").read_text()
    assert list(cache.rglob("*.nbc"))


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_cache_of_kernels(processes, tmp_path, injected, suffix):
    cache = tmp_path / "cache"
    with injected("damaged cache of compiled kernels"):
        assert processes.run("use_kernel", tmp_path, cache=str(cache)) == 0, beside(tmp_path, "stderr").read_text()
        (path,) = cache.rglob(f"*{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert processes.run("use_kernel", tmp_path, cache=str(cache)) == 2
        assert_remedy_works(processes, tmp_path)


def test_no_folder_for_the_cache_of_kernels(processes, tmp_path, injected):
    with injected("no folder that can be written for compiled kernels"):
        assert processes.run("use_kernel", tmp_path, cache="/proc/none") == 2
        assert_remedy_works(processes, tmp_path)
