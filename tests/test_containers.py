"""The Containerfile does what the Makefile does and nothing of its own; it cannot be built everywhere."""

import fnmatch
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
