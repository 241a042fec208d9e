"""The scripts of ``gpu/``: the tiny chain in two calls, the benchmark, slim wheels."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trackbench.trackers.layers.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]


def call(script, out, work, minutes, *options):
    """Run a script on the tiny configuration; returns what it printed."""
    command = [sys.executable, str(ROOT / "gpu" / script), "--config", str(ROOT / "gpu/tiny.yaml"), "--device", "cpu"]
    command += ["--out", str(out), "--work", str(work), "--minutes", str(minutes), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=work.parent, timeout=300).stdout


@pytest.mark.slow
def test_the_tiny_chain_in_two_calls(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    options = ("--reserve", "8", "--workers", "1", "--threads", "1")
    first = call("train.py", out, work, 0.01, *options)
    assert "not done: the same command goes on" in first
    assert "| heptv2_seeded | pileup-1 | not begun | 0 of 8 |" in first
    assert "| contrastive | 3-6 | not begun | 0 of 40 |" in first
    assert not json.loads((out / "gpu-train.json").read_text())["finished"]
    second = call("train.py", out, work, 4, *options)
    assert "all done" in second
    assert second.rstrip().splitlines()[-1].startswith("Trained on device cpu")
    record = json.loads((out / "gpu-train.json").read_text())
    assert record["finished"]
    assert {"commit", "code", "device", "versions", "seed", "machine"} <= set(record)
    assert [(model["model"], model["set"], model["steps"]) for model in record["models"]] == [
        ("heptv2_seeded", "pileup-1", 8),
        ("heptv2", "pileup-1", 6),
        ("contrastive", "3-6", 40),
        ("contrastive", "6-12", 40),
        ("encreg", "3-6", 20),
    ]
    scores = {(row["set"], row["row"]) for row in record["metrics"] if row["metric"] == "trackml_score/event_mean"}
    rows = ("hit_angles", "true_targets", "contrastive", "encreg")
    assert any(row.startswith("true_classes_") for _, row in scores)
    assert {("3-6", row) for row in rows} <= scores
    for row in rows:
        assert f"| {row}" in second
    check_whole_events(record, second)
    archives = [f"weights-{name}.zip" for name in ("3-6", "6-12", "pileup-1-heptv2", "pileup-1-heptv2_seeded")]
    names = sorted(path.name for path in out.iterdir())
    assert names == ["gpu-train.json", "model-card.md", "tables.md", *archives]
    with zipfile.ZipFile(out / "weights-3-6.zip") as archive:
        archive.extract("encreg-3-6.pt", tmp_path)
    facts = load_weights(tmp_path / "encreg-3-6.pt", ("encreg",))[1]
    assert (facts["set"], facts["label"]) == ("3-6", "dry run")
    assert "SHA-256" in (out / "model-card.md").read_text()


def check_whole_events(record, printed):
    """Rows of both samples, noise kept and removed by truth, with quoted ones and errors."""
    assert set(record["collisions"]) == {"pileup-1", "pileup-1-filtered"}
    for name, rows in record["collisions"].items():
        dm = {row["tracker"]: row for row in rows if row["metric"] == "dm" and row["region"] == "all"}
        assert set(dm) == {"helix_finder", "heptv2_seeded (dry run)", "heptv2 (dry run)", "heptv2", "hept_dbscan"}
        assert ("REMOVED BY TRUTH" in dm["helix_finder"]["selection"]) == name.endswith("filtered")
        assert dm["heptv2"]["source"].startswith("quoted")
        assert dm["helix_finder"]["lo"] < dm["helix_finder"]["value"] > 0.5
    kept, removed = (record["samples"][name] for name in ("pileup-1", "pileup-1-filtered"))
    assert kept["n_events"] == removed["n_events"] == 6
    assert kept["n_hits_mean"] > removed["n_hits_mean"]
    assert "Target: DM 98.6 %, fakes 0.8 %" in printed
    assert "The same events once as the sample pileup-1 (" in printed


@pytest.mark.slow
def test_the_benchmark_without_a_gpu(tmp_path):
    printed = call("bench.py", tmp_path / "out", tmp_path / "work", 3)
    record = json.loads((tmp_path / "out/gpu-bench.json").read_text())
    assert all(row["good"] for row in record["equality"])
    assert {row["backend"] for row in record["equality"]} == {"sdpa", "varlen", "flex"}
    assert {row["mask"] for row in record["training_layers"]} < {row["mask"] for row in record["layers"]}
    assert {row["model"] for row in record["latency"]} == {"contrastive", "encreg", "published EncReg"}
    assert {row["n_tracks"] for row in record["latency"]} == {10, 20}
    assert {row["network"] for row in record["heptv2"]} == {"heptv2_seeded on pileup-1", "heptv2 on pileup-1"}
    assert {row["path"] for row in record["heptv2"]} == {"float32", "bfloat16", "bfloat16, compiled"}
    assert not any("left_out" in row for row in record["heptv2"])
    assert "Largest differences: float32 forward" in printed


def load_script(name):
    """A script of ``gpu/`` as a module."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", ROOT / f"gpu/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_slim_wheels_lack_documents_only(tmp_path):
    wheel = tmp_path / "x-1-py3-none-any.whl"
    members = {"x.py": "a = 1\n", "x-1.data/data/share/x/htmldoc/a.html": "long", "x-1.data/data/share/x/y.dat": "1"}
    listed = "".join(f"{name},,\n" for name in members)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**members, "x-1.dist-info/RECORD": listed}.items():
            archive.writestr(name, text)
    load_script("wheels").slim(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist() == ["x.py", "x-1.data/data/share/x/y.dat", "x-1.dist-info/RECORD"]
        assert archive.read("x-1.dist-info/RECORD").decode() == "x.py,,\nx-1.data/data/share/x/y.dat,,\n"
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_wheels_are_the_versions_of_the_requirements():
    packages = dict(line.split("==") for line in load_script("wheels").PACKAGES)
    lines = (ROOT / "requirements.in").read_text().splitlines()
    required = dict(line.split("==") for line in lines if "==" in line)
    assert {name: packages[name] for name in ("pyacts", "pythia8mc", "hdbscan", "jsonschema")} == {
        name: required[name] for name in ("pyacts", "pythia8mc", "hdbscan", "jsonschema")
    }


def test_what_fits_the_device_is_never_installed(tmp_path, monkeypatch):
    setup = load_script("setup")
    for name in ("torch-2-cp312.whl", "nvidia_x-1-py3.whl", "hdbscan-0-cp312.whl"):
        (tmp_path / name).touch()
    commands = []

    def noted(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(setup.subprocess, "run", noted)
    setup._install(tmp_path, tmp_path / "site")
    assert [part for part in commands[0] if part.endswith(".whl")] == [str(tmp_path / "hdbscan-0-cp312.whl")]
    assert {"--no-index", "--no-deps", "--target"} <= set(commands[0])
    with pytest.raises(SystemExit, match="no wheels"):
        setup._install(tmp_path / "empty", tmp_path / "site")
