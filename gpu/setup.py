"""What the scripts of this folder do first: find the library, install missing packages offline, limit threads."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
# Modules a lent machine may lack; what they need besides is in the folder of wheels too.
NEEDED = ("acts", "pythia8mc", "hdbscan", "jsonschema")
FORBIDDEN = ("torch", "nvidia", "triton")  # never replaced: they fit the device


def set_up(wheels: Path | None, site: Path) -> None:
    """Make trackbench and the packages of ``NEEDED`` importable, here and in processes started from here.

    wheels: folder of ``gpu/wheels.py``, for what is not importable; site: folder they are unpacked into, after
        everything that is installed on the path, so that nothing installed is replaced
    """
    sys.path.insert(0, str(ROOT / "src"))
    # Of worker processes: read when they load their libraries.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    sys.path.append(str(site))
    if missing():
        _install(wheels, site)
        importlib.invalidate_caches()
        if still := missing():
            sys.exit(f"error: {', '.join(still)} not importable and not in {wheels}; see docs/gpu.md (make gpu-wheels)")
    data = site / "share/Pythia8/xmldoc"
    if data.is_dir():
        os.environ["PYTHIA8DATA"] = str(data)  # Pythia looks beside the interpreter otherwise


def missing() -> list[str]:
    """Modules of ``NEEDED`` that cannot be imported."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def _install(wheels: Path | None, site: Path) -> None:
    if wheels is None or not (files := sorted(wheels.glob("*.whl"))):
        sys.exit(f"error: {', '.join(missing())} not importable and no wheels in {wheels}; give WHEELS=<folder>")
    files = [str(path) for path in files if not path.name.startswith(FORBIDDEN)]
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), *files]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        sys.exit(f"error: pip could not install the wheels of {wheels} into {site}")


def origin(commit: str | None) -> dict:
    """Commit and digest of the code, machine, device and versions, for the record.

    commit: where the caller knows it; else that of git, if there is one
    """
    import hashlib
    from importlib import metadata

    import torch

    from trackbench.machine import machine_facts, versions

    digest = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    found = versions()
    for name in ("pyacts", "pythia8mc", "hdbscan", "pyarrow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cuda = torch.cuda.is_available()
    return {
        "commit": commit or _git_commit(),
        "code": digest.hexdigest()[:16],
        "machine": machine_facts(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "versions": found,
    }


def _git_commit() -> str:
    """Hash of the checked-out commit, with a mark if files differ from it; "unknown" without git."""
    try:
        git = ["git", "-C", str(ROOT)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with changes" if changed.stdout.strip() else "")


def say(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
