"""Build a local conda channel from the packages that are installed in a virtual environment.

    python channel.py --packages DIR --out CHANNEL [--stub NAME ...] NAME ...

Runs with the tools of requirements.txt. NAME are distributions of PyPI; what they require is added. The package
`python` is a copy of the running interpreter and its standard library. A stub has name, version and dependencies of
the installed distribution but no files: enough for the solver. Packages that are there already are kept.
"""

import argparse
import asyncio
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import zstandard
from names import NOT_LOCKED, conda_name, normal
from packaging.requirements import Requirement
from rattler import Subdir
from rattler.index import index_fs

HERE = Path(__file__).resolve().parent
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "sitecustomize.py"}
STAMP = 1_600_000_000  # one time for everything that has none of its own


def source_digest():
    """Digest of what decides the content of a package, for its build string."""
    names = ("channel.py", "names.py", "sitecustomize.py")
    text = b"".join((HERE / name).read_bytes() for name in names) + sys.version.encode()
    return hashlib.sha256(text).hexdigest()[:8]


def closure(names, packages):
    """Distributions of ``names`` and of all they require in this environment, by normalised name."""
    installed = {normal(found.metadata["Name"]): found for found in importlib.metadata.distributions(path=[packages])}
    todo, found = [normal(name) for name in names], {}
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in installed:
            raise SystemExit(f"channel.py: {name} is not installed in {packages}")
        found[name] = installed[name]
        todo += [normal(requirement.name) for requirement in requirements(installed[name])]
    return found


def requirements(distribution):
    """What a distribution requires here, without extras."""
    wanted = map(Requirement, distribution.requires or [])
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def depends(distribution):
    """Dependencies of a distribution as conda writes them."""
    wanted = [f"python {PYTHON.removeprefix('python')}.*"]
    wanted += [f"{conda_name(one.name)} {one.specifier}".strip() for one in requirements(distribution)]
    return sorted(wanted)


def distribution_files(distribution):
    """(path in the package, file) of a distribution; scripts and tests are left out."""
    for path in distribution.files or ():
        source = Path(distribution.locate_file(path))
        if not {"..", "tests"} & set(path.parts) and source.is_file():
            yield f"lib/{PYTHON}/site-packages/{path.as_posix()}", source


def python_files():
    """(path in the package, file) of the interpreter and the standard library."""
    yield f"bin/{PYTHON}", Path(sys.base_prefix, "bin", PYTHON).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*")):
        parts = path.relative_to(library).parts
        unused = parts[0].startswith("config-") or ".opt-" in path.name
        if path.is_file() and not LEFT_OUT & set(parts) and not unused:
            yield f"lib/{PYTHON}/{'/'.join(parts)}", path.resolve()
    yield f"lib/{PYTHON}/sitecustomize.py", HERE / "sitecustomize.py"


class Package:
    """One .conda file in the making: what goes into it is added, then it is written."""

    def __init__(self, folder, name, version, wanted, kind="local"):
        self.index = {
            "name": name,
            "version": version,
            "build": f"{kind}_{source_digest()}",
            "build_number": 0,
            "depends": wanted,
            "subdir": folder.name,
            "platform": folder.name.partition("-")[0],
            "arch": platform.machine(),
            "timestamp": STAMP * 1000,
        }
        self.stem = f"{name}-{version}-{self.index['build']}"
        self.target = folder / f"{self.stem}.conda"

    def write(self, files=(), links=()):
        """Write the package. files: (path inside, file), links: (path inside, target beside it)."""
        paths, payload = [], io.BytesIO()
        with _compressed(payload) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            for inside, source in sorted(files):
                archive.add(source, inside, recursive=False, filter=_anonymous)
                digest = hashlib.sha256(source.read_bytes()).hexdigest()
                size = source.stat().st_size
                paths.append({"_path": inside, "path_type": "hardlink", "sha256": digest, "size_in_bytes": size})
            for inside, target in links:
                entry = tarfile.TarInfo(inside)
                entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, STAMP
                archive.addfile(entry)
                paths.append({"_path": inside, "path_type": "softlink"})
        about = io.BytesIO()
        with _compressed(about) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            _add_json(archive, "info/index.json", self.index)
            _add_json(archive, "info/paths.json", {"paths": paths, "paths_version": 1})
        unfinished = self.target.with_suffix(".part")
        with zipfile.ZipFile(unfinished, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            archive.writestr(f"pkg-{self.stem}.tar.zst", payload.getvalue())
            archive.writestr(f"info-{self.stem}.tar.zst", about.getvalue())
        unfinished.replace(self.target)


def _compressed(stream):
    return zstandard.ZstdCompressor(level=1, threads=-1).stream_writer(stream, closefd=False)


def _anonymous(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add_json(archive, name, content):
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(data), STAMP
    archive.addfile(entry, io.BytesIO(data))


def build(names, stubs, packages, channel):
    """Write the packages that are missing, remove those of another build, index the channel."""
    folder = channel / str(Subdir.current())
    for path in (folder, channel / "noarch"):
        path.mkdir(parents=True, exist_ok=True)
    made = Package(folder, "python", ".".join(map(str, sys.version_info[:3])), [])
    kept = {made.target}
    if not made.target.exists():
        made.write(python_files(), [("bin/python", PYTHON), ("bin/python3", PYTHON)])
    full = closure(set(names) - NOT_LOCKED, packages)
    for name, found in closure({*names, *stubs} - {"python"}, packages).items():
        version = found.version.partition("+")[0]
        made = Package(folder, conda_name(name), version, depends(found), "local" if name in full else "stub")
        kept.add(made.target)
        if not made.target.exists():
            made.write(distribution_files(found) if name in full else ())
    for path in {*folder.glob("*.conda")} - kept:
        path.unlink()
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", required=True, help="site-packages directory with the distributions")
    parser.add_argument("--out", required=True, type=Path, help="directory of the channel")
    parser.add_argument("--stub", nargs="*", default=[], help="distributions to declare without their files")
    parser.add_argument("names", nargs="+", help="distributions to package")
    options = parser.parse_args()
    build(options.names, options.stub, options.packages, options.out)


if __name__ == "__main__":
    main()
    os._exit(0)  # the threads of py-rattler 0.28 often crash the interpreter at its end
