"""Labels with track parameters: shapes, tables, and how the base class keeps the two together."""

from dataclasses import replace

import numpy as np
import pytest
from toy_trackers import ToyFitter, bin_of
from toys import toy_event
from track_checks import assert_near_truth, assert_possible, assert_valid, rows_by_track

from trackbench.data.padding import pad_hits
from trackbench.data.tracks import PARAMETER_COLUMNS, PARAMETERS, TrackParameters, Tracks
from trackbench.errors import InputError
from trackbench.trackers.base import TrackerBase

INTEGERS = ("event_id", "track_id", "n_dof", "n_holes")


def some_parameters(m=4, seed=0):
    """Random, valid parameters of m candidates."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(m, 5)) * [0.1, 5, 1, 0, 0.5] + [0, 0, 0, 1.5, 0]
    factor = rng.normal(size=(m, 5, 5)) + 3 * np.eye(5)
    covariance = factor @ factor.transpose(0, 2, 1) * 1e-4
    return TrackParameters(values, covariance, rng.random(m) * 9, np.arange(m) + 1, np.arange(m) % 3 - 1)


def test_columns_of_the_table():
    expected = "event_id track_id d0 z0 phi theta q_over_pt"
    expected += " cov_d0_d0 cov_d0_z0 cov_d0_phi cov_d0_theta cov_d0_q_over_pt"
    expected += " cov_z0_z0 cov_z0_phi cov_z0_theta cov_z0_q_over_pt"
    expected += " cov_phi_phi cov_phi_theta cov_phi_q_over_pt cov_theta_theta cov_theta_q_over_pt"
    expected += " cov_q_over_pt_q_over_pt chi2 n_dof n_holes"
    assert " ".join(PARAMETER_COLUMNS) == expected


@pytest.mark.parametrize("parameters", [some_parameters(), TrackParameters.empty()], ids=["four", "none"])
def test_table_has_integers_and_floats(parameters):
    narrow = replace(parameters, n_dof=parameters.n_dof.astype(np.int32), chi2=parameters.chi2.astype(np.float32))
    frame = narrow.to_frame(7)
    assert tuple(frame) == PARAMETER_COLUMNS
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        name: "int64" if name in INTEGERS else "float64" for name in PARAMETER_COLUMNS
    }
    assert frame["track_id"].tolist() == list(range(len(parameters)))
    assert (frame["event_id"] == 7).all()


def test_table_holds_each_number_in_its_column():
    parameters = some_parameters()
    row = parameters.to_frame(1).iloc[2]
    for i, name in enumerate(PARAMETERS):
        assert row[name] == parameters.values[2, i]
        for j in range(i, 5):
            assert row[f"cov_{name}_{PARAMETERS[j]}"] == parameters.covariance[2, i, j]
    assert (row["chi2"], row["n_dof"], row["n_holes"]) == (parameters.chi2[2], 3, 1)


@pytest.mark.parametrize("m", [0, 1, 4])
def test_table_leads_back_to_the_parameters(m):
    parameters = some_parameters(m)
    symmetric = (parameters.covariance + parameters.covariance.transpose(0, 2, 1)) / 2
    parameters = replace(parameters, covariance=symmetric)
    frame = parameters.to_frame(3)
    assert TrackParameters.from_frame(frame).equals(parameters)


def test_tables_that_are_none():
    frame = some_parameters().to_frame(1)
    with pytest.raises(InputError, match="track parameters: no column cov_z0_phi, expected event_id, track_id, d0"):
        TrackParameters.from_frame(frame.drop(columns="cov_z0_phi"))
    with pytest.raises(InputError, match=r"track_id is not consecutive, expected 0, 1, .* in ascending order"):
        TrackParameters.from_frame(frame.iloc[1:])


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("values", (4, 6), "(4, 5)"),
        ("covariance", (4, 5), "(4, 5, 5)"),
        ("chi2", (3,), "(4,)"),
        ("n_dof", (4, 1), "(4,)"),
        ("n_holes", (), "(4,)"),
    ],
)
def test_wrong_shapes_are_refused(name, shape, expected):
    with pytest.raises(InputError) as error:
        replace(some_parameters(), **{name: np.zeros(shape)})
    assert str(error.value) == f"TrackParameters.{name}: shape {shape}, expected {expected}."


def test_transverse_momentum():
    values = np.zeros((3, 5))
    values[:, 4] = [0.5, -0.25, 0.0]
    pt = replace(some_parameters(3), values=values).pt
    np.testing.assert_allclose(pt, [2.0, 4.0, 1e9])


def test_taking_and_joining():
    parameters = some_parameters(5)
    first, rest = parameters.take(np.array([0, 1])), parameters.take(np.array([False, False, True, True, True]))
    assert TrackParameters.concatenate([first, TrackParameters.empty(), rest]).equals(parameters)
    assert parameters.take(np.array([3])).values.tolist() == parameters.values[3:4].tolist()
    assert len(TrackParameters.empty()) == 0


@pytest.mark.parametrize("name", ["values", "covariance", "chi2", "n_dof", "n_holes"])
def test_equal_means_every_number(name):
    parameters = some_parameters()
    changed = getattr(parameters, name).copy()
    changed.flat[-1] += 1
    assert parameters.equals(some_parameters())
    assert not parameters.equals(replace(parameters, **{name: changed}))
    assert not parameters.equals(parameters.take(np.array([0, 1])))


def test_equal_tracks():
    labels, parameters = np.array([0, 1, -1]), some_parameters(2)
    assert Tracks(labels).equals(Tracks(labels.copy()))
    assert Tracks(labels, parameters).equals(Tracks(labels, some_parameters(2)))
    assert not Tracks(labels).equals(Tracks(labels[::-1]))
    assert not Tracks(labels, parameters).equals(Tracks(labels[::-1], parameters))
    assert not Tracks(labels, parameters).equals(Tracks(labels, some_parameters(2, seed=1)))
    assert not Tracks(labels, parameters).equals(Tracks(labels))
    assert not Tracks(labels).equals(Tracks(labels, parameters))


# The base class of the trackers


def test_parameters_follow_their_candidates_when_labels_are_renumbered():
    hits, _ = toy_event()
    tracks = ToyFitter().reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    number = bin_of(hits)
    assert len(tracks.parameters) == (np.bincount(number) >= 2).sum()
    for label in range(len(tracks.parameters)):
        own = tracks.labels == label
        assert tracks.parameters.chi2[label] == hits.hit_id[own].min()
        assert tracks.parameters.values[label, 4] == 1 / own.sum()
        assert np.unique(number[own]).size == 1


def test_order_and_padding_change_no_parameters():
    hits, _ = toy_event()
    tracks = ToyFitter().reconstruct_tracks(hits)
    order = np.random.default_rng(2).permutation(len(hits))
    shuffled = ToyFitter().reconstruct_tracks(hits.take(order))
    assert rows_by_track(shuffled, hits.hit_id[order]) == rows_by_track(tracks, hits.hit_id)
    padded = ToyFitter().reconstruct_tracks(pad_hits(hits, len(hits) + 9))
    assert padded.parameters.equals(tracks.parameters)
    np.testing.assert_array_equal(padded.labels[:-9], tracks.labels)


def test_without_hits_there_is_nothing_to_fit():
    hits = toy_event()[0].take(np.zeros(0, dtype=int))
    tracks = ToyFitter().reconstruct_tracks(hits)
    assert tracks.parameters is None
    assert tracks.labels.shape == (0,)


class Fixed(TrackerBase):
    """Returns what it was given."""

    def __init__(self, result):
        super().__init__(config=None)
        self.result = result

    def find_tracks(self, hits, timer):
        return self.result


def test_parameters_of_too_few_candidates_are_a_defect():
    hits = toy_event()[0].take(np.arange(3))
    with pytest.raises(ValueError, match="label 2, but parameters of 2 candidates"):
        Fixed(Tracks(np.array([0, 2, -1]), some_parameters(2))).reconstruct_tracks(hits)


def test_no_candidate_no_row():
    hits = toy_event()[0].take(np.arange(3))
    tracks = Fixed(Tracks(np.array([-1, -1, -5]), some_parameters(2))).reconstruct_tracks(hits)
    assert tracks.labels.tolist() == [-1, -1, -1]
    assert len(tracks.parameters) == 0


# The checks of the contract themselves


def change(name, index, value):
    def apply(parameters):
        array = getattr(parameters, name).copy()
        array[index] = value
        return replace(parameters, **{name: array})

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("values", (1, 0), np.nan), "values is not finite"),
        (change("covariance", (0, 1, 1), np.inf), "covariance is not finite"),
        (change("chi2", 0, -1.0), "negative chi2"),
        (change("values", (1, 2), -np.pi), "phi is not in"),
        (change("values", (1, 3), np.pi), "theta is not in"),
        (change("n_dof", 0, -1), "negative n_dof"),
        (change("n_holes", 0, -2), "n_holes below -1"),
        (change("covariance", (0, 4, 4), -1.0), "a variance is not positive"),
        (change("covariance", (0, 0, 4), 0.0), "Not equal to tolerance"),
        (change("covariance", 0, np.ones((5, 5)) - 1e-3 * np.eye(5)), "not positive definite"),
        (lambda p: p.take(np.arange(len(p) - 1)), "not one row of parameters per candidate"),
    ],
)
def test_the_contract_refuses(spoil, message):
    hits, _ = toy_event()
    tracks = ToyFitter().reconstruct_tracks(hits)
    with pytest.raises(AssertionError, match=message):
        assert_valid(Tracks(tracks.labels, spoil(tracks.parameters)), len(hits))


def true_tracks(n_tracks=20):
    """Labels and parameters straight from the truth of a toy event."""
    hits, truth = toy_event(n_tracks, 10, seed=2, pt_min=2.0)
    table = truth.particles
    labels = np.searchsorted(table["particle_id"], truth.particle_id)
    labels = np.where(truth.particle_id > 0, labels, -1)
    theta = 2 * np.arctan(np.exp(-table["eta"]))
    values = np.column_stack((0 * theta, table["vz"], table["phi"], theta, table["q"] / table["pt"]))
    return Fixed(Tracks(labels, replace(some_parameters(n_tracks), values=values))).reconstruct_tracks(hits), truth


def test_the_contract_sees_wrong_signs_and_units():
    tracks, truth = true_tracks()
    assert_possible(tracks.parameters)
    assert_near_truth(tracks, truth)
    for factors in ([1, 1, 1, 1, -1], [1, 0.1, 1, 1, 1], [1, -1, 1, 1, 1], [1, 1, -1, 1, 1], [1, 1, 1, 1, 1000]):
        wrong = replace(tracks.parameters, values=tracks.parameters.values * factors)
        with pytest.raises(AssertionError, match="median distance to the truth"):
            assert_near_truth(Tracks(tracks.labels, wrong), truth)
