"""Figures of time and memory against hits and of DM efficiency against time: numbers behind them, what they say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trackbench.errors import ConfigError
from trackbench.evaluation.intervals import clopper_pearson
from trackbench.evaluation.published import quoted_rows, read_published
from trackbench.plotting.dm_latency import POINT_COLUMNS, dm_latency_figure
from trackbench.plotting.scaling import COLUMNS, STUDY_COLUMNS, quoted_scaling, scaling_figure, scaling_table
from trackbench.plotting.style import Header, save_figure

PUBLISHED = read_published(Path(__file__).resolve().parents[1] / "config/published.csv")
STATEMENT = "some CPU, 1 thread"
LEFT_OUT = "left out: about 130 s expected, limit 120 s"


def call(row, n_hits, k=0, **values):
    """One call of a study: 1 ms of CPU per 1,000 hits times k + 1, wall clock twice that."""
    seconds = 1e-6 * n_hits * (k + 1)
    facts = {"row": row, "protocol": "tiled", "n_hits": n_hits, "call": k, "status": "ok", "device": "cpu"}
    cost = {"cpu_s": seconds, "wall_s": 2 * seconds, "peak_mb": 0.01 * n_hits + k}
    return dict.fromkeys(STUDY_COLUMNS, np.nan) | facts | {"device_name": "some CPU"} | cost | values


def scanned(row, pileup, k, found, fakes, targets=100):
    counts = {"dm/num": found, "dm/den": targets, "fake_rate/num": fakes, "fake_rate/den": 50}
    return call(row, 1000 * pileup + k, k, protocol="pile-up", pileup=pileup, **counts)


def study(scan=True):
    rows = [call(row, n, k) for row in ("heptv2 (demo)", "dbscan") for n in (1000, 10_000) for k in range(3)]
    nothing = {"status": LEFT_OUT, **dict.fromkeys(("cpu_s", "wall_s", "peak_mb"), np.nan)}
    rows += [call("heptv2 (demo)", n, k, **nothing) for n in (100_000, 500_000) for k in range(3)]
    if scan:
        rows += [scanned("heptv2 (demo)", mean, k, 90 - mean - k, 5 * k) for mean in (2, 20) for k in range(2)]
    return pd.DataFrame(rows)


def texts(figure):
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return inside + [text.get_text() for legend in legends for text in (*legend.get_texts(), legend.get_title())]


def test_table_by_hand():
    table = scaling_table(study())
    assert tuple(table.columns) == COLUMNS
    row = table[(table["row"] == "dbscan") & (table["n_hits"] == 10_000)].iloc[0]
    assert (row["n_calls"], row["seconds"], row["memory_mb"]) == (3, pytest.approx(0.02), 102)
    assert (row["lo"], row["hi"]) == (pytest.approx(0.0132), pytest.approx(0.0268))
    assert np.isnan(row["dm"]) and row["status"] == "ok"
    scan = table[table["protocol"] == "pile-up"].set_index("pileup")
    assert scan.loc[2, "n_hits"] == 2000.5
    assert scan.loc[2, "dm"] == pytest.approx((88 + 87) / 200) and scan.loc[20, "dm"] == pytest.approx(139 / 200)
    assert scan.loc[2, "fake_rate"] == pytest.approx(5 / 100)
    lo, hi = clopper_pearson(139, 200)
    assert scan.loc[20, ["dm_lo", "dm_hi"]].tolist() == pytest.approx([lo, hi])
    missing = table[table["status"] != "ok"]
    assert missing["n_hits"].tolist() == [100_000, 500_000] and set(missing["status"]) == {LEFT_OUT}
    assert missing[["seconds", "memory_mb", "dm"]].isna().all(axis=None) and (missing["n_calls"] == 0).all()


def test_wall_clock_and_device_memory_on_a_gpu():
    frame = pd.DataFrame([call("heptv2", 1000, 0, device="cuda", device_name="H", device_mb=77.0)])
    row = scaling_table(frame).iloc[0]
    assert (row["seconds"], row["memory_mb"]) == (pytest.approx(2e-3), 77)
    figure, _ = scaling_figure(frame, STATEMENT)
    assert any("wall clock and memory allocated on the device (cuda)" in text for text in texts(figure))


def test_quoted_points_are_those_of_the_file():
    table = quoted_scaling(PUBLISHED)
    mine = table[table["row"] == "heptv2"]
    assert mine["n_hits"].tolist() == [50_000, 100_000, 200_000, 300_000, 400_000, 500_000]
    assert mine["seconds"].tolist() == pytest.approx([0.01537, 0.02949, 0.05943, 0.08939, 0.1227, 0.1505])
    assert mine["memory_mb"].iloc[-1] == pytest.approx(3031 * 1.048576)
    assert set(mine["how"]) == {"A100, tiled"}
    others = table[table["row"] != "heptv2"]
    assert set(others["how"]) == {"digitised"} and others["memory_mb"].isna().all()


def test_figure_says_what_is_quoted_left_out_and_trained(tmp_path):
    trained = "networks trained on 2 pile-up only"
    figure, table = scaling_figure(study(), STATEMENT, PUBLISHED, Header(sample="simulation"), trained=trained)
    found = texts(figure)
    assert len(figure.axes) == 4 and found.count(trained) == 2
    assert {"heptv2 \N{DAGGER}\nquoted, A100, tiled", "one event tiled", "pile-up scan", "heptv2 (demo)"} <= set(found)
    words = (
        STATEMENT,
        "CPU seconds",
        "left out: heptv2 (demo) at 100,000, 500,000 hits (about 130 s expected, limit 120",
    )
    assert all(any(word in text for text in found) for word in words)
    time, memory = figure.axes[:2]
    assert time.get_xscale() == time.get_yscale() == memory.get_yscale() == "log"
    drawn = [line.get_xydata().tolist() for line in time.lines]
    assert [[1000, pytest.approx(0.002)], [10_000, pytest.approx(0.02)]] in drawn
    # tiled and pile-up differ in marker and filling
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in time.lines if line.get_color() != "0.55"}
    assert {("o", "white"), ("s", "#1845fb")} <= looks
    assert set(table["protocol"]) == {"tiled", "pile-up", "quoted"}
    assert all(path.stat().st_size > 300 for path in save_figure(figure, tmp_path / "scaling", table))


def test_without_a_scan_there_is_no_physics():
    figure, table = scaling_figure(study(scan=False), STATEMENT)
    assert len(figure.axes) == 2 and set(table["protocol"]) == {"tiled"}
    assert "pile-up scan" not in texts(figure)


def test_hardly_any_data():
    nothing, empty = study().iloc[:0], study().assign(n_hits=0)
    failed = study()[lambda frame: frame["status"] != "ok"]
    for frame in (nothing, failed, empty, study().iloc[:1]):
        scaling_figure(frame, STATEMENT, PUBLISHED)[0].draw_without_rendering()
    assert "nothing to show" in texts(scaling_figure(nothing, STATEMENT)[0])
    with pytest.raises(ConfigError, match="scaling statement: empty"):
        scaling_figure(study(), "")
    with pytest.raises(ConfigError, match="scaling study: no column 'peak_mb'"):
        scaling_figure(study().drop(columns="peak_mb"), STATEMENT)


def metrics(quoted=True):
    rows = []
    for name, dm, ms, device in (("dbscan", 0.6, 30, "cpu"), ("heptv2 (demo)", 0.94, 200, "cuda")):
        facts = {"tracker": name, "region": "all", "source": "measured here (simulated)"}
        conditions = f"some CPU, device {device}, threads 1"
        rows.append(facts | {"metric": "dm", "value": dm, "lo": dm - 0.02, "hi": dm + 0.01, "selection": "pT"})
        rows.append(facts | {"metric": "cpu_ms", "value": ms, "lo": ms / 2, "hi": 2 * ms, "selection": conditions})
        rows.append(facts | {"metric": "latency_ms", "value": 3 * ms, "lo": ms, "hi": 4 * ms, "selection": conditions})
        rows.append(facts | {"metric": "dm", "region": "barrel", "value": 0.1, "lo": 0, "hi": 1, "selection": "pT"})
    table = pd.DataFrame(rows)
    return pd.concat([table, quoted_rows(PUBLISHED)], ignore_index=True) if quoted else table


def test_dm_against_time(tmp_path):
    figure, points = dm_latency_figure(metrics(), STATEMENT, Header(sample="simulation"), "wilson")
    assert tuple(points.columns) == POINT_COLUMNS
    mine = points[~points["quoted"]].set_index("row")
    assert mine.loc["dbscan", ["dm", "dm_lo", "dm_hi"]].tolist() == pytest.approx([0.6, 0.58, 0.61])
    assert mine.loc["dbscan", ["seconds", "lo", "hi"]].tolist() == pytest.approx([0.03, 0.015, 0.06])
    assert mine.loc["heptv2 (demo)", "seconds"] == pytest.approx(0.6)  # on a GPU the wall clock
    quoted = points[points["quoted"]].set_index("row")
    assert quoted.loc["heptv2", ["dm", "seconds"]].tolist() == pytest.approx([0.986, 0.0151])
    assert "maskformer_dq" not in quoted.index  # no time is published
    found = texts(figure)
    assert len(figure.axes) == 2 and "heptv2 (demo) (GPU, wall clock)" in found
    assert any(text.startswith("acorn_gnn \N{DAGGER}") and text.endswith("A100") for text in found)
    assert any("68.27 % Wilson" in text for text in found) and any("other selections" in text for text in found)
    assert any("vertical bars: 68.27" in text and "horizontal bars: 16-84 %" in text for text in found)
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] < 0.6
    assert left.get_xlabel() == "CPU time (GPU: wall clock) per event [s]"
    assert right.get_xlabel() == "Time per event, wall clock, as published [s]"
    assert all(path.stat().st_size > 300 for path in save_figure(figure, tmp_path / "dm", points))


def test_two_trackers_never_look_the_same():
    figure, points = dm_latency_figure(metrics(), STATEMENT)
    right = figure.axes[1]
    looks = [
        (line.get_color(), line.get_marker()) for line in right.lines if line.get_marker() not in ("None", "|", "_")
    ]
    assert len(set(looks)) == points["quoted"].sum()


def test_dm_against_time_with_hardly_any_data():
    figure, _ = dm_latency_figure(metrics(quoted=False), STATEMENT)
    assert len(figure.axes) == 1
    for frame in (metrics().iloc[:0], quoted_rows(PUBLISHED), metrics().iloc[:1]):
        figure, _ = dm_latency_figure(frame, STATEMENT)
        figure.draw_without_rendering()
        assert "nothing to show" in texts(figure)
    with pytest.raises(ConfigError, match="latency statement: empty"):
        dm_latency_figure(metrics(), "")
    with pytest.raises(ConfigError, match="metrics table: no column 'lo'"):
        dm_latency_figure(metrics().drop(columns="lo"), STATEMENT)
