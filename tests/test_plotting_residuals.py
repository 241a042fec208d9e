"""Pull and resolution figures: the numbers behind them, empty input, one track."""

import numpy as np
import pandas as pd
import pytest

from trackbench.data.tracks import PARAMETERS
from trackbench.errors import ConfigError
from trackbench.evaluation.residuals import RESIDUAL_COLUMNS
from trackbench.plotting.residuals import (
    CHI2,
    PULL_COLUMNS,
    WIDTH_COLUMNS,
    chi2_probability,
    half_width,
    pull_figure,
    pull_table,
    width_figure,
    width_table,
)
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


def test_half_width_by_hand():
    # 0.158655 x 100 = 15.8655 and 84.1345 on the values 0, 1, ..., 100
    width, error = half_width(np.append(np.arange(101.0), np.nan))
    assert width == pytest.approx(34.1345, abs=1e-3)
    assert error == pytest.approx(0.9617 * 34.1345 / np.sqrt(101), rel=1e-3)


def test_error_of_the_half_width_is_its_spread():
    rng = np.random.default_rng(1)
    widths = [half_width(sample)[0] for sample in rng.normal(0, 2.0, (2000, 400))]
    assert np.mean(widths) == pytest.approx(2.0, abs=0.02)
    assert np.std(widths) == pytest.approx(0.9617 * 2.0 / 20, rel=0.06)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_no_width_of_few_tracks(n):
    assert np.isnan(half_width(np.ones(n))).all()


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


def test_numbers_of_the_widths():
    frames = {"a": toy_residuals(), "b": toy_residuals(seed=2, width=2.0)}
    edges = np.array([1.0, 2.0, 9.0, 9.0001, 10.0])
    table = width_table(frames, "pt", edges)
    assert list(table) == list(WIDTH_COLUMNS)
    chosen = table[(table["tracker"] == "b") & (table["quantity"] == "z0")].set_index("bin")
    assert chosen.index.tolist() == ["all", "0", "1", "2", "3"]
    frame = frames["b"]
    inside = frame["residual_z0"][(frame["pt"] >= 2) & (frame["pt"] < 9)]
    low, high = np.quantile(inside, [0.158655254, 0.841344746])
    row = chosen.loc["1"]
    assert row["unit"] == "µm"
    assert row["n"] == inside.size
    assert row["value"] == pytest.approx(1000 * (high - low) / 2, rel=1e-9)
    assert row["hi"] - row["value"] == pytest.approx(0.9617 * row["value"] / np.sqrt(inside.size), rel=1e-9)
    assert chosen.loc["2", "n"] < 10
    assert np.isnan(chosen.loc["2", "value"])
    assert chosen.loc["all", "value"] == pytest.approx(40, rel=0.1)  # um
    relative = table[(table["tracker"] == "a") & (table["quantity"] == "q_over_pt") & (table["bin"] == "3")].iloc[0]
    assert relative["unit"] == "%"
    assert relative["value"] == pytest.approx(100 * 0.02 * 9.5, rel=0.25)  # grows with pT


def test_the_last_bin_includes_its_edge():
    frame = toy_residuals(20).assign(eta=[-4.0] * 10 + [4.0] * 10)
    d0 = width_table({"a": frame}, "eta").query("quantity == 'd0'").set_index("bin")
    assert d0["n"].to_dict() == {"all": 20, "0": 10, "1": 0, "2": 0, "3": 0, "4": 10}


@pytest.mark.parametrize(("n", "n_bins"), [(400, 20), (399, 10), (200, 10), (199, 5), (0, 5)])
def test_bins_are_wide_enough_for_the_tracks(n, n_bins):
    table = width_table({"a": toy_residuals(n), "b": toy_residuals(n // 2)}, "eta")
    edges = table[(table["tracker"] == "a") & (table["quantity"] == "d0") & (table["bin"] != "all")]
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
    for variable in ("pt", "eta"):
        figure, table = width_figure(frames, variable, header)
        labels = [text.get_text() for text in figure.axes[5].get_legend().get_texts()]
        assert labels == ["helix_finder (2000 tracks)", "ckf (300 tracks)"]
        assert all(path.exists() for path in save_figure(figure, tmp_path / variable, table))


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_track(n):
    frames = {"helix_finder": toy_residuals(n), "ckf": toy_residuals(50)}
    for figure, table in (pull_figure(frames), width_figure(frames, "eta")):
        counts = table[(table["bin"] == "all") & (table["quantity"] == "d0")].set_index("tracker")["n"]
        assert counts.to_dict() == {"helix_finder": n, "ckf": 50}
        figure.draw_without_rendering()


@pytest.mark.parametrize("frames", [{}, {"a": toy_residuals(100).assign(vr=3.0)}])
def test_no_tracker_or_only_secondaries(frames):
    for figure, table in (pull_figure(frames), width_figure(frames, "pt")):
        assert (table["n"] == 0).all()
        figure.draw_without_rendering()


def test_wrong_input():
    with pytest.raises(ConfigError, match="figure variable: 'phi' is not known, expected one of pt, eta"):
        width_table({}, "phi")
    with pytest.raises(ConfigError, match="residuals of a: no column 'vr'"):
        pull_table({"a": toy_residuals(3).drop(columns="vr")})
    with pytest.raises(ConfigError, match="residuals of a: no column 'residual_theta'"):
        width_table({"a": toy_residuals(3).drop(columns="residual_theta")}, "pt")
