"""A conda home for the tests: channel, package cache and the stand-in for the executable below build/conda."""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from . import names

HERE = Path(__file__).resolve().parent
HOME = names.ROOT / "build/conda"
TOOLS = HOME / "tools/bin/python"
DRIVER = ["snakemake", "numpy", "pandas"]  # what has to be where Snakemake runs: the workflow is read with it
LIGHT = ["light.yaml", "plots.yaml", "cluster.yaml"]


def why_not():
    """Why the local channel cannot be built here, in one sentence; empty if it can."""
    if sys.platform != "linux":
        return f"the local channel is made for linux, this is {sys.platform}"
    here = ".".join(map(str, sys.version_info[:2]))
    if here != names.PYTHON:
        return f"the environment files ask for Python {names.PYTHON}, this is {here}: nothing to copy into the channel"
    if not TOOLS.exists():
        return "py-rattler is not there: run `make conda-tools` first (a machine that reaches PyPI)"
    found = subprocess.run([TOOLS, "-c", "import rattler, zstandard"], capture_output=True, text=True)
    return f"py-rattler does not work here: {found.stderr.strip()[-300:]}" if found.returncode else ""


def pip_names(environments):
    """Distributions that the conda parts of environment files ask for."""
    wanted = [names.read_environment(names.ROOT / "envs" / name)[0] for name in environments]
    return sorted({names.pip_name(name) for conda in wanted for name in conda} - {"python"})


def build():
    """Build or update the channel and the executable. Packages that are up to date are kept."""
    files = HOME / "bin"
    files.mkdir(parents=True, exist_ok=True)
    whole = sorted({*DRIVER, *pip_names(LIGHT), "pip"})
    others = [path.name for path in names.environments()]
    command = [TOOLS, HERE / "channel.py", "--packages", sysconfig.get_path("purelib"), "--out", HOME / "conda-forge"]
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*command, "--stub", *pip_names(others), "--", *whole], check=True)
        _forget_old_packages()
        (files / "activate").write_bytes((HERE / "activate").read_bytes())
        (files / "conda").write_text(f'#!/bin/sh\nexec "{TOOLS}" "{HERE / "stand_in.py"}" "{HOME}" "$@"\n')
        (files / "conda").chmod(0o755)


def _forget_old_packages():
    current = {path.stem for path in (HOME / "conda-forge").glob("*/*.conda")}
    for path in (HOME / "packages").glob("*-*-*"):
        if path.is_dir() and path.name not in current:
            shutil.rmtree(path)


@functools.cache
def without_network():
    """Start of a command that runs without any network, or nothing where that is not allowed."""
    command = ["unshare", "--net", "--"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return []
    return command if allowed else []


def run(*command, cwd, timeout=600):
    """Run a command with the stand-in for conda in front of PATH, nothing from this environment, no network."""
    (cwd / "home").mkdir(exist_ok=True)
    environment = {
        "PATH": f"{HOME / 'bin'}:{os.defpath}",
        "HOME": str(cwd / "home"),
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
    }
    command = [*without_network(), *map(str, command)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
