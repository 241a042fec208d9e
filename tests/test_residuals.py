"""True perigee, residuals and pulls, and the metrics that need fits: against hand-made circles and known noise."""

import numpy as np
import pandas as pd
import pytest
from metric_events import make_truth
from toys import CURVATURE, toy_event

from trackbench.data.hits import Hits
from trackbench.data.tracks import PARAMETERS, TrackParameters
from trackbench.errors import InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.definitions import FITTED_METRICS
from trackbench.evaluation.fit_quality import FIT_COLUMNS, fit_numbers, half_width, median, pull_mean
from trackbench.evaluation.parameters import check_candidates, parameters_by_event
from trackbench.evaluation.residuals import RESIDUAL_COLUMNS, true_perigee
from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks
from trackbench.evaluation.vertices import VERTEX_COLUMNS, evaluate_vertices
from trackbench.fitting.vertices import Vertices

PT_1M = 2.0 * CURVATURE * 1000.0  # pT of a circle of radius 1 m
QUARTER = 1000.0 * np.pi / 2  # path of a quarter of it [mm]


def particle(q, vx, vy, phi, vz=0.0, pt=PT_1M, eta=0.0):
    return pd.DataFrame({"pt": [pt], "eta": [eta], "phi": [phi], "vx": [vx], "vy": [vy], "vz": [vz], "q": [q]})


@pytest.mark.parametrize(
    ("q", "vertex", "phi", "d0", "phi0", "path"),
    [
        # Made at the perigee: beside the beam line, flying along +y (left of it is -x) or +x (left is +y).
        (1, (3.0, 0.0), np.pi / 2, -3.0, np.pi / 2, 0.0),
        (-1, (3.0, 0.0), np.pi / 2, -3.0, np.pi / 2, 0.0),
        (1, (0.0, 5.0), 0.0, 5.0, 0.0, 0.0),
        # A quarter turn after a perigee at (0, +-5) along +x: positive charges turn right, their centre is
        # 1 m below the perigee, negative charges turn left.
        (1, (1000.0, -995.0), -np.pi / 2, 5.0, 0.0, QUARTER),
        (1, (1000.0, -1005.0), -np.pi / 2, -5.0, 0.0, QUARTER),
        (-1, (1000.0, 995.0), np.pi / 2, -5.0, 0.0, QUARTER),
        (-1, (1000.0, 1005.0), np.pi / 2, 5.0, 0.0, QUARTER),
        # A quarter turn before that perigee: flying inwards.
        (1, (-1000.0, -995.0), np.pi / 2, 5.0, 0.0, -QUARTER),
        # Without charge it is the straight line y = 4, flown towards -x: left of it is -y.
        (0, (-30.0, 4.0), np.pi, -4.0, np.pi, 30.0),
        # From the beam line itself.
        (1, (0.0, 0.0), 2.0, 0.0, 2.0, 0.0),
    ],
)
def test_perigee_of_hand_made_circles(q, vertex, phi, d0, phi0, path):
    eta = 1.2
    found = true_perigee(particle(q, *vertex, phi, vz=7.0, eta=eta))[0]
    expected = [d0, 7.0 - path * np.sinh(eta), phi0, np.arctan2(1.0, np.sinh(eta)), q / PT_1M]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


def test_perigee_against_steps_along_the_circle():
    """Walk the circle in small steps, keep the closest point, and refine there."""
    rng = np.random.default_rng(5)
    n = 60
    frame = pd.DataFrame(
        {
            "pt": rng.uniform(0.1, 3.0, n),
            "eta": rng.uniform(-2, 2, n),
            "phi": rng.uniform(-np.pi, np.pi, n),
            "vx": rng.normal(0, 40, n),
            "vy": rng.normal(0, 40, n),
            "vz": rng.normal(0, 50, n),
            "q": rng.choice([-1, 1], n),
        }
    )
    for row, found in zip(frame.to_dict("records"), true_perigee(frame), strict=True):
        rho = -2 * CURVATURE * row["q"] / row["pt"]  # dphi / ds
        half_turn = np.pi / abs(rho)
        low, high = -half_turn, half_turn
        for _ in range(6):
            s = np.linspace(low, high, 2001)
            x = row["vx"] + (np.sin(row["phi"] + rho * s) - np.sin(row["phi"])) / rho
            y = row["vy"] - (np.cos(row["phi"] + rho * s) - np.cos(row["phi"])) / rho
            best = np.argmin(x**2 + y**2)
            low, high = s[max(best - 1, 0)], s[min(best + 1, 2000)]
        phi0 = row["phi"] + rho * s[best]
        d0 = np.hypot(x[best], y[best]) * np.sign(-x[best] * np.sin(phi0) + y[best] * np.cos(phi0))
        z0 = row["vz"] + s[best] * np.sinh(row["eta"])
        assert found[:2] == pytest.approx([d0, z0], abs=1e-4)
        assert np.remainder(found[2] - phi0 + 1, 2 * np.pi) == pytest.approx(1, abs=1e-6)


