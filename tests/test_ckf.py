"""The Kalman filter of ACTS as a tracker: what it finds, and that events and processes do not touch each other.

What holds for every tracker is in ``test_tracker_contract``; files and the command line in ``test_ckf_cli``. No test
depends on the settings of the passes.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("acts", reason="the extra 'ckf' is not installed")

from gun_events import gun_event, reconstructed
from module_positions import module_positions
from toys import module_event
from track_checks import assert_near_truth, assert_valid

from trackbench.errors import ConfigError, InputError
from trackbench.geometry.detector import is_pixel
from trackbench.geometry.modules import module_row, module_table
from trackbench.runner import run_tracker
from trackbench.trackers.base import STAGES, Timer, build_tracker
from trackbench.trackers.ckf import STOPS
from trackbench.trackers.layers.acts_event import Found, best_track, joined, local_positions, track_parameters

EVENTS = (1, 2, 3)
DETECTORS = ("pixel", "full")


def matched(labels, truth):
    """Particle of each track if more than half of its hits are its, and more than half of the particle's: pid or 0."""
    matches = []
    for label in range(labels.max(initial=-1) + 1):
        pids, counts = np.unique(truth.particle_id[labels == label], return_counts=True)
        best = counts.argmax()
        own = np.count_nonzero(truth.particle_id == pids[best])
        both = 2 * counts[best] > counts.sum() and 2 * counts[best] > own
        matches.append(pids[best] if both else 0)
    return np.array(matches)


def prompt(truth):
    """Ids of the targets: primaries with pT > 0.9 GeV, |eta| < 4 and hits in three layers."""
    table = truth.particles
    keep = (table["generation"] == 0) & (table["pt"] > 0.9) & (table["eta"].abs() < 4) & (table["n_layers"] >= 3)
    return table.loc[keep, "particle_id"].to_numpy()


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    return request.param


@pytest.fixture(scope="module")
def alone(detector):
    """Tracks of each event by a tracker of its own."""
    return [reconstructed({}, [gun_event(event, detector)[0]])[0] for event in EVENTS]


# What it finds


def test_prompt_tracks_are_found_and_few_others(detector, alone):
    n_found = n_targets = n_matched = n_tracks = 0
    for event, tracks in zip(EVENTS, alone, strict=True):
        hits, truth = gun_event(event, detector)
        assert_valid(tracks, len(hits))
        matches, targets = matched(tracks.labels, truth), prompt(truth)
        n_found += np.isin(targets, matches).sum()
        n_targets += targets.size
        n_matched += np.count_nonzero(matches)
        n_tracks += matches.size
    assert n_targets > 100
    assert n_found / n_targets > 0.9
    assert n_matched / n_tracks > 0.85


def test_parameters_are_those_of_the_particles(detector):
    hits, truth = gun_event(EVENTS[0], detector)
    (tracks,) = reconstructed({"min_pt": 1.5}, [hits])
    assert_near_truth(tracks, truth)


def test_errors_describe_the_distance_to_the_truth(detector, alone):
    """Pulls of all five parameters: median near 0, half of them within about 0.67."""
    pulls = []
    for event, tracks in zip(EVENTS, alone, strict=True):
        truth = gun_event(event, detector)[1]
        table, values = truth.particles.set_index("particle_id"), tracks.parameters.values  # noqa: PD011
        matches = matched(tracks.labels, truth)
        for row in np.flatnonzero(np.isin(matches, prompt(truth))):
            particle = table.loc[matches[row]]
            theta = 2 * np.arctan(np.exp(-particle["eta"]))
            true = [0.0, particle["vz"], particle["phi"], theta, particle["q"] / particle["pt"]]
            difference = values[row] - true
            difference[2] = np.mod(difference[2] + np.pi, 2 * np.pi) - np.pi
            pulls.append(difference / np.sqrt(np.diagonal(tracks.parameters.covariance[row])))
    assert len(pulls) > 100
    np.testing.assert_allclose(np.median(pulls, axis=0), 0, atol=0.5)
    half = np.median(np.abs(pulls), axis=0)
    assert ((half > 0.3) & (half < 1.5)).all(), half


def test_strip_hits_are_used():
    hits, _ = gun_event(EVENTS[0], "full")
    (tracks,) = reconstructed({}, [hits])
    in_strips = ~is_pixel(hits.volume_id)
    labels = tracks.labels[in_strips]
    assert np.unique(labels[labels >= 0]).size > 20
    mixed = set(tracks.labels[~in_strips]) & set(labels) - {-1}
    assert len(mixed) > 20, "tracks of pixel and of strip hits"


