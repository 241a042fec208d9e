"""Clean-up of candidates: each step alone on toys whose right answer is known, and what holds for all inputs."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError
from trackbench.fitting import joining, model, robust
from trackbench.fitting.cleanup import MAX_SIZE, STEPS, CleanUp, CleanUpReport, clean_up, clean_up_candidates
from trackbench.fitting.cleanup import fit_candidates as fit_candidates_of
from trackbench.fitting.cleanup_steps import constants
from trackbench.fitting.result import FREE_D0
from trackbench.fitting.tables import MAX_HITS
from trackbench.geometry.detector import ALL_LAYERS

LAYERS = model.detector_layers(pixel_only=True)
BARREL = list(toys.BARREL)
# Two tracks on the seven disks at z > 0, and two through the four layers of the barrel.
FORWARD = np.array([0.4, 0.5, 0.0, 2.0, np.sinh(3.45)])
BENT = np.array([-2.0, -0.7, 0.0, -4.0, np.sinh(3.45)])
CENTRAL = np.array([1.5, 0.6, 0.0, 1.0, 0.3])
STIFF = np.array([3.1, -0.1, 0.0, -3.0, -0.5])
TRACKS = (FORWARD, BENT, CENTRAL, STIFF)


def measured(p, on=None, seed=0):
    """Return hits of a track, measured with about the resolution of the layers, at least."""
    return toys.track_hits(p, LAYERS, on, np.random.default_rng(seed), smear=0.01)


def at(layer, phi, z_or_r):
    """Return one hit on a layer."""
    position = LAYERS.position[layer]
    r, z = (position, z_or_r) if LAYERS.barrel[layer] else (z_or_r, position)
    return naive.Measured(*(np.array([value]) for value in (r, phi, z, layer)))


def event(*groups, module=None):
    """Return the hits of several groups and, as labels, the number of the group of each; modules all differ."""
    r, phi, z, layer = (np.concatenate(column) for column in zip(*groups, strict=True))
    volume, number = np.array(ALL_LAYERS)[layer.astype(int)].T
    n = np.arange(r.size)
    xyz = np.column_stack([r * np.cos(phi), r * np.sin(phi), z])
    labels = np.repeat(np.arange(len(groups)), [len(group.r) for group in groups])
    return Hits(n + 1, xyz, volume, number, n if module is None else module, n >= 0), labels


def crowd(n=40, noise=200, seed=4):
    """Return hits of n prompt tracks and noise, with labels, noise -1."""
    rng, groups = np.random.default_rng(seed), []
    while len(groups) < n:
        p = toys.random_track(rng, pt=(0.6, 20.0), eta=(-2.5, 2.5), max_d0=0.02)
        if len(toys.crossed_layers(p, LAYERS)) >= 4:
            groups.append(toys.track_hits(p, LAYERS, None, rng, smear=0.01))
    hits, labels = event(*groups, toys.noise_hits(rng, LAYERS, noise))
    return hits, np.where(labels < n, labels, -1)


def partition(labels):
    """Return the candidates as a set of sets of hits."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels[labels >= 0])}


def off(*steps, **settings):
    """Return settings with these steps off."""
    return CleanUp(**dict.fromkeys(steps, False), **settings)


ONLY_JOIN = off("drop_outliers", "pick_up", "compete")


def test_good_candidates_stay_as_they_are():
    hits, labels = event(*(measured(p) for p in TRACKS))
    report = CleanUpReport()
    tracks = clean_up(hits, labels, report=report)
    assert partition(tracks.labels) == partition(labels)
    assert (report.n_candidates, report.n_tracks) == (4, 4)
    assert report.n_dropped == report.n_split == report.n_joined == report.n_picked_up == report.n_rejected == 0
    fitted = dict(zip(tracks.labels, labels, strict=True))
    for row, group in fitted.items():
        d0, z0, phi, theta, k = tracks.parameters.values[row]
        p = TRACKS[group]
        errors = np.sqrt(np.diagonal(tracks.parameters.covariance[row]))
        found = np.array([d0, z0 - p[3], naive.wrapped(phi - p[0]), theta - np.arctan2(1, p[4]), k - p[1]])
        assert (np.abs(found) < 5 * errors).all()


