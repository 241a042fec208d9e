"""The folder of a training: one at a time, nothing half written, nothing of another configuration."""

import errno
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch

from trackbench.errors import ConfigError, InputError
from trackbench.training.checkpoint import FINISHED, HISTORY, PREVIOUS, STATE, RunFolder, config_hash
from trackbench.training.lock import LOCK

IDENTITY = {"task": "encreg", "network": {"width": 32, "inputs": "xyz"}, "training": {"learning_rate": 1e-3}, "seed": 1}


def state(value=1.0):
    weights = {"a.weight": torch.full((40, 50), value), "a.bias": torch.arange(5, dtype=torch.float64)}
    return {"step": 7, "network": weights, "rows": [{"step": 5, "loss": 0.1 + 0.2}], "best": None}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    with RunFolder(tmp_path / "new/run", IDENTITY) as run:
        assert run.load() is None
        run.save(state(), "step,loss\n5,0.3\n")
        found = run.load()
    assert found["step"] == 7 and found["rows"] == [{"step": 5, "loss": 0.1 + 0.2}] and found["best"] is None
    for name, tensor in state()["network"].items():
        assert torch.equal(found["network"][name], tensor) and found["network"][name].dtype == tensor.dtype
    assert (tmp_path / "new/run" / HISTORY).read_text() == "step,loss\n5,0.3\n"
    assert sorted(path.name for path in (tmp_path / "new/run").iterdir()) == sorted([STATE, HISTORY, LOCK])


def test_equal_states_are_equal_files(tmp_path):
    for name in "ab":
        with RunFolder(tmp_path / name, IDENTITY) as run:
            run.save(state(), "")
    assert (tmp_path / "a" / STATE).read_bytes() == (tmp_path / "b" / STATE).read_bytes()


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(3), {1, 2}, [{"deep": torch.nn.Linear(1, 1)}]])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value):
    with RunFolder(tmp_path, IDENTITY) as run:
        with pytest.raises(TypeError, match=r"state\.constants.* expected a tensor or a plain value"):
            run.save({**state(), "constants": value}, "")
        assert run.load() is None


def test_the_state_before_is_kept_and_takes_the_place_of_a_damaged_one(tmp_path, caplog):
    with RunFolder(tmp_path, IDENTITY) as run:
        for value in (1.0, 2.0, 3.0):
            run.save(state(value), "")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([STATE, PREVIOUS, HISTORY, LOCK])
    before = (tmp_path / PREVIOUS).read_bytes()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:500])
    with RunFolder(tmp_path, IDENTITY) as run:
        assert run.load()["network"]["a.weight"][0, 0] == 2.0
        assert len(caplog.records) == 1
        assert "state.pt: damaged training state (" in caplog.text and "saved before it, previous.pt" in caplog.text
        run.save(state(4.0), "")
        assert (tmp_path / PREVIOUS).read_bytes() == before  # the damaged one does not take its place
        assert run.load()["network"]["a.weight"][0, 0] == 4.0
        (tmp_path / STATE).unlink()  # killed between the two renames
        assert run.load()["network"]["a.weight"][0, 0] == 2.0