def fitted_toy(event_id=1, n_tracks=600, scale=1.0):
    """A toy event with perfect labels; fits = truth + Gaussian noise of ``scale`` times the covariance given."""
    _, truth = toy_event(n_tracks=n_tracks, n_noise=10, seed=event_id, event_id=event_id, pt_min=1.0)
    ids = truth.particles["particle_id"].to_numpy()
    labels = np.where(truth.particle_id > 0, np.searchsorted(ids, truth.particle_id), -1)
    rng = np.random.default_rng([9, event_id])
    mixing = rng.normal(size=(len(ids), 5, 5)) * np.array([0.02, 0.05, 0.001, 0.0005, 0.01])[:, None] / 2
    covariance = mixing @ mixing.transpose(0, 2, 1)
    noise = (mixing @ rng.normal(size=(len(ids), 5, 1)))[:, :, 0] * scale
    values = true_perigee(truth.particles) + noise
    n_dof = np.full(len(ids), 4)
    return labels, truth, TrackParameters(values, covariance, rng.chisquare(4, len(ids)), n_dof, 0 * n_dof)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_pulls_have_the_width_of_the_noise(scale):
    labels, truth, fits = fitted_toy(scale=scale)
    frame = evaluate_event(labels, truth, parameters=fits).residuals
    assert list(frame) == list(RESIDUAL_COLUMNS)
    assert len(frame) > 400
    error = 1 / np.sqrt(2 * len(frame))
    for name in PARAMETERS:
        assert frame[f"pull_{name}"].std() == pytest.approx(scale, abs=4 * error * scale)
        assert frame[f"pull_{name}"].mean() == pytest.approx(0, abs=4 * np.sqrt(2) * error * scale)


def test_residuals_are_fitted_minus_true_row_by_row():
    labels, truth, fits = fitted_toy(n_tracks=40)
    frame = evaluate_event(labels, truth, parameters=fits).residuals
    true = true_perigee(truth.particles)
    for row in frame.to_dict("records"):
        i = row["track_id"]
        assert row["particle_id"] == truth.particles["particle_id"].iloc[i]
        for k, name in enumerate(PARAMETERS):
            difference = fits.to_frame(1)[name].iloc[i] - true[i, k]
            assert row[f"residual_{name}"] == pytest.approx(difference, abs=1e-12)
            assert row[f"pull_{name}"] == pytest.approx(difference / fits.covariance[i, k, k] ** 0.5, rel=1e-9)
        assert row["chi2"] == fits.chi2[i]
        assert row["vr"] == 0.0


def write_run(folder, events):
    """Tracks and parameters of several (labels, truth, fits), as the runner writes them."""
    tracks = [pd.DataFrame({"event_id": t.event_id, "hit_id": t.hit_id, "track_id": k}) for k, t, _ in events]
    fits = [fit.to_frame(truth.event_id) for _, truth, fit in events]
    paths = folder / "tracks.parquet", folder / "parameters.parquet"
    pd.concat(tracks).to_parquet(paths[0])
    pd.concat(fits).to_parquet(paths[1])
    return paths


def hits_of(truth):
    n, zeros = len(truth), np.zeros(len(truth), dtype=np.int64)
    return Hits(truth.hit_id, np.zeros((n, 3)), zeros, zeros, zeros, np.ones(n, dtype=bool), event_id=truth.event_id)


@pytest.fixture
def out(tmp_path):
    return EvaluationFiles(*(tmp_path / f"out/{name}" for name in EvaluationFiles._fields))


