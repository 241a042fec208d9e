"""The style of figures, and the numbers behind efficiency, fake rate and overview figures."""

import hashlib

import matplotlib
import numpy as np
import pandas as pd
import pytest

from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.intervals import jeffreys, wilson
from trackbench.plotting.binning import RATE_COLUMNS, binned_rate, default_edges, outside_text
from trackbench.plotting.efficiency import efficiency_figure, fake_rate_figure
from trackbench.plotting.style import (
    TRACKER_STYLES,
    Header,
    new_figure,
    pretty,
    save_figure,
    style_context,
    tracker_style,
)
from trackbench.plotting.summary import DIFFERENCE_COLUMNS, METRIC_COLUMNS, difference_figure, summary_figure

HEADER = Header(200, "pT >= 0.9 GeV, |eta| < 4, >= 3 layers", 2, sample="TrackML-like simulation", sigma_z=5.5)


def particles(seed=0, n=400, efficiency=0.8):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "event_id": rng.integers(1, 3, n),
            "pt": 0.9 + rng.exponential(1.0, n),
            "eta": rng.uniform(-4, 4, n),
            "phi": rng.uniform(-np.pi, np.pi, n),
            "z0": rng.normal(0, 5.5, n),
        }
    )
    for name in ("dm", "technical", "perfect"):
        frame[name] = rng.uniform(size=n) < efficiency
    return frame


def candidates(seed=0, n=400):
    rng = np.random.default_rng(seed)
    frame = particles(seed, n).drop(columns=["dm", "technical", "perfect"])
    return frame.assign(
        fiducial=rng.uniform(size=n) < 0.5, fake_purity=rng.uniform(size=n) < 0.1, fake_dm=rng.uniform(size=n) < 0.2
    )


def texts(figure):
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return inside + [text.get_text() for legend in legends for text in (*legend.get_texts(), legend.get_title())]


# style


def test_known_trackers_have_distinct_looks():
    names = "dbscan hdbscan density_peaks iterative_window grid_window helix_hash helix_finder encreg enccla heptv2"
    names = [*names.split(), "hept_dbscan", "ckf", "hit_angles"]
    assert set(names) == set(TRACKER_STYLES)
    assert len({style.color for style in TRACKER_STYLES.values()}) == len(names)
    assert len({style.marker for style in TRACKER_STYLES.values()}) == len(names)


def test_rows_of_the_kalman_filter_have_looks_of_their_own():
    names = ["ckf", "ckf_no_ambiguity", "ckf_seeds"]
    others = ["dbscan", "hdbscan", "density_peaks", "iterative_window", "grid_window", "helix_hash", "helix_finder"]
    styles = [tracker_style(name) for name in (*names, *others, "heptv2", "hept_dbscan")]
    assert len({style.color for style in styles}) == len({style.marker for style in styles}) == len(styles)
    assert tracker_style("ckf").color == "#000000"  # nothing else in these figures is black


def test_a_tracker_looks_as_its_quoted_rows_do():
    assert tracker_style("hept (demo)") == tracker_style("hept_dbscan") == TRACKER_STYLES["hept_dbscan"]


def test_unknown_tracker_always_looks_the_same():
    # Fixed values: a change here would recolour every figure of everybody's own tracker.
    assert (tracker_style("my_tracker").color, tracker_style("my_tracker").marker) == ("#b9ac70", "^")
    assert len({tracker_style(f"tracker_{i}") for i in range(40)}) > 20


def test_style_context_changes_nothing_outside():
    before = dict(matplotlib.rcParams)
    with style_context():
        assert matplotlib.rcParams["figure.figsize"] == [8.0, 6.0]
        assert matplotlib.rcParams["font.size"] == 14.0
        assert matplotlib.rcParams["xtick.direction"] == "in"
    efficiency_figure({"a": particles()})
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (Header(), ""),
        (Header(n_events=1), "1 event"),
        (Header(200.0, n_events=20), r"$\langle\mu\rangle$ = 200, 20 events"),
        (Header(0), r"$\langle\mu\rangle$ = 0"),
        (Header(3, sigma_z=5.4321), r"$\langle\mu\rangle$ = 3, $\sigma_z$ = 5.43 mm"),
    ],
)
def test_header_details(header, text):
    assert header.details() == text


