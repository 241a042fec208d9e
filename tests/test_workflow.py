"""The workflow end to end: one smoke run in a copy of the repository, then what reruns and what stops.

Everything here starts Snakemake, so it is marked slow.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from raw_events import raw_tables, write_raw

from trackbench.data.particle_id import generation_number
from trackbench.data.tracks import PARAMETER_COLUMNS
from trackbench.post_processing import COLUMNS, STEPS

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
TREE = ("Snakefile", "workflow", "config", "src", "profiles", "envs")


def snakemake(folder, *options, config="config/smoke.yaml", timeout=1500):
    """Run Snakemake in ``folder`` with a configuration; returns the finished process."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)


def copy_tree(target):
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            # Compiled kernels are kept, else every copy of the tree compiles for a minute.
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
        else:
            shutil.copy(source, target / name)


def copy_earlier_run(target):
    """Copy the results of ``make smoke``, if there are any, with what Snakemake knows about them.

    Whatever the tree would make otherwise by now is made again, so that this only saves the time.
    """
    if not (ROOT / "results/smoke/report.html").is_file() or not (ROOT / ".snakemake/metadata").is_dir():
        return
    shutil.copytree(ROOT / "results/smoke", target / "results/smoke")
    shutil.copytree(ROOT / ".snakemake/metadata", target / ".snakemake/metadata")
    (target / "results/smoke/report.html").unlink()
    (target / "results/smoke/tables/summary.md").unlink()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Folder of a finished smoke run."""
    folder = tmp_path_factory.mktemp("smoke")
    copy_tree(folder)
    copy_earlier_run(folder)
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "report.html" in done.stderr
    return folder


def planned_rules(folder, *options):
    """Names of the rules a dry run would execute, without ``all``: the table of job counts."""
    done = snakemake(folder, "--dry-run", "--quiet", "host", *options)
    assert done.returncode == 0, done.stderr[-4000:]
    table = (done.stdout + done.stderr).partition("Job stats:")[2].partition("total")[0]
    return set(re.findall(r"^(\w+) +[0-9]+$", table, re.MULTILINE)) - {"all"}


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
    unfitted = pd.read_parquet(results / "tracks/main/dbscan-parameters.parquet")
    assert tuple(unfitted.columns) == PARAMETER_COLUMNS and len(unfitted) == 0
    fitted = pd.read_parquet(results / "tracks/main/helix_finder-parameters.parquet")
    assert len(fitted) > 10
    best = measured[(measured["tracker"] == "helix_finder") & (measured["region"] == "all")]["value"].iloc[0]
    assert best > 0.95  # on nearly empty events


def test_manifest_records_the_beam_spot_and_the_hit_efficiency(smoke):
    manifest = json.loads((smoke / "results/smoke/prepared/main/manifest.json").read_text())
    text = json.dumps(manifest)
    assert manifest["sigma_z"] == 5.5
    assert manifest["hit_efficiency"] == 0.98
    assert "sha256" in text


def test_effects_are_the_same_collisions_under_other_conditions(smoke):
    events = smoke / "results/smoke/events/effects"
    names = [f"shard-{k:04d}/event{10_000_000 + 100_000 * k + 1:09d}-particles.parquet" for k in (0, 1)]
    nominal, varied = (pd.read_parquet(events / name) for name in names)
    primary = [generation_number(frame["particle_id"]) == 0 for frame in (nominal, varied)]
    columns = ["particle_id", "vz", "px", "pz"]
    pd.testing.assert_frame_equal(
        nominal.loc[primary[0], columns].reset_index(drop=True), varied.loc[primary[1], columns].reset_index(drop=True)
    )
    manifest = json.loads((events / "shard-0001/manifest.json").read_text())
    assert (manifest["field"], manifest["misalignment"], manifest["sigma_z"]) == (1.8, 0.1, 5.5)
    assert manifest["drawn_as"] == [10_000_000, 10_000_001]


def test_table_of_effects(smoke):
    table = pd.read_csv(smoke / "results/smoke/tables/effects.csv").set_index(["effect", "metric", "region"])
    assert set(table["tracker"]) == {"helix_finder"}
    assert table.index[0][0] == "nominal"
    assert table.index.get_level_values("effect").nunique() == 2
    particles = pd.read_parquet(smoke / "results/smoke/metrics/effects/helix_finder-particles.parquet")
    mine = particles[particles["event_id"] < 10_100_000]
    assert table.loc[("nominal", "dm", "all"), "n_den"] == len(mine) > 10
    assert table.loc[("nominal", "dm", "all"), "n_num"] == mine["dm"].sum()
    assert "helix_finder" in (smoke / "results/smoke/tables/effects.md").read_text()


def test_sub_events_are_split_by_parent_and_hold_no_noise(smoke):
    prepared = smoke / "results/smoke/prepared"
    parents = pd.read_csv(prepared / "parents/index.csv").set_index("event_id")["split"]
    for name in ("tracks-3-6", "tracks-6-12"):
        index = pd.read_csv(prepared / name / "index.csv")
        assert (index["split"] == parents.loc[index["event_id"] // 1000].to_numpy()).all()
        hits = pd.concat(map(pd.read_parquet, sorted((prepared / name).glob("*-hits.parquet"))))
        assert (hits["particle_id"] > 0).all()
        low, high = map(int, name.split("-")[1:])
        assert hits.groupby("event_id")["particle_id"].nunique().between(low, high).all()


def test_table_of_the_first_phase_has_floor_ceilings_and_labels(smoke):
    table = pd.read_csv(smoke / "results/smoke/tables/trackformers.csv")
    for name in ("3-6", "6-12"):
        kinds = table[table["set"] == name].groupby("kind")["row"].unique()
        assert list(kinds["floor"]) == ["hit_angles"]
        assert {"true_targets", "true_classes_30x30x3", "true_classes_3x3x1"} <= set(kinds["ceiling"])
    trained = set(table.loc[(table["set"] == "3-6") & (table["kind"] == "trained"), "row"])
    assert trained == {"encreg", "enccla", "joint", "contrastive"}
    assert (table.loc[table["kind"] == "trained", "label"] == "smoke test").all()
    text = (smoke / "results/smoke/tables/trackformers.md").read_text()
    assert "simulated" in text and "smoke test" in text
    for name in ("matrix", "decomposition", "masks"):
        assert "simulated" in (smoke / f"results/smoke/tables/{name}.md").read_text().lower()


def test_tables_and_figures_of_low_pile_up(smoke):
    results = smoke / "results/smoke"
    index = pd.read_csv(results / "prepared/pileup-2/index.csv")
    assert index["event_id"].tolist() == list(range(40_000_001, 40_000_009))
    assert index["split"].value_counts().to_dict() == {"train": 4, "val": 2, "test": 2}
    manifest = json.loads((results / "prepared/pileup-2/manifest.json").read_text())
    assert (manifest["pileup"], manifest["hard_process"], manifest["sigma_z"]) == (2.0, "ttbar", 5.5)
    table = pd.read_csv(results / "tables/metrics_pileup-2.csv")
    measured = table[table["source"].str.startswith("measured")]
    assert set(measured["tracker"]) == {"dbscan", "helix_finder", "ckf", "heptv2 (smoke test)", "hept (smoke test)"}
    assert (table["source"].str.startswith("quoted")).any()
    tuned = json.loads((results / "tuned/pileup-2/dbscan.json").read_text())
    assert tuned["metric"] == "dm" and set(tuned["events"]) == set(index.loc[index["split"] == "val", "event_id"])
    summary = (results / "tables/summary_pileup-2.md").read_text()
    for words in ("2 pile-up", "CPU time [ms]", "Jobs ran side by side", "Fake rate [%]", "heptv2 \N{DAGGER}"):
        assert words in summary
    for name in ("overview", "differences", "efficiency_pt", "efficiency_eta", "fake_rate_pt", "fake_rate_eta"):
        assert pd.read_csv(results / f"figures/{name}_pileup-2.csv").shape[0] > 0
    assert "Low pile-up" in (results / "report.html").read_text(encoding="utf-8")


def test_ablation_of_the_rows_of_low_pile_up(smoke):
    results = smoke / "results/smoke"
    table = pd.read_csv(results / "figures/ablation_block_pileup-2.csv")
    assert set(table["row"]) == {"heptv2", "dbscan", "helix_finder", "quoted"}
    facts = json.loads((results / "models/heptv2/pileup-2-facts.json").read_text())
    mine = table[table["row"] == "heptv2"].set_index("metric")
    assert mine.loc["dm", "steps"] == facts["steps"] and mine.loc["dm", "trained"] == "smoke test"
    metrics = pd.read_csv(results / "tables/metrics_pileup-2.csv")
    row = metrics[(metrics["tracker"] == "heptv2 (smoke test)") & (metrics["region"] == "all")].set_index("metric")
    for metric in ("dm", "fake_rate"):
        assert mine.loc[metric, "value"] == pytest.approx(row.loc[metric, "value"], nan_ok=True)
    assert "ablation_block_pileup-2.png" in (results / "report.html").read_text(encoding="utf-8")


def test_table_of_the_steps_after_the_network(smoke):
    tables = smoke / "results/smoke/tables"
    table = pd.read_csv(tables / "post_processing_pileup-2.csv")
    assert tuple(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["step"])) == list(STEPS)
    assert (table["n_events"] == 2).all()
    # The row has neither k-means nor clean-up: it ends with the merging.
    metrics = pd.read_csv(tables / "metrics_pileup-2.csv")
    row = metrics[(metrics["tracker"] == "heptv2 (smoke test)") & (metrics["region"] == "all")]
    merged = table[table["step"] == "merge"].set_index("metric")["value"]
    for metric in ("dm", "perfect"):
        assert merged[metric] == pytest.approx(row.loc[row["metric"] == metric, "value"].iloc[0])
    text = (tables / "post_processing_pileup-2.md").read_text()
    for words in ("heptv2 (smoke test)", "2 test events (simulated", "pT >= 0.9 GeV", "CPU: ", "network on c"):
        assert words in text
    assert "heptv2 (smoke test)" in (tables / "post_processing_pileup-2.html").read_text()
    report = (smoke / "results/smoke/report.html").read_text(encoding="utf-8")
    assert "post_processing_pileup-2.html" in report


def test_figures_of_scaling_and_of_dm_against_time(smoke):
    results = smoke / "results/smoke"
    study = pd.read_csv(results / "tracks/pileup-2/heptv2-scaling.csv")
    assert study[["protocol", "n_hits"]].to_numpy().tolist()[:2] == [["tiled", 200], ["tiled", 500]]
    assert study["pileup"].tolist()[2:] == [10.0] and (study["status"] == "ok").all()
    assert (study["row"] == "heptv2 (smoke test)").all() and study["dm/den"].iloc[2] > 0
    table = pd.read_csv(results / "figures/scaling_pileup-2.csv")
    assert set(table["protocol"]) == {"tiled", "pile-up", "quoted"}
    points = pd.read_csv(results / "figures/dm_latency_pileup-2.csv")
    assert set(points.loc[~points["quoted"], "row"]) == {
        *("dbscan", "helix_finder", "ckf", "hept (smoke test)", "heptv2 (smoke test)"),
    }
    report = (results / "report.html").read_text(encoding="utf-8")
    assert "scaling_pileup-2.png" in report and "dm_latency_pileup-2.png" in report


def test_trained_models_leave_weights_history_and_a_finished_state(smoke):
    models = smoke / "results/smoke/models"
    names = sorted(path.relative_to(models).as_posix() for path in models.rglob("*.pt"))
    few = ["contrastive/3-6", "enccla/3-6", "encreg/3-6", "encreg/6-12", "joint/3-6"]
    trained = [*few, "hept/pileup-2", "heptv2/pileup-2"]
    assert names == sorted(f"{name}{end}" for name in trained for end in (".pt", ".training/finished.pt"))
    facts = json.loads((models / "encreg/3-6-facts.json").read_text())
    assert (facts["steps"], facts["label"], facts["length"]) == (20, "smoke test", 300)
    history = pd.read_csv(models / "encreg/3-6-history.csv")
    assert history["step"].tolist() == [5, 10, 15, 20]


def test_provenance_names_what_made_every_result(smoke):
    results = smoke / "results/smoke"
    table = pd.read_csv(results / "tables/provenance.csv", index_col="result", dtype=str)
    found = {
        path.relative_to(results).as_posix()
        for pattern in ("**/manifest.json", "models/*/*-facts.json", "tuned/**/*.json", "tracks/*/*-run.json")
        for path in results.glob(pattern)
    }
    assert set(table.index) == found | {"this page"} and len(found) > 50
    assert (table["threads"] == "1").all()
    assert table[["python", "trackbench", "numpy"]].notna().all(axis=None)
    assert set(table["torch"].dropna().index) >= {
        "models/heptv2/pileup-2-facts.json",
        "tracks/tracks-3-6/encreg-run.json",
    }
    assert "Every package has one version in all of them." in (results / "tables/provenance.md").read_text()
    assert "provenance.html" in (results / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", ["config/config.yaml", "config/paper.yaml"])
def test_provenance_asks_for_every_manifest(tmp_path, config):
    copy_tree(tmp_path)
    outputs = snakemake(tmp_path, "--summary", config=config).stdout
    made = re.findall(r"^(results/\S+/(?:manifest|tuned/\S+|\S+-facts|\S+-run)\.json)\t", outputs, re.MULTILINE)
    done = snakemake(tmp_path, "--dry-run", "--quiet", "host", config=config)
    planned = (done.stdout + done.stderr).partition("Collect what made each result\n")[2].partition("\n")[0]
    asked = planned.partition("Input files updated by another job: ")[2].split(", ")
    assert sorted(asked) == sorted(made) and len(made) > 20


def test_a_finished_run_has_nothing_left_to_do(smoke):
    assert planned_rules(smoke) == set()


NOT_MATCHED = {"surfaces", "plot_attention", "reconstruct_effects"}  # helix_finder is not tuned
EFFECTS = {"reconstruct_effects", "effects", "plot_effects"}  # run helix_finder only
PLOTS = {f"plot_{name}" for name in ("overview", "rates", "attention", "latency", "stages", "latency_tiled")}
PICTURES = {"plot_projection", "plot_display", "validate_simulation"}
FITTED = {"plot_display", "plot_residuals"}  # of helix_finder, the reference
UNTUNED = {"tune", "surfaces", "plot_attention"}
FEW_PLOTS = {f"plot_{name}" for name in ("fit_accuracy", "label_noise", "masks", "matrix", "parameters")}
FEW_PLOTS |= {"plot_track_latency", "plot_training", "decomposition"}
FEW_ROW = {"reconstruct_subevents", "evaluate_subevents", "plot_fit_accuracy", "trackformers_table"}  # not tuned
TIMED_ROW = {"tune_subevents", "track_latency", "plot_track_latency", "decomposition"}  # of contrastive
TRAINED = {"train", "predictions", "reconstruct_transfer", "plot_matrix", "plot_parameters", "plot_training"}
FEW_SCORED = {"ceilings", "label_noise", "plot_label_noise", "plot_matrix", "plot_parameters"} | FEW_ROW | TIMED_ROW
LOW_PLOTS = {"plot_overview_collisions", "plot_rates_collisions", "plot_dm_latency", "plot_ablation"}
LOW_ROW = {"reconstruct_collisions", "tables_collisions"} | LOW_PLOTS  # of helix_finder, which is not tuned
SCALED = {"scaling", "plot_scaling"}  # of heptv2 too
LOW_STEPS = {"tune_collisions", "post_processing"} | SCALED  # of heptv2
LOW_NETWORK = LOW_ROW | LOW_STEPS | {"evaluate"}
RUNS = {"tune", "reconstruct", "reconstruct_tiled", "evaluate", "tables", "surfaces"}
WITH_MANIFEST = {"train", *(f"{rule}{kind}" for rule in ("tune", "reconstruct") for kind in ("", "_subevents"))}
WITH_MANIFEST |= {"reconstruct_effects", "tune_collisions", "reconstruct_collisions"}


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        ("plotting/latency.py", {"plot_latency", "plot_latency_tiled", "plot_stages"}),
        ("plotting/stages.py", {"plot_stages"}),
        (
            "plotting/style.mplstyle",
            PLOTS | PICTURES | FEW_PLOTS | LOW_PLOTS | {"plot_scaling", "plot_effects", "plot_residuals"},
        ),
        ("evaluation/score.py", set()),  # only the command and users call it
        (
            "evaluation/matching.py",
            ((RUNS | PLOTS | EFFECTS | FITTED) - NOT_MATCHED) | FEW_SCORED | LOW_ROW | LOW_STEPS,
        ),
        ("evaluation/effects.py", {"effects", "plot_effects"}),
        ("plotting/effects.py", {"plot_effects"}),
        (
            "evaluation/summary.py",
            {"tables", "plot_overview", "tables_collisions", "plot_overview_collisions", "plot_dm_latency"},
        ),
        ("evaluation/fit_quality.py", {"plot_residuals", "plot_parameters"}),
        ("trackers/grid_window.py", RUNS | PLOTS),
        ("trackers/helix_hash.py", (RUNS | PLOTS) - UNTUNED),
        ("trackers/helix_finder.py", ((RUNS | PLOTS | EFFECTS | FITTED | FEW_ROW) - UNTUNED) | LOW_ROW),
        ("fitting/gls.py", ((RUNS | PLOTS | EFFECTS | FITTED | FEW_ROW) - UNTUNED) | LOW_ROW | LOW_STEPS),
        ("training/loop.py", FEW_ROW | TIMED_ROW | TRAINED | LOW_NETWORK),
        ("trackers/layers/pairs.py", FEW_ROW | TIMED_ROW | TRAINED | LOW_NETWORK | {"masks", "plot_masks"}),
        ("trackers/latent.py", FEW_ROW | TIMED_ROW),
        ("trackers/encreg.py", FEW_ROW | {"reconstruct_transfer", "plot_matrix"}),
        ("trackers/heptv2.py", LOW_NETWORK),
        ("post_processing.py", {"post_processing"}),
        ("scaling.py", SCALED),
        ("plotting/dm_latency.py", {"plot_dm_latency"}),
        ("simulation/validation.py", {"validate_simulation"}),
    ],
)
def test_editing_a_module_reruns_exactly_the_rules_that_use_it(smoke, module, rerun):
    path = smoke / "src/trackbench" / module
    original = path.read_text()
    try:
        path.write_text(original + "\n# edited\n")
        planned = planned_rules(smoke)
    finally:
        path.write_text(original)
    assert planned == rerun | ({"provenance"} if rerun & WITH_MANIFEST else set())


def test_editing_one_tracker_reruns_only_that_tracker(smoke):
    path = smoke / "src/trackbench/trackers/grid_window.py"
    original = path.read_text()
    try:
        path.write_text(original + "\n# edited\n")
        done = snakemake(smoke, "--dry-run")
    finally:
        path.write_text(original)
    reconstructed = set(re.findall(r"Run (\w+) over the test events of main", done.stdout + done.stderr))
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
    assert "Job stats" not in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


def test_a_part_of_the_workflow_leaves_the_report_as_it_is(smoke):
    report, table = smoke / "results/smoke/report.html", "results/smoke/tables/simulation.csv"
    before = report.stat().st_mtime_ns
    (smoke / table).unlink()
    done = snakemake(smoke, "--", table)
    assert done.returncode == 0 and (smoke / table).exists(), done.stderr[-4000:]
    assert "the report needs all of it" in done.stderr and report.stat().st_mtime_ns == before


def test_without_kaggle_credentials_no_job_starts(tmp_path, monkeypatch):
    copy_tree(tmp_path)
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    done = snakemake(tmp_path, "--config", "data={source: kaggle}")
    assert done.returncode != 0
    assert "no Kaggle credentials found; (1) log in" in done.stderr
    assert "Execute" not in done.stderr and not (tmp_path / "results").exists()


ROWS = """
run: rows
data: {events: {train: 0, val: 1, test: 2}, simulate: {pileup: 3, hard_process: none}}
scan: {pileup: [2, 5], events: 1, tiling: [500]}
effects: {trackers: [dbscan_wide], variations: {nominal: {}}}
trackers:
  dbscan: {}
  dbscan_wide: {tracker: dbscan, barrel_eps: 3}
  finder: {tracker: helix_finder}
