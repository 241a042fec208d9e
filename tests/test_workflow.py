"""The workflow end to end: one smoke run in a copy of the repository, then what reruns and what stops.

Everything here starts Snakemake, so it is marked slow.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
TREE = ("Snakefile", "workflow", "config", "src", "profiles", "envs")


def snakemake(folder, *options, timeout=600):
    """Run Snakemake in ``folder`` with the smoke configuration; returns the finished process."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/smoke.yaml", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)


def copy_tree(target):
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, target / name)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Folder of a finished smoke run."""
    folder = tmp_path_factory.mktemp("smoke")
    copy_tree(folder)
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "report.html" in done.stderr
    return folder


def planned_rules(folder, *options):
    """Names of the rules a dry run would execute, without ``all``."""
    done = snakemake(folder, "--dry-run", "--quiet", "host", *options)
    assert done.returncode == 0, done.stderr[-4000:]
    return set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)) - {"all"}


def test_smoke_run_writes_report_tables_and_figures(smoke):
    results = smoke / "results/smoke"
    report = (results / "report.html").read_text(encoding="utf-8")
    assert len(report) > 1_000_000
    assert "TrackML" in report
    for kind in ("pdf", "png", "csv"):
        assert (results / f"figures/efficiency_pt.{kind}").stat().st_size > 100
    table = pd.read_csv(results / "tables/metrics.csv")
    columns = "tracker,metric,region,value,lo,hi,n_num,n_den,n_events,selection,definition_version,source"
    assert ",".join(table.columns) == columns
    measured = table[(table["metric"] == "dm") & (table["source"].str.startswith("measured"))]
    assert set(measured["tracker"]) >= {"helix_hash", "dbscan", "grid_window"}
    best = measured[(measured["tracker"] == "helix_hash") & (measured["region"] == "all")]["value"].iloc[0]
    assert best > 0.7  # helix_hash on nearly empty events


def test_manifest_records_the_beam_spot_and_the_hit_efficiency(smoke):
    manifest = json.loads((smoke / "results/smoke/prepared/main/manifest.json").read_text())
    text = json.dumps(manifest)
    assert manifest["sigma_z"] == 5.5
    assert manifest["hit_efficiency"] == 0.98
    assert "sha256" in text


def test_a_finished_run_has_nothing_left_to_do(smoke):
    assert planned_rules(smoke) == set()


@pytest.mark.parametrize(
    ("module", "rerun", "kept"),
    [
        ("plotting/latency.py", {"plot_latency", "plot_latency_tiled"}, {"simulate", "reconstruct", "plot_rates"}),
        ("plotting/style.mplstyle", {"plot_rates", "plot_overview"}, {"simulate", "tune", "evaluate", "tables"}),
        ("evaluation/metrics.py", {"evaluate", "tune"}, {"simulate", "prepare", "generator"}),
        ("trackers/grid_window.py", {"tune", "reconstruct", "surfaces"}, {"simulate", "prepare", "index"}),
    ],
)
def test_editing_a_module_reruns_the_rules_that_use_it(smoke, module, rerun, kept):
    path = smoke / "src/trackbench" / module
    original = path.read_text()
    try:
        path.write_text(original + "\n# edited\n")
        planned = planned_rules(smoke)
    finally:
        path.write_text(original)
    assert rerun <= planned
    assert not kept & planned


def test_editing_one_tracker_reruns_only_that_tracker(smoke):
    path = smoke / "src/trackbench/trackers/grid_window.py"
    original = path.read_text()
    try:
        path.write_text(original + "\n# edited\n")
        done = snakemake(smoke, "--dry-run")
    finally:
        path.write_text(original)
    reconstructed = set(re.findall(r"output: \S+/tracks/main/(\w+)\.parquet", done.stdout))
    assert reconstructed == {"grid_window"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data={sorce: local}", "config key data.sorce: unknown key"),
        ("seed=many", "config key seed: value 'many' is a str, expected type integer"),
        ("trackers={helix_hsah: {}}", "tracker 'helix_hsah': does not exist"),
    ],
)
def test_a_mistaken_configuration_stops_before_any_job(tmp_path, setting, words):
    copy_tree(tmp_path)
    done = snakemake(tmp_path, "--config", setting)
    assert done.returncode != 0
    assert words in done.stderr
    assert "rule " not in done.stdout
    assert not (tmp_path / "results").exists()


def test_paper_configuration_plans(tmp_path):
    copy_tree(tmp_path)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/paper.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "download" in done.stdout
