"""The files around the code: licence, citation, conda environments, hooks, examples in the docs."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from doc_examples import example_block

import trackbench
from trackbench.digest import reached_files
from trackbench.trackers.base import tracker_names

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # where conda-forge differs from PyPI
PIP_ONLY = {"pyacts", "pythia8mc", "kagglehub"}
NOT_LOCKED = {"python", "pip"}  # part of the environment itself
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")])


def normal(name):
    """Distribution name in the spelling that PyPI and conda-forge share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lock():
    """Conda name -> version of everything in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {CONDA_NAMES.get(normal(name), normal(name)): version for name, version in pins.items()}


def read_environment(path):
    """Return (conda name -> version, pip name -> version) of a conda environment file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(content) == {"channels", "dependencies"}, "a name or prefix would tie the file to a machine"
    assert content["channels"] == ["conda-forge", "nodefaults"]
    conda, pip = {}, {}
    for entry in content["dependencies"]:
        if isinstance(entry, dict):
            assert list(entry) == ["pip"]
            pip = dict(line.split("==") for line in entry["pip"])
        else:
            name, _, version = entry.partition("=")
            conda[name] = version
    return conda, pip


# Tracker -> environment of the rules that run one tracker at a time; the others have torch.yaml.
ENVIRONMENT_OF = {"ckf": ROOT / "envs/acts.yaml"}
FOR_CUDA_ONLY = {"machine.py": {"pytorch"}}


def rules():
    """(rule, conda file or None, script or None) of every rule of the workflow; None if the tracker decides."""
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in re.split(r"^(?:rule|checkpoint) ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            block = block.partition("\nuse rule ")[0]  # which has the environment of the rule it uses
            conda, script = (
                (path.parent / found[1]).resolve() if found else None
                for found in (
                    re.search(rf"^    {key}:\s+\"(.+?)\"", block, re.MULTILINE) for key in ("conda", "script")
                )
            )
            yield pytest.param(block, conda, script, id=block.partition(":")[0])


distributions = functools.cache(importlib.metadata.packages_distributions)  # takes half a second


@functools.cache
def third_party(path):
    """Conda names of the packages a Python file imports, at any depth, and that are not in the standard library."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "trackbench", "snakemake"}
    names = {normal(distributions().get(name, [name])[0]) for name in found}
    return {CONDA_NAMES.get(name, name) for name in names}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_pins_equal_the_lock(path):
    conda, pip = read_environment(path)
    pinned = {**conda, **pip}
    assert conda.pop("python") == "3.11"
    assert {name: pinned[name] for name in pinned.keys() - NOT_LOCKED} == {
        name: lock()[name] for name in pinned.keys() - NOT_LOCKED
    }
    assert set(pip) == set(pinned) & PIP_ONLY, "conda-forge has everything else"
    assert ("pip" in conda) == bool(pip)


def test_there_are_rules_and_environments():
    assert len(ENVIRONMENTS) >= 5
    assert len(list(rules())) >= 10


@pytest.mark.parametrize(("block", "conda", "script"), list(rules()))
def test_rule_has_an_environment_that_declares_what_its_script_imports(block, conda, script):
    if "\n    output:" not in block and "use rule" not in block and script is None:
        return  # a target: it runs nothing
    by_tracker = "\n    conda:\n        environment\n" in block
    assert conda in ENVIRONMENTS or by_tracker
    if script is None:
        return
    names = ()
    by_name = ("tracker_digest", "all_trackers_digest", "row_digest", "row_modules", "train_digest")
    if any(function in block for function in by_name):  # such rules load trackers by name
        names = [name for name in tracker_names() if name not in ENVIRONMENT_OF]
    assert not undeclared(script, conda or ROOT / "envs/torch.yaml", names)
    if by_tracker:
        for name, environment in ENVIRONMENT_OF.items():
            absent = undeclared(script, environment, [name])
            assert not {path: what for path, what in absent.items() if FOR_CUDA_ONLY.get(Path(path).name) != what}


def undeclared(script, conda, trackers):
    """Packages that an environment lacks, by file that imports them: of a script that loads trackers by name."""
    reached = reached_files(script, [f"trackbench.trackers.{name}" for name in trackers])
    files = [script, *(path for path in reached if path.suffix == ".py")]
    declared = set().union(*read_environment(conda))
    missing = {path.relative_to(ROOT).as_posix(): third_party(path) - declared for path in files}
    return {path: names for path, names in missing.items() if names}


def test_rules_choose_the_environment_by_the_tracker_they_run():
    text = (ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8")
    found = re.search(r"^def environment\(.*?(?=^def )", text, re.MULTILINE | re.DOTALL)
    names = {}
    exec(found[0], names)
    for tracker in tracker_names():
        chosen = names["environment"](None, SimpleNamespace(tracker=tracker))
        path = (ROOT / "workflow/rules" / chosen).resolve()
        assert path == ENVIRONMENT_OF.get(tracker, ROOT / "envs/torch.yaml")


def test_third_party_imports_are_found(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import os, sklearn.cluster\ndef f():\n    from torch import nn\n    import yaml\nimport trackbench\n"
    )
    assert third_party(path) == {"scikit-learn", "pytorch", "pyyaml"}


def test_requirements_and_extras_equal_the_lock():
    wanted = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted += [pin for extra in project["optional-dependencies"].values() for pin in extra if "==" in pin]
    assert len(wanted) > 20
    for pin in wanted:
        name, version = pin.split("==")
        assert lock()[CONDA_NAMES.get(normal(name), normal(name))] == version, pin


def test_licence_is_mit_and_ours():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The trackbench authors\n")
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text


def test_citation_has_the_required_fields():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == trackbench.__version__
    assert citation["license"] == "MIT"
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_changelog_has_this_version_and_a_heading_for_results():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert latest.startswith(f"[{trackbench.__version__}]")
    assert "### Changes results" in latest


def test_hooks_work_offline_and_use_the_pinned_tools():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "snakefmt", "large-files"}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    for name in ("ruff", "ruff-format", "snakefmt"):
        tool = hooks[name]["entry"].split()[0]
        assert tool.startswith(".venv/bin/") and Path(tool).name in lock()


def test_large_file_guard(tmp_path):
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entry = next(hook["entry"] for hook in config["repos"][0]["hooks"] if hook["id"] == "large-files")
    small, large = tmp_path / "small file.py", tmp_path / "large file.py"
    small.write_bytes(b"x" * 1000)
    large.write_bytes(b"x" * 600_000)

    def guard(*files):
        command = ["bash", "-c", f'{entry} "$@"', "guard", *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True)

    assert guard(small).returncode == 0
    refused = guard(small, large)
    assert refused.returncode == 1
    assert str(large) in refused.stdout and str(small) not in refused.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_documents_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (path.parent / t).exists()]
    assert not missing


def test_no_path_of_somebodys_machine_is_committed():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    personal = re.compile(r"(?<![\w.}])/(?:home|root|work|Users|afs|eos|scratch)/[\w.]")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".pdf", ".parquet", ".gz", ".pt"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{name}: {hit[0]}" for hit in personal.finditer(text)]
    assert not found


def test_readme_shows_the_tested_example():
    readme = ROOT / "README.md"
    if not readme.exists() or "<!-- example: roads -->" not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md does not show the example")
    assert example_block(readme, "roads") == example_block(ROOT / "docs/adding-a-tracker.md", "roads")