surfaces: {}
"""


def test_one_tracker_as_several_rows_of_the_main_table(tmp_path):
    copy_tree(tmp_path)
    (tmp_path / "rows.yaml").write_text(ROWS)
    done = snakemake(tmp_path, "--dry-run", config="rows.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    for sample in ("main", "scan"):
        found = set(re.findall(rf"Run (\w+) over the test events of {sample}", text))
        assert found == {"dbscan", "dbscan_wide", "finder"}
    assert re.findall(r"Run (\w+) over the test events of effects", text) == ["dbscan_wide"]
    assert set(re.findall(r"Tune (\w+) on validation", text)) == {"dbscan", "dbscan_wide"}
    assert set(re.findall(r"Time (\w+) on one event tiled", text)) == {"dbscan", "dbscan_wide", "finder"}
    assert "Plot pulls and resolutions of track parameters" in text  # finder is a tracker that fits
    run = snakemake(tmp_path, "--", "results/rows/tracks/main/dbscan_wide-run.json", config="rows.yaml")
    assert run.returncode == 0, run.stderr[-3000:]
    facts = json.loads((tmp_path / "results/rows/tracks/main/dbscan_wide-run.json").read_text())
    assert (facts["tracker"], facts["module"], facts["settings"]["barrel_eps"]) == ("dbscan_wide", "dbscan", 3.0)


def test_paper_configuration_plans(tmp_path):
    copy_tree(tmp_path)
    done = snakemake(tmp_path, "--dry-run", config="config/paper.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    assert "Download train_2.zip from Kaggle" in text
    planned = set(re.findall(r"Train (\w+) on ([a-z0-9-]+)", text))
    sets = ("10-50", "50-100", "200-500")
    models = ("encreg", "encreg_helix", "enccla", "joint", "contrastive")
    whole = {(model, "trackml") for model in ("heptv2", "heptv2_seeded", "hept")}
    assert planned == {(model, name) for model in models for name in sets} | whole
    assert "Run helix_finder over the test events of trackml" in text
    assert "Run heptv2 over the test events of trackml-filtered" in text  # with the weights of trackml
    assert "Measure the steps after the network on trackml" in text
    assert "Simulate trackml" not in text  # source: data


NETWORKS = {
    "contrastive": (
        {"task": "contrastive", "network": {"targets": "none", "embedding": 8}},
        {"tracker": "latent", "settings": {"space": "embedding"}},
    ),
    "heptv2": ({"task": "heptv2"}, {}),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_on_whole_events_is_one_model_and_one_row(tmp_path, name):
    copy_tree(tmp_path)
    config = yaml.safe_load((tmp_path / "config/smoke.yaml").read_text())
    model, row = NETWORKS[name]
    config["models"]["added"] = {**model, "sets": ["pileup-2"], "training": {"label": "demo"}}
    config["collisions"]["trackers"][name] = {**row, "model": "added"}
    (tmp_path / "added.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = snakemake(tmp_path, "--dry-run", config="added.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    assert "Train added on pileup-2" in text
    assert f"Run {name} over the test events of pileup-2" in text
    assert "exception" not in text.lower()


def test_paper_configuration_plans_on_slurm(tmp_path):
    copy_tree(tmp_path)
    done = snakemake(tmp_path, "--dry-run", "--profile", "profiles/slurm", config="config/paper.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^train +18$", done.stdout + done.stderr, re.MULTILINE)


UNUSUAL = """
run: unusual
data:
  source: local
  local: {path: events.zip}
  events: {train: 0, val: 1, test: 2}
  hit_eta_max: 3.0
  truth_filter: true
  pad_to: 1500
  sectors: {count: 3, overlap: 0.1}
