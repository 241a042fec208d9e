"""No space left, or none to write in, for shards, tracks and trainings: said in one sentence, nothing half written."""

import re
from contextlib import ExitStack

import pytest
from faults.disks import small_disk
from faults.trainings import beside
from raw_events import raw_tables, write_raw
from toy_tasks import write_toy_sample

# What is left of the disk [kB] or of a file [bytes], so that the first file that matters does not fit.
LEFT = {"prepare": (8, 20_000), "reconstruct": (8, 3_000), "train": (24, 12_000)}
REMEDY = {"train": "make room and run again: training goes on from the last saved state"}
EVENTS = 6


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Action -> its options."""
    folder = tmp_path_factory.mktemp("inputs")
    for event in range(1, EVENTS + 1):
        write_raw(raw_tables(80, 40, seed=event), folder / "raw", event)
    index = str(write_toy_sample(folder / "sample", tracks=lambda k: 8 + k % 5))
    lines = (folder / "sample/index.csv").read_text().replace(",val,", ",test,")
    (folder / "sample/test.csv").write_text(lines)
    return {
        "prepare": {"raw": str(folder / "raw"), "events": EVENTS},
        "reconstruct": {"index": str(folder / "sample/test.csv")},
        "train": {"index": index},
    }


@pytest.fixture(scope="session")
def expected(tmp_path_factory, processes, inputs):
    """Action -> folder of results made with all the space there is."""
    folders = {}
    for action, options in inputs.items():
        folders[action] = tmp_path_factory.mktemp(action)
        assert processes.run(action, folders[action], **options) == 0, beside(folders[action], "stderr").read_text()
    return folders


def results(folder):
    """Files whose bytes do not depend on times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".parquet", ".pt")}


def assert_said(text, action):
    """The last line is the error, and there is nothing else but progress."""
    last = text.strip().splitlines()[-1]
    assert " error: " in last and "cannot be written (" in last
    assert "No space left on device" in last or "File too large" in last
    assert REMEDY.get(action, "make room and run again: what is finished is kept") in last
    assert "Traceback" not in text and "defect" not in text


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 4) as found:
        if isinstance(found, str):
            pytest.skip(found)
        yield found


@pytest.mark.parametrize("action", sorted(LEFT))
def test_full_disk(action, processes, inputs, expected, disk, injected):
    folder = disk.path
    with injected(f"full disk: {action}"):
        disk.fill(LEFT[action][0])
        assert processes.run(action, folder, **inputs[action]) == 2
        assert_said(beside(folder, "stderr").read_text(), action)
        assert results(folder) == {} and not list(folder.rglob(".tmp-*"))
        disk.make_room()
        assert processes.run(action, folder, **inputs[action]) == 0, beside(folder, "stderr").read_text()
        assert results(folder) == results(expected[action]) != {}


@pytest.mark.parametrize("action", sorted(LEFT))
def test_read_only_disk(action, processes, inputs, expected, disk, injected):
    folder = disk.path
    with injected(f"read-only disk: {action}"):
        disk.remount("ro")
        assert processes.run(action, folder, **inputs[action]) == 2
        text = beside(folder, "stderr").read_text()
        assert re.search(r"error: \S+: Read-only file system; run again when that is mended\.$", text.strip())
        assert "Traceback" not in text and "defect" not in text
        disk.remount("rw")
        assert processes.run(action, folder, **inputs[action]) == 0, beside(folder, "stderr").read_text()
        assert results(folder) == results(expected[action]) != {}


@pytest.mark.parametrize("action", sorted(LEFT))
def test_limit_on_the_size_of_files(action, processes, inputs, expected, tmp_path, injected):
    with injected(f"limit on files: {action}"):
        assert processes.run(action, tmp_path, limit=LEFT[action][1], **inputs[action]) == 2
        assert_said(beside(tmp_path, "stderr").read_text(), action)
        assert results(tmp_path) == {} and not list(tmp_path.rglob(".tmp-*"))
        assert processes.run(action, tmp_path, **inputs[action]) == 0, beside(tmp_path, "stderr").read_text()
        assert results(tmp_path) == results(expected[action]) != {}


def test_disk_full_at_any_size(processes, inputs, expected, disk, injected, all_moments):
    """A training on a disk that grows by and by ends with the same weights, however often it stopped."""
    with ExitStack() as faults:
        stops = 0
        for left in range(8, 400, 8 if all_moments else 40):
            disk.fill(left)
            code = processes.run("train", disk.path, **inputs["train"])
            disk.make_room()
            if code == 0:
                break
            faults.enter_context(injected("full disk: train"))
            stops += 1
            assert code == 2
        assert code == 0 and stops >= 1
        assert results(disk.path) == results(expected["train"])
