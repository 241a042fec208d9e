"""Stand-in for the executable `conda`: what Snakemake calls, on py-rattler, with a directory as its only channel.

    python stand_in.py HOME info --json | --version | config --get ... | env create --file F --prefix P | clean

HOME holds the channel directory `conda-forge`, the package cache and `bin/activate`; nothing is read from a network.
`env solve --file F` is ours: it prints the packages that a file asks for without installing them.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import yaml
from rattler import Channel, ChannelConfig, Subdir, install, solve
from rattler.exceptions import SolverError

VERSION = "conda 24.7.1"  # the oldest that Snakemake accepts


def specs_of(path):
    """Specifications in an environment file. A pip: section raises ValueError: it would need the network."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    specs = content["dependencies"]
    if any(isinstance(entry, dict) for entry in specs):
        raise ValueError(f"{path}: this stand-in for conda cannot install pip: sections")
    return [name for name in content["channels"] if name != "nodefaults"], specs


async def records_of(home, channels, specs):
    config = ChannelConfig(f"{home.as_uri()}/")
    return await solve([Channel(name, config) for name in channels], specs, platforms=[Subdir.current(), "noarch"])


async def create(home, channels, specs, prefix):
    records = await records_of(home, channels, specs)
    await install(records, prefix, cache_dir=home / "packages", show_progress=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("home", type=lambda text: Path(text).resolve())
    parser.add_argument("command", nargs="+")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--prefix", type=Path)
    if sys.argv[2:] == ["--version"]:
        return VERSION
    options, _ = parser.parse_known_args()
    if options.command == ["info"]:
        return json.dumps({"conda_prefix": str(options.home), "platform": str(Subdir.current())})
    if options.command[0] == "config":
        return json.dumps({"get": {"channel_priority": "strict"}})
    if options.command == ["env", "create"]:
        asyncio.run(create(options.home, *specs_of(options.file), options.prefix))
    elif options.command == ["env", "solve"]:
        records = asyncio.run(records_of(options.home, *specs_of(options.file)))
        return "\n".join(sorted(f"{record.name.normalized}={record.version}" for record in records))
    elif options.command[0] != "clean":
        raise ValueError(f"unknown command {options.command}")
    return ""


if __name__ == "__main__":
    code = 0
    try:
        sys.stdout.write(main() + "\n")
    except (SolverError, ValueError) as error:
        sys.stderr.write(f"conda: {error}\n")
        code = 1
    sys.stdout.flush()
    os._exit(code)  # the threads of py-rattler 0.28 often crash the interpreter at its end