scan: {tiling: [300], calls: 1}
trackers: {dbscan: {}, grid_window: {}}
surfaces: {dbscan: {}}
evaluation: {reference: dbscan, interval: wilson, replicas: 100}
"""


@pytest.fixture(scope="session")
def unusual(tmp_path_factory):
    """Folder of a finished run on local events with every option that changes what a number means."""
    folder = tmp_path_factory.mktemp("unusual")
    copy_tree(folder)
    for event_id in (1, 2, 3):
        write_raw(raw_tables(60, 40, seed=event_id), folder / "raw", event_id)
    with zipfile.ZipFile(folder / "events.zip", "w") as archive:
        for path in sorted((folder / "raw").iterdir()):
            archive.write(path, path.name)
    (folder / "unusual.yaml").write_text(UNUSUAL)
    done = snakemake(folder, config="unusual.yaml")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "results/unusual"


@pytest.mark.parametrize("name", ["metrics.csv", "summary.md", "summary.tex", "surfaces.csv", "surfaces.md"])
def test_every_table_says_that_truth_filtered_the_hits(unusual, name):
    text = (unusual / "tables" / name).read_text(encoding="utf-8")
    assert "truth" in text.lower() and "filter" in text.lower()
    assert "eta" in text


def test_unusual_settings_are_recorded_and_named(unusual):
    run = json.loads((unusual / "tracks/main/dbscan-run.json").read_text())
    assert run["tracker"] == "dbscan"
    assert run["sectors"] == {"count": 3, "overlap": 0.1}
    assert run["pad_to"] == 1500
    table = pd.read_csv(unusual / "tables/metrics.csv")
    measured = table[table["source"].str.startswith("measured")]
    assert not measured["source"].str.contains("simulated").any()
    headline = measured[measured["metric"] == "dm"]["selection"]
    assert headline.str.contains("3 phi sectors").all()
    assert "Wilson" in (unusual / "tables/summary.md").read_text()


def test_report_captions_follow_the_configuration(unusual):
    report = (unusual / "report.html").read_text(encoding="utf-8")
    assert "Clopper" not in report
    assert "2 test events" in report
    assert "real pile-up scan" not in report
