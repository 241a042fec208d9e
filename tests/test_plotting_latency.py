"""Numbers behind the latency, stages and attention figures, and the tiling protocol."""

import json

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError
from trackbench.geometry.coordinates import radius
from trackbench.plotting.attention import SURFACE_COLUMNS, attention_figure
from trackbench.plotting.latency import QUOTED_COLUMNS, latency_figure, latency_table
from trackbench.plotting.sample import known_pileups, read_timing
from trackbench.plotting.stages import COLUMNS, STAGE_COLORS, stage_table, stages_figure
from trackbench.plotting.style import save_figure, tracker_style
from trackbench.tiling import tile_event, time_tiled
from trackbench.trackers.base import STAGES, TrackerBase

STATEMENT = "some CPU, 1 thread, float64, 1 warm-up call"


def timing(exponent=1.5, sizes=(1000, 10_000, 100_000), tracker="dbscan"):
    rows = []
    for size in sizes:
        for event, factor in enumerate((1.0, 2.0, 3.0)):
            seconds = 1e-6 * size**exponent * factor
            rows.append((tracker, f"n{size}", event, size, "total", seconds, 2 * seconds))
            rows.append((tracker, f"n{size}", event, size, "graph", 100.0, 100.0))
    return pd.DataFrame(rows, columns=["tracker", "sample", "event_id", "n_hits", "stage", "wall_s", "cpu_s"])


def texts(figure):
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return inside + [text.get_text() for legend in legends for text in (*legend.get_texts(), legend.get_title())]


# latency


def test_latency_table_by_hand():
    table = latency_table(timing(), "tiled")
    assert table["n_hits"].tolist() == [1000, 10_000, 100_000]
    assert table["n_calls"].tolist() == [3, 3, 3]
    # 1, 2, 3 times 1e-6 * 1000^1.5 s = 31.62 ms: median 63.2, quantiles by linear interpolation
    unit = 1e-3 * 1000**1.5
    row = table.iloc[0]
    assert row["median_ms"] == pytest.approx(2 * unit)
    assert row["lo_ms"] == pytest.approx(1.32 * unit) and row["hi_ms"] == pytest.approx(2.68 * unit)
    assert row["p95_ms"] == pytest.approx(2.9 * unit)
    assert table["exponent"].tolist() == pytest.approx([1.5] * 3)
    assert latency_table(timing(), "tiled", "cpu_s")["median_ms"][0] == pytest.approx(4 * unit)


def test_one_size_has_no_exponent():
    table = latency_table(timing(sizes=(1000,)), "tiled")
    assert table["exponent"].isna().all()


def test_no_exponent_for_times_that_do_not_rise_with_size():
    frame = timing()
    flat = frame.assign(wall_s=np.where(frame["n_hits"] == 10_000, 1e-4, frame["wall_s"]))
    assert latency_table(flat, "tiled")["exponent"].isna().all()
    figure, _ = latency_figure({"tiled": flat}, STATEMENT)
    assert "dbscan" in texts(figure)


def test_latency_figure_states_conditions_and_marks_quoted():
    quoted = pd.DataFrame([("heptv2", 50e3, 15.37), ("heptv2", 500e3, 150.5)], columns=list(QUOTED_COLUMNS))
    frames = {"real pile-up": timing(), "tiled": timing(1.0, tracker="hdbscan")}
    figure, table = latency_figure(frames, STATEMENT, quoted=quoted)
    found = texts(figure)
    assert any(STATEMENT in text and "median" in text for text in found)
    assert {"real pile-up events", "tiled events", "heptv2 \N{DAGGER}"} <= set(found)
    assert any("dbscan" in text and "1.50" in text for text in found)
    assert table.groupby("protocol").size().to_dict() == {"real pile-up": 3, "tiled": 3, "quoted": 2}
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in figure.axes)


def test_latency_of_nothing_says_so(tmp_path):
    for frames in ({}, {"tiled": timing().head(0)}):
        figure, table = latency_figure(frames, STATEMENT)
        assert "no timing to show" in texts(figure) and len(table) == 0
        save_figure(figure, tmp_path / "none", table)


def test_latency_errors():
    with pytest.raises(ConfigError, match="latency statement: empty, expected device"):
        latency_figure({"tiled": timing()}, "")
    with pytest.raises(ConfigError, match="latency clock: 'gpu' is not known"):
        latency_table(timing(), "tiled", "gpu")
    with pytest.raises(ConfigError, match="timing table: no column 'stage'"):
        latency_table(timing().drop(columns="stage"), "tiled")


# throughput


