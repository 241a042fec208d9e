"""The one place that knows how distributions of PyPI are called on conda-forge, and how env files look."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = ["conda-forge", "nodefaults"]
PYTHON = "3.11"
# Where conda-forge differs from PyPI in more than spelling, or keeps an underscore.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "tzdata": "python-tzdata",
    "fastjsonschema": "python-fastjsonschema",
    "jupyter-core": "jupyter_core",
    "smart-open": "smart_open",
    "typing-extensions": "typing_extensions",
}
PIP_NAMES = {conda: pip for pip, conda in CONDA_NAMES.items()}
PIP_ONLY = {"pyacts", "pythia8mc", "kagglehub"}  # conda-forge lacks them or has other versions
NOT_LOCKED = {"python", "pip"}  # part of the environment itself


def normal(name):
    """Distribution name in the spelling that PyPI and, but for the names above, conda-forge share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def conda_name(name):
    """Name on conda-forge of a distribution of PyPI."""
    return CONDA_NAMES.get(normal(name), normal(name))


def pip_name(name):
    """Name on PyPI of a package of conda-forge."""
    return PIP_NAMES.get(name, name)


def lock(root=ROOT):
    """Conda name -> version of everything in requirements.txt."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {conda_name(name): version for name, version in pins.items()}


def environments(root=ROOT):
    """All environment files, sorted."""
    return sorted((root / "envs").glob("*.yaml"))


def read_environment(path):
    """Read an environment file.

    Returns (conda name -> version, pip name -> version). Raises ValueError for whatever an environment file of this
    repository may not contain.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if set(content) != {"channels", "dependencies"}:
        raise ValueError(f"{path}: keys {sorted(content)}; a name or a prefix would tie the file to a machine")
    if content["channels"] != CHANNELS:
        raise ValueError(f"{path}: channels {content['channels']}, expected {CHANNELS}")
    conda, pip = {}, {}
    for entry in content["dependencies"]:
        if isinstance(entry, dict):
            if list(entry) != ["pip"] or pip:
                raise ValueError(f"{path}: {entry}, expected one pip: section")
            pip = dict(_split(path, line, "==") for line in entry["pip"])
        else:
            name, version = (entry, "") if entry == "pip" else _split(path, entry, "=")
            if name in conda:
                raise ValueError(f"{path}: {name} twice")
            conda[name] = version
    return conda, pip


def _split(path, entry, sign):
    found = re.fullmatch(rf"([A-Za-z0-9_.-]+){sign}([0-9][0-9A-Za-z.]*)", entry)
    if not found:
        raise ValueError(f"{path}: {entry!r}, expected NAME{sign}VERSION with an exact version")
    return found[1], found[2]
