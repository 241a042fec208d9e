"""Environment files of the rules: what they may contain, that they equal the lock and declare what rules import.

Nothing here needs conda or runs a rule; tests/test_conda_run.py does.
"""

import importlib.metadata
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from conda import home, imports, names

from trackbench.digest import reached_files
from trackbench.errors import ConfigError, TrackbenchError
from trackbench.trackers.base import common_environment, load_module, tracker_names

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = names.environments()
ENVIRONMENT_OF = {name: ROOT / f"envs/{load_module(name).Tracker.environment}.yaml" for name in tracker_names()}
# What the rule surfaces runs.
CLUSTERERS = [name for name in tracker_names() if hasattr(load_module(name).Tracker, "clusters")]
# torch.yaml has all of cluster.yaml: rules with torch.yaml that load trackers by name may load these.
WITH_TORCH = [name for name, path in ENVIRONMENT_OF.items() if path.stem in ("cluster", "torch")]
BY_NAME = ("row_modules", "train_digest", "decomposition_digest")
FOR_CUDA_ONLY = {"machine.py", "track_latency.py"}  # they import torch where a tracker runs on a GPU
BY_TRACKER, BY_CLUSTERERS = "environment", 'environment_of(config["surfaces"])'


def rules():
    """(text, expression after ``conda:`` or None, script or None) of every rule of the workflow."""
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in re.split(r"^(?:rule|checkpoint) ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            block = block.partition("\nuse rule ")[0]  # which has the environment of the rule it uses
            conda, script = (re.search(rf"^    {key}:\s+(.+)$", block, re.MULTILINE) for key in ("conda", "script"))
            if script:
                script = (path.parent / script[1].strip('"')).resolve()
            yield pytest.param(block, conda and conda[1], script, id=block.partition(":")[0])


def jobs():
    """(environment file, files that are run or loaded by name) of every job of a script that there can be."""
    for block, conda, script in (rule.values for rule in rules()):
        if script is None:
            continue
        if conda == BY_TRACKER:
            yield from ((path, [script, *imports.tracker_files(name)]) for name, path in ENVIRONMENT_OF.items())
        elif conda == BY_CLUSTERERS:
            for name in CLUSTERERS:
                yield ROOT / f"envs/{common_environment([name])}.yaml", [script, *imports.tracker_files(name)]
        else:
            loaded = WITH_TORCH if any(function in block for function in BY_NAME) else []
            files = [file for name in loaded for file in imports.tracker_files(name)]
            yield (ROOT / "workflow/rules" / conda.strip('"')).resolve(), [script, *files]


def undeclared(environment, *files):
    """Packages that an environment lacks, with the files that import them."""
    declared = set().union(*names.read_environment(environment))
    found = {package: where for package, where in imports.wanted(*files).items() if package not in declared}
    if found.get("pytorch", set()) <= FOR_CUDA_ONLY:
        found.pop("pytorch", None)
    return found


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
    assert {environment for environment, _ in jobs()} == set(ENVIRONMENTS)


@pytest.mark.parametrize(("block", "conda", "script"), list(rules()))
def test_every_rule_has_an_environment(block, conda, script):
    if "\n    output:" not in block and "use rule" not in block and script is None:
        return  # a target: it runs nothing
    if conda not in (BY_TRACKER, BY_CLUSTERERS):
        assert (ROOT / "workflow/rules" / conda.strip('"')).resolve() in ENVIRONMENTS


def test_environments_declare_what_scripts_and_trackers_import():
    found = {(path.name, files[0].name, files[-1].name): undeclared(path, *files) for path, files in jobs()}
    assert len(found) >= 100
    assert {job: packages for job, packages in found.items() if packages} == {}


def test_environments_declare_nothing_else():
    needed = {path: set(names.NOT_LOCKED) for path in ENVIRONMENTS}
    for path, files in jobs():
        packages = set(imports.wanted(*files))
        needed[path] |= packages.union(*map(imports.requirements, packages))
    unused = {path.name: set().union(*names.read_environment(path)) - needed[path] for path in ENVIRONMENTS}
    assert {name: packages for name, packages in unused.items() if packages} == {}


def test_torch_has_all_that_cluster_has():
    cluster, torch = (names.read_environment(ROOT / f"envs/{name}.yaml")[0] for name in ("cluster", "torch"))
    assert cluster.items() <= torch.items() and "pytorch" in torch and "pytorch" not in cluster


def test_trackers_without_torch_cannot_be_put_on_a_gpu():
    others = [name for name, path in ENVIRONMENT_OF.items() if path.stem != "torch"]
    assert others and not [name for name in others if hasattr(load_module(name).Config, "device")]


def test_imports_are_followed_as_for_the_digest_of_code():
    for script in (ROOT / "workflow/scripts/reconstruct.py", ROOT / "workflow/scripts/train.py"):
        reached = reached_files(script, ["trackbench.trackers.encreg"])
        files = imports.reached(script, *imports.tracker_files("encreg"))
        assert files - {script} == {path for path in reached if path.suffix == ".py"}


def test_a_package_left_out_of_an_environment_is_noticed(tmp_path):
    text = (ROOT / "envs/light.yaml").read_text(encoding="utf-8")
    path = tmp_path / "light.yaml"
    path.write_text(text.replace("  - pyarrow=26.0.1\n", ""), encoding="utf-8")
    script = ROOT / "workflow/scripts/prepare.py"
    assert not undeclared(ROOT / "envs/light.yaml", script)
    assert set(undeclared(path, script)) == {"pyarrow"}


def test_a_tracker_that_imports_torch_in_the_wrong_environment_is_noticed(tmp_path):
    path = tmp_path / "roads.py"
    path.write_text("class Tracker:\n    def find_tracks(self):\n        import torch\n", encoding="utf-8")
    script = ROOT / "workflow/scripts/reconstruct.py"
    assert undeclared(ROOT / "envs/cluster.yaml", script, path)["pytorch"] == {"machine.py", "roads.py"}
    assert not undeclared(ROOT / "envs/torch.yaml", script, path)
    learned = imports.tracker_files("latent")  # through modules that it reaches
    assert "network.py" in undeclared(ROOT / "envs/cluster.yaml", script, *learned)["pytorch"]


def test_rules_choose_the_environment_by_the_tracker_they_run():
    text = (ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8")
    found = re.search(r"^def environment\(.*?(?=^def all_)", text, re.MULTILINE | re.DOTALL)
    namespace = {"common_environment": common_environment, "TrackbenchError": TrackbenchError}
    namespace["WorkflowError"] = RuntimeError
    exec(found[0], namespace)
    for tracker, path in ENVIRONMENT_OF.items():
        chosen = namespace["environment"](None, SimpleNamespace(tracker=tracker))
        assert (ROOT / "workflow/rules" / chosen).resolve() == path
    with pytest.raises(RuntimeError, match=r"environments cluster \(dbscan\), acts \(ckf\), expected one environment"):
        namespace["environment_of"](["dbscan", "ckf"])


def test_environment_of_several_trackers_has_all_they_need():
    assert common_environment(["dbscan", "hdbscan"]) == common_environment([]) == "cluster"
    assert common_environment(["dbscan", "latent"]) == "torch" and common_environment(["ckf"]) == "acts"
    with pytest.raises(ConfigError):
        common_environment(["latent", "ckf"])


def test_third_party_imports_are_found(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import os, sklearn.cluster\ndef f():\n    from torch import nn\n    import yaml\nimport trackbench\n"
    )
    assert imports.imported(path)[1] == {"scikit-learn", "pytorch", "pyyaml"}


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