def test_files_of_fitted_tracks(tmp_path, out):
    labels, truth, fits = fitted_toy(1, 40)
    nothing = type(truth)(truth.hit_id, truth.particle_id, truth.weight, truth.particles, 2)
    events = [(labels, truth, fits), (np.full(len(truth), -1), nothing, TrackParameters.empty())]
    tracks, parameters = write_run(tmp_path, events)
    pairs = [(hits_of(t), t) for _, t, _ in events]
    evaluate_tracks(tracks, pairs, TruthSelection(), out, parameters)
    expected = evaluate_event(labels, truth, parameters=fits)
    pd.testing.assert_frame_equal(pd.read_parquet(out.residuals), expected.residuals)
    vertices = pd.read_parquet(out.vertices)
    assert vertices.dtypes.astype(str).to_dict() == VERTEX_COLUMNS
    pd.testing.assert_frame_equal(vertices[vertices["event_id"] == 1].reset_index(drop=True), expected.vertices)
    counts = pd.read_csv(out.counts).set_index(["event_id", "metric"])
    assert tuple(counts.loc[(1, "fake_all_pt")]) == expected.counts["fake_all_pt"]
    assert tuple(counts.loc[(2, "fake_all_pt")]) == (0, 0)  # fits, but found nothing there
    assert pd.read_parquet(out.candidates)["fit_pt"].notna().all()


def test_files_of_a_tracker_that_does_not_fit(tmp_path, out):
    labels, truth, fits = fitted_toy(1, 20)
    tracks, parameters = write_run(tmp_path, [(labels, truth, fits.take(np.zeros(0, dtype=int)))])
    evaluate_tracks(tracks, [(hits_of(truth), truth)], TruthSelection(), out, parameters)
    for path, columns in ((out.residuals, RESIDUAL_COLUMNS), (out.vertices, VERTEX_COLUMNS)):
        frame = pd.read_parquet(path)
        assert frame.empty
        assert frame.dtypes.astype(str).to_dict() == columns
    assert not set(FITTED_METRICS) & set(pd.read_csv(out.counts)["metric"])


def test_parameters_that_do_not_fit_the_tracks(tmp_path, out):
    labels, truth, fits = fitted_toy(1, 20)
    tracks, parameters = write_run(tmp_path, [(labels, truth, fits)])
    frame = pd.read_parquet(parameters)
    for change, message in (
        (frame.assign(event_id=4), "no candidates of 1 events with track parameters (first 4)"),
        (frame.iloc[:-1], f"{len(fits) - 1} rows, but hits of {len(fits)} candidates"),
        (frame.iloc[1:], "track_id is not consecutive"),
        (frame.drop(columns="chi2"), f"{parameters}: no column chi2, expected columns event_id, track_id, d0"),
    ):
        change.to_parquet(parameters)
        with pytest.raises(InputError) as error:
            evaluate_tracks(tracks, [(hits_of(truth), truth)], TruthSelection(), out, parameters)
        assert message in str(error.value)
        assert not out.counts.exists()


def parameter_rows(n=4, **changes):
    """A table of n candidates of event 7, with the given columns or {track_id: value} changed."""
    frame = fits_of(np.tile([0.1, 1.0, 2.0, 1.5, 0.4], (n, 1))).to_frame(7)
    for name, change in changes.items():
        frame[name] = [change.get(i, value) for i, value in enumerate(frame[name])] if type(change) is dict else change
    return frame


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": {2: np.nan}}, "theta is nan for track_id 2 of event 7, expected finite numbers; NaN in all five"),
        ({"d0": {1: np.inf}}, "d0 is inf for track_id 1 of event 7, expected finite numbers"),
        ({"cov_d0_z0": {3: np.nan}}, "cov_d0_z0 is nan for track_id 3 of event 7, expected finite numbers"),
        ({"chi2": {0: -np.inf}}, "chi2 is -inf for track_id 0 of event 7, expected finite numbers"),
        ({"theta": {3: 90.0}}, "theta is 90 for track_id 3 of event 7, expected between 0 and pi [rad]"),
        ({"theta": {3: 0.0}}, "theta is 0 for track_id 3 of event 7, expected between 0 and pi [rad]"),
        ({"track_id": [0, 1, 1, 2]}, "track_id is not consecutive: 1 instead of 2 in event 7"),
        ({"track_id": [1, 2, 3, 4]}, "track_id is not consecutive: 1 instead of 0 in event 7"),
        ({"track_id": [0.0, 1.0, 2.0, 3.0]}, "column track_id is float64, expected integers"),
        ({"n_holes": [0, 1, np.nan, 0]}, "column n_holes is float64, expected integers"),
        ({"q_over_pt": ["1", "2", "3", "x"]}, "expected numbers"),
    ],
)
def test_parameters_that_are_refused(changes, message):
    with pytest.raises(InputError) as error:
        parameters_by_event(parameter_rows(**changes), "file")
    assert str(error.value).startswith("file: ")
    assert message in str(error.value)


