"""The Containerfile does what the Makefile does and nothing of its own; it cannot be built everywhere."""

import fnmatch
import importlib.util
import json
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DEBIAN_TOOLS = {"apt-get", "rm", "mkdir"}


def instructions(text):
    """(instruction, argument) of a Containerfile; continued lines are joined, comments left out."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


STEPS = instructions((ROOT / "Containerfile").read_text(encoding="utf-8"))


def arguments(name):
    return [argument for instruction, argument in STEPS if instruction == name]


def commands():
    """Words of every command that the image runs, when built and when started."""
    found = [part.split() for argument in arguments("RUN") for part in argument.split("&&")]
    return found + [json.loads(argument) for argument in arguments("CMD")]


def targets():
    return set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))


def test_only_make_installs_and_runs():
    assert {words[0] for words in commands()} == DEBIAN_TOOLS | {"make"}
    called = [words[1:] for words in commands() if words[0] == "make"]
    assert called == [["install", "PYTHON=python3.11"], ["demo"]]
    assert {words[0] for words in called} <= targets()


def test_python_is_one_that_the_makefile_accepts():
    (base,) = arguments("FROM")
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim-bookworm", base)[1]
    low, high = re.search(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", MAKEFILE).groups()
    assert int(low) <= int(version.partition(".")[2]) <= int(high)
    wanted = re.search(r'^requires-python = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for minor in range(5, 20):
        assert SpecifierSet(wanted).contains(f"3.{minor}.1") == (int(low) <= minor <= int(high))
    assert ["install", f"PYTHON=python{version}"] in [words[1:] for words in commands()]


def test_the_install_command_needs_nothing_that_is_missing_in_the_image():
    recipe = MAKEFILE.partition("$(STAMP): ")[2].partition("\n\n")[0]
    used = set(re.findall(r"^\t@?(\$\(\w+\)(?:/\w+)?|\w+)", recipe, re.MULTILINE))
    assert used == {"$(PYTHON)", "echo", "$(BIN)/python", "touch"}
    assert "make" in " ".join(arguments("RUN")).partition("install --yes")[2].split()


def test_everything_is_copied_but_what_git_ignores():
    assert arguments("COPY") == [". ."]
    ignored = [
        line.strip("/").removeprefix("**/")
        for line in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    git = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    assert {line for line in git if line} <= set(ignored)
    needed = ("Makefile", "requirements.txt", "pyproject.toml", "README.md", "LICENSE", "Snakefile", "workflow")
    needed += ("src", "config", "profiles", "envs")
    for name in needed:
        assert (ROOT / name).exists() and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name
    assert (ROOT / ".dockerignore").read_bytes() == (ROOT / ".containerignore").read_bytes()


@pytest.mark.parametrize("name", ["results", "logs", "data", ".snakemake"])
def test_folders_that_the_notes_bind_are_in_the_image(name):
    page = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
    (folder,) = arguments("WORKDIR")
    assert f":{folder}/{name}" in page
    made = next(words for words in commands() if words[0] == "mkdir")
    assert name in made


def test_targets_in_the_notes_exist():
    page = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", page))
    assert {"demo", "smoke", "install", "unlock"} <= named <= targets()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kernels_go_to_the_home_folder_where_sources_cannot_be_written(tmp_path, monkeypatch):
    """As in a read-only image, for numba: it cannot make the folder of the cache beside the source."""
    path = tmp_path / "kernel.py"
    path.write_text("from numba import njit\n@njit(cache=True)\ndef plus_one(x):\n    return x + 1\n")
    (tmp_path / "__pycache__").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    first = load(path).plus_one
    assert first(1) == 2 and first.stats.cache_misses and not first.stats.cache_hits
    assert Path(first.stats.cache_path).is_relative_to(tmp_path / "home/.cache/numba")
    again = load(path).plus_one
    assert again(1) == 2 and again.stats.cache_hits and not again.stats.cache_misses
    monkeypatch.setenv("HOME", "/dev/null")
    with pytest.raises(RuntimeError, match="no locator available for file"):
        load(path)


def test_what_the_notes_run_with_an_engine_is_kept():
    page = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
    runs = re.findall(r"podman run .*", page.partition("```sh")[2].partition("```")[0])
    assert len(runs) >= 3 and all("run --rm $keep trackbench" in line for line in runs)
    kept = re.search(r'^keep="(.+)"$', page, re.MULTILINE)[1].split()[1::2]
    assert [volume.partition(":")[2] for volume in kept] == ["/opt/trackbench/results", "/opt/trackbench/logs"]