@pytest.mark.parametrize("across", [0.6, 3.0])
@pytest.mark.parametrize("where", [0, 3, 6])
def test_an_outlier_is_left_out(where, across):
    good = measured(FORWARD)
    hits, labels = event(toys.shifted(good, where, across=across), measured(CENTRAL))
    report = CleanUpReport()
    tracks = clean_up(hits, labels, off("pick_up"), report)
    assert tracks.labels[where] == -1
    assert (np.delete(tracks.labels, where) >= 0).all()
    assert (report.n_dropped, report.n_tracks) == (1, 2)


def test_the_track_among_many_foreign_hits_is_found():
    rng = np.random.default_rng(1)
    foreign = [at(layer, 0.4 + rng.uniform(-0.1, 0.1), rng.uniform(40, 150)) for layer in (11, 12, 13, 14, 15, 16)]
    hits, _ = event(measured(FORWARD), *foreign)
    tracks = clean_up(hits, np.zeros(len(hits), int), off("split"))
    assert partition(tracks.labels) == {frozenset(range(7))}


def test_without_dropping_nothing_is_left_out():
    hits, labels = event(toys.shifted(measured(FORWARD), 3, across=0.6))
    tracks = clean_up(hits, labels, off("drop_outliers", "pick_up", "compete"))
    assert partition(tracks.labels) == {frozenset(range(7))}
    tracks = clean_up(hits, labels, off("drop_outliers", "compete"))
    assert partition(tracks.labels) == {frozenset(range(7))}
    assert not partition(clean_up(hits, labels, off("drop_outliers")).labels)  # no track: chi2 of the whole is large


def test_two_tracks_under_one_label_are_split():
    hits, labels = event(measured(FORWARD), measured(BENT))
    report = CleanUpReport()
    one = np.zeros(len(hits), int)
    assert partition(clean_up(hits, one, report=report).labels) == partition(labels)
    assert (report.n_split, report.n_tracks) == (1, 2)
    assert len(partition(clean_up(hits, one, off("split")).labels)) == 1


def test_a_displaced_track_is_kept_with_its_d0():
    p = np.array([0.4, 0.3, 6.0, 2.0, np.sinh(2.8)])
    hits, labels = event(measured(p))
    assert len(hits) >= 5
    tracks = clean_up(hits, labels)
    assert partition(tracks.labels) == partition(labels)
    d0 = tracks.parameters.values[0, 0]
    assert abs(d0 - 6.0) < 5 * np.sqrt(tracks.parameters.covariance[0, 0, 0]) < 3.0


@pytest.mark.parametrize("gone", [0, 3, 6])
def test_a_missing_hit_is_picked_up(gone):
    hits, truth = event(measured(FORWARD), toys.noise_hits(np.random.default_rng(3), LAYERS, 100))
    labels = np.where(truth == 0, 0, -1)
    labels[gone] = -1
    report = CleanUpReport()
    assert partition(clean_up(hits, labels, report=report).labels) == {frozenset(range(7))}
    assert report.n_picked_up == 1
    assert partition(clean_up(hits, labels, off("pick_up")).labels) == {frozenset(range(7)) - {gone}}
    assert partition(clean_up(hits, labels, CleanUp(max_added_chi2=1e-6)).labels) == {frozenset(range(7)) - {gone}}


@pytest.mark.parametrize(("p", "first"), [(FORWARD, 3), (FORWARD, 2), (FORWARD, 5), (CENTRAL, 2)])
def test_fragments_are_joined(p, first):
    hits, labels = event(measured(p), measured(STIFF))
    pieces = np.where((labels == 0) & (np.arange(len(hits)) < first), 7, labels)
    report = CleanUpReport()
    assert partition(clean_up(hits, pieces, ONLY_JOIN, report).labels) == partition(labels)
    assert (report.n_candidates, report.n_joined, report.n_tracks) == (3, 1, 2)
    assert partition(clean_up(hits, pieces, CleanUp()).labels) == partition(labels)
    apart = partition(clean_up(hits, pieces, off("join", "pick_up", "drop_outliers", "compete")).labels)
    assert apart == {piece for piece in partition(pieces) if len(piece) >= 3}


def test_three_fragments_become_one():
    hits, _ = event(measured(FORWARD))
    assert partition(clean_up(hits, np.array([0, 0, 1, 1, 1, 2, 2]), ONLY_JOIN).labels) == {frozenset(range(7))}


