"""Environment files of the rules: what they may contain, that they equal the lock and declare what rules import.

Nothing here needs conda or runs a rule; tests/test_conda_run.py does.
"""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conda import home, names

from trackbench.digest import reached_files
from trackbench.trackers.base import load_module, tracker_names

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = names.environments()
# Tracker -> environment of the rules that run one tracker at a time; the others have torch.yaml.
ENVIRONMENT_OF = {"ckf": ROOT / "envs/acts.yaml"}
FOR_CUDA_ONLY = {"machine.py": {"pytorch"}}
BY_NAME = ("tracker_digest", "all_trackers_digest", "row_digest", "row_modules", "train_digest")


def rules():
    """(text, conda file or None, script or None) of every rule of the workflow; None if the tracker decides."""
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
    return {names.conda_name(distributions().get(name, [name])[0]) for name in found}


def undeclared(script, conda, trackers):
    """Packages that an environment lacks, by file that imports them: of a script that loads trackers by name."""
    reached = reached_files(script, [f"trackbench.trackers.{name}" for name in trackers])
    files = [script, *(path for path in reached if path.suffix == ".py")]
    declared = set().union(*names.read_environment(conda))
    missing = {path.relative_to(ROOT).as_posix(): third_party(path) - declared for path in files}
    return {path: found for path, found in missing.items() if found}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_environment_pins_equal_the_lock(path):
    conda, pip = names.read_environment(path)
    pinned = {**conda, **pip}
    assert conda["python"] == names.PYTHON
    versions = {name: pinned[name] for name in pinned.keys() - names.NOT_LOCKED}
    lock = names.lock()
    assert versions == {name: lock[name] for name in versions}
    assert set(pip) == set(pinned) & names.PIP_ONLY, "conda-forge has everything else"
    assert ("pip" in conda) == bool(pip)


def test_there_are_rules_and_environments():
    assert len(ENVIRONMENTS) >= 6
    assert len(list(rules())) >= 40


def test_every_environment_belongs_to_a_rule():
    used = {rule.values[1] for rule in rules()} | {*ENVIRONMENT_OF.values()}
    assert used - {None} == set(ENVIRONMENTS)


@pytest.mark.parametrize(("block", "conda", "script"), list(rules()))
def test_rule_has_an_environment_that_declares_what_its_script_imports(block, conda, script):
    if "\n    output:" not in block and "use rule" not in block and script is None:
        return  # a target: it runs nothing
    by_tracker = "\n    conda:\n        environment\n" in block
    assert conda in ENVIRONMENTS or by_tracker
    if script is None:
        return
    loaded = ()
    if any(function in block for function in BY_NAME):  # such rules load trackers by name
        loaded = [name for name in tracker_names() if name not in ENVIRONMENT_OF]
    assert not undeclared(script, conda or ROOT / "envs/torch.yaml", loaded)
    if by_tracker:
        for name, environment in ENVIRONMENT_OF.items():
            absent = undeclared(script, environment, [name])
            assert not {path: what for path, what in absent.items() if FOR_CUDA_ONLY.get(Path(path).name) != what}


def test_a_package_left_out_of_an_environment_is_noticed(tmp_path):
    text = (ROOT / "envs/light.yaml").read_text(encoding="utf-8")
    path = tmp_path / "light.yaml"
    path.write_text(text.replace("  - pyarrow=26.0.1\n", ""), encoding="utf-8")
    script = ROOT / "workflow/scripts/prepare.py"
    assert not undeclared(script, ROOT / "envs/light.yaml", [])
    missing = undeclared(script, path, [])
    assert missing and set().union(*missing.values()) == {"pyarrow"}


