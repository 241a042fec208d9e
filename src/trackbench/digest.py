"""Digest of the code a workflow step uses, so that editing a library module reruns just those steps.

Snakemake notices an edited script but not an edited module the script imports. Each rule therefore
carries the digest of everything its script reaches as a parameter; a changed parameter is a reason
to run again. Imports are followed in the source text (also those inside functions), nothing is run.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "trackbench"
SOURCE = Path(__file__).resolve().parents[1]
# Fields of a statement with further ones: handlers of try, cases of match.
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def code_digest(script: str | Path, modules: Iterable[str] = (), source: Path = SOURCE) -> str:
    """Return a short hash of every trackbench file that ``script`` reaches through imports.

    script: Python file of a rule
    modules: further module names it loads by name, such as ``trackbench.trackers.dbscan``
    source: directory that holds the package
    Returns 16 hexadecimal digits; equal if and only if the reached code is equal.
    """
    digest = hashlib.sha256()
    for path in reached_files(script, modules, source):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def reached_files(script: str | Path, modules: Iterable[str] = (), source: Path = SOURCE) -> list[Path]:
    """List the package files that ``script`` imports, directly or not, sorted; the script is not in it.

    Style sheets beside a reached module count as reached.
    """
    todo = [path for name in modules for path in _files_of(name, source)]
    todo += _imported_files(Path(script), source)
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += _imported_files(path, source)
    sheets = {sheet for folder in {path.parent for path in seen} for sheet in folder.glob("*.mplstyle")}
    return sorted(seen | sheets)


def _imported_files(path: Path, source: Path) -> tuple[Path, ...]:
    return _parsed(path, source, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, source: Path, changed_ns: int) -> tuple[Path, ...]:
    del changed_ns  # part of the cache key only: an edited file is parsed again
    names = _names(ast.parse(path.read_text(encoding="utf-8")))
    names = {name for name in names if name.partition(".")[0] == PACKAGE}
    return tuple({file for name in names for file in _files_of(name, source)})


def _names(tree: ast.AST) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below ``node`` except the bodies of ``if TYPE_CHECKING:``, which are never run.

    Expressions, most of a file, are left out: no import can be in one.
    """
    is_typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for field in ("orelse",) if is_typing else _BLOCKS:
        for child in getattr(node, field, ()):
            yield child
            yield from _statements(child)


def _files_of(name: str, source: Path) -> list[Path]:
    """Files run by importing ``name``: the module and the ``__init__`` of each parent package."""
    parts = name.split(".")
    files = [source.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    files.append(source.joinpath(*parts).with_suffix(".py"))
    return [file for file in files if file.is_file()]
