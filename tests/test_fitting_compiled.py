"""Compiled kernels on disk are dropped when any source they may be made of changes."""

import subprocess
import sys
from pathlib import Path

import pytest

import trackbench
from trackbench.fitting.compiled import drop_stale_kernels


@pytest.fixture
def package(tmp_path):
    """Return a folder of two modules with compiled kernels, found fresh once."""
    folder = tmp_path / "package"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(f"{name} = 1\n", encoding="utf-8")
    drop_stale_kernels(folder)
    add_kernels(folder)
    return folder


def add_kernels(folder):
    """Put what Numba and Python leave into the cache of a folder."""
    for name in ("one.f-1.py311.nbi", "one.f-1.py311.1.nbc", "two.g-1.py311.nbi", "one.cpython-311.pyc"):
        (folder / "__pycache__" / name).write_bytes(b"code")


def kernels(folder):
    """Return the names of the compiled kernels left."""
    return {path.name for path in (folder / "__pycache__").iterdir() if path.suffix in (".nbi", ".nbc")}


def test_kernels_of_unchanged_sources_stay(package):
    assert not drop_stale_kernels(package)
    assert len(kernels(package)) == 3


def test_any_changed_source_drops_all_kernels_and_nothing_else(package):
    (package / "two.py").write_text("two = 2\n", encoding="utf-8")
    assert drop_stale_kernels(package)
    assert kernels(package) == set()
    assert (package / "__pycache__" / "one.cpython-311.pyc").is_file()
    add_kernels(package)
    assert not drop_stale_kernels(package)
    assert len(kernels(package)) == 3


@pytest.mark.parametrize("change", ["new", "gone", "renamed"])
def test_added_removed_and_renamed_sources_count_as_changes(package, change):
    if change == "new":
        (package / "three.py").write_text("", encoding="utf-8")
    elif change == "gone":
        (package / "one.py").unlink()
    else:
        (package / "one.py").rename(package / "uno.py")
    assert drop_stale_kernels(package)
    assert kernels(package) == set()


def test_sources_of_used_folders_count_too(package, tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    (used / "three.py").write_text("three = 3\n", encoding="utf-8")
    assert drop_stale_kernels(package, used)
    add_kernels(package)
    assert not drop_stale_kernels(package, used)
    (used / "three.py").write_text("three = 4\n", encoding="utf-8")
    assert drop_stale_kernels(package, used)
    assert kernels(package) == set()


def test_a_folder_never_compiled_is_stamped(tmp_path):
    (tmp_path / "one.py").write_text("", encoding="utf-8")
    assert drop_stale_kernels(tmp_path)
    assert not drop_stale_kernels(tmp_path)


def test_a_folder_that_cannot_be_written_is_left_alone(package, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    (package / "one.py").write_text("one = 3\n", encoding="utf-8")
    monkeypatch.setattr(Path, "unlink", refuse)
    assert not drop_stale_kernels(package)
    assert len(kernels(package)) == 3


MODULES = {
    "callee.py": "from trackbench.fitting.compiled import kernel\n\n@kernel\ndef value(x):\n    return x + {}\n",
    "caller.py": "from callee import value\nfrom trackbench.fitting.compiled import kernel\n\n"
    "@kernel\ndef twice(x):\n    return 2 * value(x)\n",
}


def test_a_kernel_follows_a_change_in_another_file(tmp_path):
    # What Numba alone does not do: ``caller`` was compiled with the old ``value`` inside.
    def run(added):
        for name, text in MODULES.items():
            path = tmp_path / name
            if path.exists() and path.read_text(encoding="utf-8") == text.format(added):
                continue
            path.write_text(text.format(added), encoding="utf-8")
        source = Path(trackbench.__file__).parents[1]
        code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(source)!r}]\nimport caller; print(caller.twice(1))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert run(1) == "4"
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "__pycache__").glob("*.nbc")}
    assert stored and run(1) == "4"
    assert stored == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "__pycache__").glob("*.nbc")}
    assert run(5) == "12"
