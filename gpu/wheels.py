"""Download the wheels that a machine without network needs beside torch: ``wheels.py FOLDER``.

For Python 3.12 on x86-64 Linux; needs a network. Documents inside Pythia's wheel are left out, so that all fit into
what a lent machine takes.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

# The versions of requirements.in, with what they need and a machine with torch and scikit-learn lacks.
PACKAGES = (
    "pyacts==48.1.0",
    "pythia8mc==8.317.2",
    "hdbscan==0.8.44",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "attrs==26.1.0",
    "typing-extensions==4.16.0",
)
GLIBC = (17, 24, 27, 28, 31, 34)  # pip matches each number exactly
UNNEEDED = ("/htmldoc/", "/pdfdoc/")
LIMIT_MB = 56.0  # 10^6 * 1.048576 bytes; the machine takes 64 with the working tree


def download(folder: Path) -> None:
    """Download all of ``PACKAGES`` into ``folder``, one wheel each."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    platforms = [f"--platform=manylinux_2_{number}_x86_64" for number in GLIBC] + ["--platform=manylinux2014_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--implementation=cp", *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", str(folder), *PACKAGES], check=True)


def slim(wheel: Path) -> None:
    """Write a wheel again without the files of ``UNNEEDED``, also not listed in its RECORD."""
    slimmed = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(slimmed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for member in source.infolist():
            if _is_unneeded(member.filename):
                continue
            content = source.read(member)
            if member.filename.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if not _is_unneeded(line)).encode()
            new.writestr(member, content, zipfile.ZIP_DEFLATED, 9)
    slimmed.replace(wheel)


def _is_unneeded(name: str) -> bool:
    return any(part in name for part in UNNEEDED)


def main() -> None:
    folder = Path(sys.argv[1])
    download(folder)
    for wheel in sorted(folder.glob("pythia8mc-*.whl")):
        slim(wheel)
    sizes = {path.name: path.stat().st_size / 2**20 for path in sorted(folder.glob("*.whl"))}
    for name, size in sizes.items():
        sys.stdout.write(f"{size:7.2f} MiB  {name}\n")
    total = sum(sizes.values())
    sys.stdout.write(f"{total:7.2f} MiB  in all, at most {LIMIT_MB:g}\n")
    if total > LIMIT_MB:
        sys.exit(f"error: {total:.1f} MiB are more than {LIMIT_MB:g}")


if __name__ == "__main__":
    main()