def test_both_states_damaged_is_refused(tmp_path):
    with RunFolder(tmp_path, IDENTITY) as run:
        for name in (PREVIOUS, STATE):
            (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(
            InputError, match=r"state\.pt: damaged training state \(.*\), and previous\.pt as well, .*remove"
        ):
            run.load()


def test_a_finished_training_is_kept_and_holds_nobody_up(tmp_path, caplog):
    caplog.set_level(logging.INFO, "trackbench")
    with RunFolder(tmp_path, IDENTITY) as run:
        run.finish()  # nothing was saved
        run.save(state(1.0), "")
        run.save(state(2.0), "")
        run.finish()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([FINISHED, HISTORY, LOCK])
        assert run.load()["network"]["a.weight"][0, 0] == 2.0
        run.finish()
    finished = (tmp_path / FINISHED).read_bytes()
    with RunFolder(tmp_path, {**IDENTITY, "seed": 2}) as run:
        assert run.load() is None
        assert "finished training of another configuration (seed 1 there, 2 now); training anew" in caplog.text
        assert (tmp_path / FINISHED).read_bytes() == finished
        run.save(state(5.0), "")
        assert not (tmp_path / PREVIOUS).exists()  # what is finished is no earlier state of this one
        run.finish()
        assert run.load()["network"]["a.weight"][0, 0] == 5.0
    (tmp_path / FINISHED).write_bytes(finished[:500])
    with RunFolder(tmp_path, IDENTITY) as run:
        assert run.load() is None
        assert "finished.pt: damaged training state" in caplog.text


def rewritten(path, change):
    """Write an archive anew, its entries put through ``change(name, content)``, with right checksums."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    path.write_bytes(buffer.getvalue())


def test_a_state_that_this_torch_cannot_read_names_both_versions(tmp_path, monkeypatch):
    with RunFolder(tmp_path, IDENTITY) as run:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "__version__", "9.8.7")
            run.save(state(), "")
        rewritten(tmp_path / STATE, lambda name, content: content)
        assert run.load()["step"] == 7  # another version alone is no reason
        rewritten(tmp_path / STATE, lambda name, content: b"new" if name.endswith("data.pkl") else content)
        with pytest.raises(InputError) as error:
            run.load()
    text = str(error.value)
    assert f"state.pt: training state written by torch 9.8.7, which torch {torch.__version__} cannot read (" in text
    assert f"; go on with torch 9.8.7, or remove {tmp_path} to train anew." in text and "damaged" not in text


def test_hash_of_the_configuration():
    shuffled = dict(reversed(IDENTITY.items()))
    assert config_hash(shuffled) == config_hash(IDENTITY)
    assert config_hash({**IDENTITY, "seed": 2}) != config_hash(IDENTITY)
    assert len(config_hash(IDENTITY)) == 64


def test_a_state_of_another_configuration_is_refused_by_name_and_kept(tmp_path):
    with RunFolder(tmp_path, IDENTITY) as run:
        run.save(state(), "")
    before = (tmp_path / STATE).read_bytes()
    other = {**IDENTITY, "network": {"width": 64, "inputs": "xyz"}, "seed": 2, "code": "abc"}
    with RunFolder(tmp_path, other) as run, pytest.raises(ConfigError) as error:
        run.load()
    text = str(error.value)
    assert "code None there, 'abc' now; network.width 32 there, 64 now; seed 1 there, 2 now" in text
    assert f"remove {tmp_path} to train anew" in text and "inputs" not in text
    assert (tmp_path / STATE).read_bytes() == before
    with RunFolder(tmp_path, IDENTITY) as run:
        assert run.load()["step"] == 7


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense" * 50])
def test_a_state_that_is_none_is_refused_and_kept(tmp_path, content):
    (tmp_path / STATE).write_bytes(content)
    with RunFolder(tmp_path, IDENTITY) as run, pytest.raises(InputError) as error:
        run.load()
    assert "damaged training state" in str(error.value) and f"remove {tmp_path} to train anew" in str(error.value)
    assert (tmp_path / STATE).read_bytes() == content


def test_a_file_of_torch_with_other_content_is_refused(tmp_path):
    for content in ([1, 2], {"state": {}}, {"identity": "{", "state": {}, "format": 1}):
        torch.save(content, tmp_path / STATE)
        with RunFolder(tmp_path, IDENTITY) as run, pytest.raises(InputError, match="damaged training state"):
            run.load()


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save({"format": 1, "identity": "{}", "state": Evil()}, tmp_path / STATE)
    with RunFolder(tmp_path, IDENTITY) as run, pytest.raises(InputError, match="damaged training state"):
        run.load()
    assert not (tmp_path / "hacked").exists()


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    with RunFolder(tmp_path, IDENTITY) as run:
        run.save(state(), "")
        good, path = (tmp_path / STATE).read_bytes(), tmp_path / STATE
        refused = 0
        for at in np.random.default_rng(0).integers(0, len(good), 150).tolist():
            path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
            try:
                found = run.load()
            except InputError:
                refused += 1
                continue
            assert all(torch.equal(found["network"][name], value) for name, value in state()["network"].items())
            assert found["rows"] == state()["rows"] and found["step"] == 7
        for end in (10, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:end])
            with pytest.raises(InputError, match="damaged"):
                run.load()
    assert refused > 100  # the others hit the padding between the entries


def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch):
    def full(self, content):
        with self.open("wb") as file:
            file.write(bytes(content)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunFolder(tmp_path, IDENTITY) as run:
        run.save(state(1.0), "")
        monkeypatch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(InputError, match=r"state\.pt: cannot be written \(No space left on device\); make room"):
            run.save(state(2.0), "")
        monkeypatch.undo()
        assert torch.equal(run.load()["network"]["a.weight"], state(1.0)["network"]["a.weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([STATE, HISTORY, LOCK])


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".tmp-abc-state.pt").write_bytes(b"half")
    with RunFolder(tmp_path, IDENTITY):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_the_folder_is_held_once_even_within_a_process(tmp_path):
    message = (
        rf"another training \(process {os.getpid()} on {socket.gethostname()}\) is using this folder, .*; wait for"
    )
    with RunFolder(tmp_path, IDENTITY), pytest.raises(InputError, match=message):
        RunFolder(tmp_path, IDENTITY).__enter__()
    with RunFolder(tmp_path, IDENTITY):
        pass


def test_leftovers_of_outputs_are_removed_but_not_those_of_other_trainings(tmp_path):
    (tmp_path / ".tmp-abcd_123-w.pt").write_bytes(b"half")
    others = [".tmp-abcd_123-dense-w.pt", ".tmp-abcd_123-w.pt.x", ".tmp-abcd_123-wXpt"]
    for name in others:
        (tmp_path / name).write_bytes(b"half")
    with RunFolder(tmp_path / "w.training", IDENTITY, [tmp_path / "w.pt", tmp_path / "none/h.csv"]):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "w.training"])


def test_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path, IDENTITY):
        raise ZeroDivisionError
    with RunFolder(tmp_path, IDENTITY):
        pass


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EAGAIN, "another training is using this folder"),
        (errno.EACCES, "another training is using this folder"),
        (
            errno.ENOLCK,
            r"cannot be locked \(No locks available\), expected a file system with locks; put the results on",
        ),
        (errno.EINVAL, r"cannot be locked \(Invalid argument\), expected a file system with locks"),
        (errno.EIO, r"cannot be locked \(Input/output error\); run again when that is mended"),
        (errno.ESTALE, r"cannot be locked \(Stale file handle\); run again when that is mended"),
    ],
)
def test_why_a_folder_cannot_be_locked_is_said(tmp_path, monkeypatch, number, message):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=message):
        RunFolder(tmp_path, IDENTITY).__enter__()


def test_where_locks_are_of_one_machine_the_training_that_came_last_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with RunFolder(tmp_path, IDENTITY) as first, RunFolder(tmp_path, IDENTITY) as second:
        message = rf"another training \(process {os.getpid()} on .*\) uses this folder now, .*; this one ends, that one"
        with pytest.raises(InputError, match=message):
            first.save(state(1.0), "")
        second.save(state(2.0), "")
        second.finish()
        with pytest.raises(InputError, match=message):  # woken up late: does not bring a state back
            first.save(state(1.0), "")
        assert not (tmp_path / STATE).exists()


def test_a_folder_that_was_removed_while_training_is_made_again(tmp_path):
    with RunFolder(tmp_path / "run", IDENTITY) as run:
        run.save(state(1.0), "")
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()
        run.save(state(2.0), "")
        assert run.load()["network"]["a.weight"][0, 0] == 2.0


@pytest.mark.faults
def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    # fcntl alone: the other process needs no torch to hold the lock as RunFolder does.
    code = f"""
        import fcntl, os, sys, time
        lock = open({str(tmp_path / LOCK)!r}, "a+")
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid())); lock.flush()
        print("held", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError) as error:
            RunFolder(tmp_path, IDENTITY).__enter__()
        assert f"{tmp_path}: another training (process {other.pid}) is using this folder" in str(error.value)
        other.send_signal(signal.SIGKILL)
        other.wait()
    with RunFolder(tmp_path, IDENTITY):
        assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on {socket.gethostname()}\n")
