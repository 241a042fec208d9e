"""The machine and the versions a measurement was made with."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from trackbench import __version__

# Versions worth recording if they took part; distribution names by import name.
_PACKAGES = {
    "acts": "pyacts",
    "hdbscan": "hdbscan",
    "matplotlib": "matplotlib",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}


def machine_facts() -> dict[str, str | int]:
    """What timings depend on: cpu (model), cpus (usable by this process), system, arch."""
    return {"cpu": _cpu_model(), "cpus": usable_cpus(), "system": platform.system(), "arch": platform.machine()}


def versions() -> dict[str, str]:
    """Versions of Python, trackbench and those packages of ``_PACKAGES`` that are loaded."""
    loaded = {name: distribution for name, distribution in _PACKAGES.items() if name in sys.modules}
    found = {"python": platform.python_version(), "trackbench": __version__}
    return found | {distribution: metadata.version(distribution) for distribution in loaded.values()}


def surroundings(threads: int) -> dict:
    """What the bits of a result may depend on beside its inputs: threads (of the job), machine and versions."""
    return {"threads": threads, "machine": machine_facts(), "versions": versions()}


def usable_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: str) -> str:
    """Name of the processor behind "cpu" or "cuda"; loads torch for the latter only."""
    if not device.startswith("cuda"):
        return _cpu_model()
    import torch

    return torch.cuda.get_device_name(device)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