def test_pretty_typesets_selections():
    assert pretty("pT >= 0.9 GeV, |eta| < 4") == "$p_\\mathrm{T}$ \u2265 0.9 GeV, $|\\eta|$ < 4"


def test_header_names_sample_and_selection():
    figure, _ = efficiency_figure({"a": particles()}, header=HEADER)
    found = texts(figure)
    assert "TrackML-like simulation" in found
    assert r"$\langle\mu\rangle$ = 200, $\sigma_z$ = 5.5 mm, 2 events" in found
    assert any("3 layers" in text and "Clopper-Pearson" in text for text in found)


def test_header_wraps_to_the_width_of_the_figure():
    hits = "pixel hits, hit |eta| <= 3, noise and particles with |eta| > 4 REMOVED BY TRUTH (HEPTv2 mode)"
    figure, _ = efficiency_figure({"a": particles()}, header=Header(200, "pT >= 0.9 GeV", hits=hits))
    (below,) = [text for text in texts(figure) if "REMOVED" in text]
    assert all(len(line) < 100 for line in below.splitlines()) and len(below.splitlines()) >= 2
    words = " ".join(below.replace(";", "").split())
    assert pretty(f"pT >= 0.9 GeV {hits} 68.27 % Clopper-Pearson") == words


def test_saved_figures_are_byte_identical(tmp_path):
    digests = []
    for name in ("first", "second"):
        figure, table = efficiency_figure({"dbscan": particles()}, header=HEADER)
        paths = save_figure(figure, tmp_path / name / "efficiency-0.9", table)
        assert [path.name for path in paths] == [f"efficiency-0.9.{suffix}" for suffix in ("pdf", "png", "csv")]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(path.name for path in paths)
    saved = pd.read_csv(tmp_path / "first" / "efficiency-0.9.csv")
    assert list(saved["n_den"]) == list(table["n_den"])


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="no space"):
        save_figure(new_figure(), tmp_path / "a", pd.DataFrame({"x": [1.0]}))
    assert not list(tmp_path.glob(".tmp*")) and not (tmp_path / "a.csv").exists()


# binning


def test_binned_rate_by_hand():
    values = np.array([0.0, 0.5, 1.0, 1.0, 2.0, 2.5, -1.0, np.nan])
    passed = np.array([True, False, True, True, False, True, True, True])
    table = binned_rate(values, passed, np.array([0.0, 1.0, 2.0])).set_index("bin")
    # [0, 1): 0.0, 0.5; [1, 2]: 1.0, 1.0, 2.0 (last bin is closed); outside: -1.0, 2.5; NaN apart
    expected = {"all": (6, 8), "under": (1, 1), "0": (1, 2), "1": (2, 3), "over": (1, 1), "undefined": (1, 1)}
    assert {name: (row.n_num, row.n_den) for name, row in table.iterrows()} == expected
    assert table.loc["1", "value"] == pytest.approx(2 / 3)
    # Clopper-Pearson of 1 of 2 at 68.27 %: 1 - lo = hi = sqrt(1 - 0.15865)
    assert table.loc["0", "hi"] == pytest.approx(np.sqrt(1 - 0.15865), abs=1e-6)
    assert table.loc["0", "lo"] == pytest.approx(1 - np.sqrt(1 - 0.15865), abs=1e-6)


def test_binned_rate_matches_naive_count():
    rng = np.random.default_rng(1)
    values, passed = rng.normal(0, 2, 500).round(1), rng.uniform(size=500) < 0.3
    edges = np.linspace(-3, 3, 13)
    table = binned_rate(values, passed, edges)
    rows = table[table["bin"].str.isdigit()]
    for i, row in enumerate(rows.itertuples()):
        last = i == len(rows) - 1
        inside = [p for v, p in zip(values, passed, strict=True) if row.low <= v < row.high or (last and v == row.high)]
        assert (row.n_den, row.n_num) == (len(inside), sum(inside))
    assert table.loc[table["bin"] != "all", "n_den"].sum() == 500