def test_fragments_with_hits_on_one_module_are_not_joined():
    hits, _ = event(measured(FORWARD), module=np.array([0, 1, 2, 3, 4, 5, 6]))
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    twice, own = np.append(np.arange(7), 3), np.append(labels, 1)  # hit 3 once more, in the other fragment
    hits = hits.take(twice)
    hits.hit_id[7] = 8
    hits.xyz[7, 2] += 1e-3
    assert len(partition(clean_up(hits, own, ONLY_JOIN).labels)) == 2
    hits.module_id[7] = 99  # modules overlap
    assert len(partition(clean_up(hits, own, ONLY_JOIN).labels)) == 1


def test_two_tracks_are_not_joined():
    other = FORWARD.copy()
    other[0] += 0.003  # 0.1 to 0.5 mm away
    hits, labels = event(measured(FORWARD, [11, 12, 13, 14]), measured(other, [14, 15, 16, 17], seed=1))
    assert partition(clean_up(hits, labels, ONLY_JOIN).labels) == partition(labels)


def test_the_better_candidate_keeps_a_shared_hit():
    hits, _ = event(measured(FORWARD), measured(BENT))
    long, other = np.arange(7), np.arange(7, 14)
    members, offsets = np.concatenate([other, [3], long]), np.array([0, 8, 15])
    for settings in (CleanUp(), off("compete"), off("drop_outliers", "pick_up")):
        tracks = clean_up_candidates(hits, offsets, members, settings)
        assert frozenset(range(7)) in partition(tracks.labels)
    assert frozenset(range(7, 14)) in partition(clean_up_candidates(hits, offsets, members).labels)
    without = clean_up_candidates(hits, offsets, members, off("drop_outliers", "compete"))
    assert without.labels[3] == without.labels[0]  # its chi2 is lower


def test_equal_candidates_are_one():
    hits, labels = event(measured(FORWARD))
    report = CleanUpReport()
    offsets, members = np.array([0, 7, 14]), np.concatenate([np.arange(7), np.arange(7)[::-1]])
    assert partition(clean_up_candidates(hits, offsets, members, report=report).labels) == partition(labels)
    assert (report.n_candidates, report.n_tracks, report.n_rejected) == (2, 1, 1)


def test_chance_triplets_and_large_candidates_are_rejected():
    hits, labels = event(measured(FORWARD), at(7, 2.0, 10.0), at(8, 2.3, -200.0), at(9, 1.7, 300.0))
    report = CleanUpReport()
    tracks = clean_up(hits, np.where(labels == 0, 0, 1), report=report)
    assert partition(tracks.labels) == {frozenset(range(7))}
    assert (report.n_candidates, report.n_tracks, report.n_rejected) == (2, 1, 1)
    rng = np.random.default_rng(0)
    hits, _ = event(toys.noise_hits(rng, LAYERS, MAX_SIZE + 1))
    assert not partition(clean_up(hits, np.zeros(len(hits), int)).labels)


def test_strictness_for_short_tracks():
    hits, labels = event(toys.shifted(measured(CENTRAL, [7, 8, 9]), 1, across=0.08))  # misses the fourth layer
    assert partition(clean_up(hits, labels, CleanUp(max_chi2_short=60.0)).labels) == partition(labels)
    assert not partition(clean_up(hits, labels, CleanUp(max_chi2_short=5.0)).labels)


