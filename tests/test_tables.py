"""The long table and its summaries: values by hand, variants, quoted rows, errors."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_events import worked_example

from trackbench.errors import InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.definitions import FITTED_METRICS, METRICS
from trackbench.evaluation.intervals import clopper_pearson, event_bootstrap, jeffreys, paired_bootstrap
from trackbench.evaluation.published import is_quoted, read_published
from trackbench.evaluation.summary import summary_latex, summary_markdown
from trackbench.evaluation.tables import COLUMNS, REGIONS, Measured, TableOptions, differences, metrics_table

PUBLISHED = Path(__file__).resolve().parents[1] / "config" / "published.csv"
LABEL = TruthSelection().label()


def counts_frame(values):
    """values: metric -> list of (num, den), one per event."""
    rows = [(i, name, *pair) for name, pairs in values.items() for i, pair in enumerate(pairs)]
    return pd.DataFrame(rows, columns=["event_id", "metric", "num", "den"])


def worked_measured(n_events=3):
    """The worked example evaluated on several equal events."""
    results = [evaluate_event(*worked_example(event_id=i)) for i in range(n_events)]
    rows = [(r.event_id, name, *pair) for r in results for name, pair in r.counts.items()]
    timing = pd.DataFrame(
        [(i, 16, stage, wall, wall / 2) for i in range(n_events) for stage, wall in (("total", 0.1 * (i + 1)),)]
        + [(i, 16, "clustering", 0.02, 0.02) for i in range(n_events)],
        columns=["event_id", "n_hits", "stage", "wall_s", "cpu_s"],
    )
    run = {"peak_memory_mb": 80.0, "first_call_s": 2.5, "threads": 1, "warmup": 1, "device": "cpu"}
    run["machine"] = {"cpu": "Test CPU"}
    counts = pd.DataFrame(rows, columns=["event_id", "metric", "num", "den"])
    particles, candidates = (
        pd.concat([getattr(r, name) for r in results], ignore_index=True) for name in ("particles", "candidates")
    )
    return Measured(counts, particles, candidates, timing, run)


def row(table, tracker, metric, region="all"):
    found = table[(table["tracker"] == tracker) & (table["metric"] == metric) & (table["region"] == region)]
    assert len(found) == 1, f"{len(found)} rows of {metric} in {region}"
    return found.iloc[0]


def test_pooled_value_interval_and_counts():
    values = {"dm": [(9, 10), (30, 40)], "dup_rate": [(1, 9), (3, 30)], "trackml_score": [(0.5, 1.0), (0.7, 1.0)]}
    table = metrics_table({"a": Measured(counts_frame(values))}, TableOptions(LABEL))
    assert tuple(table.columns) == COLUMNS
    dm = row(table, "a", "dm")
    assert (dm.value, dm.n_num, dm.n_den, dm.n_events) == (39 / 50, 39, 50, 2)
    assert (dm.lo, dm.hi) == pytest.approx(clopper_pearson(39, 50))
    assert (dm.selection, dm.source) == (LABEL, "measured here (simulated)")
    duplicates = row(table, "a", "dup_rate")
    assert (duplicates.lo, duplicates.hi) == pytest.approx(event_bootstrap([1, 3], [9, 30]))
    score = row(table, "a", "trackml_score")
    assert score.value == pytest.approx(0.6)
    assert score.selection == "all particles, clusters of any size, weights renormalised to these hits"


def test_mean_over_events_and_its_standard_error():
    values = {"dm": [(9, 10), (30, 40), (0, 0)]}
    table = metrics_table({"a": Measured(counts_frame(values))}, TableOptions(LABEL))
    mean = row(table, "a", "dm/event_mean")
    assert mean.value == pytest.approx((0.9 + 0.75) / 2)
    assert mean.n_events == 2  # the event without targets has no ratio
    assert mean.hi - mean.value == pytest.approx(0.15 / 2)  # std(ddof=1) = 0.15 / sqrt(2), / sqrt(2) events
    assert row(table, "a", "dm").value == pytest.approx(39 / 50)


@pytest.mark.parametrize("n_events", [1, 19, 20])
def test_bootstrap_row_from_twenty_events(n_events):
    rng = np.random.default_rng(0)
    pairs = [(int(k), 50) for k in rng.integers(30, 50, n_events)]
    values = {"dm": pairs, "trackml_score": [(0.6, 1.0)] * n_events}
    table = metrics_table({"a": Measured(counts_frame(values))}, TableOptions(LABEL, seed=5, replicas=500))
    found = table[table["metric"] == "dm/bootstrap"]
    assert len(found) == (n_events >= 20)
    if len(found):
        num, den = np.array(pairs).T
        assert (found["lo"].item(), found["hi"].item()) == pytest.approx(event_bootstrap(num, den, 500, 5))
    assert np.isnan(row(table, "a", "trackml_score").lo) == (n_events == 1)


def test_other_interval():
    table = metrics_table({"a": Measured(counts_frame({"dm": [(2, 2)]}))}, TableOptions(LABEL, interval="jeffreys"))
    assert (row(table, "a", "dm").lo, row(table, "a", "dm").hi) == pytest.approx(jeffreys(2, 2))
    with pytest.raises(InputError, match="interval: 'normal', expected one of clopper-pearson, wilson, jeffreys"):
        TableOptions(LABEL, interval="normal")


def test_paired_differences():
    a, b = {"dm": [(9, 10), (30, 40)]}, {"dm": [(8, 10), (20, 40)]}
    measured = {"a": Measured(counts_frame(a)), "b": Measured(counts_frame(b))}
    table = metrics_table(measured, TableOptions(LABEL, reference="a", seed=3))
    found = differences(table)
    assert found.iloc[0][["tracker", "reference", "metric", "n_events"]].tolist() == ["b", "a", "dm", 2]
    assert len(found) == 1
    expected = paired_bootstrap([8, 20], [10, 40], [9, 30], [10, 40], seed=3)
    assert found[["value", "lo", "hi"]].iloc[0].tolist() == pytest.approx(expected)
    assert found["value"].item() == pytest.approx(28 / 50 - 39 / 50)


def test_no_differences_on_one_event():
    measured = {name: Measured(counts_frame({"dm": [(9, 10)]})) for name in "ab"}
    assert differences(metrics_table(measured, TableOptions(LABEL, reference="a"))).empty


def test_regions():
    """Targets A (eta 0.5) and B (-1.0) are in the barrel, prompt; three fiducial candidates, one not DM."""
    table = metrics_table({"a": worked_measured(2)}, TableOptions(LABEL))
    barrel = row(table, "a", "perfect", "barrel")
    assert (barrel.value, barrel.n_num, barrel.n_den) == (0.5, 2, 4)
    assert (row(table, "a", "fake_dm", "barrel").n_num, row(table, "a", "fake_dm", "barrel").n_den) == (2, 6)
    assert row(table, "a", "dm", "prompt").value == 1.0
    endcap = row(table, "a", "dm", "endcap")
    assert np.isnan([endcap.value, endcap.lo, endcap.hi]).all()
    assert endcap.n_den == 0


def test_regions_of_a_mixed_frame():
    columns = {"event_id": 0, "eta": [1.4, -1.5, 3.0, -0.2], "vr": [0.0, 2.0, 2.1, 30.0]}
    flags = {"dm": [True, True, False, True], "technical": True, "perfect": False}
    counts = counts_frame({"dm": [(3, 4)]})
    table = metrics_table({"a": Measured(counts, pd.DataFrame(columns | flags))}, TableOptions(LABEL))
    found = {region: row(table, "a", "dm", region) for region in REGIONS}
    pairs = {region: (entry.n_num, entry.n_den) for region, entry in found.items()}
    expected = {"barrel": (2, 2), "endcap": (1, 2), "central": (3, 3), "forward": (0, 1)}
    assert pairs == expected | {"prompt": (2, 2), "secondary": (1, 2)}


def test_region_sums_equal_the_whole():
    table = metrics_table({"a": worked_measured(2)}, TableOptions(LABEL))
    for metric in ("dm", "technical", "perfect", "fake_rate", "fake_dm"):
        whole = row(table, "a", metric)
        pairs = [("barrel", "endcap"), ("central", "forward"), ("prompt", "secondary")]
        for pair in pairs[: 2 if metric.startswith("fake") else 3]:
            both = [row(table, "a", metric, region) for region in pair]
            assert (sum(r.n_num for r in both), sum(r.n_den for r in both)) == (whole.n_num, whole.n_den)


def test_latency_and_memory():
    table = metrics_table({"a": worked_measured(3)}, TableOptions(LABEL))
    latency = row(table, "a", "latency_ms")
    assert (latency.value, latency.lo, latency.hi) == pytest.approx((200, 132, 268))
    assert row(table, "a", "latency_ms/p95").value == pytest.approx(290)
    assert row(table, "a", "latency_ms/stage:clustering").value == pytest.approx(20)
    assert row(table, "a", "latency_ms/unattributed").value == pytest.approx(180)
    assert row(table, "a", "cpu_ms").value == pytest.approx(100)
    assert row(table, "a", "peak_memory_mb").value == 80.0
    assert row(table, "a", "first_call_s").value == 2.5
    assert latency.selection.startswith("Test CPU, device cpu, threads 1, warm-up calls 1, one event at a time")


def test_every_metric_of_an_event_is_in_the_table():
    table = metrics_table({"a": worked_measured(2)}, TableOptions(LABEL))
    expected = {name for name in METRICS if not (name.endswith("_postfilter") or name in FITTED_METRICS)}
    assert expected <= set(table["metric"])
    maskformer = row(table, "a", "maskformer_fake")
    assert maskformer.selection == "pT > 1 GeV, |eta| < 4, >= 3 hits"


def test_every_row_says_hits_and_reconstruction():
    options = TableOptions(LABEL, hits="pixel hits, noise kept", reconstruction="reconstructed in 4 phi sectors")
    table = metrics_table({"a": worked_measured(2)}, options)
    tail = "; pixel hits, noise kept; reconstructed in 4 phi sectors"
    assert row(table, "a", "dm").selection == LABEL + tail
    assert row(table, "a", "maskformer_dm").selection == "pT > 1 GeV, |eta| < 4, >= 3 hits" + tail
    score = "all particles, clusters of any size, weights renormalised to these hits"
    assert row(table, "a", "trackml_score").selection == score + tail
    assert row(table, "a", "fit_accuracy").selection == "all particles, clusters of any size" + tail
    latency = row(table, "a", "latency_ms").selection
    assert latency.startswith("Test CPU") and latency.endswith("; reconstructed in 4 phi sectors")
    assert "pixel" not in latency


def test_files_round_trip(tmp_path):
    item = worked_measured(2)
    item.counts.to_csv(tmp_path / "c.csv", index=False)
    item.particles.to_parquet(tmp_path / "p.parquet")
    loaded = Measured.load(tmp_path / "c.csv", tmp_path / "p.parquet")
    assert loaded.candidates is None and loaded.timing is None and loaded.run is None
    table = metrics_table({"a": loaded}, TableOptions(LABEL))
    assert row(table, "a", "fake_dm").value == pytest.approx(1 / 3)


def test_same_input_same_table():
    measured = {"a": worked_measured(3), "b": worked_measured(3)}
    options = TableOptions(LABEL, reference="a", seed=1)
    pd.testing.assert_frame_equal(metrics_table(measured, options), metrics_table(measured, options))


@pytest.mark.parametrize(
    ("other", "reference", "message"),
    [
        ([(1, 2)], None, "1 events for b and 2 for a, not the same ones"),
        ([(1, 2), (1, 2)], "c", "reference tracker: 'c', expected one of a, b"),
        ([], None, "counts of b: no rows"),
    ],
)
def test_trackers_that_do_not_compare(other, reference, message):
    measured = {"a": Measured(counts_frame({"dm": [(1, 2), (1, 2)]})), "b": Measured(counts_frame({"dm": other}))}
    with pytest.raises(InputError, match=message):
        metrics_table(measured, TableOptions(LABEL, reference=reference))


def test_counts_of_another_version():
    with pytest.raises(InputError, match="unknown metric dmm"):
        metrics_table({"a": Measured(counts_frame({"dmm": [(1, 2)]}))}, TableOptions(LABEL))
    twice = counts_frame({"dm": [(1, 2)]})
    with pytest.raises(InputError, match="a metric appears twice in one event"):
        metrics_table({"a": Measured(pd.concat([twice, twice]))}, TableOptions(LABEL))


def test_published_numbers():
    """A few spot values in the units of the long table, and no row without selection and source."""
    published = read_published(PUBLISHED).set_index(["tracker", "metric"])
    assert published.index.is_unique
    assert published.loc[("heptv2", "dm"), "value"] == pytest.approx(0.986)
    assert published.loc[("heptv2", "latency_ms"), "value"] == 15.1
    assert published.loc[("acorn_gnn", "peak_memory_mb"), "value"] == pytest.approx(16600)
    assert published.loc[("heptv2", "peak_memory_mb/tiled:50000"), "value"] == pytest.approx(335.5, abs=0.1)
    assert published.loc[("encreg (200-500)", "trackml_score"), "value"] == 0.70
    assert published.loc[("maskformer_fq", "dm"), "selection"] == "pT > 1.0 GeV, |eta| < 4"
    # HEPT + DBSCAN: 3.3 % as printed, and as what it is if one training event is its origin.
    both = published.loc[[("hept_dbscan", "fake_rate"), ("hept_dbscan", "fake_dm_per_particle")]]
    assert both["value"].tolist() == pytest.approx([0.033, 0.033])
    assert both["caveat"].str.contains("if that").all() and both["caveat"].str.contains("training event").all()
    names = {metric.partition("/")[0] for _, metric in published.index}
    assert names <= METRICS.keys() | {"latency_ms", "peak_memory_mb", "flops"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("value", "about 3", "line 2: value 'about 3', expected a number"),
        ("unit", "percent", "line 2: unit 'percent', expected one of %"),
        ("selection", "", "line 2: selection '', expected some text"),
        ("source", " ", "line 2: source ' ', expected some text"),
    ],
)
def test_wrong_published_row(tmp_path, column, value, message):
    entry = dict.fromkeys(("tracker", "metric", "selection", "source", "caveat"), "x") | {"value": "1", "unit": "%"}
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["tracker", "metric", "value", "unit", "selection", "source", "caveat"])
        writer.writeheader()
        writer.writerow(entry | {column: value})
    with pytest.raises(InputError) as error:
        read_published(path)
    assert message in str(error.value)


def test_published_without_column(tmp_path):
    (tmp_path / "p.csv").write_text("tracker,metric\na,dm\n")
    with pytest.raises(InputError, match="no column value"):
        read_published(tmp_path / "p.csv")


@pytest.fixture(scope="module")
def full_table():
    values = {"dm": [(900, 1000), (920, 1000)], "fake_rate": [(10, 900), (12, 900)], "fake_all": [(90, 3000)] * 2}
    better = {"dm": [(950, 1000), (960, 1000)], "fake_rate": [(1, 900), (2, 900)], "fake_all": [(80, 3000)] * 2}
    measured = {"slow_one": Measured(counts_frame(values)), "good": Measured(counts_frame(better))}
    options = TableOptions(LABEL, reference="good")
    return metrics_table(measured, options, read_published(PUBLISHED))


def test_quoted_rows_are_marked(full_table):
    quoted = full_table[is_quoted(full_table)]
    assert len(quoted) == len(read_published(PUBLISHED))
    assert quoted["source"].str.startswith("quoted: ").all()
    assert quoted[["lo", "hi", "n_num", "n_den"]].isna().all(axis=None)
    assert (quoted["n_events"] == 0).all()
    assert not full_table["selection"].isna().any()


def test_markdown_summary(full_table):
    lines = summary_markdown(full_table, "200 pile-up").splitlines()
    assert lines[0].startswith("| Tracker | DM eff. [%] |")
    # Best first, with the edges of the test below.
    assert lines[2].startswith("| good | 95.50 +0.46 \N{MINUS SIGN}0.51 |")
    assert lines[3].startswith("| slow_one | 91.00 +0.64 \N{MINUS SIGN}0.69 |")
    quoted = [line for line in lines if "\N{DAGGER} |" in line]
    assert quoted[0].startswith("| oc_gnn \N{DAGGER} | 96.4 |")
    assert quoted[0].endswith(r"| pT > 0.9 GeV, \|eta\| < 4 |")
    text = "\n".join(lines)
    assert "2 test events (simulated, TrackML-like; 200 pile-up)." in text
    assert f"Particles: {LABEL}." in text
    assert "| slow_one | \N{MINUS SIGN}4.50 +0.50 \N{MINUS SIGN}0.50 |" in text
    assert "Quoted, not measured here" in text
    assert "truth_filter" not in text


def test_summary_says_where_tracks_are_lost():
    """By hand: of 1,000 targets 400 are at |eta| >= 3, of them 300 found, 5 of 10 secondaries and 895 in all."""
    eta, vr = np.repeat([0.5, -2.9, 3.0, -3.5], [500, 100, 300, 100]), np.zeros(1000)
    vr[:10] = 2.5
    found = np.ones(1000, dtype=bool)
    found[:5], found[600:700] = False, False
    frame = pd.DataFrame({"event_id": 0, "eta": eta, "vr": vr, "dm": found, "technical": found, "perfect": found})
    measured = {
        "half": Measured(counts_frame({"dm": [(500, 1000)]}), frame.assign(dm=np.arange(1000) % 2 == 0)),
        "good": Measured(counts_frame({"dm": [(895, 1000)]}), frame),
    }
    table = metrics_table(measured, TableOptions(LABEL), read_published(PUBLISHED))
    text = summary_markdown(table)
    lines = text[text.index("| Where tracks are lost") :].splitlines()
    heads = [r"\|eta\| < 3", r"\|eta\| >= 3", "Prompt", "Secondary"]
    assert lines[0] == "| " + " | ".join(["Where tracks are lost: DM eff. [%]", *heads]) + " |"
    assert lines[2] == "| Targets | 600 | 400 | 990 | 10 |"
    minus = "\N{MINUS SIGN}"
    cells = [part.strip() for part in lines[3].strip("|").split("|")]
    assert [cell.partition(" ")[0] for cell in cells] == ["good", "99.17", "75.0", "89.9", "50.0"]
    for cell, (k, n) in zip(cells[1:], ((595, 600), (300, 400), (890, 990), (5, 10)), strict=True):
        lo, hi = clopper_pearson(k, n)
        digits = len(cell.partition(" ")[0].partition(".")[2])
        assert cell.endswith(f" +{100 * (hi - k / n):.{digits}f} {minus}{100 * (k / n - lo):.{digits}f}")
    assert lines[4].startswith("| half | 50.0 ") and lines[5] == ""
    assert "within 2 mm of the beam line" in lines[6]
    assert "Where tracks are lost" not in summary_markdown(table[table["region"] == "all"])


def test_quoted_fake_rates_stand_below_the_measured_ones_of_their_convention():
    values = {"dm": [(900, 1000)], "fake_rate": [(10, 900)], "fake_dm_per_particle": [(20, 1000)]}
    table = metrics_table({"mine": Measured(counts_frame(values))}, TableOptions(LABEL), read_published(PUBLISHED))
    lines = summary_markdown(table, conventions=True).partition("| Fake rate [%] |")[2].splitlines()
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines if line.startswith("| ")}
    assert list(cells)[:2] == ["| ---", "| mine"] and cells["| hept_dbscan \N{DAGGER}"] == ["3.3", "3.3 |"]
    assert cells["| heptv2 \N{DAGGER}"] == ["0.8", "\N{EN DASH} |"]
    assert "hept_dbscan: dm: equals one training event" in "\n".join(lines)


@pytest.mark.parametrize(("k", "up", "down"), [(1910, 0.46483, 0.51277), (1820, 0.64369, 0.68628)])
def test_errors_in_the_summary_are_those_of_the_interval(k, up, down):
    lo, hi = clopper_pearson(k, 2000)
    assert (100 * (hi - k / 2000), 100 * (k / 2000 - lo)) == pytest.approx((up, down), abs=5e-5)


def test_latex_summary(full_table):
    text = summary_latex(full_table)
    assert r"good & $95.50^{+0.46}_{-0.51}$ &" in text
    assert r"hept\_dbscan$^\dagger$ & $89.6$ &" in text
    assert r"$p_\mathrm{T}$ $\geq$ 0.9 GeV, $|\eta|$ $<$ 4, $\geq$ 3 layers" in text
    for command in (r"\toprule", r"\bottomrule", r"\caption{2 test events", r"\end{table}"):
        assert text.count(command) == 1
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {10}
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.count("$") % 2 == 0


def test_truth_filter_is_printed_everywhere():
    measured = {"a": Measured(counts_frame({"dm": [(9, 10)], "maskformer_dm": [(1, 2)]}))}
    table = metrics_table(measured, TableOptions(LABEL, truth_filter=True))
    assert table["selection"].str.contains("truth_filter").all()
    assert "WARNING truth_filter: noise and particles out of acceptance removed by truth." in summary_markdown(table)
    assert r"WARNING truth\_filter" in summary_latex(table)


@pytest.mark.parametrize(
    ("source", "words"),
    [("measured here (TrackML)", "(TrackML)."), ("measured here (local data)", "(local data).")],
)
def test_summary_names_the_data(source, words):
    table = metrics_table({"a": worked_measured(2)}, TableOptions(LABEL, source=source))
    text = summary_markdown(table)
    assert f"2 test events {words}" in text and "simulated" not in text


def test_summary_explains_memory_and_score():
    text = summary_markdown(metrics_table({"a": worked_measured(2)}, TableOptions(LABEL)))
    assert "| TrackML score, hits used [%] | Latency [ms] | Memory rise [MB] |" in text
    assert "the first call excluded; CPU memory, in quoted rows GPU memory." in text
    assert "weights renormalised" in text
    without = summary_markdown(metrics_table({"a": Measured(counts_frame({"dm": [(1, 2)]}))}, TableOptions(LABEL)))
    assert "GPU memory" not in without


def test_summary_says_what_a_demo_is():
    counts = Measured(counts_frame({"dm": [(1, 2)]}))
    sentence = "A demo is trained for minutes and reproduces no published model."
    for write in (summary_markdown, summary_latex):
        assert sentence in write(metrics_table({"a": counts, "net (demo)": counts}, TableOptions(LABEL)))
        assert sentence not in write(metrics_table({"a": counts, "net": counts}, TableOptions(LABEL)))


def test_summary_of_published_numbers_alone():
    table = metrics_table({}, TableOptions(LABEL), read_published(PUBLISHED))
    text = summary_markdown(table)
    assert "| heptv2 \N{DAGGER} | 98.6 |" in text
    assert "nothing was measured" in text