# Stages


def test_stages_and_what_they_leave():
    hits, truth = gun_event(EVENTS[0])
    found = {}
    for stop in STOPS:
        timer = Timer()
        tracks = build_tracker("ckf", {"stop_after": stop}).reconstruct_tracks(hits, timer)
        assert_valid(tracks, len(hits))
        used = {"read", "postprocess", *STOPS[: STOPS.index(stop) + 1]}
        assert set(timer.wall) == used <= set(STAGES)
        assert (tracks.parameters is None) == (stop == "seeding")
        found[stop] = tracks
    sizes = np.bincount(found["seeding"].labels[found["seeding"].labels >= 0])
    assert sizes.max() == 3, "a seed is three hits"
    targets = prompt(truth)
    n_found = {stop: np.isin(targets, matched(tracks.labels, truth)).sum() for stop, tracks in found.items()}
    assert n_found["ambiguity"] > n_found["seeding"]
    # Without ambiguity resolution there are at least as many candidates.
    assert found["finding"].labels.max() >= found["ambiguity"].labels.max()


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("n_hits", [0, 1, 2, 3, 4])
def test_events_of_few_hits(stop, n_hits):
    hits, _ = module_event(n_tracks=1, n_noise=0, seed=4)
    tracks = build_tracker("ckf", {"stop_after": stop}).reconstruct_tracks(hits.take(np.arange(n_hits)))
    assert_valid(tracks, n_hits)


def test_no_search_for_displaced_tracks():
    hits, truth = gun_event(EVENTS[0])
    (tracks,) = reconstructed({"max_d0": 0.0}, [hits])
    assert_valid(tracks, len(hits))
    assert np.isin(prompt(truth), matched(tracks.labels, truth)).mean() > 0.85


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_pt": 0.01}, "trackers.ckf.min_pt: value 0.01, expected 0.1 to 10.0."),
        ({"max_z0": float("nan")}, "trackers.ckf.max_z0: value nan, expected 1.0 to 500.0."),
        ({"max_d0": -1.0}, "trackers.ckf.max_d0: value -1.0, expected 0.0 to 100.0."),
        ({"stop_after": "fit"}, "trackers.ckf.stop_after: value 'fit', expected one of seeding, finding, ambiguity."),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError) as refused:
        build_tracker("ckf", settings)
    assert str(refused.value) == message


# Events do not touch each other


def test_an_event_alone_and_in_a_batch(detector, alone):
    events = [gun_event(event, detector)[0] for event in EVENTS]
    other = gun_event(EVENTS[0], DETECTORS[DETECTORS.index(detector) - 1])[0]
    tracker = build_tracker("ckf")
    for batch in (events, events[::-1], [events[1], other, events[1]]):
        for hits, tracks in zip(batch, [tracker.reconstruct_tracks(hits) for hits in batch], strict=True):
            if hits is not other:
                assert tracks.equals(alone[EVENTS.index(hits.event_id)]), hits.event_id


def test_worker_processes(alone, detector):
    """One and two processes, started anew: the same bits as in this one; each does the other detector's events too."""
    mine = [len(DETECTORS) * k + DETECTORS.index(detector) for k in range(len(EVENTS))]
    for n_workers in (1, 2):
        results = in_workers(n_workers)
        for position, tracks in zip(mine, alone, strict=True):
            assert results[position].equals(tracks), (n_workers, position)