def scan(pileups=(2, 20), seconds=((0.1, 0.3), (0.5, 1.5)), tracker="ckf"):
    """Two events per pile-up, numbered as the pile-up scan is."""
    rows = []
    for k, (pileup, times) in enumerate(zip(pileups, seconds, strict=True), start=1):
        for event, time in enumerate(times):
            rows.append((tracker, f"scan-{k}", 100_000 * k + event, 100 * pileup + event, "total", time, 2 * time))
            rows.append((tracker, f"scan-{k}", 100_000 * k + event, 100 * pileup + event, "finding", 0.05, 0.05))
    return pd.DataFrame(rows, columns=["tracker", "sample", "event_id", "n_hits", "stage", "wall_s", "cpu_s"])


def test_throughput_by_hand():
    table = latency_table(scan(), "pile-up scan", pileup={"scan-1": 2, "scan-2": 20})
    assert table["pileup"].tolist() == [2, 20]
    assert table["events_per_s"].tolist() == pytest.approx([2 / 0.4, 2 / 2.0])  # events over seconds, no mean of rates
    on_cpu = latency_table(scan(), "pile-up scan", "cpu_s", {"scan-1": 2, "scan-2": 20})
    assert on_cpu["events_per_s"].tolist() == pytest.approx([2.5, 0.5])
    assert "events_per_s" not in latency_table(scan(), "pile-up scan")


def test_throughput_is_a_panel_beside_the_latency(tmp_path):
    timing = pd.concat([scan(), scan(tracker="dbscan", seconds=((0.01, 0.01), (0.02, 0.02)))])
    known = {"main": 200.0, "scan-1": 2.0, "scan-2": 20.0}
    figure, table = latency_figure({"pile-up scan": timing}, STATEMENT, pileup=known)
    throughput = figure.axes[1]
    drawn = {line.get_color(): line for line in throughput.lines}
    assert drawn[tracker_style("ckf").color].get_xydata().tolist() == [[2, pytest.approx(5)], [20, pytest.approx(1)]]
    assert drawn[tracker_style("dbscan").color].get_ydata().tolist() == pytest.approx([100, 50])
    assert "Events per second" in throughput.get_ylabel() and "pile-up" in throughput.get_xlabel()
    assert throughput.get_xticks().tolist() == [2, 20]
    assert any("one after the other" in text for text in texts(figure))
    assert {"dbscan", "ckf"} <= {text.split(" (")[0] for text in texts(figure)}
    save_figure(figure, tmp_path / "latency", table)
    saved = pd.read_csv(tmp_path / "latency.csv")
    assert saved[["tracker", "pileup", "events_per_s"]].to_numpy().tolist() == [
        *(["ckf", 2, 5], ["ckf", 20, 1], ["dbscan", 2, 100], ["dbscan", 20, 50]),
    ]


@pytest.mark.parametrize("known", [None, {}, {"scan-1": 2.0}, {"scan-1": 200.0, "scan-2": 200.0}])
def test_no_throughput_panel_without_two_pileups(known):
    figure, table = latency_figure({"pile-up scan": scan()}, STATEMENT, pileup=known)
    assert len(figure.axes) == 1 and len(table) == 2
    assert not any("throughput" in text for text in texts(figure))


def test_samples_of_unknown_pileup_are_left_out_of_the_throughput():
    real = scan(pileups=(7,), seconds=((3.0, 4.0),)).assign(sample="main")
    figure, table = latency_figure(
        {"pile-up scan": pd.concat([scan(), real])}, STATEMENT, pileup={"scan-1": 0.0, "scan-2": 20.0}
    )
    assert figure.axes[1].lines[0].get_xdata().tolist() == [0, 20]
    assert figure.axes[1].get_xscale() == "symlog"  # pile-up 0 has a place
    assert np.isnan(table.set_index("sample").loc["main", "pileup"]) and len(table) == 3


def test_pileup_of_each_sample_is_that_of_its_shard(tmp_path):
    facts = {"source": "simulate", "pileup": 200, "sigma_z": 5.5, "hard_process": "ttbar", "hit_efficiency": 0.98}
    facts |= {"n_events_per_split": {"test": 2}, "selection_label": "pixel hits", "selection": {"truth_filter": False}}
    simulated, real = tmp_path / "simulated.json", tmp_path / "real.json"
    simulated.write_text(json.dumps(facts))
    unknown = dict.fromkeys(("pileup", "sigma_z", "hard_process", "hit_efficiency"))
    real.write_text(json.dumps({**facts, **unknown, "source": "kaggle", "sigma_z_measured": 5.5}))
    assert known_pileups(simulated, [2, 60]) == {"main": 200, "scan-1": 2, "scan-2": 60}
    assert known_pileups(real, [2, 60]) == {"scan-1": 2, "scan-2": 60}
    assert known_pileups(real, []) == {}
    # The same names as the timing of the scan has, whose event numbers start at 100000 (shard + 1).
    columns = ["event_id", "n_hits", "stage", "wall_s", "cpu_s"]
    pd.DataFrame([(200_000, 9, "total", 1.0, 1.0)], columns=columns).to_csv(tmp_path / "t.csv", index=False)
    assert read_timing([tmp_path / "t.csv"], ["ckf"], ["scan"])["sample"].tolist() == ["scan-2"]


