"""The first-phase table and the train-test matrix: values by hand, floor and ceilings, quoted rows, errors."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_events import make_truth

from trackbench.errors import ConfigError, InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.intervals import event_bootstrap
from trackbench.evaluation.tables import Measured
from trackbench.evaluation.trackformers import (
    COLUMNS,
    Entry,
    FirstPhaseOptions,
    first_phase_table,
    ratios_by_event,
    read_entries,
    timing_statement,
)
from trackbench.evaluation.trackformers_matrix import matrix_lines, matrix_markdown, matrix_table
from trackbench.evaluation.trackformers_published import noise_rows, read_published
from trackbench.evaluation.trackformers_text import first_phase_latex, first_phase_markdown

PUBLISHED = Path(__file__).resolve().parents[1] / "config" / "published_trackformers.csv"
ALL = TruthSelection(pt_min=0.0, eta_max=float("inf"), min_layers=1, layer_rule="hits")
DAGGER = "\N{DAGGER}"

# Two events: particle 1 (2 GeV, 4 hits), particle 2 (0.5 GeV, 3 hits) and, in the first, particle 3 (2 GeV, 2 hits).
PARTICLES = {1: [1] * 4 + [2] * 3 + [3] * 2, 2: [1] * 4 + [2] * 3}
KINEMATICS = {1: (2.0, 0.1), 2: (0.5, -0.4), 3: (2.0, 1.0)}
PERFECT = {1: [0] * 4 + [1] * 3 + [2] * 2, 2: [0] * 4 + [1] * 3}
# Event 1: 3 of 4 hits of particle 1 + 1 hit of particle 2; 2 of 3 hits of particle 2. Event 2: all in one cluster of
# which particle 1 has 4 of 7.
POOR = {1: [0, 0, 0, -1, 0, 1, 1, -1, -1], 2: [0] * 7}


def measured(labels, selection=ALL, timing=None, run=None):
    results = []
    for event, ids in PARTICLES.items():
        truth = make_truth(ids, {pid: KINEMATICS[pid] for pid in sorted(set(ids))}, event_id=event)
        results.append(evaluate_event(np.array(labels[event]), truth, selection))
    rows = [(r.event_id, name, *pair) for r in results for name, pair in r.counts.items()]
    counts = pd.DataFrame(rows, columns=["event_id", "metric", "num", "den"])
    frames = (pd.concat([getattr(r, name) for r in results], ignore_index=True) for name in ("particles", "candidates"))
    return Measured(counts, *frames, timing, run)


def entries(set_name="10-50", **trained):
    return [
        Entry(set_name, "hit_angles", "floor", measured(POOR)),
        Entry(set_name, "true_targets", "ceiling", measured(PERFECT)),
        Entry(set_name, "encreg", "trained", measured(PERFECT), "demo", set_name, **trained),
    ]


def row(table, name, metric, set_name="10-50"):
    found = table[(table["row"] == name) & (table["metric"] == metric) & (table["set"] == set_name)]
    assert len(found) == 1, f"{len(found)} rows of {metric}"
    return found.iloc[0]


def test_ratios_by_hand():
    """Weights are equal, so the score is the share of hits in good clusters."""
    ratios = ratios_by_event(entries()[0])
    pairs = {name: list(zip(frame["num"], frame["den"], strict=True)) for name, frame in ratios.items()}
    assert pairs["fit_accuracy"] == [(5, 9), (4, 7)]
    assert pairs["dm"] == [(1, 3), (1, 2)]  # the cluster of two hits is too small
    assert pairs["perfect"] == [(0, 3), (0, 2)]
    assert pairs["lhc"] == [(0, 1), (0, 1)]  # 3/4 is not > 3/4
    assert pairs["lhc_all"] == [(0, 2), (0, 1)]
    assert pairs["dm_fast"] == [(1, 1), (1, 1)]  # particle 3 has two hits, particle 2 is slow
    assert np.allclose(ratios["trackml_score"]["num"] / ratios["trackml_score"]["den"], [5 / 9, 4 / 7])


def test_mean_pooled_and_difference():
    table = first_phase_table(entries(), FirstPhaseOptions(replicas=200, seed=3))
    assert tuple(table.columns) == COLUMNS
    mean = row(table, "hit_angles", "fit_accuracy/event_mean")
    values = np.array([5 / 9, 4 / 7])
    assert mean.value == pytest.approx(values.mean())
    assert mean.hi - mean.value == pytest.approx(values.std(ddof=1) / np.sqrt(2))
    pooled = row(table, "hit_angles", "fit_accuracy")
    assert (pooled.value, pooled.n_num, pooled.n_den, pooled.n_events) == (9 / 16, 9, 16, 2)
    assert (pooled.lo, pooled.hi) == pytest.approx(event_bootstrap([5, 4], [9, 7], 200, 3))
    difference = row(table, "encreg", "fit_accuracy/minus:hit_angles")
    assert difference.value == pytest.approx((4 / 9 + 3 / 7) / 2)
    assert difference.hi - difference.value == pytest.approx(np.std([4 / 9, 3 / 7], ddof=1) / np.sqrt(2))
    assert not table["metric"].str.contains("minus").where(table["row"] == "hit_angles", False).any()
    assert row(table, "encreg", "dm/event_mean").value == pytest.approx((2 / 3 + 1) / 2)
    assert row(table, "encreg", "lhc_all/event_mean").value == pytest.approx((2 / 3 + 1) / 2)
    assert row(table, "encreg", "lhc/event_mean").value == 1.0
    assert row(table, "encreg", "n_tracks").value == 2.5 and row(table, "encreg", "n_hits").value == 8.0
    assert row(table, "encreg", "dm").label == "demo"


def test_times_and_weights():
    rows = [(e, 8, s, w, c) for e, f in ((1, 1.0), (2, 3.0)) for s, w, c in (("network", 0.01 * f, 0.02 * f),)]
    rows += [(e, 8, s, 0.1, 0.05) for e in (1, 2) for s in ("clustering", "total")]
    timing = pd.DataFrame(rows, columns=["event_id", "n_hits", "stage", "wall_s", "cpu_s"])
    run = {"n_weights": 76484, "device": "cpu", "threads": 1, "machine": {"cpu": "Test CPU"}}
    items = entries()
    items[2] = Entry("10-50", "encreg", "trained", measured(PERFECT, timing=timing, run=run))
    table = first_phase_table(items)
    network = row(table, "encreg", "network_ms")
    assert (network.value, network.lo, network.hi) == pytest.approx((20.0, 13.2, 26.8))
    assert row(table, "encreg", "network_cpu_ms").value == pytest.approx(40.0)
    assert row(table, "encreg", "clustering_ms").value == pytest.approx(100.0)
    assert row(table, "encreg", "clustering_cpu_ms").value == pytest.approx(50.0)
    assert row(table, "encreg", "n_weights").value == 76484
    assert timing_statement(items) == "Test CPU, device cpu, 1 CPU thread"
    text = first_phase_markdown(table, timing=timing_statement(items))
    line = next(line for line in text.splitlines() if line.startswith("| encreg"))
    assert line.endswith("| 40 | 50 | 76,484 |")  # CPU time: jobs run side by side
    assert "Test CPU, device cpu, 1 CPU thread" in text
    items[2] = Entry("10-50", "encreg", "trained", measured(PERFECT, timing=timing, run={**run, "device": "cuda:0"}))
    text = first_phase_markdown(first_phase_table(items))
    line = next(line for line in text.splitlines() if line.startswith("| encreg"))
    assert line.endswith("| 20 | 50 | 76,484 |")  # a network on a GPU: by the wall clock


def test_one_event_has_no_errors():
    items = entries()
    for i, item in enumerate(items):
        counts = item.measured.counts
        particles = item.measured.particles
        first = Measured(counts[counts["event_id"] == 1], particles[particles["event_id"] == 1])
        items[i] = Entry("10-50", item.row, item.kind, first)
    table = first_phase_table(items)
    assert table.loc[table["metric"] == "dm/event_mean", ["lo", "hi"]].isna().all(axis=None)
    assert "| 0.333 |" in first_phase_markdown(table)  # no error, no plus-minus


@pytest.mark.parametrize(("kind", "example"), [("floor", "hit_angles"), ("ceiling", "true_targets")])
def test_floor_and_ceiling_are_needed(kind, example):
    items = [item for item in entries() if item.kind != kind]
    message = f"first-phase table of 10-50: no {kind} row, expected a row such as {example}"
    with pytest.raises(ConfigError, match=message):
        first_phase_table(items)


def test_rows_that_do_not_compare():
    items = entries()
    counts = items[2].measured.counts
    items[2] = Entry("10-50", "encreg", "trained", Measured(counts[counts["event_id"] == 1]))
    with pytest.raises(InputError, match="1 events for encreg and 2 for hit_angles, not the same ones"):
        first_phase_table(items)
    with pytest.raises(ConfigError, match="row encreg twice"):
        first_phase_table([*entries(), entries()[2]])
    with pytest.raises(ConfigError, match=r"row x of 10-50: kind 'best', expected one of floor, ceiling"):
        Entry("10-50", "x", "best", measured(PERFECT))


def test_another_truth_selection_is_refused():
    items = entries()
    items[2] = Entry("10-50", "encreg", "trained", measured(PERFECT, TruthSelection()))
    message = (
        "particles of encreg of 10-50: its particles hold 4 of 9 hits of event 1, expected all particles with hits"
    )
    with pytest.raises(InputError, match=message):
        first_phase_table(items)


def test_quoted_rows_are_marked_and_of_the_set():
    table = first_phase_table(entries(), published=read_published(PUBLISHED))
    quoted = table[table["kind"] == "quoted"]
    assert set(quoted["row"]) == {"EncReg", "EncCla", "EncDec", "talk"}
    assert quoted["source"].str.startswith("quoted: ").all()
    assert row(table, "EncReg", "trackml_score/event_mean").value == 0.932
    assert row(table, "EncReg", "clustering_ms").value == 5.6
    text = first_phase_markdown(table)
    line = next(line for line in text.splitlines() if line.startswith(f"| EncReg {DAGGER}"))
    assert [cell.strip() for cell in line.split("|")][3] == "0.932"
    assert "Quoted, not measured here" in text and "lhc_all: per cluster of any size" in text
    assert "hidden distortion" not in text  # caveat of a number that the table does not show


def test_lhc_of_the_source_is_per_cluster_of_any_size():
    """It stands in the column of that definition, which is shown even where both definitions agree."""
    text = first_phase_markdown(first_phase_table(entries(), published=read_published(PUBLISHED)))
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")]
    at = lines[0].index("LHC")
    assert lines[0][at + 1] == "LHC, all"
    shown = {line[1]: line[at : at + 2] for line in lines}
    assert shown[f"EncReg {DAGGER}"] == ["\N{EN DASH}", "0.97"]
    assert shown["encreg (demo)"] == ["1.000 ± 0.000", "0.833 ± 0.167"]  # a pure cluster of two hits
    labels = {1: [0] * 4 + [1] * 3 + [-1] * 2, 2: PERFECT[2]}  # no cluster of less than three hits
    large = [Entry("10-50", item.row, item.kind, measured(labels)) for item in entries()]
    assert "| LHC | LHC, all |" in first_phase_markdown(first_phase_table(large))


def test_order_of_the_readable_table():
    items = [*entries(), Entry("10-50", "enccla", "trained", measured(POOR)), *entries("50-100")]
    text = first_phase_markdown(first_phase_table(items, published=read_published(PUBLISHED)), "40 pile-up")
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    first = names[: names.index("Row", 1)]
    expected = ["Row", "---", "hit_angles", "true_targets", "encreg (demo)", "enccla"]
    assert first == [*expected, *(f"{name} {DAGGER}" for name in ("EncReg", "EncCla", "EncDec", "talk"))]
    assert "## 10-50 tracks per event (2 test events; on average 2.5 tracks, 8 hits)" in text
    assert "Measured rows: simulated; 40 pile-up." in text and "A demo is trained for minutes" in text


def test_latex_table():
    text = first_phase_latex(first_phase_table(entries(), published=read_published(PUBLISHED)))
    assert r"hit\_angles & " in text and r"EncReg $^\dagger$ & 0.932" in text and r"$\pm$" in text
    assert not set("†±−–") & set(text)
    begin = text.index(r"\begin{tabular}{") + len(r"\begin{tabular}{")
    columns = len(text[begin : text.index("}", begin)])
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") + 1 for line in lines} == {columns}


def test_files_of_a_run(tmp_path):
    for name, labels in (("hit_angles", POOR), ("true_targets", PERFECT), ("encreg@50-100", PERFECT)):
        folder = tmp_path / "metrics" / "tracks-10-50"
        folder.mkdir(parents=True, exist_ok=True)
        item = measured(labels)
        item.counts.to_csv(folder / f"{name}-counts.csv", index=False)
        item.particles.to_parquet(folder / f"{name}-particles.parquet")
    other = tmp_path / "tracks" / "tracks-10-50"
    other.mkdir(parents=True)
    (other / "hit_angles-run.json").write_text(json.dumps({"device": "cpu"}))
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    rows = [
        {"set": "10-50", "row": "hit_angles", "kind": "floor"},
        {"set": "10-50", "row": "true_targets", "kind": "ceiling"},
        {"set": "10-50", "row": "encreg", "kind": "trained", "file": "encreg@50-100", "trained_on": "50-100"},
    ]
    found = read_entries(rows, paths)
    assert found[0].measured.run == {"device": "cpu"} and found[0].measured.timing is None
    assert found[2].trained_on == "50-100" and found[2].label == ""
    assert len(first_phase_table(found)) > 30
    message = "row enccla of 10-50: no tracks-10-50/enccla-counts.csv among the files, expected its counts"
    with pytest.raises(ConfigError, match=message):
        read_entries([{"set": "10-50", "row": "enccla", "kind": "trained"}], paths)


def test_matrix():
    items = [item for name in ("10-50", "50-100") for item in entries(name)]
    items.append(Entry("50-100", "encreg@10-50", "trained", measured(POOR), "demo", "10-50"))
    items.append(Entry("10-50", "helix_finder", "untrained", measured(POOR)))
    table = matrix_table(items, read_published(PUBLISHED), {"encreg": "EncReg"})
    cells = table[table["kind"] == "trained"].set_index(["trained_on", "set"])
    assert cells.index.is_unique and len(cells) == 9
    assert cells.loc[("10-50", "50-100"), "value"] == pytest.approx((5 / 9 + 4 / 7) / 2)
    assert cells.loc[("10-50", "50-100"), "quoted"] == 0.79
    assert cells.loc[("50-100", "50-100"), "value"] == 1.0 and cells.loc[("50-100", "50-100"), "quoted"] == 0.862
    assert np.isnan(cells.loc[("200-500", "10-50"), "value"]) and cells.loc[("200-500", "10-50"), "quoted"] == 0.8
    assert "helix_finder" not in set(table["row"])
    lines, sets = matrix_lines(table, "encreg")
    assert sets == ["10-50", "50-100", "200-500"]
    assert [text for *_, text in lines][3:] == ["floor: hit_angles", "ceiling: true_targets"]
    text = matrix_markdown(table)
    assert f"| trained on 10-50 | 1.000 ± 0.000 (0.932 {DAGGER}) | 0.563 ± 0.008 (0.79 {DAGGER})" in text
    assert "## encreg (demo)" in text
    assert "+- standard error; measured here (simulated). A demo is trained for minutes" in text


def test_matrix_without_quoted_numbers():
    table = matrix_table(entries())
    assert table["quoted"].isna().all() and len(table) == 3
    assert DAGGER not in matrix_markdown(table)


def test_matrix_errors():
    with pytest.raises(ConfigError, match="train and test matrix: no floor row for 10-50"):
        matrix_table(entries()[1:])
    two = [*entries(), *(item for item in entries("50-100") if item.kind != "ceiling")]
    with pytest.raises(ConfigError, match="train and test matrix: no ceiling row for 50-100"):
        matrix_table(two)
    with pytest.raises(ConfigError, match="matrix metric: 'mse' is not known"):
        matrix_table(entries(), metric="mse")
    with pytest.raises(ConfigError, match=r"quoted_as.encreg: no published row 'EncRag', expected one of EncReg"):
        matrix_table(entries(), read_published(PUBLISHED), {"encreg": "EncRag"})
    nameless = Entry("10-50", "encreg", "trained", measured(PERFECT))
    with pytest.raises(ConfigError, match="row encreg of 10-50 does not say the set of its training"):
        matrix_table([*entries()[:2], nameless])


def test_published_numbers():
    published = read_published(PUBLISHED)
    keys = ["set", "row", "trained_on", "metric", "scale"]
    assert not published.duplicated(keys).any()
    find = published.set_index(["row", "trained_on", "set", "metric"])["value"]
    assert find["EncReg", "200-500", "200-500", "trackml_score"] == 0.70
    assert find["EncReg, flash fp16", "200-500", "all", "trackml_score"] == 0.06
    assert find["EncReg", "50-100", "50-100", "sigma_charge"] == 0.24
    assert find["EncReg", "200-500", "200-500", "n_weights"] == 928388
    assert noise_rows(published)["scale"].tolist() == [0, 0.01, 0.05, 0.1, 0.15]
    assert noise_rows(published)["value"].tolist() == [1, 0.97, 0.77, 0.55, 0.39]
    assert noise_rows(published)["caveat"].str.contains("not said to be the scale").all()
    assert find["EncReg", "10-50", "10-50", "lhc_all"] == 0.97 and "lhc" not in set(published["metric"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("value", "about 1", "line 2: value 'about 1', expected a number"),
        ("scale", "small", "line 2: scale 'small', expected a number or nothing"),
        ("source", " ", "line 2: source ' ', expected some text"),
    ],
)
def test_wrong_published_row(tmp_path, column, value, message):
    entry = {"set": "10-50", "row": "x", "trained_on": "", "metric": "dm", "scale": "", "value": "1", "source": "s"}
    pd.DataFrame([{**entry, "caveat": "", column: value}]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError) as error:
        read_published(tmp_path / "p.csv")
    assert message in str(error.value)


def test_published_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_published(tmp_path / "absent.csv")
    (tmp_path / "p.csv").write_text("set,row\na,b\n")
    with pytest.raises(InputError, match="no column trained_on"):
        read_published(tmp_path / "p.csv")
