"""Figures of a sample whose hits were removed by truth say so, whatever they show."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from test_ablation import check as ablation_configuration
from test_ablation import measured
from test_plotting import candidates, particles, texts
from test_plotting_scaling import metrics, study

from trackbench.ablations import ablation_rows
from trackbench.data.prepare import DataSelection
from trackbench.evaluation.ablation import ablation_table
from trackbench.plotting.ablation import Words, ablation_figure
from trackbench.plotting.dm_latency import dm_latency_figure
from trackbench.plotting.efficiency import efficiency_figure, fake_rate_figure
from trackbench.plotting.sample import sample_header
from trackbench.plotting.scaling import scaling_figure
from trackbench.plotting.summary import difference_figure, summary_figure

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow/scripts"


def manifest(path, selection):
    """Manifest of a simulated sample with these hits."""
    facts = {"source": "simulate", "pileup": 2, "sigma_z": 5.5, "sigma_z_measured": 5.4, "hard_process": "ttbar"}
    facts |= {"hit_efficiency": 0.98, "n_events_per_split": {"test": 4}, "selection_label": selection.label()}
    path.write_text(json.dumps(facts | {"selection": {"truth_filter": selection.truth_filter}}))
    return path


def ablation(header):
    config = ablation_configuration()
    rows = pd.DataFrame([asdict(found) for found in ablation_rows(config, "one", "pileup-2")])
    table = ablation_table({row: measured([5, 6, 7], [1, 2, 0]) for row in rows["row"]})
    return ablation_figure(table, rows, Words("Blocks", "350 steps"), header)


def differences(header):
    rows = [("dbscan", "hdbscan", "dm", -0.1, -0.2, 0.0)]
    table = pd.DataFrame(rows, columns=["tracker", "reference", "metric", "value", "lo", "hi"])
    return difference_figure(table, header=header)


FIGURES = {
    "scaling": lambda header: scaling_figure(study(), "some CPU, 1 thread", header=header),
    "dm_latency": lambda header: dm_latency_figure(metrics(quoted=False), "some CPU, 1 thread", header),
    "ablation": ablation,
    "overview": lambda header: summary_figure(metrics(quoted=False), ("dm",), header=header),
    "differences": differences,
    "efficiency": lambda header: efficiency_figure({"a": particles()}, header=header),
    "fake_rate": lambda header: fake_rate_figure({"a": candidates()}, header=header),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("removed", [True, False])
def test_figures_say_which_hits_were_removed_by_truth(name, removed, tmp_path):
    path = manifest(tmp_path / "manifest.json", DataSelection(truth_filter=removed))
    figure, _ = FIGURES[name](sample_header(path, {"pt_min": 0.9}))
    found = " ".join(" ".join(texts(figure)).split())
    assert ("REMOVED BY TRUTH (HEPTv2 mode)" in found, "noise kept" in found) == (removed, not removed)


def test_every_figure_of_the_workflow_has_the_header_of_its_sample():
    scripts = sorted(SCRIPTS.glob("plot_*.py"))
    assert len(scripts) >= 19
    assert not [path.name for path in scripts if "sample_header(" not in path.read_text(encoding="utf-8")]
