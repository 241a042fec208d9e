"""Numbers behind the figures of the first phase, and what they must say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trackbench.errors import ConfigError
from trackbench.evaluation.intervals import event_bootstrap
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.trackformers_matrix import COLUMNS as MATRIX_COLUMNS
from trackbench.evaluation.trackformers_published import headline_rows, noise_rows, read_published
from trackbench.plotting.fit_accuracy import binned_table, fit_accuracy_figure, outside_text
from trackbench.plotting.label_noise import label_noise_figure
from trackbench.plotting.matrix import matrix_figure
from trackbench.plotting.parameter_maps import (
    map_figure,
    map_table,
    parameters_of,
    width_figure,
    width_markdown,
    width_table,
)
from trackbench.plotting.style import (
    DAGGER,
    ROW_STYLES,
    TRACKER_STYLES,
    Header,
    row_style,
    save_figure,
    style_context,
)
from trackbench.plotting.track_latency import quoted_points, track_latency_figure, track_latency_table

PUBLISHED = Path(__file__).resolve().parents[1] / "config" / "published_trackformers.csv"
HEADER = Header(sample="TrackML-like simulation", n_events=2)


def texts(figure):
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    found = inside + [text.get_text() for legend in legends for text in (*legend.get_texts(), legend.get_title())]
    return "\n".join(found)


def drawn(figure):
    """The figure can be drawn: warnings, such as those of a layout that does not fit, are errors."""
    with style_context():
        figure.canvas.draw()
    return figure


# FitAccuracy


def particles():
    """Event 1: 1 GeV with 6 of 8 hits, 0.4 GeV with none of 4; event 2: 1.2 GeV with 5 of 5, 20 GeV with 3 of 3."""
    rows = [
        (1, 1.0, 0.5, 8, 6, True),
        (1, 0.4, -3.0, 4, 0, False),
        (2, 1.2, 0.6, 5, 5, True),
        (2, 20.0, 5.0, 3, 3, True),
    ]
    return pd.DataFrame(rows, columns=["event_id", "pt", "eta", "n_hits", "n_matched", "dm"])


EDGES = {"pt": np.array([0.1, 0.5, 2.0, 10.0]), "eta": np.array([-4.0, 0.0, 4.0])}


def test_fit_accuracy_by_hand():
    table = binned_table({"encreg": particles()}, EDGES, replicas=300, seed=2)
    found = table.set_index(["metric", "variable", "bin"])
    total = found.loc[("fit_accuracy", "pt", "all")]
    assert (total["n_num"], total["n_den"], total["value"]) == (14, 20, 0.7)
    assert (total["lo"], total["hi"]) == pytest.approx(event_bootstrap([6, 8], [12, 8], 300, 2))
    middle = found.loc[("fit_accuracy", "pt", "1")]
    assert (middle["low"], middle["high"], middle["n_num"], middle["n_den"]) == (0.5, 2.0, 11, 13)
    assert (middle["lo"], middle["hi"]) == pytest.approx(event_bootstrap([6, 5], [8, 5], 300, 2))
    assert found.loc[("fit_accuracy", "pt", "over"), "n_den"] == 3
    assert np.isnan(found.loc[("dm", "pt", "2"), "value"])  # nobody between 2 and 10 GeV
    dm = found.loc[("dm", "eta", "1")]
    assert (dm["n_num"], dm["n_den"], dm["n_particles"]) == (2, 2, 2)
    assert found.loc[("dm", "eta", "0"), "value"] == 0.0
    assert found.loc[("dm", "eta", "over"), "n_particles"] == 1
    bins = table[~table["bin"].isin(["all"])]
    assert bins.groupby("metric")["n_den"].sum().to_dict() == {"dm": 2 * 4, "fit_accuracy": 2 * 20}


def test_fit_accuracy_edges():
    frame = particles().assign(pt=[0.5, 0.1, 10.0, np.nan])
    counts = binned_table({"a": frame}, EDGES).query("metric == 'dm' and variable == 'pt'").set_index("bin")["n_den"]
    assert counts[["under", "0", "1", "2", "over"]].tolist() == [0, 1, 1, 1, 1]  # the last edge is inside, NaN is not


def test_fit_accuracy_of_one_event_has_no_errors():
    table = binned_table({"a": particles().query("event_id == 1")}, EDGES)
    assert table[["lo", "hi"]].isna().all(axis=None)
    with pytest.raises(ConfigError, match="particles of a: no column 'n_matched'"):
        binned_table({"a": particles().drop(columns="n_matched")})


def test_fit_accuracy_figure():
    many = pd.concat([particles()] * 6, ignore_index=True)
    frames = {"hit_angles": many, "encreg": many, "encreg@50-100": many}
    figure, table = fit_accuracy_figure(frames, {"encreg": "demo"}, EDGES, HEADER)
    found = texts(figure)
    assert "encreg (demo): 0.700" in found and "hit_angles: 0.750" in found and "encreg@50-100: 0.700" in found
    assert "TrackML-like simulation" in found and "6 of 24 in" in found
    assert outside_text(table).startswith("particles outside the axes, not shown: 6 of 24 in pT, 6 of 24 in eta")
    assert "FitAccuracy, pooled over particles" in found and "all bins" not in found
    points = [line for line in figure.axes[0].lines if line.get_marker() == row_style("encreg").marker]
    assert [len(line.get_xdata()) for line in points] == [1, 1]  # bins of 6 particles: no point
    assert row_style("encreg@50-100") == row_style("encreg") != row_style("hit_angles")
    assert len({row_style(name).line for name in ("encreg", "hit_angles", "true_targets")}) == 3
    assert len(set(ROW_STYLES.values()) | set(TRACKER_STYLES.values())) == len(ROW_STYLES) + len(TRACKER_STYLES)
    drawn(figure)


def test_nothing_to_show():
    figure, table = fit_accuracy_figure({}, header=HEADER)
    assert "no row to show" in texts(figure) and len(table) == 0
    drawn(figure)
    empty = pd.DataFrame(columns=list(MATRIX_COLUMNS))
    figure, table = matrix_figure(empty, HEADER)
    assert "no trained row to show" in texts(figure)
    drawn(figure)
    figure, table = width_figure({}, header=HEADER)
    assert "no predictions to show" in texts(figure) and len(table) == 0
    drawn(figure)
    figure, table = label_noise_figure(noise().head(0), header=HEADER)
    assert "no point to show" in texts(figure)
    drawn(figure)
    figure, table = track_latency_figure(timing().head(0), "some CPU", header=HEADER)
    assert "no timing to show" in texts(figure) and len(table) == 0
    drawn(figure)


# Parameters


def predictions(fourth="charge"):
    """Ten hits and one of noise; theta is 0.01, 0.02, ... too large, the fourth 0.5 too small or too large."""
    true = np.full((11, 4), [1.0, 0.6, 0.8, 1.0])
    true[10] = np.nan
    shift = np.zeros((11, 4))
    shift[:10, 0] = 0.01 * np.arange(1, 11)
    shift[:10, 3] = 0.5 * (-1.0) ** np.arange(10)
    names = ["theta", "sin_phi", "cos_phi", fourth]
    frame = pd.DataFrame(np.nan_to_num(true) + shift, columns=names)
    return frame.assign(event_id=1, **{f"true_{name}": true[:, i] for i, name in enumerate(names)})


def test_widths_by_hand():
    published = headline_rows(read_published(PUBLISHED))
    quoted = published[(published["set"] == "10-50") & (published["row"] == "EncReg")]
    table = width_table({"encreg": predictions()}, quoted).set_index("parameter")
    theta = table.loc["theta"]
    assert theta["n"] == 10 and theta["mean"] == pytest.approx(0.055)
    # Ten equidistant values: quantiles 0.1587 and 0.8413 of positions 1 + 9 p, half their distance in steps of 0.01
    assert theta["half_width"] == pytest.approx(0.01 * 9 * 0.6826895 / 2, rel=1e-6)
    assert theta["mse"] == pytest.approx(1e-4 * 385 / 10) and theta["rms"] == pytest.approx(np.sqrt(0.00385))
    assert table.loc["charge", "mse"] == pytest.approx(0.25)
    assert table.loc["all", "mse"] == pytest.approx((0.00385 + 0.25) / 4, rel=1e-6)
    assert table["quoted"].tolist() == [0.06, 0.06, 0.06, 0.13, 0.006]
    sample = Sample(True, "simulate", 20, None, None, 1, "some hits")
    text = width_markdown(table.reset_index(), sample.label(), {"encreg": "demo"})
    assert "1 test event (simulated, TrackML-like; 20 pile-up); some hits. Predicted minus true" in text
    assert "A demo is trained for minutes and reproduces no published model." in text
    assert "A demo" not in width_markdown(table.reset_index(), sample.label())
    assert f"| encreg (demo) | charge | 0.5000 | 0.5000 | 0.2500 | 0.13 {DAGGER} |" in text
    assert "Dobreva MSc thesis" in text


def test_another_fourth_parameter_has_no_quoted_width():
    quoted = pd.DataFrame([("sigma_charge", 0.13, "s"), ("mse", 0.006, "s")], columns=["metric", "value", "source"])
    table = width_table({"encreg": predictions("q_over_pt")}, quoted)
    assert table["quoted"].isna().all() and parameters_of(predictions("q_over_pt"))[3] == "q_over_pt"
    with pytest.raises(ConfigError, match="predictions table: neither true_charge nor true_q_over_pt"):
        parameters_of(predictions().drop(columns="true_charge"))


def test_map_cells_by_hand():
    frame = predictions().iloc[[0, 0, 9, 10]].assign(sin_phi=[0.6, 0.6, 5.0, 0.6])
    table = map_table(frame)
    sin = table[table["parameter"] == "sin_phi"]
    assert sin["n"].tolist() == [2]  # the one at 5 lies outside, noise has no truth
    cell = sin.iloc[0]
    assert cell["true_low"] <= 0.6 < cell["true_high"] and cell["predicted_low"] <= 0.6 < cell["predicted_high"]
    assert cell["true_high"] - cell["true_low"] == pytest.approx(2.4 / 100)
    theta = table[table["parameter"] == "theta"]
    assert theta["n"].sum() == 3 and len(theta) == 2  # 1.01 twice, 1.10 once


def test_map_figure():
    frame = predictions().assign(sin_phi=lambda t: t["sin_phi"].where(t.index > 0, 5.0))
    figure, _ = map_figure(frame, "encreg", "demo", HEADER)
    found = texts(figure)
    assert "encreg (demo)" in found and "hits outside the axes, not shown: 1 of 10 in sin_phi" in found
    assert [len(ax.texts) for ax in figure.axes[1:4]] == [1, 0, 0]  # the header's, nothing over the hits
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert sum("Predicted" in label for label in labels) == 4 and "Hits per cell" in labels
    drawn(figure)


def test_width_figure():
    quoted = pd.DataFrame([("sigma_theta", 0.06, "s")], columns=["metric", "value", "source"])
    frames = {"encreg": predictions(), "encreg_q_over_pt": predictions("q_over_pt")}
    figure, table = width_figure(frames, {"encreg": "demo"}, quoted, HEADER)
    found = texts(figure)
    assert "encreg (demo)\nwidth 0.031, rms 0.062, 0.0 % outside" in found
    assert f"{DAGGER} quoted $\\sigma$ = 0.06" in found and f"{DAGGER} dashed: quoted sigma" in found
    assert set(table["parameter"]) == {"theta", "sin_phi", "cos_phi", "charge", "q_over_pt", "all"}
    drawn(figure)
    figure, _ = width_figure({"encreg": predictions()}, header=HEADER)
    assert DAGGER not in texts(figure)


# Latency


def timing(devices=("cpu",), sizes=(100, 400)):
    rows = []
    for device in devices:
        for n in sizes:
            for call, factor in enumerate((1.0, 2.0, 3.0)):
                seconds = {"features": 9.0, "network": 1e-6 * n**2 * factor, "clustering": 1e-4 * n, "total": 1e-3 * n}
                hits = 10 * n + call
                rows += [("encreg", device, n, hits, call, name, s, 2 * s) for name, s in seconds.items()]
    columns = ["row", "device", "n_tracks", "n_hits", "call", "stage", "wall_s", "cpu_s"]
    return pd.DataFrame(rows, columns=columns)


def test_latency_by_hand():
    table = track_latency_table(timing()).set_index(["stage", "n_tracks"])
    assert set(table.index.get_level_values(0)) == {"network", "clustering", "total"}
    network = table.loc[("network", 100)]
    assert (network["n_hits"], network["n_calls"]) == (1001, 3)
    assert (network["median_ms"], network["lo_ms"], network["hi_ms"]) == pytest.approx((20, 13.2, 26.8))
    assert track_latency_table(timing(), "cpu_s").query("stage == 'total'")["median_ms"].tolist() == [200, 800]


def test_published_times_are_of_sets_with_both_stages():
    points = quoted_points(read_published(PUBLISHED))
    assert set(points["row"]) == {"EncReg", "EncReg, flash fp16"}
    exact = points[(points["row"] == "EncReg") & (points["stage"] == "network")]
    assert exact[["n_tracks", "median_ms", "lo_tracks", "hi_tracks"]].to_numpy().tolist() == [
        [30, 2.3, 10, 50],
        [75, 3.2, 50, 100],
        [350, 52.8, 200, 500],
    ]
    assert points["n_hits"].isna().all()


def test_latency_figure():
    frame = timing(("cpu", "cuda"))
    figure, table = track_latency_figure(
        frame, "Test CPU, 1 thread", published=read_published(PUBLISHED), header=HEADER, labels={"encreg": "demo"}
    )
    found = texts(figure)
    for text in ("Test CPU, 1 thread", "encreg (demo)", "network", "clustering", "total", "filled: cpu", "open: cuda"):
        assert text in found
    assert f"EncReg: network {DAGGER}" in found and f"{DAGGER} quoted: other device" in found
    left, right = figure.axes
    assert left.get_xlabel() == "Number of tracks" and right.get_xlabel() == "Number of hits"
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in figure.axes)
    assert table.groupby("device").size().to_dict() == {"cpu": 6, "cuda": 6, "quoted": 8}
    drawn(figure)


def test_latency_errors():
    with pytest.raises(ConfigError, match="latency statement: empty"):
        track_latency_figure(timing(), "")
    with pytest.raises(ConfigError, match="latency clock: 'gpu' is not known"):
        track_latency_table(timing(), "gpu")
    with pytest.raises(ConfigError, match="timing table: no column 'device'"):
        track_latency_table(timing().drop(columns="device"))


# Label noise and matrix


def noise():
    rows = [("charge", 0.0, 0.98, 0.97, 0.99, 0.9), ("charge", 0.1, 0.6, 0.58, 0.62, 0.5)]
    rows.append(("q_over_pt", 0.1, 0.9, 0.88, 0.92, 0.8))
    rows.append(("hit angles", np.nan, 0.75, 0.74, 0.76, 0.7))
    frame = pd.DataFrame(rows, columns=["targets", "scale", "score", "score_lo", "score_hi", "dm"])
    return frame.assign(n_events=10, source="measured")


def test_label_noise_figure(tmp_path):
    published = noise_rows(read_published(PUBLISHED))
    figure, table = label_noise_figure(noise(), published, HEADER)
    assert len(table) == 9 and table["source"].str.startswith("quoted: ").sum() == 5
    assert table[table["n_events"] == 0]["score"].tolist() == [1, 0.97, 0.77, 0.55, 0.39]
    assert f"score {DAGGER} quoted" in texts(figure) and f"{DAGGER} quoted: published" in texts(figure)
    ax = figure.axes[0]
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries[-1].startswith("DM") and entries[0].startswith("score")
    drawn(figure)
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1  # beside the lines
    flat = {line.get_label(): line.get_ydata()[0] for line in ax.get_lines() if "floor" in str(line.get_label())}
    assert flat == {"score, floor: hit angles": 0.75, "DM, floor: hit angles": 0.7}
    assert "not said to be" in texts(figure) and table["source"].str.contains("not said to be the scale").sum() == 5
    paths = save_figure(figure, tmp_path / "figure", table)
    assert all(path.stat().st_size > 0 for path in paths) and len(pd.read_csv(paths[2])) == 9
    figure, table = label_noise_figure(noise(), header=HEADER)
    assert len(table) == 4 and DAGGER not in texts(figure)
    with pytest.raises(ConfigError, match="label-noise table: no column 'dm'"):
        label_noise_figure(noise().drop(columns="dm"))


def test_matrix_figure():
    def entry(row, kind, on, where, value, quoted=np.nan, label=""):
        numbers = {"value": value, "lo": value - 0.01, "hi": value + 0.01, "quoted": quoted, "label": label}
        names = {"row": row, "kind": kind, "trained_on": on, "set": where, "metric": "trackml_score"}
        return {**names, **numbers, "n_events": 5, "quoted_source": "s", "source": "measured"}

    rows = [entry("hit_angles", "floor", "", name, 0.5) for name in ("10-50", "50-100")]
    rows += [entry("true_targets", "ceiling", "", name, 0.98) for name in ("10-50", "50-100")]
    rows += [entry("encreg", "trained", "10-50", "10-50", 0.8, 0.932, "demo")]
    rows += [entry("encreg", "trained", "10-50", "50-100", 0.7, 0.79, "demo")]
    rows += [entry("encreg", "trained", "200-500", "10-50", np.nan, 0.8)]
    table = pd.DataFrame(rows, columns=list(MATRIX_COLUMNS))
    figure, _ = matrix_figure(table, HEADER)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "trained on 10-50",
        "trained on 200-500",
        "floor: hit_angles",
        "ceiling: true_targets",
    ]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10-50", "50-100"]
    found = texts(figure)
    assert f"0.800 ± 0.010\n(0.932 {DAGGER})" in found and f"\n(0.8 {DAGGER})" in found
    assert f"in brackets {DAGGER} quoted" in found and "encreg (demo)" in ax.get_xlabel()
    colours = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert colours[0].tolist() == [0.8, 0.7] and np.isnan(colours[1]).all() and colours[2].tolist() == [0.5, 0.5]
    drawn(figure)
    with pytest.raises(ConfigError, match="matrix table: no column 'quoted'"):
        matrix_figure(table.drop(columns="quoted"))


def test_rows_trained_on_other_sets_share_the_lines_of_the_matrix():
    def entry(row, kind, on, value):
        names = {"row": row, "kind": kind, "trained_on": on, "set": "10-50", "metric": "trackml_score"}
        return {**names, "value": value, "lo": value, "hi": value, "quoted": np.nan, "n_events": 5, "label": ""}

    rows = [entry("hit_angles", "floor", "", 0.5), entry("one", "trained", "10-50", 0.8)]
    rows += [entry("two", "trained", "50-100", 0.7), entry("two", "trained", "10-50", 0.6)]
    figure, _ = matrix_figure(pd.DataFrame(rows, columns=list(MATRIX_COLUMNS)), HEADER)
    left, right = figure.axes
    lines = [label.get_text() for label in left.get_yticklabels()]
    assert lines == ["trained on 10-50", "trained on 50-100", "floor: hit_angles"]
    panels = [np.ma.filled(ax.images[0].get_array(), np.nan)[:, 0] for ax in (left, right)]
    np.testing.assert_array_equal(panels, [[0.8, np.nan, 0.5], [0.6, 0.7, 0.5]])
    inside = [text.get_position()[1] for ax in (left, right) for text in ax.texts if text.get_text()[0] == "0"]
    assert max(inside) == 2