# stages


def staged():
    """ckf: 2 events of 1 and 3 s; dbscan reports one stage; quiet reports none."""
    rows = [("ckf", event, stage, value) for event, parts in ((1, (0.2, 0.5, 1.0)), (2, (0.4, 1.5, 3.0)))
            for stage, value in zip(("seeding", "finding", "total"), parts, strict=True)]  # fmt: skip
    rows += [("quiet", 1, "total", 5.0), ("dbscan", 1, "clustering", 0.25), ("dbscan", 1, "total", 0.25)]
    return pd.DataFrame(rows, columns=["tracker", "event_id", "stage", "wall_s"])


def test_stages_by_hand():
    table = stage_table(staged())
    assert tuple(table.columns) == COLUMNS
    assert table[["tracker", "stage"]].to_numpy().tolist() == [
        *(["ckf", "seeding"], ["ckf", "finding"], ["ckf", "unattributed"]),
        *(["dbscan", "clustering"], ["dbscan", "unattributed"]),
    ]
    assert table["seconds"].tolist() == pytest.approx([0.3, 1.0, 0.7, 0.25, 0.0])
    assert table["share"].tolist() == pytest.approx([0.15, 0.5, 0.35, 1.0, 0.0])
    assert table["n_events"].tolist() == [2, 2, 2, 1, 1]


def test_a_stage_that_some_events_lack_is_spread_over_all():
    frame = staged()
    lacking = frame[~((frame["event_id"] == 2) & (frame["stage"] == "seeding"))]
    assert stage_table(lacking)["seconds"].tolist()[:3] == pytest.approx([0.1, 1.0, 0.9])


def test_every_stage_has_a_colour_of_its_own():
    assert set(STAGE_COLORS) == set(STAGES)
    assert len(set(STAGE_COLORS.values())) == len(STAGES)


def test_stages_are_bars_that_add_up_to_the_total(tmp_path):
    figure, table = stages_figure(staged(), STATEMENT)
    seconds, share = figure.axes
    for ax, ends in ((seconds, [2.0, 0.25]), (share, [1.0, 1.0])):
        last = {}
        for bar in ax.patches:
            row = round(bar.get_y() + bar.get_height() / 2)
            assert bar.get_x() == pytest.approx(last.get(row, 0.0))
            last[row] = bar.get_x() + bar.get_width()
        assert [last[0], last[1]] == pytest.approx(ends)
    assert [label.get_text() for label in seconds.get_yticklabels()] == ["ckf", "dbscan"]
    assert {"2 s", "0.25 s"} <= set(texts(figure)) and any(STATEMENT in text for text in texts(figure))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["seeding", "finding", "clustering", "unattributed"]
    assert "wall clock" in seconds.get_xlabel()
    save_figure(figure, tmp_path / "stages", table)


def test_stages_of_nothing_and_errors(tmp_path):
    quiet = staged()[staged()["tracker"] == "quiet"]
    for frame in (quiet, quiet.head(0)):
        figure, table = stages_figure(frame, STATEMENT)
        assert "no stage to show" in texts(figure) and len(table) == 0
        save_figure(figure, tmp_path / "none", table)
    with pytest.raises(ConfigError, match="statement of stages: empty, expected device"):
        stages_figure(staged(), "")
    with pytest.raises(ConfigError, match="timing table: stage 'magic', expected one of total, read"):
        stage_table(staged().replace("finding", "magic"))
    with pytest.raises(ConfigError, match="timing table: no column 'cpu_s'"):
        stage_table(staged(), "cpu_s")
    with pytest.raises(ConfigError, match="clock of stages: 'gpu' is not known"):
        stage_table(staged(), "gpu")


# attention


def surfaces():
    rows = [
        ("barrel", "dbscan", 0.95, 0.0085, "measured"),
        ("endcap-", "dbscan", 0.94, 0.0008, "measured"),
        ("endcap+", "dbscan", 0.93, 0.0007, "measured"),
        ("barrel", "dbscan", 0.987, 0.009138, "talk"),
        ("endcap", "dbscan", 0.985, 0.00052, "talk"),
    ]
    return pd.DataFrame(rows, columns=list(SURFACE_COLUMNS))


