"""What Python files import, each file read once: files of the library, and packages by their names on conda-forge."""

import ast
import functools
import importlib.metadata
import re
import sys

from trackbench.digest import PACKAGE, SOURCE, _files_of, _names

from . import names

distributions = functools.cache(importlib.metadata.packages_distributions)  # takes a quarter of a second
library_files = functools.cache(lambda module: _files_of(module, SOURCE))
STANDARD = {*sys.stdlib_module_names, PACKAGE, "snakemake"}


@functools.cache
def imported(path):
    """(library files, third-party packages) that a Python file imports itself, at any depth of its functions."""
    found = set(_names(ast.parse(path.read_text(encoding="utf-8"))))
    own = {file for module in found if module.partition(".")[0] == PACKAGE for file in library_files(module)}
    others = {module.partition(".")[0] for module in found} - STANDARD
    return own, {names.conda_name(distributions().get(name, [name])[0]) for name in others}


@functools.cache
def requirements(package):
    """What a package requires itself, such as llvmlite of numba, whose version decides what numba compiles."""
    wanted = importlib.metadata.requires(names.pip_name(package)) or []
    return {names.conda_name(re.match(r"[\w.-]+", line)[0]) for line in wanted if "extra ==" not in line}


def tracker_files(name):
    """Files that loading a tracker by name reads first."""
    return library_files(f"{PACKAGE}.trackers.{name}")


def reached(*paths):
    """These files and all library files that they import, directly or not."""
    todo, found = list(paths), set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported(path)[0]
    return found


def wanted(*paths):
    """Packages that these files and all they reach import: package -> names of files."""
    found = {}
    for path in reached(*paths):
        for package in imported(path)[1]:
            found.setdefault(package, set()).add(path.name)
    return found