def test_empty_bin_is_a_gap_not_zero():
    table = binned_rate(np.array([0.5]), np.array([True]), np.array([0.0, 1.0, 2.0])).set_index("bin")
    assert table.loc["1", "n_den"] == 0
    assert table.loc["1", ["value", "lo", "hi"]].isna().all()
    assert table.loc["0", "value"] == 1.0


@pytest.mark.parametrize("edges", [[1.0], [1.0, 1.0], [2.0, 1.0], [0.0, np.inf], [[0.0, 1.0]]])
def test_bad_edges_are_refused(edges):
    with pytest.raises(ConfigError, match=r"bin edges.*increasing"):
        binned_rate(np.zeros(1), np.ones(1, bool), np.array(edges))


def test_default_edges():
    assert default_edges("pt", np.array([0.9, 3.0]))[[0, -1]] == pytest.approx([0.9, 50.0])
    assert default_edges("pt", np.array([0.55, 3.0]))[0] == pytest.approx(0.5)
    assert default_edges("pt", np.array([]))[0] == pytest.approx(0.9)
    assert list(default_edges("eta", np.array([9.0]))[[0, -1]]) == [-4.0, 4.0]
    assert default_edges("phi", np.zeros(0))[[0, -1]] == pytest.approx([-np.pi, np.pi])
    assert default_edges("z0", np.linspace(-14, 14, 101))[-1] == pytest.approx(20.0)
    assert default_edges("z0", np.array([np.nan]))[-1] == pytest.approx(1.0)
    assert default_edges("z0", np.zeros(5))[-1] > 0


def test_outside_text_gives_range_over_trackers():
    table = pd.DataFrame(
        {"tracker": ["a", "a", "b", "b"], "bin": ["under", "over", "over", "0"], "n_den": [1, 2, 7, 9]}
    )
    assert outside_text(table) == "3 to 7 outside the axis range"
    assert outside_text(table[table["bin"] == "0"]) == ""


# efficiency and fake rate


@pytest.mark.parametrize("variable", ["pt", "eta", "phi", "z0"])
@pytest.mark.parametrize("metric", ["dm", "technical", "perfect"])
def test_efficiency_table(variable, metric):
    frames = {"dbscan": particles(0), "hdbscan": particles(1, efficiency=0.5)}
    figure, table = efficiency_figure(frames, variable, metric, header=HEADER)
    assert tuple(table.columns) == RATE_COLUMNS
    for name, frame in frames.items():
        total = table[(table["tracker"] == name) & (table["bin"] == "all")].iloc[0]
        assert (total["n_num"], total["n_den"]) == (frame[metric].sum(), len(frame))
        assert f"{name} ({frame[metric].mean():.3f})" in texts(figure)


def test_other_interval_reaches_points_and_header():
    frame = pd.DataFrame({"eta": [0.5] * 4, "dm": [True, True, True, False]})
    figure, table = efficiency_figure({"a": frame}, "eta", edges=np.array([0.0, 1.0]), interval="wilson")
    assert table.loc[0, ["lo", "hi"]].tolist() == pytest.approx(wilson(3, 4))
    assert any("68.27 % Wilson" in text for text in texts(figure))
    assert not any("Clopper" in text for text in texts(figure))
    frame = frame.assign(fiducial=True, fake_dm=frame["dm"])
    _, table = fake_rate_figure({"a": frame}, "eta", "fake_dm", interval="jeffreys")
    assert table.loc[0, ["lo", "hi"]].tolist() == pytest.approx(jeffreys(3, 4))
    with pytest.raises(InputError, match="interval: 'normal', expected one of clopper-pearson, wilson, jeffreys"):
        efficiency_figure({"a": frame}, "eta", interval="normal")


