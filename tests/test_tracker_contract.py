"""The contract every tracker keeps; trackers are found automatically by ``tracker_names``.

What holds for labels holds for track parameters too, of the trackers that return them.
"""

import dataclasses
import functools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from toy_weights import settings_of
from toys import half_turn, module_event, toy_event
from track_checks import assert_near_truth, assert_valid, rows_by_track

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError
from trackbench.trackers import base
from trackbench.trackers.base import STAGES, Timer, build_config, load_module, tracker_names

pytestmark = pytest.mark.parametrize("name", tracker_names())

N_TOY_TRACKS = 60


def needs_modules(name):
    return load_module(name).Tracker.needs_modules


def build_tracker(name, seed=0):
    """Any tracker with its defaults; one that needs training with weights trained on toy events."""
    if name == "ckf":
        pytest.importorskip("acts", reason="the extra 'ckf' is not installed")
    return base.build_tracker(name, settings_of(load_module(name).Config), seed)


def make_event(name, **options):
    """Toy event for a tracker, (Hits, Truth): on real modules if it needs these."""
    return (module_event if needs_modules(name) else toy_event)(**options)


@functools.cache
def toy(name):
    return make_event(name, n_tracks=N_TOY_TRACKS, n_noise=40, seed=3)


@functools.cache
def toy_tracks(name):
    return build_tracker(name, seed=7).reconstruct_tracks(toy(name)[0])


def partition(labels, hit_id):
    """The tracks as a set of hit_id sets; the label numbers do not matter."""
    return {frozenset(hit_id[labels == label].tolist()) for label in np.unique(labels[labels >= 0])}


def double_majority(labels, truth):
    """Number of particles with >= 3 hits that own more than half of a cluster and have more than half in it."""
    found = 0
    for pid in np.unique(truth.particle_id[truth.particle_id > 0]):
        own = truth.particle_id == pid
        values, counts = np.unique(labels[own & (labels >= 0)], return_counts=True)
        if own.sum() < 3 or not values.size:
            continue
        best = counts.argmax()
        found += counts[best] > own.sum() / 2 and counts[best] > np.count_nonzero(labels == values[best]) / 2
    return found


def test_empty_event(name):
    hits = toy(name)[0].take(np.empty(0, dtype=int))
    assert_valid(build_tracker(name).reconstruct_tracks(hits), 0)


@pytest.mark.parametrize("volume", [7, 8, 9])
def test_one_hit(name, volume):
    hits = toy(name)[0]
    one = hits.take(np.flatnonzero(hits.volume_id == volume)[:1])
    assert_valid(build_tracker(name).reconstruct_tracks(one), 1)


def test_two_hits_on_top_of_each_other(name):
    hits = toy(name)[0]
    twins = replace(hits.take(np.array([0, 0])), hit_id=np.array([1, 2]))
    assert_valid(build_tracker(name).reconstruct_tracks(twins), 2)


def test_all_noise(name):
    hits, _ = make_event(name, n_tracks=0, n_noise=50, seed=1)
    tracks = build_tracker(name).reconstruct_tracks(hits)
    assert_valid(tracks, 50)
    sizes = np.bincount(tracks.labels[tracks.labels >= 0], minlength=1)
    assert sizes.max() < 25, "most of 50 scattered hits joined to one track"


def test_finds_tracks(name):
    """A tracker worth listing finds at least a quarter of 60 almost straight tracks from one point.

    If it fits them, the parameters are near the true ones.
    """
    hits, truth = make_event(name, n_tracks=N_TOY_TRACKS, n_noise=40, seed=3, pt_min=2.0, sigma_z=1.0)
    tracks = build_tracker(name, seed=7).reconstruct_tracks(hits)
    assert_valid(tracks, len(hits))
    assert double_majority(tracks.labels, truth) >= N_TOY_TRACKS / 4
    if tracks.parameters is not None:
        assert_near_truth(tracks, truth)


def test_labels_alone_are_the_same_labels(name):
    np.testing.assert_array_equal(build_tracker(name, seed=7).reconstruct(toy(name)[0]), toy_tracks(name).labels)


def test_permuted_hits_give_the_same_tracks(name):
    hits, _ = toy(name)
    order = np.random.default_rng(5).permutation(len(hits))
    tracks = build_tracker(name, seed=7).reconstruct_tracks(hits.take(order))
    expected = toy_tracks(name)
    assert partition(tracks.labels, hits.hit_id[order]) == partition(expected.labels, hits.hit_id)
    assert rows_by_track(tracks, hits.hit_id[order]) == rows_by_track(expected, hits.hit_id)