def test_parameters_that_are_accepted():
    """Failed fits, unknown errors and chi2, other orders of rows and columns, several events, further columns."""
    five = {name: {1: np.nan} for name in (*PARAMETERS, "cov_d0_d0")}
    frame = parameter_rows(**five, chi2={2: np.nan}, cov_z0_z0=0.0, note="x")
    frame = pd.concat([frame.assign(event_id=9), frame])[::-1][list(frame)[::-1]]
    found = parameters_by_event(frame, "file")
    assert list(found) == [7, 9]
    for fits in found.values():
        np.testing.assert_array_equal(np.isnan(fits.values).all(axis=1), [False, True, False, False])
        assert fits.to_frame(7)[list(PARAMETERS)].iloc[0].tolist() == [0.1, 1.0, 2.0, 1.5, 0.4]
    assert parameters_by_event(frame.iloc[:0], "file") == {}


@pytest.mark.parametrize("track_id", [[0, 1], [0, 1, 1, 3], [], [0, 1, 2, 3]])
def test_candidates_that_are_not_the_fitted_ones(track_id):
    track_id = np.array([*track_id, -1], dtype=np.int64)
    fits = fits_of(np.zeros((3, 5)))
    with pytest.raises(InputError, match=rf"event 7: 3 rows, but hits of {len(set(track_id)) - 1} candidates"):
        check_candidates(fits, track_id, "event 7")
    check_candidates(fits, np.array([2, -1, 0, 1, -5]), "event 7")


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
def test_no_numbers_of_few_tracks(n):
    for of in (half_width, median, pull_mean):
        assert np.isnan(of(np.ones(n))).all()
    assert np.isnan(pull_mean(np.append(np.ones(9), [6.0, np.nan]))).all()


def test_errors_of_median_and_mean_are_their_spread():
    rng = np.random.default_rng(2)
    for of, width in ((median, 2.0), (pull_mean, 1.0)):
        found = np.array([of(sample) for sample in rng.normal(0.3, width, (2000, 400))])
        assert found[:, 0].mean() == pytest.approx(0.3, abs=0.02)
        assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.08)


def test_numbers_of_a_fit():
    labels, truth, fits = fitted_toy(scale=1.5)
    frame = evaluate_event(labels, truth, parameters=fits).residuals
    frame["vr"] = np.where(np.arange(len(frame)) < 20, 5.0, 0.0)
    table = fit_numbers(frame)
    assert list(table) == list(FIT_COLUMNS)
    table = table.set_index(["origin", "quantity", "statistic"])
    assert len(table) == 2 * 5 * 4
    prompt = frame.iloc[20:]
    for name in PARAMETERS:
        row = table.loc[("prompt", name, "pull_width")]
        assert row["n"] == len(prompt)
        assert row["value"] == pytest.approx(half_width(prompt[f"pull_{name}"].to_numpy())[0])
        assert row["value"] == pytest.approx(1.5, abs=4 * (row["hi"] - row["value"]))
    row = table.loc[("prompt", "d0", "resolution")]
    low, high = np.quantile(prompt["residual_d0"], [0.158655254, 0.841344746])
    assert (row["unit"], row["value"]) == ("µm", pytest.approx(1000 * (high - low) / 2))
    relative = (prompt["residual_q_over_pt"] * prompt["pt"] * 100).median()
    row = table.loc[("prompt", "q_over_pt", "bias")]
    assert (row["unit"], row["value"]) == ("%", pytest.approx(relative))
    assert (table.loc["secondary"]["n"] == 20).all()