def test_trackers_share_their_bins():
    low, high = particles(0), particles(1).assign(z0=lambda f: 10 * f["z0"])
    _, table = efficiency_figure({"a": low, "b": high}, "z0")
    edges = [table.loc[table["tracker"] == name, "high"].tolist()[2:-2] for name in ("a", "b")]
    assert edges[0] == edges[1] and edges[0][-1] > 100


def test_fake_rate_counts_fiducial_candidates_only():
    frame = candidates()
    figure, table = fake_rate_figure({"dbscan": frame}, "eta", "fake_dm")
    assert figure.axes[0].get_ylim()[0] < 0  # markers at 0 are whole
    fiducial = frame[frame["fiducial"]]
    total = table[table["bin"] == "all"].iloc[0]
    assert (total["n_num"], total["n_den"]) == (fiducial["fake_dm"].sum(), len(fiducial))


def test_ratio_to_reference():
    edges = np.array([-4.0, 0.0, 4.0])
    one = pd.DataFrame({"eta": [-1.0, -1.0, 1.0, 1.0], "dm": [True, False, True, True]})
    two = pd.DataFrame({"eta": [-1.0, -1.0, 1.0, 1.0], "dm": [True, True, False, True]})
    figure, table = efficiency_figure({"a": one, "b": two}, "eta", edges=edges, reference="b")
    ratio = table.set_index(["tracker", "bin"])["ratio"]
    assert ratio["a", "0"] == pytest.approx(0.5) and ratio["a", "1"] == pytest.approx(2.0)
    assert ratio["b", "0"] == ratio["b", "1"] == 1.0
    assert len(figure.axes) == 2
    row = table[(table["tracker"] == "a") & (table["bin"] == "1")].iloc[0]
    assert row["ratio_lo"] == pytest.approx(row["lo"] / 0.5)


def test_ratio_to_a_zero_reference_is_a_gap():
    frame = pd.DataFrame({"eta": [1.0], "dm": [False]})
    _, table = efficiency_figure({"a": frame.assign(dm=True), "b": frame}, "eta", reference="b")
    assert table["ratio"].isna().all()


def test_figures_without_anything_to_show(tmp_path):
    figure, table = efficiency_figure({}, "pt", header=HEADER)
    assert "no tracker to show" in texts(figure) and len(table) == 0
    save_figure(figure, tmp_path / "none", table)
    figure, table = efficiency_figure({"dbscan": particles().head(0)}, "z0", reference="dbscan")
    assert "dbscan (empty)" in texts(figure) and table["n_den"].sum() == 0
    save_figure(figure, tmp_path / "empty", table)
    figure, _ = fake_rate_figure({"dbscan": candidates().assign(fiducial=False)}, "pt")
    assert "dbscan (empty)" in texts(figure)
    save_figure(figure, tmp_path / "fake", table)


def test_particles_outside_the_axis_are_said():
    frame = particles().assign(pt=lambda f: np.where(f.index < 3, 80.0, f["pt"]))
    figure, table = efficiency_figure({"dbscan": frame}, "pt")
    assert table.loc[table["bin"] == "over", "n_den"].tolist() == [3]
    assert "(3 outside the axis range)" in texts(figure)


def test_efficiency_errors():
    with pytest.raises(ConfigError, match="'purity' is not known, expected one of dm, technical, perfect"):
        efficiency_figure({"a": particles()}, "pt", "purity")
    with pytest.raises(ConfigError, match="figure variable: 'theta' is not known"):
        efficiency_figure({"a": particles()}, "theta")
    with pytest.raises(ConfigError, match="ratio reference: 'ckf' is not known, expected one of a"):
        efficiency_figure({"a": particles()}, "pt", reference="ckf")
    with pytest.raises(ConfigError, match="table of a: no column 'dm'"):
        efficiency_figure({"a": particles().drop(columns="dm")}, "pt")
    with pytest.raises(ConfigError, match="candidates of a: no column 'fiducial'"):
        fake_rate_figure({"a": particles()}, "pt")