def test_rules_choose_the_environment_by_the_tracker_they_run():
    text = (ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8")
    found = re.search(r"^def environment\(.*?(?=^def )", text, re.MULTILINE | re.DOTALL)
    namespace = {"load_module": load_module}
    exec(found[0], namespace)
    for tracker in tracker_names():
        chosen = namespace["environment"](None, SimpleNamespace(tracker=tracker))
        path = (ROOT / "workflow/rules" / chosen).resolve()
        assert path == ENVIRONMENT_OF.get(tracker, ROOT / "envs/torch.yaml")


def test_third_party_imports_are_found(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import os, sklearn.cluster\ndef f():\n    from torch import nn\n    import yaml\nimport trackbench\n"
    )
    assert third_party(path) == {"scikit-learn", "pytorch", "pyyaml"}


def test_names_translate_both_ways():
    assert names.conda_name("PyYAML") == "pyyaml" and names.conda_name("torch") == "pytorch"
    for pip, conda in names.CONDA_NAMES.items():
        assert names.normal(pip) == pip
        assert names.pip_name(names.conda_name(pip)) == pip and names.conda_name(pip) == conda
    assert names.lock()["matplotlib-base"] == importlib.metadata.version("matplotlib")


HEAD = "channels: [conda-forge, nodefaults]\ndependencies:\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\n" + HEAD + "  - numpy=2.4.6\n", "tie the file to a machine"),
        ("channels: [conda-forge]\ndependencies: [numpy=2.4.6]\n", "expected ['conda-forge', 'nodefaults']"),
        ("channels: [defaults, nodefaults]\ndependencies: [numpy=2.4.6]\n", "channels"),
        (HEAD + "  - numpy\n", "exact version"),
        (HEAD + "  - numpy>=2.4\n", "exact version"),
        (HEAD + "  - numpy=2.4.*\n", "exact version"),
        (HEAD + "  - numpy=2.4.6\n  - numpy=2.4.5\n", "numpy twice"),
        (HEAD + "  - pip\n  - pip: [numpy>=2]\n", "exact version"),
        (HEAD + "  - pip\n  - conda: [numpy==2]\n", "pip: section"),
    ],
)
def test_what_an_environment_file_may_not_contain(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        names.read_environment(path)


# A pin file as `snakedeploy pin-conda-envs` writes it: a comment, @EXPLICIT, one address with checksum per package.
ADDRESS = re.compile(
    r"https://conda\.anaconda\.org/conda-forge/[\w-]+/(.+)-([^-]+)-[^-]+\.(?:conda|tar\.bz2)#[0-9a-f]+"
)


def pin_file_faults(path):
    """What is wrong with a pin file, in words; empty if a machine may have written it for today's env file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head, marker, body = lines[: lines.index("@EXPLICIT")] if "@EXPLICIT" in lines else lines, "@EXPLICIT", []
    if marker in lines:
        body = lines[len(head) + 1 :]
    faults = [] if marker in lines else ["no @EXPLICIT"]
    if not any(line.startswith("# platform: ") for line in head):
        faults.append("no comment with the platform")
    found = {match[1]: match[2] for match in map(ADDRESS.fullmatch, body) if match}
    if len(found) != len(body):
        faults.append("lines that are no address with a checksum")
    conda, pip = names.read_environment(path.with_name(path.name.partition(".")[0] + ".yaml"))
    if pip:
        faults.append("explicit lists cannot have packages of pip")
    faults += [f"{name} is not {version}" for name, version in conda.items() if not _is(found.get(name, ""), version)]
    return faults


def _is(found, version):
    return found == version or found.startswith(f"{version}.")


def test_pin_files_are_written_by_machines_only():
    faults = {path.name: pin_file_faults(path) for path in (ROOT / "envs").glob("*.pin.txt")}
    assert not {name: found for name, found in faults.items() if found}


def test_a_pin_file_written_by_hand_is_noticed(tmp_path):
    (tmp_path / "x.yaml").write_text(HEAD + "  - python=3.11\n  - numpy=2.4.6\n", encoding="utf-8")
    path = tmp_path / "x.linux-64.pin.txt"
    path.write_text("python=3.11\nnumpy=2.4.6\n", encoding="utf-8")
    assert "no @EXPLICIT" in pin_file_faults(path)
    address = "https://conda.anaconda.org/conda-forge/linux-64/{}-py311_0.conda#0123456789abcdef"
    good = ["# platform: linux-64", "@EXPLICIT", address.format("python-3.11.9"), address.format("numpy-2.4.6")]
    path.write_text("\n".join(good) + "\n", encoding="utf-8")
    assert pin_file_faults(path) == []
    path.write_text("\n".join(good).replace("2.4.6", "2.4.60").replace("#01", "01"), encoding="utf-8")
    assert pin_file_faults(path) == [
        *("lines that are no address with a checksum", "python is not 3.11", "numpy is not 2.4.6"),
    ]


def conda_pin(*options, path):
    return subprocess.run(
        ["make", "--no-print-directory", *options, "conda-pin"],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
    )


def test_make_conda_pin_says_what_it_needs(tmp_path):
    for tool in ("make", "bash", "sh", "grep"):
        (tmp_path / tool).symlink_to(Path("/usr/bin", tool))
    refused = conda_pin(path=str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[0] == (
        "make: conda-pin needs the commands conda and snakedeploy and a network, see docs/conda.md"
    )


def test_make_conda_pin_leaves_out_environments_with_pip_sections(tmp_path):
    note = tmp_path / "called"
    for tool in ("conda", "snakedeploy"):
        (tmp_path / tool).write_text(f'#!/bin/sh\necho {tool} "$@" >> {note}\n')
        (tmp_path / tool).chmod(0o755)
    done = conda_pin(path=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    (line,) = note.read_text().splitlines()
    plain = [f"envs/{path.name}" for path in ENVIRONMENTS if not names.read_environment(path)[1]]
    assert line.split() == ["snakedeploy", "pin-conda-envs", *plain] and len(plain) >= 3


PAGE = (ROOT / "docs/conda.md").read_text(encoding="utf-8")


def test_page_names_every_environment_and_the_versions_of_the_lock():
    assert set(re.findall(r"`envs/(\w+)\.yaml`", PAGE)) == {path.stem for path in ENVIRONMENTS}
    pins = dict(re.findall(r"\b(numpy|pandas)=([0-9.]+)", PAGE)) | dict(re.findall(r"(snakemake)==([0-9.]+)", PAGE))
    assert pins == {name: names.lock()[name] for name in home.DRIVER}


def test_messages_in_the_page_are_those_of_snakemake():
    source = importlib.metadata.distribution("snakemake").locate_file("snakemake/deployment/conda.py")
    text = re.sub(r"\"\n\s+f?\"", "", Path(source).read_text(encoding="utf-8"))  # strings over several lines
    oldest = re.search(r'^MIN_CONDA_VER = "(.+)"', text, re.MULTILINE)[1]
    text = text.replace("{MIN_CONDA_VER}", oldest).replace("{frontend}", "conda")
    messages = re.findall(r"^\| `(.+?)` (?:in|\|)", PAGE.partition("## When it fails")[2], re.MULTILINE)
    assert len(messages) == 4 + 2
    assert [message for message in messages if message not in text] == ["No module named", "No module named 'pandas'"]