@cache
def in_workers(n_workers):
    """Tracks of all events of both detectors, made by new processes that share them."""
    events = [gun_event(event, which)[0] for event in EVENTS for which in DETECTORS]
    shares = [events[k::n_workers] for k in range(n_workers)]
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(reconstructed, [{}] * n_workers, shares))
    return [done[k % n_workers][k // n_workers] for k in range(len(events))]


def test_files_of_one_event_and_of_several(tmp_path, detector):
    events = [gun_event(event, detector) for event in EVENTS]

    def run(name, chosen):
        folder = tmp_path / name
        folder.mkdir()
        paths = [folder / part for part in ("tracks.parquet", "parameters.parquet", "timing.csv", "run.json")]
        run_tracker(build_tracker("ckf"), chosen, *paths)
        return [pd.read_parquet(path) for path in paths[:2]]

    for_all, for_one, backwards = run("all", events), run("one", events[1:2]), run("backwards", events[::-1])
    for whole, one, other in zip(for_all, for_one, backwards, strict=True):
        assert len(one) > 50
        mine = [part[part["event_id"] == EVENTS[1]].reset_index(drop=True) for part in (whole, other)]
        for part in mine:
            pd.testing.assert_frame_equal(part, one, check_exact=True)


def test_a_refused_event_leaves_no_trace(alone, detector):
    hits, _ = gun_event(EVENTS[0], detector)
    tracker = build_tracker("ckf")
    with pytest.raises(InputError):
        tracker.reconstruct_tracks(replace(hits, module_id=np.full(len(hits), 5000)))
    assert tracker.reconstruct_tracks(hits).equals(alone[0])


# Hits and tracks of ACTS


def test_local_positions_are_those_of_the_reference():
    """Against centres and rotations that do not come from ACTS; its axes 0 and 1 are u and v in every module."""
    ids, centre, _ = module_positions()
    hits, _ = gun_event(EVENTS[0], "full")
    row = module_row(hits.volume_id, hits.layer_id, hits.module_id)
    assert (ids[row] == np.column_stack([hits.volume_id, hits.layer_id, hits.module_id])).all()
    expected = ((hits.xyz - centre[row])[:, :, None] * module_table().rotation[row]).sum(axis=1)
    identifier, local = local_positions(hits)
    np.testing.assert_allclose(local, expected[:, :2], atol=1e-3)
    np.testing.assert_array_equal(identifier >> np.uint64(56), hits.volume_id)
    assert np.unique(identifier).size == np.unique(row).size


def found(tracks, chi2):
    """Tracks given by the hits of each."""
    m = len(tracks)
    track = np.repeat(np.arange(m), [len(hits) for hits in tracks])
    n = np.array([len(hits) for hits in tracks])
    blank = np.zeros((m, 6)), np.tile(np.eye(6), (m, 1, 1))
    return Found(track, np.concatenate(tracks).astype(int), *blank, np.array(chi2, float), n, np.zeros(m, int))


def test_a_shared_hit_goes_to_the_longer_then_to_the_better_track():
    tracks = found([[0, 1, 2], [2, 3, 4, 5], [5, 6, 7, 8], [0, 8]], [1.0, 9.0, 3.0, 0.1])
    assert best_track(tracks, 11).tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, -1, -1]
    assert best_track(found([[1]], [0.0]).take(np.array([False])), 2).tolist() == [-1, -1]


def test_joined_and_taken_tracks_are_numbered_anew():
    first, second = found([[0, 1], [2, 3, 4]], [1, 2]), found([[5], [6, 7]], [3, 4])
    both = joined([first, second])
    assert both.track.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    assert both.hit.tolist() == list(range(8))
    kept = both.take(np.array([False, True, False, True]))
    assert (kept.track.tolist(), kept.hit.tolist()) == ([0, 0, 0, 1, 1], [2, 3, 4, 6, 7])
    assert (kept.chi2.tolist(), kept.n_measurements.tolist()) == ([2, 4], [3, 2])


def test_parameters_and_covariance_in_our_form():
    """q/pT = (q/p) / sin(theta); its covariance against one propagated with numerical derivatives."""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(6, 6)) * 0.01
    parameters, covariance = np.array([0.1, -3.0, -np.pi, 0.6, -0.4, 9.0]), root @ root.T
    track = found([[0, 1, 2, 3]], [5.0])
    ours = track_parameters(Found(*track[:2], parameters[None], covariance[None], *track[4:]))

    def converted(p):
        return np.array([p[0], p[1], p[2], p[3], p[4] / np.sin(p[3])])

    np.testing.assert_allclose(ours.values.ravel(), [0.1, -3.0, np.pi, 0.6, -0.4 / np.sin(0.6)])  # noqa: PD011
    step = 1e-6
    jacobian = np.column_stack(
        [(converted(parameters + step * e) - converted(parameters - step * e)) / (2 * step) for e in np.eye(6)]
    )
    np.testing.assert_allclose(ours.covariance[0], jacobian @ covariance @ jacobian.T, rtol=1e-6, atol=1e-12)
    assert (ours.chi2[0], ours.n_dof[0], ours.n_holes[0]) == (5.0, 3, 0)