def test_rotation_in_phi_keeps_the_efficiency(name):
    """Rotated by 2 pi / 7, DM changes by less than two binomial errors; the partition may differ.

    Modules come to lie on modules when turned by pi.
    """
    hits, truth = toy(name)
    angle = 2 * np.pi / 7
    cos, sin = np.cos(angle), np.sin(angle)
    turned = replace(hits, xyz=hits.xyz @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]]))
    if needs_modules(name):
        turned = half_turn(hits)
    before = double_majority(toy_tracks(name).labels, truth)
    after = double_majority(build_tracker(name, seed=7).reconstruct(turned), truth)
    # The smallest error used is that of one lost track in N_TOY_TRACKS.
    error = np.sqrt(max(before * (1 - before / N_TOY_TRACKS), 1.0))
    assert abs(after - before) < 2 * error


def test_padding_changes_nothing(name):
    hits, _ = toy(name)
    n = len(hits)
    rows = np.concatenate((np.arange(n), np.zeros(17, dtype=int)))
    padded = hits.take(rows)
    xyz = padded.xyz.copy()
    xyz[n:] = np.nan
    padded = replace(padded, xyz=xyz, valid=np.arange(n + 17) < n)
    tracks = build_tracker(name, seed=7).reconstruct_tracks(padded)
    assert_valid(tracks, n + 17)
    np.testing.assert_array_equal(tracks.labels[n:], -1)
    assert replace(tracks, labels=tracks.labels[:n]).equals(toy_tracks(name))


def test_same_seed_gives_the_same_tracks(name):
    again = build_tracker(name, seed=7).reconstruct_tracks(toy(name)[0])
    assert again.equals(toy_tracks(name))


def test_one_tracker_on_several_events_keeps_no_state(name):
    tracker = build_tracker(name, seed=7)
    other, _ = make_event(name, n_tracks=10, n_noise=5, seed=11, event_id=2)
    tracker.reconstruct(other)
    assert tracker.reconstruct_tracks(toy(name)[0]).equals(toy_tracks(name))


def test_input_is_left_alone(name):
    hits, _ = toy(name)
    frozen = hits.take(np.arange(len(hits)))
    for array in (frozen.hit_id, frozen.xyz, frozen.volume_id, frozen.layer_id, frozen.module_id, frozen.valid):
        array.flags.writeable = False
    assert build_tracker(name, seed=7).reconstruct_tracks(frozen).equals(toy_tracks(name))


def test_stages_of_the_timer(name):
    timer = Timer()
    build_tracker(name, seed=7).reconstruct(toy(name)[0], timer)
    assert timer.wall and set(timer.wall) <= set(STAGES)
    assert min(timer.cpu.values()) >= 0


def test_bad_hits_are_refused(name):
    hits, _ = toy(name)
    xyz = hits.xyz.copy()
    xyz[4, 2] = np.inf
    with pytest.raises(InputError, match="1 hits with a non-finite position"):
        build_tracker(name).reconstruct(replace(hits, xyz=xyz))
    hit_id = hits.hit_id.copy()
    hit_id[4] = hit_id[5]
    with pytest.raises(InputError, match="1 duplicate hit_id"):
        build_tracker(name).reconstruct(replace(hits, hit_id=hit_id))


def test_config_refuses_unknown_keys_and_wrong_types(name):
    with pytest.raises(ConfigError, match=f"trackers.{name}.no_such_option: unknown key"):
        build_config(name, {"no_such_option": 1})
    for field in dataclasses.fields(load_module(name).Config):
        wrong = 1 if isinstance(field.default, str) else "many"
        with pytest.raises(ConfigError, match=f"trackers.{name}.{field.name}: value {wrong!r} is a"):
            build_config(name, {field.name: wrong})


def test_config_is_documented_and_plain(name):
    """Every option has a default of a plain type and a line in the docstrings of the Config."""
    config = load_module(name).Config
    docs = " ".join(base.__doc__ or "" for base in config.__mro__)
    for field in dataclasses.fields(config):
        assert type(field.default) in (bool, int, float, str), field.name
        assert field.name in docs, f"{field.name} is not documented"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().anything = 1


def test_search_space_is_valid(name):
    """Every value to be tried is accepted by the Config."""
    for option, values in load_module(name).Tracker.search_space.items():
        for value in values:
            assert getattr(build_config(name, {option: value}), option) == value


def test_nothing_is_written_to_disk(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build_tracker(name, seed=7).reconstruct(toy(name)[0])
    assert list(tmp_path.iterdir()) == []


def test_no_truth_in_sight(name):
    """The one argument of reconstruct has no truth, and no tracker module imports the truth classes."""
    assert not {"particle_id", "weight", "truth", "particles"} & {field.name for field in dataclasses.fields(Hits)}
    assert not [
        key for key, value in vars(load_module(name)).items() if "Truth" in key or value is toy(name)[1].__class__
    ]


@functools.cache
def heavy_modules_after_import():
    """Import all trackers in one fresh interpreter; which heavy packages did that load?"""
    imports = "; ".join(f"import trackbench.trackers.{tracker}" for tracker in tracker_names())
    heavy = "('sklearn', 'hdbscan', 'numba', 'torch', 'scipy', 'matplotlib', 'acts')"
    code = f"import sys; {imports}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light(name):
    assert heavy_modules_after_import() == "[]"
