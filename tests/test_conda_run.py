"""`snakemake --use-conda` for real, without a network: all but networks in environments made from a local channel.

The channel holds the very distributions of .venv (tests/conda/channel.py), so that these tests show that the files
parse, solve, are installed and activated, and that rules find all they import in them. That conda-forge has the same
versions is not shown here.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from conda import home, names
from raw_events import raw_tables, write_raw

from trackbench.reproduce import compare_results

ROOT = Path(__file__).resolve().parents[1]
TREE = ("Snakefile", "workflow", "config", "src", "profiles", "envs")
CONFIG = {
    "run": "conda",
    "title": "rules in conda environments",
    "seed": 26,
    "data": {
        "source": "local",
        "local": {"path": "raw"},
        "shard_events": 3,
        "events": {"train": 0, "val": 1, "test": 2},
    },
    "scan": {"pileup": [], "tiling": []},
    "effects": {"variations": {}},
    "tuning": {"events": 1},
    "trackers": {"hdbscan": {"barrel_w_scale": 2.0}},
    "surfaces": {},
    "evaluation": {"replicas": 200},
}
RESULTS = "results/conda"
TARGETS = [f"{RESULTS}/tables/metrics.csv", f"{RESULTS}/figures/efficiency_pt.csv"]
SCRIPTS = {  # of all jobs, with the environment of each
    "prepare.py": "light.yaml",
    "index.py": "light.yaml",
    "tune.py": "cluster.yaml",
    "reconstruct.py": "cluster.yaml",
    "evaluate.py": "light.yaml",
    "tables.py": "light.yaml",
    "plot_rates.py": "plots.yaml",
}
# Files with times in them, or made of such: what else they hold is compared.
TIMED = ("tracks/main/hdbscan-timing.csv", "tracks/main/hdbscan-run.json", "tables/metrics.csv", "tables/summary.*")
SHARD = f"{RESULTS}/prepared/main/shard-0000-hits.parquet"
TAKEN_WHERE_FOUND = {"charset_normalizer", "psutil"}  # by numpy.f2py and joblib, which do without
pytestmark = [pytest.mark.conda, pytest.mark.slow]


@pytest.fixture(scope="module")
def work():
    """Empty folder beside the package cache, so that environments are made of links."""
    if reason := home.why_not():
        pytest.skip(reason)
    home.build()
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=home.HOME)).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def driver(work):
    """Python of an environment with Snakemake and little else: what a rule imports is not there by chance."""
    wanted = {name: names.lock()[name] for name in home.DRIVER}
    path = work / "driver.yaml"
    path.write_text(environment_text({"python": names.PYTHON, **wanted}))
    made = home.run("conda", "env", "create", "--file", path, "--prefix", work / "driver", cwd=work)
    assert made.returncode == 0, made.stderr
    return work / "driver/bin/python"


def environment_text(pins):
    lines = [f"  - {name}={version}\n" for name, version in pins.items()]
    return "channels: [conda-forge, nodefaults]\ndependencies:\n" + "".join(lines)


@pytest.fixture(scope="module")
def plain(work):
    """Folder of the same targets made without conda, by the Python that runs the tests."""
    folder = work / "plain"
    for name in TREE:
        copy(ROOT / name, folder / name)
    for event in (1, 2, 3):
        write_raw(raw_tables(seed=event), folder / "raw", event)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml", "--", *TARGETS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def copy(source, target):
    if source.is_dir():
        # Compiled kernels are kept, else every copy of the tree compiles for a minute.
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def fork(plain, name):
    """Copy of the folder without its results."""
    folder = plain.with_name(name)
    for part in (*TREE, "raw", "tiny.yaml"):
        copy(plain / part, folder / part)
    return folder


def use_conda(driver, folder, *options):
    command = [driver, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml", "--use-conda"]
    return home.run(*command, *options, cwd=folder)


@pytest.fixture(scope="module")
def finished(plain, driver):
    """Folder where Snakemake made the targets with --use-conda."""
    folder = fork(plain, "finished")
    done = use_conda(driver, folder, "--", *TARGETS)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def processes(folder):
    """What the Python processes of rules noted at their end (tests/conda/sitecustomize.py): script name -> note."""
    notes = [json.loads(path.read_text()) for path in (folder / ".snakemake/conda").glob("*/var/processes/*.json")]
    notes = [note for note in notes if note["argv"][0] != "-c"]  # Snakemake asks for the version of Python
    found = {re.sub(r"^tmp\w+\.", "", Path(note["argv"][0]).name): note for note in notes}
    assert len(found) == len(notes)
    return found


def test_rules_give_the_same_files_in_their_environments(plain, finished):
    comparison = compare_results(plain / RESULTS, finished / RESULTS)
    assert (comparison.different, comparison.missing) == ({}, {})
    assert len(comparison.equal) >= 20
    assert {"tuned/hdbscan.json", "tracks/main/hdbscan.parquet", "tables/metrics.csv"} <= {*comparison.equal}
    exact = [name for name in comparison.equal if not any(fnmatch(name, pattern) for pattern in TIMED)]
    differ = [
        name for name in exact if (finished / RESULTS / name).read_bytes() != (plain / RESULTS / name).read_bytes()
    ]
    assert differ == [] and len(exact) >= 15


def test_each_rule_ran_with_the_python_of_its_environment(finished):
    notes = processes(finished)
    assert set(notes) == set(SCRIPTS)
    environments = {script: Path(note["prefix"]) for script, note in notes.items()}
    assert {path.parent for path in environments.values()} == {finished / ".snakemake/conda"}
    for script, prefix in environments.items():
        assert Path(notes[script]["executable"]).parent == prefix / "bin"
        assert (prefix.parent / f"{prefix.name}.yaml").read_bytes() == (ROOT / "envs" / SCRIPTS[script]).read_bytes()
    assert len(set(environments.values())) == len([*(finished / ".snakemake/conda").glob("*.yaml")]) == 3  # no torch


def test_rules_import_only_from_their_environment_and_the_repository(finished, driver):
    """Snakemake offers jobs its own packages last: only Snakemake itself may come from there."""
    others = driver.parents[1]
    for script, note in processes(finished).items():
        own, lent = Path(note["prefix"]), set()
        for name, path in ((name, Path(path)) for name, path in note["modules"].items()):
            if path.is_relative_to(others):
                lent.add(name.partition(".")[0])
            else:
                assert path.is_relative_to(own) or path.is_relative_to(finished), (script, name, path)
        assert {name for name in lent if not name.startswith("snakemake")} <= TAKEN_WHERE_FOUND, script
        assert {"snakemake", "numpy", "pandas", "pyarrow", "trackbench"} <= set(note["modules"])
        if SCRIPTS[script] == "cluster.yaml":
            assert {"hdbscan", "sklearn"} <= set(note["modules"])


def test_a_dependency_missing_in_an_environment_stops_the_run(plain, driver):
    folder = fork(plain, "missing")
    path = folder / "envs/light.yaml"
    path.write_text(path.read_text().replace("  - pyarrow=26.0.1\n", ""))
    done = use_conda(driver, folder, "--", SHARD)
    assert done.returncode == 1
    assert re.search(r"No module named 'pyarrow'|Import pyarrow failed", done.stderr), done.stderr[-4000:]
    assert not (folder / SHARD).exists()


def test_a_version_the_channel_lacks_is_named(plain, driver):
    folder = fork(plain, "unsolvable")
    path = folder / "envs/light.yaml"
    path.write_text(path.read_text().replace("pandas=3.1.1", "pandas=3.1.99"))
    done = use_conda(driver, folder, "--", SHARD)
    assert done.returncode == 1
    assert "Could not create conda environment from" in done.stderr
    assert "No candidates were found for pandas 3.1.99" in done.stderr


def test_a_package_nobody_has_is_named(work):
    path = work / "unknown.yaml"
    path.write_text(environment_text({"python": names.PYTHON, "trackbench-nowhere": "1.0"}))
    done = home.run("conda", "env", "create", "--file", path, "--prefix", work / "unknown", cwd=work)
    assert done.returncode == 1
    assert "No candidates were found for trackbench-nowhere 1.0" in done.stderr
    assert not (work / "unknown").exists()


def test_pip_sections_are_refused_in_words(work):
    done = home.run("conda", "env", "create", "--file", ROOT / "envs/acts.yaml", "--prefix", work / "acts", cwd=work)
    assert done.returncode == 1
    assert "cannot install pip: sections" in done.stderr


@pytest.mark.parametrize("path", names.environments(), ids=lambda path: path.name)
def test_conda_part_of_every_environment_can_be_solved(work, path):
    """The pins do not contradict what the installed distributions require of each other; pip: sections are left out."""
    conda, _ = names.read_environment(path)
    part = work / f"part-{path.name}"
    pinned = {name: version for name, version in conda.items() if name != "pip"}
    part.write_text(environment_text(pinned))
    done = home.run("conda", "env", "solve", "--file", part, cwd=work)
    assert done.returncode == 0, done.stderr
    solved = dict(line.split("=") for line in done.stdout.split())
    assert {name: solved[name] for name in pinned if name != "python"} == {
        name: version for name, version in pinned.items() if name != "python"
    }
    lock = names.lock()
    assert {name: version for name, version in solved.items() if name in lock and version != lock[name]} == {}


@pytest.mark.parametrize("name", ["config", "smoke", "cpu", "paper", "ablation"])
def test_snakemake_lists_the_environments_of_every_configuration(plain, driver, name):
    command = [driver, "-m", "snakemake", "--use-conda", "--list-conda-envs", "--configfile", f"config/{name}.yaml"]
    done = home.run(*command, cwd=plain)
    assert done.returncode == 0, done.stderr[-4000:]
    listed = set(re.findall(r"envs/(\w+)\.yaml", done.stdout))
    assert {"light", "plots", "cluster", "torch"} <= listed <= {path.stem for path in names.environments()}
