"""Pull and resolution figures: the numbers behind them, empty input, one track."""

import numpy as np
import pandas as pd
import pytest

from trackbench.data.tracks import PARAMETERS
from trackbench.errors import ConfigError
from trackbench.evaluation.fit_quality import SECONDARY
from trackbench.evaluation.residuals import RESIDUAL_COLUMNS
from trackbench.plotting.residual_tables import (
    CHI2,
    PROFILE_COLUMNS,
    PULL_COLUMNS,
    chi2_probability,
    profile_table,
    pull_table,
)
from trackbench.plotting.residuals import pull_figure, pull_profile_figure, resolution_figure
from trackbench.plotting.style import Header, save_figure


def toy_residuals(n=2000, seed=0, width=1.0):
    """Residuals of prompt tracks with pulls of the given width; sigma of every parameter is 0.02."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(0.0, index=range(n), columns=list(RESIDUAL_COLUMNS))
    for name in PARAMETERS:
        frame[f"pull_{name}"] = rng.normal(0, width, n)
        frame[f"residual_{name}"] = 0.02 * frame[f"pull_{name}"]
    frame["pt"], frame["eta"] = rng.uniform(1, 10, n), rng.uniform(-3, 3, n)
    frame["n_dof"] = 5
    frame["chi2"] = rng.chisquare(5, n)
    return frame


def test_chi2_probability():
    frame = pd.DataFrame({"chi2": [0.0, 2.0, 11.07, np.nan, 1.0], "n_dof": [3, 2, 5, 4, 0]})
    expected = [1.0, np.exp(-1), 0.05, np.nan, np.nan]  # for two degrees of freedom it is exp(-chi2 / 2)
    np.testing.assert_allclose(chi2_probability(frame), expected, atol=1e-4)


def test_numbers_of_the_pulls():
    frame = toy_residuals(width=1.1)
    frame.loc[:4, "pull_d0"] = [7.0, 8.0, -6.0, np.nan, 5.0]  # 5 is the upper edge of the last bin
    frame.loc[1000:, "vr"] = 2.5  # secondaries are left out
    table = pull_table({"a": frame})
    assert list(table) == list(PULL_COLUMNS)
    assert set(table["quantity"]) == {*PARAMETERS, CHI2}
    prompt = frame.iloc[:1000]
    d0 = table[table["quantity"] == "d0"].set_index("bin")
    assert d0.loc[["all", "over", "under", "undefined"], "n"].tolist() == [999, 2, 1, 1]
    inside = prompt["pull_d0"][prompt["pull_d0"].abs() <= 5]
    assert d0.loc["all", "mean"] == pytest.approx(inside.mean(), rel=1e-12)
    assert d0.loc["all", "width"] == pytest.approx(1.1, abs=4 * 1.1 * 0.96 / np.sqrt(1000))
    bins = d0[d0["density"].notna()]
    assert len(bins) == 50
    assert bins["n"].sum() == inside.size
    first = prompt["pull_d0"].between(0.0, 0.2, inclusive="left").sum()
    assert bins.loc["25", ["low", "high", "n"]].tolist() == pytest.approx([0.0, 0.2, first], abs=1e-12)
    np.testing.assert_allclose(bins["density"], bins["n"] / (999 * 0.2), rtol=1e-9)
    chi2 = table[(table["quantity"] == CHI2) & table["density"].notna()]
    assert len(chi2) == 20
    assert chi2["n"].sum() == 1000
    np.testing.assert_allclose(chi2["density"], 1.0, atol=5 * np.sqrt(20 / 1000))


def test_pulls_of_secondaries_apart():
    frame = toy_residuals(300)
    frame.loc[:99, "vr"] = 2.0 + np.arange(100)  # one of them is within the limit
    for origin, n in ((SECONDARY, 99), ("prompt", 201)):
        table = pull_table({"a": frame}, origin)
        assert (table["origin"] == origin).all()
        assert table.query("bin == 'all'")["n"].tolist() == [n] * 6


def chosen(table, tracker, quantity, statistic, origin="prompt"):
    keys = {"tracker": tracker, "quantity": quantity, "statistic": statistic, "origin": origin}
    return table[np.logical_and.reduce([table[key] == value for key, value in keys.items()])].set_index("bin")


def test_numbers_of_the_resolution():
    frames = {"a": toy_residuals(), "b": toy_residuals(seed=2, width=2.0)}
    edges = np.array([1.0, 2.0, 9.0, 9.0001, 10.0])
    table = profile_table(frames, "pt", "residual", edges)
    assert list(table) == list(PROFILE_COLUMNS)
    z0 = chosen(table, "b", "z0", "resolution")
    assert z0.index.tolist() == ["all", "0", "1", "2", "3"]
    frame = frames["b"]
    inside = frame["residual_z0"][(frame["pt"] >= 2) & (frame["pt"] < 9)]
    low, high = np.quantile(inside, [0.158655254, 0.841344746])
    row = z0.loc["1"]
    assert row["unit"] == "µm"
    assert row["n"] == inside.size
    assert row["value"] == pytest.approx(1000 * (high - low) / 2, rel=1e-9)
    assert row["hi"] - row["value"] == pytest.approx(0.9617 * row["value"] / np.sqrt(inside.size), rel=1e-9)
    assert z0.loc["2", "n"] < 10
    assert np.isnan(z0.loc["2", "value"])
    assert z0.loc["all", "value"] == pytest.approx(40, rel=0.1)  # um
    relative = chosen(table, "a", "q_over_pt", "resolution").loc["3"]
    assert relative["unit"] == "%"
    assert relative["value"] == pytest.approx(100 * 0.02 * 9.5, rel=0.25)  # grows with pT


def test_bias_and_pulls_by_hand():
    """Eleven tracks at eta -1, eleven at 1: pulls -5, ..., 5 and the same + 1; one of the latter lies outside."""
    pull = np.arange(-5.0, 6.0)
    frame = toy_residuals(22).assign(eta=[-1.0] * 11 + [1.0] * 11, pt=2.0)
    frame["pull_q_over_pt"] = np.append(pull, pull + 1)
    frame["residual_q_over_pt"] = 0.01 * frame["pull_q_over_pt"]
    edges = np.array([-2.0, 0.0, 2.0])
    pulls, residuals = (profile_table({"a": frame}, "eta", kind, edges) for kind in ("pull", "residual"))
    mean = chosen(pulls, "a", "q_over_pt", "pull_mean")
    assert mean["n"].tolist() == [22, 11, 11]
    # -4, ..., 5 has the mean 0.5, and the variance 82.5 / 9.
    np.testing.assert_allclose(mean["value"], [(0.0 * 11 + 5.0) / 21, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose((mean["hi"] - mean["value"])[1:], np.sqrt([110 / 10 / 11, 82.5 / 9 / 10]))
    assert (pulls["unit"] == "").all()
    # The quantiles 0.1587 and 0.8413 of eleven equally spaced values are 6.827 spacings apart.
    width = chosen(pulls, "a", "q_over_pt", "pull_width")
    np.testing.assert_allclose(width["value"][1:], 3.4134, atol=1e-4)
    bias = chosen(residuals, "a", "q_over_pt", "bias")
    np.testing.assert_allclose(bias["value"][1:], [0.0, 2.0], atol=1e-12)  # % of q/pT at 2 GeV
    np.testing.assert_allclose((bias["hi"] - bias["value"])[1:], 1.2533 * 2 * 3.4134 / np.sqrt(11), rtol=1e-4)


def test_secondaries_have_rows_of_their_own():
    frame = toy_residuals(100).assign(vr=[0.0] * 60 + [30.0] * 40)
    frame.loc[60:, "residual_d0"] += 0.5
    table = profile_table({"a": frame}, "pt", "residual")
    for origin, n, low, high in (("prompt", 60, -20, 20), ("secondary", 40, 480, 520)):
        row = chosen(table, "a", "d0", "bias", origin).loc["all"]
        assert row["n"] == n
        assert low < row["value"] < high  # um


def test_the_last_bin_includes_its_edge():
    frame = toy_residuals(20).assign(eta=[-4.0] * 10 + [4.0] * 10)
    d0 = chosen(profile_table({"a": frame}, "eta", "pull"), "a", "d0", "pull_width")
    assert d0["n"].to_dict() == {"all": 20, "0": 10, "1": 0, "2": 0, "3": 0, "4": 10}


@pytest.mark.parametrize(("n", "n_bins"), [(400, 20), (399, 10), (200, 10), (199, 5), (0, 5)])
def test_bins_are_wide_enough_for_the_tracks(n, n_bins):
    table = profile_table({"a": toy_residuals(n), "b": toy_residuals(n // 2)}, "eta", "residual")
    edges = chosen(table, "a", "d0", "bias").drop(index="all")
    assert len(edges) == n_bins
    assert (edges["low"].iloc[0], edges["high"].iloc[-1]) == (-4.0, 4.0)


def test_figures_are_written_with_their_numbers(tmp_path):
    frames = {"helix_finder": toy_residuals(), "ckf": toy_residuals(300, 3)}
    header = Header(200, "pT >= 0.9 GeV", 2, sample="TrackML-like simulation")
    figure, table = pull_figure(frames, header)
    assert len(figure.axes) == 6
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert any("TrackML-like simulation" in text for text in texts)
    assert any("matched prompt tracks" in text for text in texts)
    all_d0 = table[(table["bin"] == "all") & (table["quantity"] == "d0")].set_index("tracker")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0].startswith(f"helix_finder: {all_d0.loc['helix_finder', 'width']:.3f} ± ")
    for path in save_figure(figure, tmp_path / "pulls", table):
        assert path.stat().st_size > 1000
    profiles = (
        (resolution_figure, "pt", {"resolution", "bias"}),
        (pull_profile_figure, "eta", {"pull_width", "pull_mean"}),
    )
    for make, variable, statistics in profiles:
        figure, table = make(frames, variable, header)
        assert set(table["statistic"]) == statistics
        assert set(table["origin"]) == {"prompt", "secondary"}
        (key,) = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
        labels = [text.get_text() for text in key.get_texts()]
        assert labels == ["helix_finder (2000 tracks)", "ckf (300 tracks)"]
        assert all(path.exists() for path in save_figure(figure, tmp_path / variable, table))


def test_expectations_are_drawn():
    """A dashed line at 1 in the panels of widths of pulls, at 0 in those of means and biases."""
    for make, expected in ((pull_profile_figure, [1.0, 0.0] * 5), (resolution_figure, [None, 0.0] * 5)):
        figure, _ = make({"a": toy_residuals()}, "eta")
        found = [[line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] for ax in figure.axes[:10]]
        assert found == [[] if value is None else [value] for value in expected]


def all_figures(frames):
    """Every figure with its numbers."""
    yield from (pull_figure(frames), resolution_figure(frames, "pt"), pull_profile_figure(frames, "eta"))


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_track(n):
    frames = {"helix_finder": toy_residuals(n), "ckf": toy_residuals(50)}
    for figure, table in all_figures(frames):
        whole = table[(table["bin"] == "all") & (table["quantity"] == "d0") & (table["origin"] == "prompt")]
        assert whole.groupby("tracker")["n"].max().to_dict() == {"helix_finder": n, "ckf": 50}
        figure.draw_without_rendering()


@pytest.mark.parametrize("frames", [{}, {"a": toy_residuals(100).assign(vr=3.0)}])
def test_no_tracker_or_only_secondaries(frames):
    for figure, table in all_figures(frames):
        assert (table.loc[table["origin"] == "prompt", "n"] == 0).all()
        figure.draw_without_rendering()


def test_wrong_input():
    with pytest.raises(ConfigError, match="figure variable: 'phi' is not known, expected one of pt, eta"):
        profile_table({}, "phi", "pull")
    with pytest.raises(ConfigError, match="figure kind: 'pulls' is not known, expected one of residual, pull"):
        profile_table({}, "pt", "pulls")
    with pytest.raises(ConfigError, match="residuals of a: no column 'vr'"):
        pull_table({"a": toy_residuals(3).drop(columns="vr")})
    with pytest.raises(ConfigError, match="residuals of a: no column 'residual_theta'"):
        profile_table({"a": toy_residuals(3).drop(columns="residual_theta")}, "pt", "residual")
