"""The Kalman filter of ACTS as a tracker: what it finds, and that events and processes do not touch each other.

What holds for every tracker is in ``test_tracker_contract``; files and the command line in ``test_ckf_cli``. Limits on
efficiency, fakes and pulls are such that a chain whose stages, passes or resolutions are off does not meet them.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("acts", reason="the extra 'ckf' is not installed")

from gun_events import Gun, GunSimulator, gun_event, gun_tables, reconstructed
from module_positions import module_positions
from toys import module_event
from track_checks import assert_near_truth, assert_valid

from trackbench.data.prepare import DataSelection, build_event
from trackbench.errors import ConfigError, InputError
from trackbench.geometry.detector import is_pixel
from trackbench.geometry.modules import module_row, module_table
from trackbench.runner import run_tracker
from trackbench.trackers.base import STAGES, Timer, build_tracker
from trackbench.trackers.ckf import STOPS, Config
from trackbench.trackers.layers.acts_event import (
    SIGMA,
    Board,
    Found,
    best_track,
    by_first_hit,
    joined,
    local_positions,
    track_parameters,
)
from trackbench.trackers.layers.acts_finding import TRACKS, build_pass, good_fits
from trackbench.trackers.layers.acts_passes import passes

EVENTS = (1, 2, 3)
MORE_EVENTS = tuple(range(1, 11))
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


@pytest.fixture(scope="module")
def more(detector):
    """(Tracks, truth) of more events by one tracker."""
    events = [gun_event(event, detector) for event in MORE_EVENTS]
    return list(zip(reconstructed({}, [hits for hits, _ in events]), [truth for _, truth in events], strict=True))


# What it finds


def test_prompt_tracks_are_found_and_few_others(more):
    n_found = n_targets = n_matched = n_tracks = 0
    for tracks, truth in more:
        assert_valid(tracks, truth.particle_id.size)
        matches, targets = matched(tracks.labels, truth), prompt(truth)
        n_found += np.isin(targets, matches).sum()
        n_targets += targets.size
        n_matched += np.count_nonzero(matches)
        n_tracks += matches.size
    assert n_targets > 300
    assert n_found / n_targets > 0.97
    assert n_matched / n_tracks > 0.98


def test_parameters_are_those_of_the_particles(detector):
    hits, truth = gun_event(EVENTS[0], detector)
    (tracks,) = reconstructed({"min_pt": 1.5}, [hits])
    assert_near_truth(tracks, truth)


def test_errors_describe_the_distance_to_the_truth(more):
    """Pulls of all five parameters: median near 0, half of the central 68.27 % near 1."""
    pulls = []
    for tracks, truth in more:
        table, values = truth.particles.set_index("particle_id"), tracks.parameters.values  # noqa: PD011
        matches = matched(tracks.labels, truth)
        for row in np.flatnonzero(np.isin(matches, prompt(truth))):
            particle = table.loc[matches[row]]
            theta = 2 * np.arctan(np.exp(-particle["eta"]))
            true = [0.0, particle["vz"], particle["phi"], theta, particle["q"] / particle["pt"]]
            difference = values[row] - true
            difference[2] = np.mod(difference[2] + np.pi, 2 * np.pi) - np.pi
            pulls.append(difference / np.sqrt(np.diagonal(tracks.parameters.covariance[row])))
    assert len(pulls) > 300
    low, middle, high = np.percentile(pulls, [15.865, 50, 84.135], axis=0)
    np.testing.assert_allclose(middle, 0, atol=0.2)
    width = (high - low) / 2
    assert ((width > 0.8) & (width < 1.25)).all(), width


def test_chi2_is_that_of_the_degrees_of_freedom(more):
    """Scattering hides wrong resolutions in the pulls, but not here: mean chi2 near the mean number of these."""
    chi2, n_dof = (sum(getattr(tracks.parameters, name).sum() for tracks, _ in more) for name in ("chi2", "n_dof"))
    assert 0.8 < chi2 / n_dof < 1.25


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


def hits_by_track(found):
    """Set of hits of each track."""
    return [set(found.hit[found.track == number].tolist()) for number in range(len(found))]


def pairs_that_share(tracks, n_shared):
    """Number of pairs of tracks with ``n_shared`` hits in common or more. tracks: sets of hits."""
    return sum(len(one & other) >= n_shared for k, one in enumerate(tracks) for other in tracks[:k])


def test_no_two_tracks_of_a_pass_share_three_hits_after_ambiguity(detector):
    """Found tracks do. What is left over belongs to found tracks, and the hits that only one track has stay."""
    n_before = 0
    for event in MORE_EVENTS[:4]:
        hits, _ = gun_event(event, detector)
        board = Board(hits)
        for settings in passes(Config.min_pt, Config.max_z0, Config.max_d0, detector == "pixel"):
            board.start(np.arange(len(hits)))
            for stage, algorithms in build_pass(settings).items():
                assert stage in STOPS
                for algorithm in algorithms:
                    board.run(algorithm)
            before, after = (hits_by_track(board.tracks(TRACKS[stage])) for stage in ("finding", "ambiguity"))
            assert all(len(track) >= settings.min_hits for track in after)
            assert pairs_that_share(after, 3) == 0
            assert all(track in before for track in after)
            n_before += pairs_that_share(before, 3)
    assert n_before > 0, "nothing to resolve"


# Passes


class DisplacedGun(Gun):
    """Every second pion passes the beam line at 2 mm."""

    def generate(self, event_id):
        table = super().generate(event_id)
        pt, away = np.hypot(table["px"], table["py"]), np.where(np.arange(len(table)) % 2, 2.0, 0.0)
        return table.assign(vx=-away * table["py"] / pt, vy=away * table["px"] / pt)


GROUPS = {"pixel": ("long prompt", "long displaced", "short prompt", "short displaced")}
GROUPS["full"] = (*GROUPS["pixel"][:3], "strips only")
# Fewest layers of a target.
LAYERS = {"long prompt": 4, "long displaced": 4, "short prompt": 3, "short displaced": 3, "strips only": 5}


@cache
def event_for_passes(event_id, detector):
    """Hits, their particles, and targets by group: of the "short" ones the first three hits are left.

    Of "strips only" those in the pixels are lost.
    """
    simulator = GunSimulator(100)
    simulator.generator = DisplacedGun(100)
    tables = simulator.event(event_id)
    hits, truth = build_event((tables.hits, tables.particles, tables.truth), DataSelection(detector), event_id)
    table = truth.particles[(truth.particles["generation"] == 0) & (truth.particles["pt"] > 1.0)]
    table = table[table["eta"].abs() < 2].reset_index(drop=True)
    keep, groups = np.ones(len(hits), dtype=bool), {name: [] for name in GROUPS[detector]}
    pixel, far = is_pixel(hits.volume_id), np.linalg.norm(hits.xyz, axis=1)
    for row in table.itertuples():
        displaced = np.hypot(row.vx, row.vy) > 1
        name = GROUPS[detector][displaced + 2 * (row.Index % 4 // 2)]
        own = np.flatnonzero(truth.particle_id == row.particle_id)
        own = own[np.argsort(far[own])]
        lost = own[pixel[own]] if name == "strips only" else own[3:] if name.startswith("short") else own[:0]
        left = np.setdiff1d(own, lost)
        n_layers = np.unique(hits.volume_id[left] * 100 + hits.layer_id[left]).size
        if n_layers >= LAYERS[name]:
            keep[lost] = False
            groups[name].append(row.particle_id)
    kept = np.flatnonzero(keep)
    return hits.take(kept), truth.particle_id[kept], groups


def found_by_group(detector, settings):
    """Share of the targets of each group that are found, and their number."""
    counts = {name: np.zeros(2, dtype=int) for name in GROUPS[detector]}
    for event in MORE_EVENTS[:6]:
        hits, particle_id, groups = event_for_passes(event, detector)
        (tracks,) = reconstructed(settings, [hits])
        matches = matched(tracks.labels, SimpleNamespace(particle_id=particle_id))
        for name, targets in groups.items():
            counts[name] += np.isin(targets, matches).sum(), len(targets)
    return {name: (found / n, n) for name, (found, n) in counts.items()}


def test_each_pass_finds_what_it_is_for(detector):
    """Long prompt tracks, short ones, displaced ones and those from the strips each have a pass of their own."""
    found = found_by_group(detector, {})
    for name, (efficiency, n) in found.items():
        assert n >= 15, name
        assert efficiency > 0.75, name


def test_displaced_tracks_are_found_by_their_passes_only(detector):
    found = found_by_group(detector, {"max_d0": 0.0})
    for name, (efficiency, _) in found.items():
        assert efficiency > 0.75 if "prompt" in name else efficiency < 0.1, name


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


def test_resolutions_are_those_of_simulated_hits():
    """Distance of hits to where the particles were, in the plane of the module."""
    distance = {volume: [] for volume in SIGMA}
    for event in MORE_EVENTS[:5]:
        tables, (hits, _) = gun_tables(event), gun_event(event, "full")
        truth = tables.truth.set_index("hit_id").loc[hits.hit_id]
        own = np.flatnonzero(truth["particle_id"] != 0)
        hits, true = hits.take(own), truth[["tx", "ty", "tz"]].to_numpy()[own]
        off = local_positions(hits)[1] - local_positions(replace(hits, xyz=true))[1]
        for volume, parts in distance.items():
            parts.append(off[hits.volume_id == volume])
    for volume, parts in distance.items():
        ratio = np.sqrt(np.mean(np.square(np.concatenate(parts)), axis=0)) / SIGMA[volume]
        # Along z the hits of this gun in the pixel barrel are better than those of whole collisions.
        low = (0.8, 0.45 if volume == 8 else 0.8)
        assert ((ratio > low) & (ratio < 1.2)).all(), (volume, ratio)


def found(tracks, chi2):
    """Tracks given by the hits of each."""
    m = len(tracks)
    track = np.repeat(np.arange(m), [len(hits) for hits in tracks])
    n = np.array([len(hits) for hits in tracks])
    blank = np.zeros((m, 6)), np.tile(np.eye(6), (m, 1, 1))
    return Found(track, np.concatenate(tracks).astype(int), *blank, np.array(chi2, float), n, np.zeros(m, int))


def test_a_shared_hit_goes_to_the_longer_then_to_the_better_track():
    tracks = found([[0, 1, 2, 3], [3, 4, 5, 6, 7], [7, 8, 9, 10, 11], [0, 11]], [1.0, 9.0, 3.0, 0.1])
    assert best_track(tracks, 13).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, -1]


def test_a_track_left_with_two_hits_is_given_up():
    """Its hits go to no track, not to the next best one."""
    tracks = found([[0, 1, 2, 3], [2, 3, 4, 5, 6], [0, 1]], [1.0, 9.0, 0.5])
    assert best_track(tracks, 7).tolist() == [-1, -1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("n_hits", [0, 1, 5])
def test_no_track_for_any_hit(n_hits):
    nothing = found([[1]], [0.0]).take(np.array([False]))
    assert best_track(nothing, n_hits).tolist() == [-1] * n_hits
    labels, kept = by_first_hit(np.full(n_hits, -1))
    assert (labels.tolist(), kept.size) == ([-1] * n_hits, 0)


def test_tracks_are_numbered_by_their_first_hit():
    labels, kept = by_first_hit(np.array([-1, 7, 3, 7, -1, 0, 3, 0]))
    assert labels.tolist() == [-1, 0, 1, 0, -1, 2, 1, 2]
    assert kept.tolist() == [7, 3, 0]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [True, True, True, True]),
        ({"max_beam_chi2": 12.0}, [True, False, True, False]),  # chi2 + (d0 / sigma)^2: 12, 13, 6, 14
        ({"max_chi2_per_dof": 3.0}, [True, True, True, False]),  # 3 / 1, 9 / 3, 6 / 5, 14 / 1
        ({"max_chi2_per_dof": 2.0}, [False, False, True, False]),
    ],
)
def test_limits_on_fits(limits, expected):
    tracks = found([[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11], [12, 13, 14]], [3.0, 9.0, 6.0, 14.0])
    tracks.parameters[:, 0] = 0.6, -0.4, 0.0, 0.0
    tracks.covariance[:, 0, 0] = 0.04, 0.04, 0.01, 0.01
    settings = passes(Config.min_pt, Config.max_z0, Config.max_d0, False)[0]._replace(**limits)
    assert good_fits(tracks, settings).tolist() == expected


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