def test_steps_account_for_all_candidates_and_take_time():
    hits, labels = crowd()
    pairs = np.where((labels >= 0) & (labels < 10), labels // 2 * 2, labels)  # ten tracks under five labels
    report = CleanUpReport()
    tracks = clean_up(hits, pairs, report=report)
    assert report.n_tracks == len(tracks.parameters) == tracks.labels.max() + 1
    assert report.n_candidates == 35
    assert set(report.cpu_s) == set(STEPS)
    assert report.n_split == 5
    assert min(report.cpu_s.values()) >= 0.0 < report.cpu_s["drop_outliers"]
    first = report.n_tracks
    clean_up(hits, pairs, report=report)
    assert report.n_tracks == 2 * first  # several calls add up


@pytest.mark.parametrize("settings", [CleanUp(), off("compete"), off("drop_outliers"), off("pick_up", "join")])
def test_numbering_and_order_do_not_matter(settings):
    hits, labels = crowd()
    rng = np.random.default_rng(2)
    wrong = rng.random(labels.size) < 0.1
    labels[wrong] = rng.integers(-1, 40, wrong.sum())
    tracks = clean_up(hits, labels, settings)
    assert len(partition(tracks.labels)) > 10
    assert clean_up(hits, labels, settings).equals(tracks)
    names = rng.permutation(1000)
    assert clean_up(hits, np.where(labels >= 0, names[labels], -5), settings).equals(tracks)
    shuffle = rng.permutation(labels.size)
    again = clean_up(hits.take(shuffle), labels[shuffle], settings)
    assert np.array_equal(again.labels, tracks.labels[shuffle])
    assert again.parameters.equals(tracks.parameters)


def test_overlapping_candidates_in_any_order():
    hits, labels = crowd()
    rng = np.random.default_rng(3)
    sets = [np.flatnonzero(labels == i) for i in range(40)]
    sets += [np.concatenate([own[:3], rng.integers(0, labels.size, 2)]) for own in sets[:20]]

    def cleaned(order):
        parts = [rng.permutation(sets[i]) for i in order]
        return clean_up_candidates(hits, np.cumsum([0] + [len(part) for part in parts]), np.concatenate(parts))

    tracks = cleaned(range(60))
    assert cleaned(rng.permutation(60)).equals(tracks)
    assert len(partition(tracks.labels) & partition(labels)) > 35


def test_a_second_time_changes_nothing():
    hits, labels = crowd()
    tracks = clean_up(hits, labels)
    assert partition(clean_up(hits, tracks.labels).labels) == partition(tracks.labels)
    assert len(partition(tracks.labels) & partition(labels)) > 35


def test_padding_is_ignored():
    hits, labels = crowd()
    tracks = clean_up(hits, labels)
    padded = hits.take(np.append(np.arange(len(hits)), [0, 1, 2]))
    padded.valid[-3:] = False
    padded.xyz[-1] = np.nan
    found = clean_up(padded, np.append(labels, [0, 1, -1]))
    assert np.array_equal(found.labels, np.append(tracks.labels, [-1, -1, -1]))
    assert found.parameters.equals(tracks.parameters)


@pytest.mark.parametrize("n", [0, 1, 30])
@pytest.mark.parametrize("assigned", [False, True])
def test_nothing_to_find(n, assigned):
    hits, _ = event(toys.noise_hits(np.random.default_rng(5), LAYERS, n))
    labels = np.arange(n) // 2 if assigned else np.full(n, -1)
    for settings in (CleanUp(), off("compete"), off("drop_outliers"), off("join", "pick_up")):
        tracks = clean_up(hits, labels, settings)
        assert tracks.labels.shape == (n,)
        # Two hits and what is picked up with them may be a track by chance, but rarely.
        assert len(partition(tracks.labels)) == len(tracks.parameters) <= n // 10
    assert len(fit_candidates_of(hits, labels)) == labels.max(initial=-1) + 1


def test_hits_at_the_same_place_do_no_harm():
    hits, _ = event(measured(FORWARD), measured(FORWARD))
    for labels in (np.zeros(14, int), np.repeat([0, 1], 7), np.arange(14) % 7):
        for settings in (CleanUp(), off("drop_outliers", "compete")):
            tracks = clean_up(hits, labels, settings)
            assert np.isfinite(tracks.parameters.covariance).all()


def test_parameters_of_candidates_agree_with_a_plain_fit():
    groups = [measured(p) for p in TRACKS]
    hits, labels = event(*groups)
    fitted = fit_candidates_of(hits, labels)
    free = constants(CleanUp()).prompt._replace(sigma_d0=FREE_D0)
    for row, (group, p) in enumerate(zip(groups, TRACKS, strict=True)):
        expected = naive.fit(group, LAYERS, free, p, 6)
        d0, z0, phi, theta, k = fitted.values[row]
        found = np.array([naive.wrapped(phi - expected.p[0]), k, d0, z0, 1 / np.tan(theta)])
        errors = np.sqrt(np.append(np.diagonal(expected.cov_t), np.diagonal(expected.cov_l)))
        assert (np.abs(found - [0.0, *expected.p[1:]]) < 1e-3 * errors).all()
        assert fitted.chi2[row] == pytest.approx(expected.chi2, rel=1e-3)
        assert fitted.covariance[row, 4, 4] == pytest.approx(expected.cov_t[1, 1], rel=1e-3)
        assert (fitted.n_dof[row], fitted.n_holes[row]) == (2 * len(group.r) - 5, 0)


def test_candidates_that_cannot_be_fitted_are_nan():
    many = toys.noise_hits(np.random.default_rng(6), LAYERS, 2 * MAX_HITS + 1)
    hits, group = event(measured(CENTRAL), at(7, 0.1, 0.0), many)
    fitted = fit_candidates_of(hits, np.array([3, 0, 1])[group])
    assert len(fitted) == 4  # label 2 has no hits
    assert np.isfinite(fitted.values[3]).all()
    for values in (fitted.values[:3], fitted.covariance[:3], fitted.chi2[:3]):
        assert np.isnan(values).all()
    assert fitted.n_dof.tolist() == [0, 0, 0, 3]
    assert fitted.n_holes.tolist() == [-1, -1, -1, 0]


def test_strip_hits_are_used():
    layers = model.detector_layers(pixel_only=False)
    p = np.array([1.5, 0.3, 0.0, 1.0, 0.3])
    on = toys.crossed_layers(p, layers)
    assert max(on) >= toys.N_PIXEL
    hits, labels = event(toys.track_hits(p, layers, on, np.random.default_rng(0), smear=0.01))
    missing = labels.copy()
    missing[-1] = -1
    assert partition(clean_up(hits, missing).labels) == partition(labels)


@pytest.mark.parametrize("seed", range(5))
def test_helix_through_three_hits(seed):
    p = toys.random_track(np.random.default_rng(seed), pt=(0.3, 50.0), eta=(-1.0, 1.0), max_d0=8.0)
    hits, (rows, *_) = toys.together(toys.track_hits(p, LAYERS, BARREL))
    found = np.zeros(5)
    robust.from_three_hits(rows[0], rows[2], rows[3], hits, found)
    assert found == pytest.approx(p, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_squared_distance(n):
    rng = np.random.default_rng(n)
    first, second = (a @ a.T for a in rng.normal(size=(2, n, n)))
    d = rng.normal(size=n)
    assert joining.squared_distance(d, first, second, n) == pytest.approx(d @ np.linalg.inv(first + second) @ d)


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.zeros(7), np.zeros((7, 1), int)])
def test_labels_must_fit_the_hits(labels):
    hits, _ = event(measured(FORWARD))
    for function in (clean_up, fit_candidates_of):
        with pytest.raises(InputError, match=r"labels of shape .* expected \(7,\) integers, one per hit"):
            function(hits, labels)