def test_attention_figure_separates_surfaces_and_quoted():
    figure, table = attention_figure(surfaces().assign(recon_ratio_err=0.01))
    barrel, endcap = figure.axes
    points = [[line for line in ax.lines if line.get_linestyle() == "None"] for ax in (barrel, endcap)]
    assert [len(found) for found in points] == [2, 3]
    assert sum(line.get_markerfacecolor() == "white" for found in points for line in found) == 2
    assert barrel.get_xscale() == "log" and "quoted" in " ".join(texts(figure))
    assert table["source"].tolist() == ["measured"] * 3 + ["talk"] * 2
    low, high = barrel.get_xlim()
    assert low < 0.00052 and high > 0.009138


def test_attention_of_nothing_and_bad_column(tmp_path):
    figure, table = attention_figure(surfaces().head(0))
    assert len(table) == 0 and any("nothing to show" in text for text in texts(figure))
    save_figure(figure, tmp_path / "none", table)
    with pytest.raises(ConfigError, match="surfaces table: no column 'dm'"):
        attention_figure(surfaces(), "dm")


# tiling


def test_tiling_to_the_same_size_changes_nothing_but_numbers():
    hits, _ = toy_event(10)
    tiled = tile_event(hits, len(hits), seed=3)
    assert np.array_equal(tiled.xyz, hits.xyz) and np.array_equal(tiled.layer_id, hits.layer_id)
    assert tiled.hit_id.tolist() == list(range(1, len(hits) + 1))


def test_tiling_rotates_whole_copies():
    hits, _ = toy_event(10)
    n = len(hits)
    tiled = tile_event(hits, 2 * n + 5, seed=3)
    assert len(tiled) == 2 * n + 5 and len(np.unique(tiled.hit_id)) == len(tiled)
    second = tiled.take(np.arange(n, 2 * n))
    assert radius(second.xyz) == pytest.approx(radius(hits.xyz))
    assert np.array_equal(second.xyz[:, 2], hits.xyz[:, 2])
    turn = np.arctan2(second.xyz[:, 1], second.xyz[:, 0]) - np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0])
    assert np.ptp(np.exp(1j * turn).real) < 1e-9 and abs(np.exp(1j * turn[0]) - 1) > 0.01
    assert np.array_equal(second.module_id, hits.module_id)


def test_tiling_down_takes_a_subset_of_valid_hits():
    hits, _ = toy_event(10)
    valid = np.arange(len(hits)) % 2 == 0
    padded = Hits(hits.hit_id, hits.xyz, hits.volume_id, hits.layer_id, hits.module_id, valid, {"w": hits.xyz[:, 2]})
    tiled = tile_event(padded, 20, seed=1)
    allowed = {tuple(row) for row in hits.xyz[valid]}
    assert len({tuple(row) for row in tiled.xyz} & allowed) == 20
    assert tiled.valid.all() and np.array_equal(tiled.features["w"], tiled.xyz[:, 2])


def test_tiling_is_deterministic():
    hits, _ = toy_event(10)
    first, again, other = (tile_event(hits, 700, seed) for seed in (1, 1, 2))
    assert first.xyz.tobytes() == again.xyz.tobytes()
    assert first.xyz.tobytes() != other.xyz.tobytes()


def test_tiling_errors():
    hits, _ = toy_event(5)
    with pytest.raises(InputError, match="tile_event n_hits: 0, expected a number >= 1"):
        tile_event(hits, 0)
    with pytest.raises(InputError, match="no hit to tile"):
        tile_event(hits.take(np.zeros(len(hits), bool)), 10)


def test_timing_of_tiled_events():
    seen = []

    class Counting(TrackerBase):
        def find_tracks(self, hits, timer):
            seen.append(hits.xyz[-1].tobytes())
            with timer.stage("graph"):
                return np.zeros(len(hits), np.int64)

    hits, _ = toy_event(5)
    table = time_tiled(Counting(None), hits, (50, 200), seed=0, n_warmup=2, n_calls=3)
    assert table.columns.tolist() == ["event_id", "n_hits", "stage", "wall_s", "cpu_s"]
    assert table.groupby(["n_hits", "stage"]).size().to_dict() == {
        (50, "graph"): 3,
        (50, "total"): 3,
        (200, "graph"): 3,
        (200, "total"): 3,
    }
    assert len(seen) == 2 * (2 + 3)
    wide = table.pivot_table(index=["n_hits", "event_id"], columns="stage", values="wall_s")
    assert (wide["total"] >= wide["graph"]).all()