def fits_of(values, variance=1.0):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    n = len(values)
    covariance = np.broadcast_to(np.eye(5) * variance, (n, 5, 5))
    return TrackParameters(values, covariance, np.ones(n), *np.ones((2, n), dtype=np.int64))


def one_track(phi=0.0):
    """A particle of pT 2 GeV from the origin with three hits, and its label 0."""
    truth = make_truth([1, 1, 1], {1: (2.0, 0.0)})
    return np.zeros(3, dtype=np.int64), truth.particles.assign(phi=phi, q=1.0), truth


def test_phi_wraps_around():
    labels, particles, truth = one_track(phi=3.1)
    truth = type(truth)(truth.hit_id, truth.particle_id, truth.weight, particles)
    result = evaluate_event(labels, truth, parameters=fits_of([0, 0, -3.1, np.pi / 2, 0.5]))
    assert result.residuals["residual_phi"].iloc[0] == pytest.approx(2 * np.pi - 6.2, rel=1e-9)
    assert result.residuals["residual_q_over_pt"].iloc[0] == pytest.approx(0.0)


def test_failed_fits_have_no_pull():
    labels, _, truth = one_track()
    frame = evaluate_event(labels, truth, parameters=fits_of([np.nan, 0, 0, 1, 0.5], variance=0.0)).residuals
    assert np.isnan(frame["residual_d0"].iloc[0])
    assert not np.isnan(frame["residual_z0"].iloc[0])
    assert frame[[f"pull_{name}" for name in PARAMETERS]].isna().all(axis=None)


def test_only_matched_targets_have_residuals():
    """Labels: 0 the target 1, 1 pure but incomplete of target 2, 2 the soft particle 3, 3 noise."""
    truth = make_truth([1] * 3 + [2] * 7 + [3] * 3 + [0] * 3, {1: (2.0, 0.0), 2: (2.0, 0.0), 3: (0.3, 0.0)})
    labels = np.array([0] * 3 + [1] * 3 + [-1] * 4 + [2] * 3 + [3] * 3)
    result = evaluate_event(labels, truth, parameters=fits_of(np.zeros((4, 5))))
    assert result.residuals["track_id"].tolist() == [0]
    assert result.residuals["particle_id"].tolist() == [1]


def test_fake_rate_of_candidates_above_the_fitted_pt():
    """By hand: fitted pT 2 (matched, soft), 1 (noise: fake), 0.8 (below), 0.9 (not above), NaN (failed: fake)."""
    truth = make_truth([1] * 3 + [2] * 3 + [0] * 9, {1: (0.3, 0.0), 2: (3.0, 0.0)})
    labels = np.repeat([0, 2, 1, 3, 4], 3)
    values = np.zeros((5, 5))
    values[:, 3] = [np.pi / 2, np.pi / 4, 1, 1, np.nan]
    values[:, 4] = [0.5, -1.0, 1 / 0.8, 1 / 0.9, np.nan]
    result = evaluate_event(labels, truth, TruthSelection(pt_min=0.9), parameters=fits_of(values))
    assert result.counts["fake_all_pt"] == (2, 3)
    assert result.counts["n_candidates_pt"] == (3, 1)
    np.testing.assert_allclose(result.candidates["fit_pt"], [2, 1, 0.8, 0.9, np.nan])
    np.testing.assert_allclose(result.candidates["fit_eta"].iloc[:2], [0, np.arcsinh(1)], atol=1e-12)
    without = evaluate_event(labels, truth)
    assert without.candidates["fit_pt"].isna().all()
    assert without.residuals is None
    assert "fake_all_pt" not in without.counts


def test_no_candidates_and_no_hits():
    truth = make_truth([1, 1, 1], {1: (2.0, 0.0)})
    result = evaluate_event(np.full(3, -1), truth, parameters=TrackParameters.empty())
    assert result.residuals.empty
    assert list(result.residuals) == list(RESIDUAL_COLUMNS)
    assert result.counts["fake_all_pt"] == (0, 0)
    assert result.counts["vertex_fake_rate"] == (0, 0)
    empty = evaluate_event(np.zeros(0, dtype=np.int64), make_truth([], {}), parameters=TrackParameters.empty())
    assert empty.vertices.empty
    assert list(empty.vertices) == list(VERTEX_COLUMNS)