@pytest.mark.parametrize(
    ("offsets", "members", "message"),
    [
        ([0, 3], [0, 1], "offsets that do not divide 2 members"),
        ([1, 2], [0, 1], "offsets that do not divide"),
        ([0, 2, 1, 2], [0, 1], "offsets that do not divide"),
        ([], [], "offsets that do not divide 0 members"),
        ([0, 2], [0, 7], "members from 0 to 7, expected positions of 7 hits"),
        ([0, 2], [-1, 3], "members from -1 to 3"),
    ],
)
def test_sets_must_fit_the_hits(offsets, members, message):
    hits, _ = event(measured(FORWARD))
    with pytest.raises(InputError, match=message):
        clean_up_candidates(hits, np.array(offsets), np.array(members))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("xyz", np.nan, "1 hits with a non-finite position .first hit_id 3."),
        ("hit_id", 1, "1 duplicate hit_id .first 1."),
        ("volume_id", 77, "1 hits on unknown layers .first hit_id 3: volume 77"),
    ],
)
def test_bad_hits(column, value, message):
    hits, labels = event(measured(FORWARD))
    getattr(hits, column)[2] = value
    for function in (clean_up, fit_candidates_of):
        with pytest.raises(InputError, match=message):
            function(hits, labels)


@pytest.mark.parametrize("name", ["max_hit_chi2", "max_added_chi2", "max_join_chi2", "max_chi2_short"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_bad_settings(name, value):
    with pytest.raises(ConfigError, match=rf"clean_up\.{name}: value .* expected a number > 0"):
        CleanUp(**{name: value})