# overview


def metrics():
    rows = [
        ("dbscan", "dm", "all", 0.8, 0.79, 0.81, "measured here (simulated)"),
        ("dbscan", "dm", "barrel", 0.1, 0.0, 0.2, "measured here (simulated)"),
        ("helix_hash", "dm", "all", 0.95, 0.94, 0.96, "measured here (simulated)"),
        ("helix_hash", "fake_rate", "all", 0.01, 0.0, 0.02, "measured here (simulated)"),
        ("dbscan", "fake_rate", "all", 0.05, 0.04, 0.06, "measured here (simulated)"),
        ("heptv2", "dm", "all", 0.986, np.nan, np.nan, "quoted: arXiv:2606.20437"),
        ("dbscan", "dm", "all", 0.99, np.nan, np.nan, "quoted: elsewhere"),
    ]
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def test_overview_orders_and_marks_quoted_numbers():
    figure, table = summary_figure(metrics(), header=HEADER)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["helix_hash", "dbscan", "dbscan \N{DAGGER}", "heptv2 \N{DAGGER}"]
    assert table["quoted"].sum() == 2 and len(table) == 6  # the barrel row is left out
    faces = {
        (line.get_ydata()[0], line.get_markerfacecolor()) for line in figure.axes[0].lines if len(line.get_xdata()) == 1
    }
    assert {y for y, face in faces if face == "white"} == {2, 3}
    assert any("quoted" in text for text in texts(figure))


def test_overview_names_its_interval_and_fits_a_screen():
    figure, _ = summary_figure(metrics(), header=HEADER, interval="wilson")
    assert any("bars: 68.27 % Wilson" in text for text in texts(figure))
    many = pd.concat([metrics().iloc[[0]].assign(tracker=f"tracker_{i}") for i in range(19)])
    figure, _ = summary_figure(many, ("dm",), header=HEADER)
    assert figure.get_figheight() * 120 <= 800


def test_overview_of_nothing_says_so():
    figure, table = summary_figure(metrics().head(0))
    assert len(table) == 0 and "no tracker to show" in texts(figure)


def test_overview_errors():
    with pytest.raises(ConfigError, match="no row with metric lhc and region 'all', expected one of dm, fake_rate"):
        summary_figure(metrics(), ("lhc",))
    with pytest.raises(ConfigError, match="metrics table: no column 'source'"):
        summary_figure(metrics().drop(columns="source"))


def test_differences_are_sorted_and_fill_the_axis():
    rows = [("a", "dbscan", "dm", -0.2, -0.25, -0.15), ("b", "dbscan", "dm", 0.1, 0.08, 0.12)]
    rows += [("dbscan", "dbscan", "dm", 0.0, 0.0, 0.0), ("a", "dbscan", "fake_rate", 0.3, 0.2, 0.4)]
    frame = pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))
    figure, table = difference_figure(frame, header=HEADER)
    assert table["tracker"].tolist() == ["b", "a"]
    low, high = figure.axes[0].get_xlim()
    assert -0.4 < low < -0.25 and 0.12 < high < 0.25
    assert "+0.100 [+0.080, +0.120]" in texts(figure)
    assert figure.axes[0].get_xlabel() == "DM efficiency: difference to dbscan"
    low, high = difference_figure(frame[frame["tracker"] == "a"])[0].axes[0].get_xlim()
    assert -0.4 < low < -0.25 and 0 < high < 0.1  # zero is always inside


def test_differences_of_nothing_and_of_two_references():
    empty = pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    figure, table = difference_figure(empty)
    assert len(table) == 0 and "no tracker to show" in texts(figure)
    two = pd.DataFrame([("a", "b", "dm", 0, 0, 0), ("a", "c", "dm", 0, 0, 0)], columns=list(DIFFERENCE_COLUMNS))
    with pytest.raises(ConfigError, match="references b, c, expected one reference"):
        difference_figure(two)