def test_candidates_without_parameters():
    labels, _, truth = one_track()
    with pytest.raises(InputError, match="event 1: 0 candidates but track_id 0, expected one row for each track_id"):
        evaluate_event(labels, truth, parameters=TrackParameters.empty())


def vertex_truth(vertices):
    """Truth with one particle of 3 hits per entry (vertex, z, pt, generation, vx)."""
    ids = [(vertex << 52) | (i + 1) << 36 for i, (vertex, *_) in enumerate(vertices)]
    kinematics = {pid: (entry[2], 0.0) for pid, entry in zip(ids, vertices, strict=True)}
    truth = make_truth(np.repeat(ids, 3), kinematics)
    by_id = dict(zip(ids, vertices, strict=True))
    entries = [by_id[pid] for pid in truth.particles["particle_id"]]
    _, vz, _, generation, vx = map(list, zip(*entries, strict=True))
    return type(truth)(
        truth.hit_id, truth.particle_id, truth.weight, truth.particles.assign(vz=vz, vx=vx, generation=generation)
    )


def found_at(*z):
    z = np.array(z, dtype=np.float64)
    return Vertices(z, np.full(z.size, 0.01), np.full(z.size, 2), np.zeros(0, dtype=np.int64))


def test_vertices_by_hand():
    """Vertex 1 at 0 mm (two targets), 2 at 1 mm (one target), 3 at 5 mm (soft), 4 at 8 mm (secondaries)."""
    entries = [(1, 0.0, 2.0, 0, 0.0)] * 2 + [(2, 1.0, 2.0, 0, 0.0)] + [(3, 5.0, 0.4, 0, 0.0)] * 2
    entries += [(4, 8.0, 2.0, 1, 0.0), (4, 8.0, 2.0, 1, 0.0), (1, 9.0, 2.0, 0, 30.0), (5, 20.0, 2.0, 0, 0.0)]
    entries += [(5, 20.2, 2.0, 0, 0.0)]
    truth = vertex_truth(entries)
    selection = TruthSelection()
    target = selection.selected(truth.particles)
    # Found: at vertex 1; a second time there (fake); at the soft vertex (real); at the secondaries (fake).
    counts, table = evaluate_vertices(found_at(0.1, 0.25, 5.0, 8.0), truth, target, selection)
    assert counts == {"vertex_efficiency": (1, 2), "vertex_fake_rate": (2, 4)}
    assert list(table) == list(VERTEX_COLUMNS)
    found, true = (table[table["kind"] == kind] for kind in ("found", "true"))
    assert found["matched"].tolist() == [True, False, True, False]
    np.testing.assert_allclose(true["z"], [0.0, 20.1])
    assert true["n_tracks"].tolist() == [2, 2]
    assert true["matched"].tolist() == [True, False]
    assert true["sigma_z"].isna().all()


@pytest.mark.parametrize(
    ("true", "found", "efficiency", "fakes"),
    [
        ((0.0, 0.62), (0.29,), (1, 2), (0, 1)),
        ((-0.01, 0.62), (0.30,), (0, 2), (1, 1)),
        ((0.0, 0.4), (0.22, 0.3), (2, 2), (0, 2)),  # 0.22 is nearer to 0.4, which the closer 0.3 takes
        ((0.0, 0.4), (0.38, 0.4), (1, 2), (1, 2)),
        ((0.0, 0.4), (), (0, 2), (0, 0)),
    ],
)
def test_vertices_match_one_to_one_within_the_window(true, found, efficiency, fakes):
    truth = vertex_truth([(i + 1, z, 2.0, 0, 0.0) for i, z in enumerate(true) for _ in range(2)])
    selection = TruthSelection()
    counts, _ = evaluate_vertices(found_at(*found), truth, selection.selected(truth.particles), selection)
    assert counts == {"vertex_efficiency": efficiency, "vertex_fake_rate": fakes}


def test_found_tracks_make_the_vertices_of_an_event():
    labels, truth, fits = fitted_toy(n_tracks=30)
    result = evaluate_event(labels, truth, parameters=fits)
    found = result.vertices[result.vertices["kind"] == "found"]
    assert result.counts["vertex_fake_rate"][1] == len(found)
    assert (found["n_tracks"] >= 2).all()
