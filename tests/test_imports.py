"""The import rules of docs/architecture.md, read from the source text."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trackbench.trackers.base

SOURCE = Path(__file__).resolve().parents[1] / "src"

# Package or module -> the parts of trackbench it may import besides itself; a dotted name allows that module only.
ALLOWED = {
    "trackbench": set(),
    "errors": set(),
    "files": {"errors"},
    "parquet": {"errors"},
    "geometry": {"errors"},
    "data": {"errors", "files", "parquet", "geometry"},
    "simulation": {"errors", "files", "parquet", "geometry", "data"},
    "fitting": {"errors", "files", "geometry", "data.hits", "data.tracks"},
    "trackers": {"errors", "files", "settings", "geometry", "data.hits", "data.tracks", "fitting"},
    "training": {"errors", "files", "settings", "machine", "memory", "geometry", "data", "trackers"},
    "evaluation": {"errors", "files", "parquet", "geometry", "data", "fitting.vertices"},
    "plotting": {"errors", "files", "evaluation", "geometry", "data"},
    "machine": set(),
    "memory": set(),
    "kernels": {"data.hits", "data.fastcsv", "geometry", "fitting", "trackers"},
    "runner": {"errors", "files", "parquet", "machine", "memory", "data", "trackers", "evaluation"},
    "tuning": {"errors", "files", "data", "trackers", "evaluation"},
    "tiling": {"errors", "data", "trackers"},
    "predictions": {"errors", "files", "parquet", "data", "trackers", "training"},
    "track_latency": {"errors", "machine", "memory", "data", "trackers"},
    "scaling": {"errors", "machine", "memory", "data", "trackers", "evaluation", "tiling"},
    "sectored": {"data", "trackers"},
    "decomposition": {"errors", "data", "trackers", "evaluation", "sectored", "ceilings"},
    "surface_table": {"errors", "files", "geometry", "data", "trackers", "evaluation"},
    "mask_cost": {"errors", "machine", "memory", "trackers"},
    "mask_study": {
        *("errors", "settings", "data", "trackers", "tiling", "surface_table", "mask_cost"),
        "evaluation",
    },
    "ceilings": {"errors", "files", "data", "trackers", "training", "evaluation", "runner"},
    "digest": set(),
    "jobs": {"errors", "files", "machine", "workflow_end"},
    "workflow_end": set(),
    "plan": {"errors", "derived_sets"},
    "reproduce": {"errors", "files", "parquet", "result_rows"},
    "result_rows": set(),
    "provenance": {"errors", "machine", "evaluation.markup"},
    "captions": {"data", "evaluation", "collisions", "derived_sets"},
    "config": {"errors", "trackers", "simulation.config", "learning_config", "collisions", "derived_sets"},
    "derived_sets": {"errors"},
    "ablations": {"errors", "settings", "trackers", "training.config", "learning_config"},
    "collisions": {"errors", "simulation.config", "learning_config", "ablations", "trackers.base"},
    "post_processing": {"errors", "data", "trackers", "evaluation", "fitting"},
    "learning_config": {"errors", "trackers", "settings", "simulation.config", "training.config", "derived_sets"},
    "settings": {"errors"},
    "campaign": {
        *("errors", "files", "data", "simulation", "trackers", "training", "evaluation", "runner", "tuning"),
        *("ceilings", "config", "learning_config", "settings", "backend_checks", "mask_cost", "mask_study", "tiling"),
        *("surface_table", "track_latency", "collisions", "derived_sets", "hept_cost", "memory"),
    },
    "hept_cost": {"trackers"},
    "backend_checks": {"mask_cost", "trackers"},
    "cli": {
        *("errors", "files", "geometry", "data", "simulation", "fitting", "trackers", "training", "evaluation"),
        *("plotting", "reproduce", "kernels", "digest"),
    },
}


def modules():
    """All modules as (dotted name below trackbench, path)."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(part for part in parts[1:] if part != "__init__")
        yield name or "trackbench", path


def imported_names(tree):
    """Dotted names a module imports, at any depth; for ``from a import b`` both ``a.b`` and ``a``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(name, imported):
    """Tell whether module ``name`` (below trackbench) may not import ``imported``."""
    root, _, inner = imported.partition(".")
    if root != "trackbench":
        return root == "snakemake"
    part = name.partition(".")[0]
    if inner.partition(".")[0] in {part, "", "__version__"}:
        return False
    return not any(f"{inner}.".startswith(f"{allowed}.") for allowed in ALLOWED[part])


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_module_imports_only_what_it_may(name, path):
    assert name.partition(".")[0] in ALLOWED, f"{name} is new: add it here and to docs/architecture.md"
    found = set(imported_names(ast.parse(path.read_text(encoding="utf-8"))))
    assert not sorted(imported for imported in found if forbidden(name, imported))


def test_the_rules_forbid_what_they_should():
    for name, imported in [
        ("geometry.x", "trackbench.data.hits.Hits"),
        ("trackers.x", "trackbench.data.truth.Truth"),
        ("trackers.x", "trackbench.evaluation.metrics"),
        ("evaluation.x", "trackbench.trackers.base"),
        ("plotting.x", "trackbench.trackers.base"),
        ("data.x", "snakemake.script"),
        ("errors", "trackbench.files"),
    ]:
        assert forbidden(name, imported), (name, imported)
    for name, imported in [("trackers.x", "trackbench.data.hits.Hits"), ("cli.x", "trackbench.trackers.base")]:
        assert not forbidden(name, imported), (name, imported)


def loaded_by(statement):
    """Top-level packages that ``statement`` loads in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


HEAVY = {"torch", "sklearn", "hdbscan", "numba", "scipy", "matplotlib", "plotly", "acts", "pythia8mc", "snakemake"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import trackbench", HEAVY | {"numpy", "pandas"}),
        ("import trackbench.cli.main", HEAVY | {"numpy", "pandas"}),
        ("import trackbench.trackers.base", HEAVY),
        ("from trackbench.trackers.base import *; [load_module(name) for name in tracker_names()]", HEAVY),
        ("from trackbench.trackers.layers import acts_event, acts_finding, acts_passes", HEAVY),
        ("import trackbench.data", HEAVY),
        ("import trackbench.geometry", HEAVY | {"pandas"}),
    ],
)
def test_import_is_light(statement, absent):
    loaded = loaded_by(statement)
    assert "trackbench" in loaded
    assert not loaded & absent


def test_the_tests_run_on_this_checkout():
    """The editable install or pythonpath must not point elsewhere, or all of the above says nothing."""
    assert Path(trackbench.trackers.base.__file__).is_relative_to(SOURCE)
